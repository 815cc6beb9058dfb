"""Losses and regularisers of models trained by gradient, and the empirical risk made of them.

A `Loss` maps outputs and targets, both with one row per sample, to one number per sample. It knows which shapes and
labels it takes, so that `training.fit` can refuse others before the first step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax


@dataclass(frozen=True)
class Loss:
    """A function of outputs and targets with one number per sample, and a check of both.

    function: (outputs, targets) to an array (n,).
    check: (outputs, targets) to nothing, or a `ValueError`; the outputs are a `jax.ShapeDtypeStruct`, and targets that
        are traced have no values to look at.
    """

    name: str
    function: Callable
    check: Callable = lambda outputs, targets: None

    def __call__(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
        return self.function(outputs, targets)


def _mean_of_rows(values):
    """The mean over all axes but the first."""
    return jnp.mean(values.reshape(values.shape[0], -1), 1)


def _same_shape(outputs, targets):
    if outputs.shape != targets.shape:
        hint = ""
        if outputs.shape == (*targets.shape, 1):
            hint = ' Build the network with outputs="scalar", or pass y[:, None].'
        raise ValueError(f"the outputs have shape {outputs.shape}, expected that of y, {targets.shape}.{hint}")


def _labels(outputs, targets, allowed):
    _same_shape(outputs, targets)
    _require_among(targets, allowed)


def _require_among(targets, allowed):
    if not isinstance(targets, jax.core.Tracer):
        odd = np.setdiff1d(np.asarray(targets), allowed)
        if odd.size:
            listed = ", ".join(f"{label:g}" for label in allowed[:3]) + (", ..." if len(allowed) > 3 else "")
            raise ValueError(f"y must hold the labels {listed} (up to {allowed[-1]:g}), got {odd[0]:g}.")


def _class_labels(outputs, targets):
    if outputs.shape[:-1] != targets.shape:
        raise ValueError(
            f"the outputs have shape {outputs.shape}, expected {(*targets.shape, 'classes')}: one score per class."
        )
    if not jnp.issubdtype(targets.dtype, jnp.integer):
        raise ValueError(f"y must hold integer classes, got dtype {targets.dtype}.")
    _require_among(targets, np.arange(outputs.shape[-1]))


# With several outputs per sample a loss is their mean.
squared = Loss("squared", lambda f, y: _mean_of_rows(optax.squared_error(f, y)), _same_shape)
absolute = Loss("absolute", lambda f, y: _mean_of_rows(jnp.abs(f - y)), _same_shape)
# labels -1 and 1
hinge = Loss(
    "hinge", lambda f, y: _mean_of_rows(optax.hinge_loss(f, y)), lambda f, y: _labels(f, y, np.array([-1.0, 1.0]))
)
# labels 0 and 1; the outputs are the log of the odds
logistic = Loss(
    "logistic",
    lambda f, y: _mean_of_rows(optax.sigmoid_binary_cross_entropy(f, y)),
    lambda f, y: _labels(f, y, np.array([0.0, 1.0])),
)
# labels 0, 1, ..., integers; one score per class on the last axis
cross_entropy = Loss(
    "cross_entropy",
    lambda f, y: _mean_of_rows(optax.softmax_cross_entropy_with_integer_labels(f, y)),
    _class_labels,
)


def huber(delta: float = 1.0) -> Loss:
    """Squared for errors below `delta`, absolute beyond.

    >>> import jax.numpy as jnp
    >>> from convexjax import learn
    >>> print(learn.losses.huber(1.0)(jnp.array([0.5, 3.0]), jnp.zeros(2)))
    [0.125 2.5  ]
    """
    if not delta > 0:
        raise ValueError(f"delta must be positive, got {delta!r}.")
    return Loss("huber", lambda f, y: _mean_of_rows(optax.huber_loss(f, y, delta=delta)), _same_shape)


def negative_log_likelihood(log_density: Callable) -> Loss:
    """Minus `log_density(outputs, targets)`, which gives one number per sample: the outputs are the parameters of the
    density of the targets, such as `lambda f, y: jax.scipy.stats.poisson.logpmf(y, jnp.exp(f))`."""
    return Loss("negative_log_likelihood", lambda f, y: -log_density(f, y))


# ----------------------------------------------------------------------------- metrics


def accuracy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """1 for samples whose largest score is that of their class, else 0; with one output per sample, whose sign is that
    of the class (0 and 1, or -1 and 1)."""
    one_output = outputs.ndim == targets.ndim
    right = (outputs > 0) == (targets > 0) if one_output else jnp.argmax(outputs, -1) == targets
    return _mean_of_rows(right.astype(outputs.dtype))


# ----------------------------------------------------------------------------- risk


def squares(params: Any) -> jax.Array:
    """Half the sum of the squares of all parameters."""
    return optax.tree.norm(params, squared=True) / 2


def sizes(params: Any) -> jax.Array:
    """The sum of the absolute values of all parameters."""
    return optax.tree.norm(params, 1)


def empirical_risk(apply: Callable, loss: Loss | Callable, regulariser: Callable | None = None) -> Callable:
    """The function `risk(params, X, y, gamma=0.0, key=None)` that training makes small:

        1/n sum_i loss(apply(params, x_i), y_i) + gamma regulariser(params)

    `apply(params, X, key)` gives the outputs of a batch, `loss(outputs, y)` one number per sample, and
    `regulariser(params)` one number; params is any pytree.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from convexjax import learn
    >>> line = lambda params, X, key=None: X @ params
    >>> risk = learn.losses.empirical_risk(line, learn.losses.squared, learn.losses.squares)
    >>> X, y = jnp.eye(2), jnp.array([1.0, 3.0])
    >>> print(risk(jnp.zeros(2), X, y), jax.grad(risk)(jnp.ones(2), X, y, gamma=0.5))
    5.0 [ 0.5 -1.5]
    """

    def risk(params, X, y, gamma=0.0, key=None):
        value = jnp.mean(loss(apply(params, X, key), y))
        return value if regulariser is None else value + gamma * regulariser(params)

    return risk
