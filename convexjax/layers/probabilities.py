"""Maps from scores onto the probability simplex: projections, from the softest to the sparsest.

The numbers that decide (which entries are positive) are found without derivatives; the solution is then computed again
from them in closed form, which all transforms differentiate. At a kink the derivative is that of one of the sides.
"""

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.problems.arguments import floating

# Halvings of the interval that holds the threshold of `entmax`, before Newton's steps.
HALVINGS, NEWTON_STEPS = 30, 4


def simplex(v: ArrayLike, total: float | jax.Array = 1.0) -> jax.Array:
    """The nearest point of a simplex, along the last axis.

        minimise    |x - v|^2   subject to   x >= 0,   sum x = total

    Arguments:
        v: (..., n).
        total: positive; an array (...) gives each row its own.

    Source: Held, Wolfe and Crowder, 1974; O(n log n).

    >>> from convexjax import layers
    >>> print(layers.simplex([0.5, 1.0, -1.0]))
    [0.25 0.75 0.  ]
    """
    v, total = floating(v=v, total=total)
    _require_rows("v", v)
    total = total[..., None]
    fixed = jax.lax.stop_gradient(v)
    falling = -jnp.sort(-fixed, axis=-1)
    # the threshold if the k largest entries are positive; they are as long as the smallest one exceeds it
    count = jnp.arange(1, v.shape[-1] + 1, dtype=v.dtype)
    thresholds = (jnp.cumsum(falling, -1) - jax.lax.stop_gradient(total)) / count
    number = jnp.sum(falling > thresholds, -1, keepdims=True)
    threshold = jnp.take_along_axis(thresholds, jnp.maximum(number - 1, 0), -1)
    positive = fixed > threshold
    share = jnp.sum(positive, -1, keepdims=True).astype(v.dtype)
    threshold = (jnp.sum(jnp.where(positive, v, 0), -1, keepdims=True) - total) / share
    return jnp.where(positive, jnp.maximum(v - threshold, 0), 0)


def sparsemax(scores: ArrayLike) -> jax.Array:
    """Probabilities of scores (..., n), many of them zero: `simplex(scores)`, the maximum of p'scores - 1/2 |p|^2.

    Source: Martins and Astudillo, "From softmax to sparsemax", 2016.
    """
    return simplex(scores)


def entmax(scores: ArrayLike, alpha: float | jax.Array = 1.5) -> jax.Array:
    """Probabilities of scores (..., n), between softmax (alpha to 1) and `sparsemax` (alpha = 2), with zeros.

        maximise    p'scores + 1/(alpha (alpha - 1)) sum_j (p_j - p_j^alpha)   over the simplex

    Arguments:
        scores: (..., n).
        alpha: in (1, 2].

    Source: Peters, Niculae and Martins, "Sparse sequence-to-sequence models", 2019.

    >>> from convexjax import layers
    >>> print(layers.entmax([1.0, 0.5, -2.0]).round(3))
    [0.674 0.326 0.   ]
    """
    (scores,) = floating(scores=scores)
    _require_rows("scores", scores)
    if not isinstance(alpha, jax.core.Tracer) and not 1 < alpha <= 2:
        raise ValueError(f"alpha must be in (1, 2], got {alpha!r}.")
    beta = jnp.asarray(alpha, scores.dtype) - 1
    v = beta * scores
    power = lambda x, exponent: jnp.where(x > 0, jnp.where(x > 0, x, 1) ** exponent, 0)
    excess = lambda v, threshold: jnp.sum(power(v - threshold, 1 / beta), -1, keepdims=True) - 1
    slope = lambda v, threshold: -jnp.sum(power(v - threshold, 1 / beta - 1), -1, keepdims=True) / beta
    newton = lambda v, threshold: threshold - excess(v, threshold) / slope(v, threshold)

    fixed = jax.lax.stop_gradient(v)
    most = jnp.max(fixed, -1, keepdims=True)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        above = excess(fixed, middle) >= 0
        return jnp.where(above, middle, low), jnp.where(above, high, middle)

    # at the lower end the largest entry alone has probability one; from there Newton's method rises to the root
    threshold, _ = jax.lax.fori_loop(0, HALVINGS, halve, (most - 1, most))
    threshold = jax.lax.fori_loop(0, NEWTON_STEPS, lambda _, t: newton(fixed, t), threshold)
    threshold = jax.lax.stop_gradient(threshold)
    # each step from the root makes one more order of derivatives right
    threshold = newton(v, newton(v, threshold))
    return power(v - threshold, 1 / beta)


def _require_rows(name, array):
    if not array.ndim or not array.shape[-1]:
        raise ValueError(f"{name} has shape {array.shape}, expected at least one entry on the last axis.")
