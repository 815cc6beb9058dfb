"""What users may pass as the matrices of a semidefinite constraint F_0 + sum_i x_i F_i psd, and how it is kept.

A block is one of

    an array (n + 1, k, k), F_0 first                              dense matrices
    an array (n + 1, l)                                            diagonal matrices, as their diagonals
    a list of n + 1 matrices, some of them scipy.sparse            sparse ones
    a BCOO array (n + 1, k, k)                                     the same in JAX

Where the numbers are known, not traced, zeros are counted, and the solver uses them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.problems.arguments import floating, rank, require_shape, rows_or_empty, symmetric
from convexjax.semidefinite_interior_point import Point
from convexjax.semidefinite_program import (
    DiagonalBlock,
    Entries,
    MatrixBlocks,
    SemidefiniteProgram,
    matrix_blocks,
    traced_blocks,
)

# Largest asymmetry of a matrix, relative to its largest entry, that counts as rounding; of one in single precision.
ROUNDING, ROUNDING_SINGLE = 1e-8, 1e-5


class Block(NamedTuple):
    """F_0, and the other matrices: traced (n, k, k) or (n, l), or `Entries` on the host."""

    F0: jax.Array
    rest: Any


class Places(NamedTuple):
    """Where the blocks of the user are in the parts of a `SemidefiniteProgram`: per block the part and the place."""

    of: tuple[tuple[int, int | None], ...]

    def blocks(self, matrices: tuple) -> tuple:
        """The matrices of all blocks, in the user's order."""
        return tuple(matrices[part] if place is None else matrices[part][place] for part, place in self.of)


def is_sparse(value) -> bool:
    """Whether this is a matrix of scipy.sparse, or sparse in JAX's sense."""
    return hasattr(value, "tocoo") or hasattr(value, "todense")


def is_sparse_block(value) -> bool:
    """Whether a block is given by sparse matrices."""
    return is_sparse(value) or (isinstance(value, list | tuple) and any(is_sparse(v) for v in value))


def is_block(value) -> bool:
    """Whether this one of several values, and not a row of a matrix, is a block of its own."""
    return is_sparse_block(value) or rank(value) >= 2


def read_block(name: str, value, n: int, dtype) -> Block:
    """A block, checked. Errors name the argument."""
    if is_sparse_block(value):
        return _sparse_block(name, value, n, dtype)
    concrete = not any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))
    (array,) = floating(**{name: value})
    if array.ndim == 2:
        require_shape(name, array, (n + 1, None), "F_0 and one diagonal per variable")
        return Block(array[0].astype(dtype), array[1:].astype(dtype))
    side = array.shape[-1] if array.ndim else None
    require_shape(name, array, (n + 1, side, side), "F_0 and one matrix per variable")
    require_symmetric(name, value)
    if concrete:
        host = np.asarray(array, np.float64)
        return Block(symmetric(array[0]).astype(dtype), _entries_of_dense((host[1:] + host[1:].swapaxes(1, 2)) / 2))
    array = symmetric(array).astype(dtype)
    return Block(array[0], array[1:])


def require_symmetric(name: str, matrices) -> None:
    """Raise `ValueError` if matrices whose numbers are known are not symmetric."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(matrices)) or is_sparse_block(matrices):
        return  # sparse ones are checked when they are read
    array = np.asarray(matrices)
    if array.ndim >= 2 and array.size:
        single = array.dtype == np.float32
        array = array.astype(np.float64)
        _require_small(name, np.abs(array - array.swapaxes(-1, -2)).max(), np.abs(array).max(), single)


def _require_small(name, asymmetry, largest, single=False):
    if asymmetry > (ROUNDING_SINGLE if single else ROUNDING) * largest:
        raise ValueError(
            f"{name} is not symmetric: its largest asymmetry is {asymmetry:.3g}; pass (M + M.T) / 2 of each matrix M."
        )


def _entries_of_dense(matrices: np.ndarray) -> Entries:
    constraint, row, column = np.nonzero(np.triu(matrices))
    return Entries(constraint, row, column, matrices[constraint, row, column])


def _sparse_block(name, value, n, dtype) -> Block:
    if not isinstance(value, list | tuple):  # BCOO
        if value.ndim != 3 or any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
            return read_block(name, value.todense(), n, dtype)
        require_shape(name, value, (n + 1, value.shape[-1], value.shape[-1]), "F_0 and one matrix per variable")
        ids, data = np.asarray(value.indices), np.asarray(value.data, np.float64)
        constraint, row, column = ids.T
        side = value.shape[-1]
        inside = (constraint <= n) & (row < side) & (column < side)  # BCOO fills up with indices out of range
        parts = constraint[inside], row[inside], column[inside], data[inside]
    else:
        if len(value) != n + 1:
            raise ValueError(f"{name} has {len(value)} matrices, expected {n + 1}: F_0 and one per variable.")
        matrices = [_nonzeros(f"{name}[{i}]", matrix) for i, matrix in enumerate(value)]
        side = matrices[0][0][0]
        for i, (shape, *_) in enumerate(matrices):
            if tuple(shape) != (side, side):
                raise ValueError(f"{name}[{i}] has shape {tuple(shape)}, expected {(side, side)}, as the first one.")
        constraint = np.repeat(np.arange(n + 1), [values.size for *_, values in matrices])
        row, column, data = (np.concatenate([matrix[i] for matrix in matrices]) for i in (1, 2, 3))
        parts = constraint, row, column, data
    constraint, row, column, data = parts
    # both triangles summed up by place: 2 F above the diagonal
    place = (constraint * side + np.minimum(row, column)) * side + np.maximum(row, column)
    places, inverse = np.unique(place, return_inverse=True)
    both = np.bincount(inverse, data, places.size)
    skew = np.bincount(inverse, np.where(row < column, data, np.where(row > column, -data, 0)), places.size)
    _require_small(name, np.abs(skew).max(initial=0), np.abs(data).max(initial=0))
    constraint, row, column = places // side**2, places // side % side, places % side
    both = np.where(row == column, both, both / 2)
    first = constraint == 0
    F0 = np.zeros((side, side))
    F0[row[first], column[first]] = F0[column[first], row[first]] = both[first]
    rest = (~first) & (both != 0)
    return Block(jnp.asarray(F0, dtype), Entries(constraint[rest] - 1, row[rest], column[rest], both[rest]))


def _nonzeros(name, matrix) -> tuple:
    """Shape, rows, columns and values of a matrix of scipy.sparse, or of a dense one."""
    if hasattr(matrix, "tocoo"):
        found = matrix.tocoo()
        return found.shape, found.row, found.col, np.asarray(found.data, np.float64)
    dense = np.asarray(floating(**{name: matrix})[0], np.float64)
    require_shape(name, dense, (None, None), "a matrix")
    row, column = np.nonzero(dense)
    return dense.shape, row, column, dense[row, column]


def program_of(
    c: jax.Array,
    blocks: Sequence[Block],
    weights: Sequence[int] | None = None,
    A: jax.Array | None = None,
    b: jax.Array | None = None,
) -> tuple[SemidefiniteProgram, Places]:
    """The program, blocks of equal side together, and where each of them went."""
    n, dtype = c.shape[0], c.dtype
    weights = [0] * len(blocks) if weights is None else list(weights)
    groups: dict[tuple, list[int]] = {}
    for i, (block, weight) in enumerate(zip(blocks, weights, strict=True)):
        if block.F0.size == 0:
            key = ("empty", i)
        elif block.F0.ndim == 1:
            key = ("diagonal", i, weight)
        else:
            key = ("known" if isinstance(block.rest, Entries) else "traced", block.F0.shape[0], weight)
        groups.setdefault(key, []).append(i)
    parts: list[MatrixBlocks | DiagonalBlock] = []
    part_weights, places = [], {}
    for key, members in groups.items():
        own = [blocks[i] for i in members]
        if key[0] in ("diagonal", "empty"):
            F0 = own[0].F0.reshape(own[0].F0.shape[0] if own[0].F0.ndim == 1 else 0)
            rest = own[0].rest if key[0] == "diagonal" else jnp.zeros((n, 0), dtype)
            part = DiagonalBlock(F0=F0, F=rest)
        else:
            F0 = jnp.stack([block.F0 for block in own])
            build = matrix_blocks if key[0] == "known" else traced_blocks
            part = build(F0, [block.rest for block in own], n, dtype)
        for place, i in enumerate(members):
            places[i] = (len(parts), None if key[0] in ("diagonal", "empty") else place)
        parts.append(part)
        part_weights.append(weights[members[0]])
    A, b = rows_or_empty(A, b, n, dtype)
    program = SemidefiniteProgram(c=c, parts=tuple(parts), A=A, b=b, weights=tuple(part_weights))
    return program, Places(tuple(places[i] for i in range(len(blocks))))


def matrices_of(places: Places, point: Point, blocks: Sequence[Block]) -> tuple[tuple, tuple]:
    """S and Z, one entry per block of the user."""
    shaped = lambda matrices: tuple(
        M.reshape(block.F0.shape) for M, block in zip(places.blocks(matrices), blocks, strict=True)
    )
    return shaped(point.S), shaped(point.Z)
