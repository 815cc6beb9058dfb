"""What float32 reaches, as it is and polished: random programs of each class, solved in one batch and compared with
their known optima; and problem files, each answer measured in float64 from outside."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks import problem_files
from benchmarks.certificates import certify
from benchmarks.families import CONIC_FAMILIES, conic_program, dense_qp
from benchmarks.programs import objective, split_rows
from benchmarks.solvers import convexjax_cones, prepare_convexjax_quadratic

COUNT = 64
MOST_VARIABLES, MOST_ROWS = 200, 1500  # of problem files
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
    """Two rows per class."""
    return [
        _row(
            title + (", polished" if polish else ""),
            *(_quadratic(polish) if family == "dense_qp" else _conic(family, polish)),
        )
        for title, family in CLASSES.items()
        for polish in (False, True)
    ]


def _row(title: str, found, optima: np.ndarray) -> Row:
    import convexjax as cj

    status = np.asarray(found.status)
    solved, almost = status == cj.Status.SOLVED, status == cj.Status.ALMOST_SOLVED
    error = np.abs(np.asarray(found.objective, float) - optima) / np.maximum(1, np.abs(optima))
    answered = error[solved | almost]
    finite = bool(np.isfinite(np.asarray(found.x)).all())
    return Row(title, solved.mean(), almost.mean(), float(np.median(answered)), float(answered.max()), finite)


def _quadratic(polish: bool):
    import jax

    import convexjax as cj

    programs = [dense_qp(10, 20, 3, seed) for seed in range(COUNT)]
    parts = []
    for program in programs:
        rows = split_rows(program.l, program.u)
        (A, b), (G, h) = rows.equations(program), rows.inequalities(program)
        parts.append((program.P.toarray(), program.q, G.toarray(), h, A.toarray(), b))
    data = [np.stack(part) for part in zip(*parts, strict=True)]
    solve = jax.vmap(lambda *data: cj.solve_qp(*data, options=cj.Options(polish=polish)))
    with jax.enable_x64(True):
        optima = np.asarray(jax.jit(solve)(*data).objective)
    return jax.jit(solve)(*(part.astype(np.float32) for part in data)), optima


def _conic(family: str, polish: bool):
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
        product = [cj.Power(alpha) if i in power else cone for i, cone in enumerate(cones)]
        return cj.solve_conic(P, q, A, b, product, options=cj.Options(polish=polish))

    optima = np.array([program.reference.f_opt for program in programs])
    return jax.jit(jax.vmap(solve))(*data), optima


@dataclass(frozen=True)
class FileRow:
    """One problem file: the claim, its largest residual in float64, and the error of the objective, relative to the
    larger of itself and one."""

    problem: str
    polished: bool
    claim: str
    residual: float
    error: float
    finite: bool


def measure_files(folder: Path) -> Iterator[FileRow]:
    """Two rows per quadratic program of a folder that is small enough."""
    for path in problem_files.select_files(folder, MOST_ROWS):
        program = problem_files.load(path)
        if program.q.size > MOST_VARIABLES:
            continue
        for polish in (False, True):
            answer = prepare_convexjax_quadratic(program, None, "float32", polish)()
            x, z = np.asarray(answer.x, float), np.asarray(answer.z, float)
            residuals = certify(program, replace(answer, claim="almost", x=x, z=z)).residuals.values()
            optimum = program.reference.f_opt
            error = abs(objective(program, x) - optimum) / max(1, abs(optimum))
            finite = bool(np.isfinite(x).all() and np.isfinite(z).all())
            yield FileRow(program.name, polish, answer.claim, max(residuals, default=np.inf), error, finite)


def summary(rows: list[FileRow]) -> list[str]:
    """Lines: one per problem, and what they come to."""
    lines = [
        f"{row.problem:12s}{'polished' if row.polished else '':10s}{row.claim:8s} residual {row.residual:.0e}, "
        f"objective {row.error:.0e}" + ("" if row.finite else " NOT FINITE")
        for row in rows
    ]
    for polished in (False, True):
        own = [row for row in rows if row.polished == polished]
        solved = [row for row in own if row.claim == "solved"]
        residuals, errors = ([getattr(row, name) for row in solved] for name in ("residual", "error"))
        lines.append(
            f"{'polished' if polished else 'as it is'}: {len(solved)} of {len(own)} solved, of these residual median "
            f"{np.median(residuals):.0e}, worst {max(residuals):.0e}, objective median {np.median(errors):.0e}, worst "
            f"{max(errors):.0e}; finite: {all(row.finite for row in own)}"
        )
    return lines


def markdown(rows: list[Row]) -> str:
    """The table of docs/precision.md."""
    lines = ["| programs | SOLVED | ALMOST_SOLVED | error of the objective, median and worst |", "|---|---|---|---|"]
    for row in rows:
        lines.append(
            f"| {row.programs} | {row.solved:.0%} | {row.almost:.0%} | {row.median:.0e}, {row.worst:.0e}"
            + ("" if row.finite else " (not finite)")
            + " |"
        )
    return "\n".join(lines)
