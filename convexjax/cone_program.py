"""The standard form that every named problem is reduced to.

    minimise   1/2 x'Px + q'x     subject to   A x + s = b,   s in K          (dual z in K*)

with the Karush-Kuhn-Tucker conditions `Px + A'z + q = 0`, `Ax + s = b`, `s'z = 0`, `s in K`, `z in K*`.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from convexjax import sparse_factor
from convexjax.cones.product import ProductCone
from convexjax.linear_algebra import DiagonalPlusLowRank, Rows, shifted
from convexjax.pytrees import pytree
from convexjax.sparse_matrix import SparseMatrix


@pytree
@dataclass(frozen=True, kw_only=True)
class ConeProgram:
    """Data of a cone program, rows of A in the order of `cone`, bounds last."""

    P: Any  # (n, n), symmetric positive semidefinite, an array or `DiagonalPlusLowRank`, or None for zero
    q: jax.Array  # (n,)
    A: Rows  # (m, n)
    b: jax.Array  # (m,)
    cone: ProductCone

    def quadratic(self, x: jax.Array) -> jax.Array:
        """P x, for a vector or a matrix of columns."""
        return jnp.zeros_like(x) if self.P is None else self.P @ x

    # what derivatives ask of any program (`smooth_program.py` is the other one)

    def value(self, x: jax.Array) -> jax.Array:
        """The objective."""
        return x @ self.quadratic(x) / 2 + self.q @ x

    def rows(self, x: jax.Array) -> jax.Array:
        """A x - b, which is -s."""
        return self.A.matvec(x) - self.b

    def stationarity(self, x: jax.Array, z: jax.Array) -> jax.Array:
        """The gradient of the Lagrangian in x."""
        return self.quadratic(x) + self.A.rmatvec(z) + self.q

    def linearized(self, x: jax.Array, z: jax.Array) -> "ConeProgram":
        """The program near a point: itself."""
        return self


# A right-hand side this large means "no bound", as other solvers and modelling languages have it.
INFINITE = 1e20


def infinite_rows(program: ConeProgram) -> jax.Array:
    """Rows of inequalities with b >= 1e20: they have no effect, and their dual is zero."""
    return jnp.asarray(program.cone.is_inequality()) & (program.b >= INFINITE)


def is_convex(P: Any, size: jax.Array) -> jax.Array:
    """Whether P, of largest entry `size`, is positive semidefinite up to roundoff: P shifted by the rounding errors
    of a matrix of this size has a Cholesky factor."""
    if P is None or P.shape[0] == 0:
        return jnp.array(True)
    n, dtype = P.shape[0], P.dtype
    shift = 10 * n * jnp.finfo(dtype).eps * size + jnp.finfo(dtype).tiny
    if isinstance(P, DiagonalPlusLowRank):
        return jnp.all(P.diagonal >= -shift)
    if isinstance(P, SparseMatrix):
        return sparse_factor.is_definite(P, jnp.broadcast_to(shift, n))
    factor = jnp.linalg.cholesky(shifted(P, shift), symmetrize_input=False)
    return jnp.isfinite(factor[-1, -1])
