"""One adapter per solver: `prepare(program, tolerance)` gives a function without arguments that solves and answers.

Preparing puts the data in the layout the solver wants (dense or sparse arrays); the function it returns holds the whole
solve, set-up and symbolic analysis included, and turns the result into an `Answer`. Peers are imported when used.

Settings are the solver's defaults in double precision, printing off. OSQP, whose default is far looser, is given
`tolerance` and the iterations it needs; moreau is given more iterations for its active set. qpax stays at its default
of 1e-5: it keeps s and z above 1.5e-8, so a tolerance of 1e-8 on their products is out of its reach. A claim is judged
by the solver's own tolerance, `accuracy`.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy.sparse as sparse

from benchmarks import programs
from benchmarks.programs import Answer, ConicProgram, Program, QuadraticProgram

Solve = Callable[[], Answer]


@dataclass(frozen=True)
class Solver:
    """A solver under test: the package it needs, what it can solve, and its adapter."""

    package: str
    prepare: Callable[[Program, float], Solve]
    conic: bool
    accuracy: float = 1e-8  # what its claims promise

    @property
    def installed(self) -> bool:
        """Whether the package can be imported."""
        return importlib.util.find_spec(self.package) is not None

    def accepts(self, program: Program) -> bool:
        """Whether the solver knows this form."""
        return self.conic or isinstance(program, QuadraticProgram)


# ---------------------------------------------------------------- convexjax


def prepare_convexjax(program: Program, tolerance: float) -> Solve:
    """Dense float64 arrays; one compilation per shape, kept for the life of the process."""
    import jax

    jax.config.update("jax_enable_x64", True)
    prepare = _convexjax_conic if isinstance(program, ConicProgram) else prepare_convexjax_quadratic
    return prepare(program, tolerance)


def prepare_convexjax_sparse(program: Program, tolerance: float) -> Solve:
    """The same with sparse matrices."""
    import jax

    jax.config.update("jax_enable_x64", True)
    if isinstance(program, ConicProgram):
        return _convexjax_conic(program, tolerance, is_sparse=True)
    return prepare_convexjax_quadratic(program, tolerance, is_sparse=True)


def _convexjax_conic(program: ConicProgram, tolerance: float, is_sparse: bool = False) -> Solve:
    solve = _compiled_conic(program.cones)
    matrix = _bcoo if is_sparse else _dense
    data = _on_device(program.P if program.P is None else matrix(program.P), program.q, matrix(program.A), program.b)

    def run() -> Answer:
        found = solve(*data, tolerance)
        x, s, z = (np.asarray(value) for value in (found.x, found.s, found.z))
        return Answer(claim=_convexjax_claim(found), x=x, s=s, z=z, iterations=int(found.info.num_iters))

    return run


def prepare_convexjax_quadratic(
    program: QuadraticProgram,
    tolerance: float | None,
    dtype: str = "float64",
    polish: bool = False,
    is_sparse: bool = False,
) -> Solve:
    """`solve_qp` or `solve_lp` in a precision; with its default tolerance if that is None. As dense or as
    sparse matrices."""
    matrix = _bcoo if is_sparse else _dense
    rows = programs.split_rows(program.l, program.u)
    equations, inequalities = rows.equations(program), rows.inequalities(program)
    A, b = (matrix(equations[0]), equations[1]) if rows.equal.size else (None, None)
    G, h = (matrix(inequalities[0]), inequalities[1]) if inequalities[1].size else (None, None)
    lb = program.lb if np.isfinite(program.lb).any() else None
    ub = program.ub if np.isfinite(program.ub).any() else None
    P = matrix(program.P) if program.P is not None and abs(program.P).sum() else None
    data = _on_device(P, program.q, G, h, A, b, lb, ub, dtype=dtype)
    solve = _compiled_quadratic(polish)

    def run() -> Answer:
        found = solve(*data, tolerance)
        y, z, z_lb, z_ub = (_array(value) for value in (found.y, found.z, found.z_lb, found.z_ub))
        return Answer(
            claim=_convexjax_claim(found),
            x=np.asarray(found.x),
            z=rows.joined_duals(program.l.size, y, z),
            z_bounds=_padded(z_ub, program.q.size) - _padded(z_lb, program.q.size),
            iterations=int(found.info.num_iters),
        )

    return run


@cache
def _compiled_conic(cones: programs.Cones) -> Callable:
    import jax

    import convexjax as cj

    product = convexjax_cones(cones)
    return jax.jit(
        lambda P, q, A, b, tolerance: cj.solve_conic(P, q, A, b, product, options=cj.Options(tolerance=tolerance))
    )


@cache
def _compiled_quadratic(polish: bool) -> Callable:
    import jax

    import convexjax as cj

    def solve(P, q, G, h, A, b, lb, ub, tolerance):
        options = cj.Options(tolerance=tolerance, polish=polish)
        if P is None:
            return cj.solve_lp(q, G, h, A, b, lb, ub, options=options)
        return cj.solve_qp(P, q, G, h, A, b, lb, ub, options=options)

    return jax.jit(solve)


def convexjax_cones(cones: programs.Cones) -> tuple:
    """The product cone in the library's types; neighbours of equal size share one entry."""
    import convexjax as cj

    product = [cj.Zero(cones.zero)] if cones.zero else []
    product += [cj.Nonnegative(cones.nonnegative)] if cones.nonnegative else []
    product += [cj.SecondOrder(size, count=count) for size, count in _runs(cones.second_order)]
    product += [cj.PSD(side, count=count) for side, count in _runs(cones.psd)]
    product += [cj.Exponential(count=cones.exponential)] if cones.exponential else []
    product += [cj.Power(np.asarray(cones.power))] if cones.power else []
    return tuple(product)


def _runs(sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    runs: list[tuple[int, int]] = []
    for size in sizes:
        count = runs.pop()[1] + 1 if runs and runs[-1][0] == size else 1
        runs.append((size, count))
    return runs


def _convexjax_claim(found) -> str:
    claims = {"SOLVED": "solved", "ALMOST_SOLVED": "almost"}
    claims |= {"PRIMAL_INFEASIBLE": "infeasible", "DUAL_INFEASIBLE": "unbounded"}
    import convexjax as cj

    return claims.get(cj.Status(int(found.status)).name, "failed")


def _bcoo(matrix):
    from jax.experimental.sparse import BCOO

    return BCOO.from_scipy_sparse(sparse.coo_matrix(matrix))


def _on_device(*values, dtype: str = "float64") -> tuple:
    import jax.numpy as jnp

    dense = lambda value: value is not None and not hasattr(value, "todense")
    return tuple(jnp.asarray(value, dtype) if dense(value) else value for value in values)


# ---------------------------------------------------------------- shared helpers


def _dense(matrix) -> np.ndarray | None:
    return None if matrix is None else matrix.toarray()


def _array(value) -> np.ndarray:
    return np.zeros(0) if value is None else np.asarray(value)


def _padded(value: np.ndarray, size: int) -> np.ndarray:
    return value if value.size else np.zeros(size)


def quadratic_part(program: Program) -> sparse.csc_array:
    """P, with zeros where the program has none."""
    size = program.q.size
    return sparse.csc_array((size, size)) if program.P is None else program.P


def through_conic(prepare: Callable[[ConicProgram, float], Solve]) -> Callable[[Program, float], Solve]:
    """The adapter of a solver that knows the conic form alone, for both forms."""

    def prepare_either(program: Program, tolerance: float) -> Solve:
        if isinstance(program, ConicProgram):
            return prepare(program, tolerance)
        conic, rows = programs.as_conic(program)
        solve = prepare(conic, tolerance)

        def run() -> Answer:
            found = solve()
            if found.z is None:
                return found
            y, z = np.split(found.z, [rows.equal.size])
            row_duals = rows.joined_duals(program.l.size + programs.bounded_variables(program).size, y, z)
            z, z_bounds = programs.bounds_from_rows(program, row_duals)
            return Answer(claim=found.claim, x=found.x, z=z, z_bounds=z_bounds, iterations=found.iterations)

        return run

    return prepare_either
