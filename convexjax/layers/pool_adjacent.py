"""Isotonic regression, exact, in time linear in the number of values."""

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.problems.arguments import floating, require_shape


def isotonic(y: ArrayLike, weights: ArrayLike | None = None, *, increasing: bool = True) -> jax.Array:
    """The nearest sequence that never falls (or never rises).

        minimise    sum_i w_i (x_i - y_i)^2   subject to   x_1 <= x_2 <= ... <= x_n

    Arguments:
        y: (n,); for batches use `jax.vmap`.
        weights: (n,), positive; None for ones.
        increasing: False for x_1 >= x_2 >= ... >= x_n.

    Returns:
        x (n,): means of y over blocks. Differentiable in y and weights any number of times: the blocks stay.

    Source: the pool-adjacent-violators algorithm (Ayer et al., 1955; Best and Chakravarti, 1990).

    >>> from convexjax import layers
    >>> print(layers.isotonic([1.0, 3.0, 2.0, 4.0]))
    [1.  2.5 2.5 4. ]
    """
    y, weights = floating(y=y, weights=weights)
    require_shape("y", y, (None,))
    if not y.shape[0]:
        raise ValueError("y is empty, expected at least one value.")
    weights = jnp.ones_like(y) if weights is None else weights
    require_shape("weights", weights, y.shape, "one per value")
    sign = 1 if increasing else -1
    block = _blocks(*jax.lax.stop_gradient((sign * y, weights)))
    total = lambda values: jnp.zeros_like(y).at[block].add(values)
    weight = total(weights)
    mean = total(weights * y) / jnp.where(weight > 0, weight, 1)
    return mean[block]


def _blocks(y, weights):
    """The block of each value, numbered from 0.

    A stack of blocks, of which each turn of the loop either merges the last two, if their means fall, or adds the next
    value as a block: n additions and at most n - 1 mergers, a number that is the same for all lanes of a batch.
    """
    n = y.shape[0]
    one = jnp.int32(1)

    def turn(_, stack):
        sums, sizes, first, last, following = stack  # of the blocks 0 to last; following: the next value
        before = jnp.maximum(last - 1, 0)
        falls = (last > 0) & (sums[before] * sizes[last] > sums[last] * sizes[before])
        adds = ~falls & (following < n)
        value = jnp.minimum(following, n - 1)
        target = jnp.where(falls, before, jnp.where(adds, last + 1, last))
        old = lambda array, added: jnp.where(falls, array[before] + array[last], jnp.where(adds, added, array[last]))
        start = jnp.where(falls, first[before], jnp.where(adds, value, first[last]))
        return (
            sums.at[target].set(old(sums, weights[value] * y[value])),
            sizes.at[target].set(old(sizes, weights[value])),
            first.at[target].set(start),
            target,
            following + jnp.where(adds, one, 0 * one),
        )

    zeros = jnp.zeros_like(y)
    begin = zeros.at[0].set(weights[0] * y[0]), zeros.at[0].set(weights[0]), jnp.zeros(n, jnp.int32), 0 * one, one
    _, _, first, last, _ = jax.lax.fori_loop(0, 2 * n - 2, turn, begin)
    places = jnp.where(jnp.arange(n, dtype=jnp.int32) <= last, first, n)
    starts = jnp.zeros(n, jnp.int32).at[places].set(1, mode="drop")
    return jnp.cumsum(starts) - 1
