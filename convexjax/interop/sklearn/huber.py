"""Huber's regression together with the scale of the residuals (Huber, "Robust Statistics", 1981, section 7.7).

    minimise    F(theta, s) = sum_i w_i (s + h(r_i / s) s) + alpha |beta|^2,        r = y - X theta,   s > 0         (1)

F is jointly convex. For a fixed s it is, times s, Huber's regression with threshold epsilon s, which Newton's method
solves; the minimum over theta is a convex function of s with the slope

    sum_i w_i (1 - min(r_i^2 / s^2, epsilon^2)),                                                                    (2)

so that s is a root in one variable. Data that a theta fits have none: s is at least `FLOOR` times the root of the mean
of (y - mean)^2, below which rounding errors of the residuals would decide.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax.learn import newton
from convexjax.learn.model import LinearModel
from convexjax.learn.regression import HUBER
from convexjax.linear_algebra import vary_like
from convexjax.solution import Status

MAX_ITERS = 100
FLOOR = {"float64": 1e-6, "float32": 1e-3}


class State(NamedTuple):
    """s between low (zero: none found yet) and high in logarithms, with minus the mean of (2) there."""

    num_iters: jax.Array
    s: jax.Array
    theta: jax.Array
    status: jax.Array
    value: jax.Array  # at s
    low: jax.Array
    high: jax.Array
    value_low: jax.Array  # positive; NaN: there is no low yet
    value_high: jax.Array


def fit_with_scale(X, y, w, intercept: bool, epsilon, alpha, tolerance) -> tuple[LinearModel, jax.Array]:
    """The model and s. SOLVED: the gradient in theta is at most the tolerance, relative to its terms, and so is the
    mean of (2), unless s is its lower bound and (2) is positive."""
    (n, d), dtype = X.shape, X.dtype
    eps, total = jnp.finfo(dtype).eps, jnp.sum(w)
    mean = w @ X / total if intercept else jnp.zeros(d, dtype)
    y_mean = w @ y / total if intercept else jnp.zeros((), dtype)
    A = jnp.concatenate([X - mean, jnp.full((n, 1), intercept, dtype)], 1)
    b = y - y_mean
    penalised = jnp.concatenate([jnp.ones(d, dtype), jnp.zeros(1, dtype)])

    def at(s, theta):
        """(theta, status, minus the mean of (2)) for this s."""
        targets = jnp.stack([b, jnp.broadcast_to(epsilon * s, b.shape)], 1)
        problem = newton.Problem(A, targets, w, 2 * alpha * s * penalised)
        theta, status, _, _ = newton.minimise(HUBER, problem, theta, tolerance)
        z = (b - A @ theta[:, 0]) / s
        return theta, status, w @ jnp.minimum(z * z, epsilon**2) / total - 1

    # at s = |b| / (sum w)^(1/2) the mean of (2) is not negative: min(r^2, (epsilon s)^2) is at most the loss, and that
    # of the best theta at most that of theta = 0
    largest = jnp.sqrt(w @ (b * b) / total)
    largest = jnp.where(largest > 0, largest, 1)
    floor = FLOOR[dtype.name] * largest

    def step(state: State) -> State:
        halved = state.high - jnp.log(jnp.asarray(2, dtype))
        slope = (state.value_high - state.value_low) / (state.high - state.low)
        t = jnp.where(jnp.isnan(state.value_low), halved, state.high - state.value_high / slope)
        t = jnp.maximum(t, jnp.log(floor))
        s = jnp.exp(t)
        theta, status, value = at(s, state.theta)
        above = value <= 0
        # of an end that stays twice the value counts half (the Illinois rule): then it moves
        low_stays, high_stays = above & (state.value <= 0), ~above & (state.value > 0)
        return State(
            state.num_iters + 1,
            s,
            theta,
            status,
            value,
            jnp.where(above, state.low, t),
            jnp.where(above, t, state.high),
            jnp.where(above, jnp.where(low_stays, state.value_low / 2, state.value_low), value),
            jnp.where(above, value, jnp.where(high_stays, state.value_high / 2, state.value_high)),
        )

    def at_floor(state: State):
        return (state.s <= 1.001 * floor) & (state.value < 0)

    def unfinished(state: State):
        wide = jnp.isnan(state.value_low) | (state.high - state.low > 4 * eps)
        return (state.num_iters < MAX_ITERS) & (jnp.abs(state.value) > 20 * eps) & wide & ~at_floor(state)

    theta, status, value = at(largest, jnp.zeros((d + 1, 1), dtype))
    t, nan = jnp.log(largest), jnp.full((), jnp.nan, dtype)
    start = State(jnp.int32(0), largest, theta, status, value, t, t, nan, value)
    state = jax.lax.while_loop(unfinished, step, vary_like((A, b, w), start))
    fine = (jnp.abs(state.value) <= tolerance) | at_floor(state)
    status = jnp.where(fine, state.status, jnp.int32(Status.MAX_ITERATIONS))
    beta, offset = state.theta[:d, 0], state.theta[d, 0]
    r = b - A @ state.theta[:, 0]
    z = jnp.abs(r) / state.s
    losses = jnp.where(z <= epsilon, z * z, epsilon * (2 * z - epsilon))
    objective = state.s * (total + w @ losses) + alpha * beta @ beta
    model = LinearModel(
        coefficients=beta,
        intercept=y_mean + offset - mean @ beta if intercept else jnp.zeros((), dtype),
        objective=objective,
        status=status,
    )
    return model, state.s
