"""What float32 reaches: random programs of each class, solved in one batch and compared with their known optima."""

from dataclasses import dataclass

import numpy as np

from benchmarks.families import CONIC_FAMILIES, conic_program, dense_qp
from benchmarks.programs import split_rows
from benchmarks.solvers import convexjax_cones

COUNT = 64
CLASSES = {
    "dense QPs": "dense_qp",
    "second-order cones": "random_socp",
    "exponential cones": "random_exp",
    "power cones": "random_power",
    "six cones together": "six_cones",
}


@dataclass(frozen=True)
class Row:
    """Shares of statuses and errors of the objective, relative to the larger of itself and one."""

    programs: str
    solved: float
    almost: float
    median: float
    worst: float
    finite: bool


def measure() -> list[Row]:
    """One row per class."""
    return [
        _row(title, *(_quadratic() if family == "dense_qp" else _conic(family))) for title, family in CLASSES.items()
    ]


def _row(title: str, found, optima: np.ndarray) -> Row:
    import convexjax as cj

    status = np.asarray(found.status)
    solved, almost = status == cj.Status.SOLVED, status == cj.Status.ALMOST_SOLVED
    error = np.abs(np.asarray(found.objective, float) - optima) / np.maximum(1, np.abs(optima))
    answered = error[solved | almost]
    finite = bool(np.isfinite(np.asarray(found.x)).all())
    return Row(title, solved.mean(), almost.mean(), float(np.median(answered)), float(answered.max()), finite)


def _quadratic():
    import jax

    import convexjax as cj

    programs = [dense_qp(10, 20, 3, seed) for seed in range(COUNT)]
    parts = []
    for program in programs:
        rows = split_rows(program.l, program.u)
        (A, b), (G, h) = rows.equations(program), rows.inequalities(program)
        parts.append((program.P.toarray(), program.q, G.toarray(), h, A.toarray(), b))
    data = [np.stack(part) for part in zip(*parts, strict=True)]
    solve = jax.vmap(lambda *data: cj.solve_qp(*data))
    with jax.enable_x64(True):
        optima = np.asarray(jax.jit(solve)(*data).objective)
    return jax.jit(solve)(*(part.astype(np.float32) for part in data)), optima


def _conic(family: str):
    import jax

    import convexjax as cj

    programs = [conic_program(family, CONIC_FAMILIES[family][0], seed) for seed in range(COUNT)]
    cones = convexjax_cones(programs[0].cones)
    power = [i for i, cone in enumerate(cones) if isinstance(cone, cj.Power)]
    zero = np.zeros((programs[0].q.size,) * 2)
    data = [
        np.stack(part).astype(np.float32)
        for part in (
            [zero if program.P is None else program.P.toarray() for program in programs],
            [program.q for program in programs],
            [program.A.toarray() for program in programs],
            [program.b for program in programs],
            [np.asarray(program.cones.power) for program in programs],
        )
    ]

    def solve(P, q, A, b, alpha):
        return cj.solve_conic(P, q, A, b, [cj.Power(alpha) if i in power else cone for i, cone in enumerate(cones)])

    optima = np.array([program.reference.f_opt for program in programs])
    return jax.jit(jax.vmap(solve))(*data), optima


def markdown(rows: list[Row]) -> str:
    """The table of the README."""
    lines = ["| programs | SOLVED | ALMOST_SOLVED | error of the objective, median and worst |", "|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row.programs} | {row.solved:.0%} | {row.almost:.0%} | {row.median:.0e}, {row.worst:.0e}"
            + ("" if row.finite else " (not finite)")
            + " |"
        )
    return "\n".join(lines)
