"""Products with a tall matrix in one pass over its rows.

A block of rows that fits into the cache is read from memory once and used for everything. XLA multiplies A'A on a CPU
two to three times faster block by block, with the transposed block in memory, than in one piece.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from convexjax.linear_algebra import vary_like

BLOCK_ROWS = 1024
# Entries from which a matrix is read in blocks, and columns from which the lower left quarter of A'A is not computed.
LARGE, WIDE = 2_000_000, 256


def gram(A: jax.Array, b: jax.Array, weights: jax.Array | None) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(A'WA, A'Wb, b'Wb by columns) of A (m, n), b (m, q)."""
    n, q = A.shape[1], b.shape[1]
    half = n // 2 if n >= WIDE else 0

    def add(total, A, b, weights):
        (corner, right, left), Ab, bb = total
        weigh = lambda M: M if weights is None else weights[:, None] * M
        At = jax.lax.optimization_barrier(weigh(A).T)
        if half:
            A1, A2 = jax.lax.optimization_barrier((A[:, :half], A[:, half:]))
            corner, right, left = corner + At[:half] @ A1, right + At[:half] @ A2, left + At[half:] @ A2
        else:
            left = left + At @ A
        return (corner, right, left), Ab + At @ b, bb + jnp.sum(weigh(b) * b, 0)

    zeros = lambda *shape: jnp.zeros(shape, A.dtype)
    start = (zeros(half, half), zeros(half, n - half), zeros(n - half, n - half)), zeros(n, q), zeros(q)
    (corner, right, left), Ab, bb = over_rows(add, start, A, b, weights)
    return (jnp.block([[corner, right], [right.T, left]]) if half else left), Ab, bb


def correlations(A: jax.Array, x: jax.Array, b: jax.Array, weights: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """(A'W(b - Ax), (b - Ax)'W(b - Ax) by columns)."""

    def add(total, A, b, weights):
        r = b - A @ x
        weighted = r if weights is None else weights[:, None] * r
        return total[0] + (weighted.T @ A).T, total[1] + jnp.sum(r * weighted, 0)

    return over_rows(add, (jnp.zeros_like(x), jnp.zeros(b.shape[1], b.dtype)), A, b, weights)


def over_rows(add: Callable, start, *matrices):
    """`add(total, *rows)` over blocks of the rows of the matrices (None stays None), beginning with `start`."""
    rows, columns = matrices[0].shape
    if rows * columns < LARGE or rows < 2 * BLOCK_ROWS or jax.default_backend() != "cpu":
        return add(start, *matrices)
    blocks = rows // BLOCK_ROWS
    cut = lambda begin, size: [
        None if matrix is None else jax.lax.dynamic_slice_in_dim(matrix, begin, size) for matrix in matrices
    ]
    total = jax.lax.fori_loop(
        0, blocks, lambda i, total: add(total, *cut(i * BLOCK_ROWS, BLOCK_ROWS)), vary_like(matrices, start)
    )
    rest = rows - blocks * BLOCK_ROWS
    return add(total, *cut(blocks * BLOCK_ROWS, rest)) if rest else total
