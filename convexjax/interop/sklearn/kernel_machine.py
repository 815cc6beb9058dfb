"""What the machines with a kernel share: the kernel by its name, a fit for each machine, and scores."""

from dataclasses import replace

import jax
import numpy as np
from sklearn.base import BaseEstimator

from convexjax.compilation import quick_jit
from convexjax.interop.sklearn.data import (
    Samples,
    columns,
    conclude,
    filled,
    new_samples,
    number,
    precision,
    rows,
)
from convexjax.learn import kernels

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


class KernelMachine(BaseEstimator):
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
