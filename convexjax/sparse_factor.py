"""Systems with the matrix

    K = [P + D   A']
        [A      -H ]

for sparse P and A, diagonal D > 0 and positive definite H in blocks, by its LDL' factors. It is quasidefinite: it has
such factors in every order of its rows (Vanderbei, "Symmetric quasidefinite matrices", 1995), so that the order is free
to keep them sparse.

The factors are QDLDL's (the extra `sparse`), in float64, on the host: the compiled program calls back. It gets a number
for its factors, with which it asks for solutions. The host keeps the factors of the last calls, and of many more the
matrices, so that factors can be made anew; an answer for a number that is known no more is NaN.
"""

from collections import OrderedDict
from functools import partial
from threading import Lock

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sparse

from convexjax.sparse_matrix import SparseMatrix

# Patterns that are remembered; factors of a pattern that are kept at least; matrices of a pattern, and their bytes.
PATTERNS, FACTORS = 8, 4
MATRICES, MATRIX_BYTES = 1000, 100_000_000

Factors = jax.Array
"""The numbers by which the host knows the factors."""


def factor(P: SparseMatrix | None, A: SparseMatrix, diagonal: jax.Array, blocks: list[jax.Array]) -> Factors:
    """Factorise K; P symmetric (None for zero), `diagonal` D as a vector, `blocks` of H, each (count, dim, dim)."""
    P = SparseMatrix.zeros((A.shape[1], A.shape[1]), A.dtype) if P is None else P
    upper = [block[:, *np.triu_indices(block.shape[1])].reshape(-1) for block in blocks]
    negative = jnp.concatenate([jnp.zeros(0, A.dtype), *upper])
    sizes = tuple(block.shape[:2] for block in blocks)
    values = (P.values, diagonal, A.values, negative)
    pattern = P.rows, P.columns, A.rows, A.columns
    number = jax.ShapeDtypeStruct((), jnp.int32)
    return jax.pure_callback(partial(_factor, sizes), number, *pattern, *values, vmap_method="expand_dims")


def solve(factors: Factors, right: jax.Array) -> jax.Array:
    """K^-1 right."""
    like = jax.ShapeDtypeStruct(right.shape, right.dtype)
    return jax.pure_callback(_solve, like, factors, right, vmap_method="expand_dims")


def is_definite(P: SparseMatrix, diagonal: jax.Array) -> jax.Array:
    """Whether P + D is positive definite."""
    return jax.pure_callback(
        _is_definite, jax.ShapeDtypeStruct((), bool), P.rows, P.columns, P.values, diagonal, vmap_method="expand_dims"
    )


# ----------------------------------------------------------------------------- on the host


class Pattern:
    """Where the entries of the quasidefinite matrix are, and the factors of such matrices."""

    def __init__(self, n: int, sizes: tuple, indices: tuple):
        self.indices, self.n, self.sizes = indices, n, sizes
        self.size = n + sum(count * dim for count, dim in sizes)
        P_rows, P_columns, A_rows, A_columns = indices
        self.upper = np.flatnonzero(P_rows <= P_columns)
        diagonal, below = np.arange(n), _block_entries(sizes)
        rows = np.concatenate([P_rows[self.upper], diagonal, A_columns, n + below[0]])
        columns = np.concatenate([P_columns[self.upper], diagonal, n + A_rows, n + below[1]])
        self.order = np.lexsort((rows, columns))
        rows, columns = rows[self.order], columns[self.order]
        new = np.ones(rows.size, bool)
        new[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
        self.starts = np.flatnonzero(new)
        starts_of_columns = np.searchsorted(columns[self.starts], np.arange(self.size + 1))
        self.frame = rows[self.starts].astype(np.int32), starts_of_columns.astype(np.int32)
        self.solvers: OrderedDict = OrderedDict()  # number -> factors
        self.matrices: OrderedDict = OrderedDict()  # number -> values of the matrix

    def values(self, P, diagonal, A, negative) -> np.ndarray:
        """The entries of the matrix, column by column."""
        given = np.concatenate([P[self.upper], diagonal, A, -negative])
        return np.add.reduceat(given[self.order], self.starts)

    def factorise(self, number: int, values: np.ndarray, lanes: int):
        """Keep the factors of the matrix with these values."""
        import qdldl

        self.matrices[number] = values
        while len(self.matrices) > MATRICES or (
            len(self.matrices) > 1 and len(self.matrices) * values.nbytes > MATRIX_BYTES
        ):
            self.matrices.popitem(last=False)
        rows, starts = self.frame
        matrix = sparse.csc_matrix((values, rows, starts), shape=(self.size, self.size))
        old = self.solvers.popitem(last=False)[1] if len(self.solvers) >= max(FACTORS, 2 * lanes) else None
        solver = None
        if np.isfinite(values).all():
            try:
                if old is None:
                    solver = qdldl.Solver(matrix, upper=True)
                else:
                    solver = old
                    solver.update(matrix, upper=True)
            except (RuntimeError, ValueError):  # a pivot is zero
                solver = None
        self.solvers[number] = solver
        return solver

    def solve(self, number: int, right: np.ndarray) -> np.ndarray:
        """K^-1 right with the factors of a number, made again if they are gone; NaN if there are none."""
        if number not in self.solvers and number in self.matrices:
            self.factorise(number, self.matrices[number], 1)
        solver = self.solvers.get(number)
        if solver is None:
            return np.full(right.shape, np.nan)
        return solver.solve(right.astype(np.float64))


_patterns: OrderedDict = OrderedDict()
_pattern_of: OrderedDict = OrderedDict()  # number -> pattern
_count = 0
_lock = Lock()


def _block_entries(sizes: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the upper triangles of blocks, one below the other."""
    first, rows, columns = 0, [np.zeros(0, int)], [np.zeros(0, int)]
    for count, dim in sizes:
        starts = first + dim * np.arange(count)[:, None]
        upper = np.triu_indices(dim)
        rows.append((starts + upper[0]).ravel())
        columns.append((starts + upper[1]).ravel())
        first += count * dim
    return np.concatenate(rows), np.concatenate(columns)


def _pattern(n: int, sizes: tuple, indices: tuple) -> Pattern:
    for key, pattern in reversed(_patterns.items()):
        same = (pattern.n, pattern.sizes) == (n, sizes) and all(map(np.array_equal, pattern.indices, indices))
        if same:
            _patterns.move_to_end(key)
            return pattern
    pattern = Pattern(n, sizes, tuple(np.array(part) for part in indices))
    _patterns[id(pattern)] = pattern
    if len(_patterns) > PATTERNS:
        _, forgotten = _patterns.popitem(last=False)
        for number in [number for number, known in _pattern_of.items() if known is forgotten]:
            del _pattern_of[number]
    return pattern


def _lanes(*arrays_and_ranks) -> tuple[tuple, list]:
    """The batch shape of arrays with these numbers of axes of their own, and each array with one batch axis."""
    arrays = [np.asarray(array) for array, _ in arrays_and_ranks]
    ranks = [rank for _, rank in arrays_and_ranks]
    batch = np.broadcast_shapes(*(a.shape[: a.ndim - rank] for a, rank in zip(arrays, ranks, strict=True)))
    lanes = int(np.prod(batch))
    own = [a.shape[a.ndim - rank :] for a, rank in zip(arrays, ranks, strict=True)]
    return batch, [
        np.broadcast_to(a, (*batch, *shape)).reshape(lanes, *shape) for a, shape in zip(arrays, own, strict=True)
    ]


def _factor(sizes, *data):
    global _count
    batch, data = _lanes(*((part, 1) for part in data))
    n = data[5].shape[-1]
    numbers = []
    with _lock:
        for lane in zip(*data, strict=True):
            pattern = _pattern(n, sizes, lane[:4])
            values = [np.asarray(part, np.float64) for part in lane[4:]]
            _count = (_count + 1) % 2**31
            pattern.factorise(_count, pattern.values(*values), len(data[0]))
            _pattern_of[_count] = pattern
            if len(_pattern_of) > PATTERNS * MATRICES:
                _pattern_of.popitem(last=False)
            numbers.append(_count)
    return np.array(numbers, np.int32).reshape(batch)


def _solve(factors, right):
    batch, (factors, right) = _lanes((factors, 0), (right, 1))
    found = np.full(right.shape, np.nan)
    with _lock:
        for lane, number in enumerate(factors.tolist()):
            pattern = _pattern_of.get(number)
            if pattern is not None:
                found[lane] = pattern.solve(number, right[lane])
    return found.astype(right.dtype).reshape(*batch, -1)


def _is_definite(*data):
    import qdldl

    batch, data = _lanes(*((part, 1) for part in data))
    answers = []
    for rows, columns, values, shift in zip(*data, strict=True):
        upper, (n,) = rows <= columns, shift.shape
        own = np.arange(n)
        entries = np.concatenate([values[upper], shift]).astype(np.float64)
        places = np.concatenate([rows[upper], own]), np.concatenate([columns[upper], own])
        matrix = sparse.coo_matrix((entries, places), shape=(n, n)).tocsc()
        try:
            answers.append(bool(np.all(qdldl.Solver(matrix, upper=True).factors()[1] > 0)))
        except (RuntimeError, ValueError):
            answers.append(False)
    return np.array(answers).reshape(batch)
