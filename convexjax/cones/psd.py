"""The cone of positive semidefinite matrices, self-dual, as scaled half-vectorised matrices.

Nesterov-Todd scaling from the Cholesky factor S = L L' and the eigenvalues of L'ZL = Q Lambda^2 Q', which near the
central path are all close to mu, so that nothing is lost by not taking singular values:

    R = L Q Lambda^-1/2,   R'Z R = Lambda = R^-1 S R^-T,   H v = svec(W V W),   W = R R' = U Theta U',

so H has the eigenvalues theta_i theta_j (Todd, Toh and Tutuncu, 1998; CVXOPT, section 4).
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax.linalg import triangular_solve

from convexjax.cones.base import Cone, require_count, step_to_boundary
from convexjax.linear_algebra import smat, static, svec


class NesterovTodd(NamedTuple):
    """Per copy: R, R^-1 and U (count, side, side), eigenvalues lambda and theta (count, side)."""

    R: jax.Array
    R_inverse: jax.Array
    eigenvalues: jax.Array
    U: jax.Array
    theta: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PSD(Cone):
    """`count` copies of the positive semidefinite matrices with `side` rows and columns, as side (side + 1) / 2 rows
    each: the upper triangle column by column (X11, X12, X22, X13, X23, X33, ...), off-diagonal entries times sqrt 2
    (`convexjax.svec`). Barrier -log det.

    >>> import convexjax as cj
    >>> cj.PSD(3).rows
    6
    """

    slack_from_primal_row = True

    side: int = static()
    count: int = static(default=1)

    @property
    def dim(self):
        return self.side * (self.side + 1) // 2

    @property
    def degree(self):
        return self.side * self.count

    def validate(self, name):
        require_count(self, name)

    def start(self, dtype):
        return jnp.tile(svec(jnp.eye(self.side, dtype=dtype)), self.count)

    def matrices(self, v):
        """(count, side, side) of a flat vector."""
        return smat(self.copies(v), self.side)

    def scaling(self, s, z):
        L = jnp.linalg.cholesky(self.matrices(s), symmetrize_input=False)
        squares, Q = jnp.linalg.eigh(_transpose(L) @ self.matrices(z) @ L, symmetrize_input=False)
        # not positive: z has left the cone by rounding; NaN ends the solve honestly
        root = jnp.sqrt(jnp.sqrt(jnp.where(squares > 0, squares, jnp.nan)))  # Lambda^1/2
        R = L @ (Q / root[:, None])
        R_inverse = root[:, :, None] * _transpose(triangular_solve(L, Q, left_side=True, lower=True, transpose_a=True))
        theta, U = jnp.linalg.eigh(R @ _transpose(R), symmetrize_input=False)
        return NesterovTodd(R, R_inverse, root**2, U, jnp.maximum(theta, 0))

    def hessian(self, scaling, v):
        return self._spectral(scaling, v[:, None], lambda eigenvalues: eigenvalues)[:, 0]

    def regularised_inverse(self, scaling, delta, v):
        return self._spectral(scaling, v, lambda eigenvalues: 1 / (eigenvalues + delta))

    def _spectral(self, scaling, v, function):
        """function(H) times the columns of v. In the eigenvectors of W rounding errors stay with the eigenvalues that
        they belong to; W V W would add those of the largest to all."""
        V = smat(jnp.moveaxis(self.copies(v), 1, -1), self.side)  # (count, k, side, side)
        U = scaling.U[:, None]
        weights = function(scaling.theta[:, None, :, None] * scaling.theta[:, None, None, :])
        V = U @ ((_transpose(U) @ V @ U) * weights) @ _transpose(U)
        return jnp.moveaxis(svec(V), -1, 1).reshape(v.shape)

    def correction(self, scaling, s, z, ds, dz, sigma_mu):
        ds, dz = self._scaled(scaling, ds, dz)
        product = ds @ dz
        product = (product + _transpose(product)) / 2 - sigma_mu * jnp.eye(self.side, dtype=s.dtype)
        quotient = 2 * product / (scaling.eigenvalues[:, :, None] + scaling.eigenvalues[:, None])
        return svec(scaling.R @ quotient @ _transpose(scaling.R)).reshape(-1)

    def _scaled(self, scaling, ds, dz):
        """R^-1 dS R^-T and R' dZ R."""
        R, R_inverse = scaling.R, scaling.R_inverse
        return (
            R_inverse @ self.matrices(ds) @ _transpose(R_inverse),
            _transpose(R) @ self.matrices(dz) @ R,
        )

    def max_step(self, scaling, s, z, ds, dz):
        # S + alpha dS = R (Lambda + alpha dS~) R': eigenvalues of Lambda^-1/2 dS~ Lambda^-1/2, the same for Z
        root = jnp.sqrt(scaling.eigenvalues)
        scaled = jnp.concatenate(self._scaled(scaling, ds, dz)) / jnp.tile(root[:, :, None] * root[:, None], (2, 1, 1))
        finite = jnp.isfinite(scaled)  # LAPACK may not return from NaN
        smallest = jnp.linalg.eigvalsh(jnp.where(finite, scaled, 0), symmetrize_input=False)
        return jnp.where(jnp.all(finite), step_to_boundary(-smallest.reshape(-1)), jnp.nan)

    def dual_barrier(self, z):
        return -jnp.sum(jnp.linalg.slogdet(self.matrices(z))[1])

    def project(self, v):
        eigenvalues, U = jnp.linalg.eigh(self.matrices(v))
        return svec((U * jnp.maximum(eigenvalues, 0)[:, None]) @ _transpose(U)).reshape(-1)


def _transpose(X):
    return jnp.swapaxes(X, -1, -2)
