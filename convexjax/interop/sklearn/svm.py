"""Support vector machines: classification, regression and one class, linear or with a kernel."""

from dataclasses import replace
from functools import partial

import jax
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, OutlierMixin, RegressorMixin
from sklearn.utils.validation import validate_data

from convexjax.compilation import quick_jit
from convexjax.interop.sklearn.data import (
    TYPES,
    Samples,
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
    weighted,
)
from convexjax.learn import kernels, svm
from convexjax.solution import Status

KERNELS = {
    "linear": lambda p: kernels.Linear(),
    "poly": lambda p: kernels.Polynomial(p["degree"], p["gamma"], p["coef0"]),
    "rbf": lambda p: kernels.RBF(p["gamma"]),
    "laplacian": lambda p: kernels.Laplacian(p["gamma"]),
    "sigmoid": lambda p: kernels.Sigmoid(p["gamma"], p["coef0"]),
    "precomputed": lambda p: kernels.Precomputed(),
}
# Entries of a matrix of kernel values that is formed at once to predict.
BLOCK_ENTRIES = 4_000_000


class _KernelMachine(BaseEstimator):
    """What estimators with a kernel share. After `fit` the scores of x are sum_i dual_coef_i k(x, support_vectors_i) +
    intercept_, one for each row of dual_coef_."""

    @property
    def _square(self):
        return isinstance(self.kernel, str) and self.kernel == "precomputed"

    def _kernel(self, data: Samples):
        """The kernel of `learn.kernels`, and X as it takes it."""
        X, dtype = data.X, data.X.dtype
        if isinstance(self.kernel, kernels.Kernel):
            return self.kernel, X
        if callable(self.kernel):
            return kernels.Precomputed(), np.asarray(self.kernel(X, X), dtype)
        if self.kernel not in KERNELS:
            names = ", ".join(map(repr, KERNELS))
            raise ValueError(f"kernel must be {names}, of learn.kernels, or a function, got {self.kernel!r}.")
        gamma = self.gamma
        if gamma == "scale":
            # the variance of all entries
            w = np.broadcast_to(data.weights[:, None], X.shape)
            variance = np.average((X - np.average(X, weights=w)) ** 2, weights=w)
            gamma = 1 / (X.shape[1] * variance) if variance > 0 else 1.0
        elif gamma == "auto":
            gamma = 1 / X.shape[1]
        elif isinstance(gamma, str):
            raise ValueError(f'gamma must be "scale", "auto" or a number, got {gamma!r}.')
        return KERNELS[self.kernel](
            {
                "degree": self.degree,
                "gamma": number("gamma", gamma, dtype),
                "coef0": np.asarray(self.coef0, dtype),
            }
        ), X

    def _fit_machines(self, data: Samples, parts: list, **how) -> None:
        """Fit a machine for each (chosen samples, targets, weights), with `self._machine(X, y, weights=..., **how)`."""
        kernel, X = self._kernel(data)
        pairwise = isinstance(kernel, kernels.Precomputed)
        wide = columns if isinstance(self.kernel, str) and not pairwise else lambda X: X
        models, beta = [], np.zeros((len(parts), len(X)), X.dtype)
        with precision(X.dtype):
            for k, (chosen, y, weights) in enumerate(parts):
                size = filled(len(y))
                own = X[np.ix_(chosen, chosen)] if pairwise else wide(X[chosen])
                own = np.pad(own, ((0, size - len(y)), (0, size - len(y) if pairwise else 0)))
                # the labels of samples that are not there do not count
                y = np.pad(y, (0, size - len(y)), constant_values=y[0])
                model = self._machine(own, y, kernel=kernel, sample_weight=rows(weights), **how)
                models.append(jax.tree.map(np.asarray, replace(model, samples=None, kernel=None)))
                beta[k, chosen] = models[-1].beta[: len(chosen)]
        used = (beta != 0).any(0)
        self.support_ = data.places[used]
        self.support_vectors_ = data.X[used]
        self.dual_coef_ = beta[:, used]
        self.intercept_ = np.array([model.intercept for model in models])
        self._fitted_kernel = kernel
        conclude(self, *(model.status for model in models))

    @property
    def coef_(self):
        """(machines, d), for the linear kernel only."""
        if self.kernel != "linear":
            raise AttributeError(f"coef_ is there for kernel='linear' only, not for {self.kernel!r}.")
        return self.dual_coef_ @ self.support_vectors_

    def _scores(self, X) -> np.ndarray:
        """(n, machines) of the rows of X."""
        X = new_samples(self, X)
        kernel, number_of = self._fitted_kernel, len(self.support_)
        if isinstance(kernel, kernels.Precomputed):
            K = np.asarray(self.kernel(X, self.support_vectors_)) if callable(self.kernel) else X[:, self.support_]
            return K @ self.dual_coef_.T + self.intercept_
        dtype = np.result_type(X.dtype, self.dual_coef_.dtype)
        wide = columns if isinstance(self.kernel, str) else lambda X: X
        size = filled(max(number_of, 1))
        vectors = rows(wide(self.support_vectors_.astype(dtype)), size)
        beta = np.pad(self.dual_coef_.astype(dtype), ((0, 0), (0, size - number_of)))
        block = max(32, BLOCK_ENTRIES // size // 32 * 32)
        found = []
        with precision(dtype):
            for first in range(0, len(X), block):
                part = X[first : first + block].astype(dtype)
                filled_part = rows(wide(part), min(block, filled(len(part))))
                found.append(np.asarray(_scores(kernel, filled_part, vectors, beta))[: len(part)])
        return np.concatenate(found) + self.intercept_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self._square
        return tags


@quick_jit
def _scores(kernel, X, vectors, beta):
    return kernel(X, vectors) @ beta.T


# ----------------------------------------------------------------------------- classification


class _KernelClassifier(ClassifierMixin, _KernelMachine):
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


# ----------------------------------------------------------------------------- regression and one class


class SVR(RegressorMixin, _KernelMachine):
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


class OneClassSVM(OutlierMixin, _KernelMachine):
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


# ----------------------------------------------------------------------------- linear


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
