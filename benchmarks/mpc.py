"""Model predictive control of many plants: time of a step, warm-started and cold, beside OSQP and PIQP, and by horizon.

Each plant is a chain of six masses between walls, springs with constants of its own, four actuators that push
neighbours apart, and random forces: 12 states, 4 inputs, bounds on all. The states along the way are made once, in
closed loop; then every solver gets the same initial states step by step, and may start from its answer of the step
before. convexjax solves all plants of a step in one call; the peers, in the form with sparse matrices, have one solver
for each plant that is set up once and gets new data, a plant at a time. Setting up and compiling is told apart.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from statistics import median

import numpy as np
import scipy.linalg
import scipy.sparse as sparse

from benchmarks.worker import Child, Failure, NoAnswer, Surroundings, missing, serve_handler

MASSES, INPUTS, SAMPLING = 6, 4, 0.5
STATES = 2 * MASSES
X_BOUND, U_BOUND, FORCE = 4.0, 0.5, 0.4
PACKAGES = {"convexjax": "convexjax", "convexjax_cold": "convexjax", "convexjax_ipm": "convexjax"}
PACKAGES |= {"osqp": "osqp", "osqp_loose": "osqp", "piqp": "piqp"}


@dataclass(frozen=True)
class Case:
    """`plants` plants, `steps` steps of a horizon."""

    horizon: int
    plants: int = 64
    steps: int = 200


@dataclass(frozen=True)
class Answers:
    """Of all plants of one step; y in the signs of the rows `A x_t + B u_t - x_{t+1} = 0`, z upper minus lower."""

    states: np.ndarray  # (plants, T + 1, n)
    inputs: np.ndarray  # (plants, T, m)
    y: np.ndarray  # (plants, T + 1, n)
    z_states: np.ndarray
    z_inputs: np.ndarray
    iterations: np.ndarray


@dataclass(frozen=True)
class Result:
    """Seconds, and the certificates of all answers; `note` says why there are none."""

    solver: str
    horizon: int
    plants: int = 0
    first_call: float | None = None  # compilation, or setting up
    step: float | None = None  # median over the steps, for one plant
    mean: float | None = None
    iterations: float | None = None
    most_iterations: int | None = None
    residual: float | None = None  # the median, and the worst of all answers
    worst: float | None = None
    certified: float | None = None  # share at 1e-8
    note: str = ""


# From the initial states of all plants to the seconds spent and the answers.
Run = Callable[[np.ndarray], tuple[float, Answers]]

# ----------------------------------------------------------------------------- plants and certificates


def plants(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(A, B) of each plant."""
    found = [_chain(np.random.default_rng(seed)) for seed in range(count)]
    return np.stack([A for A, _ in found]), np.stack([B for _, B in found])


def _chain(rng) -> tuple[np.ndarray, np.ndarray]:
    springs, masses = rng.uniform(0.7, 1.3, MASSES + 1), rng.uniform(0.7, 1.3, MASSES)
    stiffness = np.diag(springs[:-1] + springs[1:]) - np.diag(springs[1:-1], 1) - np.diag(springs[1:-1], -1)
    forces = np.eye(MASSES, INPUTS) - np.eye(MASSES, INPUTS, k=-2)
    A, B = np.zeros((STATES, STATES)), np.zeros((STATES, INPUTS))
    A[:MASSES, MASSES:], A[MASSES:, :MASSES] = np.eye(MASSES), -stiffness / masses[:, None]
    B[MASSES:] = forces / masses[:, None]
    whole = np.block([[A, B], [np.zeros((INPUTS, STATES + INPUTS))]])
    sampled = scipy.linalg.expm(SAMPLING * whole)
    return sampled[:STATES, :STATES], sampled[:STATES, STATES:]


def residuals(A: np.ndarray, B: np.ndarray, initial: np.ndarray, found: Answers) -> np.ndarray:
    """The largest relative residual of each plant's answer: primal, dual and gap as in `certificates.py`."""
    x, u, y, z_x, z_u = found.states, found.inputs, found.y, found.z_states, found.z_inputs
    largest = lambda *v: np.max([np.abs(a).reshape(len(a), -1).max(1) for a in v], axis=0)
    after = np.einsum("lij,ltj->lti", A, x[:, :-1]) + np.einsum("lij,ltj->lti", B, u)
    dynamics = np.concatenate([initial[:, None] - x[:, :1], after - x[:, 1:]], 1)
    outside = [np.maximum(np.abs(x[:, 1:]) - X_BOUND, 0), np.maximum(np.abs(u) - U_BOUND, 0)]
    of_x = x - y + z_x
    of_x[:, :-1] += np.einsum("lji,ltj->lti", A, y[:, 1:])
    of_u = u + z_u + np.einsum("lji,ltj->lti", B, y[:, 1:])
    quadratic = (x**2).sum((1, 2)) + (u**2).sum((1, 2))
    support = X_BOUND * np.abs(z_x).sum((1, 2)) + U_BOUND * np.abs(z_u).sum((1, 2))
    primal, dual = quadratic / 2, -quadratic / 2 + (y[:, 0] * initial).sum(1) - support
    one = np.ones(len(x))
    worst = np.max(
        [
            largest(dynamics, *outside) / np.maximum(one, largest(x, u, after)),
            largest(of_x, of_u) / np.maximum(one, largest(x, u, y, z_x, z_u)),
            np.abs(primal - dual) / np.maximum(one, np.maximum(np.abs(primal), np.abs(dual))),
            largest(z_x[:, 0]),
        ],
        axis=0,
    )
    return np.where(np.isfinite(worst), worst, np.inf)


# ----------------------------------------------------------------------------- convexjax: all plants in one call


def prepare_convexjax(case: Case, warm: bool, method: str = "auto") -> Run:
    """A function of the initial states."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import convexjax as cj

    A, B = plants(case.plants)
    Q, R = np.eye(STATES), np.eye(INPUTS)
    bounds = dict(x_lb=-X_BOUND, x_ub=X_BOUND, u_lb=-U_BOUND, u_ub=U_BOUND, horizon=case.horizon)
    options = cj.Options(method=method)

    def solve(A, B, x, previous):
        guess = cj.shift_horizon(previous) if warm else None
        return cj.solve_mpc(A, B, Q, R, x, **bounds, options=options, warm_start=guess)

    compiled = jax.jit(jax.vmap(solve))
    # the plants at rest: what the first step starts from
    initially = jax.vmap(lambda A, B: cj.solve_mpc(A, B, Q, R, np.zeros(STATES), **bounds))
    memory = [jax.jit(initially)(A, B) if warm else None]

    def run(x: np.ndarray) -> tuple[float, Answers]:
        start = time.perf_counter()
        found = memory[0] = jax.block_until_ready(compiled(A, B, x, memory[0] if warm else None))
        seconds = time.perf_counter() - start
        return seconds, Answers(
            np.asarray(found.x.states),
            np.asarray(found.x.inputs),
            np.asarray(found.y),
            np.asarray(found.z_ub.states - found.z_lb.states),
            np.asarray(found.z_ub.inputs - found.z_lb.inputs),
            np.asarray(found.info.num_iters),
        )

    return run


# ----------------------------------------------------------------------------- the peers: a solver for each plant


def sparse_rows(A: np.ndarray, B: np.ndarray, T: int) -> sparse.csc_matrix:
    """The dynamics of one plant, variables [x_0 .. x_T, u_0 .. u_{T-1}]."""
    states = sparse.kron(sparse.eye(T + 1, k=-1), A) - sparse.eye((T + 1) * STATES)
    inputs = sparse.vstack([sparse.csc_matrix((STATES, T * INPUTS)), sparse.kron(sparse.eye(T), B)])
    return sparse.csc_matrix(sparse.hstack([states, inputs]))


def _limits(T: int) -> np.ndarray:
    """The upper bounds of all variables; x_0 has none."""
    of_states = np.concatenate([np.full(STATES, np.inf), np.full(T * STATES, X_BOUND)])
    return np.concatenate([of_states, np.full(T * INPUTS, U_BOUND)])


def _stacked(case: Case, found: list[tuple]) -> Answers:
    """(variables, y, z, iterations) of each plant together."""
    count, T = (case.horizon + 1) * STATES, case.horizon
    w, y, z, iterations = (np.stack(parts) for parts in zip(*found, strict=True))
    lanes = len(w)
    x, u = w[:, :count].reshape(lanes, T + 1, STATES), w[:, count:].reshape(lanes, T, INPUTS)
    z_x, z_u = z[:, :count].reshape(lanes, T + 1, STATES), z[:, count:].reshape(lanes, T, INPUTS)
    return Answers(x, u, y.reshape(lanes, T + 1, STATES), z_x, z_u, iterations)


def prepare_osqp(case: Case, tolerance: float) -> Run:
    """OSQP, which starts from its last point; only the initial state changes."""
    import osqp

    T, limits, solvers = case.horizon, _limits(case.horizon), []
    P, equations = sparse.eye(limits.size, format="csc"), (T + 1) * STATES
    for A, B in zip(*plants(case.plants), strict=True):
        rows = sparse.vstack([sparse_rows(A, B, T), sparse.eye(limits.size)], format="csc")
        solver, zeros = osqp.OSQP(), np.zeros(equations)
        accuracy = dict(eps_abs=tolerance, eps_rel=tolerance, max_iter=20_000, warm_starting=True, verbose=False)
        lower, upper = np.concatenate([zeros, -limits]), np.concatenate([zeros, limits])
        solver.setup(P, np.zeros(limits.size), rows, lower, upper, **accuracy)
        solvers.append((solver, lower, upper))

    def run(x: np.ndarray) -> tuple[float, Answers]:
        seconds, found = 0.0, []
        for (solver, lower, upper), initial in zip(solvers, x, strict=True):
            lower[:STATES] = upper[:STATES] = -initial
            start = time.perf_counter()
            solver.update(l=lower, u=upper)
            answer = solver.solve(raise_error=False)
            seconds += time.perf_counter() - start
            found.append((answer.x, answer.y[:equations], answer.y[equations:], answer.info.iter))
        return seconds, _stacked(case, found)

    return run


def prepare_piqp(case: Case, tolerance: float) -> Run:
    """PIQP's sparse back end, bounds as bounds; an interior point that keeps its symbolic work, not its point."""
    import piqp

    T, limits, solvers = case.horizon, _limits(case.horizon), []
    P, b = sparse.eye(limits.size, format="csc"), np.zeros((T + 1) * STATES)
    for A, B in zip(*plants(case.plants), strict=True):
        solver = piqp.SparseSolver()
        solver.settings.eps_abs = solver.settings.eps_rel = tolerance
        solver.setup(P, np.zeros(limits.size), A=sparse_rows(A, B, T), b=b, x_l=-limits, x_u=limits)
        solvers.append(solver)

    def run(x: np.ndarray) -> tuple[float, Answers]:
        seconds, found = 0.0, []
        for solver, initial in zip(solvers, x, strict=True):
            right = b.copy()
            right[:STATES] = -initial
            start = time.perf_counter()
            solver.update(b=right)
            solver.solve()
            seconds += time.perf_counter() - start
            answer = solver.result
            z = np.asarray(answer.z_bu) - np.asarray(answer.z_bl)
            found.append((np.array(answer.x), np.array(answer.y), z, answer.info.iter))
        return seconds, _stacked(case, found)

    return run


PREPARE = {
    "convexjax": lambda case: prepare_convexjax(case, warm=True),
    "convexjax_cold": lambda case: prepare_convexjax(case, warm=False),
    "convexjax_ipm": lambda case: prepare_convexjax(case, warm=False, method="interior_point"),
    "osqp": lambda case: prepare_osqp(case, 1e-8),
    "osqp_loose": lambda case: prepare_osqp(case, 1e-4),
    "piqp": lambda case: prepare_piqp(case, 1e-8),
}


# ----------------------------------------------------------------------------- a run


class Trajectories:
    """In a process: the states of all plants along a closed loop, (steps, plants, n)."""

    def __call__(self, case: Case) -> np.ndarray:
        (A, B), rng, solve = plants(case.plants), np.random.default_rng(0), prepare_convexjax(case, warm=True)
        x, path = 0.5 * rng.normal(size=(case.plants, STATES)), []
        for _ in range(case.steps):
            path.append(x)
            u = np.clip(np.nan_to_num(solve(x)[1].inputs[:, 0]), -U_BOUND, U_BOUND)
            x = np.einsum("lij,lj->li", A, x) + np.einsum("lij,lj->li", B, u)
            x[:, MASSES:] += rng.uniform(-FORCE, FORCE, (case.plants, MASSES))
        return np.stack(path)


class Handler:
    """In a solver's process: all steps of a case."""

    def __call__(self, message: tuple[str, Case, np.ndarray]) -> Result:
        solver, case, path = message
        start = time.perf_counter()
        run = PREPARE[solver](case)
        run(path[0])
        first = time.perf_counter() - start
        A, B = plants(case.plants)
        seconds, errors, iterations = [], [], []
        for x in path:
            spent, found = run(x)
            seconds.append(spent / case.plants)
            errors.append(residuals(A, B, x, found))
            iterations.append(found.iterations)
        errors = np.array(errors)
        return Result(
            solver=solver,
            horizon=case.horizon,
            plants=case.plants,
            first_call=first,
            step=median(seconds),
            mean=float(np.mean(seconds)),
            iterations=float(np.mean(iterations)),
            most_iterations=int(np.max(iterations)),
            residual=float(np.median(errors)),
            worst=float(errors.max()),
            certified=float(np.mean(errors <= 1e-8)),
        )


def measure(
    solvers: list[str], cases: list[Case], peer_plants: int, timeout: float, surroundings: Surroundings
) -> Iterator[Result]:
    """One result for each case and solver; the peers, whose time of a plant does not depend on how many there are, with
    `peer_plants` plants."""
    for case in cases:
        path = _ask(Child(serve_handler, (Trajectories, (), surroundings), timeout), case)
        if isinstance(path, str):
            yield from (Result(solver, case.horizon, note=path) for solver in solvers)
            continue
        for solver in solvers:
            if missing((PACKAGES[solver],)):
                yield Result(solver, case.horizon, note="not installed")
                continue
            alone = PACKAGES[solver] != "convexjax"
            own = replace(case, plants=min(peer_plants, case.plants)) if alone else case
            child = Child(serve_handler, (Handler, (), surroundings), timeout)
            found = _ask(child, (solver, own, path[:, : own.plants]))
            yield Result(solver, case.horizon, note=found) if isinstance(found, str) else found


def _ask(child: Child, message):
    """The answer, or why there is none."""
    try:
        found = child.ask(message)
    except NoAnswer as reason:
        return str(reason)
    finally:
        child.stop()
    return f"{found.kind}: {found.text}" if isinstance(found, Failure) else found


HEAD = ["horizon", "solver", "plants", "set up (s)", "us a step", "mean", "us a stage", "iterations", "most"]
HEAD += ["residual", "worst", "certified", ""]


def rows(results: list[Result]) -> list[list[str]]:
    """The table as texts."""
    return [HEAD, *(_row(result) for result in results)]


def _row(r: Result) -> list[str]:
    if r.step is None:
        return [str(r.horizon), r.solver, *[""] * (len(HEAD) - 3), r.note]
    times = [f"{1e6 * r.step:.0f}", f"{1e6 * r.mean:.0f}", f"{1e6 * r.step / r.horizon:.1f}"]
    accuracy = [f"{r.residual:.0e}", f"{r.worst:.0e}", f"{r.certified:.1%}"]
    head = [str(r.horizon), r.solver, str(r.plants), f"{r.first_call:.1f}"]
    return [*head, *times, f"{r.iterations:.1f}", str(r.most_iterations), *accuracy, r.note]


def plot(results: list[Result], path: str, title: str) -> None:
    """Time of a step by horizon; the dashed line is proportional to the horizon."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from benchmarks.plots import COLOURS, MARKERS

    figure, axes = plt.subplots(figsize=(6, 4.8), layout="constrained")
    timed = [r for r in results if r.step is not None]
    for solver, colour, marker in zip(dict.fromkeys(r.solver for r in timed), COLOURS, MARKERS, strict=False):
        own = sorted((r.horizon, r.step) for r in timed if r.solver == solver)
        horizons, times = np.array(own).T
        axes.plot(horizons, 1e6 * times, marker=marker, color=colour, label=solver)
        axes.plot(horizons, 1e6 * times[0] / horizons[0] * horizons, color=colour, linewidth=1, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="horizon", ylabel="microseconds for a plant and a step")
    axes.set_title(title, fontsize="small")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)
