"""Small programs in batches, and one alone: time per program of each solver, every answer certified.

All lanes of a case have one shape. convexjax and qpax solve them by one jitted `vmap` (a single program without it),
moreau by its batched interface, Clarabel one after the other. A lane that is not certified counts as a failure.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from statistics import median

import numpy as np
import scipy.sparse as sparse

from benchmarks.certificates import certify, proves
from benchmarks.conic_peers import CLAIMS, moreau_cones, prepare_clarabel
from benchmarks.families import Shape, conic_program, dense_qp
from benchmarks.programs import Answer, Cones, ConicProgram, Reference, as_conic
from benchmarks.solvers import convexjax_cones
from benchmarks.worker import Child, Surroundings, answer_or_reason, missing, serve_handler

# ---------------------------------------------------------------- cases


@dataclass(frozen=True)
class Case:
    """Lanes of one kind; 0 for a single program without an axis of lanes."""

    lanes: int
    program: Callable[[int], ConicProgram]  # of a seed

    def programs(self) -> list[ConicProgram]:
        """One per lane."""
        return [self.program(seed) for seed in range(self.lanes or 1)]


def _qp(size: tuple[int, int, int], seed: int) -> ConicProgram:
    return as_conic(dense_qp(*size, seed))[0]


def _conic(shape: Shape, seed: int) -> ConicProgram:
    return conic_program(f"seed {seed}", shape, seed)


def _hard(change: Callable, seed: int) -> ConicProgram:
    """A QP of the size (10, 20, 3), changed; in dense arrays A holds the equations first."""
    program = _qp((10, 20, 3), seed)
    A, b = program.A.toarray(), program.b.copy()
    changed = change(np.random.default_rng(seed), seed, program.P.toarray(), program.q.copy(), A, b)
    P, q, A, b, status = (*changed, None)[:5]
    reference = Reference(status=status) if status else None
    return replace(program, P=sparse.csc_array(P), q=q, A=sparse.csc_array(A), b=b, reference=reference)


def _duplicate_rows(random, seed, P, q, A, b):
    A[13:], b[13:] = A[3:13], b[3:13]
    return P, q, A, b


def _redundant_equations(random, seed, P, q, A, b):
    A[2], b[2] = A[0] + 2 * A[1], b[0] + 2 * b[1]
    return P, q, A, b


def _degenerate_vertex(random, seed, P, q, A, b):
    """At the optimum 16 of the 20 inequalities hold with equality."""
    x = random.normal(size=10)
    z = np.where(np.arange(20) < 4, random.uniform(0.5, 1, 20), 0)
    b = A @ x
    b[19:] += 1
    return P, -P @ x - A[3:].T @ z - A[:3].T @ random.normal(size=3), A, b


def _badly_scaled(random, seed, P, q, A, b):
    rows, columns = 10 ** random.uniform(-3, 3, 23), 10 ** random.uniform(-2, 2, 10)
    return P * columns * columns[:, None], q * columns, A * columns * rows[:, None], b * rows


def _low_rank(random, seed, P, q, A, b):
    """Bounded, for q lies in the range of P and of minus the rows."""
    F = random.normal(size=(10, 4))
    return F @ F.T, F @ random.normal(size=4) - A[3:].T @ random.uniform(0, 1, 20), A, b


def _a_quarter_infeasible(random, seed, P, q, A, b):
    if seed % 4:
        return P, q, A, b
    A[4], b[4] = -A[3], -b[3] - 1
    return P, q, A, b, "infeasible"


HARD = {
    "duplicate rows": _duplicate_rows,
    "redundant equations": _redundant_equations,
    "degenerate vertices": _degenerate_vertex,
    "badly scaled": _badly_scaled,
    "P of rank 4": _low_rank,
    "25 % infeasible": _a_quarter_infeasible,
}
CASES = (
    {f"QP {n}x{m}x{p}": Case(0, partial(_qp, (n, m, p))) for n, m, p in ((4, 11, 0), (10, 20, 3), (50, 100, 10))}
    | {
        f"QP {n}x{m}x{p} * {lanes}": Case(lanes, partial(_qp, (n, m, p)))
        for (n, m, p), lanes in (((4, 11, 0), 1024), ((10, 20, 3), 1024), ((50, 100, 10), 128))
    }
    | {f"{name} * 1024": Case(1024, partial(_hard, change)) for name, change in HARD.items()}
    | {
        "second-order 5 of 5 * 1024": Case(1024, partial(_conic, Shape(20, 0, Cones(second_order=(5,) * 5)))),
        "exponential 10 * 1024": Case(1024, partial(_conic, Shape(20, 0, Cones(exponential=10)))),
        "PSD 8x8 * 1024": Case(1024, partial(_conic, Shape(10, 0, Cones(psd=(8,))))),
    }
)

# ---------------------------------------------------------------- solvers

Prepared = tuple[Callable, Callable]  # solve; and the answers of what it returns


def prepare_convexjax(programs: list[ConicProgram], batch: bool) -> Prepared:
    """QPs by `solve_qp`, the rest by `solve_conic`; dense float64 arrays on the device."""
    import jax

    import convexjax as cj

    cones, (P, q, A, b), zero = programs[0].cones, _stacked(programs), programs[0].cones.zero
    if _quadratic(programs):
        data = P, q, A[:, zero:], b[:, zero:], *((A[:, :zero], b[:, :zero]) if zero else (None, None))
        solve = cj.solve_qp
    else:
        data, product = (P, q, A, b), convexjax_cones(cones)
        solve = lambda *data: cj.solve_conic(*data, product)
    run = _compiled(lambda *data: solve(*data), data, batch)

    def answers(found):
        duals = [np.asarray(v) for v in (found.y, found.z) if v is not None]
        z = np.concatenate(duals, -1)
        claims = {"SOLVED": "solved", "PRIMAL_INFEASIBLE": "infeasible", "DUAL_INFEASIBLE": "unbounded"}
        named = [claims.get(cj.Status(int(status)).name, "failed") for status in np.ravel(found.status)]
        return named, np.asarray(found.x), z

    jax.block_until_ready(data)
    return run, lambda found: _answers(programs, *answers(found))


def prepare_qpax(programs: list[ConicProgram], batch: bool) -> Prepared:
    """qpax at its default tolerance: see solvers.py."""
    import jax.numpy as jnp
    import qpax

    (P, q, A, b), zero = _stacked(programs), programs[0].cones.zero
    run = _compiled(
        lambda *data: qpax.solve_qp(*data), (P, q, A[:, :zero], b[:, :zero], A[:, zero:], b[:, zero:]), batch
    )

    def answers(found):
        x, _, z, y, converged, _ = (np.asarray(jnp.asarray(part)) for part in found)
        claims = ["solved" if done else "failed" for done in np.ravel(converged)]
        return _answers(programs, claims, x, np.concatenate([y, z], -1))

    return run, answers


def prepare_moreau(programs: list[ConicProgram], batch: bool, method: str) -> Prepared:
    """moreau's interface for batches of one structure, every entry of the matrices stored."""
    import moreau

    P, q, A, b = _stacked(programs)
    (lanes, m, n), limit = A.shape, 10_000 if method == "auto" else 200  # see conic_peers.py
    pattern = lambda rows: (n * np.arange(rows + 1), np.tile(np.arange(n), rows))
    P_pattern = pattern(n) if P.any() else (np.zeros(n + 1, int), np.zeros(0, int))
    settings = moreau.Settings(solver=method, device="cpu", batch_size=lanes, max_iter=limit)
    solver = moreau.CompiledSolver(n, m, *P_pattern, *pattern(m), moreau_cones(programs[0].cones), settings)
    P_values = P.reshape(lanes, -1) if P.any() else np.zeros((lanes, 0))

    def run():
        solver.setup(P_values, A.reshape(lanes, -1))
        return solver.solve(q, b)

    def answers(found):
        claims = [CLAIMS.get(status.name, "failed") for status in solver.info.status]
        return _answers(programs, claims, np.asarray(found.x), np.asarray(found.z), np.asarray(found.s))

    return run, answers


def prepare_loop(programs: list[ConicProgram], batch: bool) -> Prepared:
    """Clarabel, program by program."""
    solves = [prepare_clarabel(program, 1e-8) for program in programs]
    return lambda: [solve() for solve in solves], lambda found: found


@dataclass(frozen=True)
class BatchSolver:
    """The package, the adapter, and whether it solves quadratic programs only."""

    package: str
    prepare: Callable[[list[ConicProgram], bool], Prepared]
    quadratic_only: bool = False


SOLVERS = {
    "convexjax": BatchSolver("convexjax", prepare_convexjax),
    "moreau": BatchSolver("moreau", partial(prepare_moreau, method="auto")),
    "moreau_ipm": BatchSolver("moreau", partial(prepare_moreau, method="ipm")),
    "qpax": BatchSolver("qpax", prepare_qpax, quadratic_only=True),
    "clarabel": BatchSolver("clarabel", prepare_loop),
}


def _quadratic(programs: list[ConicProgram]) -> bool:
    cones = programs[0].cones
    return sum(cones.sizes) == cones.zero + cones.nonnegative


def _stacked(programs: list[ConicProgram]) -> tuple[np.ndarray, ...]:
    zero = np.zeros((programs[0].q.size,) * 2)
    return (
        np.stack([zero if program.P is None else program.P.toarray() for program in programs]),
        np.stack([program.q for program in programs]),
        np.stack([program.A.toarray() for program in programs]),
        np.stack([program.b for program in programs]),
    )


def _compiled(solve: Callable, data: tuple, batch: bool) -> Callable:
    """A function without arguments: `solve` of all lanes, or of the only one."""
    import jax
    import jax.numpy as jnp

    function = jax.jit(jax.vmap(solve) if batch else solve)
    arrays = [None if part is None else jnp.asarray(part if batch else part[0]) for part in data]
    return lambda: jax.block_until_ready(function(*arrays))


def _answers(programs: list[ConicProgram], claims: list[str], x, z, s=None) -> list[Answer]:
    """One `Answer` per lane. s = b - Ax where a solver does not say; on an equation it is zero."""
    x, z = x.reshape(len(programs), -1), z.reshape(len(programs), -1)
    answers = []
    for i, (program, claim) in enumerate(zip(programs, claims, strict=True)):
        own = program.b - program.A @ x[i] if s is None else s.reshape(len(programs), -1)[i]
        if s is None and _quadratic(programs):
            own = np.concatenate([np.zeros(program.cones.zero), np.maximum(own[program.cones.zero :], 0)])
        answers.append(Answer(claim=claim, x=x[i], s=own, z=z[i]))
    return answers


# ---------------------------------------------------------------- measurement


class Handler:
    """In a solver's process: the first call with the share of certified lanes, then times."""

    def __init__(self, solver: str, case: str, tolerance: float):
        import jax

        jax.config.update("jax_enable_x64", True)
        self._programs, self._tolerance = CASES[case].programs(), tolerance
        self._run, self._answers = SOLVERS[solver].prepare(self._programs, bool(CASES[case].lanes))

    def __call__(self, message: str):
        if message == "first":
            start = time.perf_counter()
            found = self._run()
            seconds = time.perf_counter() - start
            answers = self._answers(found)
            proved = [proves(*pair, self._tolerance) for pair in zip(self._programs, answers, strict=True)]
            worst = [certify(*pair).worst for pair in zip(self._programs, answers, strict=True)]
            return seconds, float(np.mean(proved)), float(np.median(worst))
        self._run()  # the caches hold the data of other solvers by now
        # single programs take microseconds: many calls make one measurement
        rounds = 1 if len(self._programs) > 1 else 50
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            self._run()
            times.append(time.perf_counter() - start)
        return median(times)


@dataclass(frozen=True)
class Result:
    """Seconds of one solver on one case."""

    case: str
    solver: str
    lanes: int
    first: float = np.nan
    seconds: float = np.nan
    certified: float = 0.0
    residual: float = np.inf  # the largest of each lane, its median
    note: str = ""


def measure(
    cases: list[str], solvers: list[str], repeats: int, tolerance: float, timeout: float, surroundings: Surroundings
) -> Iterator[list[Result]]:
    """Case by case the results of all solvers, whose repeats take turns."""
    for case in cases:
        quadratic = _quadratic([CASES[case].program(0)])
        able = [
            name
            for name in solvers
            if not missing((SOLVERS[name].package,)) and (quadratic or not SOLVERS[name].quadratic_only)
        ]
        children = {
            name: Child(serve_handler, (Handler, (name, case, tolerance), surroundings), timeout) for name in able
        }
        firsts = {name: answer_or_reason(child, "first") for name, child in children.items()}
        times: dict[str, list[float]] = {name: [] for name in able}
        for _ in range(repeats):
            for name in able:
                if not isinstance(firsts[name], str) and not isinstance(
                    again := answer_or_reason(children[name], "again"), str
                ):
                    times[name].append(again)
        for child in children.values():
            child.stop()
        lanes = CASES[case].lanes or 1
        yield [
            Result(case, name, lanes, note=firsts[name])
            if isinstance(firsts[name], str)
            else Result(case, name, lanes, firsts[name][0], median(times[name] or [np.nan]), *firsts[name][1:])
            for name in able
        ]


HEAD = ["", "first call", "µs per program", "of convexjax", "certified", "residual"]


def rows(results: list[Result]) -> list[list[str]]:
    """The cells of a table; times of solvers that miss more lanes than one in a hundred stand in brackets."""
    own = next((result.seconds for result in results if result.solver == "convexjax"), np.nan)
    table = [HEAD]
    for result in results:
        if result.note:
            table.append([result.solver, f"fails: {result.note[:60]}", "", "", "", ""])
            continue
        cells = [f"{1e6 * result.seconds / result.lanes:.3g}", f"{result.seconds / own:.2f}"]
        if result.certified < 0.99:
            cells = [f"({cell})" for cell in cells]
        table.append(
            [
                result.solver,
                f"{result.first:.2f} s",
                *cells,
                f"{100 * result.certified:.4g} %",
                f"{result.residual:.0e}",
            ]
        )
    return table
