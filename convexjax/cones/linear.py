"""The zero cone {0} and the nonnegative orthant: the cones whose scaling is diagonal."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from convexjax.cones.base import Cone, require_count, step_to_boundary
from convexjax.linear_algebra import static


@jax.tree_util.register_dataclass
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

    def project(self, v):
        return jnp.zeros_like(v)


@jax.tree_util.register_dataclass
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

    def project(self, v):
        return jnp.maximum(v, 0)
