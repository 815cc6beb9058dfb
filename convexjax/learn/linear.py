"""Ordinary and weighted least squares, one or many outputs."""

import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.learn.data import prepare
from convexjax.learn.model import LinearModel, linear_model, predict
from convexjax.least_squares import lstsq
from convexjax.problems.arguments import rank

__all__ = ["fit", "predict"]


def fit(
    X: ArrayLike,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    intercept: bool = True,
    missing: str = "status",
    method: str = "auto",
    rcond: float | None = None,
) -> LinearModel:
    """Fit a linear model by least squares; of several solutions the one with the smallest coefficients.

        minimise    sum_i w_i |y_i - x_i'beta - beta_0|^2

    Arguments:
        X: (n, d).
        y: (n,), or (n, q) for q outputs.
        weights: (n,), w, nonnegative; None for ones.
        intercept: whether there is a beta_0.
        missing: "status" (NaN in X or y gives NUMERICAL_ERROR) or "drop" (such rows are left out).
        method, rcond: as in `convexjax.lstsq`.

    Returns:
        `LinearModel`; its status is SOLVED or NUMERICAL_ERROR.

    Raises:
        ValueError: shapes that do not fit, no rows.
        TypeError: data that are not real numbers.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> X, y = np.array([[0.0], [1.0], [2.0]]), np.array([1.0, 2.0, 4.0])
    >>> model = learn.linear.fit(X, y)
    >>> print(np.asarray(learn.linear.predict(model, [[3.0]])).round(3))
    [5.333]
    """
    data = prepare(X, y, weights, intercept=intercept, missing=missing)
    found = lstsq(data.X, data.y, weights=data.weights, method=method, rcond=rcond)
    objective = jnp.sum(found.residual_sum_of_squares)
    return linear_model(data, found.x, rank(y) == 2, objective, found.status)
