"""Sorting, ranking and choosing the largest as linear programs over permutations, smoothed by a quadratic term.

The vectors that rearrange w are the corners of a polytope, the permutahedron of w. Sorting and ranking maximise a
linear function over it; with -strength/2 |x|^2 added the maximiser is a projection, which is differentiable and equals
the corner itself once the strength is small (Blondel, Teboul, Berthet and Djolonga, "Fast differentiable sorting and
ranking", 2020). The projection is an isotonic regression of sorted numbers: exact, O(n log n).
"""

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.layers.pool_adjacent import isotonic
from convexjax.problems.arguments import floating, require_shape


def permutahedron(z: ArrayLike, w: ArrayLike) -> jax.Array:
    """The point nearest to z (n,) of the convex hull of all rearrangements of w (n,).

    >>> from convexjax import layers
    >>> print(layers.permutahedron([3.0, 9.0, 0.0], [1.0, 2.0, 3.0]))
    [2. 3. 1.]
    """
    z, w = floating(z=z, w=w)
    require_shape("z", z, (None,))
    require_shape("w", w, z.shape, "as z")
    order = jnp.argsort(-jax.lax.stop_gradient(z))
    back = jnp.argsort(order)
    falling_w = w[jnp.argsort(-jax.lax.stop_gradient(w))]
    falling_z = z[order]
    return (falling_z - isotonic(falling_z - falling_w, increasing=False))[back]


def soft_sort(values: ArrayLike, strength: float | jax.Array = 1.0) -> jax.Array:
    """Values (n,) in rising order; the larger the strength, the closer to their mean. Exact once it is below the least
    difference of neighbours.

    >>> from convexjax import layers
    >>> print(layers.soft_sort([3.0, 1.0, 2.0], 0.1), layers.soft_sort([3.0, 1.0, 2.0], 2.0))
    [1. 2. 3.] [1.5 2.  2.5]
    """
    values, strength = _checked(values, strength)
    places = jnp.arange(1, values.shape[0] + 1, dtype=values.dtype)
    return permutahedron(places / strength, values)


def soft_rank(values: ArrayLike, strength: float | jax.Array = 1.0) -> jax.Array:
    """Ranks of values (n,), 1 for the least and n for the largest; the larger the strength, the closer to their mean.

    >>> from convexjax import layers
    >>> print(layers.soft_rank([0.3, -1.0, 0.8], 0.1), layers.soft_rank([0.3, -1.0, 0.8], 1.0).round(2))
    [2. 1. 3.] [2.25 1.   2.75]
    """
    values, strength = _checked(values, strength)
    places = jnp.arange(1, values.shape[0] + 1, dtype=values.dtype)
    return permutahedron(values / strength, places)


def soft_top_k(values: ArrayLike, k: int, strength: float | jax.Array = 1.0) -> jax.Array:
    """Shares (n,) between 0 and 1 with sum k, 1 for the k largest of values (n,); the larger the strength, the closer
    to k/n.

        maximise    values'x - strength/2 |x|^2   subject to   0 <= x <= 1,   sum x = k

    >>> from convexjax import layers
    >>> print(layers.soft_top_k([1.0, 3.0, 2.5], 1, 1.0))
    [0.   0.75 0.25]
    """
    values, strength = _checked(values, strength)
    n = values.shape[0]
    if not isinstance(k, int) or isinstance(k, bool) or not 0 <= k <= n:
        raise ValueError(f"k must be a Python int from 0 to the number of values, {n}, got {k!r}.")
    chosen = (jnp.arange(n) < k).astype(values.dtype)
    return permutahedron(values / strength, chosen)


def _checked(values, strength):
    values, strength = floating(values=values, strength=strength)
    require_shape("values", values, (None,))
    require_shape("strength", strength, ())
    if not isinstance(strength, jax.core.Tracer) and not strength > 0:
        raise ValueError(f"strength must be positive, got {strength}.")
    return values, strength.astype(values.dtype)
