"""Lasso and elastic net, alone or as a path, with a proof of how close to the optimum they are."""

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.gram import gram
from convexjax.learn import sparse
from convexjax.learn.data import Data, prepare
from convexjax.learn.model import LinearModel, linear_model, predict
from convexjax.options import DEFAULT_TOLERANCES
from convexjax.problems.arguments import floating, require_shape
from convexjax.solution import Status

__all__ = ["fit", "largest_penalty", "path", "penalties", "predict"]


def fit(
    X: ArrayLike,
    y: ArrayLike,
    penalty: float | jax.Array,
    l1_ratio: float | jax.Array = 1.0,
    *,
    weights: ArrayLike | None = None,
    intercept: bool = True,
    standardise: bool = False,
    missing: str = "status",
    factors: ArrayLike | None = None,
    tolerance: float | jax.Array | None = None,
) -> LinearModel:
    """Fit a linear model with few coefficients that are not zero.

        minimise    1/(2 sum w) sum_i w_i (y_i - x_i'beta - beta_0)^2
                    + penalty (l1_ratio sum_j p_j |beta_j| + (1 - l1_ratio)/2 sum_j p_j^2 beta_j^2)

    Arguments:
        X: (n, d).
        y: (n,).
        penalty: positive.
        l1_ratio: between 0 and 1; 1 is the lasso (the default). For 0 use `ridge`.
        weights: (n,), w, nonnegative; None for ones.
        intercept: whether there is a beta_0, which is not penalised.
        standardise: penalise the coefficients of columns divided by their standard deviation.
        missing: "status" (NaN in X or y gives NUMERICAL_ERROR) or "drop" (such rows are left out).
        factors: (d,), p, positive, for penalties of their own; None for ones.
        tolerance: of the duality gap, relative to the objective of coefficients of zero. None: 1e-8 (float32: 1e-5).

    Returns:
        `LinearModel` whose `gap` is the duality gap, relative as `tolerance` is: no coefficients have an objective
        lower by more. SOLVED if it is at most `tolerance`, else MAX_ITERATIONS.

    Raises:
        ValueError: shapes that do not fit, penalties that are not positive, l1_ratio outside (0, 1].
        TypeError: data that are not real numbers.

    Source: Zou and Hastie, "Regularization and variable selection via the elastic net", 2005; the method: `sparse`.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> X = np.array([[-1.0, 0.1], [0.0, -0.2], [1.0, 0.1]])
    >>> model = learn.elastic_net.fit(X, np.array([1.0, 2.0, 3.0]), penalty=0.2)
    >>> print(np.asarray(model.coefficients).round(3) + 0.0)
    [0.7 0. ]
    """
    how = dict(weights=weights, intercept=intercept, standardise=standardise, missing=missing)
    found = _checked(X, y, penalty, (), l1_ratio, factors, tolerance, **how)
    return jax.tree.map(lambda leaf: leaf[0], found)


def path(X: ArrayLike, y: ArrayLike, penalties: ArrayLike, l1_ratio: float | jax.Array = 1.0, **how) -> LinearModel:
    """`fit` for all penalties (k,) together: every array of the model has k entries in front. The other arguments are
    those of `fit`."""
    return _checked(X, y, penalties, (None,), l1_ratio, how.pop("factors", None), how.pop("tolerance", None), **how)


def largest_penalty(X: ArrayLike, y: ArrayLike, l1_ratio: float | jax.Array = 1.0, **how) -> jax.Array:
    """The least penalty for which all coefficients are zero."""
    factors = how.pop("factors", None)
    data = prepare(X, y, **how)
    correlation = jnp.abs(data.X.T @ (data.weights * data.y[:, 0])) / jnp.sum(data.weights)
    return jnp.max(correlation if factors is None else correlation / jnp.asarray(factors)) / l1_ratio


def penalties(X: ArrayLike, y: ArrayLike, count: int = 100, ratio: float = 1e-3, **how) -> jax.Array:
    """`count` penalties in equal ratios from the largest that matters down to `ratio` times it."""
    largest = largest_penalty(X, y, **how)
    return largest * jnp.geomspace(1, ratio, count, dtype=largest.dtype)


def _checked(X, y, penalty, shape, l1_ratio, factors, tolerance, **how) -> LinearModel:
    data = prepare(X, y, **how)
    if data.y.shape[1] != 1:
        raise ValueError(f"y has shape {jnp.shape(y)}, expected ({data.X.shape[0]},); for many outputs use jax.vmap.")
    dtype = data.X.dtype
    l1, ratio, p, tolerance = floating(
        penalty=penalty,
        l1_ratio=l1_ratio,
        factors=factors,
        tolerance=DEFAULT_TOLERANCES[dtype.name][0] if tolerance is None else tolerance,
    )
    require_shape("penalty" if shape == () else "penalties", l1, shape)
    require_shape("l1_ratio", ratio, ())
    for name, value, holds in (("penalties", l1, l1 > 0), ("l1_ratio", ratio, (ratio > 0) & (ratio <= 1))):
        if not isinstance(value, jax.core.Tracer) and not bool(jnp.all(holds)):
            raise ValueError(f"{name} must be {'positive' if name == 'penalties' else 'in (0, 1]'}, got {value}.")
    p = jnp.ones(data.X.shape[1], dtype) if p is None else p.astype(dtype)
    require_shape("factors", p, (data.X.shape[1],))
    l1, ratio, tolerance = jnp.atleast_1d(l1).astype(dtype), ratio.astype(dtype), tolerance.astype(dtype)
    return fit_path(data, l1 * ratio, l1 * (1 - ratio), p, tolerance, None)


@jax.custom_jvp
def moments(X: jax.Array, y: jax.Array, w: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(X'WX, X'Wy, y'Wy), read in blocks."""
    G, c, yy = gram(X, y[:, None], w)
    return G, c[:, 0], yy[0]


@moments.defjvp
def _moments_jvp(primals, tangents):
    plain = lambda X, y, w: (X.T @ (w[:, None] * X), X.T @ (w * y), y @ (w * y))
    return moments(*primals), jax.jvp(plain, primals, tangents)[1]


def fit_path(data: Data, l1, l2, p, tolerance, groups: sparse.Groups | None) -> LinearModel:
    """The models of a path."""
    B, objective, gap, status = _fit_path(data, l1, l2, p, tolerance, groups)
    models = lambda beta, *rest: linear_model(data, beta[:, None], False, *rest)
    return jax.vmap(models, (1, 0, 0, 0))(B, objective, status, gap)


@quick_jit
def _fit_path(data: Data, l1, l2, p, tolerance, groups: sparse.Groups | None) -> tuple:
    w = data.weights / jnp.sum(data.weights)
    G, c, yy = moments(data.X, data.y[:, 0], w)
    problem = sparse.Problem(G, c, yy, p, l1, l2)
    fixed, tolerance = jax.lax.stop_gradient((problem, tolerance))
    B, gap = sparse.solve(fixed, groups, tolerance)
    half = jnp.where(fixed.yy > 0, fixed.yy / 2, 1)
    status = jnp.where(gap <= tolerance * half, jnp.int32(Status.SOLVED), jnp.int32(Status.MAX_ITERATIONS))
    B = sparse.attach(problem, groups, B)
    objective, _ = sparse.gap(problem, groups, B, G @ B)
    return B, objective, gap / half, status
