"""Geometric programs: large ones, the test set, batches, documented examples and a trade-off surface, beside peers.

Each answer is certified from outside in log space, from the data of the program: the accuracy beside a time is the
largest of primal residual, gradient of the Lagrangian relative to its terms, and gap.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

from benchmarks import report
from benchmarks.gp_examples import EXAMPLES, circuit
from benchmarks.gp_programs import accuracy, infeasibility, instance_of, large_instance, problem_of, unboundedness
from benchmarks.gp_solvers import SOLVERS, solve_clarabel, timed

# What solvers call the outcomes of the set.
CLAIMS = {
    "optimal": ("solved",),
    "infeasible": ("primal_infeasible", "primalinfeasible"),
    "unbounded": ("dual_infeasible", "dualinfeasible"),
}
PARTS = ("sparse", "dense", "set", "batch", "examples", "surface")


# ----------------------------------------------------------------------------- parts


def large(solvers, is_dense: bool, repeats: int, n: int, m: int) -> list[list[str]]:
    """Point 1."""
    instance = large_instance(n, m, is_dense)
    rows = [["solver", "first call", "later call", "log objective", "accuracy", "status", "peak memory"]]
    for name in solvers:
        if is_dense and name != "convexjax":
            continue  # the conic form has 15 million entries
        first, best, (y, z, status, _) = timed(SOLVERS[name](instance), repeats if name == "convexjax" else 0)
        value, error = accuracy(instance, y, z)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        rows.append(
            [name, f"{first:.2f} s", f"{best:.2f} s", f"{value:.9f}", f"{error:.1e}", status, f"{memory:.2f} GiB"]
        )
        print(rows[-1], flush=True)
    return rows


def test_set(folder: Path, solvers) -> list[list[str]]:
    """Point 2: the files of the `gp` set. `proof` is the accuracy of a solution or of a certificate; right are answers
    with a proof to 1e-7 (1e-8 for solutions) and the known status and optimum, to 1e-8 or as far as it is known."""
    names = [name for name in solvers if name != "scs"]
    rows = [["problem", *(f"{name} {what}" for name in names for what in ("status", "error of log f", "proof", "ms"))]]
    right = dict.fromkeys(names, 0)
    paths = sorted(folder.glob("*.npz"))
    for path in paths:
        problem = np.load(path)
        instance, row, known = problem_of(problem), [path.stem], str(problem["status"])
        for name in names:
            _, best, answer = timed(SOLVERS[name](instance), 2)
            value, proof = accuracy(instance, answer.log_x, answer.z)
            error = value - float(problem["log_f_opt"]) if known == "optimal" else np.nan
            limit = 1e-8 if known == "optimal" else 1e-7
            if known == "infeasible":
                proof = infeasibility(instance, answer.weights) if answer.weights is not None else np.nan
            elif known == "unbounded":
                proof = unboundedness(instance, answer.log_x)
            is_right = answer.status.lower() in CLAIMS[known] and proof <= limit
            right[name] += is_right and not abs(error) > max(1e-8, float(problem["f_rtol"]))
            row += [answer.status, f"{error:.1e}" if known == "optimal" else known, f"{proof:.1e}", f"{best * 1e3:.1f}"]
        rows.append(row)
        print(row, flush=True)
    return [*rows, ["right", *(text for name in names for text in (f"{right[name]} of {len(paths)}", "", "", ""))]]


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


def examples() -> list[list[str]]:
    """Point 4: documented examples from model to answer, beside CVXPY's DGP with its default solver. `first` compiles,
    `again` builds the model anew and solves it with what has been compiled for its shapes."""
    import cvxpy as cp
    import jax

    jax.config.update("jax_enable_x64", True)
    rows = [["example", "variables", "terms", "first", "again", "CVXPY", "accuracy", "optimum", "published", "CVXPY's"]]
    for name, example in EXAMPLES.items():
        first, again, result = timed(lambda example=example: jax.block_until_ready(example.model().solve()), 1)
        begun = time.perf_counter()
        problem = example.cvxpy(cp)
        problem.solve(gp=True)
        seconds = time.perf_counter() - begun
        instance = instance_of(example.model())
        _, error = accuracy(instance, np.asarray(result.solution.log_x), np.asarray(result.solution.z))
        terms, variables = instance[0].shape
        values = [f"{float(value):.10g}" for value in (result.objective, example.optimum, problem.value)]
        times = [f"{first:.2f} s", f"{1e3 * again:.1f} ms", f"{1e3 * seconds:.1f} ms"]
        rows.append([name, str(variables), str(terms), *times, f"{error:.1e}", *values])
        print(rows[-1], flush=True)
    return rows


def surface(points: int = 1000, peers: int = 20) -> list[list[str]]:
    """Point 5: the delay of the network of 7 gates by area and power in one call, beside a loop of Clarabel over some
    of the points, each with the conic form ready."""
    import jax

    from convexjax import gp

    jax.config.update("jax_enable_x64", True)
    f = gp.compile(circuit(*gp.parameters("area power")))
    area, power = (grid.ravel() for grid in np.meshgrid(np.linspace(10, 100, points // 25), np.linspace(10, 60, 25)))
    curve = jax.jit(jax.vmap(lambda area, power: f(area=area, power=power)))
    first, best, result = timed(lambda: jax.block_until_ready(curve(area, power)), 3)
    instances = [instance_of(circuit(a, p)) for a, p in zip(area, power, strict=True)]
    found = zip(np.asarray(result.solution.log_x), np.asarray(result.solution.z), strict=True)
    errors = [accuracy(instance, y, z)[1] for instance, (y, z) in zip(instances, found, strict=True)]
    rows = [["solver", "per point", "solved", "worst accuracy", "first call"]]
    solved = f"{int(np.sum(np.asarray(result.status) == 1))} of {area.size}"
    rows.append(["convexjax", f"{best / area.size * 1e3:.3f} ms", solved, f"{max(errors):.1e}", f"{first:.1f} s"])
    sample = np.linspace(0, area.size - 1, peers).astype(int)
    answers = [timed(solve_clarabel(instances[i]), 3) for i in sample]
    errors = [accuracy(instances[i], y, z)[1] for i, (_, _, (y, z, *_)) in zip(sample, answers, strict=True)]
    solved = f"{sum(status == 'Solved' for *_, (_, _, status, _) in answers)} of {peers}"
    seconds = float(np.mean([best for _, best, _ in answers]))
    rows.append(["clarabel", f"{seconds * 1e3:.3f} ms", solved, f"{max(errors):.1e}", ""])
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
