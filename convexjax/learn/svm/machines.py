"""Support vector machines for two classes, regression and one class, linear or with a kernel."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.learn.kernels import Kernel
from convexjax.learn.svm.arguments import checked, class_factors, form, is_infinite, require, require_loss, strength
from convexjax.learn.svm.model import SVMModel
from convexjax.learn.svm.training import Setting, train
from convexjax.problems.arguments import require_given


def fit(
    X: ArrayLike,
    y: ArrayLike,
    *,
    gamma: float | jax.Array | None = None,
    C: float | jax.Array | None = None,
    kernel: Kernel | None = None,
    loss: str = "hinge",
    sample_weight: ArrayLike | None = None,
    class_weight: ArrayLike | str | None = None,
    intercept: bool = True,
    missing: str = "status",
    tolerance: float | jax.Array | None = None,
    method: str = "auto",
    memory: float = 1e9,
) -> SVMModel:
    """Separate two classes.

        minimise    |w|^2 + gamma sum_i c_i u_i,          u_i >= 0,   y_i (x_i'w + b) >= 1 - u_i
        minimise    1/2 |w|^2 + C sum_i c_i u_i           subject to the same

    with y_i = -1 for the smaller of the two labels and 1 for the larger. The two are the same for C = gamma / 2, the
    objective of the first being twice that of the second; `dual` is always that of the second,

        minimise    1/2 sum_ij beta_i beta_j k(x_i, x_j) - sum_i a_i
        subject to  0 <= a_i <= C c_i,   beta_i = y_i a_i,   sum_i beta_i = 0,

    with k(x, z) = x'z if no kernel is given, and w = sum_i beta_i x_i.

    Arguments:
        X: (m, p).
        y: (m,), two labels. If y is traced they must be -1 and 1 (or any two others that are both there).
        gamma, C: positive, one of them. inf, if it is known now: a hard margin, u = 0, by the interior point.
        kernel: of `learn.kernels`; None for a linear machine.
        loss: "hinge", or "squared_hinge" with u_i^2 in the place of u_i.
        sample_weight: (m,), nonnegative factors of c_i; samples of weight zero are left out.
        class_weight: (2,), factors of c_i by class, smaller label first; "balanced" for m / (2 m_class).
        intercept: whether there is a b; it is not penalised.
        missing: "status" (NaN in X or y gives NUMERICAL_ERROR) or "drop" (such rows are left out).
        tolerance: of the duality gap, relative to the objective. None: 1e-8 (float32: 1e-5).
        method: "interior_point", O(m p^2) an iteration without, O(m^3) with a kernel (`newton.py`); "working_set",
            which never stores the kernel matrix (`working_set.py`); "auto" takes that for kernels (and p > m) with
            more than 200 samples and an intercept.
        memory: bytes for rows of the kernel matrix in working sets.

    Returns:
        `SVMModel`. SOLVED: no (w, b) has an objective lower by more than `gap`, relative. ALMOST_SOLVED: the gap is at
        most 1e-5 (float32: 1e-3). PRIMAL_INFEASIBLE: there is no hard margin; `dual` are the weights of a point in the
        convex hulls of both classes, with sum 1 in each. NUMERICAL_ERROR: NaN or infinite data, negative weights,
        labels that are not two (in traced y). NONCONVEX: the kernel matrix is not positive semidefinite, and no claim
        is made (add a multiple of the identity to the kernel matrix, or choose another kernel). MAX_ITERATIONS: no
        claim.

    Raises:
        ValueError: shapes that do not fit; gamma, C or weights that are known now and not positive; one class only.
        TypeError: data that are not real numbers.

    Differentiable in X, gamma or C, weights and the parameters of the kernel, by the conditions of the samples on the
    margin; with a kernel a derivative stores and factorises the kernel matrix.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> X, y = np.array([[0.0, 0.0], [1.0, 0.0], [3.0, 1.0], [4.0, 0.0]]), np.array(["no", "no", "yes", "yes"])
    >>> model = learn.svm.fit(X, y == "yes", C=10.0)
    >>> print(np.asarray(model.coef).round(3))
    [0.8 0.4]
    """
    require_loss(loss, "hinge")
    C, factor = strength(gamma, C)
    hard = is_infinite(C)
    C = 1.0 if hard else C
    X, y, weights, tolerance, C = checked(X, y, sample_weight, missing, tolerance, two_classes=True, C=C)
    method = "interior_point" if hard else method
    how = Setting("hard" if hard else loss, *form(X, kernel, missing, intercept, method, memory))
    model = train(X, y, weights, class_factors(class_weight, X.dtype), (C,), tolerance, kernel, how)
    return replace(model, objective=factor * model.objective)


def fit_regression(
    X: ArrayLike,
    y: ArrayLike,
    *,
    epsilon: float | jax.Array = 0.1,
    gamma: float | jax.Array | None = None,
    C: float | jax.Array | None = None,
    kernel: Kernel | None = None,
    loss: str = "absolute",
    sample_weight: ArrayLike | None = None,
    intercept: bool = True,
    missing: str = "status",
    tolerance: float | jax.Array | None = None,
    method: str = "auto",
    memory: float = 1e9,
) -> SVMModel:
    """Regression that does not count residuals up to epsilon.

        minimise    1/2 |w|^2 + C sum_i c_i max(0, |x_i'w + b - y_i| - epsilon)

    or with the square of max(0, ...) for loss="squared"; with gamma twice that, C = gamma / 2. epsilon is nonnegative;
    the rest is as in `fit`.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> model = learn.svm.fit_regression(np.arange(5.0)[:, None], 2 * np.arange(5.0), epsilon=0.5, C=10.0)
    >>> print(np.asarray(learn.svm.predict(model, [[2.0], [4.0]])).round(3))
    [4.  7.5]
    """
    require_loss(loss, "absolute")
    C, factor = strength(gamma, C)
    X, y, weights, tolerance, C, epsilon = checked(X, y, sample_weight, missing, tolerance, C=C, epsilon=epsilon)
    require(epsilon >= 0, "epsilon must be nonnegative", epsilon)
    how = Setting(
        "regression" if loss == "absolute" else "squared_regression",
        *form(X, kernel, missing, intercept, method, memory),
    )
    model = train(X, y, weights, None, (C, epsilon), tolerance, kernel, how)
    return replace(model, objective=factor * model.objective)


def fit_nu(
    X: ArrayLike,
    y: ArrayLike,
    *,
    nu: float | jax.Array = 0.5,
    kernel: Kernel | None = None,
    sample_weight: ArrayLike | None = None,
    missing: str = "status",
    tolerance: float | jax.Array | None = None,
) -> SVMModel:
    """Separate two classes with a share nu, in (0, 1], instead of C: at most nu of the samples are on the wrong side of
    their margin, at least nu are support vectors.

        minimise    1/2 |w|^2 - nu (sum_i c_i) rho + sum_i c_i u_i,     u_i >= 0,   y_i (x_i'w + b) >= rho - u_i

    The model is that divided by rho, so that the margin is at scores of 1, and is the same as that of `fit` with
    C = 1 / rho; `dual` is divided, too, `objective` is not. PRIMAL_INFEASIBLE: nu is larger than twice the share of the
    smaller class, and the objective falls for ever. The rest is as in `fit`. (Schoelkopf, Smola, Williamson and
    Bartlett, "New support vector algorithms", 2000.)

    >>> import numpy as np
    >>> from convexjax import learn
    >>> X, y = np.array([[0.0], [1.0], [3.0], [4.0]]), np.array([0, 0, 1, 1])
    >>> model = learn.svm.fit_nu(X, y, nu=0.5)
    >>> print(np.asarray(learn.svm.predict(model, [[0.5], [3.5]])))
    [0 1]
    """
    X, y, weights, tolerance, nu = checked(X, y, sample_weight, missing, tolerance, two_classes=True, nu=nu)
    require((nu > 0) & (nu <= 1), "nu must be in (0, 1]", nu)
    how = Setting("nu", *form(X, kernel, missing, True, "interior_point", 0))
    return train(X, y, weights, None, (nu,), tolerance, kernel, how)


def fit_one_class(
    X: ArrayLike,
    *,
    nu: float | jax.Array = 0.5,
    kernel: Kernel | None = None,
    sample_weight: ArrayLike | None = None,
    missing: str = "status",
    tolerance: float | jax.Array | None = None,
    method: str = "auto",
    memory: float = 1e9,
) -> SVMModel:
    """Where the samples are: scores are positive for all but at most a share nu, in (0, 1], of them.

        minimise    1/2 |w|^2 - nu (sum_i c_i) rho + sum_i c_i u_i,     u_i >= 0,   x_i'w >= rho - u_i

    The intercept of the model is -rho; `predict` gives -1 (outside) or 1. The rest is as in `fit`.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> X = np.array([[0.0], [1.0], [-1.0], [0.5], [4.0]])
    >>> model = learn.svm.fit_one_class(X, nu=0.3, kernel=learn.kernels.RBF(1.0))
    >>> print(np.asarray(learn.svm.predict(model, [[0.2], [6.0]])), int(model.status))
    [ 1 -1] 1
    """
    require_given(X=X)
    ones = jnp.ones(np.shape(X)[:1], jnp.float32)
    X, y, weights, tolerance, nu = checked(X, ones, sample_weight, missing, tolerance, nu=nu)
    require((nu > 0) & (nu <= 1), "nu must be in (0, 1]", nu)
    how = Setting("one_class", *form(X, kernel, missing, True, method, memory))
    return train(X, y, weights, None, (nu,), tolerance, kernel, how)
