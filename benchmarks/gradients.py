"""What a gradient costs: the solve alone and the solve with a gradient, beside other differentiable solvers.

Each solver has a process of its own; the repeats take turns. Every answer and gradient is compared with the reference,
lane by lane: a time counts only where nearly all lanes are right, since a lane may lie at a
kink of the solution.
"""

import logging
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np

from benchmarks.gradient_reference import Case, Data, Reference, check, reference
from benchmarks.gradient_solvers import SOLVERS
from benchmarks.worker import Child, Surroundings, answer_or_reason, missing, serve_handler

CASES = {case.name: case for case in (Case((200, 400, 20)), Case((10, 20, 3), 1024), Case((50, 100, 10), 128))}
WANTED = {"200x400x20": 1.3, "10x20x3 * 1024": 1.5, "50x100x10 * 128": 1.5}  # gradient over solve
SHARE = 0.95  # of the lanes must be right
CHECKED = 32  # lanes whose reference is compared with finite differences


@dataclass(frozen=True)
class Result:
    """Median seconds and errors of one solver on one case; `note` says why there are none."""

    case: str
    solver: str
    first_solve: float | None = None
    first_gradient: float | None = None
    solve: float | None = None
    gradient: float | None = None
    ratio: float | None = None  # the median of the ratios of neighbouring calls
    x_error: float | None = None  # the worst lane
    gradient_error: float | None = None  # the median lane
    worst_error: float | None = None
    right: float = 0.0  # share of the lanes
    note: str = ""

    @property
    def counts(self) -> bool:
        """Whether its time may be compared."""
        return not self.note and self.right >= SHARE


@dataclass(frozen=True)
class Answers:
    """References of every lane (None where the active set is not proved), and how far finite differences agree."""

    case: str
    references: list[Reference | None]
    difference: float


def measure(
    names: list[str], solvers: list[str], repeats: int, tolerance: float, timeout: float, surroundings: Surroundings
) -> Iterator[tuple[Answers, list[Result]]]:
    """Case by case: the references, and one result per solver."""
    for name in names:
        answers = _answers(CASES[name], surroundings, timeout)
        children = {
            solver: Child(serve_handler, (Handler, (solver, CASES[name]), surroundings), timeout)
            for solver in solvers
            if not missing(SOLVERS[solver].packages)
        }
        try:
            yield answers, list(_compare(answers, children, repeats, tolerance))
        finally:
            for child in children.values():
                child.stop()


def _compare(answers: Answers, children: dict[str, Child], repeats: int, tolerance: float) -> Iterator[Result]:
    """First calls in turn; then the repeats, interleaved."""
    first = {solver: answer_or_reason(child, "first") for solver, child in children.items()}
    times: dict[str, list[tuple[float, float]]] = {solver: [] for solver in children}
    for _ in range(repeats):
        for solver, child in children.items():
            again = first[solver] if isinstance(first[solver], str) else answer_or_reason(child, "again")
            if not isinstance(again, str):
                times[solver].append(again)
    for solver in children:
        yield _result(answers, solver, first[solver], times[solver], tolerance)


def _result(answers: Answers, solver: str, first, times: list[tuple[float, float]], tolerance: float) -> Result:
    if isinstance(first, str):
        return Result(answers.case, solver, note=first)
    if not times:
        return Result(answers.case, solver, note="no repeat finished")
    (first_solve, first_gradient), x, gradients = first
    x_errors, errors = _errors(answers, x, gradients)
    return Result(
        case=answers.case,
        solver=solver,
        first_solve=first_solve,
        first_gradient=first_gradient,
        solve=median(solve for solve, _ in times),
        gradient=median(gradient for _, gradient in times),
        ratio=median(gradient / solve for solve, gradient in times),
        x_error=float(x_errors.max()),
        gradient_error=float(np.median(errors)),
        worst_error=float(errors.max()),
        right=float(np.mean(np.maximum(x_errors, errors) <= tolerance)),
    )


def _errors(answers: Answers, x: np.ndarray, gradients: Data) -> tuple[np.ndarray, np.ndarray]:
    """Relative errors of x and of all gradients together, of each lane with a reference."""
    if CASES[answers.case].lanes is None:
        x, gradients = x[None], tuple(part[None] for part in gradients)
    gradients = ((gradients[0] + np.swapaxes(gradients[0], -1, -2)) / 2, *gradients[1:])
    pairs = []
    for i, known in enumerate(answers.references):
        if known is not None:
            own = np.concatenate([part[i].ravel() for part in gradients])
            exact = np.concatenate([part.ravel() for part in known.gradients])
            pairs.append((_relative(x[i], known.x), _relative(own, exact)))
    x_errors, errors = np.nan_to_num(np.array(pairs).T, nan=np.inf)
    return x_errors, errors


def _relative(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def _answers(case: Case, surroundings: Surroundings, timeout: float) -> Answers:
    """The references, from solutions made in a process of their own, where JAX may be set up."""
    child = Child(serve_handler, (Solutions, (case,), surroundings), timeout)
    try:
        found = answer_or_reason(child, "solve")
    finally:
        child.stop()
    if isinstance(found, str):
        raise SystemExit(f"no solution of {case.name} to start from: {found}")
    data = case.data()
    lanes = [tuple(part[i] for part in data) for i in range(case.lanes)] if case.lanes else [data]
    starts = zip(*found, strict=True) if case.lanes else [found]
    known = [reference(lane, x, z, case.weights) for lane, (x, z) in zip(lanes, starts, strict=True)]
    pairs = [(lane, answer) for lane, answer in zip(lanes, known, strict=True) if answer is not None]
    return Answers(case.name, known, max(check(lane, answer, case.weights) for lane, answer in pairs[:CHECKED]))


class Solutions:
    """In a process: x and z of every lane by convexjax; whether they are right is proved elsewhere."""

    def __init__(self, case: Case):
        import jax

        jax.config.update("jax_enable_x64", True)
        self._case = case

    def __call__(self, message: str) -> tuple[np.ndarray, np.ndarray]:
        import jax

        import convexjax as cj

        def solve(P, q, G, h, A, b):
            found = cj.solve_qp(P, q, G, h, A, b)
            return found.x, found.z

        x, z = jax.jit(jax.vmap(solve) if self._case.lanes else solve)(*self._case.data())
        return np.asarray(x), np.asarray(z)


class Handler:
    """In a solver's process: first calls with their results, then times of one solve and one gradient."""

    def __init__(self, solver: str, case: Case):
        import jax

        jax.config.update("jax_enable_x64", True)
        warnings.simplefilter("ignore")
        logging.disable()
        self._solve, self._differentiate = SOLVERS[solver].prepare(case, case.data(), case.weights)

    def __call__(self, message: str):
        if message == "again":
            self._solve()  # the caches hold the data of other solvers by now
        solve, _ = _timed(self._solve)
        gradient, found = _timed(self._differentiate)
        if message == "again":
            return solve, gradient
        x, gradients = found
        return (solve, gradient), np.asarray(x), tuple(np.asarray(part) for part in gradients)


def _timed(function):
    start = time.perf_counter()
    found = function()
    return time.perf_counter() - start, found


def holds(results: list[Result]) -> bool:
    """Whether convexjax's gradients are right and as cheap as wanted."""
    own = [result for result in results if result.solver == "convexjax"]
    return all(result.counts and (result.ratio or np.inf) <= WANTED[result.case] for result in own)


HEAD = (
    "",
    "first solve",
    "first gradient",
    "solve",
    "gradient",
    "ratio",
    "error of x",
    "of gradient",
    "worst",
    "right",
)


def rows(results: list[Result]) -> list[list[str]]:
    """The cells of a table; times that do not count stand in brackets."""
    return [list(HEAD), *([result.solver, *_cells(result)] for result in results)]


def _cells(result: Result) -> list[str]:
    if result.note:
        return [f"fails: {result.note.partition(':')[0]}", *[""] * (len(HEAD) - 2)]
    first, times, errors = (
        [getattr(result, name) for name in names]
        for names in (
            ("first_solve", "first_gradient"),
            ("solve", "gradient"),
            ("x_error", "gradient_error", "worst_error"),
        )
    )
    counting = [*(f"{1e3 * seconds:.3g} ms" for seconds in times), f"{result.ratio:.2f}"]
    if not result.counts:
        counting = [f"({text})" for text in counting]
    known = [*(f"{error:.0e}" for error in errors), f"{100 * result.right:.3g} %"]
    return [*(f"{seconds:.1f} s" for seconds in first), *counting, *known]


def title(answers: Answers) -> str:
    """Of the table of one case."""
    unproved = sum(known is None for known in answers.references)
    left_out = f", {unproved} lanes without a proved reference left out" if unproved else ""
    return f"{answers.case} (reference within {answers.difference:.0e} of finite differences{left_out})"


def legend(tolerance: float) -> str:
    """How to read the tables."""
    wanted = ", ".join(f"{name}: {ratio}" for name, ratio in WANTED.items())
    return f"""solve: x alone; gradient: x and the gradient of a loss of x in all data; medians, first calls apart.
ratio: gradient over solve, wanted of convexjax {wanted}.
Errors are relative: the worst lane of x, the median and the worst lane of the gradient. right: lanes within
{tolerance:g}; below {100 * SHARE:g} % the times do not count and stand in brackets."""


def packages(solvers: list[str]) -> list[str]:
    """What the solvers are installed from."""
    return [package for solver in solvers for package in SOLVERS[solver].packages]


def record(results: list[Result]) -> list[dict]:
    """For JSON."""
    return [asdict(result) | {"counts": result.counts} for result in results]
