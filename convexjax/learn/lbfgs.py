"""Smooth functions of any pytree minimised by the limited-memory BFGS method of optax."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from convexjax.linear_algebra import vary_like
from convexjax.problems.arguments import floating_tree
from convexjax.pytrees import pytree
from convexjax.solution import Status


@pytree
@dataclass(frozen=True, kw_only=True)
class Minimum:
    """Where a method ended. SOLVED: the largest entry of the gradient is at most the tolerance."""

    params: Any
    value: Any
    gradient: Any  # its largest entry
    num_iters: Any
    status: Any  # int32, a `Status`


def largest(tree: Any) -> jax.Array:
    """The largest absolute value in a pytree."""
    return optax.tree.norm(tree, jnp.inf)


def ended(params, value, gradient, count, tolerance) -> Minimum:
    """The `Minimum`, labelled by its gradient."""
    finite = jnp.isfinite(value) & jnp.isfinite(gradient)
    status = jnp.where(gradient <= tolerance, jnp.int32(Status.SOLVED), jnp.int32(Status.MAX_ITERATIONS))
    status = jnp.where(finite, status, jnp.int32(Status.NUMERICAL_ERROR))
    return Minimum(params=params, value=value, gradient=gradient, num_iters=count, status=status)


def minimise(
    function: Callable, start: Any, *, tolerance: float | jax.Array = 1e-5, max_iters: int | jax.Array = 500
) -> Minimum:
    """A stationary point of a smooth function of a pytree.

        minimise    function(params)

    Arguments:
        function: of a pytree like `start` to a number, differentiable.
        start: where to begin.
        tolerance: of the largest entry of the gradient.
        max_iters: most steps.

    Returns:
        `Minimum`. SOLVED says that the gradient is small, no more: whether the point is a minimum, and the least one,
        follows only if the function is convex. MAX_ITERATIONS, NUMERICAL_ERROR: no claim.

    Source: Liu and Nocedal, 1989, as `optax.lbfgs`.

    >>> import jax.numpy as jnp
    >>> from convexjax import learn
    >>> rosenbrock = lambda p: (1 - p["x"]) ** 2 + 100 * (p["y"] - p["x"] ** 2) ** 2
    >>> found = learn.lbfgs.minimise(rosenbrock, {"x": jnp.array(-1.0), "y": jnp.array(2.0)}, tolerance=1e-3)
    >>> print(found.params["x"].round(2), int(found.status))
    1.0 1
    """
    start = floating_tree("start", start)
    method = optax.lbfgs()
    value_and_gradient = optax.value_and_grad_from_state(function)

    def step(state):
        count, params, moments, _, _, before = state
        value, slope = value_and_gradient(params, state=moments)
        updates, moments = method.update(slope, moments, params, value=value, grad=slope, value_fn=function)
        new = optax.apply_updates(params, updates)
        slope = optax.tree.get(moments, "grad")
        reached = optax.tree.get(moments, "value")
        # a line search that finds no descent twice has met the rounding errors
        return count + 1, new, moments, reached, largest(slope), jnp.where(reached < value, 0, before + 1)

    def going(state):
        count, _, _, value, gradient, without = state
        return (count < max_iters) & (gradient > tolerance) & jnp.isfinite(value) & (without < 2)

    value, slope = jax.value_and_grad(function)(start)
    state = jnp.int32(0), start, method.init(start), value, largest(slope), jnp.int32(0)
    state = vary_like((value, slope), state)
    count, params, _, value, gradient, _ = jax.lax.while_loop(going, step, state)
    return ended(params, value, gradient, count, tolerance)
