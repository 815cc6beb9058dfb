"""Least squares with rows that arrive over time: `init`, `update`, `solve`.

The state holds the triangular factor of all rows so far, [A b] = Q [R z; 0 rho], so that new rows cost a QR
factorisation of as many rows more, whatever came before. States are values: `update` returns a new one.

>>> import numpy as np
>>> from convexjax import recursive_least_squares as rls
>>> state = rls.init(2)
>>> state = rls.update(state, np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([1.0, 2.0]))
>>> state = rls.update(state, np.array([1.0, 2.0]), 4.0)
>>> print(np.asarray(rls.solve(state).x).round(3))
[0.833 1.5  ]
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.least_squares import LeastSquares
from convexjax.problems.arguments import floating, require_shape
from convexjax.pseudo_inverse import condition_of, powers_of_two
from convexjax.pytrees import pytree, static
from convexjax.solution import Status


@pytree
@dataclass(frozen=True, kw_only=True)
class State:
    """All rows so far, in the size of the solution."""

    factor: Any  # (n + q, n + q), triangular, of [A b]
    gram: Any  # (n + q, n + q), [A b]'[A b], through which the derivatives go
    outputs: int | None = static()  # q; None for b of shape (m,)


def init(features: int, outputs: int | None = None, dtype=None) -> State:
    """No rows yet: `features` is the length of a row, `outputs` the number of outputs, None for one without an axis."""
    for name, value in (("features", features), ("outputs", 1 if outputs is None else outputs)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a positive Python int, got {value!r}.")
    side = features + (outputs or 1)
    zeros = jnp.zeros((side, side), jnp.result_type(float) if dtype is None else dtype)
    return State(factor=zeros, gram=zeros, outputs=outputs)


def update(
    state: State,
    rows: ArrayLike,
    values: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    forgetting: float | jax.Array = 1.0,
) -> State:
    """The state with more rows.

    Arguments:
        state: as returned by `init` or `update`.
        rows: (n,) or (k, n), of A.
        values: the entries of b: () or (q,) for one row, (k,) or (k, q).
        weights: (k,) or (), nonnegative.
        forgetting: factor between 0 and 1 for the weights of all rows before these.

    Raises:
        ValueError: shapes that do not fit.
    """
    n = state.factor.shape[0] - (state.outputs or 1)
    rows, values, weights, forgetting, _ = floating(
        rows=rows, values=values, weights=weights, forgetting=forgetting, state=state.factor
    )
    if rows.ndim == 1:
        rows, values = rows[None], values[None]
    k = rows.shape[0]
    require_shape("rows", rows, (None, n), "with one column per feature")
    require_shape("values", values, (k,) if state.outputs is None else (k, state.outputs), "one entry per row")
    new = jnp.concatenate([rows, values.reshape(k, -1)], 1).astype(state.factor.dtype)
    weighted = new
    if weights is not None:
        weights = jnp.atleast_1d(weights)
        require_shape("weights", weights, (k,), "with one entry per row")
        weighted = weights[:, None] * new
        # the derivatives go through the Gram matrix: that of a root at zero is infinite
        new = jnp.sqrt(jax.lax.stop_gradient(weights))[:, None] * new
    stacked = jnp.concatenate([jnp.sqrt(jax.lax.stop_gradient(forgetting)) * state.factor, new])
    factor = jnp.linalg.qr(jax.lax.stop_gradient(stacked), mode="r")
    plain = jnp.concatenate([rows, values.reshape(k, -1)], 1).astype(state.factor.dtype)
    return State(factor=factor, gram=forgetting * state.gram + plain.T @ weighted, outputs=state.outputs)


def solve(state: State) -> LeastSquares:
    """The solution for the rows so far, as `lstsq` returns it. While they do not determine x, `status` is
    NUMERICAL_ERROR."""
    q = state.outputs or 1
    n = state.factor.shape[0] - q
    R, z, rho = state.factor[:n, :n], state.factor[:n, n:], state.factor[n:, n:]
    H, Ab = state.gram[:n, :n], state.gram[:n, n:]
    scale = powers_of_two(jax.lax.stop_gradient(jnp.linalg.norm(R, axis=0)))
    condition = condition_of(jax.lax.stop_gradient(R * scale))
    determined = condition * float(jnp.finfo(R.dtype).eps) * n < 1
    R = jnp.where(determined, R, jnp.eye(n, dtype=R.dtype))
    found = jax.scipy.linalg.solve_triangular(R, z)
    # zero, with the derivative of the solution of H x = A'b
    left = jnp.where(determined, Ab - H @ jax.lax.stop_gradient(found), 0)
    H = jnp.where(determined, H, jnp.eye(n, dtype=H.dtype))
    correct = lambda _, right: jax.scipy.linalg.cho_solve((R, False), right)
    change = jax.lax.custom_linear_solve(lambda v: H @ v, left, correct, symmetric=True)
    x = found + change - jax.lax.stop_gradient(change)
    rss = jnp.sum(rho * rho, 0)
    slope = jnp.diagonal(state.gram[n:, n:]) - jnp.sum(2 * x * Ab, 0) + jnp.sum(x * (H @ x), 0)
    rss = rss + slope - jax.lax.stop_gradient(slope)
    if state.outputs is None:
        x, rss = x[:, 0], rss[0]
    return LeastSquares(
        x=jnp.where(determined, x, jnp.nan),
        residual_sum_of_squares=jnp.where(determined, rss, jnp.nan),
        rank=jnp.where(determined, jnp.int32(n), jnp.sum(jnp.diagonal(R) != 0, dtype=jnp.int32)),
        status=jnp.where(determined, jnp.int32(Status.SOLVED), jnp.int32(Status.NUMERICAL_ERROR)),
    )
