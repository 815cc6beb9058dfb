"""Damped Newton's method for generalised linear models, with a proof of optimality.

    minimise    F(theta) = sum_i w_i loss(x_i'theta, y_i) + 1/2 sum_j penalty_j theta_j^2                          (1)

theta (d, q), the loss smooth and convex in the scores x_i'theta (q,). Source: Boyd and Vandenberghe, "Convex
Optimization", 2004, section 9.5. The Newton decrement proves the distance from the optimum where the Hessian varies
little (self-concordance); `gradient` is the largest entry of F's gradient, relative to the size of its terms.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax.linear_algebra import vary_like
from convexjax.solution import Status

MAX_ITERS = 100
# Step lengths tried at once.
STEPS = tuple(0.5**i for i in range(12))


class Problem(NamedTuple):
    """Data of (1): rows X (n, d), of any pytree y with n rows, weights (n,), penalties (d,) of the coefficients."""

    X: jax.Array
    y: jax.Array
    weights: jax.Array
    penalty: jax.Array


class Loss(NamedTuple):
    """A loss (n,) of scores (n, q) and y, and whether scores are a direction in which the weighted sum never increases
    but decreases for ever (then there is no finite optimum), up to rounding errors of scores of the sizes (n, q). Plain
    functions: they are compared by identity."""

    value: Callable
    recedes: Callable
    # A bound (n,) of the second derivatives of a loss of one score that makes the step of `hessian` a descent from any
    # point: for a loss whose second derivative jumps.
    majorant: Callable | None = None


def objective(loss: Loss, theta: jax.Array, problem: Problem) -> jax.Array:
    """F."""
    X, y, weights, penalty = problem
    fixed = _gauge(problem, theta) @ jnp.sum(theta, 1) ** 2 / 2
    return weights @ loss.value(X @ theta, y) + jnp.sum(penalty[:, None] * theta**2) / 2 + fixed


def _gauge(problem: Problem, theta: jax.Array) -> jax.Array:
    """gamma, one per coefficient. Several scores enter a loss by their differences only, so that the same may be added
    to all: gamma/2 times the square of each coefficient's sum over the scores makes that sum zero, at no cost."""
    if theta.shape[1] == 1:
        return jnp.zeros(theta.shape[0], theta.dtype)
    return jax.lax.stop_gradient(problem.weights @ problem.X**2)


def gradient(loss: Loss, theta: jax.Array, problem: Problem) -> jax.Array:
    """Its gradient (d, q), through that of the loss in the scores."""
    X, y, weights, penalty = problem
    fixed = (_gauge(problem, theta) * jnp.sum(theta, 1))[:, None]
    return X.T @ (weights[:, None] * _slope(loss, X @ theta, y)) + penalty[:, None] * theta + fixed


def _slope(loss: Loss, scores, y):
    return jax.grad(lambda scores: jnp.sum(loss.value(scores, y)))(scores)


def _curvature(loss: Loss, scores, y):
    """The second derivatives (n, q, q) of the loss in the scores."""
    directions = jnp.eye(scores.shape[1], dtype=scores.dtype)
    slope = lambda scores: _slope(loss, scores, y)
    along = lambda v: jax.jvp(slope, (scores,), (jnp.broadcast_to(v, scores.shape),))[1]
    return jax.vmap(along, out_axes=2)(directions)


def hessian(loss: Loss, theta: jax.Array, problem: Problem, majorant: Callable | None = None) -> jax.Array:
    """The Hessian (d q, d q), or that with a majorant of the second derivatives."""
    X, y, weights, penalty = problem
    (d, q), scores = theta.shape, X @ theta
    H = majorant(scores, y)[:, None, None] if majorant else _curvature(loss, scores, y)
    block = lambda h: X.T @ ((weights * h)[:, None] * X)
    blocks = jax.vmap(jax.vmap(block, 1, 2), 2, 3)(H)  # (d, d, q, q)
    blocks = blocks + jnp.diag(penalty)[:, :, None, None] * jnp.eye(q, dtype=X.dtype)
    blocks = blocks + jnp.diag(_gauge(problem, theta))[:, :, None, None]
    return jnp.transpose(blocks, (0, 2, 1, 3)).reshape(d * q, d * q)


def minimise(loss: Loss, problem: Problem, start: jax.Array, tolerance: jax.Array) -> tuple:
    """(theta, status, relative size of the gradient, iterations). DUAL_INFEASIBLE: theta is a direction without end
    (`Loss.recedes`), of size one. Not to be differentiated: see `attach`."""
    X, y, weights, penalty = problem
    dtype = X.dtype
    eps = jnp.finfo(dtype).eps
    steps = jnp.asarray(STEPS, dtype)

    def error(theta):
        """The gradient, each entry relative to the sum of the sizes of its terms, here or at scores of zero, or to what
        that sum would be if all rows had the mean slope there: a column may meet rows only that have none."""
        slope = weights[:, None] * _slope(loss, X @ theta, y)
        terms = jnp.abs(X).T @ jnp.abs(slope) + jnp.abs(penalty[:, None] * theta)
        slope_at_start = jnp.abs(weights[:, None] * _slope(loss, jnp.zeros_like(slope), y))
        mean = jnp.sum(slope_at_start, 0) / jnp.sum(weights)
        at_start = jnp.maximum(jnp.abs(X).T @ slope_at_start, (weights @ jnp.abs(X))[:, None] * mean)
        size = jnp.maximum(terms, at_start)
        return jnp.max(jnp.abs(gradient(loss, theta, problem)) / jnp.where(size > 0, size, 1), initial=0)

    def step(state):
        count, theta, value, _, _, _, best, _ = state
        g = gradient(loss, theta, problem).reshape(-1)
        directions = [_newton_direction(hessian(loss, theta, problem), g)]
        if loss.majorant is not None:
            directions.append(_newton_direction(hessian(loss, theta, problem, loss.majorant), g))
        directions = jnp.stack(directions)[:, None] * steps[:, None]
        moved = theta + directions.reshape(-1, *theta.shape)
        values = jax.vmap(lambda theta: objective(loss, theta, problem))(moved)
        decrease = -(directions @ g).reshape(-1)
        # rounding errors of F hide the last decreases: there the full step is as good
        noise = 10 * eps * (1 + jnp.abs(value))
        fine = values <= value - 1e-4 * decrease + noise  # false for NaN
        # the longest step that is fine, or of several directions the lowest value
        lengths = jnp.argmax(fine.reshape(-1, len(STEPS)), 1) + len(STEPS) * jnp.arange(len(values) // len(STEPS))
        chosen = lengths[jnp.argmin(jnp.where(fine[lengths], values[lengths], jnp.inf))]
        moves = jnp.any(fine)
        new = jnp.where(moves, moved[chosen], theta)
        direction = new - theta
        found = error(new)
        ray, receding = _recession(loss, problem, direction)
        stalled = ~moves | ((found >= best) & (decrease[chosen] < noise))
        return (
            count + 1,
            new,
            jnp.where(moves, values[chosen], value),
            found,
            receding,
            stalled,
            jnp.minimum(best, found),
            ray,
        )

    def unfinished(state):
        count, _, _, found, receding, stalled, *_ = state
        return (count < MAX_ITERS) & (found > eps) & ~receding & ~stalled

    value, found = objective(loss, start, problem), error(start)
    false = jnp.array(False)
    state = jnp.int32(0), start, value, found, false, false, found, jnp.zeros_like(start)
    state = jax.lax.while_loop(unfinished, step, vary_like((problem, start), state))
    count, theta, _, found, receding, _, _, ray = state
    status = jnp.where(found <= tolerance, jnp.int32(Status.SOLVED), jnp.int32(Status.MAX_ITERATIONS))
    status = jnp.where(jnp.isfinite(found), status, jnp.int32(Status.NUMERICAL_ERROR))
    status = jnp.where(receding, jnp.int32(Status.DUAL_INFEASIBLE), status)
    return jnp.where(receding, ray, theta), status, found, count


def _newton_direction(H: jax.Array, g: jax.Array) -> jax.Array:
    return -jax.scipy.linalg.cho_solve((_cholesky(H), True), g)


def _recession(loss: Loss, problem: Problem, direction: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The direction of size one without the coefficients that a penalty holds, and whether it proves that there is no
    finite optimum: Newton's steps follow such a direction once they are far out."""
    ray = jnp.where(problem.penalty[:, None] > 0, 0, direction)
    size = jnp.linalg.norm(ray)
    ray = ray / jnp.where(size > 0, size, 1)
    sizes = jnp.abs(problem.X) @ jnp.abs(ray)
    return ray, (size > 0) & loss.recedes(problem.X @ ray, sizes, problem.y, problem.weights)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def attach(loss: Loss, theta: jax.Array, problem: Problem) -> jax.Array:
    """The minimiser theta as a function of the problem, with derivatives of any order (implicit function theorem)."""
    return theta


@attach.defjvp
def _attach_jvp(loss, primals, tangents):
    (theta, problem), (_, dproblem) = primals, tangents
    H = hessian(loss, *jax.lax.stop_gradient((theta, problem)))
    factor = _cholesky(H)

    def solve(_, right):
        inverse = lambda v: jax.scipy.linalg.cho_solve((factor, True), v)
        found = inverse(right)
        return found + inverse(right - H @ found)

    theta = attach(loss, theta, problem)
    change = jax.jvp(lambda problem: gradient(loss, theta, problem), (problem,), (dproblem,))[1]
    along = lambda v: jax.jvp(lambda theta: gradient(loss, theta, problem), (theta,), (v.reshape(theta.shape),))[1]
    flat = lambda v: along(v).reshape(-1)
    return theta, jax.lax.custom_linear_solve(flat, -change.reshape(-1), solve, symmetric=True).reshape(theta.shape)


def _cholesky(H: jax.Array) -> jax.Array:
    """The factor of H, shifted so little that only singular directions notice, whatever the units of the variables."""
    n = H.shape[0]
    size = jnp.sqrt(jnp.diagonal(H))
    size = jnp.where(size > 0, size, 1)
    shift = 10 * n * jnp.finfo(H.dtype).eps * jnp.eye(n, dtype=H.dtype)
    return size[:, None] * jnp.linalg.cholesky(H / size / size[:, None] + shift, symmetrize_input=False)
