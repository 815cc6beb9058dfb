"""Residuals in twice the working precision, from operations in working precision.

A number is the unevaluated sum of two. The building blocks are exact: a sum and its rounding error (Knuth), a product
and its rounding error by splitting the factors in halves (Dekker, "A floating-point technique for extending the
available precision", 1971). The halves are cut by a mask of bits and all their products are exact, so that it does not
matter whether the compiler contracts products and sums.
"""

import jax
import jax.numpy as jnp

# Integers of the same width, and the masks that keep the leading half of a significand.
_HALVES = {"float64": (jnp.uint64, 0xFFFF_FFFF_F800_0000), "float32": (jnp.uint32, 0xFFFF_F000)}


def two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(s, e) with s the rounded sum and s + e = a + b."""
    s = a + b
    c = s - a
    return s, (a - (s - c)) + (b - c)


def two_product(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(p, e) with p the rounded product and p + e = a b, up to a unit in the last place of e."""
    p = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return p, (((a1 * b1 - p) + a1 * b2) + a2 * b1) + a2 * b2


def _halves(a):
    integer, mask = _HALVES[a.dtype.name]
    upper = jax.lax.bitcast_convert_type(jax.lax.bitcast_convert_type(a, integer) & integer(mask), a.dtype)
    return upper, a - upper


def add(a: tuple, b: tuple) -> tuple[jax.Array, jax.Array]:
    """The sum of two pairs."""
    s, e = two_sum(a[0], b[0])
    t = e + (a[1] + b[1])
    upper = s + t
    return upper, t - (upper - s)


def dot(a: jax.Array, b: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    """The sum of the products of two arrays along an axis, as a pair."""
    zero = jnp.zeros((), a.dtype)
    pairs = two_product(a, b)
    return jax.lax.reduce(pairs, (zero, zero), lambda a, b: add(a, b), (axis,))


def minus_product(b: tuple[jax.Array, ...], A: jax.Array, x: jax.Array) -> jax.Array:
    """(sum of b) - A x, rounded once at the end, for vectors or matrices of columns."""

    def column(b, x):
        total = dot(A, jnp.broadcast_to(-x, A.shape), 1)
        for part in b:
            total = add(total, (part, jnp.zeros_like(part)))
        return total[0] + total[1]

    return column(b, x) if x.ndim == 1 else jax.vmap(column, (1, 1), 1)(b, x)
