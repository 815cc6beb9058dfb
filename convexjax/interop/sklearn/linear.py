"""Linear regression: least squares, with penalties, robust, of quantiles, under constraints."""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from convexjax.compilation import quick_jit
from convexjax.interop.sklearn.data import (
    Samples,
    columns,
    conclude,
    new_samples,
    number,
    precision,
    rows,
    samples,
    tolerance,
)
from convexjax.interop.sklearn.huber import fit_with_scale
from convexjax.learn import elastic_net, regression, ridge
from convexjax.learn.constraints import smooth
from convexjax.learn.model import LinearModel
from convexjax.least_squares import lstsq
from convexjax.options import Options

# Solutions of programs to rounding errors.
POLISHED = Options(polish=True)


class _LinearRegressor(RegressorMixin, BaseEstimator):
    """A subclass has `_fitted(samples)` to a `LinearModel`, whose coefficients may have zeros behind."""

    _outputs = False  # whether y may have columns

    def fit(self, X, y, sample_weight=None):
        """Fit to X (n, d), y (n,) and weights (n,)."""
        data = samples(self, X, y, sample_weight, outputs=self._outputs)
        with precision(data.X.dtype):
            model = jax.tree.map(np.asarray, self._fitted(data))
        self.coef_ = model.coefficients[: data.X.shape[1]].T
        self.intercept_ = model.intercept if model.intercept.ndim else model.intercept[()]
        conclude(self, model.status)
        return self

    def predict(self, X):
        """Predictions for the rows of X."""
        X = new_samples(self, X)
        return X @ self.coef_.T + self.intercept_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = self._outputs
        return tags


def _filled(data: Samples) -> tuple:
    return rows(columns(data.X)), rows(data.y), rows(data.weights)


@cache
def _compiled(fit: Callable, intercept: bool) -> Callable:
    """`fit(X, y, weights, intercept, *numbers)` as one program."""
    return quick_jit(lambda X, y, w, *numbers: fit(X, y, w, intercept, *numbers))


# ----------------------------------------------------------------------------- squares


class LinearRegression(_LinearRegressor):
    """Least squares, the solution of smallest norm, as `sklearn.linear_model.LinearRegression`.

        minimise    sum_i w_i (y_i - x_i'coef - intercept)^2

    Arguments:
        fit_intercept: whether there is an intercept.

    y may have columns. `rank_` is that of the centred data. Source: `convexjax.lstsq`.

    >>> from convexjax.interop.sklearn import LinearRegression
    >>> model = LinearRegression().fit([[0.0], [1.0], [2.0]], [1.0, 2.0, 4.0])
    >>> print(model.predict([[3.0]]).round(3))
    [5.333]
    """

    _outputs = True

    def __init__(self, *, fit_intercept=True):
        self.fit_intercept = fit_intercept

    def _fitted(self, data):
        model, rank = _compiled(_least_squares, self.fit_intercept)(*_filled(data), np.int32(data.X.shape[1]))
        self.rank_ = int(rank)
        return model


def _least_squares(X, y, w, intercept, width):
    """The model and the rank. A column from `width` on gets a row of its own, which keeps it out of the rest."""
    d, dtype = X.shape[1], X.dtype
    total = jnp.sum(w)
    mean = w @ X / total if intercept else jnp.zeros(d, dtype)
    y_mean = w @ y / total if intercept else jnp.zeros(y.shape[1:], dtype)
    extra = jnp.arange(d, dtype=jnp.int32) >= width
    A = jnp.concatenate([X - mean, jnp.diag(extra.astype(dtype))])
    b = jnp.concatenate([y - y_mean, jnp.zeros((d, *y.shape[1:]), dtype)])
    found = lstsq(A, b, weights=jnp.concatenate([w, extra.astype(dtype)]))
    model = LinearModel(
        coefficients=found.x,
        intercept=y_mean - mean @ found.x,
        objective=jnp.sum(found.residual_sum_of_squares),
        status=found.status,
    )
    return model, found.rank - jnp.sum(extra, dtype=jnp.int32)


class Ridge(_LinearRegressor):
    """Least squares with a penalty on squares, as `sklearn.linear_model.Ridge`.

        minimise    sum_i w_i (y_i - x_i'coef - intercept)^2 + alpha |coef|^2

    Arguments:
        alpha: nonnegative.
        fit_intercept: whether there is an intercept, which is not penalised.

    y may have columns. Source: `convexjax.learn.ridge`.

    >>> from convexjax.interop.sklearn import Ridge
    >>> print(Ridge(alpha=2.0).fit([[-1.0], [0.0], [1.0]], [1.0, 2.0, 3.0]).coef_.round(3))
    [0.5]
    """

    _outputs = True

    def __init__(self, alpha=1.0, *, fit_intercept=True):
        self.alpha = alpha
        self.fit_intercept = fit_intercept

    def _fitted(self, data):
        alpha = number("alpha", self.alpha, data.X.dtype)
        return _compiled(_ridge, self.fit_intercept)(*_filled(data), alpha)


def _ridge(X, y, w, intercept, alpha):
    return ridge.fit(X, y, alpha, weights=w, intercept=intercept)


class ElasticNet(_LinearRegressor):
    """Least squares with few coefficients that are not zero, as `sklearn.linear_model.ElasticNet`.

        minimise    1/(2 sum w) sum_i w_i (y_i - x_i'coef - intercept)^2
                    + alpha l1_ratio |coef|_1 + alpha (1 - l1_ratio)/2 |coef|^2

    Arguments:
        alpha: positive.
        l1_ratio: above 0 and at most 1. (For 0 take `Ridge` with sum w times alpha.)
        fit_intercept: whether there is an intercept, which is not penalised.
        tol: of the duality gap, relative to the objective of coefficients of zero; None for 1e-8 (float32: 1e-5).

    `dual_gap_` is the gap that is proved, in units of the objective. Source: `convexjax.learn.elastic_net`.

    >>> from convexjax.interop.sklearn import ElasticNet
    >>> model = ElasticNet(alpha=0.2).fit([[-1.0, 0.1], [0.0, -0.2], [1.0, 0.1]], [1.0, 2.0, 3.0])
    >>> print(model.coef_.round(3) + 0.0)
    [0.739 0.   ]
    """

    def __init__(self, alpha=1.0, *, l1_ratio=0.5, fit_intercept=True, tol=None):
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.tol = tol

    def _fitted(self, data):
        dtype = data.X.dtype
        alpha = number("alpha", self.alpha, dtype, above=0)
        ratio = number("l1_ratio", self.l1_ratio, dtype, above=0, most=1)
        tol = tolerance(self.tol, dtype)
        model = _compiled(_elastic_net, self.fit_intercept)(*_filled(data), alpha, ratio, tol)
        centre = np.average(data.y, weights=data.weights) if self.fit_intercept else 0
        self.dual_gap_ = float(model.gap) * np.average((data.y - centre) ** 2, weights=data.weights) / 2
        return model


def _elastic_net(X, y, w, intercept, alpha, ratio, tolerance):
    return elastic_net.fit(X, y, alpha, ratio, weights=w, intercept=intercept, tolerance=tolerance)


class Lasso(ElasticNet):
    """`ElasticNet` with l1_ratio = 1, as `sklearn.linear_model.Lasso`.

        minimise    1/(2 sum w) sum_i w_i (y_i - x_i'coef - intercept)^2 + alpha |coef|_1

    >>> from convexjax.interop.sklearn import Lasso
    >>> model = Lasso(alpha=0.2).fit([[-1.0, 0.1], [0.0, -0.2], [1.0, 0.1]], [1.0, 2.0, 3.0])
    >>> print(model.coef_.round(3) + 0.0)
    [0.7 0. ]
    """

    l1_ratio = 1.0

    def __init__(self, alpha=1.0, *, fit_intercept=True, tol=None):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.tol = tol


# ----------------------------------------------------------------------------- other losses


class HuberRegressor(_LinearRegressor):
    """Squares for small residuals and sizes for large ones, which is which being fitted, too, as
    `sklearn.linear_model.HuberRegressor`.

        minimise    sum_i w_i (s + h(r_i / s) s) + alpha |coef|^2,      r_i = y_i - x_i'coef - intercept,   s > 0

    with h(z) = z^2 for |z| <= epsilon, else epsilon (2 |z| - epsilon).

    Arguments:
        epsilon: above 1; the smaller, the more samples count as outliers.
        alpha: nonnegative.
        fit_intercept: whether there is an intercept, which is not penalised.
        tol: of the gradient, relative to the size of its terms; None for 1e-8 (float32: 1e-5).

    `scale_` is s, at least 1e-6 (float32: 1e-3) times the root of the mean of (y - mean)^2; `outliers_` (n,) are the
    samples with |r_i| > s epsilon. For a threshold in the units of y see `ConstrainedRegression` with the loss
    `learn.regression.Huber(threshold)`. Source: `huber.py`, `convexjax.learn.newton`.

    >>> from convexjax.interop.sklearn import HuberRegressor
    >>> model = HuberRegressor().fit([[0.0], [1.0], [2.0], [3.0], [4.0]], [0.0, 1.1, 1.9, 3.0, 50.0])
    >>> print(model.coef_.round(2), model.outliers_)
    [1.12] [False False False False  True]
    """

    def __init__(self, *, epsilon=1.35, alpha=1e-4, fit_intercept=True, tol=None):
        self.epsilon = epsilon
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.tol = tol

    def fit(self, X, y, sample_weight=None):
        """Fit to X (n, d), y (n,) and weights (n,)."""
        super().fit(X, y, sample_weight)
        residuals = np.asarray(y, self.coef_.dtype).ravel() - self.predict(X)
        self.outliers_ = np.abs(residuals) > self.scale_ * self.epsilon
        return self

    def _fitted(self, data):
        dtype = data.X.dtype
        epsilon = number("epsilon", self.epsilon, dtype, above=1)
        alpha = number("alpha", self.alpha, dtype)
        tol = tolerance(self.tol, dtype)
        model, scale = _compiled(fit_with_scale, self.fit_intercept)(*_filled(data), epsilon, alpha, tol)
        self.scale_ = float(scale)
        return model


class QuantileRegressor(_LinearRegressor):
    """Predictions of a quantile, as `sklearn.linear_model.QuantileRegressor`.

        minimise    1/(sum w) sum_i w_i max(q r_i, (q - 1) r_i) + alpha |coef|_1,       r_i = y_i - x_i'coef - intercept

    Arguments:
        quantile: q, between 0 and 1.
        alpha: nonnegative.
        fit_intercept: whether there is an intercept, which is not penalised.

    A linear program with a variable for each sample: for some thousand of them. Source: `convexjax.learn.regression`.

    >>> from convexjax.interop.sklearn import QuantileRegressor
    >>> model = QuantileRegressor(quantile=0.5, alpha=0.0).fit([[0.0], [1.0], [2.0], [3.0]], [0.0, 1.0, 9.0, 3.0])
    >>> print(model.coef_.round(3))
    [1.]
    """

    def __init__(self, *, quantile=0.5, alpha=1.0, fit_intercept=True):
        self.quantile = quantile
        self.alpha = alpha
        self.fit_intercept = fit_intercept

    def _fitted(self, data):
        dtype = data.X.dtype
        level = number("quantile", self.quantile, dtype, above=0, most=1)
        alpha = number("alpha", self.alpha, dtype)
        X, y, w = _filled(data)
        d = X.shape[1]
        # |beta_j| are the losses of two rows for zero, with e_j and -e_j; the intercept is a column that they lack
        ones = np.full((len(y), 1), self.fit_intercept, dtype)
        penalty = np.concatenate([np.eye(d, dtype=dtype), -np.eye(d, dtype=dtype)])
        X = np.block([[X, ones], [penalty, np.zeros((2 * d, 1), dtype)]])
        y = np.concatenate([y, np.zeros(2 * d, dtype)])
        w = np.concatenate([w / data.weights.sum(), np.full(2 * d, alpha, dtype)])
        model = regression.fit(X, y, regression.Quantile(level), weights=w, intercept=False, options=POLISHED)
        return LinearModel(
            coefficients=model.coefficients[:d],
            intercept=model.coefficients[d],
            objective=model.objective,
            status=model.status,
        )


class ConstrainedRegression(_LinearRegressor):
    """Linear regression with a convex loss under convex constraints on the coefficients.

        minimise    sum_i w_i loss(y_i - x_i'coef - intercept) + alpha |coef|^2
        subject to  constraints on coef

    Arguments:
        constraints: of `learn.constraints` (arrays: bounds, inequalities, equations, norms, matrices; functions:
            `smooth(g)`), or a list of them, nested as it comes. A JAX function g itself is g(coef) <= 0.
        loss: "squared", "absolute", one of `learn.regression` such as `Huber(2.0)`, or a function of predictions and y.
        alpha: nonnegative. None for one so small that it only decides between fits that are as good: 10 times the root
            of the precision times the mean over the columns of sum_i w_i x_ij^2.
        fit_intercept: whether there is an intercept, neither penalised nor constrained.
        options: of the solver, a `convexjax.Options`; None for `Options(polish=True)`.

    A function is kept by identity: pass the same one again, not a new lambda. Source: `convexjax.learn.regression`.

    >>> from convexjax import learn
    >>> from convexjax.interop.sklearn import ConstrainedRegression
    >>> model = ConstrainedRegression(learn.constraints.simplex(2))
    >>> print(model.fit([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0]], [1.0, 2.0, 4.0]).coef_.round(3))
    [1. 0.]
    """

    def __init__(self, constraints=(), *, loss="squared", alpha=None, fit_intercept=True, options=None):
        self.constraints = constraints
        self.loss = loss
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.options = options

    def _fitted(self, data):
        losses = {"squared": regression.Squared(), "absolute": regression.Absolute()}
        if isinstance(self.loss, str) and self.loss not in losses:
            raise ValueError(f"loss must be {', '.join(map(repr, losses))}, or of learn.regression, got {self.loss!r}.")
        X, y, weights, _ = data
        if self.alpha is None:
            alpha = 10 * np.sqrt(np.finfo(X.dtype).eps) * np.mean(weights @ X**2)
        else:
            alpha = number("alpha", self.alpha, X.dtype)
        return regression.fit(
            rows(X),
            rows(y),
            losses[self.loss] if isinstance(self.loss, str) else self.loss,
            _constraints(self.constraints),
            penalty=alpha,
            weights=rows(weights),
            intercept=self.fit_intercept,
            options=POLISHED if self.options is None else self.options,
        )


def _constraints(given):
    """Functions become constraints."""
    if isinstance(given, list | tuple):
        return [_constraints(item) for item in given]
    return smooth(given) if callable(given) else given
