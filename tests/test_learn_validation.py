"""Splits, cross-validation against loops, hyperparameters by gradient, curves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_learn_regression import near

from convexjax import learn

v = learn.validation
rng = np.random.default_rng(2)
N, D = 24, 3
X = rng.normal(size=(N, D))
Y = X @ [1.0, 0, -1] + 2 + 0.5 * rng.normal(size=N)
PENALTIES = np.array([0.01, 1.0, 100.0])
SQUARES = partial(v.squared_error, learn.ridge.predict)


def test_splits():
    train, test = v.train_test_split(jax.random.key(0), N, 0.25)
    assert sorted(np.r_[train, test].tolist()) == list(range(N))
    assert len(test) == 6
    near(np.bincount(v.k_fold(10, 3)), [4, 3, 3])
    near(np.bincount(v.k_fold(10, 3, jax.random.key(1))), [4, 3, 3])
    y = np.repeat([0, 1, 2], [12, 9, 3])
    for key in (None, jax.random.key(2)):
        folds = np.asarray(v.stratified_k_fold(y, 3, key))
        for c, count in zip((0, 1, 2), (4, 3, 1), strict=True):
            near(np.bincount(folds[y == c]), [count] * 3)
    for call in (lambda: v.k_fold(3, 4), lambda: v.train_test_split(jax.random.key(0), 3, 0.0)):
        with pytest.raises(ValueError, match=r"folds must|without rows"):
            call()


@pytest.mark.parametrize("path", [True, False])
def test_cross_validation_is_the_loop(path):
    folds = v.k_fold(N, 4)
    fit = learn.ridge.path if path else learn.ridge.fit
    found = v.cross_validate(fit, X, Y, PENALTIES, folds, loss=SQUARES, path=path)
    for k, i in ((0, 0), (3, 1), (2, 2)):
        inside = folds != k
        model = learn.ridge.fit(X[inside], Y[inside], PENALTIES[i])
        error = Y[~inside] - learn.ridge.predict(model, X[~inside])
        near(found.losses[k, i], np.mean(np.asarray(error) ** 2))
    near(found.mean, np.mean(found.losses, 0))
    assert int(found.best) == np.argmin(found.mean)


def test_leave_one_out():
    """As many folds as rows, against the closed form."""
    found = v.cross_validate(learn.ridge.path, X, Y, PENALTIES, v.k_fold(N, N), loss=SQUARES, path=True)
    near(found.mean, np.mean(np.asarray(learn.ridge.leave_one_out(X, Y, PENALTIES)) ** 2, 1))


def test_other_fits_cross_validate():
    y = (Y > 2).astype(int)
    found = v.cross_validate(
        learn.logistic.path,
        X,
        y,
        np.array([10.0, 1.0]),
        v.stratified_k_fold(y, 3),
        loss=learn.logistic.log_loss,
        path=True,
    )
    assert found.losses.shape == (3, 2)
    assert (found.status == 1).all()
    lasso = partial(v.squared_error, learn.elastic_net.predict)
    found = v.cross_validate(learn.elastic_net.path, X, Y, np.array([0.5, 0.1]), v.k_fold(N, 3), loss=lasso, path=True)
    assert np.isfinite(found.mean).all()


def test_tune_finds_the_best_penalty():
    """The gradient through the closed form of leaving one out; a fine grid finds the same."""
    loss = lambda log_penalty: jnp.mean(learn.ridge.leave_one_out(X, Y, jnp.exp(log_penalty)[None]) ** 2)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes types
        best, losses = v.tune(loss, jnp.array(2.0), steps=200)
    grid = np.linspace(-6, 4, 2001)
    errors = np.mean(np.asarray(learn.ridge.leave_one_out(X, Y, np.exp(grid))) ** 2, 1)
    near(loss(best), errors.min(), 1e-6)
    assert losses[-1] < losses[0]


def test_hypergradient_of_cross_validation():
    folds = v.k_fold(N, 3)

    def loss(penalty):
        return v.cross_validate(learn.ridge.path, X, Y, penalty[None], folds, loss=SQUARES, path=True).mean[0]

    slope, h = jax.grad(loss)(jnp.array(1.0)), 1e-4
    near(slope, (loss(jnp.array(1.0 + h)) - loss(jnp.array(1.0 - h))) / (2 * h), 1e-6)
