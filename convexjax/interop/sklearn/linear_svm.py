"""Linear support vector machines: classification and regression."""

from functools import partial

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

from convexjax.interop.sklearn.data import (
    columns,
    conclude,
    encoded,
    filled,
    new_samples,
    number,
    precision,
    rows,
    samples,
    tolerance,
)
from convexjax.learn import svm


def _linear_machine(fit, X, y, weights, **how) -> tuple:
    """(coefficients, intercept, status)."""
    size = filled(len(y))
    y = np.pad(y, (0, size - len(y)), constant_values=y[0])
    model = fit(rows(columns(X), size), y, sample_weight=rows(weights, size), **how)
    coef, intercept, status = jax.tree.map(np.asarray, (model.coef, model.intercept, model.status))
    return coef[: X.shape[1]], intercept, status


class LinearSVC(ClassifierMixin, BaseEstimator):
    """A linear machine for two classes, or for each of more against the others, as `sklearn.svm.LinearSVC`, but for the
    intercept, which is not penalised.

        minimise    1/2 |w|^2 + C sum_i w_i u_i^2,      u_i >= 0,   y_i (x_i'w + b) >= 1 - u_i

    Arguments:
        C: positive.
        loss: "squared_hinge", or "hinge" with u_i in the place of u_i^2.
        fit_intercept: whether there is a b.
        tol, class_weight: as in `SVC`.

    >>> from convexjax.interop.sklearn import LinearSVC
    >>> model = LinearSVC(loss="hinge").fit([[0.0], [1.0], [3.0], [4.0]], ["a", "a", "b", "b"])
    >>> print(model.coef_.round(3), model.intercept_.round(3))
    [[1.]] [-2.]
    """

    def __init__(self, *, C=1.0, loss="squared_hinge", fit_intercept=True, tol=None, class_weight=None):
        self.C = C
        self.loss = loss
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.class_weight = class_weight

    def fit(self, X, y, sample_weight=None):
        """Fit to X (n, d), labels (n,) and weights (n,)."""
        data = samples(self, X, y, sample_weight, labels=True)
        self.classes_, index, weights = encoded(data.y, self.class_weight, data.weights)
        dtype = data.X.dtype
        fit = partial(
            svm.fit,
            C=number("C", self.C, dtype, above=0),
            loss=self.loss,
            intercept=self.fit_intercept,
            tolerance=tolerance(self.tol, dtype),
        )
        positive = [1] if self.classes_.size == 2 else range(self.classes_.size)
        with precision(dtype):
            signs = (np.where(index == k, 1, -1).astype(dtype) for k in positive)
            found = [_linear_machine(fit, data.X, own, weights) for own in signs]
        self.coef_, self.intercept_ = (np.stack(parts) for parts in list(zip(*found, strict=True))[:2])
        conclude(self, *(status for _, _, status in found))
        return self

    def decision_function(self, X):
        """Scores (n,) for two classes, positive for the second, (n, classes) for more."""
        scores = new_samples(self, X) @ self.coef_.T + self.intercept_
        return scores[:, 0] if self.classes_.size == 2 else scores

    def predict(self, X):
        """Labels (n,)."""
        scores = self.decision_function(X)
        return self.classes_[(scores > 0).astype(int) if scores.ndim == 1 else scores.argmax(1)]


class LinearSVR(RegressorMixin, BaseEstimator):
    """Linear regression that does not count residuals up to epsilon, as `sklearn.svm.LinearSVR`, but for the intercept,
    which is not penalised.

        minimise    1/2 |w|^2 + C sum_i w_i max(0, |x_i'w + b - y_i| - epsilon)

    Arguments:
        epsilon: nonnegative. C: positive.
        loss: "epsilon_insensitive", or "squared_epsilon_insensitive" with the square of max(0, ...).
        fit_intercept: whether there is a b.
        tol: as in `SVC`.

    >>> import numpy as np
    >>> from convexjax.interop.sklearn import LinearSVR
    >>> model = LinearSVR(C=10.0, epsilon=0.5).fit(np.arange(5.0)[:, None], 2 * np.arange(5.0))
    >>> print(model.predict([[2.0], [4.0]]).round(3))
    [4.  7.5]
    """

    def __init__(self, *, epsilon=0.0, C=1.0, loss="epsilon_insensitive", fit_intercept=True, tol=None):
        self.epsilon = epsilon
        self.C = C
        self.loss = loss
        self.fit_intercept = fit_intercept
        self.tol = tol

    def fit(self, X, y, sample_weight=None):
        """Fit to X (n, d), y (n,) and weights (n,)."""
        data = samples(self, X, y, sample_weight)
        dtype = data.X.dtype
        losses = {"epsilon_insensitive": "absolute", "squared_epsilon_insensitive": "squared"}
        if self.loss not in losses:
            raise ValueError(f"loss must be one of {', '.join(map(repr, losses))}, got {self.loss!r}.")
        how = dict(
            epsilon=number("epsilon", self.epsilon, dtype),
            C=number("C", self.C, dtype, above=0),
            loss=losses[self.loss],
            intercept=self.fit_intercept,
            tolerance=tolerance(self.tol, dtype),
        )
        with precision(dtype):
            self.coef_, intercept, status = _linear_machine(svm.fit_regression, *data[:3], **how)
        self.intercept_ = intercept[()]
        conclude(self, status)
        return self

    def predict(self, X):
        """Predictions (n,) for the rows of X."""
        return new_samples(self, X) @ self.coef_ + self.intercept_
