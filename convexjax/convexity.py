"""`check_convexity`: look for a pair of points that shows that a function is not convex."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Counterexample(NamedTuple):
    """What `check_convexity` found; without `found`, the pair that came closest."""

    found: Any  # bool
    x: Any
    y: Any
    weight: Any  # theta of f(theta x + (1 - theta) y)
    excess: Any  # how much f lies above the chord there, relative to the values


def check_convexity(
    f: Callable, sampler: Callable, key: jax.Array, *, samples: int = 1000, tolerance: float | None = None
) -> Counterexample:
    """Sample pairs of points and look for one where f lies above its chord,

        f(theta x + (1 - theta) y) > theta f(x) + (1 - theta) f(y).

    Finding one disproves convexity. Finding none proves nothing.

    Arguments:
        f: a function of a pytree x that returns an array; each entry is looked at. Inf and NaN stand for +inf: only
            pairs with finite values count, and a middle without one is a counterexample (the domain is not convex).
        sampler: a function of a key that returns a random x.
        key: a key of `jax.random`.
        samples: pairs to draw.
        tolerance: excess, relative to the largest of the three values, that may be rounding errors; a thousand
            times those of the dtype by default.

    Returns:
        `Counterexample`: `found`, and the pair of largest excess, `x`, `y`, `weight`, `excess`.

    Half of the pairs are neighbours, which find small regions of negative curvature.

    >>> import jax
    >>> import convexjax as cj
    >>> normal = lambda key: jax.random.normal(key, (2,))
    >>> key = jax.random.key(0)
    >>> bool(cj.check_convexity(lambda x: x @ x, normal, key).found)
    False
    >>> bool(cj.check_convexity(lambda x: x[0] * x[1], normal, key).found)
    True
    """
    if not callable(f) or not callable(sampler):
        raise ValueError("check_convexity needs a function f(x) and a sampler(key) that returns x.")
    if samples < 1:
        raise ValueError(f"samples must be at least 1, got {samples}.")

    def excess(key):
        first, second, third, fourth = jax.random.split(key, 4)
        x, y = sampler(first), sampler(second)
        near = jax.random.uniform(third) < 0.5
        y = jax.tree.map(lambda a, b: jnp.where(near, a + (b - a) / 20, b), x, y)
        dtype = jax.tree.leaves(x)[0].dtype
        theta = jax.random.uniform(fourth, (), dtype, 0.1, 0.9)
        middle = jax.tree.map(lambda a, b: theta * a + (1 - theta) * b, x, y)
        f_x, f_y, f_middle = (jnp.ravel(jnp.asarray(f(point))) for point in (x, y, middle))
        size = jnp.maximum(jnp.maximum(jnp.abs(f_x), jnp.abs(f_y)), jnp.abs(f_middle))
        above = (f_middle - theta * f_x - (1 - theta) * f_y) / jnp.where(size > 0, size, 1)
        known = jnp.isfinite(f_x) & jnp.isfinite(f_y)
        above = jnp.where(known, jnp.where(jnp.isfinite(f_middle), above, jnp.inf), -jnp.inf)
        return x, y, theta, jnp.max(above)

    x, y, theta, above = jax.lax.map(excess, jax.random.split(key, samples), batch_size=min(samples, 100))
    worst = jnp.argmax(above)
    take = lambda tree: jax.tree.map(lambda leaf: leaf[worst], tree)
    allowed = 1e3 * jnp.finfo(above.dtype).eps if tolerance is None else tolerance
    return Counterexample(above[worst] > allowed, take(x), take(y), theta[worst], above[worst])
