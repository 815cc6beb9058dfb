"""The second-order (Lorentz) cone {(t, v): |v|_2 <= t}, self-dual.

With J = diag(1, -1, ..., -1) and det x = x'Jx = t^2 - |v|^2, the Nesterov-Todd point of (s, z) is (Vandenberghe, "The
CVXOPT linear and quadratic cone program solvers", 2010, section 4)

    w = (s/sqrt(det s) + J z/sqrt(det z)) / (2 gamma),  gamma^2 = (1 + s'z/sqrt(det s det z)) / 2,   w'Jw = 1,
    eta^4 = det s / det z,     W = eta [w0, w1'; w1, I + w1 w1'/(1 + w0)],     H = W^2 = eta^2 (2 w w' - J).

With u = w1/|w1| the eigenvalues of H are eta^2 (w0 + |w1|)^2 and eta^2 (w0 - |w1|)^2, of eigenvectors (1, u)/sqrt 2 and
(1, -u)/sqrt 2, and eta^2 on all the rest; w0 - |w1| = 1/(w0 + |w1|) keeps its digits.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax.cones.base import Cone, require_count, step_to_boundary
from convexjax.linear_algebra import static


class NesterovTodd(NamedTuple):
    """Per copy: w (count, dim), eta, eigenvalues of H above and below eta^2, unit vector u (count, dim - 1)."""

    w: jax.Array
    eta: jax.Array
    high: jax.Array
    low: jax.Array
    u: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SecondOrder(Cone):
    """`count` copies of {(t, v): |v|_2 <= t} in `dim` rows each, t first. Barrier -log(t^2 - |v|^2).

    >>> import convexjax as cj
    >>> cj.SecondOrder(3, count=4).rows
    12
    """

    order = 1

    dim: int = static()
    count: int = static(default=1)

    @property
    def degree(self):
        return 2 * self.count

    def validate(self, name):
        require_count(self, name)
        if self.dim < 1:
            raise ValueError(f"{name}: SecondOrder.dim must be at least 1 (t itself), got {self.dim}.")

    def start(self, dtype):
        return jnp.tile(jnp.sqrt(jnp.asarray(2.0, dtype)) * jnp.eye(1, self.dim, dtype=dtype)[0], self.count)

    def scaling(self, s, z):
        s, z = self.copies(s), self.copies(z)
        det_s, det_z = _det(s), _det(z)
        s_unit, z_unit = s / jnp.sqrt(det_s)[:, None], z / jnp.sqrt(det_z)[:, None]
        gamma = jnp.sqrt((1 + jnp.sum(s_unit * z_unit, 1)) / 2)
        w1 = (s_unit[:, 1:] - z_unit[:, 1:]) / (2 * gamma[:, None])
        norm = _norm(w1)
        w0 = jnp.sqrt(1 + norm**2)  # w'Jw = 1 to the last digit
        eta2 = jnp.sqrt(det_s / det_z)
        spread = (w0 + norm) ** 2
        u = w1 / jnp.where(norm > 0, norm, 1)[:, None]
        u = jnp.where((norm > 0)[:, None], u, jnp.eye(1, self.dim - 1, dtype=s.dtype))
        w = jnp.concatenate([w0[:, None], w1], 1)
        return NesterovTodd(w, jnp.sqrt(eta2), eta2 * spread, eta2 / spread, u)

    def _spectral(self, scaling, v, high, low, rest):
        """The matrix with the eigenvectors of H and the given eigenvalues, times the columns of v (count, dim, k)."""
        along = jnp.einsum("ci,cik->ck", scaling.u, v[:, 1:])
        plus, minus = high[:, None] * (v[:, 0] + along) / 2, low[:, None] * (v[:, 0] - along) / 2
        across = rest[:, None, None] * (v[:, 1:] - scaling.u[:, :, None] * along[:, None])
        return jnp.concatenate([(plus + minus)[:, None], across + scaling.u[:, :, None] * (plus - minus)[:, None]], 1)

    def hessian(self, scaling, v):
        v = self.copies(v)[:, :, None]
        return self._spectral(scaling, v, scaling.high, scaling.low, scaling.eta**2).reshape(-1)

    def regularised_inverse(self, scaling, delta, v):
        eigenvalues = (1 / (e + delta) for e in (scaling.high, scaling.low, scaling.eta**2))
        return self._spectral(scaling, self.copies(v), *eigenvalues).reshape(v.shape)

    def correction(self, scaling, s, z, ds, dz, sigma_mu):
        z, ds, dz = self.copies(z), self.copies(ds), self.copies(dz)
        w, eta = scaling.w, scaling.eta[:, None]
        scale = lambda v: eta * _boost(w, v)  # W v
        unscale = lambda v: _boost(_reflect(w), v) / eta  # W^-1 v, W = W'
        product = _jordan(unscale(ds), scale(dz))
        # e is the unit of the Jordan algebra with barrier -log det: s = -mu grad f*(z) reads s o z = 2 mu e
        product = product.at[:, 0].add(-2 * sigma_mu)
        return scale(_jordan_divide(scale(z), product)).reshape(-1)

    def max_step(self, scaling, s, z, ds, dz):
        copies = self.copies
        return step_to_boundary(_rate(copies(s), copies(ds)), _rate(copies(z), copies(dz)))

    def dual_barrier(self, z):
        z = self.copies(z)
        return -jnp.sum(jnp.log(z[:, 0] ** 2 - jnp.sum(z[:, 1:] ** 2, 1)))

    def project(self, v):
        v = self.copies(v)
        t, norm = v[:, 0], _norm(v[:, 1:])
        scale = jnp.clip((t + norm) / 2, 0, None)
        ratio = scale / jnp.where(norm > 0, norm, 1)
        outside = jnp.concatenate([scale[:, None], ratio[:, None] * v[:, 1:]], 1)
        inside, polar = norm <= t, norm <= -t
        return jnp.where(inside[:, None], v, jnp.where(polar[:, None], 0, outside)).reshape(-1)


def _norm(v):
    return jnp.sqrt(jnp.sum(v * v, 1))


def _det(x):
    norm = _norm(x[:, 1:])
    return (x[:, 0] - norm) * (x[:, 0] + norm)


def _reflect(x):
    return jnp.concatenate([x[:, :1], -x[:, 1:]], 1)


def _boost(w, v):
    """[w0, w1'; w1, I + w1 w1'/(1 + w0)] v."""
    inner = jnp.sum(w[:, 1:] * v[:, 1:], 1)
    first = w[:, 0] * v[:, 0] + inner
    rest = v[:, 1:] + w[:, 1:] * (v[:, 0] + inner / (1 + w[:, 0]))[:, None]
    return jnp.concatenate([first[:, None], rest], 1)


def _jordan(x, y):
    """x o y = (x'y, x0 y1 + y0 x1)."""
    return jnp.concatenate([jnp.sum(x * y, 1)[:, None], x[:, :1] * y[:, 1:] + y[:, :1] * x[:, 1:]], 1)


def _jordan_divide(x, y):
    """The v with x o v = y."""
    det = _det(x)
    inner = jnp.sum(x[:, 1:] * y[:, 1:], 1)
    v0 = (x[:, 0] * y[:, 0] - inner) / det
    return jnp.concatenate([v0[:, None], (y[:, 1:] - v0[:, None] * x[:, 1:]) / x[:, :1]], 1)


def _rate(x, d):
    """Minus the smallest eigenvalue of d in the frame in which x is the unit (CVXOPT, section 8)."""
    root = jnp.sqrt(_det(x))[:, None]
    unit = x / root
    first = (unit[:, 0] * d[:, 0] - jnp.sum(unit[:, 1:] * d[:, 1:], 1)) / root[:, 0]
    rest = d[:, 1:] / root - unit[:, 1:] * ((first + d[:, 0] / root[:, 0]) / (1 + unit[:, 0]))[:, None]
    return _norm(rest) - first
