"""Proximal and projected gradient: losses with a term or a set that is not smooth but simple.

A proximal map of a convex function g is `prox(v, step) = argmin_x g(x) + |x - v|^2 / (2 step)`; that of a set is the
projection onto it. `minimise` is the accelerated method with all data, `transformation` turns any optimizer of optax
into a stochastic one for `training.fit`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from convexjax.learn.lbfgs import Minimum, ended, largest
from convexjax.linear_algebra import vary_like
from convexjax.problems.arguments import floating_tree

# ----------------------------------------------------------------------------- proximal maps


def lasso(penalty: float | jax.Array) -> Callable:
    """That of penalty sum_j |x_j|, over all entries of a pytree: they move towards zero by penalty times step."""

    def prox(v, step):
        shrink = lambda v: jnp.sign(v) * jnp.maximum(jnp.abs(v) - (penalty * step).astype(v.dtype), 0)
        return jax.tree.map(shrink, v)

    return prox


def group_lasso(penalty: float | jax.Array, axis: int | Sequence[int] = 0) -> Callable:
    """That of penalty times the sum of the norms of groups: the entries along `axis` of an array are a group. For the
    weights (outputs, inputs) of a layer `axis=0` makes inputs zero as a whole."""

    def prox(v, step):
        def shrink(v):
            size = jnp.sqrt(jnp.sum(v * v, axis, keepdims=True))
            lost = (penalty * step).astype(v.dtype) / jnp.where(size > 0, size, 1)
            return jnp.where(size > 0, v * jnp.maximum(1 - lost, 0), 0)

        return jax.tree.map(shrink, v)

    return prox


def nuclear_norm(penalty: float | jax.Array) -> Callable:
    """That of penalty times the sum of the singular values of matrices: these move towards zero."""

    def prox(v, step):
        def shrink(v):
            U, s, Vt = jnp.linalg.svd(v, full_matrices=False)
            return (U * jnp.maximum(s - (penalty * step).astype(v.dtype), 0)) @ Vt

        return jax.tree.map(shrink, v)

    return prox


def projection(onto: Callable) -> Callable:
    """That of a set, from the projection `onto(x)` of arrays: `layers.simplex`, `projection_l2_ball` and others of
    `optax.projections`, or `cone.project` of a convexjax cone."""
    return lambda v, step: jax.tree.map(onto, v)


# ----------------------------------------------------------------------------- methods


def minimise(
    smooth: Callable,
    prox: Callable,
    start: Any,
    *,
    accelerated: bool = True,
    tolerance: float | jax.Array = 1e-6,
    max_iters: int | jax.Array = 1000,
) -> Minimum:
    """A point from which no proximal step leads away.

        minimise    f(params) + g(params)

    Arguments:
        smooth: f, of a pytree like `start` to a number, differentiable.
        prox: the proximal map `prox(v, step)` of g, such as `lasso(0.1)`.
        start: where to begin, any pytree.
        accelerated: with momentum, restarted where it leads uphill.
        tolerance: of the largest entry of (params - prox(params - step gradient)) / step.
        max_iters: most steps.

    Returns:
        `Minimum`: `value` is f alone and `gradient` the largest entry above. SOLVED, if f is convex, is a minimum.

    Source: Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm", 2009, with backtracking; O'Donoghue
    and Candes, "Adaptive restart for accelerated gradient schemes", 2015.

    >>> import jax.numpy as jnp
    >>> from convexjax import learn
    >>> f = lambda x: jnp.sum((x - jnp.array([3.0, 0.2])) ** 2) / 2
    >>> found = learn.proximal.minimise(f, learn.proximal.lasso(1.0), jnp.zeros(2))
    >>> print(f"{found.params[0]:.3f} {found.params[1]:.3f}", int(found.status))
    2.000 0.000 1
    """
    start = floating_tree("start", start)
    dtype = jax.tree.leaves(start)[0].dtype
    inner, slack = optax.tree.vdot, 10 * jnp.finfo(dtype).eps

    def step_from(y, rate):
        """The proximal step with a rate that a quadratic bound allows, halved until it does."""
        value, slope = jax.value_and_grad(smooth)(y)

        def trial(rate):
            x = prox(optax.tree.add_scale(y, -rate, slope), rate)
            d = optax.tree.sub(x, y)
            bound = value + inner(slope, d) + inner(d, d) / (2 * rate)
            return x, smooth(x) <= bound + slack * jnp.abs(value)

        going = lambda state: ~state[2] & (state[0] > jnp.finfo(dtype).tiny)
        halve = lambda state: (state[0] / 2, *trial(state[0] / 2))
        rate, x, _ = jax.lax.while_loop(going, halve, (rate, *trial(rate)))
        return rate, x

    def turn(state):
        count, x, y, t, rate, _ = state
        rate, new = step_from(y, rate)
        residual = optax.tree.scale(1 / rate, optax.tree.sub(y, new))
        moved = optax.tree.sub(new, x)
        uphill = inner(residual, moved) > 0
        t = jnp.where(uphill, 1, t)
        following = (1 + jnp.sqrt(1 + 4 * t**2)) / 2 if accelerated else t
        y = optax.tree.add_scale(new, (t - 1) / following, moved)
        # rates may grow again
        return count + 1, new, y, following, rate * 1.1, largest(residual)

    going = lambda state: (state[0] < max_iters) & (state[-1] > tolerance / 2)
    one = jnp.ones((), dtype)
    state = jnp.int32(0), start, start, one, one, jnp.array(jnp.inf, dtype)
    state = vary_like(jax.eval_shape(smooth, start), state)
    count, x, _, _, rate, _ = jax.lax.while_loop(going, turn, state)
    # the point itself is what is judged, not the one that momentum led to
    value, slope = jax.value_and_grad(smooth)(x)
    rate = rate / 2
    moved = optax.tree.sub(x, prox(optax.tree.add_scale(x, -rate, slope), rate))
    return ended(x, value, largest(moved) / rate, count, tolerance)


def transformation(
    optimizer: optax.GradientTransformation, prox: Callable, rate: float | optax.Schedule
) -> optax.GradientTransformation:
    """The optimizer with a proximal map after each step, for `training.fit`: stochastic proximal gradient, and
    projected gradient with `projection`.

    Arguments:
        optimizer: of optax, such as `optax.sgd(rate)`.
        prox: as in `minimise`.
        rate: the step of the proximal map, the learning rate of the optimizer, or its schedule.

    >>> import jax.numpy as jnp
    >>> import optax
    >>> from convexjax import layers, learn
    >>> onto = learn.proximal.projection(layers.simplex)
    >>> optimizer = learn.proximal.transformation(optax.sgd(0.5), onto, 0.5)
    >>> params = jnp.array([0.5, 0.5])
    >>> updates, _ = optimizer.update(jnp.array([-2.0, 0.0]), optimizer.init(params), params)
    >>> print(optax.apply_updates(params, updates))
    [1. 0.]
    """
    inner = optax.with_extra_args_support(optimizer)

    def init(params):
        return jnp.int32(0), inner.init(params)

    def update(slope, state, params=None, **extra):
        if params is None:
            raise ValueError("a proximal step needs the parameters: update(slope, state, params).")
        count, moments = state
        updates, moments = inner.update(slope, moments, params, **extra)
        size = jnp.asarray(rate(count) if callable(rate) else rate, jax.tree.leaves(params)[0].dtype)
        target = prox(optax.apply_updates(params, updates), size)
        return optax.tree.sub(target, params), (count + 1, moments)

    return optax.GradientTransformationExtraArgs(init, update)
