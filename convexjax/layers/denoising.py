"""Total-variation denoising with weights that can be learnt."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.options import Options
from convexjax.problems.arguments import floating
from convexjax.problems.qp import solve_qp
from convexjax.solution import Solution


def total_variation(y: ArrayLike, weights: ArrayLike | float, *, options: Options | None = None) -> Solution:
    """The signal or image near y that changes little between neighbours, and at few places.

        minimise    1/2 |x - y|^2 + sum_e w_e |x_i - x_j|    over all pairs e = (i, j) of neighbours

    Solved by its dual, a quadratic program with bounds: x = y - D'u with |u_e| <= w_e and D the differences.

    Arguments:
        y: (n,), or (h, w) with neighbours beside and above each other.
        weights: nonnegative, a scalar or one per pair: (n - 1,); or for an image ((h - 1) w + h (w - 1),), the pairs
            above each other first, row by row.
        options: see `Options`.

    Returns:
        `Solution` with `x` like y, `z` the dual u, `objective` of the problem above, `status`, `info`. Dense: for some
        hundred pairs.

    >>> from convexjax import layers
    >>> print(layers.total_variation([0.0, 0.2, 3.0, 3.2], 0.3).x.round(2))
    [0.25 0.25 2.95 2.95]
    """
    y, weights = floating(y=y, weights=weights)
    if y.ndim not in (1, 2) or y.size < 2:
        raise ValueError(f"y has shape {y.shape}, expected a signal (n,) or an image (h, w).")
    D = jnp.asarray(_differences(y.shape), y.dtype)
    pairs = D.shape[0]
    if weights.shape not in ((), (pairs,)):
        raise ValueError(f"weights has shape {weights.shape}, expected () or ({pairs},): one per pair of neighbours.")
    w = jnp.broadcast_to(weights.astype(y.dtype), (pairs,))
    flat = y.ravel()
    # columns in units of the weights: |u_e / w_e| <= 1 is an interval also where a weight is zero
    rows = w[:, None] * D
    found = solve_qp(rows @ rows.T, -(rows @ flat), lb=-jnp.ones_like(w), ub=jnp.ones_like(w), options=options)
    x = flat - rows.T @ found.x
    objective = jnp.sum((x - flat) ** 2) / 2 + w @ jnp.abs(D @ x)
    return replace(found, x=x.reshape(y.shape), z=w * found.x, z_lb=None, z_ub=None, objective=objective)


def _differences(shape) -> np.ndarray:
    """One row per pair of neighbours."""
    step = lambda n: np.eye(n - 1, n, 1) - np.eye(n - 1, n)
    if len(shape) == 1:
        return step(shape[0])
    h, w = shape
    return np.concatenate([np.kron(step(h), np.eye(w)), np.kron(np.eye(h), step(w))])
