"""Optimal transport of small size, as a linear or quadratic program."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.options import Options
from convexjax.problems.arguments import floating, require_shape
from convexjax.problems.qp import solve_qp
from convexjax.solution import Solution


def optimal_transport(
    cost: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    smoothing: float | jax.Array | None = None,
    options: Options | None = None,
) -> Solution:
    """How to move goods at the least cost.

        minimise    sum_ij C_ij X_ij + smoothing/2 sum_ij X_ij^2
        subject to  X >= 0,   sum_j X_ij = a_i,   sum_i X_ij = b_j

    Arguments:
        cost: (n, m), C.
        a, b: (n,) and (m,), nonnegative with equal sums, else PRIMAL_INFEASIBLE.
        smoothing: positive, makes the plan differentiable in the cost; None for the linear program, whose plan jumps.
        options: see `Options`.

    Returns:
        `Solution` with the plan `x` (n, m), `y` (n + m,), minus the prices at the sources and the targets, `z_lb`
        (n, m), `objective` (the derivative of it in the cost is the plan), `status`, `info`. Dense: for n m up to some
        hundreds.

    >>> from convexjax import layers
    >>> moved = layers.optimal_transport([[0.0, 1.0], [1.0, 0.0]], [0.7, 0.3], [0.5, 0.5])
    >>> print(abs(moved.x.round(3)), moved.objective.round(3))
    [[0.5 0.2]
     [0.  0.3]] 0.2
    """
    cost, a, b = floating(cost=cost, a=a, b=b)
    require_shape("cost", cost, (None, None))
    n, m = cost.shape
    require_shape("a", a, (n,), "one entry per row of cost")
    require_shape("b", b, (m,), "one entry per column of cost")
    if smoothing is not None and not isinstance(smoothing, jax.core.Tracer) and not smoothing > 0:
        raise ValueError(f"smoothing must be positive or None, got {smoothing!r}.")
    sums = np.concatenate([np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))])
    P = None if smoothing is None else jnp.asarray(smoothing, cost.dtype) * jnp.eye(n * m, dtype=cost.dtype)
    sums, right = jnp.asarray(sums, cost.dtype), jnp.concatenate([a, b])
    found = solve_qp(P, cost.ravel(), A=sums, b=right, lb=jnp.zeros((), cost.dtype), options=options)
    return replace(found, x=found.x.reshape(n, m), z_lb=found.z_lb.reshape(n, m))
