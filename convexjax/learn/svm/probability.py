"""Probabilities for the scores of a machine."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.learn import logistic
from convexjax.learn.logistic import LogisticModel
from convexjax.learn.svm.arguments import signs as signs_of
from convexjax.learn.svm.machines import fit
from convexjax.learn.svm.model import SVMModel, decision_function
from convexjax.problems.arguments import floating


def calibrate(X: ArrayLike, y: ArrayLike, folds: ArrayLike, *, penalty: float = 0.0, **how) -> LogisticModel:
    """Probabilities for the scores of `fit(X, y, **how)`: a logistic regression on the scores of samples that were left
    out, `folds` (m,) saying when (`validation.k_fold`), all folds in one batch. The targets are those of Platt
    ("Probabilistic outputs for support vector machines", 1999), between 0 and 1, so that there always is an optimum.
    y holds two labels, known now."""
    y_known, _ = signs_of(y)
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
