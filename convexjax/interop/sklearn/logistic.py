"""Logistic regression."""

from functools import cache

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin

from convexjax.compilation import quick_jit
from convexjax.interop.sklearn.data import (
    columns,
    conclude,
    encoded,
    new_samples,
    number,
    precision,
    rows,
    samples,
    tolerance,
)
from convexjax.learn import logistic


class LogisticRegression(ClassifierMixin, BaseEstimator):
    """Probabilities of two or more classes, as `sklearn.linear_model.LogisticRegression` with its penalty on squares.

        minimise    C sum_i w_i log(sum_c exp(x_i'(coef_c - coef_(y_i)) + intercept_c - intercept_(y_i)))
                    + 1/2 sum_c |coef_c|^2

    with two classes coef_0 = 0 (and only that of the second is kept).

    Arguments:
        C: positive; inf for no penalty.
        fit_intercept: whether there are intercepts, which are not penalised.
        class_weight: None, "balanced", or a dict of factors of the weights by label.
        tol: of the gradient, relative to the size of its terms; None for 1e-8 (float32: 1e-5).

    `status_` DUAL_INFEASIBLE, which needs C = inf: the classes are separated, and coef_ is the direction along which
    the objective falls for ever. Source: `convexjax.learn.logistic`.

    >>> from convexjax.interop.sklearn import LogisticRegression
    >>> model = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], ["no", "yes", "no", "yes"])
    >>> print(model.predict([[-2.0], [5.0]]), model.predict_proba([[1.5]]).round(3))
    ['no' 'yes'] [[0.5 0.5]]
    """

    def __init__(self, *, C=1.0, fit_intercept=True, class_weight=None, tol=None):
        self.C = C
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.tol = tol

    def fit(self, X, y, sample_weight=None):
        """Fit to X (n, d), labels (n,) and weights (n,)."""
        data = samples(self, X, y, sample_weight, labels=True)
        self.classes_, index, weights = encoded(data.y, self.class_weight, data.weights)
        dtype = data.X.dtype
        penalty = 1 / number("C", self.C, dtype, above=0)
        numbers = penalty, tolerance(self.tol, dtype)
        with precision(dtype):
            fit = _compiled(int(self.classes_.size), self.fit_intercept)
            model = fit(rows(columns(data.X)), rows(index.astype(dtype)), rows(weights), *numbers)
            model = jax.tree.map(np.asarray, model)
        self.coef_ = np.atleast_2d(model.coefficients[: data.X.shape[1]].T)
        self.intercept_ = np.atleast_1d(model.intercept)
        self.n_iter_ = int(model.num_iters)
        conclude(self, model.status)
        return self

    def decision_function(self, X):
        """Scores (n,) for two classes, (n, classes) for more."""
        X = new_samples(self, X)
        scores = X @ self.coef_.T + self.intercept_
        return scores[:, 0] if self.classes_.size == 2 else scores

    def predict(self, X):
        """The most probable labels (n,)."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)]

    def predict_log_proba(self, X):
        """Logarithms of the probabilities (n, classes)."""
        scores = self.decision_function(X)
        if scores.ndim == 1:
            scores = np.stack([np.zeros_like(scores), scores], 1)
        return scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)

    def predict_proba(self, X):
        """Probabilities (n, classes)."""
        return np.exp(self.predict_log_proba(X))


@cache
def _compiled(classes: int, intercept: bool):
    """The fit as one program."""

    def fit(X, y, w, penalty, tolerance):
        return logistic.fit(X, y, penalty, classes=classes, weights=w, intercept=intercept, tolerance=tolerance)

    return quick_jit(fit)
