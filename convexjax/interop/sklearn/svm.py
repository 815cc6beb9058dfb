"""Support vector machines with a kernel: classification, regression and one class."""

import numpy as np
from sklearn.base import ClassifierMixin, OutlierMixin, RegressorMixin
from sklearn.utils.validation import validate_data

from convexjax.interop.sklearn.data import (
    TYPES,
    encoded,
    number,
    samples,
    tolerance,
    weighted,
)
from convexjax.interop.sklearn.kernel_machine import KernelMachine
from convexjax.learn import svm
from convexjax.solution import Status


class _KernelClassifier(ClassifierMixin, KernelMachine):
    """One machine for each pair of classes."""

    def fit(self, X, y, sample_weight=None):
        """Fit to X (n, d), labels (n,) and weights (n,)."""
        data = samples(self, X, y, sample_weight, labels=True, square=self._square)
        self.classes_, index, weights = encoded(data.y, getattr(self, "class_weight", None), data.weights)
        how = self._numbers(data.X.dtype)
        parts = []
        for i, j in zip(*np.triu_indices(self.classes_.size, 1), strict=True):
            chosen = np.flatnonzero((index == i) | (index == j))
            signs = np.where(index[chosen] == j, 1.0, -1.0).astype(data.X.dtype)
            parts.append((chosen, signs, weights[chosen]))
        self._fit_machines(data, parts, **how)
        return self

    def decision_function(self, X):
        """Scores (n,) for two classes, positive for the second; (n, classes) for more: votes and, less than one, how
        clear they were. With decision_function_shape="ovo" one score for each pair, positive for the first of it."""
        scores = self._scores(X)
        if self.classes_.size == 2:
            return scores[:, 0]
        if self.decision_function_shape not in ("ovr", "ovo"):
            raise ValueError(f'decision_function_shape must be "ovr" or "ovo", got {self.decision_function_shape!r}.')
        return -scores if self.decision_function_shape == "ovo" else self._votes(scores)

    def _votes(self, scores):
        k = self.classes_.size
        pairs = np.stack(np.triu_indices(k, 1), 1)
        first, second = (np.eye(k, dtype=scores.dtype)[pairs[:, side]] for side in (0, 1))
        votes = (scores > 0) @ second + (scores <= 0) @ first
        clear = scores @ (second - first)
        return votes + clear / (3 * (np.abs(clear) + 1))

    def predict(self, X):
        """The label (n,) with the most votes; of several the clearest."""
        scores = self._scores(X)
        if self.classes_.size == 2:
            return self.classes_[(scores[:, 0] > 0).astype(int)]
        return self.classes_[self._votes(scores).argmax(1)]


class SVC(_KernelClassifier):
    """A machine for each pair of classes, as `sklearn.svm.SVC`.

        minimise    1/2 |w|^2 + C sum_i w_i u_i,        u_i >= 0,   y_i (phi(x_i)'w + b) >= 1 - u_i

    Arguments:
        C: positive.
        kernel: "linear", "poly", "rbf", "laplacian", "sigmoid" (not convex for most data) or "precomputed"; one of
            `learn.kernels`; or a function of (X, Z) to the matrix of kernel values.
        degree, gamma, coef0: of the kernel; gamma "scale" is 1 / (d var(X)), with the weights of the samples, "auto"
            1 / d.
        tol: of the duality gap, relative; None for 1e-8 (float32: 1e-5).
        class_weight: None, "balanced", or a dict of factors of the weights by label.
        decision_function_shape: "ovr" or "ovo".

    `dual_coef_` has a row for each pair of classes (scikit-learn packs them). Ties of votes are broken by the scores,
    as with its break_ties=True. For probabilities see `sklearn.calibration.CalibratedClassifierCV`. Source:
    `convexjax.learn.svm`.

    >>> from convexjax.interop.sklearn import SVC
    >>> model = SVC(C=10.0, kernel="linear").fit([[0.0, 0], [1, 0], [3, 1], [4, 0]], ["no", "no", "yes", "yes"])
    >>> print(model.coef_.round(3), model.predict([[2.5, 1.0]]))
    [[0.8 0.4]] ['yes']
    """

    def __init__(
        self,
        *,
        C=1.0,
        kernel="rbf",
        degree=3,
        gamma="scale",
        coef0=0.0,
        tol=None,
        class_weight=None,
        decision_function_shape="ovr",
    ):
        self.C = C
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.tol = tol
        self.class_weight = class_weight
        self.decision_function_shape = decision_function_shape

    def _numbers(self, dtype):
        return {"C": number("C", self.C, dtype, above=0), "tolerance": tolerance(self.tol, dtype)}

    _machine = staticmethod(svm.fit)


class NuSVC(_KernelClassifier):
    """`SVC` with a share nu in the place of C, as `sklearn.svm.NuSVC`: at most nu of the samples are on the wrong side
    of their margin, at least nu are support vectors.

        minimise    1/2 |w|^2 - nu (sum_i w_i) rho + sum_i w_i u_i,     u_i >= 0,   y_i (phi(x_i)'w + b) >= rho - u_i

    divided by rho.

    Arguments:
        nu: above 0 and at most 1, and at most twice the share of the smaller class of each pair.
        kernel, degree, gamma, coef0, tol, decision_function_shape: as in `SVC`.

    Errors: a nu that is too large raises ValueError.

    >>> from convexjax.interop.sklearn import NuSVC
    >>> print(NuSVC(kernel="linear").fit([[0.0], [1.0], [3.0], [4.0]], [0, 0, 1, 1]).predict([[0.5], [3.5]]))
    [0 1]
    """

    def __init__(
        self,
        *,
        nu=0.5,
        kernel="rbf",
        degree=3,
        gamma="scale",
        coef0=0.0,
        tol=None,
        decision_function_shape="ovr",
    ):
        self.nu = nu
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.tol = tol
        self.decision_function_shape = decision_function_shape

    def _numbers(self, dtype):
        return {"nu": number("nu", self.nu, dtype, above=0, most=1), "tolerance": tolerance(self.tol, dtype)}

    @staticmethod
    def _machine(X, y, **how):
        model = svm.fit_nu(X, y, **how)
        if Status.PRIMAL_INFEASIBLE.holds(model.status):
            raise ValueError(f"nu = {how['nu']} is more than twice the share of the smaller of two classes.")
        return model


class SVR(RegressorMixin, KernelMachine):
    """Regression that does not count residuals up to epsilon, as `sklearn.svm.SVR`.

        minimise    1/2 |w|^2 + C sum_i w_i max(0, |phi(x_i)'w + b - y_i| - epsilon)

    Arguments:
        C: positive. epsilon: nonnegative.
        kernel, degree, gamma, coef0, tol: as in `SVC`.

    >>> import numpy as np
    >>> from convexjax.interop.sklearn import SVR
    >>> model = SVR(kernel="linear", C=10.0, epsilon=0.5).fit(np.arange(5.0)[:, None], 2 * np.arange(5.0))
    >>> print(model.predict([[2.0], [4.0]]).round(3))
    [4.  7.5]
    """

    def __init__(self, *, kernel="rbf", degree=3, gamma="scale", coef0=0.0, tol=None, C=1.0, epsilon=0.1):
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.tol = tol
        self.C = C
        self.epsilon = epsilon

    def fit(self, X, y, sample_weight=None):
        """Fit to X (n, d), y (n,) and weights (n,)."""
        data = samples(self, X, y, sample_weight, square=self._square)
        dtype = data.X.dtype
        how = {
            "C": number("C", self.C, dtype, above=0),
            "epsilon": number("epsilon", self.epsilon, dtype),
            "tolerance": tolerance(self.tol, dtype),
        }
        self._fit_machines(data, [(np.arange(len(data.y)), data.y, data.weights)], **how)
        return self

    _machine = staticmethod(svm.fit_regression)

    def predict(self, X):
        """Predictions (n,) for the rows of X."""
        return self._scores(X)[:, 0]


class OneClassSVM(OutlierMixin, KernelMachine):
    """Where the samples are, but for at most a share nu of them, as `sklearn.svm.OneClassSVM`.

        minimise    1/2 |w|^2 - nu (sum_i w_i) rho + sum_i w_i u_i,     u_i >= 0,   phi(x_i)'w >= rho - u_i

    (scikit-learn's, divided by nu sum w, has another scale of w and the same predictions.)

    Arguments:
        nu: above 0 and at most 1.
        kernel, degree, gamma, coef0, tol: as in `SVC`.

    `offset_` is rho, `decision_function` is `score_samples` minus it, zero if the two agree to half of the digits:
    samples on the boundary are inside.

    >>> from convexjax.interop.sklearn import OneClassSVM
    >>> model = OneClassSVM(gamma=1.0, nu=0.3).fit([[0.0], [1.0], [-1.0], [0.5], [4.0]])
    >>> print(model.predict([[0.2], [6.0]]))
    [ 1 -1]
    """

    def __init__(self, *, kernel="rbf", degree=3, gamma="scale", coef0=0.0, tol=None, nu=0.5):
        self.kernel = kernel
        self.degree = degree
        self.gamma = gamma
        self.coef0 = coef0
        self.tol = tol
        self.nu = nu

    def fit(self, X, y=None, sample_weight=None):
        """Fit to X (n, d) with weights (n,); y is not looked at."""
        X = validate_data(self, X, dtype=TYPES)
        data, dtype = weighted(X, np.ones(len(X), X.dtype), sample_weight, self._square), X.dtype
        how = {"nu": number("nu", self.nu, dtype, above=0, most=1), "tolerance": tolerance(self.tol, dtype)}
        self._fit_machines(data, [(np.arange(len(data.y)), data.y, data.weights)], **how)
        self.offset_ = -self.intercept_
        return self

    @staticmethod
    def _machine(X, y, **how):
        return svm.fit_one_class(X, **how)

    def score_samples(self, X):
        """sum_i dual_coef_i k(x, support_vectors_i) (n,)."""
        return self.decision_function(X) + self.offset_

    def decision_function(self, X):
        """Scores (n,), not negative inside."""
        scores = self._scores(X)[:, 0]
        boundary = np.abs(scores) <= np.sqrt(np.finfo(scores.dtype).eps) * np.abs(self.offset_)
        return np.where(boundary, 0, scores)

    def predict(self, X):
        """1 inside and -1 outside, (n,)."""
        return np.where(self.decision_function(X) >= 0, 1, -1)
