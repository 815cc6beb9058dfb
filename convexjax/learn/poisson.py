"""Poisson regression: counts whose mean is the exponential of a linear function."""

from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.learn import score_model
from convexjax.learn.data import checked, clean
from convexjax.learn.newton import Loss
from convexjax.learn.score_model import ScoreModel, checked_numbers
from convexjax.problems.arguments import floating, require_shape
from convexjax.pytrees import pytree


@pytree
@dataclass(frozen=True, kw_only=True)
class PoissonModel(ScoreModel):
    """Scores are the log of the mean."""


def _loss(scores, y):
    return jnp.exp(scores[:, 0]) - y * scores[:, 0]


def _recedes(scores, sizes, y, weights):
    """Means of counts that are all zero go to zero, the others stay."""
    s = jnp.where(weights > 0, scores[:, 0], 0)
    return (jnp.max(jnp.abs(s)) > 0) & jnp.all(jnp.where(y > 0, jnp.abs(s), s) <= 1e-6 * sizes[:, 0])


POISSON = Loss(_loss, _recedes)


def fit(
    X: ArrayLike,
    y: ArrayLike,
    penalty: float | jax.Array = 0.0,
    *,
    weights: ArrayLike | None = None,
    intercept: bool = True,
    missing: str = "status",
    tolerance: float | jax.Array | None = None,
) -> PoissonModel:
    """Fit the means of counts.

        minimise    sum_i w_i (exp(x_i'beta + beta_0) - y_i (x_i'beta + beta_0)) + penalty/2 |beta|^2

    Arguments:
        X: (n, d).
        y: (n,), nonnegative.
        penalty: nonnegative.
        weights, intercept, missing, tolerance: as in `logistic.fit`.

    Returns:
        `PoissonModel`. SOLVED: the objective is convex and its gradient is `gradient`. DUAL_INFEASIBLE: there is no
        finite optimum; along coefficients and intercept, of size one, the objective falls for ever. NUMERICAL_ERROR:
        NaN, or a negative count. The objective is NaN unless SOLVED.

    Raises:
        ValueError: shapes that do not fit; a negative penalty or tolerance; `intercept` that is not True or False.
        TypeError: data that are not real numbers.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> model = learn.poisson.fit(np.array([[0.0], [1.0]]), np.array([1.0, 3.0]))
    >>> print(np.asarray(learn.poisson.predict(model, [[2.0]])).round(2))
    [9.]
    """
    X, y, weights = checked(X, y, weights, missing)
    numbers = checked_numbers(penalty, tolerance, X.dtype, intercept=intercept)
    return _fit(intercept, missing == "drop")(X, y, weights, numbers)


@cache
def _fit(intercept: bool, drop: bool):
    @quick_jit
    def fit(X, y, weights, numbers) -> PoissonModel:
        X, y, weights, fine = clean(X, y, weights, drop)
        counts = jnp.all((y >= 0) | (weights == 0))
        fine, y = fine & counts, jnp.where(counts, y, 0)
        average = weights @ y / jnp.sum(weights)
        start = jnp.zeros((X.shape[1], 1), X.dtype), jnp.log(jnp.where(average > 0, average, 1))[None]
        return score_model.fit(PoissonModel, POISSON, (X, y, weights, fine), numbers, start, intercept=intercept)

    return fit


def predict(model: PoissonModel, X: ArrayLike) -> jax.Array:
    """Means (n,) for the rows of X (n, d)."""
    X, coefficients, intercept = floating(X=X, coefficients=model.coefficients, intercept=model.intercept)
    require_shape("X", X, (None, coefficients.shape[0]), "with one column per coefficient")
    return jnp.exp(X @ coefficients + intercept)
