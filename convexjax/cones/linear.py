"""The zero cone {0} and the nonnegative orthant: the cones whose scaling is diagonal."""

from dataclasses import dataclass

import jax.numpy as jnp

from convexjax.cones.base import Cone, require_count, step_to_boundary
from convexjax.pytrees import pytree, static


@pytree
@dataclass(frozen=True)
class Zero(Cone):
    """Rows with s = 0, that is, equations `A x = b`. Their duals are free.

    >>> import convexjax as cj
    >>> cj.Zero(3).rows
    3
    """

    order = 2

    count: int = static()

    dim = 1
    degree = 0

    def validate(self, name):
        require_count(self, name)

    def start(self, dtype):
        return jnp.zeros(self.count, dtype)

    def scaling(self, s, z):
        return None

    def hessian(self, scaling, v):
        return jnp.zeros_like(v)

    def regularised_inverse(self, scaling, delta, v):
        return v / delta

    def correction(self, scaling, s, z, ds, dz, sigma_mu):
        return jnp.zeros_like(s)

    def max_step(self, scaling, s, z, ds, dz):
        return jnp.ones((), s.dtype)

    def dual_barrier(self, z):
        return jnp.zeros((), z.dtype)

    def project(self, v, mu=None):
        # a constant needs no rule; and one that `vmap` does not batch, in a rule, is what JAX differentiates but once
        return self.projection(v, mu)

    def projection(self, v, mu):
        return jnp.zeros_like(v)

    def spectrum(self, v, mu):
        return jnp.zeros_like(v)

    def spectral(self, spectrum, function, v):
        return function(spectrum)[:, None] * v

    def near_kink(self, v, distance):
        return jnp.array(False)


@pytree
@dataclass(frozen=True)
class Nonnegative(Cone):
    """Rows with s >= 0. H = diag(s / z), barrier -sum log z.

    >>> import convexjax as cj
    >>> cj.Nonnegative(2).degree
    2
    """

    order = 3

    count: int = static()

    dim = 1

    @property
    def degree(self):
        return self.count

    def validate(self, name):
        require_count(self, name)

    def start(self, dtype):
        return jnp.ones(self.count, dtype)

    def scaling(self, s, z):
        return s / z

    def hessian(self, scaling, v):
        return scaling * v

    def regularised_inverse(self, scaling, delta, v):
        return v / (scaling + delta)[:, None]

    def correction(self, scaling, s, z, ds, dz, sigma_mu):
        return (ds * dz - sigma_mu) / z

    def max_step(self, scaling, s, z, ds, dz):
        return step_to_boundary(-ds / s, -dz / z)

    def dual_barrier(self, z):
        return -jnp.sum(jnp.log(z))

    def projection(self, v, mu):
        return smooth_maximum(v, mu)

    def spectrum(self, v, mu):
        return slope(v, mu)

    def spectral(self, spectrum, function, v):
        return function(spectrum)[:, None] * v

    def near_kink(self, v, distance):
        return jnp.any(jnp.abs(v) < distance)


# ----------------------------------------------------------------------------- projection of one number


def root(v, mu):
    """sqrt(v^2 + 4 mu), |v| for mu = None."""
    return jnp.abs(v) if mu is None else jnp.sqrt(v * v + 4 * mu)


def smooth_maximum(v, mu):
    """s >= 0 with s - z = v, s z = mu, z >= 0: the eigenvalues of a projection onto a symmetric cone."""
    if mu is None:
        return jnp.maximum(v, 0)
    size = root(v, mu)
    return jnp.where(v > 0, v + size, 4 * mu / jnp.where(v > 0, 1, size - v)) / 2


def slope(v, mu):
    """Derivative of `smooth_maximum`; 1/2 at the kink."""
    return (1 + (jnp.sign(v) if mu is None else v / root(v, mu))) / 2


def mean_slope(v, w, mu):
    """(smooth_maximum(v) - smooth_maximum(w)) / (v - w) without cancellation; 1/2 at the kink v = w = 0."""
    size = root(v, mu) + root(w, mu)
    return (1 + (v + w) / jnp.where(size > 0, size, 1)) / 2
