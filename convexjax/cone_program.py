"""The standard form that every named problem is reduced to.

    minimise   1/2 x'Px + q'x     subject to   A x + s = b,   s in K          (dual z in K*)

with the Karush-Kuhn-Tucker conditions `Px + A'z + q = 0`, `Ax + s = b`, `s'z = 0`, `s in K`, `z in K*`.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from convexjax.cones.product import ProductCone
from convexjax.linear_algebra import Rows


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class ConeProgram:
    """Data of a cone program, rows of A in the order of `cone`, bounds last."""

    P: jax.Array | None  # (n, n), symmetric positive semidefinite, or None for zero
    q: jax.Array  # (n,)
    A: Rows  # (m, n)
    b: jax.Array  # (m,)
    cone: ProductCone

    def quadratic(self, x: jax.Array) -> jax.Array:
        """P x, for a vector or a matrix of columns."""
        return jnp.zeros_like(x) if self.P is None else self.P @ x


# A right-hand side this large means "no bound", as other solvers and modelling languages have it.
INFINITE = 1e20


def is_finite(program: ConeProgram) -> jax.Array:
    """Whether the data are numbers below 1e20; call it after `drop_rows`."""
    arrays = [program.q, program.A.dense, program.b] + ([] if program.P is None else [program.P])
    return jnp.all(jnp.stack([jnp.all(jnp.abs(a) < INFINITE) for a in arrays]))


def infinite_rows(program: ConeProgram) -> jax.Array:
    """Rows of inequalities with b >= 1e20: they have no effect, and their dual is zero."""
    return program.cone.is_inequality() & (program.b >= INFINITE)


def drop_rows(program: ConeProgram, dropped: jax.Array) -> ConeProgram:
    """Replace rows by `0'x + s = t` with t the size of b, solved by s = t, z = 0."""
    m = program.A.dense.shape[0]
    rows = Rows(
        jnp.where(dropped[:m, None], 0, program.A.dense),
        tuple(
            jnp.where(part, 0, diagonal)
            for part, diagonal in zip(program.A.bound_rows(dropped), program.A.diagonals, strict=True)
        ),
    )
    size = jnp.max(jnp.where(dropped, 0, jnp.abs(program.b)), initial=0)
    return replace(program, A=rows, b=jnp.where(dropped, jnp.where(size > 0, size, 1), program.b))


def is_convex(P: jax.Array | None) -> jax.Array:
    """Whether P is positive semidefinite up to roundoff: a Cholesky factorisation of P with unit diagonal, shifted by
    the rounding errors of a matrix of this size, exists."""
    if P is None or P.shape[0] == 0:
        return jnp.array(True)
    n, dtype = P.shape[0], P.dtype
    diagonal = jnp.diagonal(P)
    largest = jnp.max(jnp.abs(P))
    shift = 100 * n * jnp.finfo(dtype).eps
    # a zero diagonal entry belongs to a zero row: keep its scale that of the matrix, so that other entries show
    scale = jax.lax.rsqrt(jnp.maximum(diagonal, shift * largest + jnp.finfo(dtype).tiny))
    scaled = P * scale[:, None] * scale + shift * jnp.eye(n, dtype=dtype)
    factor = jnp.linalg.cholesky(scaled, symmetrize_input=False)
    return jnp.all(diagonal >= -shift * largest) & jnp.all(jnp.isfinite(factor))
