"""Splits, cross-validation with folds and hyperparameters in one compiled call, hyperparameters by gradient, curves.

A fold is left out by giving its rows the weight zero: shapes stay the same, so that folds and hyperparameters are lanes
of one `vmap`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import ArrayLike

from convexjax.problems.arguments import floating, require_shape
from convexjax.pytrees import pytree

# ----------------------------------------------------------------------------- splits


def train_test_split(key: jax.Array, rows: int, test: float = 0.25) -> tuple[jax.Array, jax.Array]:
    """(indices to train with, indices to test with) of `rows` rows, at random; `test` is the share of the latter.

    >>> import jax
    >>> from convexjax import learn
    >>> [part.shape[0] for part in learn.validation.train_test_split(jax.random.key(0), 10, 0.3)]
    [7, 3]
    """
    number = round(rows * test)
    if not 0 < number < rows:
        raise ValueError(f"test = {test} of {rows} rows leaves a part without rows.")
    order = jax.random.permutation(key, rows)
    return order[number:], order[:number]


def k_fold(rows: int, folds: int, key: jax.Array | None = None) -> jax.Array | np.ndarray:
    """The fold (rows,), int32, of each row: blocks of equal size, in order or, with a key, at random. With
    `folds = rows` each row is its own."""
    _check_folds(rows, folds)
    # the first folds are larger by one
    sizes = np.full(folds, rows // folds)
    sizes[: rows % folds] += 1
    own = np.repeat(np.arange(folds, dtype=np.int32), sizes)
    return own if key is None else jax.random.permutation(key, own)


def stratified_k_fold(y: ArrayLike, folds: int, key: jax.Array | None = None) -> jax.Array:
    """The fold (rows,), int32, of each row, such that each class (each value of y) is spread evenly over the folds."""
    (y,) = floating(y=y)
    require_shape("y", y, (None,))
    rows = y.shape[0]
    _check_folds(rows, folds)
    order = jnp.arange(rows) if key is None else jax.random.permutation(key, rows)
    by_class = order[jnp.argsort(y[order], stable=True)]
    return jnp.zeros(rows, jnp.int32).at[by_class].set(jnp.arange(rows, dtype=jnp.int32) % folds)


def _check_folds(rows: int, folds: int) -> None:
    if not isinstance(folds, int) or not 2 <= folds <= rows:
        raise ValueError(f"folds must be a Python int from 2 to the number of rows, {rows}, got {folds!r}.")


# ----------------------------------------------------------------------------- cross-validation


@pytree
@dataclass(frozen=True, kw_only=True)
class CrossValidation:
    """A validation curve: one entry per hyperparameter."""

    losses: Any  # (folds, k), mean loss of the rows left out
    mean: Any  # (k,), of the folds
    deviation: Any  # (k,), standard deviation of the folds
    best: Any  # (), index of the smallest mean
    status: Any  # (folds, k), of the fits


def squared_error(predict: Callable, model, X: jax.Array, y: jax.Array) -> jax.Array:
    """Squares of the errors of each row."""
    error = predict(model, X) - y
    return error**2 if error.ndim == 1 else jnp.sum(error**2, 1)


def cross_validate(
    fit: Callable,
    X: ArrayLike,
    y: ArrayLike,
    grid,
    folds: jax.Array | np.ndarray,
    *,
    loss: Callable,
    weights: ArrayLike | None = None,
    path: bool = False,
    number: int | None = None,
) -> CrossValidation:
    """Cross-validate a fit for a grid of hyperparameters, all folds and values in one program.

    Arguments:
        fit: `fit(X, y, value, weights=w)` to a model; with `path=True` `fit(X, y, grid, weights=w)` to a model with one
            entry per value in front, such as `ridge.path`.
        X, y: the data, (n, d) and (n,) or (n, q).
        grid: the hyperparameters, (k,), or a pytree of arrays with k entries in front.
        folds: (n,) integers, the fold in which each row is left out (`k_fold`, `stratified_k_fold`).
        loss: `loss(model, X, y)` to the loss (n,) of each row, such as
            `partial(squared_error, ridge.predict)` or `logistic.log_loss`.
        weights: (n,), of the rows in the fits; the losses are not weighted.
        number: of folds, if `folds` is traced.

    Returns:
        `CrossValidation`. Differentiable in data and grid.

    >>> from functools import partial
    >>> import numpy as np
    >>> from convexjax import learn
    >>> X = np.linspace(-1, 1, 12)[:, None] ** np.arange(1, 4)
    >>> loss = partial(learn.validation.squared_error, learn.ridge.predict)
    >>> folds = learn.validation.k_fold(12, 3)
    >>> found = learn.validation.cross_validate(
    ...     learn.ridge.path, X, 1 + X[:, 0], np.array([0.01, 1.0, 100.0]), folds, loss=loss, path=True
    ... )
    >>> found.losses.shape, int(found.best)
    ((3, 3), 0)
    """
    X, y, weights = floating(X=X, y=y, weights=weights)
    require_shape("X", X, (None, None))
    n = X.shape[0]
    if y.shape[0] != n:
        raise ValueError(f"y has {y.shape[0]} rows, expected the {n} of X.")
    require_shape("folds", folds, (n,), "the fold of each row")
    if number is None:
        if isinstance(folds, jax.core.Tracer):
            raise ValueError("folds is traced: pass the number of folds as `number`.")
        number = int(np.max(np.asarray(folds))) + 1
    base = jnp.ones(n, X.dtype) if weights is None else weights
    grid = jax.tree.map(jnp.asarray, grid)
    folds = jnp.asarray(folds)
    out = folds == jnp.arange(number, dtype=folds.dtype)[:, None]
    return _cross_validate(fit, loss, path)(X, y, grid, base, out)


def _cross_validate(fit, loss, path):
    def of_fold(X, y, grid, base, out):
        weights = jnp.where(out, 0, base)
        models = fit(X, y, grid, weights=weights) if path else jax.vmap(lambda v: fit(X, y, v, weights=weights))(grid)
        losses = jax.vmap(lambda model: loss(model, X, y))(models)
        share = out.astype(X.dtype)
        share = share / jnp.sum(share)
        return losses @ share, models.status

    def of_all(X, y, grid, base, out):
        losses, status = jax.vmap(of_fold, (None, None, None, None, 0))(X, y, grid, base, out)
        mean = jnp.mean(losses, 0)
        return CrossValidation(
            losses=losses,
            mean=mean,
            deviation=jnp.std(losses, 0),
            best=jnp.nanargmin(mean).astype(jnp.int32),
            status=status,
        )

    return of_all


# ----------------------------------------------------------------------------- hyperparameters by gradient


def tune(
    loss: Callable, start, *, optimizer: optax.GradientTransformation | None = None, steps: int = 100
) -> tuple[Any, jax.Array]:
    """Hyperparameters that make a validation loss small, by its gradient through the fits.

    Arguments:
        loss: a function of the hyperparameters (a pytree), such as the mean loss of held-out rows of a model fitted
            with `penalty=jnp.exp(log_penalty)`.
        start: hyperparameters to begin with.
        optimizer: of optax; None for `optax.adam(0.1)`.
        steps: of the optimizer.

    Returns:
        (the best hyperparameters that were met, the losses (steps,)).

    >>> import jax.numpy as jnp
    >>> from convexjax import learn
    >>> best, losses = learn.validation.tune(lambda v: (v - 1.0) ** 2, jnp.array(0.0), steps=200)
    >>> print(best.round(2))
    1.0
    """
    optimizer = optax.adam(0.1) if optimizer is None else optimizer
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf, float)), start)

    def step(state, _):
        values, moments, best, least = state
        value, slope = jax.value_and_grad(loss)(values)
        better = value < least
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), values, best)
        updates, moments = optimizer.update(slope, moments, values)
        return (optax.apply_updates(values, updates), moments, best, jnp.where(better, value, least)), value

    infinite = jnp.full_like(jax.eval_shape(loss, start), jnp.inf)
    state, losses = jax.lax.scan(step, (start, optimizer.init(start), start, infinite), length=steps)
    return state[2], losses


# ----------------------------------------------------------------------------- trade-offs


def trade_off(
    solve: Callable, first: Callable, second: Callable, weights: ArrayLike
) -> tuple[jax.Array, jax.Array, Any]:
    """The curve of two objectives against each other: `solve(weight)` for all weights (k,) in one batch, such as a fit
    with this penalty; returns (first(model) (k,), second(model) (k,), the models).

    >>> import numpy as np
    >>> from convexjax import learn
    >>> X, y = np.eye(3), np.arange(3.0)
    >>> fit = lambda penalty: learn.ridge.fit(X, y, penalty, intercept=False)
    >>> size = lambda model: (model.coefficients**2).sum()
    >>> error = lambda model: ((learn.ridge.predict(model, X) - y) ** 2).sum()
    >>> errors, sizes, _ = learn.validation.trade_off(fit, error, size, np.array([0.1, 1.0, 10.0]))
    >>> bool((errors[1:] > errors[:-1]).all()), bool((sizes[1:] < sizes[:-1]).all())
    (True, True)
    """
    (weights,) = floating(weights=weights)
    models = jax.vmap(solve)(weights)
    return jax.vmap(first)(models), jax.vmap(second)(models), models
