"""Convex programs as functions, beside other solvers: `python -m benchmarks minimize`.

Every answer is checked by code that knows no solver. An answer of the library is proved by its multipliers: the
Karush-Kuhn-Tucker residuals in NumPy, each relative to the largest of its terms and to one, all at most 1e-8. The
others return x alone, which counts as right if it is feasible to 1e-8 and its value is at most 1e-8 above the proved
optimum, both relative to their size and to one. Compile time is the first call less the best of the later ones.
"""

import json
import math
import signal
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize

import benchmarks.cutest_programs  # noqa: F401  (adds its programs)
import convexjax as cj
from benchmarks.function_programs import PROGRAMS, FunctionProgram
from benchmarks.minimize_peers import PEERS

TOLERANCE = 1e-8


def size(*vectors) -> float:
    """Largest absolute entry of all, or one."""
    return max([1.0, *(float(np.abs(v).max(initial=0)) for v in vectors)])


def infeasibility(program: FunctionProgram, x: np.ndarray) -> float:
    """Largest violation of a constraint, relative to the size of its terms."""
    worst = 0.0
    if program.g is not None:
        # terms of g are at least as large as its change from zero to x
        values = np.asarray(program.g(jnp.asarray(x)))
        worst = max(worst, values.max() / size(x)) if np.all(np.isfinite(values)) else math.inf
    if program.A is not None:
        worst = max(worst, float(np.abs(program.A @ x - program.b).max()) / size(program.b))
    for bound, sign in ((program.lb, -1), (program.ub, 1)):
        if bound is not None:
            worst = max(worst, float((sign * (x - bound)).max()))
    return float(worst)


def kkt(program: FunctionProgram, x, y, z, z_lb, z_ub) -> float:
    """The largest Karush-Kuhn-Tucker residual of a point with its multipliers."""
    x, point = np.asarray(x), jnp.asarray(x)
    gradient = np.asarray(jax.grad(program.f)(point))
    terms, products, signs = [gradient], [0.0], [0.0]
    if program.g is not None:
        values, z = np.asarray(program.g(point)).ravel(), np.asarray(z).ravel()
        jacobian = np.asarray(jax.jacfwd(lambda x: jnp.ravel(program.g(x)))(point))
        terms.append(z @ jacobian)
        products.append(values @ z)
        signs.append(-z.min(initial=0) / size(z))
    if program.A is not None:
        terms.append(np.asarray(y) @ program.A)
    for bound, dual, sign in ((program.lb, z_lb, -1), (program.ub, z_ub, 1)):
        if bound is not None:
            dual, off = np.asarray(dual), sign * (x - bound)
            terms.append(sign * dual)
            products.append(np.sum(np.where(np.isfinite(off), off, 0) * dual))
            signs.append(-dual.min(initial=0) / size(dual))
    value = float(program.f(point))
    residuals = [
        infeasibility(program, x),
        float(np.abs(sum(terms)).max()) / size(*terms),
        abs(float(sum(products))) / max(1.0, abs(value)),
        *signs,
    ]
    return max(residuals) if np.all(np.isfinite(residuals)) else math.inf


class TimeLimit(Exception):
    """A solver took too long."""


def _interrupt(*_):
    raise TimeLimit


def timed(run, repeats: int, limit: int):
    """(answer, seconds of the first call, best of the later ones); an error is the answer."""
    signal.signal(signal.SIGALRM, _interrupt)
    signal.alarm(limit)
    try:
        start = time.perf_counter()
        answer = run()
        first, best = time.perf_counter() - start, math.inf
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            best = min(best, time.perf_counter() - start)
            if best > 2:
                break
        return answer, first, best
    except TimeLimit:
        return "time", math.inf, math.inf
    except Exception as error:  # a peer may fail in any way
        return f"{type(error).__name__}: {error}"[:120], math.inf, math.inf
    finally:
        signal.alarm(0)


def compare(names: list[str], solvers: list[str], repeats: int, limit: int) -> list[dict]:
    """One row per program and solver."""
    rows = []
    for name in names:
        program, optimum = PROGRAMS[name](), math.nan
        for solver in ["convexjax", *(s for s in solvers if s != "convexjax")]:
            answer, first, best = timed(PEERS[solver](program), repeats, limit)
            row = {"program": name, "n": len(program.x0), "solver": solver, "first": first, "seconds": best}
            if isinstance(answer, str):
                row |= {"right": False, "why": answer}
            elif solver == "convexjax":
                residual = kkt(program, *answer)
                optimum = float(program.f(answer[0])) if residual <= TOLERANCE else math.nan
                row |= {"right": residual <= TOLERANCE, "residual": residual, "value": float(program.f(answer[0]))}
            else:
                value, off = float(program.f(jnp.asarray(answer))), infeasibility(program, np.asarray(answer))
                above = (value - optimum) / max(1.0, abs(optimum))
                row |= {"right": off <= TOLERANCE and above <= TOLERANCE, "residual": max(off, above), "value": value}
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def summary(rows: list[dict]) -> str:
    """Per solver the share of right answers, and geometric means of times where it and the library are right."""
    lines = ["| solver | right | first call | later calls | the library there |", "|---|---|---|---|---|"]
    own = {row["program"]: row for row in rows if row["solver"] == "convexjax"}
    mean = lambda values: math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan
    for solver in dict.fromkeys(row["solver"] for row in rows):
        mine = [row for row in rows if row["solver"] == solver]
        both = [row for row in mine if row["right"] and own[row["program"]]["right"]]
        times = ([r["first"] for r in both], [r["seconds"] for r in both], [own[r["program"]]["seconds"] for r in both])
        shares = f"{sum(row['right'] for row in mine)}/{len(mine)}"
        lines.append(f"| {solver} | {shares} | " + " | ".join(f"{mean(values):.3g} s" for values in times) + " |")
    return "\n".join(lines)


# Instances of the batch, and how many of them the loop over SciPy solves.
LANES, LOOPED = 1000, 50


def batch(repeats: int) -> str:
    """A batch of programs under `vmap` beside a loop over SciPy's SLSQP with jitted derivatives: largest entropy of 20
    probabilities with two moments bounded, bounds of its own for each instance."""
    rng, n = np.random.default_rng(0), 20
    G = rng.normal(size=(2, n))
    h = jnp.asarray(G @ np.full(n, 1 / n) - rng.uniform(0.05, 0.3, (LANES, 2)))
    f, g = (lambda x, h: jnp.sum(x * jnp.log(x))), (lambda x, h: G @ x - h)
    ones, total, start = np.ones((1, n)), np.ones(1), np.full(n, 1 / n)

    def one(h):
        solution = cj.minimize(f, jnp.asarray(start), inequalities=g, equalities=(ones, total), params=h)
        return solution.x, solution.status

    solve = jax.jit(jax.vmap(one), compiler_options=cj.QUICK_COMPILATION)
    _, first, best = timed(lambda: jax.block_until_ready(solve(h)), repeats, 600)
    x, status = solve(h)
    value = jax.jit(jax.value_and_grad(f))
    value(start, h[0])
    found, begun = [], time.perf_counter()
    for right in h[:LOOPED]:
        constraints = [
            {"type": "ineq", "fun": lambda x, h=right: np.asarray(h) - G @ x, "jac": lambda x: -G},
            {"type": "eq", "fun": lambda x: ones @ x - total, "jac": lambda x: ones},
        ]
        both = lambda x, h=right: tuple(np.asarray(v, float) for v in value(x, h))
        bounds, options = [(1e-12, None)] * n, {"ftol": 1e-14, "maxiter": 1000}
        answer = scipy.optimize.minimize(
            both, start, jac=True, method="SLSQP", bounds=bounds, constraints=constraints, options=options
        )
        found.append(answer.x)
    each, solved = (time.perf_counter() - begun) / LOOPED, int(jnp.sum(status == int(cj.Status.SOLVED)))
    apart = float(np.abs(np.asarray(found) - np.asarray(x)[:LOOPED]).max())
    return (
        f"{LANES} programs in a batch: {1e6 * best / LANES:.3g} us each ({solved} solved, first call {first:.3g} s); "
        f"SLSQP one by one: {1e6 * each:.3g} us each, {each * LANES / best:.3g} times as long; "
        f"largest difference of x: {apart:.1e}"
    )


def run(arguments) -> None:
    """Compare, print as it goes, then the table; `arguments` of the command line, None for all programs or solvers."""
    jax.config.update("jax_enable_x64", True)
    if arguments.cache:
        jax.config.update("jax_compilation_cache_dir", arguments.cache)
    programs, solvers = arguments.programs or list(PROGRAMS), arguments.solvers or list(PEERS)
    rows = compare(programs, solvers, arguments.repeats, arguments.limit)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n")
    print(summary(rows))
    if arguments.batch:
        print(batch(arguments.repeats))
