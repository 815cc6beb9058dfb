"""Sparse matrices as pytrees.

The positions of the entries are data like their values, so that a program compiled for one pattern runs for every
other one with as many entries. Entries may repeat: they add up.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.pytrees import pytree, static


@pytree
@dataclass(frozen=True)
class SparseMatrix:
    """The matrix with `values[k]` at (`rows[k]`, `columns[k]`), int32. It multiplies vectors and matrices of columns,
    `M @ x` and `z @ M`."""

    values: jax.Array
    rows: jax.Array
    columns: jax.Array
    shape: tuple[int, int] = static()

    @classmethod
    def zeros(cls, shape: tuple[int, int], dtype) -> "SparseMatrix":
        """The matrix without entries."""
        nowhere = jnp.zeros(0, jnp.int32)
        return cls(jnp.zeros(0, dtype), nowhere, nowhere, shape)

    @property
    def dtype(self):
        """Of its values."""
        return self.values.dtype

    def __matmul__(self, x: jax.Array) -> jax.Array:
        values = self.values if x.ndim == 1 else self.values[:, None]
        return jax.ops.segment_sum(values * x[self.columns], self.rows, num_segments=self.shape[0])

    def __rmatmul__(self, z: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(z[self.rows] * self.values, self.columns, num_segments=self.shape[1])

    def scaled(self, left: jax.Array, right: jax.Array) -> "SparseMatrix":
        """diag(left) M diag(right)."""
        return replace(self, values=left[self.rows] * self.values * right[self.columns])

    def without(self, dropped: jax.Array) -> "SparseMatrix":
        """Zeros in the rows that are dropped, whatever stood there."""
        return replace(self, values=jnp.where(dropped[self.rows], 0, self.values))

    def squared(self) -> "SparseMatrix":
        """The squares of the entries."""
        return replace(self, values=self.values * self.values)

    def symmetrised(self) -> "SparseMatrix":
        """(M + M') / 2."""
        return SparseMatrix(
            jnp.concatenate([self.values, self.values]) / 2,
            jnp.concatenate([self.rows, self.columns]),
            jnp.concatenate([self.columns, self.rows]),
            self.shape,
        )

    def diagonal(self) -> jax.Array:
        """The entries on the diagonal."""
        own = jnp.where(self.rows == self.columns, self.values, 0)
        return jax.ops.segment_sum(own, self.rows, num_segments=self.shape[0])

    def reordered(self, order: np.ndarray) -> "SparseMatrix":
        """The matrix whose row k is row order[k] of this one."""
        position = np.argsort(order).astype(np.int32)
        return replace(self, rows=jnp.asarray(position)[self.rows])

    def above(self, other: "SparseMatrix") -> "SparseMatrix":
        """The rows of this matrix, and below them those of the other."""
        return SparseMatrix(
            jnp.concatenate([self.values, other.values]),
            jnp.concatenate([self.rows, other.rows + jnp.int32(self.shape[0])]),
            jnp.concatenate([self.columns, other.columns]),
            (self.shape[0] + other.shape[0], self.shape[1]),
        )
