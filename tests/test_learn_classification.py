"""`learn`: logistic, multinomial and Poisson regression: gradients that vanish, data without optimum, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_learn_regression import check_gradient, near

import convexjax as cj
from convexjax import learn

Status = cj.Status
rng = np.random.default_rng(1)
N, D = 40, 3
X = rng.normal(size=(N, D)) + 0.5
SCORE = X @ [1.0, -1, 0.5] + rng.logistic(size=N)
BINARY, MANY = (SCORE > 0).astype(int), np.digitize(SCORE, [-0.5, 1.0])
COUNTS = rng.poisson(np.exp(0.5 * X[:, 0])).astype(float)
W = rng.uniform(0.5, 2, size=N)


def softmax(scores):
    e = np.exp(scores - scores.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.mark.parametrize("penalty", [0.0, 0.7])
def test_binary_gradient_vanishes(penalty):
    model = learn.logistic.fit(X, BINARY, penalty, weights=W)
    assert model.status == Status.SOLVED
    beta = np.asarray(model.coefficients)
    p = np.asarray(learn.logistic.predict_probability(model, X))[:, 1]
    near(p, 1 / (1 + np.exp(-X @ beta - model.intercept)))
    near(X.T @ (W * (p - BINARY)) + penalty * beta, np.zeros(D), 1e-10)
    near(W @ (p - BINARY), 0, 1e-10)
    near(model.objective, -W @ np.log(np.where(BINARY, p, 1 - p)) + penalty / 2 * beta @ beta)
    near(learn.logistic.log_loss(model, X, BINARY), -np.log(np.where(BINARY, p, 1 - p)))
    assert (np.asarray(learn.logistic.predict(model, X)) == (p > 0.5)).all()


def test_multinomial_gradient_vanishes():
    model = learn.logistic.fit(X, MANY, 0.7, classes=3, weights=W)
    assert model.status == Status.SOLVED
    beta = np.asarray(model.coefficients)
    p = np.asarray(learn.logistic.predict_probability(model, X))
    near(p, softmax(X @ beta + np.asarray(model.intercept)))
    near(X.T @ (W[:, None] * (p - np.eye(3)[MANY])) + 0.7 * beta, np.zeros((D, 3)), 1e-10)
    near(W @ (p - np.eye(3)[MANY]), np.zeros(3), 1e-10)
    assert (np.asarray(learn.logistic.predict(model, X)) == p.argmax(1)).all()


def test_poisson_gradient_vanishes():
    model = learn.poisson.fit(X, COUNTS, 0.3, weights=W)
    assert model.status == Status.SOLVED
    mean = np.asarray(learn.poisson.predict(model, X))
    near(X.T @ (W * (mean - COUNTS)) + 0.3 * np.asarray(model.coefficients), np.zeros(D), 1e-9)
    near(W @ (mean - COUNTS), 0, 1e-9)


def test_standardised():
    scale = X.std(0)
    wanted = learn.logistic.fit(X / scale, BINARY, 0.5)
    near(learn.logistic.fit(X, BINARY, 0.5, standardise=True).coefficients, np.asarray(wanted.coefficients) / scale)


def test_no_finite_optimum():
    """Separable classes, one class, counts of zero: the model is the direction that proves it."""
    y = (X[:, 0] > 0.5).astype(int)
    model = learn.logistic.fit(X, y)
    assert model.status == Status.DUAL_INFEASIBLE
    assert ((2 * y - 1) * (X @ np.asarray(model.coefficients) + float(model.intercept))).min() >= -1e-6
    for penalty in (0.0, 1.0):
        one = learn.logistic.fit(X, np.ones(N), penalty)
        assert one.status == Status.DUAL_INFEASIBLE
        assert one.intercept > 0
        assert np.isnan(one.objective)
    assert learn.logistic.fit(X, y, 1.0).status == Status.SOLVED
    assert learn.logistic.fit(X, np.digitize(X[:, 0], [0, 1]), classes=3).status == Status.DUAL_INFEASIBLE
    none = learn.poisson.fit(X, np.zeros(N))
    assert none.status == Status.DUAL_INFEASIBLE
    assert np.isnan(none.objective)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("scale", [1e8, 1e-8, np.array([1e8, 1.0, 1e-8])], ids=["large", "small", "mixed"])
def test_units_of_the_columns(scale, intercept):
    """Columns in other units are the same problem."""
    for fit, y in ((learn.logistic.fit, BINARY), (learn.poisson.fit, COUNTS)):
        wanted, model = fit(X, y, intercept=intercept), fit(X * scale, y, intercept=intercept)
        assert model.status == Status.SOLVED
        near(np.asarray(model.coefficients) * scale, wanted.coefficients, 1e-10)


def test_constant_column_counts_for_nothing():
    for fit, y in ((learn.logistic.fit, BINARY), (learn.poisson.fit, COUNTS)):
        model = fit(np.c_[X, np.full(N, 0.1)], y)
        assert model.status == Status.SOLVED
        near(model.coefficients, np.r_[fit(X, y).coefficients, 0])


def test_path_agrees_with_fits():
    penalties = np.array([10.0, 1.0, 0.1])
    path = learn.logistic.path(X, BINARY, penalties)
    near(path.coefficients, [learn.logistic.fit(X, BINARY, p).coefficients for p in penalties], 1e-9)


def test_bad_input():
    with pytest.raises(ValueError, match="classes 0 to 1"):
        learn.logistic.fit(X, MANY)
    with pytest.raises(ValueError, match="classes must be"):
        learn.logistic.fit(X, MANY, classes=1)
    for fit, y in ((learn.logistic.fit, BINARY), (learn.poisson.fit, COUNTS)):
        with pytest.raises(ValueError, match="penalty must be nonnegative"):
            fit(X, y, -1.0)
        with pytest.raises(ValueError, match="intercept must be True or False"):
            fit(X, y, intercept=1)
    bad = X.copy()
    bad[2, 1] = np.nan
    assert learn.logistic.fit(bad, BINARY, 1.0).status == Status.NUMERICAL_ERROR
    dropped = learn.logistic.fit(bad, BINARY, 1.0, missing="drop")
    near(dropped.coefficients, learn.logistic.fit(np.delete(X, 2, 0), np.delete(BINARY, 2), 1.0).coefficients, 1e-9)
    assert learn.poisson.fit(X, COUNTS - 5).status == Status.NUMERICAL_ERROR


def test_lanes():
    """A lane without an optimum leaves the others as they are."""
    ys = jnp.stack([jnp.asarray(BINARY, float), jnp.ones(N)])
    batch = jax.vmap(lambda y: learn.logistic.fit(X, y, 1.0))(ys)
    assert batch.status.tolist() == [Status.SOLVED, Status.DUAL_INFEASIBLE]
    near(batch.coefficients[0], learn.logistic.fit(X, BINARY, 1.0).coefficients)


def loss(model):
    return jnp.sum(jnp.sin(model.coefficients)) + jnp.sum(jnp.cos(model.intercept))


def test_gradients():
    check_gradient(lambda X, p, w: loss(learn.logistic.fit(X, BINARY, p, weights=w)), (X, 0.7, W), 1e-6)
    check_gradient(lambda y, p: loss(learn.poisson.fit(X, y, p)), (COUNTS + 0.5, 0.3), 1e-6)


def test_multinomial_gradients():
    check_gradient(lambda X, p: loss(learn.logistic.fit(X, MANY, p, classes=3)), (X, 0.7), 1e-6)


def test_second_derivative():
    function = jax.jit(lambda p: loss(learn.logistic.fit(X, BINARY, p)))
    h = 1e-3
    wanted = (function(0.7 + h) - 2 * function(0.7) + function(0.7 - h)) / h**2
    near(jax.jit(jax.hessian(function))(0.7), wanted, 1e-5)
