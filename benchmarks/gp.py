"""Geometric programs: large ones, the test set, batches, documented examples and a trade-off surface, beside peers.

Peers solve the conic form (exponential cones) built here, or the model through CVXPY's DGP with its default solver.
Each answer is certified from outside in log space, from the data of the program: the accuracy beside a time is the
largest of primal residual, gradient of the Lagrangian relative to its terms, and gap. Peers' multipliers are those of
the rows that make up a posynomial.

Large instances (`large_instance`): n variables, objective sum_j (x_j + 1 / x_j); m constraints of 5 terms whose
exponents are standard normal for 3 variables drawn without replacement (dense: for all n, with standard deviation
sqrt(3 / n)). At a point log x standard normal the terms of a constraint have shares from the uniform distribution on
the simplex and a sum of exp(-u), u uniform in [0, 0.5], so there is a feasible point. Seed 0.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import scipy.sparse as sparse

from benchmarks import report

Instance = tuple  # exponents, log_coefficients, segment_ids, equalities
PARTS = ("sparse", "dense", "set", "batch", "examples", "surface")


def large_instance(n: int = 3000, m: int = 1000, is_dense: bool = False, seed: int = 0) -> Instance:
    """The program of the module's docstring."""
    rng = np.random.default_rng(seed)
    terms = 5 * m
    if is_dense:
        E = rng.normal(size=(terms, n)) * np.sqrt(3 / n)
    else:
        columns = np.concatenate([rng.choice(n, 3, replace=False) for _ in range(terms)])
        E = sparse.csr_matrix((rng.normal(size=3 * terms), (np.repeat(np.arange(terms), 3), columns)), (terms, n))
    feasible = rng.normal(size=n)
    shares = rng.dirichlet(np.ones(5), m).ravel()
    b = np.log(shares) - np.repeat(rng.uniform(0, 0.5, m), 5) - E @ feasible
    eye = np.eye(n) if is_dense else sparse.eye(n, format="csr")
    stack = np.vstack if is_dense else sparse.vstack
    exponents = stack([eye, -eye, E])
    segments = np.concatenate([np.zeros(2 * n, int), np.repeat(np.arange(1, m + 1), 5)])
    return exponents if is_dense else exponents.tocsr(), np.concatenate([np.zeros(2 * n), b]), segments, ()


# ----------------------------------------------------------------------------- certificates


def accuracy(instance: Instance, y, z) -> tuple[float, float]:
    """log p_0, and the largest residual of log x = y with the multipliers z."""
    E, b, segments, equalities = instance
    t = E @ y + b
    largest = np.full(segments.max() + 1, -np.inf)
    np.maximum.at(largest, segments, t)
    powers = np.exp(t - largest[segments])
    total = np.bincount(segments, powers)
    F = largest + np.log(total)
    weights = np.concatenate([[1], z])[segments] * powers / total[segments]
    is_equation = np.isin(np.arange(1, F.size), equalities)
    violation = np.where(is_equation, np.abs(F[1:]), F[1:])
    size = np.max(abs(E).T @ np.abs(weights))
    negative = np.max(-np.where(is_equation, 0, z), initial=0)
    gradient = np.max(np.abs(E.T @ weights)) / size
    return F[0], max(np.max(violation, initial=0), gradient, abs(z @ F[1:]) / max(1, abs(F[0])), negative)


# ----------------------------------------------------------------------------- solvers


def solve_convexjax(instance: Instance) -> Callable:
    """A call that solves, and gives log x, multipliers and the status."""
    import jax

    import convexjax as cj

    jax.config.update("jax_enable_x64", True)
    E, b, segments, equalities = instance

    def call():
        solution = jax.block_until_ready(cj.solve_gp(E, b, segments, equalities=equalities))
        return np.asarray(solution.log_x), np.asarray(solution.z), cj.Status(int(solution.status)).name

    return call


def conic_form(instance: Instance):
    """min c'v, A v + s = b: v = (log x, r of each term, the objective); zero, nonnegative and exponential rows."""
    E, b, segments, equalities = instance
    E = sparse.csr_matrix(E)
    equal = np.isin(segments, np.asarray(equalities, int)) & (segments > 0)
    terms = np.flatnonzero(~equal)
    K, n, S = terms.size, E.shape[1], segments.max() + 1
    zero = sparse.hstack([E[equal], sparse.csr_matrix((equal.sum(), K + 1))])
    kept = np.setdiff1d(np.arange(S), segments[equal])
    place = np.searchsorted(kept, segments[terms])
    sums = sparse.csr_matrix((np.ones(K), (place, n + np.arange(K))), (kept.size, n + K + 1))
    first = sparse.hstack(
        [-E[terms], sparse.csr_matrix((K, K)), sparse.csr_matrix((segments[terms] == 0).astype(float)).T]
    ).tocsr()
    third = sparse.hstack([sparse.csr_matrix((K, n)), -sparse.eye(K), sparse.csr_matrix((K, 1))]).tocsr()
    order = np.arange(3 * K).reshape(3, K).T.ravel()
    exponential = sparse.vstack([first, sparse.csr_matrix((K, n + K + 1)), third]).tocsr()[order]
    right = np.stack([b[terms], np.ones(K), np.zeros(K)], 1).ravel()
    A = sparse.vstack([zero, sums, exponential]).tocsc()
    c = np.zeros(n + K + 1)
    c[-1] = 1
    return c, A, np.concatenate([-b[equal], np.ones(kept.size), right]), int(equal.sum()), kept, K, segments[equal]


def multipliers(form, z) -> np.ndarray:
    """Those of the posynomials, from those of the conic rows."""
    _, _, _, p, kept, _, equations = form
    found = np.zeros(kept.size + equations.size)
    found[equations], found[kept] = z[:p], z[p : p + kept.size]
    return found[1:]


def solve_clarabel(instance: Instance) -> Callable:
    """Clarabel with its default settings."""
    import clarabel

    def call():
        form = c, A, b, p, kept, K, _ = conic_form(instance)
        cones = [clarabel.ZeroConeT(p)] * (p > 0) + [clarabel.NonnegativeConeT(kept.size)]
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        P = sparse.csc_matrix((c.size, c.size))
        solution = clarabel.DefaultSolver(P, c, A, b, cones + [clarabel.ExponentialConeT()] * K, settings).solve()
        n = instance[0].shape[1]
        return np.asarray(solution.x)[:n], multipliers(form, np.asarray(solution.z)), str(solution.status)

    return call


def solve_scs(instance: Instance) -> Callable:
    """SCS to 1e-5."""
    import scs

    def call():
        form = c, A, b, p, kept, K, _ = conic_form(instance)
        solver = scs.SCS(
            {"A": A, "b": b, "c": c},
            {"z": p, "l": kept.size, "ep": K},
            eps_abs=1e-5,
            eps_rel=1e-5,
            verbose=False,
            time_limit_secs=100,
        )
        found = solver.solve()
        return found["x"][: instance[0].shape[1]], multipliers(form, found["y"]), found["info"]["status"]

    return call


SOLVERS = {"convexjax": solve_convexjax, "clarabel": solve_clarabel, "scs": solve_scs}


def timed(call: Callable, repeats: int) -> tuple[float, float, tuple]:
    """Seconds of the first call, the least of the later ones, the answer."""
    seconds = []
    for _ in range(1 + repeats):
        begun = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - begun)
    return seconds[0], min(seconds[1:] or seconds), answer


# ----------------------------------------------------------------------------- parts


def large(solvers, is_dense: bool, repeats: int, n: int, m: int) -> list[list[str]]:
    """Point 1."""
    instance = large_instance(n, m, is_dense)
    rows = [["solver", "first call", "later call", "log objective", "accuracy", "status", "peak memory"]]
    for name in solvers:
        if is_dense and name != "convexjax":
            continue  # the conic form has 15 million entries
        first, best, (y, z, status) = timed(SOLVERS[name](instance), repeats if name == "convexjax" else 0)
        value, error = accuracy(instance, y, z)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append(
            [name, f"{first:.2f} s", f"{best:.2f} s", f"{value:.9f}", f"{error:.1e}", status, f"{memory:.2f} GiB"]
        )
        print(rows[-1], flush=True)
    return rows


def test_set(folder: Path, solvers) -> list[list[str]]:
    """Point 2: the files of the `gp` set."""
    rows = [["problem", *(f"{name} {what}" for name in solvers for what in ("status", "error of log f", "ms"))]]
    for path in sorted(folder.glob("*.npz")):
        problem = np.load(path)
        instance = problem_of(problem)
        row = [path.stem]
        for name in solvers:
            if name == "scs":
                continue
            _, best, (y, z, status) = timed(SOLVERS[name](instance), 2)
            optimal = str(problem["status"]) == "optimal"
            error = accuracy(instance, y, z)[0] - float(problem["log_f_opt"]) if optimal else np.nan
            row += [status, f"{error:.1e}" if optimal else str(problem["status"]), f"{best * 1e3:.1f}"]
        rows.append(row)
        print(row, flush=True)
    return rows


def problem_of(problem) -> Instance:
    """A file of the set."""
    if "E_data" in problem:
        E = sparse.csc_matrix((problem["E_data"], problem["E_indices"], problem["E_indptr"]), problem["E_shape"])
        E = E.toarray()
    else:
        E = problem["E"]
    return E, problem["logc"], problem["posy"].astype(int), tuple(np.flatnonzero(problem["is_eq"]))


def batch(lanes: int = 1000, peers: int = 5) -> list[list[str]]:
    """Point 2: copies of a program in 10 variables with coefficients of their own."""
    import cvxpy as cp
    import jax

    import convexjax as cj

    jax.config.update("jax_enable_x64", True)
    E, b, segments, _ = large_instance(10, 5, is_dense=True)
    coefficients = b + 0.1 * np.random.default_rng(1).normal(size=(lanes, b.size))
    solve = jax.jit(jax.vmap(lambda b: cj.solve_gp(E, b, segments)))
    first, best, solution = timed(lambda: jax.block_until_ready(solve(coefficients)), 5)
    errors = [
        accuracy((E, coefficients[i], segments, ()), np.asarray(solution.log_x[i]), np.asarray(solution.z[i]))[1]
        for i in range(lanes)
    ]
    rows = [["solver", "per program", "worst accuracy", "first call"]]
    rows.append(["convexjax", f"{best / lanes * 1e3:.4f} ms", f"{max(errors):.1e}", f"{first:.1f} s"])

    def cvxpy(b):
        x = cp.Variable(10, pos=True)
        monomial = lambda k: float(np.exp(b[k])) * cp.prod([x[j] ** float(E[k, j]) for j in range(10) if E[k, j]])
        sides = [sum(monomial(k) for k in np.flatnonzero(segments == i)) for i in range(segments.max() + 1)]
        problem = cp.Problem(cp.Minimize(sides[0]), [side <= 1 for side in sides[1:]])
        begun = time.perf_counter()
        problem.solve(gp=True)
        return time.perf_counter() - begun, np.log(problem.value)

    found = [cvxpy(b) for b in coefficients[:peers]]
    off = max(abs(value - float(solution.log_objective[i])) for i, (_, value) in enumerate(found))
    seconds = min(seconds for seconds, _ in found)
    rows.append(["cvxpy (DGP, solve alone)", f"{seconds * 1e3:.1f} ms", f"{off:.1e} from convexjax", ""])
    rows.append(["ratio", f"{seconds / (best / lanes):.0f}", "", ""])
    return rows


def gate_network(gates: int, seed: int = 0):
    """A random network: gates in layers, each driven by two of the layer before. Its model by area and power."""
    from convexjax import gp

    rng = np.random.default_rng(seed)
    layers = np.array_split(np.arange(gates), max(2, int(np.sqrt(gates) / 2)))
    area, power = gp.parameters("area power")
    x, T, D = gp.variable("x", gates), gp.variable("T", gates), gp.variable("D")
    drive, effort = rng.uniform(0.5, 1.5, gates), rng.uniform(0.5, 2, gates)
    inputs = {
        gate: rng.choice(before, min(2, before.size), replace=False) for before, own in pairwise(layers) for gate in own
    }
    fanout: dict = {g: [h for h, sources in inputs.items() if g in sources] for g in range(gates)}
    rules = [x >= 1, x.sum() <= area, (effort * x).sum() <= power]
    for g in range(gates):
        load = sum(x[h] for h in fanout[g]) if fanout[g] else 10.0
        # Elmore delay: its resistance times the capacitance of what it drives and its own
        delay = drive[g] / x[g] * (load + 0.5 * x[g])
        if g not in inputs:
            rules.append(delay <= T[g])
        else:
            rules += [T[h] + delay <= T[g] for h in inputs[g]]
        if not fanout[g]:
            rules.append(T[g] <= D)
    return gp.minimize(D, rules)


def examples() -> list[list[str]]:
    """Point 4: two gate networks from model to answer."""
    import jax

    from convexjax import gp

    jax.config.update("jax_enable_x64", True)
    rows = [["example", "model", "compile and solve", "solve again", "optimum", "status"]]
    for gates in (7, 1000):
        begun = time.perf_counter()
        model = gate_network(gates)
        built = time.perf_counter() - begun
        f = gp.compile(model)
        first, best, result = timed(
            lambda f=f, gates=gates: jax.block_until_ready(f(area=3.0 * gates, power=4.0 * gates)), 1
        )
        rows.append(
            [
                f"{gates} gates",
                f"{built:.2f} s",
                f"{first:.2f} s",
                f"{best:.3f} s",
                f"{float(result.objective):.9g}",
                str(int(result.status)),
            ]
        )
        print(rows[-1], flush=True)
    return rows


def surface(points: int = 1000, peers: int = 3) -> list[list[str]]:
    """Point 5: the delay of the network of 7 gates by area and power, beside a loop of Clarabel."""
    import jax

    from convexjax import gp

    jax.config.update("jax_enable_x64", True)
    f = gp.compile(gate_network(7))
    side = int(np.sqrt(points))
    area, power = (grid.ravel() for grid in np.meshgrid(np.linspace(10, 40, side), np.linspace(15, 60, points // side)))
    curve = jax.jit(jax.vmap(lambda area, power: f(area=area, power=power)))
    first, best, result = timed(lambda: jax.block_until_ready(curve(area, power)), 3)
    solved = float(np.mean(np.asarray(result.status) == 1))
    rows = [["solver", "per point", "solved", "first call"]]
    rows.append(["convexjax", f"{best / area.size * 1e3:.4f} ms", f"{solved:.3f}", f"{first:.1f} s"])
    return rows


def run(arguments: argparse.Namespace) -> None:
    """The parts that were asked for."""
    tables = {}
    repeats, solvers, (n, m) = arguments.repeats, arguments.solvers, map(int, arguments.size.split("x"))
    known = {
        "sparse": lambda: large(solvers, False, repeats, n, m),
        "dense": lambda: large(solvers, True, 0, n, m),
        "set": lambda: test_set(arguments.data / "gp", solvers) if arguments.data else [["set: give --data"]],
        "batch": batch,
        "examples": examples,
        "surface": surface,
    }
    for part in arguments.parts:
        tables[part] = known[part]()
        print(f"\n{part}\n{report.aligned(tables[part])}", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(tables, indent=1) + "\n")
