"""Networks that learn a rule program from samples it labels, and how far they can be trusted.

A rule is any function of one row that returns a class, such as a table of a guideline written in Python with
`jnp.where` and comparisons. Since the rule labels as many samples as wanted, agreement is measured exactly where it
matters: on fresh samples, by class, by confidence, and outside of the region that was sampled.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from convexjax.pytrees import pytree


def label(rule: Callable, sampler: Callable, key: jax.Array, count: int) -> tuple[jax.Array, jax.Array]:
    """(X (count, ...), classes (count,)): rows `sampler(key)`, labelled by `rule(row)`, an integer.

    >>> import jax
    >>> from convexjax import learn
    >>> tall = lambda row: (row[0] > 0.5).astype("int32")
    >>> X, y = learn.rules.label(tall, lambda key: jax.random.uniform(key, (2,)), jax.random.key(0), 1000)
    >>> X.shape, bool(abs(y.mean() - 0.5) < 0.1)
    ((1000, 2), True)
    """
    X = jax.vmap(sampler)(jax.random.split(key, count))
    y = jax.vmap(rule)(X)
    if y.shape != (count,) or not jnp.issubdtype(y.dtype, jnp.integer):
        raise ValueError(f"rule must return one integer per row, got shape {y.shape[1:]} of {y.dtype}.")
    return X, y


@pytree
@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How a classifier agrees with a rule on some samples."""

    rate: Any  # share of the samples with the class of the rule
    by_class: Any  # (classes,), the same among the samples of each class; NaN for one without samples
    confidence: Any  # mean of the largest probability: more than `rate` is too sure of itself
    calibration_error: Any  # mean over bins of |confidence - rate|, weighted by their samples
    bins: Any  # (bins, 3): samples, mean confidence and rate of each interval of confidence; NaN without samples


def agreement(scores: jax.Array, classes: jax.Array, bins: int = 10) -> Agreement:
    """The agreement of scores (n, classes), logarithms of probabilities up to a constant per row, with the classes (n,)
    of the rule.

    Source of the calibration error: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", 2017.

    >>> import jax.numpy as jnp
    >>> from convexjax import learn
    >>> found = learn.rules.agreement(jnp.log(jnp.array([[0.8, 0.2], [0.6, 0.4]])), jnp.array([0, 1]))
    >>> print(f"{found.rate:.2f} {found.confidence:.2f} {found.calibration_error:.2f}")
    0.50 0.70 0.40
    """
    _require_shapes(scores, classes)
    if not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins must be a Python int >= 1, got {bins!r}.")
    probability = jax.nn.softmax(scores, -1)
    sure = jnp.max(probability, -1)
    right = (jnp.argmax(scores, -1) == classes).astype(scores.dtype)
    ratio = lambda sums, counts: jnp.where(counts > 0, sums / jnp.where(counts > 0, counts, 1), jnp.nan)

    own = jax.nn.one_hot(classes, scores.shape[1], dtype=scores.dtype)
    bin_of = jnp.clip(jnp.ceil(sure * bins) - 1, 0, bins - 1).astype(jnp.int32)
    within = jax.nn.one_hot(bin_of, bins, dtype=scores.dtype)
    counts = jnp.sum(within, 0)
    gaps = jnp.abs(within.T @ (sure - right))
    return Agreement(
        rate=jnp.mean(right),
        by_class=ratio(right @ own, jnp.sum(own, 0)),
        confidence=jnp.mean(sure),
        calibration_error=jnp.sum(gaps) / scores.shape[0],
        bins=jnp.stack([counts, ratio(sure @ within, counts), ratio(right @ within, counts)], 1),
    )


def _require_shapes(scores, classes):
    if scores.ndim != 2 or classes.shape != scores.shape[:1]:
        raise ValueError(
            f"scores and classes have shapes {scores.shape} and {classes.shape}, expected (n, k) and (n,)."
        )


def temperature(scores: jax.Array, classes: jax.Array) -> jax.Array:
    """The number by which scores are divided to be as likely as possible: above 1 for a network too sure of itself.
    The likelihood is convex in its inverse; found by halving, between 1/100 and 100."""
    _require_shapes(scores, classes)
    slope = jax.grad(
        lambda inverse: jnp.mean(
            jax.nn.logsumexp(inverse * scores, -1) - inverse * jnp.take_along_axis(scores, classes[:, None], 1)[:, 0]
        )
    )

    def halve(_, bounds):
        low, high = bounds
        middle = jnp.sqrt(low * high)
        rises = slope(middle) > 0
        return jnp.where(rises, low, middle), jnp.where(rises, middle, high)

    bounds = jnp.array(0.01, scores.dtype), jnp.array(100.0, scores.dtype)
    low, high = jax.lax.fori_loop(0, 60, halve, bounds)
    return 1 / jnp.sqrt(low * high)
