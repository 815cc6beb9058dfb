"""More than two classes by machines for two."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.learn.svm.arguments import DENSE_SAMPLES
from convexjax.learn.svm.machines import fit
from convexjax.learn.svm.model import SVMModel, decision_function
from convexjax.problems.arguments import floating, require_shape
from convexjax.pytrees import pytree

# Entries of the data, or of kernel matrices, of the machines of a batch.
BATCH_ENTRIES = 1_000_000


@pytree
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
    # a batch whose kernel matrices or rows fit into a cache, one batch after the other; working sets gain nothing in
    # batches
    size, with_kernel = rows.shape[1], how.get("kernel") is not None
    entries = size * max(X.shape[1], size if with_kernel else 0)
    batch = 1 if with_kernel and size > DENSE_SAMPLES else int(np.clip(BATCH_ENTRIES // entries, 1, len(rows)))
    machines = jax.lax.map(machine, arrays, batch_size=batch)
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
