"""Poisson regression: counts whose mean is the exponential of a linear function."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.learn.data import checked, clean
from convexjax.learn.newton import Loss, Problem, attach, minimise, objective
from convexjax.options import DEFAULT_TOLERANCES
from convexjax.problems.arguments import floating, require_shape
from convexjax.solution import Status


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class PoissonModel:
    """log of the mean ~ X coefficients + intercept."""

    coefficients: Any  # (d,)
    intercept: Any  # ()
    objective: Any
    status: Any  # int32, a `Status`
    gradient: Any  # largest entry of the gradient of the objective, relative to its terms
    num_iters: Any


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
        NaN, or a negative count.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: data that are not real numbers.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> model = learn.poisson.fit(np.array([[0.0], [1.0]]), np.array([1.0, 3.0]))
    >>> print(np.asarray(learn.poisson.predict(model, [[2.0]])).round(2))
    [9.]
    """
    X, y, weights = checked(X, y, weights, missing)
    dtype = X.dtype
    tolerance = DEFAULT_TOLERANCES[dtype.name][0] if tolerance is None else tolerance
    penalty, tolerance = floating(penalty=penalty, tolerance=tolerance)
    require_shape("penalty", penalty, ())
    if not isinstance(penalty, jax.core.Tracer) and not penalty >= 0:
        raise ValueError(f"penalty must be nonnegative, got {penalty}.")
    return _fit(intercept, missing == "drop")(X, y, weights, penalty.astype(dtype), tolerance.astype(dtype))


@cache
def _fit(intercept: bool, drop: bool):
    @quick_jit
    def fit(X, y, weights, penalty, tolerance) -> PoissonModel:
        X, y, weights, fine = clean(X, y, weights, drop)
        counts = jnp.all((y >= 0) | (weights == 0))
        fine, y = fine & counts, jnp.where(counts, y, 0)
        d = X.shape[1]
        rows, p = X, jnp.full(d, penalty)
        mean = weights @ X / jnp.sum(weights)
        theta = jnp.zeros((d + intercept, 1), X.dtype)
        if intercept:
            rows, p = jnp.concatenate([X - mean, jnp.ones((X.shape[0], 1), X.dtype)], 1), jnp.append(p, 0)
            average = weights @ y / jnp.sum(weights)
            start = jax.lax.stop_gradient(jnp.log(jnp.where(average > 0, average, 1)))
            theta = theta.at[d, 0].set(start)
        problem = Problem(rows, y, weights, p)
        theta, status, gradient, count = minimise(POISSON, *jax.lax.stop_gradient((problem, theta, tolerance)))
        solved = Status.SOLVED.holds(status)
        theta = jnp.where(solved, attach(POISSON, theta, problem), theta)
        value = jnp.where(solved, objective(POISSON, theta, problem), jnp.nan)
        coefficients = theta[:d, 0]
        offset = theta[d, 0] - mean @ coefficients if intercept else jnp.zeros((), X.dtype)
        fill = lambda value: jnp.where(fine, value, jnp.nan)
        return PoissonModel(
            coefficients=fill(coefficients),
            intercept=fill(offset),
            objective=fill(value),
            status=jnp.where(fine, status, jnp.int32(Status.NUMERICAL_ERROR)),
            gradient=fill(gradient),
            num_iters=count,
        )

    return fit


def predict(model: PoissonModel, X: ArrayLike) -> jax.Array:
    """Means (n,) for the rows of X (n, d)."""
    X, coefficients, intercept = floating(X=X, coefficients=model.coefficients, intercept=model.intercept)
    require_shape("X", X, (None, coefficients.shape[0]), "with one column per coefficient")
    return jnp.exp(X @ coefficients + intercept)
