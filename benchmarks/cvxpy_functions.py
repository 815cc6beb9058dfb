"""Problems of CVXPY as differentiable functions, beside cvxpylayers: time of a batch, forward and backward, and whether
values and gradients are right.

Objectives are judged by Clarabel at tolerance 1e-11. Points of an interior-point method at the tolerance of its gap are
good to the root of it only, so values are judged by points that Newton steps have polished, to the last digits, and
gradients by central differences of those.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

import numpy as np


class Case(NamedTuple):
    """A problem, and a function of a random generator that draws values of its parameters."""

    problem: object
    parameters: list
    variables: list
    draw: Callable
    gp: bool = False


def cases() -> dict[str, Case]:
    """Ten problems of the kinds that layers are used for."""
    import cvxpy as cp

    found = {}
    x, A, b = cp.Variable(10), cp.Parameter((6, 10)), cp.Parameter(6)
    problem = cp.Problem(cp.Minimize(0.5 * cp.norm1(A @ x - b)), [x >= 0, x <= 1])
    found["absolute residuals"] = Case(problem, [A, b], [x], lambda g: [g.normal(size=(6, 10)), 3 * g.normal(size=6)])

    found["transport LP"] = _transport(cp)

    x, y = cp.Variable(8), cp.Parameter(8)
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(x - y)), [cp.sum(x) == 1, x >= 0])
    found["simplex"] = Case(problem, [y], [x], lambda g: [g.normal(size=8)])

    x, Q, q, G, h = cp.Variable(8), cp.Parameter((8, 8)), cp.Parameter(8), cp.Parameter((10, 8)), cp.Parameter(10)
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(Q @ x) + q @ x), [G @ x <= h])
    draw = lambda g: [np.eye(8) + 0.3 * g.normal(size=(8, 8)), g.normal(size=8), g.normal(size=(10, 8)), g.random(10)]
    found["dense QP"] = Case(problem, [Q, q, G, h], [x], draw)

    x, y, low, high = cp.Variable(5), cp.Parameter(5), cp.Parameter(), cp.Parameter()
    problem = cp.Problem(cp.Minimize(cp.sum_squares(x - y) + 0.1 * cp.norm(x)), [cp.norm(x) <= high, x[0] >= low])
    draw = lambda g: [2 * g.normal(size=5), 0.1 * g.random(), 1 + g.random()]
    found["norm ball"] = Case(problem, [y, low, high], [x], draw)

    w, mu, root = cp.Variable(6), cp.Parameter(6), cp.Parameter((6, 6))
    problem = cp.Problem(cp.Maximize(mu @ w - cp.norm(root @ w)), [cp.sum(w) == 1, w >= 0])
    draw = lambda g: [g.random(6), np.eye(6) + 0.2 * g.normal(size=(6, 6))]
    found["robust portfolio"] = Case(problem, [mu, root], [w], draw)

    X, C = cp.Variable((4, 4), symmetric=True), cp.Parameter((4, 4))
    problem = cp.Problem(cp.Minimize(cp.sum_squares(X - C)), [X >> 0, cp.trace(X) == 1])
    found["SDP"] = Case(problem, [C], [X], lambda g: [g.normal(size=(4, 4))])

    p, s = cp.Variable(6), cp.Parameter(6)
    problem = cp.Problem(cp.Minimize(s @ p - cp.sum(cp.entr(p))), [cp.sum(p) == 1, p[0] + p[1] >= 0.5])
    found["entropy"] = Case(problem, [s], [p], lambda g: [g.normal(size=6)])

    X, S = cp.Variable((3, 3), symmetric=True), cp.Parameter((3, 3))
    problem = cp.Problem(cp.Minimize(cp.trace(S @ X) - cp.log_det(X)), [cp.trace(X) <= 2])
    draw = lambda g: [np.cov(g.normal(size=(3, 8))) + np.eye(3)]
    found["log det"] = Case(problem, [S], [X], draw)

    h, w, d = (cp.Variable(pos=True) for _ in range(3))
    wall, floor, ratio = (cp.Parameter(pos=True) for _ in range(3))
    problem = cp.Problem(cp.Maximize(h * w * d), [2 * (h * w + h * d) <= wall, w * d <= floor, h / w <= ratio])
    draw = lambda g: [100 * (1 + g.random()), 30 * (1 + g.random()), 0.5 + g.random()]
    found["geometric program"] = Case(problem, [wall, floor, ratio], [h, w, d], draw, True)
    return found


def _transport(cp) -> Case:
    """Three sources, four sinks."""
    X, cost, supply, demand = cp.Variable((3, 4)), cp.Parameter((3, 4)), cp.Parameter(3), cp.Parameter(4)
    constraints = [X >= 0, cp.sum(X, axis=1) <= supply, cp.sum(X, axis=0) >= demand]
    problem = cp.Problem(cp.Minimize(cp.sum(cp.multiply(cost, X))), constraints)
    draw = lambda g: [g.random((3, 4)), 2 + g.random(3), 0.5 + g.random(4)]
    return Case(problem, [cost, supply, demand], [X], draw)


def table(arguments: argparse.Namespace) -> list[list[str]]:
    """One row per problem and solver."""
    import jax

    jax.config.update("jax_enable_x64", True)
    rows = [["problem", "solver", "first (s)", "forward + backward (us a lane)", "value error", "gradient error"]]
    for name, case in cases().items():
        if arguments.names and name not in arguments.names:
            continue
        rng = np.random.default_rng(0)
        lanes = [case.draw(rng) for _ in range(arguments.lanes)]
        values = [np.stack(column) for column in zip(*lanes, strict=True)]
        weights = [rng.normal(size=variable.shape) for variable in case.variables]
        for solver, make in SOLVERS.items():
            rows.append([name, solver, *_measure(make, case, values, weights, arguments.repeats)])
            print("  ".join(rows[-1]), flush=True)
    return rows


def _measure(make: Callable, case: Case, values, weights, repeats: int) -> list[str]:
    start = time.perf_counter()
    try:
        run = make(case, weights)
        outputs, gradients = run(values)
    except Exception as error:  # a peer may fail in any way
        return [f"{type(error).__name__}", "-", "-", "-"]
    first, times = time.perf_counter() - start, []
    for _ in range(repeats):
        start = time.perf_counter()
        run(values)
        times.append(time.perf_counter() - start)
    value_error, gradient_error = _errors(case, values, weights, outputs, gradients)
    return [
        f"{first:.2f}",
        f"{1e6 * median(times) / len(values[0]):.0f}",
        f"{value_error:.0e}",
        f"{gradient_error:.0e}",
    ]


def _errors(case: Case, values, weights, outputs, gradients, lanes: int = 4) -> tuple[float, float]:
    """The largest relative errors over some lanes."""
    polished, value_error, gradient_error, step = _polished(case), 0.0, 0.0, 1e-5
    for lane in range(lanes):
        at = [value[lane] for value in values]
        wanted = polished(at)
        scale = 1 + max(np.abs(v).max() for v in wanted)
        differences = [np.abs(np.asarray(o)[lane] - v).max() for o, v in zip(outputs, wanted, strict=True)]
        value_error = max(value_error, max(differences) / scale)
        rng = np.random.default_rng(lane)
        direction = [rng.normal(size=value.shape) for value in at]
        moved = [polished([a + sign * step * d for a, d in zip(at, direction, strict=True)]) for sign in (1, -1)]
        loss = [sum(np.sum(w * v) for w, v in zip(weights, point, strict=True)) for point in moved]
        difference = (loss[0] - loss[1]) / (2 * step)
        slope = sum(np.sum(np.asarray(g)[lane] * d) for g, d in zip(gradients, direction, strict=True))
        gradient_error = max(gradient_error, abs(slope - difference) / (1 + abs(difference)))
    return float(value_error), float(gradient_error)


def _polished(case: Case) -> Callable:
    """Values of the variables to the last digits, if Clarabel agrees on the objective."""
    import cvxpy as cp
    import jax

    from convexjax import Options
    from convexjax.interop.cvxpy import from_cvxpy

    options = Options(polish=True, tolerance=1e-10)
    f = jax.jit(from_cvxpy(case.problem, case.parameters, case.variables, gp=case.gp, options=options))
    tight = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}

    def solve(values) -> list[np.ndarray]:
        solution = f(*values)
        for parameter, value in zip(case.parameters, values, strict=True):
            parameter.value = value
        objective = case.problem.solve(solver=cp.CLARABEL, gp=case.gp, **tight)
        if abs(float(solution.objective) - objective) > 1e-7 * (1 + abs(objective)):
            raise RuntimeError(f"objective {float(solution.objective)}, by Clarabel {objective}")
        return [np.asarray(value) for value in solution.x]

    return solve


def _convexjax(case: Case, weights, polish: bool = False):
    import jax

    from convexjax import Options
    from convexjax.interop.cvxpy import from_cvxpy

    options = Options(polish=polish)
    f = from_cvxpy(case.problem, case.parameters, case.variables, gp=case.gp, options=options)

    def loss(values):
        outputs = jax.vmap(f)(*values).x
        return sum((w * v).sum() for w, v in zip(weights, outputs, strict=True)), outputs

    both = jax.jit(jax.value_and_grad(loss, has_aux=True))

    def run(values):
        (_, outputs), gradients = jax.block_until_ready(both(values))
        return outputs, gradients

    return run


def _cvxpylayers(case: Case, weights):
    import jax
    from cvxpylayers.jax import CvxpyLayer

    layer = CvxpyLayer(case.problem, parameters=case.parameters, variables=case.variables, gp=case.gp)

    def loss(values):
        outputs = layer(*values)
        return sum((w * v).sum() for w, v in zip(weights, outputs, strict=True)), outputs

    def run(values):
        arrays = [jax.numpy.asarray(value) for value in values]
        (_, outputs), gradients = jax.block_until_ready(jax.value_and_grad(loss, has_aux=True)(arrays))
        return outputs, gradients

    return run


SOLVERS = {
    "convexjax": _convexjax,
    "convexjax, polished": partial(_convexjax, polish=True),
    "cvxpylayers": _cvxpylayers,
}
