"""A support vector machine as the last layer of a network, whose features are learnt through its solution."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from test_learn_regression import check_gradient

import convexjax as cj
from convexjax import learn

rng = np.random.default_rng(11)
POINTS = rng.normal(size=(120, 2))
LABELS = np.where((POINTS**2).sum(1) < 1.4, 1.0, -1.0)  # a disc
TRAIN, OTHER = slice(0, 40), slice(40, 80)


def features(weights, X):
    return jnp.tanh(X @ weights["W"] + weights["c"])


def machine(weights):
    return learn.svm.fit(features(weights, POINTS[TRAIN]), LABELS[TRAIN], C=5.0)


def loss(weights):
    """Of samples that the machine has not seen."""
    scores = learn.svm.decision_function(machine(weights), features(weights, POINTS[OTHER]))
    return jnp.mean(jax.nn.softplus(-2 * jnp.asarray(LABELS[OTHER]) * scores))


def errors(weights):
    """On samples that nobody has seen."""
    scores = learn.svm.decision_function(machine(weights), features(weights, POINTS[80:]))
    return np.mean(np.asarray(scores) * LABELS[80:] <= 0)


START = {"W": jnp.asarray(rng.normal(size=(2, 6))), "c": jnp.asarray(0.1 * rng.normal(size=6))}


def test_features_are_learnt():
    learn_from = lambda start: learn.validation.tune(loss, start, optimizer=optax.adam(0.1), steps=40)
    with jax.numpy_dtype_promotion("standard"):  # for optax
        tuned, losses = jax.jit(learn_from)(START)
    assert machine(tuned).status == cj.Status.SOLVED
    assert losses[-1] < 0.6 * losses[0]
    assert errors(tuned) < 0.5 * errors(START)


def test_gradient_of_the_features():
    check_gradient(lambda W, c: loss({"W": W, "c": c}), (np.asarray(START["W"]), np.asarray(START["c"])), 1e-6)
