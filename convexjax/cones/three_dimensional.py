"""Exponential and power cones: the shared machinery of the three-dimensional, nonsymmetric cones.

Both duals have a barrier of the same form (Nesterov 2012; Chares 2009),

    f*(z) = -log psi(z) - sum_i c_i log |z_i|,     degree 3 per copy,

and a kind of cone gives psi, its derivatives, c, the conjugate gradient and the closed form of Hess^-1 (`Kind`).

Scaling (Tuncel 2001; Myklebust and Tuncel 2014; Dahl and Andersen, Math. Prog. 2022, section 5), with the shadow points
st = -grad f*(z), zt = -grad f(s), mu_c = s'z/3, mu_t = st'zt/3, ds = s - mu_c st, dz = z - mu_c zt:

    H = s s'/(s'z) + ds ds'/(ds'dz) + t a a',    a = unit(z x zt),
    t = mu_c |Hess - st st'/3 - w w'/d|_F,  w = mu_t st - Hess zt,  d = zt'Hess zt - 3 mu_t^2,   Hess = grad^2 f*(z),

so that H z = s and H zt = st. With n = s x ds its inverse is F F', F = [z/sqrt(s'z), dz/sqrt(ds'dz), n/(sqrt(t) a'n)].
On the central path (ds = 0) H = mu_c Hess. The third-order correction of Dahl and Andersen (section 6) is

    correction = sigma mu grad f*(z) - 1/2 T[dz, Hess^-1 ds],     T = grad^3 f*(z).

Hess^-1 ds must come from formulas that only add positive numbers: a generic 3 x 3 inverse has lost every digit at mu
= 1e-8 and the method stalls.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.cones.base import Cone

# Candidate steps, fine near 1 and reaching 1e-6.
STEPS = np.exp(-14 * (np.arange(32) / 31) ** 2)


class Kind(Protocol):
    """What one kind of three-dimensional cone gives for points z (or s) of shape (count, 3)."""

    def log_weights(self) -> Any:
        """c of the barrier, (count, 3) or (3,)."""

    def psi(self, z: Any) -> Any:
        """psi, (count,), positive inside the dual cone."""

    def psi_gradient(self, z: Any) -> Any:
        """p = grad psi."""

    def psi_hessian(self, z: Any, v: Any) -> Any:
        """grad^2 psi v."""

    def psi_third(self, z: Any, a: Any, b: Any) -> Any:
        """grad^3 psi [a, b]."""

    def hessian_solve(self, z: Any, v: Any) -> Any:
        """(x, p'x) with grad^2 f*(z) x = v, in closed form."""

    def shadow(self, s: Any) -> Any:
        """-grad f(s), the point of the dual cone conjugate to s."""

    def inside(self, s: Any, z: Any) -> Any:
        """Whether s and z are interior points, (..., count) for points (..., count, 3)."""

    def start(self, dtype: Any) -> Any:
        """The points with s = z = -grad f*(z)."""


class PrimalDual(NamedTuple):
    """H = G G' and its inverse F F', per copy the columns of (count, 3, 3) matrices."""

    G: jax.Array
    F: jax.Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ThreeDimensional(Cone):
    """Exponential and power cones of a product, worked on as one array (count, 3)."""

    slack_from_primal_row = True

    parts: tuple  # of cones that are a `Kind`

    dim = 3

    @property
    def count(self):
        return sum(part.count for part in self.parts)

    @property
    def degree(self):
        return 3 * self.count

    def _each(self, name, *points):
        """Call the method `name` of each part on its copies (second to last axis) and join the answers."""
        if len(self.parts) == 1:
            return getattr(self.parts[0], name)(*points)
        answers, first = [], 0
        for part in self.parts:
            own = slice(first, first + part.count)
            answers.append(getattr(part, name)(*(p[..., own, :] for p in points)))
            first += part.count
        axis = -1 if name in ("psi", "inside") else -2
        if isinstance(answers[0], tuple):
            return jnp.concatenate([a for a, _ in answers]), jnp.concatenate([b for _, b in answers])
        return jnp.concatenate(answers, axis)

    def _log_weights(self, dtype):
        return jnp.concatenate(
            [jnp.broadcast_to(jnp.asarray(p.log_weights(), dtype), (p.count, 3)) for p in self.parts]
        )

    def start(self, dtype):
        return jnp.concatenate([part.start(dtype).reshape(-1) for part in self.parts])

    def gradient(self, z):
        """grad f*(z), (count, 3)."""
        c = self._log_weights(z.dtype)
        return -self._each("psi_gradient", z) / self._each("psi", z)[:, None] - c / jnp.where(c > 0, z, 1)

    def dual_hessian(self, z):
        """grad^2 f*(z), (count, 3, 3)."""
        c, psi, p = self._log_weights(z.dtype), self._each("psi", z)[:, None, None], self._each("psi_gradient", z)
        eye = jnp.eye(3, dtype=z.dtype)
        # the copies of z run along the second axis from the end, the columns of the identity along the first
        curved = jnp.moveaxis(self._each("psi_hessian", z[None], jnp.broadcast_to(eye[:, None], (3, *z.shape))), 0, 1)
        logarithms = (c / jnp.where(c > 0, z, 1) ** 2)[:, None] * eye
        return p[:, :, None] * p[:, None] / psi**2 - curved / psi + logarithms

    def scaling(self, s, z):
        s, z = self.copies(s), self.copies(z)
        hessian = self.dual_hessian(z)
        s_shadow, z_shadow = -self.gradient(z), self._each("shadow", s)
        mu, mu_shadow = _dot(s, z) / 3, _dot(s_shadow, z_shadow) / 3
        ds, dz = s - mu * s_shadow, z - mu * z_shadow
        w = mu_shadow * s_shadow - _times(hessian, z_shadow)
        d = _dot(z_shadow, _times(hessian, z_shadow)) - 3 * mu_shadow**2
        outer = lambda v: v[:, :, None] * v[:, None]
        off_path = (jnp.abs(mu * mu_shadow - 1) > jnp.sqrt(jnp.finfo(s.dtype).eps)) & (d > 0) & (_dot(ds, dz) > 0)
        safe = lambda v: jnp.where(off_path, v, 1)
        rest = hessian - outer(s_shadow) / 3 - outer(w) / safe(d)[:, :, None]
        t = mu * jnp.sqrt(jnp.sum(rest**2, (1, 2)))[:, None]
        a, n = jnp.cross(z, z_shadow), jnp.cross(s, ds)
        a = a / safe(jnp.sqrt(_dot(a, a)))
        n = n / safe(_dot(a, n))
        off_path &= t > 0
        root_sz, root_d, root_t = (jnp.sqrt(safe(v)) for v in (_dot(s, z), _dot(ds, dz), t))
        G = jnp.stack([s / root_sz, ds / root_d, root_t * a], -1)
        F = jnp.stack([z / root_sz, dz / root_d, n / root_t], -1)
        L = _cholesky(hessian, jnp.finfo(s.dtype).eps * jnp.diagonal(hessian, axis1=1, axis2=2))
        root_mu = jnp.sqrt(mu)[:, :, None]
        off_path = off_path[:, :, None]
        return PrimalDual(
            jnp.where(off_path, G, L * root_mu),
            jnp.where(off_path, F, jnp.swapaxes(_triangular_inverse(L), 1, 2) / root_mu),
        )

    def hessian(self, scaling, v):
        return _times(scaling.G, _times(jnp.swapaxes(scaling.G, 1, 2), self.copies(v))).reshape(-1)

    def regularised_inverse(self, scaling, delta, v):
        # (F F')^-1 + delta I inverted: F (I + delta F'F)^-1 F'
        F = scaling.F
        middle = jnp.eye(3, dtype=F.dtype) + delta * jnp.swapaxes(F, 1, 2) @ F
        half = F @ jnp.swapaxes(_triangular_inverse(_cholesky(middle, jnp.ones_like(F[:, 0]))), 1, 2)
        inverse = half @ jnp.swapaxes(half, 1, 2)
        return jnp.einsum("cij,cjk->cik", inverse, self.copies(v)).reshape(v.shape)

    def correction(self, scaling, s, z, ds, dz, sigma_mu):
        z, ds, dz = self.copies(z), self.copies(ds), self.copies(dz)
        y, py = self._each("hessian_solve", z, ds)
        return (sigma_mu * self.gradient(z) - self._third(z, dz, y, py[:, None]) / 2).reshape(-1)

    def _third(self, z, a, b, pb):
        """T[a, b], given pb = p'b, which cancels when recomputed."""
        c, psi, p = self._log_weights(z.dtype), self._each("psi", z)[:, None], self._each("psi_gradient", z)
        pa, Ha, Hb = _dot(p, a), self._each("psi_hessian", z, a), self._each("psi_hessian", z, b)
        curved = (_dot(Ha, b) * p + pa * Hb + pb * Ha) / psi**2 - self._each("psi_third", z, a, b) / psi
        return curved - 2 * pa * pb * p / psi**3 - 2 * c * a * b / jnp.where(c > 0, z, 1) ** 3

    def max_step(self, scaling, s, z, ds, dz):
        steps = jnp.asarray(STEPS, s.dtype)
        move = lambda v, dv: self.copies(v) + steps[:, None, None] * self.copies(dv)
        inside = jnp.all(self._each("inside", move(s, ds), move(z, dz)), -1)
        return jnp.max(jnp.where(inside, steps, 0))

    def dual_barrier(self, z):
        z, c = self.copies(z), self._log_weights(z.dtype)
        return -jnp.sum(jnp.log(self._each("psi", z))) - jnp.sum(c * jnp.log(jnp.abs(jnp.where(c > 0, z, 1))))

    def project(self, v):
        return self._each("project_copies", self.copies(v)).reshape(-1)


class ThreeDimensionalPart(Cone):
    """A single kind as the user writes it; the solver merges it into one `ThreeDimensional`."""

    dim = 3

    @property
    def degree(self):
        return 3 * self.count

    @property
    def group(self):
        return ThreeDimensional

    @classmethod
    def merge(cls, cones):
        return ThreeDimensional(tuple(cones))

    def project(self, v):
        return ThreeDimensional((self,)).project(v)

    def dual_barrier(self, z):
        return ThreeDimensional((self,)).dual_barrier(z)


# ----------------------------------------------------------------------------- 3 x 3 matrices, unrolled


def _dot(a, b):
    return jnp.sum(a * b, -1, keepdims=True)


def _times(M, v):
    return jnp.sum(M * v[:, None], -1)


def _cholesky(M, least):
    """Lower Cholesky factors of (count, 3, 3) whose squared pivots are at least `least` (count, 3) but for rounding."""
    l00 = jnp.sqrt(jnp.maximum(M[:, 0, 0], least[:, 0]))
    l10, l20 = M[:, 1, 0] / l00, M[:, 2, 0] / l00
    l11 = jnp.sqrt(jnp.maximum(M[:, 1, 1] - l10**2, least[:, 1]))
    l21 = (M[:, 2, 1] - l20 * l10) / l11
    l22 = jnp.sqrt(jnp.maximum(M[:, 2, 2] - l20**2 - l21**2, least[:, 2]))
    zero = jnp.zeros_like(l00)
    return jnp.stack([jnp.stack(r, -1) for r in ((l00, zero, zero), (l10, l11, zero), (l20, l21, l22))], -2)


def _triangular_inverse(L):
    """Inverses of lower triangular (count, 3, 3)."""
    d0, d1, d2 = (1 / L[:, i, i] for i in range(3))
    m10 = -L[:, 1, 0] * d0 * d1
    m21 = -L[:, 2, 1] * d1 * d2
    m20 = -(L[:, 2, 0] * d0 + L[:, 2, 1] * m10) * d2
    zero = jnp.zeros_like(d0)
    return jnp.stack([jnp.stack(r, -1) for r in ((d0, zero, zero), (m10, d1, zero), (m20, m21, d2))], -2)
