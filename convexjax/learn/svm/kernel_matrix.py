"""The kernel matrix K of a dual: X X' that is never formed, stored as a whole, or formed by rows where it is needed.

Each solves the system of Newton's method (`newton.py`) in its own way,

    dbeta + D (K dbeta + db) = h,    sum dbeta = -r_1.    (4)

For K = X X' that is a system in dw = X'dbeta and db with the matrix [I + X'DX, X'D1; 1'DX, 1'D1]: an iteration costs
one product X'DX, O(m p^2), and memory is O(m p) (Ferris and Munson, "Interior-point methods for massive support vector
machines", 2002).
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve

from convexjax.gram import over_rows
from convexjax.pytrees import pytree

# Samples whose part of a kernel matrix that is too large to be stored is checked to be positive semidefinite.
CHECKED = 1000


@pytree
@dataclass(frozen=True)
class LowRank:
    """K = X X' for X (m, p). beta is carried as w = X'beta."""

    X: jax.Array

    def compress(self, beta):
        return beta @ self.X

    def scores(self, w):
        """K beta."""
        return self.X @ w

    def follow(self, w, f):
        """K beta after steps in which w and f moved together."""
        return f

    def square(self, w, f):
        """beta'K beta."""
        return w @ w

    def largest(self):
        """The largest entry of the diagonal of K."""
        return jnp.max(jnp.sum(self.X * self.X, 1), initial=0)

    def factor(self, D, intercept: bool):
        """The matrix of (4), and its factor scaled to a unit diagonal."""
        p = self.X.shape[1]

        def add(total, X, D):
            G, c = total
            # the transposed block in memory: a faster product, see `gram.py`
            weighted = jax.lax.optimization_barrier(X.T * D)
            return G + weighted @ X, c + D @ X

        zeros = jnp.zeros((p, p), D.dtype), jnp.zeros(p, D.dtype)
        G, c = over_rows(add, zeros, self.X, D)
        corner = jnp.sum(D)
        corner = jnp.where(corner > 0, corner, 1)
        if not intercept:
            c, corner = jnp.zeros_like(c), jnp.ones_like(corner)
        M = jnp.block([[G + jnp.eye(p, dtype=D.dtype), c[:, None]], [c[None, :], corner[None, None]]])
        diagonal = jnp.diagonal(M)
        scale = jnp.where(diagonal > 0, jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1)), 1)
        shift = 4 * (p + 1) * jnp.finfo(D.dtype).eps * jnp.eye(p + 1, dtype=D.dtype)
        return M, scale, jnp.linalg.cholesky(scale[:, None] * M * scale + shift, symmetrize_input=False)

    def solve(self, system, D, h, drift, r_1):
        """(dw, db, K dbeta + db) of (4). `drift`: beta and w, of which w + dw is to fit to beta + dbeta."""
        M, scale, factor = system
        beta, w = drift
        inverse = lambda v: scale * cho_solve((factor, True), scale * v)
        right = jnp.append(self.compress(h + beta) - w, 0 if r_1 is None else jnp.sum(h) + r_1)
        found = inverse(right)
        found = found + inverse(right - M @ found)
        return found[:-1], found[-1], self.X @ found[:-1] + found[-1]


@pytree
@dataclass(frozen=True)
class Dense:
    """K (m, m) itself."""

    K: jax.Array

    def compress(self, beta):
        return beta

    def scores(self, w):
        return self.K @ w

    def follow(self, w, f):
        return self.K @ w

    def square(self, w, f):
        return w @ f

    def largest(self):
        # of all entries if it is positive semidefinite; and NaN if there is one
        return jnp.max(jnp.abs(self.K), initial=0)

    def factor(self, D, intercept: bool):
        """The factor of I + S K S with S = D^(1/2)."""
        S = jnp.sqrt(D)
        m = D.shape[0]
        shift = 1 + 4 * m * jnp.finfo(D.dtype).eps
        factor = jnp.linalg.cholesky(
            S[:, None] * self.K * S + shift * jnp.eye(m, dtype=D.dtype), symmetrize_input=False
        )
        return S, factor, S * cho_solve((factor, True), S)

    def solve(self, system, D, h, drift, r_1):
        S, factor, of_ones = system
        behind = drift[0] - drift[1]
        # dw = dbeta + behind fulfils dw + D (K dw + db) = h + behind
        right = jnp.where(S > 0, (h - D * (self.K @ behind)) / jnp.where(S > 0, S, 1), 0)
        dbeta, db = S * cho_solve((factor, True), right), jnp.zeros((), h.dtype)
        if r_1 is not None:
            total = jnp.sum(of_ones)
            db = (jnp.sum(dbeta) + r_1) / jnp.where(total > 0, total, 1)
            dbeta = dbeta - db * of_ones
        dw = dbeta + behind
        return dw, db, self.K @ dw + db


@pytree
@dataclass(frozen=True)
class Streamed:
    """K = kernel(X, X), formed by rows where it is needed, and as a whole for derivatives only."""

    kernel: Any
    X: jax.Array

    def compress(self, beta):
        return beta

    def scores(self, w):
        m, block = self.X.shape[0], min(256, self.X.shape[0])
        samples = jnp.minimum(jnp.arange(-(-m // block) * block), m - 1).reshape(-1, block)
        return jax.lax.map(lambda own: self.kernel(self.X[own], self.X) @ w, samples).reshape(-1)[:m]

    def square(self, w, f):
        return w @ f

    def largest(self):
        return jnp.max(jnp.abs(self.kernel.diagonal(self.X)), initial=0)

    def dense(self, samples=slice(None)):
        K = self.kernel(self.X[samples], self.X)[:, samples]
        return Dense((K + K.T) / 2)

    def factor(self, D, intercept: bool):
        dense = self.dense()
        return dense, dense.factor(D, intercept)

    def solve(self, system, D, h, drift, r_1):
        dense, system = system
        return dense.solve(system, D, h, drift, r_1)


def is_convex(operator: Dense | Streamed) -> jax.Array:
    """Whether K is positive semidefinite up to rounding errors; of a `Streamed` one the part of some samples."""
    if isinstance(operator, Streamed):
        m = operator.X.shape[0]
        operator = operator.dense(np.unique(np.linspace(0, m - 1, min(m, CHECKED)).astype(np.int32)))
    m, dtype = operator.K.shape[0], operator.K.dtype
    shift = 10 * m * jnp.finfo(dtype).eps * jnp.max(jnp.abs(operator.K), initial=0) * jnp.eye(m, dtype=dtype)
    return jnp.all(jnp.isfinite(jnp.linalg.cholesky(operator.K + shift, symmetrize_input=False)))
