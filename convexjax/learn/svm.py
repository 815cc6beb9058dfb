"""Support vector machines: classification, regression and one class, linear or with a kernel."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.learn import box_dual, logistic, working_set
from convexjax.learn.box_dual import BoxDual, Dense, LowRank, Streamed
from convexjax.learn.data import clean
from convexjax.learn.kernels import RBF, Kernel, Linear, Precomputed
from convexjax.learn.logistic import LogisticModel
from convexjax.linear_algebra import static
from convexjax.options import DEFAULT_TOLERANCES
from convexjax.problems.arguments import floating, require_given, require_shape
from convexjax.solution import Status

# Rows of new samples whose kernel values are formed together, times training samples.
BLOCK_ENTRIES = 4_000_000
# Entries of X from which the run takes longer than the compilation.
LARGE = 1_000_000
# Entries of the data, or of kernel matrices, of the machines of a batch.
BATCH_ENTRIES = 1_000_000
# Most samples with which "auto" stores and factorises the kernel matrix, size of working sets, and tolerance with them.
DENSE_SAMPLES, WORKING_SET, LOOSE = 1000, 256, 1e-5


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class SVMModel:
    """A fitted machine, a pytree. Its score of x is x'coef + intercept, or sum_i beta_i k(x, x_i) + intercept."""

    coef: Any  # (p,); None with a kernel
    intercept: Any  # ()
    dual: Any  # (m,): a, for a classification between 0 and C w_i; for a regression the difference, beta
    beta: Any  # (m,): the weights of k(x, x_i); y_i a_i for a classification
    support: Any  # (m,), bool: the samples with beta_i != 0 (in float32 some tiny ones may be left)
    margin: Any  # 1 / |w|: the distance of the lines where the score is 1 and 0
    objective: Any  # as the fit states it
    gap: Any  # proved distance from the minimum, relative to the objective
    status: Any  # int32, a `Status`
    num_iters: Any
    classes: Any = None  # (2,): the labels of negative and positive scores
    samples: Any = None  # (m, p): with a kernel, the data
    kernel: Any = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Setting:
    """What changes the traced program."""

    kind: str = static()
    low_rank: bool = static()
    linear: bool = static()
    block: int = static()  # size of working sets, 0 for the interior point
    intercept: bool = static()
    drop: bool = static()


# ----------------------------------------------------------------------------- what is fitted


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
        gamma, C: positive, one of them.
        kernel: of `learn.kernels`; None for a linear machine.
        loss: "hinge", or "squared_hinge" with u_i^2 in the place of u_i.
        sample_weight: (m,), nonnegative factors of c_i; samples of weight zero are left out.
        class_weight: (2,), factors of c_i by class, smaller label first; "balanced" for m / (2 m_class).
        intercept: whether there is a b; it is not penalised.
        missing: "status" (NaN in X or y gives NUMERICAL_ERROR) or "drop" (such rows are left out).
        tolerance: of the duality gap, relative to the objective. None: 1e-8 (float32 and working sets: 1e-5).
        method: "interior_point", O(m p^2) an iteration without, O(m^3) with a kernel (`box_dual.py`); "working_set",
            which never stores the kernel matrix (`working_set.py`); "auto" takes that for kernels (and p > m) from
            1000 samples.
        memory: bytes for rows of the kernel matrix in working sets.

    Returns:
        `SVMModel`. SOLVED: no (w, b) has an objective lower by more than `gap`, relative. ALMOST_SOLVED: the gap is at
        most 1e-5 (float32: 1e-3). NUMERICAL_ERROR: NaN or infinite data, negative weights, labels that are not two (in
        traced y). NONCONVEX: the kernel matrix is not positive semidefinite, and no claim is made (add a multiple of
        the identity to the kernel matrix, or choose another kernel). MAX_ITERATIONS: no claim.

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
    _require_loss(loss, "hinge")
    C, factor = _strength(gamma, C)
    X, y, weights, tolerance, C = _checked(X, y, sample_weight, missing, tolerance, two_classes=True, C=C)
    how = Setting(loss, *_form(X, kernel, missing, intercept, method, memory))
    model = _fit(X, y, weights, _class_factors(class_weight, X.dtype), (C,), tolerance, kernel, how)
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
    _require_loss(loss, "absolute")
    C, factor = _strength(gamma, C)
    X, y, weights, tolerance, C, epsilon = _checked(X, y, sample_weight, missing, tolerance, C=C, epsilon=epsilon)
    _require(epsilon >= 0, "epsilon must be nonnegative", epsilon)
    how = Setting(
        "regression" if loss == "absolute" else "squared_regression",
        *_form(X, kernel, missing, intercept, method, memory),
    )
    model = _fit(X, y, weights, None, (C, epsilon), tolerance, kernel, how)
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
    X, y, weights, tolerance, nu = _checked(X, y, sample_weight, missing, tolerance, two_classes=True, nu=nu)
    _require((nu > 0) & (nu <= 1), "nu must be in (0, 1]", nu)
    how = Setting("nu", *_form(X, kernel, missing, True, "interior_point", 0))
    return _fit(X, y, weights, None, (nu,), tolerance, kernel, how)


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
    >>> X = np.array([[0.0], [0.1], [-0.1], [0.05], [3.0]])
    >>> model = learn.svm.fit_one_class(X, nu=0.3, kernel=learn.kernels.RBF(1.0))
    >>> print(np.asarray(learn.svm.predict(model, [[0.02], [5.0]])))
    [ 1 -1]
    """
    require_given(X=X)
    ones = jnp.ones(np.shape(X)[:1], jnp.float32)
    X, y, weights, tolerance, nu = _checked(X, ones, sample_weight, missing, tolerance, nu=nu)
    _require((nu > 0) & (nu <= 1), "nu must be in (0, 1]", nu)
    how = Setting("one_class", *_form(X, kernel, missing, True, method, memory))
    return _fit(X, y, weights, None, (nu,), tolerance, kernel, how)


# ----------------------------------------------------------------------------- several classes


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class MulticlassModel:
    """One machine for each pair of classes, or for each class against the others: `machines` is an `SVMModel` with one
    entry per machine in front of each array."""

    machines: SVMModel
    classes: Any  # (k,)
    positive: Any  # (machines,), index of the class of positive scores
    negative: Any  # (machines,), that of negative ones; None for one against the others


def fit_multiclass(X: ArrayLike, y: ArrayLike, *, strategy: str = "one_vs_one", **how) -> MulticlassModel:
    """A machine for more than two classes, all two-class machines in one batch.

    Arguments:
        X: (m, p).
        y: (m,), known now: labels of at least two classes.
        strategy: "one_vs_one", k (k - 1) / 2 machines that vote, or "one_vs_rest", k machines of which the largest
            score wins.
        how: what `fit` takes, but for class_weight and precomputed kernels.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> X, y = np.array([[0.0, 0], [1, 0], [0, 5], [1, 5], [5, 0], [5, 1]]), np.array([0, 0, 1, 1, 2, 2])
    >>> model = learn.svm.fit_multiclass(X, y, C=1.0)
    >>> print(np.asarray(learn.svm.predict_multiclass(model, X)))
    [0 0 1 1 2 2]
    """
    if strategy not in ("one_vs_one", "one_vs_rest"):
        raise ValueError(f'strategy must be "one_vs_one" or "one_vs_rest", got {strategy!r}.')
    if isinstance(y, jax.core.Tracer):
        raise ValueError("y is traced, but its classes decide how many machines there are; pass it as a constant.")
    labels = np.asarray(y)
    (X,) = floating(X=X)
    require_shape("X", X, (None, None))
    require_shape("y", labels, (X.shape[0],), "with one entry per row of X")
    classes, own = np.unique(labels, return_inverse=True)
    k = classes.size
    if k < 2:
        raise ValueError(f"y holds {k} class, expected at least 2.")
    (weights,) = floating(weights=how.pop("sample_weight", None))
    weights = jnp.ones(X.shape[0], X.dtype) if weights is None else weights.astype(X.dtype)
    if strategy == "one_vs_rest":
        rows = np.tile(np.arange(X.shape[0]), (k, 1))
        signs, counted = np.where(own == np.arange(k)[:, None], 1.0, -1.0), np.ones(rows.shape)
        positive, negative = np.arange(k), None
    else:
        negative, positive = np.triu_indices(k, 1)
        members = [np.flatnonzero((own == i) | (own == j)) for i, j in zip(negative, positive, strict=True)]
        size = max(len(part) for part in members)
        # shorter ones are filled up with samples of weight zero
        rows = np.stack([np.pad(part, (0, size - len(part))) for part in members])
        counted = np.stack([np.arange(size) < len(part) for part in members]).astype(float)
        signs = np.where(own[rows] == positive[:, None], 1.0, -1.0)

    def machine(arguments):
        rows, signs, counted = arguments
        return fit(X[rows], signs, sample_weight=weights[rows] * counted, **how)

    arrays = jnp.asarray(rows, jnp.int32), jnp.asarray(signs, X.dtype), jnp.asarray(counted, X.dtype)
    # a batch whose kernel matrices or rows fit into a cache, one batch after the other
    entries = rows.shape[1] * max(X.shape[1], rows.shape[1] if how.get("kernel") is not None else 0)
    machines = jax.lax.map(machine, arrays, batch_size=int(np.clip(BATCH_ENTRIES // entries, 1, len(rows))))
    machines = replace(machines, classes=None)
    known = jnp.asarray(classes, jnp.int32 if classes.dtype.kind in "biu" else None)
    index = lambda v: None if v is None else jnp.asarray(v, jnp.int32)
    return MulticlassModel(machines=machines, classes=known, positive=index(positive), negative=index(negative))


def predict_multiclass(model: MulticlassModel, X: ArrayLike) -> jax.Array:
    """The class (n,) of each row of X (n, p): by votes, the first of those with equally many, or by the largest
    score."""
    scores = jax.lax.map(lambda machine: decision_function(machine, X), model.machines)  # (machines, n)
    if model.negative is None:
        return model.classes[jnp.argmax(scores, 0)]
    winner = jnp.where(scores > 0, model.positive[:, None], model.negative[:, None])
    k = model.classes.shape[0]
    votes = jnp.sum((winner[:, :, None] == jnp.arange(k, dtype=jnp.int32)).astype(jnp.int32), 0)
    return model.classes[jnp.argmax(votes, 1)]


# ----------------------------------------------------------------------------- grids


def grid_scores(
    X: ArrayLike,
    y: ArrayLike,
    strengths: ArrayLike,
    scales: ArrayLike,
    folds: ArrayLike,
    *,
    kernel: Callable = RBF,
    tolerance: float = 1e-4,
    number: int | None = None,
) -> jax.Array:
    """The shares (k, l) of samples that are classified rightly while they are left out, for all strengths (k,), the C
    of `fit`, and all scales (l,) of `kernel(scale)`, in one program: a kernel matrix serves for all folds and
    strengths, and each strength starts from the one before.

    X (m, p), y (m,) with two labels, `folds` (m,) the fold in which a sample is left out (`validation.k_fold`), their
    `number` if they are traced. NaN where a machine did not reach the tolerance.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> X, y = np.linspace(-1, 1, 12)[:, None], np.repeat([0, 1, 0], 4)
    >>> scores = learn.svm.grid_scores(X, y, [1.0, 10.0], [0.1, 3.0], learn.validation.k_fold(12, 4))
    >>> scores.shape
    (2, 2)
    """
    if isinstance(folds, jax.core.Tracer) and number is None:
        raise ValueError("folds is traced: pass the number of folds as `number`.")
    if number is None:
        number = int(np.max(np.asarray(folds))) + 1
    if not isinstance(y, jax.core.Tracer):
        y, _ = _signs(y)
    X, y, strengths, scales = floating(X=X, y=y, strengths=strengths, scales=scales)
    require_shape("X", X, (None, None))
    for name, array in (("y", y), ("folds", jnp.asarray(folds))):
        require_shape(name, array, X.shape[:1], "with one entry per row of X")
    for name, array in (("strengths", strengths), ("scales", scales)):
        require_shape(name, array, (None,))
    _require(strengths > 0, "strengths must be positive", strengths)
    return _grid_scores(
        X, jnp.where(y > 0, 1.0, -1.0).astype(X.dtype), strengths, scales, folds, kernel, number, tolerance
    )


@partial(jax.jit, static_argnames=("kernel", "number"))
def _grid_scores(X, y, strengths, scales, folds, kernel, number, tolerance):
    m, dtype = X.shape[0], X.dtype
    q = max(8, min(WORKING_SET, m // 2) // 4 * 4)
    order = jnp.argsort(strengths)
    folds = jnp.asarray(folds, jnp.int32)

    def of_scale(scale):
        K = kernel(scale)(X, X)

        def of_fold(fold):
            inside = (folds != fold).astype(dtype)

            def of_strength(before, C):
                (v, F), last = before[:2], before[2]
                hi, lo = jnp.where(y > 0, C * inside, 0), jnp.where(y > 0, 0, -C * inside)
                problem = working_set.Problem(y, lo, hi, jnp.zeros_like(y), jnp.zeros((), dtype))
                ratio = C / last
                start = jnp.clip(ratio * v, lo, hi), y - ratio * (y - F)
                v, F, b, gap, _ = working_set.solve(problem, lambda own: K[own], m, q, tolerance, start)
                right = jnp.where(y * (y - F + b) > 0, 1 - inside, 0)
                score = jnp.sum(right) / jnp.sum(1 - inside)
                return (v, F, C), jnp.where(gap <= tolerance, score, jnp.nan)

            begin = jnp.zeros_like(y), y, strengths[order[0]]
            return jax.lax.scan(of_strength, begin, strengths[order])[1]

        return jnp.mean(jax.lax.map(of_fold, jnp.arange(number, dtype=jnp.int32)), 0)

    scores = jax.lax.map(of_scale, scales)  # (l, k), by increasing strength
    return scores.T[jnp.argsort(order)]


# ----------------------------------------------------------------------------- probabilities


def calibrate(X: ArrayLike, y: ArrayLike, folds: ArrayLike, *, penalty: float = 0.0, **how) -> LogisticModel:
    """Probabilities for the scores of `fit(X, y, **how)`: a logistic regression on the scores of samples that were left
    out, `folds` (m,) saying when (`validation.k_fold`), all folds in one batch. The targets are those of Platt
    ("Probabilistic outputs for support vector machines", 1999), between 0 and 1, so that there always is an optimum.
    y holds two labels, known now."""
    y_known, _ = _signs(y)
    number = int(np.max(np.asarray(folds))) + 1
    out = jnp.asarray(folds) == jnp.arange(number, dtype=jnp.asarray(folds).dtype)[:, None]
    (X,) = floating(X=X)
    (weights,) = floating(weights=how.pop("sample_weight", None))
    weights = jnp.ones(X.shape[0], X.dtype) if weights is None else weights.astype(X.dtype)
    signs = jnp.asarray(y_known, X.dtype)
    fit_scores = lambda out: decision_function(fit(X, y, sample_weight=jnp.where(out, 0, weights), **how), X)
    scores = jnp.sum(jnp.where(out, jax.lax.map(fit_scores, out), 0), 0)
    positive, negative = (jnp.sum(jnp.where(side, weights, 0)) for side in (signs > 0, signs < 0))
    target = jnp.where(signs > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    # each sample once with each class
    both = jnp.concatenate([jnp.ones_like(signs), jnp.zeros_like(signs)])
    shares = jnp.concatenate([weights * target, weights * (1 - target)])
    return logistic.fit(jnp.tile(scores, 2)[:, None], both, penalty, weights=shares)


def predict_probability(model: SVMModel, calibration: LogisticModel, X: ArrayLike) -> jax.Array:
    """The probabilities (n, 2) of the smaller and the larger label."""
    return logistic.predict_probability(calibration, decision_function(model, X)[:, None])


# ----------------------------------------------------------------------------- what a model says


def decision_function(model: SVMModel, X: ArrayLike) -> jax.Array:
    """The scores (n,) of the rows of X (n, p), or of the rows of kernel values (n, m) for a `Precomputed` kernel."""
    X, intercept = floating(X=X, intercept=model.intercept)
    if model.coef is not None:
        require_shape("X", X, (None, model.coef.shape[0]), "with one column per coefficient")
        return X @ model.coef + intercept
    m, width = model.samples.shape[0], model.samples.shape[1]
    require_shape("X", X, (None, width), "with one column per column of the training data")
    scores = lambda rows: model.kernel(rows, model.samples) @ model.beta + intercept
    rows = max(1, BLOCK_ENTRIES // m)
    if X.shape[0] <= rows:
        return scores(X)
    number = math.ceil(X.shape[0] / rows)
    padded = jnp.pad(X, ((0, number * rows - X.shape[0]), (0, 0)))
    return jax.lax.map(scores, padded.reshape(number, rows, width)).reshape(-1)[: X.shape[0]]


def predict(model: SVMModel, X: ArrayLike) -> jax.Array:
    """The class (n,) of each row of X by the sign of its score; for a regression the score itself."""
    scores = decision_function(model, X)
    if model.classes is None:
        return scores
    return jnp.where(scores > 0, model.classes[1], model.classes[0])


# ----------------------------------------------------------------------------- arguments


def _require_loss(loss, plain):
    squared = "squared" if plain == "absolute" else "squared_hinge"
    if loss not in (plain, squared):
        raise ValueError(f'loss must be "{plain}" or "{squared}", got {loss!r}.')


def _require(holds, message, value):
    """Raise `ValueError` for what is known now and does not hold."""
    if not isinstance(holds, jax.core.Tracer) and not bool(jnp.all(holds)):
        raise ValueError(f"{message}, got {value}.")


def _strength(gamma, C) -> tuple:
    """(C, by what the objective is multiplied)."""
    if (gamma is None) == (C is None):
        raise ValueError("pass one of gamma and C (C = gamma / 2).")
    if gamma is None:
        return C, 1
    (gamma,) = floating(gamma=gamma)
    _require((gamma > 0) & (gamma < jnp.inf), "gamma must be positive and finite", gamma)
    return gamma / 2, 2


def _checked(X, y, weights, missing, tolerance, two_classes=False, **scalars) -> list:
    """(X, y, weights, tolerance, the scalars in turn) as arrays of the type of X that fit; y with its labels as they
    are, unless they are known now: then -1 and 1 with the labels beside them."""
    if missing not in ("status", "drop"):
        raise ValueError(f'missing must be "status" or "drop", got {missing!r}.')
    require_given(X=X, y=y)
    classes = None
    if two_classes and not isinstance(y, jax.core.Tracer):
        y, classes = _signs(y)
    (X,) = floating(X=X)
    y, weights, tolerance = floating(y=y, weights=weights, tolerance=0 if tolerance is None else tolerance)
    require_shape("X", X, (None, None))
    m = X.shape[0]
    if m == 0:
        raise ValueError("X has no rows, expected at least one sample.")
    require_shape("y", y, (m,), "with one entry per row of X")
    if weights is not None:
        require_shape("sample_weight", weights, (m,), "with one entry per row of X")
        weights = weights.astype(X.dtype)
    _require(tolerance >= 0, "tolerance must be positive", tolerance)
    arrays = []
    for name, value in scalars.items():
        (value,) = floating(**{name: value})
        require_shape(name, value, ())
        if name == "C":
            _require((value > 0) & (value < jnp.inf), "C must be positive and finite", value)
        arrays.append(value.astype(X.dtype))
    labelled = (y.astype(X.dtype), classes) if two_classes else y.astype(X.dtype)
    return [X, labelled, weights, tolerance.astype(X.dtype), *arrays]


def _signs(y) -> tuple:
    """(-1 and 1 for two labels that are known now, the labels)."""
    if isinstance(y, jax.core.Tracer):
        raise ValueError("y is traced, expected labels that are known now.")
    values = np.asarray(y)
    classes = np.unique(values[np.isfinite(values)] if values.dtype.kind == "f" else values)
    if classes.size != 2:
        raise ValueError(f"y holds {classes.size} different labels, expected 2 (for more: fit_multiclass).")
    signs = np.where(values == classes[1], 1.0, np.where(values == classes[0], -1.0, np.nan))
    return signs, jnp.asarray(classes, jnp.int32 if classes.dtype.kind in "biu" else None)


def _class_factors(class_weight, dtype):
    """None, "balanced", or the two factors."""
    if class_weight is None:
        return None
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f'class_weight must be "balanced" or two numbers, got {class_weight!r}.')
        return Balanced()
    (factors,) = floating(class_weight=class_weight)
    require_shape("class_weight", factors, (2,), "for the smaller and the larger label")
    _require(factors > 0, "class_weight must be positive", factors)
    return factors.astype(dtype)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Balanced:
    """Factors m / (2 m_class)."""


def _form(X, kernel, missing, intercept, method, memory) -> tuple:
    """(whether K is X X' of low rank, whether it is X X', the size of working sets, intercept, drop)."""
    if method not in ("auto", "interior_point", "working_set"):
        raise ValueError(f'method must be "auto", "interior_point" or "working_set", got {method!r}.')
    if not isinstance(intercept, bool):
        raise ValueError(f"intercept must be True or False (it is static), got {intercept!r}.")
    if kernel is not None and not isinstance(kernel, Kernel):
        raise ValueError(f"kernel must be one of learn.kernels, got {type(kernel).__name__}; see kernels.Function.")
    if isinstance(kernel, Precomputed):
        require_shape("X", X, (X.shape[0], X.shape[0]), "the values of a precomputed kernel")
    linear = kernel is None or isinstance(kernel, Linear)
    m, low_rank = X.shape[0], linear and X.shape[1] <= X.shape[0]
    block = 0
    if method == "working_set" or (method == "auto" and not low_rank and m > DENSE_SAMPLES):
        if not intercept:
            raise ValueError('method "working_set" wants intercept=True.')
        low_rank = False
        # rows that are kept, new ones, and those as a product before the kernel is applied
        entries = memory / X.dtype.itemsize / 2.5
        block = max(8, min(WORKING_SET, int(entries / m), m // 2) // 4 * 4)
    return low_rank, linear, block, intercept, missing == "drop"


# ----------------------------------------------------------------------------- the fit


def _fit(X, labelled, weights, class_factors, parameters, tolerance, kernel, how: Setting) -> SVMModel:
    # quick compilation makes exponentials of large blocks slower
    call = _compiled if how.block or X.size > LARGE else _quickly_compiled
    return call(X, labelled, weights, class_factors, parameters, tolerance, kernel, how)


def _machine(X, labelled, weights, class_factors, parameters, tolerance, kernel, how: Setting) -> SVMModel:
    separates = how.kind in ("hinge", "squared_hinge", "nu")
    y, classes = labelled if separates else (labelled, None)
    X, y, weights, fine = clean(X, y, weights, how.drop)
    default = DEFAULT_TOLERANCES[X.dtype.name][0]
    tolerance = jnp.where(tolerance > 0, tolerance, max(default, LOOSE) if how.block else default)
    live = weights > 0
    if separates:
        y, classes, two = _two_classes(y, classes, live)
        fine = fine & two
    if class_factors is not None:
        if isinstance(class_factors, Balanced):
            count = lambda of: jnp.maximum(jnp.sum(live & of), 1).astype(X.dtype)
            class_factors = (count(y < 0) + count(y > 0)) / 2 / jnp.stack([count(y < 0), count(y > 0)])
        weights = weights * jnp.where(y > 0, class_factors[1], class_factors[0])
    mean = jnp.zeros(X.shape[1], X.dtype)
    if how.linear and how.intercept and how.kind != "one_class":
        # the same problem with an intercept, better conditioned
        mean = weights @ X / jnp.sum(weights)
    rows = jnp.where(live[:, None], X - mean, 0) if how.linear else X
    dual = _dual(y, weights, parameters, how)
    operator = _operator(rows, kernel, how)
    if how.block:
        found = _by_working_sets(dual, operator, tolerance, how.block)
    else:
        found = box_dual.solve(dual, operator, tolerance)
    a, b, beta, status = found.a, found.b, dual.beta(found.a), found.status
    if not how.linear and not kernel.is_convex:
        fine_kernel = box_dual.is_convex(jax.lax.stop_gradient(operator))
        status = jnp.where(fine_kernel, status, jnp.int32(Status.NONCONVEX))
    if how.kind == "nu":
        rho = -found.rho
        proper = rho > 0
        rho = jnp.where(proper, rho, 1)
        a, b, beta = (v / rho for v in (a, b, beta))
        smaller = jnp.minimum(*(jnp.sum(jnp.where(side, weights, 0)) for side in (y > 0, y < 0)))
        excess = parameters[0] * jnp.sum(weights) > 2 * smaller * (1 + 10 * jnp.finfo(X.dtype).eps)
        status = jnp.where(excess, jnp.int32(Status.PRIMAL_INFEASIBLE), status)
        fine = fine & (proper | excess)
    size = found.square / rho**2 if how.kind == "nu" else found.square
    margin = jnp.where(size > 0, jax.lax.rsqrt(jnp.where(size > 0, size, 1)), jnp.inf)
    coef = beta @ rows if how.linear else None
    b = b if coef is None else b - mean @ coef
    fill = lambda v: None if v is None else jnp.where(fine, v, jnp.nan)
    if how.kind == "one_class":
        classes = jnp.array([-1, 1], jnp.int32)
    return SVMModel(
        coef=fill(coef),
        intercept=fill(b),
        dual=fill(beta if "regression" in how.kind else a[0]),
        beta=fill(beta),
        support=beta != 0,
        margin=fill(margin),
        objective=fill(found.objective),
        gap=fill(found.gap),
        status=jnp.where(fine, status, jnp.int32(Status.NUMERICAL_ERROR)),
        num_iters=found.num_iters,
        classes=classes,
        samples=None if how.linear else X,
        kernel=None if how.linear else kernel,
    )


_compiled, _quickly_compiled = jax.jit(_machine), quick_jit(_machine)


def _operator(rows, kernel, how: Setting):
    """K in the form that the method needs."""
    if how.low_rank:
        return LowRank(rows)
    if how.block:
        return Streamed(Linear() if how.linear else kernel, rows)
    K = rows @ rows.T if how.linear else kernel(rows, rows)
    return Dense((K + K.T) / 2)


def _by_working_sets(dual: BoxDual, operator: Streamed, tolerance, block: int) -> box_dual.Found:
    """The solution by `working_set`."""
    fixed, op = jax.lax.stop_gradient((dual, operator))
    sign, u = fixed.sign.reshape(-1), fixed.u.reshape(-1)
    if not fixed.bounded:
        u = jnp.where(u > 0, jnp.inf, 0)
    problem = working_set.Problem(
        p=-sign * fixed.q.reshape(-1),
        lo=jnp.where(sign > 0, 0, -u),
        hi=jnp.where(sign > 0, u, 0),
        d=fixed.d.reshape(-1),
        e=fixed.e[0],
    )
    rows = lambda samples: op.kernel(op.X[samples], op.X)
    v, F, b, gap, count = working_set.solve(problem, rows, dual.q.shape[1], block, tolerance)
    a = jnp.abs(v).reshape(fixed.q.shape)
    f = (problem.p - F - problem.d * v).reshape(fixed.q.shape)[0]
    point = box_dual.Point(a, a, a, b, jnp.zeros_like(b), fixed.beta(a), f)
    free, upper = (v > problem.lo) & (v < problem.hi), (jnp.abs(v) >= u) & (u > 0)
    active = box_dual.ActiveSet(*(part.reshape(a.shape).astype(a.dtype) for part in (free, upper)))
    return box_dual.finish(dual, operator, point, active, gap, tolerance, count)


def _two_classes(y, classes, live):
    """(y with -1 and 1, the labels, whether there are two with samples of positive weight)."""
    if classes is None:
        low = jnp.min(jnp.where(live, y, jnp.inf))
        high = jnp.max(jnp.where(live, y, -jnp.inf))
        known = jnp.all(~live | (y == low) | (y == high))
        return jnp.where(y == high, 1, -1).astype(y.dtype), jnp.stack([low, high]), known & (low < high)
    return y, classes, jnp.any(live & (y > 0)) & jnp.any(live & (y < 0))


def _dual(y, weights, parameters, how: Setting) -> BoxDual:
    """The problem in the form of `box_dual`."""
    m, dtype = y.shape[0], y.dtype
    one, zero = jnp.ones((1, m), dtype), jnp.zeros((), dtype)
    e = jnp.zeros(2, dtype)
    if how.kind in ("nu", "one_class"):
        amount = parameters[0] * jnp.sum(weights)
        if how.kind == "nu":
            return BoxDual(y[None], 0 * one, weights[None], 0 * one, jnp.stack([zero, amount]), total=True)
        return BoxDual(one, 0 * one, weights[None], 0 * one, jnp.stack([amount, zero]))
    C = parameters[0] * weights
    if "regression" in how.kind:
        epsilon = parameters[1]
        sign, q = jnp.concatenate([one, -one]), jnp.stack([epsilon - y, epsilon + y])
    else:
        sign, q = y[None], -one
    u = jnp.broadcast_to(C, q.shape)
    if not how.kind.startswith("squared"):
        return BoxDual(sign, q, u, jnp.zeros_like(q), e, intercept=how.intercept)
    d = 1 / (2 * jnp.where(u > 0, u, 1))
    return BoxDual(sign, q, u, d, e, bounded=False, intercept=how.intercept)
