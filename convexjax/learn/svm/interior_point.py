"""Mehrotra's predictor-corrector method for the dual of a support vector machine."""

import jax
import jax.numpy as jnp

from convexjax.learn.svm.dual import BoxDual, Point, certificate, margins, mean_of
from convexjax.learn.svm.newton import newton
from convexjax.linear_algebra import vary_like

# Most iterations, and the part of the way to the boundary that a step takes.
MAX_ITERS, TO_BOUNDARY = 100, 0.995


def start(dual: BoxDual, operator) -> Point:
    """The point of the central path that there would be with w = 0: beta does not fit to w yet, but every product is
    in its place."""
    live, q = dual.u > 0, dual.q
    size = mean_of(live, jnp.abs(q))
    # without a linear term the scores are of the size of K times the prescribed sum
    size = jnp.where(size > 0, size, operator.largest() * jnp.sum(jnp.abs(dual.e)))
    size = jnp.where(size > 0, size, 1)
    if dual.bounded:
        # a z = mu, (u - a) t = mu, z - t = q with mu = size u
        u = jnp.where(live, dual.u, 1)
        mu = size * u
        B = q * u + 2 * mu
        a = 2 * mu * u / (B + jnp.sqrt(B * B - 4 * q * mu * u))
        t = mu / (u - a)
    else:
        # a z = mu, z - d a = q with mu = size^2 / d
        d = jnp.where(live, dual.d, 1)
        mu = size**2 / d
        a, t = (jnp.sqrt(q * q + 4 * d * mu) - q) / (2 * d), jnp.zeros_like(q)
    w = jnp.zeros_like(operator.compress(q[0]))
    zero = jnp.zeros((), q.dtype)
    return Point(jnp.where(live, a, 0), mu / a, t, zero, zero, w, jnp.zeros_like(q[0]))


def step(dual: BoxDual, operator, point: Point) -> Point:
    """One iteration of the predictor-corrector method."""
    live = dual.u > 0
    a, z, t, b, rho, w, f = point
    safe = lambda v: jnp.where(live, v, 1)
    a1, z1 = safe(a), safe(z)
    theta = dual.d + z1 / a1
    if dual.bounded:
        room, t1 = safe(dual.u - a), safe(t)
        theta = theta + t1 / room
    D = jnp.where(live, 1 / theta, 0)
    solve = newton(dual, operator, D)
    A = margins(dual, point) + dual.d * a
    beta = dual.beta(a)
    r_1, r_2 = jnp.sum(beta) - dual.e[0], jnp.sum(a) - dual.e[1]

    def direction(of_a, of_t):
        """The step to products `of_a` of a and z, `of_t` of u - a and t."""
        r = -A + of_a / a1
        if dual.bounded:
            r = r - of_t / room
        da, dw, db, drho, df = solve(jnp.where(live, r, 0), (beta, w), r_1, r_2)
        dz = of_a / a1 - z1 - z1 / a1 * da
        dt = of_t / room - t1 + t1 / room * da if dual.bounded else None
        return da, dz, dt, db, drho, dw, df

    def longest(da, dz, dt):
        """The step to the boundary."""
        shrink = jnp.maximum(-da / a1, -dz / z1)
        if dual.bounded:
            shrink = jnp.maximum(shrink, jnp.maximum(da / room, -dt / t1))
        return 1 / jnp.maximum(jnp.max(jnp.where(live, shrink, 0)), 1)

    def products(alpha, da, dz, dt):
        """The mean of the products after a step."""
        all_of = (a1 + alpha * da) * (z1 + alpha * dz)
        if dual.bounded:
            all_of = all_of + (room - alpha * da) * (t1 + alpha * dt)
        return mean_of(live, all_of) / (2 if dual.bounded else 1)

    da, dz, dt, *_ = direction(0, 0)
    mu = products(0, da, dz, dt)
    sigma = (products(longest(da, dz, dt), da, dz, dt) / jnp.where(mu > 0, mu, 1)) ** 3
    tau = sigma * mu
    da, dz, dt, db, drho, dw, df = direction(tau - da * dz, tau + da * dt if dual.bounded else None)
    alpha = TO_BOUNDARY * longest(da, dz, dt)
    move = lambda v, dv: jnp.where(live, v + alpha * dv, v)
    new_w = w + alpha * dw
    return Point(
        a=move(a, da),
        z=move(z, dz),
        t=move(t, dt) if dual.bounded else t,
        b=b + alpha * db,
        rho=rho + alpha * drho,
        w=new_w,
        f=operator.follow(new_w, f + alpha * df),
    )


def interior_point(dual: BoxDual, operator, tolerance: jax.Array, max_iters: int = MAX_ITERS) -> tuple:
    """(point, iterations): the first point whose relative gap is below `tolerance`, or the last one."""
    begin = start(dual, operator)

    def advance(state):
        count, point, gap, _ = state
        new = step(dual, operator, point)
        new_gap = certificate(dual, operator, new)[2]
        fine = jnp.isfinite(new_gap)
        point = jax.tree.map(lambda new, old: jnp.where(fine, new, old), new, point)
        return count + 1, point, jnp.where(fine, new_gap, gap), fine

    unfinished = lambda state: (state[0] < max_iters) & (state[2] > tolerance) & state[3]
    state = jnp.int32(0), begin, jnp.full((), jnp.inf, begin.f.dtype), jnp.array(True)
    count, point, _, _ = jax.lax.while_loop(unfinished, advance, vary_like((dual, operator), state))
    return point, count
