"""Small pieces of linear algebra that several modules share."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.pytrees import pytree
from convexjax.sparse_matrix import SparseMatrix


def reductions(sums: tuple = (), maxima: tuple = ()) -> list[jax.Array]:
    """Sums, then maxima (at least 0, NaN if there is one), of vectors of one length, in a single pass.

    One reduction with many operands compiles several times faster than as many reductions, and runs as one loop.
    """
    vectors = (*sums, *maxima)
    zeros, k = tuple(jnp.zeros((), v.dtype) for v in vectors), len(sums)

    def combine(a, b):
        return (*map(jax.lax.add, a[:k], b[:k]), *map(jax.lax.max, a[k:], b[k:]))

    return list(jax.lax.reduce(vectors, zeros, combine, (0,)))


def vary_like(data, carry):
    """The start of a loop, marked as varying over the mesh axes that `data` vary over: inside `shard_map` the carry
    of a loop must have one type from the start. Elsewhere nothing changes."""
    axes = frozenset[str]().union(*(_varying(leaf) for leaf in jax.tree.leaves((data, carry))))

    def mark(leaf):
        missing = tuple(axes - _varying(leaf))
        return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(mark, carry) if axes else carry


def batched_like(tree, other: jax.Array):
    """`tree` itself, with lanes under `vmap` where the scalar `other` has some: derivatives that are multiplied by it
    have them, too, and JAX wants both to agree."""
    return jax.tree.map(lambda leaf: jnp.where(other == other, leaf, leaf), tree)


@jax.custom_jvp
def scale_tangent(tree, factor):
    """`tree` itself; its derivatives, forwards and backwards, are multiplied by `factor`."""
    return batched_like(tree, factor)


@scale_tangent.defjvp
def _(primals, tangents):
    (tree, factor), (direction, _) = primals, tangents
    scaled = lambda leaf: leaf if leaf.dtype == jax.dtypes.float0 else leaf * factor
    return scale_tangent(tree, factor), jax.tree.map(scaled, direction)


@jax.custom_jvp
def gate(tree, is_open):
    """`tree` itself; its derivatives are zero, whatever they are multiplied with, unless `is_open`."""
    return batched_like(tree, is_open)


@gate.defjvp
def _(primals, tangents):
    (tree, is_open), (direction, _) = primals, tangents
    gated = lambda leaf: leaf if leaf.dtype == jax.dtypes.float0 else jnp.where(is_open, leaf, 0)
    return gate(tree, is_open), jax.tree.map(gated, direction)


def _varying(leaf) -> frozenset[str]:
    """The mesh axes over which a value varies; the name of this attribute depends on the version of JAX."""
    kind: Any = jax.typeof(leaf)
    return kind.vma if hasattr(kind, "vma") else kind.manual_axis_type.varying


# ----------------------------------------------------------------------------- symmetric matrices as vectors


@lru_cache
def svec_indices(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(rows, columns, scale, position): entry k of svec is scale[k] X[rows[k], columns[k]]; smat reads position."""
    columns, rows = (
        i.astype(np.int32) for i in np.tril_indices(side)
    )  # upper triangle column by column: (0,0), (0,1), (1,1), (0,2), ...
    scale = np.where(rows == columns, 1.0, np.sqrt(2.0))
    position = np.zeros((side, side), np.int32)
    position[rows, columns] = position[columns, rows] = np.arange(rows.size)
    return rows, columns, scale, position


def svec(X: jax.Array) -> jax.Array:
    """Scaled half-vectorisation of the last two axes: the upper triangle column by column (X11, X12, X22, X13, ...),
    off-diagonal entries times sqrt 2, so that `svec(X) @ svec(Y) = trace(X Y)`.

    >>> import numpy as np
    >>> print(np.asarray(svec(np.array([[1.0, 2.0], [2.0, 3.0]]))).round(3))
    [1.    2.828 3.   ]
    """
    X = jnp.asarray(X)
    rows, columns, scale, _ = svec_indices(X.shape[-1])
    return X[..., rows, columns] * jnp.asarray(scale, X.dtype)


def smat(v: jax.Array, side: int | None = None) -> jax.Array:
    """Inverse of `svec`: (..., side (side + 1) / 2) to (..., side, side); `side` may be left to the shape of v."""
    if side is None:
        side = (math.isqrt(8 * v.shape[-1] + 1) - 1) // 2
        if side * (side + 1) // 2 != v.shape[-1]:
            raise ValueError(f"v must have side (side + 1) / 2 entries (1, 3, 6, 10, ...), got {v.shape[-1]}.")
    _, _, scale, position = svec_indices(side)
    return (v / jnp.asarray(scale, v.dtype))[..., position]


# ----------------------------------------------------------------------------- constraint matrices


@pytree
@dataclass(frozen=True)
class Rows:
    """A constraint matrix: general rows, and below them one diagonal matrix for each side with bounds.

    `matrix` has shape (m, n), each of `diagonals` shape (n,): -1 for `-x + s = -lb`, 1 for `x + s = ub`, 0 where there
    is no bound. Bounds then cost n numbers a product instead of n x n.
    """

    matrix: Any  # (m, n), an array or a `SparseMatrix`
    diagonals: tuple[jax.Array, ...] = ()

    @property
    def num_exact(self) -> int:
        """Number of rows, the first, that a linear system keeps as they are (`kkt.solve_reduced`)."""
        return self.num_general if self.is_sparse else 0

    @property
    def is_sparse(self) -> bool:
        return isinstance(self.matrix, SparseMatrix)

    @property
    def dtype(self):
        return self.matrix.dtype

    @property
    def num_general(self) -> int:
        """Rows that are no bounds."""
        return self.matrix.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        m, n = self.matrix.shape
        return m + n * len(self.diagonals), n

    def matvec(self, x: jax.Array) -> jax.Array:
        """A x, for a vector or a matrix of columns."""
        if not self.diagonals:
            return self.matrix @ x
        return jnp.concatenate([self.matrix @ x] + [_rowwise(diagonal, x) * x for diagonal in self.diagonals])

    def rmatvec(self, z: jax.Array) -> jax.Array:
        """A'z."""
        y = z[: self.matrix.shape[0]] @ self.matrix  # not matrix.T @ z, which XLA may transpose in memory each time
        for diagonal, part in zip(self.diagonals, self.bound_rows(z), strict=True):
            y = y + _rowwise(diagonal, part) * part
        return y

    def weighted(self, weights: jax.Array) -> "Rows":
        """W A for the diagonal W of `weights`."""
        matrix, bounds = weights[: self.num_general, None] * self.matrix, self.bound_rows(weights)
        return Rows(matrix, tuple(w * d for w, d in zip(bounds, self.diagonals, strict=True)))

    def bound_rows(self, v: jax.Array) -> list[jax.Array]:
        """The parts of a row vector that belong to the diagonals."""
        m, n = self.matrix.shape
        return [v[m + i * n : m + (i + 1) * n] for i in range(len(self.diagonals))]


def _rowwise(diagonal, x):
    return diagonal if x.ndim == 1 else diagonal[:, None]


# ----------------------------------------------------------------------------- Hessians with a structure


@pytree
@dataclass(frozen=True)
class DiagonalPlusLowRank:
    """The symmetric matrix diag(d) + U U': n (r + 1) numbers instead of n x n."""

    diagonal: jax.Array  # (n,)
    factor: jax.Array  # (n, r)

    @property
    def shape(self) -> tuple[int, int]:
        n = self.diagonal.shape[0]
        return n, n

    @property
    def dtype(self):
        return self.diagonal.dtype

    def __matmul__(self, x: jax.Array) -> jax.Array:
        return _rowwise(self.diagonal, x) * x + self.factor @ (self.factor.T @ x)


@pytree
@dataclass(frozen=True)
class Products:
    """A symmetric matrix of which nothing is known but its product with a vector."""

    product: Any  # a `jax.tree_util.Partial`
    like: jax.Array  # a vector

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.like.shape[0], self.like.shape[0]

    @property
    def dtype(self):
        """Of its entries."""
        return self.like.dtype

    def __matmul__(self, x: jax.Array) -> jax.Array:
        return self.product(x)


def diagonal_of(P) -> jax.Array:
    """The diagonal of a matrix of any kind."""
    if isinstance(P, SparseMatrix):
        return P.diagonal()
    if isinstance(P, DiagonalPlusLowRank):
        return P.diagonal + jnp.sum(P.factor**2, 1)
    return jnp.diagonal(P)


def shifted(P, shift):
    """P + shift I."""
    if isinstance(P, DiagonalPlusLowRank):
        return DiagonalPlusLowRank(P.diagonal + shift, P.factor)
    return P + shift * jnp.eye(P.shape[0], dtype=P.dtype)


def scaled(M, left, right):
    """diag(left) M diag(right)."""
    return M.scaled(left, right) if isinstance(M, SparseMatrix) else left[:, None] * M * right


def squared(M):
    """The squares of the entries of a matrix, dense or sparse."""
    return M.squared() if isinstance(M, SparseMatrix) else M * M


def congruent(P, D, c):
    """c D P D for a diagonal D, given as a vector, and c > 0."""
    if isinstance(P, DiagonalPlusLowRank):
        return DiagonalPlusLowRank(c * D * D * P.diagonal, jnp.sqrt(c) * D[:, None] * P.factor)
    return scaled(P, c * D, D)
