"""The cone of positive semidefinite matrices, self-dual, as scaled half-vectorised matrices.

Nesterov-Todd scaling from the Cholesky factor S = L L' and the eigenvalues of L'ZL = Q Lambda^2 Q', which near the
central path are all close to mu, so that nothing is lost by not taking singular values:

    R = L Q Lambda^-1/2,   R'Z R = Lambda = R^-1 S R^-T,   H v = svec(W V W),   W = R R' = U Theta U',

so H has the eigenvalues theta_i theta_j (Todd, Toh and Tutuncu, 1998; CVXOPT, section 4).

The projection of V = U diag(v) U' is (V + R)/2 with R = (V^2 + 4 mu I)^1/2, |V| for mu = 0. From R^2 = V^2 + 4 mu I its
derivative is dR = X with R X + X R = V dV + dV V, where X is polynomial in U. Equations of this kind are differentiated
as such, never their eigenvectors, so that repeated eigenvalues do no harm.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.lax.linalg import triangular_solve

from convexjax.cones.base import Cone, require_count, step_to_boundary
from convexjax.cones.linear import mean_slope, root, smooth_maximum
from convexjax.linear_algebra import smat, svec
from convexjax.pytrees import pytree, static


class Spectrum(NamedTuple):
    """A matrix on symmetric matrices that multiplies U_i U_j' + U_j U_i' by eigenvalues[i, j]: U and eigenvalues,
    (count, side, side)."""

    U: jax.Array
    eigenvalues: jax.Array


class NesterovTodd(NamedTuple):
    """Per copy: R, R^-1 (count, side, side), eigenvalues lambda (count, side), spectrum of H."""

    R: jax.Array
    R_inverse: jax.Array
    eigenvalues: jax.Array
    spectrum: Spectrum


@pytree
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

    def vector(self, matrices):
        """Inverse of `matrices`."""
        return svec(matrices).reshape(-1)

    def scaling(self, s, z):
        L = jnp.linalg.cholesky(self.matrices(s), symmetrize_input=False)
        squares, Q = jnp.linalg.eigh(_transpose(L) @ self.matrices(z) @ L, symmetrize_input=False)
        # not positive: z has left the cone by rounding; NaN ends the solve honestly
        root = jnp.sqrt(jnp.sqrt(jnp.where(squares > 0, squares, jnp.nan)))  # Lambda^1/2
        R = L @ (Q / root[:, None])
        R_inverse = root[:, :, None] * _transpose(triangular_solve(L, Q, left_side=True, lower=True, transpose_a=True))
        theta, U = jnp.linalg.eigh(R @ _transpose(R), symmetrize_input=False)
        theta = jnp.maximum(theta, 0)
        return NesterovTodd(R, R_inverse, root**2, Spectrum(U, theta[:, :, None] * theta[:, None]))

    def hessian(self, scaling, v):
        return self.spectral(scaling.spectrum, lambda eigenvalues: eigenvalues, v[:, None])[:, 0]

    def spectral(self, spectrum, function, v):
        # in these eigenvectors rounding errors stay with the eigenvalues that they belong to; W V W would add those of
        # the largest to all
        V = smat(jnp.moveaxis(self.copies(v), 1, -1), self.side)  # (count, k, side, side)
        U = spectrum.U[:, None]
        V = U @ ((_transpose(U) @ V @ U) * function(spectrum.eigenvalues)[:, None]) @ _transpose(U)
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

    def projection(self, v, mu):
        eigenvalues, U = _eigh(self.matrices(v))
        return svec((U * smooth_maximum(eigenvalues, mu)[:, None]) @ _transpose(U)).reshape(-1)

    def spectrum(self, v, mu):
        eigenvalues, U = _eigh(self.matrices(v))
        return Spectrum(U, mean_slope(eigenvalues[:, :, None], eigenvalues[:, None], mu))

    def derivative(self, v, mu, dv):
        V, dV = self.matrices(v), self.matrices(dv)
        return svec((dV + _solve_lyapunov(V, V @ dV + dV @ V, mu)) / 2).reshape(-1)

    def near_kink(self, v, distance):
        return jnp.any(jnp.abs(_eigh(self.matrices(v))[0]) < distance)


def _eigh(V):
    return jnp.linalg.eigh(V, symmetrize_input=False)


@jax.custom_jvp
def _solve_lyapunov(V, C, mu):
    """The symmetric X with R X + X R = C, R = (V^2 + 4 mu I)^1/2; of smallest norm if R is singular."""
    eigenvalues, U = _eigh(V)
    size = root(eigenvalues, mu)
    size = size[:, :, None] + size[:, None]
    C = _transpose(U) @ C @ U
    return U @ jnp.where(size > 0, C / jnp.where(size > 0, size, 1), 0) @ _transpose(U)


@_solve_lyapunov.defjvp
def _(primals, tangents):
    (V, C, mu), (dV, dC, _) = primals, tangents
    X = _solve_lyapunov(V, C, mu)
    dR = _solve_lyapunov(V, V @ dV + dV @ V, mu)
    return X, _solve_lyapunov(V, dC - dR @ X - X @ dR, mu)


def _transpose(X):
    return jnp.swapaxes(X, -1, -2)
