"""Sums of squares of functions of a pytree, for networks of up to some thousand parameters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from convexjax.learn.lbfgs import Minimum, ended
from convexjax.linear_algebra import vary_like
from convexjax.problems.arguments import floating_tree


def minimise(
    residuals: Callable,
    start: Any,
    *,
    damping: float | jax.Array | None = None,
    tolerance: float | jax.Array = 1e-6,
    max_iters: int | jax.Array = 100,
) -> Minimum:
    """A stationary point of a sum of squares, by the method of Levenberg and Marquardt.

        minimise    1/2 |r(params)|^2

    Each step d solves (J'J + damping I) d = -J'r with the Jacobian J; a step that lowers the sum is taken and the
    damping falls, else it rises. `damping=0` is the method of Gauss and Newton: every step is taken undamped.

    Arguments:
        residuals: r, from a pytree like `start` to an array, differentiable.
        start: where to begin.
        damping: at first, relative to the mean of the diagonal of J'J; None for 1e-3, 0 for none ever (static).
        tolerance: of the largest entry of the gradient J'r.
        max_iters: most steps, rejected ones included.

    Returns:
        `Minimum`, `value` is the function above. Its Jacobian is dense: one entry per residual and parameter.

    Source: Marquardt, 1963; the rule for the damping: Nielsen, "Damping parameter in Marquardt's method", 1999.

    >>> import jax.numpy as jnp
    >>> from convexjax import learn
    >>> t = jnp.linspace(0, 2, 9)
    >>> misfit = lambda p: p["a"] * jnp.exp(-p["b"] * t) - 3 * jnp.exp(-1.5 * t)
    >>> found = learn.gauss_newton.minimise(misfit, {"a": jnp.array(1.0), "b": jnp.array(1.0)})
    >>> print(f"{found.params['a']:.3f} {found.params['b']:.3f}")
    3.000 1.500
    """
    x, back = ravel_pytree(floating_tree("start", start))
    flat = lambda x: jnp.ravel(residuals(back(x)))
    plain = isinstance(damping, int | float) and damping == 0
    if not isinstance(damping, jax.core.Tracer) and damping is not None and damping < 0:
        raise ValueError(f"damping must be nonnegative, got {damping!r}.")
    one = jnp.ones((), x.dtype)
    eps = jnp.finfo(x.dtype).eps

    def linearised(x):
        r, J = flat(x), jax.jacfwd(flat)(x) if x.size <= jax.eval_shape(flat, x).size else jax.jacrev(flat)(x)
        return r @ r / 2, J.T @ r, J.T @ J

    def turn(state):
        count, x, value, slope, H, level, growth = state
        size = jnp.mean(jnp.diagonal(H))
        # a trace of damping keeps the factor of a singular matrix finite
        shift = jnp.maximum(0 * level if plain else level, x.size * eps) * jnp.where(size > 0, size, 1)
        factor = jnp.linalg.cholesky(H + shift * jnp.eye(x.size, dtype=x.dtype))
        d = -jax.scipy.linalg.cho_solve((factor, True), slope)
        new_value, new_slope, new_H = linearised(x + d)
        expected = -(slope @ d + d @ (H @ d) / 2)
        gain = (value - new_value) / jnp.where(expected > 0, expected, 1)
        better = jnp.isfinite(new_value) & ((gain > 0) | plain)
        old, new = (x, value, slope, H), (x + d, new_value, new_slope, new_H)
        kept = jax.tree.map(lambda new, old: jnp.where(better, new, old), new, old)
        fallen = level * jnp.maximum(1 / 3, 1 - (2 * gain - 1) ** 3)
        # beyond 1 / eps a step moves nothing any more
        level = jnp.where(better, jnp.maximum(fallen, eps), jnp.minimum(level * growth, 1 / eps))
        return count + 1, *kept, level, jnp.where(better, 2 * one, 2 * growth)

    def going(state):
        count, _, value, slope, _, level, _ = state
        moving = (count < max_iters) & (jnp.max(jnp.abs(slope)) > tolerance) & jnp.isfinite(value)
        return moving & (level < 0.5 / eps)

    first = jnp.asarray(1e-3 if damping is None else damping, x.dtype)
    begin = linearised(x)
    state = vary_like(begin, (jnp.int32(0), x, *begin, first, 2 * one))
    count, x, value, slope, *_ = jax.lax.while_loop(going, turn, state)
    return ended(back(x), value, jnp.max(jnp.abs(slope)), count, tolerance)
