"""What every fit does with its data: check, centre, standardise, weigh, leave out missing rows."""

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.problems.arguments import floating, require_given, require_shape


class Data(NamedTuple):
    """Data of a fit in the coordinates of the solver, and the way back."""

    X: jax.Array  # (n, d), centred if there is an intercept, divided by `scale`
    y: jax.Array  # (n, q), centred if there is an intercept
    weights: jax.Array  # (n,)
    mean: jax.Array  # (d,)
    scale: jax.Array  # (d,)
    y_mean: jax.Array  # (q,)
    fine: jax.Array  # whether all numbers are finite and some row has weight

    def to_user(self, beta: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(coefficients (d, q), intercept (q,)) of coefficients (d, q) in the coordinates of the solver."""
        coefficients = beta / self.scale[:, None]
        return coefficients, self.y_mean - self.mean @ coefficients


def checked(X: ArrayLike, y: ArrayLike, weights: ArrayLike | None, missing: str, outputs: bool = False) -> tuple:
    """(X, y, weights) as arrays of one type whose shapes fit."""
    if missing not in ("status", "drop"):
        raise ValueError(f'missing must be "status" or "drop", got {missing!r}.')
    require_given(X=X, y=y)
    X, y, weights = floating(X=X, y=y, weights=weights)
    require_shape("X", X, (None, None))
    n = X.shape[0]
    if n == 0:
        raise ValueError("X has no rows, expected at least one sample.")
    require_shape("y", y, (n, None) if outputs and y.ndim == 2 else (n,), "with one entry per row of X")
    if weights is not None:
        require_shape("weights", weights, (n,), "with one entry per row of X")
    return X, y, weights


def clean(X: jax.Array, y: jax.Array, weights: jax.Array | None, drop: bool) -> tuple:
    """(X, y, weights, fine). Rows with NaN or infinite numbers get weight zero if they may be dropped, and count for
    nothing; else data with such numbers in rows of positive weight are not fine."""
    weights = jnp.ones(X.shape[0], X.dtype) if weights is None else weights
    complete = jnp.all(jnp.isfinite(X), 1) & jnp.all(jnp.isfinite(y.reshape(X.shape[0], -1)), 1)
    if drop:
        weights = jnp.where(complete, weights, 0)
    counted = weights > 0
    fine = jnp.all(complete | ~counted) & jnp.all(jnp.isfinite(weights) & (weights >= 0)) & jnp.any(counted)
    keep = complete & fine
    X = jnp.where(keep[:, None], X, 0)
    y = jnp.where(keep if y.ndim == 1 else keep[:, None], y, 0)
    return X, y, jnp.where(fine, weights, 1), fine


def prepare(
    X: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    intercept: bool = True,
    standardise: bool = False,
    missing: str = "status",
) -> Data:
    """Data of a linear model, y as columns."""
    arrays = checked(X, y, weights, missing, outputs=True)
    for name, value in (("intercept", intercept), ("standardise", standardise)):
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False (it is static), got {value!r}.")
    return _prepare(intercept, standardise, missing == "drop")(*arrays)


@cache
def _prepare(intercept: bool, standardise: bool, drop: bool):
    @quick_jit
    def prepared(X, y, weights) -> Data:
        X, y, weights, fine = clean(X, y, weights, drop)
        Y = y if y.ndim == 2 else y[:, None]
        d, total = X.shape[1], jnp.sum(weights)
        mean, y_mean = jnp.zeros(d, X.dtype), jnp.zeros(Y.shape[1], X.dtype)
        if intercept:
            mean, y_mean = weights @ X / total, weights @ Y / total
            X, Y = X - mean, Y - y_mean
        scale = column_scale(X, weights, mean) if standardise else jnp.ones(d, X.dtype)
        return Data(X / scale if standardise else X, Y, weights, mean, scale, y_mean, fine)

    return prepared


def column_scale(X: jax.Array, weights: jax.Array, mean: jax.Array) -> jax.Array:
    """Weighted standard deviations of the columns around `mean`, which X has lost already; 1 for constant ones."""
    constant = constant_columns(X, weights, mean)
    variance = weights @ (X * X) / jnp.sum(weights)
    return jnp.where(constant, 1, jnp.sqrt(jnp.where(constant, 1, variance)))


def constant_columns(X: jax.Array, weights: jax.Array, mean: jax.Array) -> jax.Array:
    """Whether the columns, which have lost their `mean`, are rounding errors."""
    X, weights, mean = jax.lax.stop_gradient((X, weights, mean))
    size = jnp.sqrt(weights @ (X * X) / jnp.sum(weights))
    return size <= 10 * jnp.finfo(X.dtype).eps * jnp.abs(mean)
