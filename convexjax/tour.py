"""The tour: named problems with known optima, one per row of a table.

A row is one `Instance` of `INSTANCES`. A new problem class adds a function that makes the problem and a line there.
`convexjax/data/README.md` says where data and optima come from.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import convexjax as cj

Data = dict[str, np.ndarray]
Problem = tuple[Callable[..., cj.Solution], Data]  # a traceable function and its arguments by name

# ------------------------------------------------------------------------------------------------- instances


@dataclass(frozen=True, kw_only=True)
class Instance:
    """A problem with a known answer."""

    name: str
    kind: str
    problem: Callable[[], Problem]
    optimum: str = ""  # as published: the printed digits are the accuracy asked for
    recomputed: bool = False  # no optimum is published; `optimum` was computed by other solvers
    status: cj.Status = cj.Status.SOLVED

    @property
    def accuracy(self) -> float:
        """A unit in the last printed digit, relative to the optimum."""
        if not self.optimum:
            return np.inf
        return 10.0 ** -len(self.optimum.partition(".")[2]) / abs(float(self.optimum))

    @property
    def tolerance(self) -> float:
        """What the solver is asked for: its default in float64, or less where more digits are printed."""
        return min(1e-8, self.accuracy)


def load(name: str) -> Data:
    """The arrays of a problem, each under the name of the argument that it is for."""
    with np.load(Path(__file__).parent / "data" / f"{name}.npz") as arrays:
        return dict(arrays)


def linear_program(name: str) -> Problem:
    return cj.solve_lp, load(name)


def quadratic_program(name: str) -> Problem:
    return cj.solve_qp, load(name)


def conic_program(name: str) -> Problem:
    data = load(name)
    # Each cone is a line such as "SecondOrder 13 1": its name and the sizes it takes.
    cones = tuple(getattr(cj, kind)(*map(int, sizes)) for kind, *sizes in map(str.split, data.pop("cones")))
    return partial(solve_linear_conic, cones=cones), data


def theta_of_cycle(nodes: int) -> Problem:
    """Lovász' bound on the Shannon capacity of a cycle: min t subject to t I + sum_e y_e E_e - 1 1' psd."""
    rows, columns = np.triu_indices(nodes)
    order = np.lexsort((rows, columns))  # upper triangle column by column
    rows, columns = rows[order], columns[order]
    scale = np.where(rows == columns, 1.0, np.sqrt(2.0))
    edges = [sorted((i, (i + 1) % nodes)) for i in range(nodes)]
    matrices = [rows == columns, *((rows == i) & (columns == j) for i, j in edges)]
    data = {
        "q": np.eye(nodes + 1)[0],
        "A": -scale[:, None] * np.stack(matrices, axis=1),
        "b": -scale,
    }
    return partial(solve_linear_conic, cones=(cj.PSD(nodes),)), data


def smallest_norm(power: float, coefficients: np.ndarray) -> Problem:
    """min ||x||_p subject to a'x = 1, as min t subject to |x_i| <= r_i^(1/p) t^(1-1/p), sum r_i = t.

    By Hölder's inequality the optimum is 1 / ||a||_q with 1/p + 1/q = 1.
    """
    size = coefficients.size
    t, r, x = np.zeros((size, 1)), np.eye(size), np.eye(size)
    zero = np.zeros((size, size))
    # One cone (r_i, t, x_i) per coefficient; the columns are (t, r, x).
    members = np.stack([np.hstack(block) for block in ((t, r, zero), (t + 1, zero, zero), (t, zero, x))], axis=1)
    data = {
        "q": np.eye(2 * size + 1)[0],
        "A": np.vstack(
            [
                np.concatenate([[0.0], np.zeros(size), coefficients]),
                np.concatenate([[-1.0], np.ones(size), np.zeros(size)]),
                -members.reshape(3 * size, 2 * size + 1),
            ]
        ),
        "b": np.eye(3 * size + 2)[0],
    }
    return partial(solve_linear_conic, cones=(cj.Zero(2), cj.Power(jnp.full(size, 1 / power)))), data


def solve_linear_conic(q, A, b, *, cones, options) -> cj.Solution:
    return cj.solve_conic(None, q, A, b, cones, options=options)


INFEASIBLE = cj.Status.PRIMAL_INFEASIBLE

INSTANCES = (
    Instance(name="afiro", kind="LP", problem=partial(linear_program, "afiro"), optimum="-464.75314286"),
    Instance(name="adlittle", kind="LP", problem=partial(linear_program, "adlittle"), optimum="225494.96316"),
    Instance(name="galenet", kind="LP", problem=partial(linear_program, "galenet"), status=INFEASIBLE),
    Instance(name="HS118", kind="QP", problem=partial(quadratic_program, "hs118"), optimum="664.82045"),
    Instance(name="CVXQP2_S", kind="QP", problem=partial(quadratic_program, "cvxqp2_s"), optimum="8120.9405"),
    Instance(
        name="sambal",
        kind="second-order",
        problem=partial(conic_program, "sambal"),
        optimum="3.968220",
        recomputed=True,
    ),
    Instance(name="truss1", kind="SDP", problem=partial(conic_program, "truss1"), optimum="-8.999996"),
    Instance(name="theta(C25)", kind="SDP", problem=partial(theta_of_cycle, 25), optimum="12.450522"),
    Instance(
        name="beck752",
        kind="exponential",
        problem=partial(conic_program, "beck752"),
        optimum="6.815509",
        recomputed=True,
    ),
    Instance(
        name="Hölder p=3",
        kind="power",
        problem=partial(smallest_norm, 3.0, np.arange(1.0, 11.0)),
        optimum="0.036624655",
    ),
)

# ------------------------------------------------------------------------------------------------------ rows


@dataclass(frozen=True, kw_only=True)
class Row:
    """What the solver made of an instance."""

    instance: Instance
    size: str
    solution: Any  # a Solution of NumPy arrays
    residuals: tuple[float, ...]  # primal, dual, gap; of an infeasible problem the certificate's alone
    first_seconds: float
    repeat_seconds: float

    @property
    def difference(self) -> float:
        """Relative distance to the published optimum."""
        optimum = float(self.instance.optimum)
        return abs(float(self.solution.objective) - optimum) / abs(optimum)

    @property
    def passed(self) -> bool:
        if self.solution.status != self.instance.status or max(self.residuals) > self.instance.tolerance:
            return False
        return not self.instance.optimum or self.difference <= self.instance.accuracy


def solve(instance: Instance) -> Row:
    """Solve an instance twice: the first call traces and compiles."""
    function, data = instance.problem()
    compiled, options = jax.jit(function), cj.Options(tolerance=instance.tolerance)
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        solution = jax.block_until_ready(compiled(**data, options=options))
        seconds.append(time.perf_counter() - start)
    solution = jax.tree.map(np.asarray, solution)
    residuals: tuple[float, ...]
    if instance.status == cj.Status.SOLVED:
        info = solution.info
        residuals = (float(info.primal_residual), float(info.dual_residual), float(info.gap))
    else:
        residuals = (certificate_residual(data, solution),)
    rows = sum(data[key].shape[0] for key in ("G", "A") if key in data)
    return Row(
        instance=instance,
        size=f"{solution.x.size} x {rows}",
        solution=solution,
        residuals=residuals,
        first_seconds=seconds[0],
        repeat_seconds=seconds[1],
    )


def certificate_residual(data: Data, solution: Any) -> float:
    """How far the duals are from proving that no x satisfies Gx <= h, Ax = b, lb <= x <= ub.

    They prove it when A'y + G'z + z_ub - z_lb = 0 and b'y + h'z + ub'z_ub - lb'z_lb < 0, all but y nonnegative:
    the sum of the constraints, weighted by the duals, then reads 0 <= something negative.
    """
    identity = np.eye(solution.x.size)
    blocks = [
        (data["A"], data["b"], solution.y, False) if "A" in data else None,
        (data["G"], data["h"], solution.z, True) if "G" in data else None,
        (identity, data["ub"], solution.z_ub, True) if "ub" in data else None,
        (-identity, -data["lb"], solution.z_lb, True) if "lb" in data else None,
    ]
    combination, constant, violation = np.zeros(solution.x.size), 0.0, 0.0
    for block in blocks:
        if block is None:
            continue
        matrix, right, dual, nonnegative = block
        present = np.isfinite(right)  # an infinite bound is no constraint and its dual proves nothing
        combination += matrix[present].T @ dual[present]
        constant += right[present] @ dual[present]
        if nonnegative:
            violation = max(violation, *np.maximum(-dual[present], 0.0), 0.0)
    return float(max(np.abs(combination).max(), violation) / -constant) if constant < 0 else np.inf


# ----------------------------------------------------------------------------------------------------- table

COLUMNS = (
    ("problem", "<10"),
    ("class", "<12"),
    ("size", ">9"),
    ("status", "<17"),
    ("objective", ">14"),
    ("published", ">14"),
    ("difference", ">10"),
    ("residuals", "<23"),
    ("iterations", ">10"),
    ("first s", ">7"),
    ("repeat s", ">8"),
    ("", "<4"),
)


def line(cells: Iterable[str]) -> str:
    return "  ".join(format(cell, width) for cell, (_, width) in zip(cells, COLUMNS, strict=True)).rstrip()


def cells(row: Row) -> Iterator[str]:
    instance, solution = row.instance, row.solution
    yield instance.name
    yield instance.kind
    yield row.size
    yield cj.Status(int(solution.status)).name
    if instance.optimum:
        yield f"{float(solution.objective):.11g}"
        yield instance.optimum + ("*" if instance.recomputed else " ")
        yield f"{row.difference:.0e}"
    else:
        yield from ("-", "infeasible ", "-")
    yield " ".join(f"{residual:.1e}" for residual in row.residuals)
    yield str(int(solution.info.num_iters))
    yield f"{row.first_seconds:.2f}"
    yield f"{row.repeat_seconds:.4f}"
    yield "" if row.passed else "FAIL"


def main(instances: Iterable[Instance] = INSTANCES) -> int:
    """Print the table; 0 if every row is solved to its published digits, else 1."""
    start = time.perf_counter()
    print(line(name for name, _ in COLUMNS))
    rows = []
    for instance in instances:
        rows.append(solve(instance))
        print(line(cells(rows[-1])), flush=True)
    passed = sum(row.passed for row in rows)
    print()
    print("size: variables x rows. residuals: primal, dual, gap; of an infeasible problem, of its certificate.")
    print("difference: relative, from the published optimum (*: none is published, recomputed by other solvers).")
    print(f"{passed} of {len(rows)} solved to their published digits in {time.perf_counter() - start:.1f} s")
    return 0 if passed == len(rows) else 1
