"""Products with a tall matrix in one pass over its rows.

A block of rows that fits into the cache is read from memory once and used for everything. XLA multiplies A'A on a CPU
two to three times faster block by block, with the transposed block in memory, than in one piece.
"""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from convexjax.linear_algebra import vary_like

BLOCK_ROWS = 1024
# Entries from which a matrix is read in blocks, columns from which not all of the lower triangle of A'A is computed,
# and most block rows of its upper triangle.
LARGE, WIDE, MOST_PARTS = 2_000_000, 256, 8


def gram(
    A: jax.Array, b: jax.Array, weights: jax.Array | None, scale: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(A'WA, A'Wb, b'Wb by columns) of A (m, n), b (m, q). With `scale` (n,) the first is that of A scale, and products
    with A are in float32, their sums over blocks of rows in the type of A."""
    n, q = A.shape[1], b.shape[1]
    parts = 1 if n < WIDE else min(MOST_PARTS, n // (WIDE // 2))
    cuts = [n * i // parts for i in range(parts + 1)]
    spans = [slice(*ends) for ends in itertools.pairwise(cuts)]

    def add(total, A, b, weights):
        blocks, Ab, bb = total
        weigh = lambda M: M if weights is None else weights[:, None] * M
        bb = bb + jnp.sum(weigh(b) * b, 0)
        left, right, single_b = weigh(A), A, b
        if scale is not None:
            root = jnp.ones((), A.dtype) if weights is None else jnp.sqrt(weights)[:, None]
            left = right = (root * A * scale).astype(jnp.float32)
            single_b = (root * b).astype(jnp.float32)
        left = jax.lax.optimization_barrier(left.T)
        Ab = Ab + jnp.dot(left, single_b, precision="highest").astype(A.dtype)
        # a block row of the upper triangle each
        columns = [right[:, cut:] for cut in cuts[:-1]] if parts > 1 else [right]
        columns = jax.lax.optimization_barrier(columns)
        products = [jnp.dot(left[own], part, precision="highest") for own, part in zip(spans, columns, strict=True)]
        return [block + new.astype(A.dtype) for block, new in zip(blocks, products, strict=True)], Ab, bb

    zeros = lambda *shape: jnp.zeros(shape, A.dtype)
    start = [zeros(own.stop - own.start, n - own.start) for own in spans], zeros(n, q), zeros(q)
    blocks, Ab, bb = over_rows(add, start, A, b, weights)
    if parts > 1:
        upper = jnp.concatenate([jnp.pad(block, ((0, 0), (n - block.shape[1], 0))) for block in blocks])
        H = jnp.triu(upper) + jnp.triu(upper, 1).T
    else:
        H = blocks[0]
    return H, Ab if scale is None else Ab / scale[:, None], bb


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
