"""The exponential cone K = closure {(u, v, w): v exp(u/v) <= w, v > 0}, with dual {u < 0, -u exp(v/u) <= e w}.

Dual barrier f*(z) = -log psi - log(-u) - log w with psi = v - u - u l, l = log(-w/u) (`three_dimensional.py`).
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.cones.base import require_count
from convexjax.cones.three_dimensional import ThreeDimensionalPart
from convexjax.pytrees import pytree, static

# The fixed point s = z = -grad f*(z).
CENTRAL_POINT = np.array([-1.0513839437502289, 0.5564096186043384, 1.2589678864644603])


@pytree
@dataclass(frozen=True)
class Exponential(ThreeDimensionalPart):
    """`count` copies of the closure of {(u, v, w): v exp(u/v) <= w, v > 0}, three rows each.

    >>> import convexjax as cj
    >>> cj.Exponential(2).rows
    6
    """

    count: int = static(default=1)

    def validate(self, name):
        require_count(self, name)

    def start(self, dtype):
        return jnp.tile(jnp.asarray(CENTRAL_POINT, dtype), self.count)

    def log_weights(self):
        return np.array([1.0, 0.0, 1.0])

    def psi(self, z):
        u, v, w = _split(z)
        return v - u - u * jnp.log(-w / u)

    def psi_gradient(self, z):
        u, v, w = _split(z)
        return jnp.stack([-jnp.log(-w / u), jnp.ones_like(v), -u / w], -1)

    def psi_hessian(self, z, x):
        u, _, w = _split(z)
        xu, _, xw = _split(x)
        return jnp.stack([xu / u - xw / w, jnp.zeros_like(xu), (u * xw / w - xu) / w], -1)

    def psi_third(self, z, a, b):
        u, _, w = _split(z)
        (au, _, aw), (bu, _, bw) = _split(a), _split(b)
        return jnp.stack(
            [
                aw * bw / w**2 - au * bu / u**2,
                jnp.zeros_like(u),
                (au * bw + aw * bu - 2 * u * aw * bw / w) / w**2,
            ],
            -1,
        )

    def hessian_solve(self, z, x):
        # Hess = p p'/psi^2 + D (I + r 11') D on (u, w), D = diag(1/|u|, 1/w), r = |u|/psi; pivot v first
        u, v, w = _split(z)
        du, dv, dw = _split(x)
        psi, ell = self.psi(z), jnp.log(-w / u)
        r = -u / psi
        y1, y2 = -u * (du + ell * dv), w * (dw + u / w * dv)
        t1, t2 = ((1 + r) * y1 - r * y2) / (1 + 2 * r), ((1 + r) * y2 - r * y1) / (1 + 2 * r)
        xu, xw = -u * t1, w * t2
        p_x = psi**2 * dv
        return jnp.stack([xu, p_x + ell * xu + u / w * xw, xw], -1), p_x

    def shadow(self, s):
        # grad f(s) by one scalar equation, e + log1p(e) = r with r = log(w/v) - u/v > 0
        u, v, w = _split(s)
        r = jnp.log(w / v) - u / v
        e = jnp.where(r < 3, r / 2, r - jnp.log(jnp.maximum(r, 1)))

        def halley(_, e):
            f, d1, d2 = e + jnp.log1p(e) - r, 1 + 1 / (1 + e), -1 / (1 + e) ** 2
            return e - 2 * f * d1 / (2 * d1**2 - f * d2)

        e = jax.lax.fori_loop(0, 4, halley, e)
        g = 1 / (e * v)
        return -jnp.stack([g, g * (1 + jnp.log((1 + e) * v / w)) - 1 / v, -(1 + e) / (e * w)], -1)

    def inside(self, s, z):
        u, v, w = _split(s)
        primal = (v > 0) & (w > 0) & (v * jnp.log(w / v) > u)
        u, v, w = _split(z)
        return primal & (u < 0) & (w > 0) & (self.psi(z) > 0)

    def project_copies(self, v):
        """Projection by one monotone scalar equation (Friberg, Math. Meth. Oper. Res. 2023).

        The curved boundary has the rays a(rho) = (rho, 1, e^rho), that of the polar cone b(rho) = (1, 1 - rho,
        -e^-rho), and a'b = 0: the rho for which v lies between a and b gives the projection, the part of v along a.
        """
        shape, v = v.shape, v.reshape(-1, 3)
        return _project(v).reshape(shape)

    def curvature(self, s, z, k):
        # g = w - v exp(u/v), lambda = z_w, exp(u/v) = w/v on the boundary
        u, v, w = _split(s)
        safe = jnp.where(v > 0, v, 1)
        return jnp.where(v > 0, z[..., 2] * w / safe**2 * (k[..., 0] - u / safe * k[..., 1]) ** 2, 0)

    def on_edge(self, v):
        x, y, z = _split(v)
        diagonal = jnp.stack([jnp.ones_like(x), jnp.zeros_like(x), jnp.where(z > 0, 1, 0).astype(x.dtype)], -1)
        return jnp.where(((x <= 0) & (y <= 0))[..., None], diagonal, jnp.nan)

    def boundary_derivative(self, s, z, frame, curvature, direction):
        return jnp.zeros_like(s)


def _split(z):
    return z[..., 0], z[..., 1], z[..., 2]


def _project(v):
    x, y, z = _split(v)
    primal = jnp.where(y > 0, y * jnp.exp(jnp.minimum(x / jnp.where(y > 0, y, 1), 700)) <= z, False)
    primal |= (x <= 0) & (y == 0) & (z >= 0)
    # polar cone -K*: (-x > 0) for K*, that is x > 0 with x exp(y/x) <= -e z
    polar = jnp.where(x > 0, x * jnp.exp(jnp.clip(y / jnp.where(x > 0, x, 1) - 1, None, 700)) <= -z, False)
    polar |= (x == 0) & (y <= 0) & (z <= 0)
    edge = (x <= 0) & (y <= 0) & ~polar
    rho = _root(jnp.where((primal | polar | edge)[:, None], jnp.array([1.0, 0.0, 0.0], v.dtype), v))
    ray = _ray(rho)
    curved = ray * jnp.maximum(_dot(ray, v), 0)
    onto_edge = jnp.stack([x, jnp.zeros_like(y), jnp.maximum(z, 0)], -1)
    answer = jnp.where(edge[:, None], onto_edge, curved)
    return jnp.where(primal[:, None], v, jnp.where(polar[:, None], 0, answer))


def _dot(a, b):
    return jnp.sum(a * b, -1, keepdims=True)


def _ray(rho):
    """Unit vector along (rho, 1, e^rho), without overflow."""
    scale = jnp.exp(-jnp.maximum(rho, 0))
    a = jnp.stack([rho * scale, scale, jnp.exp(jnp.minimum(rho, 0))], -1)
    return a / jnp.sqrt(_dot(a, a))


def _balance(rho, v):
    """v'k with k = a x b, scaled: zero at the solution, where v is in the plane of a and b; negative below, positive
    above."""
    x, y, z = _split(v)
    up, down = jnp.exp(-jnp.abs(rho) + rho), jnp.exp(-jnp.abs(rho) - rho)  # e^{+-rho} e^{-|rho|}
    one = jnp.exp(-jnp.abs(rho))
    # a x b = (-e^-rho - (1 - rho) e^rho, e^rho + rho e^-rho, rho (1 - rho) - 1)
    k = jnp.stack([-down - (1 - rho) * up, up + rho * down, (rho * (1 - rho) - 1) * one], -1)
    return _dot(k, v)[..., 0]


def _root(v):
    """The rho with v between a(rho) and b(rho), by bisection in asinh(rho) inside the interval where both coordinates
    are nonnegative; there the balance changes sign once (Friberg, section 4)."""
    x, y, z = _split(v)
    limit = jnp.asarray(np.arcsinh(1e15), v.dtype)
    low = jnp.full_like(x, -limit)
    high = jnp.full_like(x, limit)

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) / 2
        rho = jnp.sinh(middle)
        # the primal coordinate needs (rho - 1) x + y > 0, the dual one x - rho y > 0 (divided by 1 - rho + rho^2)
        right = jnp.where((rho - 1) * x + y <= 0, x > 0, jnp.where(x - rho * y <= 0, y <= 0, _balance(rho, v) < 0))
        return jnp.where(right, middle, low), jnp.where(right, high, middle)

    low, high = jax.lax.fori_loop(0, 60 if v.dtype == jnp.float64 else 32, halve, (low, high))
    return jnp.sinh((low + high) / 2)
