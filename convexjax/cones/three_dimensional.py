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

Projection s of v, z = s - v: where both are nonzero, the boundary {g(s) = 0} of K (g concave, homogeneous of degree 1)
has the ray of s in it, the normal z = lambda grad g, and is curved along k = a x b only, a = s/|s|, b = z/|z|. From
s - v = lambda grad g(s) the derivative of the projection is

    D = a a' + kappa k k',   kappa = 1 / (1 - lambda k'grad^2 g k).

The smooth projection solves z + v + mu grad f*(z) = 0, so that D = I - (I + mu grad^2 f*(z))^-1.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.cones.base import Cone
from convexjax.pytrees import pytree

# Newton steps of the smooth projection.
NEWTON_STEPS = 40
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

    def project_copies(self, v: Any) -> Any:
        """Euclidean projection onto K."""

    def curvature(self, s: Any, z: Any, k: Any) -> Any:
        """-lambda k'grad^2 g k at the boundary point s with normal z = lambda grad g(s), (count,)."""

    def on_edge(self, v: Any) -> Any:
        """The diagonal of D where v is projected onto a face in which D is diagonal, else NaN."""

    def boundary_derivative(self, s: Any, z: Any, frame: Any, curvature: Any, direction: Any) -> Any:
        """The derivative of the projection along a direction of the kind's parameters, in the columns (a, b, k) of
        `frame`; zero if it has none."""


class Spectrum(NamedTuple):
    """Per copy: orthonormal eigenvectors, the columns of Q (count, 3, 3), and eigenvalues (count, 3)."""

    Q: jax.Array
    eigenvalues: jax.Array


class PrimalDual(NamedTuple):
    """H = G G' and its inverse F F', per copy the columns of (count, 3, 3) matrices."""

    G: jax.Array
    F: jax.Array


@pytree
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
        """Call the method `name` of each part on its copies (the axis before that of the coordinates, if any) and join
        the answers."""
        if len(self.parts) == 1:
            return getattr(self.parts[0], name)(*points)
        answers, first = [], 0
        for part in self.parts:
            own = slice(first, first + part.count)
            answers.append(getattr(part, name)(*(p[..., own, :] for p in points)))
            first += part.count
        axis = -1 if name in ("psi", "inside", "curvature") else -2
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

    # -------------------------------------------------------------------------------------------- projection

    def projection(self, v, mu):
        v = self.copies(v)
        s = self._each("project_copies", v)
        return (s if mu is None else v + self._central(v, s - v, mu)).reshape(-1)

    def _central(self, v, z, mu):
        """The z with z + v + mu grad f*(z) = 0, from a point z of the dual cone: the minimum of |z + v|^2/2 + mu f*(z)
        by Newton's method with the damping of self-concordant functions, which converges from everywhere."""

        def newton(_, z):
            gradient = z + v + mu * self.gradient(z)
            step = _solve(self._smooth_hessian(z, mu), gradient)
            decrement = jnp.sqrt(_dot(gradient, step) / mu)
            return z - step / (1 + jnp.where(decrement > 0.1, decrement, 0))

        interior = self.copies(self.start(v.dtype)) * jnp.sqrt(mu)
        return jax.lax.fori_loop(0, NEWTON_STEPS, newton, z + interior)

    def _smooth_hessian(self, z, mu):
        return jnp.eye(3, dtype=z.dtype) + mu * self.dual_hessian(z)

    def _frame(self, s, z):
        """Unit vectors (a, b, k) along s, z and orthogonal to both, (count, 3, 3); and whether s and z are nonzero."""
        unit = lambda v, positive: jnp.where(positive, v, 0) / jnp.where(positive, _length(v), 1)
        has_s, has_z = _length(s) > 0, _length(z) > 0
        both = has_s & has_z
        a = jnp.where(both, unit(s, has_s), jnp.array([1, 0, 0], s.dtype))
        k = jnp.cross(a, jnp.where(both, unit(z, has_z), jnp.array([0, 1, 0], s.dtype)))
        k = k / _length(k)
        return jnp.stack([a, jnp.cross(k, a), k], -1), has_s[:, 0], has_z[:, 0]

    def spectrum(self, v, mu):
        s = self.copies(self.project(v, mu))
        v = self.copies(v)
        z = s - v
        if mu is not None:
            eigenvalues, Q = jnp.linalg.eigh(mu * self.dual_hessian(z), symmetrize_input=False)
            return Spectrum(Q, eigenvalues / (1 + eigenvalues))
        Q, has_s, has_z = self._frame(s, z)
        kappa = 1 / (1 + self._each("curvature", s, z, Q[:, :, 2]))
        diagonal = self._each("on_edge", v)
        on_edge = ~jnp.isnan(diagonal[:, :1])
        curved = jnp.stack([jnp.ones_like(kappa), jnp.zeros_like(kappa), kappa], -1)
        eigenvalues = jnp.where(on_edge, diagonal, curved)
        eigenvalues = jnp.where(has_z[:, None], jnp.where(has_s[:, None], eigenvalues, 0), 1)
        return Spectrum(jnp.where(on_edge[:, :, None], jnp.eye(3, dtype=v.dtype), Q), eigenvalues)

    def spectral(self, spectrum, function, v):
        Q, eigenvalues = spectrum
        matrix = (Q * function(eigenvalues)[:, None]) @ jnp.swapaxes(Q, 1, 2)
        return jnp.einsum("cij,cjk->cik", matrix, self.copies(v)).reshape(v.shape)

    def derivative(self, v, mu, dv):
        if mu is None:
            return super().derivative(v, mu, dv)
        z, dv = self.copies(self.project(v, mu) - v), self.copies(dv)
        return (dv - _solve(self._smooth_hessian(z, mu), dv)).reshape(-1)

    def parameter_derivative(self, v, mu, direction):
        if not jax.tree.leaves(direction):
            return None
        s = self.copies(self.project(v, mu))
        z = s - self.copies(v)
        if mu is not None:
            _, change = jax.jvp(lambda cone: cone.gradient(z), (self,), (direction,))
            return -mu * _solve(self._smooth_hessian(z, mu), change).reshape(-1)
        frame, has_s, has_z = self._frame(s, z)
        curvature = self._each("curvature", s, z, frame[:, :, 2])
        changes, first = [], 0
        for part, along in zip(self.parts, direction.parts, strict=True):
            own = slice(first, first + part.count)
            changes.append(part.boundary_derivative(s[own], z[own], frame[own], curvature[own], along))
            first += part.count
        change = _times(frame, jnp.concatenate(changes))
        return jnp.where((has_s & has_z)[:, None], change, 0).reshape(-1)

    def near_kink(self, v, distance):
        def sizes(v):
            s = self._each("project_copies", v)
            return _length(s), _length(s - v)

        v, interior = self.copies(v), distance * self.copies(self.start(v.dtype))
        s, z = sizes(v)
        curved = jnp.minimum(s, z) < distance
        # inside a cone: still so when moved towards the outside
        inside, polar = sizes(v - interior)[1] == 0, sizes(v + interior)[0] == 0
        return jnp.any(curved & ~inside & ~polar)


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

    def project(self, v, mu=None):
        return ThreeDimensional((self,)).project(v, mu)

    def dual_barrier(self, z):
        return ThreeDimensional((self,)).dual_barrier(z)


# ----------------------------------------------------------------------------- 3 x 3 matrices, unrolled


def _length(v):
    """|v| of the last axis, with derivative 0 at 0."""
    square = _dot(v, v)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def _solve(M, v):
    """M^-1 v for positive definite M >= I, (count, 3, 3) and (count, 3)."""
    inverse = _triangular_inverse(_cholesky(M, jnp.ones_like(M[:, 0])))
    return _times(jnp.swapaxes(inverse, 1, 2), _times(inverse, v))


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
