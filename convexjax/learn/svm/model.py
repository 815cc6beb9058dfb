"""A fitted support vector machine and what it says about new samples."""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.problems.arguments import floating, require_shape
from convexjax.pytrees import pytree

# Rows of new samples whose kernel values are formed together, times training samples.
BLOCK_ENTRIES = 4_000_000


@pytree
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
