"""The power cone K = {(u, v, w): |w| <= u^alpha v^(1 - alpha), u, v >= 0}, 0 < alpha < 1.

Dual {|w| <= (u/alpha)^alpha (v/(1-alpha))^(1-alpha)}, with the barrier (`three_dimensional.py`)

    f*(z) = -log psi - (1-alpha) log u - alpha log v,   psi = phi - w^2,   phi = (u/alpha)^a1 (v/(1-alpha))^a2,

a = (2 alpha, 2 - 2 alpha).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.cones.three_dimensional import ThreeDimensionalPart
from convexjax.pytrees import pytree


@pytree
@dataclass(frozen=True)
class Power(ThreeDimensionalPart):
    """One copy of {(u, v, w): |w| <= u^alpha v^(1 - alpha), u, v >= 0} per entry of `alpha` (data, may be traced).

    >>> import convexjax as cj
    >>> cj.Power([0.5, 0.25]).rows
    6
    """

    alpha: jax.Array  # (count,)

    @property
    def count(self):
        return np.shape(self.alpha)[-1] if np.ndim(self.alpha) else 1

    def validate(self, name):
        alpha = self.alpha
        if np.ndim(alpha) > 1:
            raise ValueError(f"{name}: Power.alpha must have shape (count,), got shape {np.shape(alpha)}.")
        if not isinstance(alpha, jax.core.Tracer) and not np.all((np.asarray(alpha) > 0) & (np.asarray(alpha) < 1)):
            raise ValueError(f"{name}: Power.alpha must lie strictly between 0 and 1, got {alpha}.")

    def with_data(self, name, floating):
        if self.alpha is None:
            raise ValueError(f"{name}: Power.alpha is None, expected exponents between 0 and 1.")
        (alpha,) = floating(**{f"{name}: Power.alpha": self.alpha})
        return Power(alpha if alpha.ndim else alpha[None])

    def _exponents(self, dtype):
        alpha = jnp.reshape(jnp.asarray(self.alpha, dtype), (self.count, 1))
        return jnp.concatenate([alpha, 1 - alpha], -1)

    def start(self, dtype):
        exponents = self._exponents(dtype)
        return jnp.pad(jnp.sqrt(1 + exponents), ((0, 0), (0, 1))).reshape(-1)

    def log_weights(self):
        return jnp.pad(self._exponents(jnp.result_type(float))[:, ::-1], ((0, 0), (0, 1)))

    def _phi(self, z):
        exponents = self._exponents(z.dtype)
        return jnp.exp(2 * jnp.sum(exponents * jnp.log(z[..., :2] / exponents), -1))

    def psi(self, z):
        # phi - w^2 = (sqrt phi - |w|)(sqrt phi + |w|)
        root, w = jnp.sqrt(self._phi(z)), jnp.abs(z[..., 2])
        return (root - w) * (root + w)

    def psi_gradient(self, z):
        slope = 2 * self._exponents(z.dtype) * (self._phi(z)[..., None] / z[..., :2])
        return jnp.concatenate([slope, -2 * z[..., 2:]], -1)

    def psi_hessian(self, z, x):
        a, uv = 2 * self._exponents(z.dtype), z[..., :2]
        relative = x[..., :2] / uv
        curved = self._phi(z)[..., None] * (a / uv) * (jnp.sum(a * relative, -1, keepdims=True) - relative)
        return jnp.concatenate([curved, -2 * x[..., 2:]], -1)

    def psi_third(self, z, x, y):
        a, uv = 2 * self._exponents(z.dtype), z[..., :2]
        x, y = x[..., :2] / uv, y[..., :2] / uv
        total = lambda v: jnp.sum(a * v, -1, keepdims=True)
        bracket = total(x) * total(y) - x * total(y) - y * total(x) - total(x * y) + 2 * x * y
        return jnp.pad(self._phi(z)[..., None] * (a / uv) * bracket, ((0, 0), (0, 1)))

    def hessian_solve(self, z, x):
        # pivot w (Hess_ww = 2 S/psi^2, S = phi + w^2), then the 2 x 2 Schur complement in (du/u, dv/v)
        exponents = self._exponents(z.dtype)
        a, uv, w = 2 * exponents, z[..., :2], z[..., 2]
        phi, psi = self._phi(z), self.psi(z)
        S = phi + w**2
        dw = x[..., 2]
        # eliminated right-hand side in logarithmic coordinates: row (phi w a / S) comes from the pivot
        right = uv * x[..., :2] + (2 * phi * w / S / 2 * dw)[..., None] * a
        # Schur complement: phi a1 a2/(2 psi) (1,-1)(1,-1)' + phi/(2 S) a a' + diag(1 - alpha, alpha)
        k1, k2 = phi * a[..., 0] * a[..., 1] / (2 * psi), phi / (2 * S)
        c0, c1 = exponents[..., 1], exponents[..., 0]
        m00, m11 = k1 + k2 * a[..., 0] ** 2 + c0, k1 + k2 * a[..., 1] ** 2 + c1
        m01 = -k1 + k2 * a[..., 0] * a[..., 1]
        # determinant as a sum of positive terms: (a0 + a1)^2 = 4
        det = 4 * k1 * k2 + k1 * (c0 + c1) + k2 * (a[..., 0] ** 2 * c1 + a[..., 1] ** 2 * c0) + c0 * c1
        t0 = (m11 * right[..., 0] - m01 * right[..., 1]) / det
        t1 = (m00 * right[..., 1] - m01 * right[..., 0]) / det
        at = a[..., 0] * t0 + a[..., 1] * t1
        xw = psi**2 * dw / (2 * S) + phi * w / S * at
        p_x = phi * psi / S * at - w * psi**2 / S * dw
        return jnp.stack([z[..., 0] * t0, z[..., 1] * t1, xw], -1), p_x

    def shadow(self, s):
        # one scalar equation for t > 0: L(t) = R, R = log(u^2alpha v^(2-2alpha) / w^2), by Newton on log L(log t)
        exponents = self._exponents(s.dtype)
        al, be, w = exponents[..., 0], exponents[..., 1], s[..., 2]
        square = jnp.maximum(w * w, jnp.finfo(s.dtype).tiny)
        R = 2 * jnp.sum(exponents * jnp.log(s[..., :2]), -1) - jnp.log(square)
        k0, k1 = be / (2 * al), al / (2 * be)

        def level(t):
            value = 2 * al * jnp.log1p(t + k0) + 2 * be * jnp.log1p(t + k1) - jnp.log1p(t) - jnp.log(t)
            slope = 2 * al / (1 + t + k0) + 2 * be / (1 + t + k1) - 1 / (1 + t) - 1 / t
            return value, slope

        def newton(_, log_t):
            t = jnp.exp(log_t)
            value, slope = level(t)
            step = value * (jnp.log(value) - jnp.log(R)) / (slope * t)
            return log_t - jnp.clip(step, -8, 8)

        at_zero = 2 * al * jnp.log1p(k0) + 2 * be * jnp.log1p(k1)  # L(t) ~ at_zero - log t, and ~ 2/t for large t
        log_t = jax.lax.fori_loop(0, 8, newton, jnp.where(R > at_zero + 1, at_zero - R, jnp.log(2 / R)))
        t = jnp.exp(log_t)
        return jnp.stack(
            [(2 * al * (1 + t) + be) / s[..., 0], (2 * be * (1 + t) + al) / s[..., 1], -2 * t * w / square], -1
        )

    def inside(self, s, z):
        exponents = self._exponents(s.dtype)

        def below(x, scale):
            uv = x[..., :2]
            positive = jnp.all(uv > 0, -1)
            log = jnp.sum(exponents * jnp.log(jnp.where(uv > 0, uv, 1) / scale), -1)
            return positive & (jnp.abs(x[..., 2]) < jnp.exp(log))

        return below(s, 1) & below(z, exponents) & (self.psi(z) > 0)

    def project_copies(self, v):
        """Projection by one scalar equation in r = |w| of the answer (Hien, Math. Meth. Oper. Res. 2015):
        x_i = (v_i + sqrt(v_i^2 + 4 alpha_i r (|w_0| - r))) / 2 with prod x_i^alpha_i = r, 0 < r < |w_0|."""
        shape, v = v.shape, v.reshape(-1, 3)
        exponents = self._exponents(v.dtype)
        exponents = jnp.broadcast_to(exponents, (*shape[:-1], 2)).reshape(-1, 2)
        uv, size = v[:, :2], jnp.abs(v[:, 2])

        def geometric_mean(x):
            return jnp.exp(jnp.sum(exponents * jnp.log(x), -1))

        positive = lambda x: jnp.maximum(x, 0)
        primal = jnp.all(uv >= 0, -1) & (size <= geometric_mean(positive(uv)))
        polar = jnp.all(uv <= 0, -1) & (size <= geometric_mean(positive(-uv) / exponents))

        def point(r):
            product = 4 * exponents * (r * (size - r))[:, None]
            root = jnp.sqrt(uv**2 + product)
            # of (v + sqrt(v^2 + p))/2 the form without cancellation
            return jnp.where(uv >= 0, (uv + root) / 2, product / (2 * jnp.where(uv < 0, root - uv, 1)))

        def halve(_, bounds):
            low, high = bounds
            r = (low + high) / 2
            above = geometric_mean(point(r)) > r
            return jnp.where(above, r, low), jnp.where(above, high, r)

        low, high = jax.lax.fori_loop(0, 60, halve, (jnp.zeros_like(size), size))
        r = (low + high) / 2
        # w = 0: onto the nonnegative quadrant
        curved = jnp.concatenate(
            [jnp.where((size > 0)[:, None], point(r), positive(uv)), (jnp.sign(v[:, 2]) * r)[:, None]], -1
        )
        answer = jnp.where(primal[:, None], v, jnp.where(polar[:, None], 0, curved))
        return answer.reshape(shape)

    # g = G - |w|, G = u^alpha v^(1-alpha) = |w| on the boundary, lambda = |z_w|; with h = (1/u, -1/v, 0)
    # grad^2 g = -alpha (1-alpha) G h h'

    def curvature(self, s, z, k):
        exponents, h = self._exponents(s.dtype), _logarithmic(s)
        weight = exponents[..., 0] * exponents[..., 1] * jnp.abs(s[..., 2] * z[..., 2])
        return weight * jnp.sum(h * k, -1) ** 2

    def on_edge(self, v):
        return jnp.full_like(v, jnp.nan)

    def boundary_derivative(self, s, z, frame, curvature, direction):
        # s - v = lambda grad g(s), g(s) = 0, differentiated in alpha, with dG/dalpha = G ell, ell = log(u/v), and
        # change = d grad g/dalpha; s's component along b follows from the second, along a (where grad^2 g a = 0) and
        # along k from the first
        exponents, h = self._exponents(s.dtype), _logarithmic(s)
        a, b, k = (frame[..., i] for i in range(3))
        G, size = jnp.abs(s[..., 2]), jnp.abs(z[..., 2])
        positive = jnp.all(s[..., :2] > 0, -1)
        uv = jnp.where(positive[..., None], s[..., :2], 1)
        ell = jnp.log(uv[..., 0] / uv[..., 1])
        gradient = jnp.concatenate([exponents * (G[..., None] / uv), -jnp.sign(s[..., 2:])], -1)
        change = G[..., None] * h + jnp.pad(ell[..., None] * gradient[..., :2], ((0, 0), (0, 1)))
        slope = jnp.sum(gradient * b, -1)
        along_b = -G * ell / jnp.where(slope == 0, 1, slope)
        along_a = size * jnp.sum(change * a, -1)
        bent = size * G * exponents[..., 0] * exponents[..., 1] * jnp.sum(h * k, -1) * jnp.sum(h * b, -1)
        along_k = (size * jnp.sum(change * k, -1) - bent * along_b) / (1 + curvature)
        answer = jnp.stack([along_a, along_b, along_k], -1) * jnp.reshape(direction.alpha, (-1, 1))
        return jnp.where(positive[..., None], answer, 0)


def _logarithmic(s):
    """(1/u, -1/v, 0); zero on the axes."""
    positive = jnp.all(s[..., :2] > 0, -1)[..., None]
    uv = jnp.where(positive, s[..., :2], 1)
    return jnp.where(positive, jnp.concatenate([1 / uv[..., :1], -1 / uv[..., 1:], jnp.zeros_like(uv[..., :1])], -1), 0)
