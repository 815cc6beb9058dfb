"""Logistic regression, with two or more classes."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.learn import score_model
from convexjax.learn.data import checked, clean
from convexjax.learn.newton import Loss
from convexjax.learn.score_model import ScoreModel, checked_numbers
from convexjax.problems.arguments import floating, require_shape
from convexjax.pytrees import pytree, static


@pytree
@dataclass(frozen=True, kw_only=True)
class LogisticModel(ScoreModel):
    """Scores are the log of the odds for two classes, one column per class for more."""


def _two_classes(scores, y):
    """log(1 + exp(-m)) with m the score, with the sign of the class."""
    margin = jnp.where(y > 0, scores[:, 0], -scores[:, 0])
    return jax.nn.softplus(-margin)


def _separates(scores, sizes, y, weights):
    margin = jnp.where(weights > 0, jnp.where(y > 0, scores[:, 0], -scores[:, 0]), 0)
    return (jnp.max(jnp.abs(margin)) > 0) & jnp.all(margin >= -1e-6 * sizes[:, 0])


def _many_classes(scores, y):
    own = jnp.take_along_axis(scores, y.astype(jnp.int32)[:, None], 1)[:, 0]
    return jax.nn.logsumexp(scores, axis=1) - own


def _separates_many(scores, sizes, y, weights):
    """Every own score is the largest, and somewhere by more than rounding errors."""
    own = jnp.take_along_axis(scores, y.astype(jnp.int32)[:, None], 1)
    margin = jnp.where((weights > 0)[:, None], own - scores, 0)
    largest = jnp.max(jnp.abs(margin))
    allowed = 1e-6 * jnp.max(sizes, 1, keepdims=True)
    return (largest > 1e-6 * jnp.max(jnp.abs(scores))) & jnp.all(margin >= -allowed)


BINARY, MULTINOMIAL = Loss(_two_classes, _separates), Loss(_many_classes, _separates_many)


def fit(
    X: ArrayLike,
    y: ArrayLike,
    penalty: float | jax.Array = 0.0,
    *,
    classes: int = 2,
    weights: ArrayLike | None = None,
    intercept: bool = True,
    standardise: bool = False,
    missing: str = "status",
    tolerance: float | jax.Array | None = None,
    start: LogisticModel | None = None,
) -> LogisticModel:
    """Fit the probabilities of classes.

        minimise    sum_i w_i log(sum_c exp(x_i'(beta_c - beta_(y_i)))) + penalty/2 sum_c |beta_c|^2

    with two classes beta_0 = 0 (and beta_1 is called beta), so that the loss is log(1 + exp(-+x_i'beta)); each beta_c
    has an intercept, which is not penalised. This is scikit-learn's problem with C = 1 / penalty.

    Arguments:
        X: (n, d).
        y: (n,), the class of each row, 0, 1, ..., classes - 1.
        penalty: nonnegative.
        classes: number of classes, static.
        weights: (n,), w, nonnegative; None for ones.
        intercept: whether there are intercepts.
        standardise: penalise the coefficients of columns divided by their standard deviation.
        missing: "status" (NaN in X or y gives NUMERICAL_ERROR) or "drop" (such rows are left out).
        tolerance: of the gradient of the objective, relative to the size of its terms. None: 1e-8 (float32: 1e-5).
        start: the model of a similar problem.

    Returns:
        `LogisticModel`. SOLVED: the objective is convex and its gradient is `gradient`. DUAL_INFEASIBLE: there is no
        finite optimum, since coefficients and intercept, of size one, separate the classes (also if there is only one):
        along them the objective falls for ever. MAX_ITERATIONS, NUMERICAL_ERROR: no claim. The objective is NaN unless
        SOLVED, for the infimum is not attained.

    Raises:
        ValueError: shapes that do not fit; y known now that holds other values than 0 to classes - 1; a negative
            penalty or tolerance; `intercept` or `standardise` that are not True or False.
        TypeError: data that are not real numbers.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 1, 0, 1])
    >>> model = learn.logistic.fit(X, y, penalty=1.0)
    >>> print(np.asarray(learn.logistic.predict(model, [[-2.0], [5.0]])))
    [0 1]
    """
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 2:
        raise ValueError(f"classes must be a Python int >= 2 (it is static), got {classes!r}.")
    X, y, weights = checked(X, y, weights, missing)
    if not isinstance(y, jax.core.Tracer):
        values = np.asarray(y)
        odd = np.setdiff1d(values[np.isfinite(values)], np.arange(classes))
        if odd.size:
            raise ValueError(f"y must hold classes 0 to {classes - 1}, got {odd[0]:g}; set `classes`, or number them.")
    numbers = checked_numbers(penalty, tolerance, X.dtype, intercept=intercept, standardise=standardise)
    how = Setting(classes, intercept, standardise, missing == "drop")
    begin = None if start is None else (start.coefficients, start.intercept)
    return _fit(X, y, weights, numbers, begin, how)


@pytree
@dataclass(frozen=True)
class Setting:
    """What changes the traced program."""

    classes: int = static()
    intercept: bool = static()
    standardise: bool = static()
    drop: bool = static()


@quick_jit
def _fit(X, y, weights, numbers, begin, how: Setting) -> LogisticModel:
    X, y, weights, fine = clean(X, y, weights, how.drop)
    y = jnp.clip(jnp.round(y), 0, how.classes - 1)
    d, q = X.shape[1], 1 if how.classes == 2 else how.classes
    start = jnp.zeros((d, q), X.dtype), jnp.zeros(q, X.dtype)
    if begin is not None:
        start = tuple(jnp.asarray(v, X.dtype).reshape(zero.shape) for v, zero in zip(begin, start, strict=True))
    loss, data = BINARY if q == 1 else MULTINOMIAL, (X, y, weights, fine)
    return score_model.fit(
        LogisticModel, loss, data, numbers, start, intercept=how.intercept, standardise=how.standardise
    )


def path(X: ArrayLike, y: ArrayLike, penalties: ArrayLike, **how) -> LogisticModel:
    """`fit` for all penalties (k,), one after the other, each from the solution before: every array of the model has k
    entries in front."""
    (penalties,) = floating(penalties=penalties)
    require_shape("penalties", penalties, (None,))
    first = jax.tree.map(jnp.zeros_like, jax.eval_shape(lambda: fit(X, y, penalties[0], **how)))

    def step(before, penalty):
        model = fit(X, y, penalty, start=jax.lax.stop_gradient(before), **how)
        return model, model

    return jax.lax.scan(step, first, penalties)[1]


def predict_probability(model: LogisticModel, X: ArrayLike) -> jax.Array:
    """Probabilities (n, classes) of the rows of X (n, d)."""
    scores = _scores(model, X)
    if scores.ndim == 1:
        scores = jnp.stack([jnp.zeros_like(scores), scores], -1)
    return jax.nn.softmax(scores, -1)


def predict(model: LogisticModel, X: ArrayLike) -> jax.Array:
    """The most probable class (n,), int32, of the rows of X (n, d)."""
    scores = _scores(model, X)
    if scores.ndim == 1:
        return (scores > 0).astype(jnp.int32)
    return jnp.argmax(scores, -1).astype(jnp.int32)


def log_loss(model: LogisticModel, X: ArrayLike, y: ArrayLike) -> jax.Array:
    """Minus the log of the probability of each row's class (n,), which is what a validation may differentiate."""
    scores = _scores(model, X)
    (y,) = floating(y=y)
    return _two_classes(scores[:, None], y) if scores.ndim == 1 else _many_classes(scores, y)


def _scores(model, X):
    X, coefficients, intercept = floating(X=X, coefficients=model.coefficients, intercept=model.intercept)
    require_shape("X", X, (None, coefficients.shape[0]), "with one column per coefficient")
    return X @ coefficients + intercept
