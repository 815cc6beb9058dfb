"""The second-order (Lorentz) cone {(t, v): |v|_2 <= t}, self-dual.

With J = diag(1, -1, ..., -1) and det x = x'Jx = t^2 - |v|^2, the Nesterov-Todd point of (s, z) is (Vandenberghe, "The
CVXOPT linear and quadratic cone program solvers", 2010, section 4)

    w = (s/sqrt(det s) + J z/sqrt(det z)) / (2 gamma),  gamma^2 = (1 + s'z/sqrt(det s det z)) / 2,   w'Jw = 1,
    eta^4 = det s / det z,     W = eta [w0, w1'; w1, I + w1 w1'/(1 + w0)],     H = W^2 = eta^2 (2 w w' - J).

With u = w1/|w1| the eigenvalues of H are eta^2 (w0 + |w1|)^2 and eta^2 (w0 - |w1|)^2, of eigenvectors (1, u)/sqrt 2 and
(1, -u)/sqrt 2, and eta^2 on all the rest; w0 - |w1| = 1/(w0 + |w1|) keeps its digits. The derivative of the
projection of (t, v) has eigenvectors of the same form, with u = v/|v|.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax.cones.base import Cone, require_count, step_to_boundary
from convexjax.cones.linear import mean_slope, slope, smooth_maximum
from convexjax.pytrees import pytree, static


class Spectrum(NamedTuple):
    """Per copy: unit vector u (count, dim - 1), eigenvalues of (1, u)/sqrt 2, of (1, -u)/sqrt 2 and of all that is
    orthogonal to both."""

    u: jax.Array
    high: jax.Array
    low: jax.Array
    rest: jax.Array


class NesterovTodd(NamedTuple):
    """Per copy: w (count, dim), eta, spectrum of H."""

    w: jax.Array
    eta: jax.Array
    spectrum: Spectrum


@pytree
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
        w = jnp.concatenate([w0[:, None], w1], 1)
        return NesterovTodd(w, jnp.sqrt(eta2), Spectrum(_unit(w1, norm), eta2 * spread, eta2 / spread, eta2))

    def spectral(self, spectrum, function, v):
        u, columns = spectrum.u, self.copies(v)
        high, low, rest = (function(eigenvalues)[:, None] for eigenvalues in spectrum[1:])
        along = jnp.einsum("ci,cik->ck", u, columns[:, 1:])
        plus, minus = high * (columns[:, 0] + along) / 2, low * (columns[:, 0] - along) / 2
        across = rest[:, :, None] * (columns[:, 1:] - u[:, :, None] * along[:, None])
        answer = jnp.concatenate([(plus + minus)[:, None], across + u[:, :, None] * (plus - minus)[:, None]], 1)
        return answer.reshape(v.shape)

    def hessian(self, scaling, v):
        return self.spectral(scaling.spectrum, lambda eigenvalues: eigenvalues, v[:, None])[:, 0]

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

    def projection(self, v, mu):
        v = self.copies(v)
        t, norm = v[:, 0], _norm(v[:, 1:])
        if mu is not None:
            high, low = (smooth_maximum(eigenvalue, 2 * mu) for eigenvalue in (t + norm, t - norm))
            rest = (high - low)[:, None] / 2 * _unit(v[:, 1:], norm)
            return jnp.concatenate([(high + low)[:, None] / 2, rest], 1).reshape(-1)
        scale = jnp.clip((t + norm) / 2, 0, None)
        ratio = scale / jnp.where(norm > 0, norm, 1)
        outside = jnp.concatenate([scale[:, None], ratio[:, None] * v[:, 1:]], 1)
        inside, polar = norm <= t, norm <= -t
        return jnp.where(inside[:, None], v, jnp.where(polar[:, None], 0, outside)).reshape(-1)

    def spectrum(self, v, mu):
        # s o z = 2 mu e, so that the eigenvalues of s and z have the product 2 mu
        v, mu = self.copies(v), None if mu is None else 2 * mu
        t, norm = v[:, 0], _norm(v[:, 1:])
        high, low = t + norm, t - norm
        return Spectrum(_unit(v[:, 1:], norm), slope(high, mu), slope(low, mu), mean_slope(high, low, mu))

    def near_kink(self, v, distance):
        v = self.copies(v)
        t, norm = v[:, 0], _norm(v[:, 1:])
        return jnp.any(jnp.abs(jnp.abs(t) - norm) < distance)


def _norm(v):
    """Lengths of the rows, with derivative 0 at 0."""
    square = jnp.sum(v * v, 1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _unit(v, norm):
    """v / norm; the first unit vector for v = 0."""
    positive = (norm > 0)[:, None]
    return jnp.where(positive, v / jnp.where(positive, norm[:, None], 1), jnp.eye(1, v.shape[1], dtype=v.dtype))


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
