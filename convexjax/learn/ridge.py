"""Ridge regression: all penalties from one singular value decomposition, leave-one-out errors in closed form."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.learn.data import Data, prepare
from convexjax.learn.model import LinearModel, linear_model, predict
from convexjax.problems.arguments import floating, rank, require_shape

__all__ = ["fit", "leave_one_out", "path", "predict"]


def fit(
    X: ArrayLike,
    y: ArrayLike,
    penalty: float | jax.Array = 1.0,
    *,
    weights: ArrayLike | None = None,
    intercept: bool = True,
    standardise: bool = False,
    missing: str = "status",
) -> LinearModel:
    """Fit a linear model by least squares with a penalty on the squares of the coefficients.

        minimise    sum_i w_i |y_i - x_i'beta - beta_0|^2 + penalty |beta|^2

    Arguments:
        X: (n, d).
        y: (n,), or (n, q) for q outputs.
        penalty: nonnegative.
        weights: (n,), w, nonnegative; None for ones.
        intercept: whether there is a beta_0, which is not penalised.
        standardise: penalise the coefficients of columns divided by their standard deviation.
        missing: "status" (NaN in X or y gives NUMERICAL_ERROR) or "drop" (such rows are left out).

    Returns:
        `LinearModel`, with coefficients for X as it was given.

    Raises:
        ValueError: shapes that do not fit, no rows.
        TypeError: data that are not real numbers.

    Source: Hoerl and Kennard, "Ridge regression", 1970.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> model = learn.ridge.fit(np.array([[-1.0], [0.0], [1.0]]), np.array([1.0, 2.0, 3.0]), penalty=2.0)
    >>> print(np.asarray(model.coefficients).round(3), np.asarray(model.intercept).round(3))
    [0.5] 2.0
    """
    return jax.tree.map(lambda leaf: leaf[0], _checked(X, y, penalty, (), weights, intercept, standardise, missing))


def path(X: ArrayLike, y: ArrayLike, penalties: ArrayLike, **how) -> LinearModel:
    """`fit` for all penalties (k,) from one decomposition: every array of the model has k entries in front. The other
    arguments are those of `fit`."""
    return _checked(X, y, penalties, (None,), **how)


def leave_one_out(X: ArrayLike, y: ArrayLike, penalties: ArrayLike, **how) -> jax.Array:
    """Errors y_i - prediction for i of the fit without row i, (k, n) or (k, n, q), for all penalties (k,), in closed
    form: residual_i / (1 - h_i) with h_i the diagonal of the matrix from y to its fit. Exact for the unstandardised
    fit (a standardisation is that of all rows). The other arguments are those of `fit`."""
    data, penalties = _prepared(X, y, penalties, (None,), **how)
    errors = _leave_one_out(data, penalties, jnp.array(how.get("intercept", True)))
    errors = jnp.where(data.fine, errors, jnp.nan)
    return errors if rank(y) == 2 else errors[..., 0]


def _checked(X, y, penalty, shape, weights=None, intercept=True, standardise=False, missing="status") -> LinearModel:
    data, penalties = _prepared(X, y, penalty, shape, weights, intercept, standardise, missing)
    B, objective = _path(data, penalties)
    return jax.vmap(lambda beta, value: linear_model(data, beta, rank(y) == 2, value))(B, objective)


def _prepared(X, y, penalty, shape, weights=None, intercept=True, standardise=False, missing="status"):
    data = prepare(X, y, weights, intercept=intercept, standardise=standardise, missing=missing)
    (penalties,) = floating(penalty=penalty)
    require_shape("penalty" if shape == () else "penalties", penalties, shape)
    if not isinstance(penalties, jax.core.Tracer) and bool(jnp.any(~(penalties >= 0))):
        raise ValueError(f"penalties must be nonnegative, got {penalty!r}.")
    return data, jnp.atleast_1d(penalties).astype(data.X.dtype)


class Spectrum(NamedTuple):
    """W^(1/2) X = U diag(s) V'."""

    U: jax.Array
    s: jax.Array
    V: jax.Array


def spectrum(data: Data) -> Spectrum:
    """The singular value decomposition; a tall matrix is first reduced to its triangular factor."""
    A = jnp.sqrt(data.weights)[:, None] * data.X
    n, d = A.shape
    if n > d:
        Q, R = jnp.linalg.qr(A)
        U, s, Vt = jnp.linalg.svd(R, full_matrices=False)
        return Spectrum(Q @ U, s, Vt.T)
    U, s, Vt = jnp.linalg.svd(A, full_matrices=False)
    return Spectrum(U, s, Vt.T)


def _solver(data: Data, spectrum: Spectrum):
    """A function (penalty, right) to (X'WX + penalty I)^-1 right, differentiable in data, penalty and right, and which
    singular values count. Where the matrix is singular the answer has the smallest norm."""
    _, s, V = spectrum
    kept = s > jnp.max(s, initial=0) * max(data.X.shape) * jnp.finfo(s.dtype).eps
    weigh = lambda M: data.weights[:, None] * M

    def solve(penalty, right):
        fixed = jax.lax.stop_gradient(penalty)
        shrink = jnp.where(kept, 1 / jnp.where(kept, s * s + fixed, 1), 0)[:, None]
        outside = jnp.where(fixed > 0, 1 / jnp.where(fixed > 0, fixed, 1), 0)
        inverse = lambda _, v: V @ (shrink * (V.T @ v)) + outside * (v - V @ (V.T @ v))
        product = lambda v: data.X.T @ weigh(data.X @ v) + penalty * v
        return jax.lax.custom_linear_solve(product, right, inverse, symmetric=True)

    return solve, kept


@quick_jit
def _path(data: Data, penalties: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Coefficients (k, d, q) and objectives (k,)."""
    fixed = jax.lax.stop_gradient(data)
    U, s, V = found = spectrum(fixed)
    Uy = U.T @ (jnp.sqrt(fixed.weights)[:, None] * fixed.y)
    solve, kept = _solver(data, found)
    weigh = lambda M: data.weights[:, None] * M
    Xy = data.X.T @ weigh(data.y)

    def at(penalty):
        shrink = jnp.where(kept, s / jnp.where(kept, s * s + jax.lax.stop_gradient(penalty), 1), 0)
        # the value from y itself, which loses fewer digits than X'y; the derivatives from the normal equations
        attached = solve(penalty, Xy)
        beta = V @ (shrink[:, None] * Uy) + (attached - jax.lax.stop_gradient(attached))
        r = data.y - data.X @ beta
        return beta, jnp.sum(weigh(r) * r) + penalty * jnp.sum(beta * beta)

    return jax.vmap(at)(penalties)


@quick_jit
def _leave_one_out(data: Data, penalties: jax.Array, intercept: bool) -> jax.Array:
    B, _ = _path(data, penalties)
    solve, _ = _solver(data, spectrum(jax.lax.stop_gradient(data)))
    identity = jnp.eye(data.X.shape[1], dtype=data.X.dtype)
    mean = jnp.where(intercept, data.weights / jnp.sum(data.weights), 0)

    def at(penalty, beta):
        leverage = data.weights * jnp.sum((data.X @ solve(penalty, identity)) * data.X, 1) + mean
        return (data.y - data.X @ beta) / (1 - leverage)[:, None]

    return jax.vmap(at)(penalties, B)
