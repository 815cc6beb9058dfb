"""`learn.svm` by working sets, and what is built on single machines: several classes, probabilities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_learn_regression import check_gradient, near

import convexjax as cj
from convexjax import learn

Status = cj.Status
svm, kernels = learn.svm, learn.kernels
rng = np.random.default_rng(7)
M = 120
X = rng.normal(size=(M, 3))
Y = np.where(np.sin(2 * X[:, 0]) + X[:, 1] + 0.4 * rng.normal(size=M) > 0, 1.0, -1.0)
TARGET = np.sin(2 * X[:, 0]) + X[:, 1] + 0.1 * rng.normal(size=M)
RBF = kernels.RBF(0.5)
K = np.exp(-0.5 * ((X[:, None] - X) ** 2).sum(-1))
# few rows of K at a time: working sets of 16
SMALL = {"method": "working_set", "memory": 16 * M * 8 * 2.5}


def test_working_sets_are_certified():
    model = svm.fit(X, Y, C=3.0, kernel=RBF, tolerance=1e-9, **SMALL)
    assert model.status == Status.SOLVED
    assert model.num_iters > 5
    a = np.asarray(model.dual)
    beta = Y * a
    primal = beta @ K @ beta / 2 + 3 * np.maximum(0, 1 - Y * (K @ beta + float(model.intercept))).sum()
    assert a.min() >= 0 and a.max() <= 3 and abs(beta.sum()) < 1e-12
    assert primal - (a.sum() - beta @ K @ beta / 2) <= 1.1e-9 * primal
    near(model.objective, primal, 1e-12)
    same = svm.fit(X, Y, C=3.0, kernel=RBF)
    near(model.objective, same.objective, 1e-8)
    near(svm.decision_function(model, X[:9]), svm.decision_function(same, X[:9]), 1e-4)


def test_other_machines_by_working_sets():
    for fit in (
        lambda **how: svm.fit(X, Y, C=3.0, kernel=RBF, loss="squared_hinge", **how),
        lambda **how: svm.fit_regression(X, TARGET, C=3.0, kernel=RBF, **how),
        lambda **how: svm.fit_one_class(X, nu=0.3, kernel=RBF, **how),
    ):
        model, same = fit(tolerance=1e-8, **SMALL), fit()
        assert model.status == Status.SOLVED
        near(model.objective, same.objective, 1e-7)
        near(model.beta, same.beta, 1e-2)


def test_limit_and_left_out():
    keep = np.arange(M) % 4 > 0
    model = svm.fit(X, Y, C=3.0, kernel=RBF, tolerance=1e-9, sample_weight=keep.astype(float), **SMALL)
    near(model.objective, svm.fit(X[keep], Y[keep], C=3.0, kernel=RBF).objective, 1e-8)
    assert (np.asarray(model.dual)[~keep] == 0).all()
    assert svm.fit(X, Y, C=3.0, kernel=kernels.Sigmoid(2.0, -1.0), **SMALL).status == Status.NONCONVEX


def test_gradient_through_working_sets():
    fit = lambda C, s: svm.fit(X, Y, C=C, kernel=kernels.RBF(s), tolerance=1e-12, **SMALL)
    both = lambda model: model.objective + jnp.sum(jnp.sin(svm.decision_function(model, X[:7])))
    check_gradient(lambda C, s: both(fit(C, s)), (3.0, 0.5), 1e-4)


# ----------------------------------------------------------------------------- grids


def test_grid():
    """The shares of single fits, in the order of the arguments, with folds of unequal classes."""
    strengths, scales, folds = np.array([20.0, 0.05, 2.0]), np.array([0.1, 3.0]), learn.validation.k_fold(M, 3)
    scores = svm.grid_scores(X, Y, strengths, scales, folds, tolerance=1e-9)
    for i, C in enumerate(strengths):
        for j, scale in enumerate(scales):
            right = np.zeros(3)
            for k in range(3):
                inside = (folds != k).astype(float)
                model = svm.fit(X, Y, C=C, kernel=kernels.RBF(scale), sample_weight=inside)
                right[k] = (np.asarray(svm.predict(model, X)) == Y)[folds == k].mean()
            near(scores[i, j], right.mean(), 1e-12)
    traced = jax.jit(lambda X, y: svm.grid_scores(X, y, strengths, scales, folds, tolerance=1e-9))(X, Y)
    near(traced, scores, 1e-12)
    names = np.where(Y > 0, 2, 1)
    near(svm.grid_scores(X, names, strengths, scales, folds, tolerance=1e-9), scores, 1e-12)
    with pytest.raises(ValueError, match="strengths must be positive"):
        svm.grid_scores(X, Y, -strengths, scales, folds)


# ----------------------------------------------------------------------------- several classes, probabilities

MANY = np.digitize(TARGET, [-0.5, 0.8]) * 2


def test_one_against_one():
    model = svm.fit_multiclass(X, MANY, C=1.0, kernel=RBF)
    votes = np.zeros((M, 3), int)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        pair = (MANY == 2 * i) | (MANY == 2 * j)
        scores = np.asarray(svm.decision_function(svm.fit(X[pair], MANY[pair], C=1.0, kernel=RBF), X))
        votes[np.arange(M), np.where(scores > 0, j, i)] += 1
    assert (np.asarray(model.machines.status) == Status.SOLVED).all()
    assert (np.asarray(svm.predict_multiclass(model, X)) == 2 * votes.argmax(1)).all()


def test_one_against_the_others():
    model = svm.fit_multiclass(X, MANY, C=1.0, strategy="one_vs_rest")
    scores = [np.asarray(svm.decision_function(svm.fit(X, MANY == c, C=1.0), X)) for c in (0, 2, 4)]
    assert (np.asarray(svm.predict_multiclass(model, X)) == 2 * np.argmax(scores, 0)).all()
    near(model.machines.coef[2], svm.fit(X, MANY == 4, C=1.0).coef, 1e-8)


def test_probabilities():
    folds = learn.validation.k_fold(M, 3)
    calibration = svm.calibrate(X, Y, folds, C=1.0)
    scores = np.zeros(M)
    for k in range(3):
        inside = folds != k
        scores[~inside] = svm.decision_function(svm.fit(X[inside], Y[inside], C=1.0), X[~inside])
    positive, negative = (Y > 0).sum(), (Y < 0).sum()
    target = np.where(Y > 0, (positive + 1) / (positive + 2), 1 / (negative + 2))
    p = np.asarray(learn.logistic.predict_probability(calibration, scores[:, None]))[:, 1]
    near([np.sum(p - target), scores @ (p - target)], [0, 0], 1e-6)
    model = svm.fit(X, Y, C=1.0)
    both = np.asarray(svm.predict_probability(model, calibration, X))
    near(both.sum(1), np.ones(M))
    assert ((both[:, 1] > 0.5) == (Y > 0)).mean() > 0.7
