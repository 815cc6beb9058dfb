"""The solution of a dual whose active set is known: which variables are at which bound."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax.kkt import refined
from convexjax.learn.svm.dual import BoxDual, Point, certificate, margins, mean_of
from convexjax.learn.svm.newton import newton
from convexjax.linear_algebra import vary_like

# Of the system of a known active set: what is added to its diagonal, relative to the largest K_ii, by dtype; most steps
# of refinement; most active sets that are tried.
SHIFT, REFINEMENT_STEPS, MAX_SETS = {"float64": 1e-9, "float32": 1e-4}, 8, 4


class ActiveSet(NamedTuple):
    """Where a variable is neither 0 nor u, and where it is u: 0 or 1, (c, m)."""

    free: jax.Array
    upper: jax.Array


def guess(dual: BoxDual, point: Point) -> ActiveSet:
    """The active set of an interior point: a variable is at the bound to which it is closer than its multiplier is to
    zero, each in units of its own."""
    live = dual.u > 0
    if dual.bounded:
        size = mean_of(live, point.z + point.t)
        size = jnp.where(live & (size > 0), size / jnp.where(live, dual.u, 1), 1)
        lower, upper = point.a * size < point.z, (dual.u - point.a) * size < point.t
    else:
        lower, upper = point.a * dual.d < point.z, jnp.zeros_like(live)
    return _active_set(live & ~lower & ~upper, live & upper & ~lower, point.a.dtype)


def _active_set(free, upper, dtype) -> ActiveSet:
    return ActiveSet(free.astype(dtype), upper.astype(dtype))


def split(x, shape):
    return x[:-2].reshape(shape), x[-2], x[-1]


def conditions(x: jax.Array, dual: BoxDual, operator, active: ActiveSet) -> jax.Array:
    """Zero where x = (a, b, rho) is the solution of (1) with this active set. The Jacobian in x is symmetric."""
    a, b, rho = split(x, dual.q.shape)
    at_bound = active.upper * dual.u
    inside = active.free * a + at_bound
    beta = dual.beta(inside)
    f = operator.scores(operator.compress(beta))
    margin = dual.sign * (f + b if dual.intercept else f) + dual.d * inside + dual.q
    margin = margin + rho if dual.total else margin
    of_a = active.free * margin + (1 - active.free) * (a - at_bound)
    of_b = jnp.sum(beta) - dual.e[0] if dual.intercept else b
    of_rho = jnp.sum(inside) - dual.e[1] if dual.total else rho
    return jnp.concatenate([of_a.reshape(-1), of_b[None], of_rho[None]])


def solve_active(dual: BoxDual, operator, active: ActiveSet):
    """A function that solves with the Jacobian of `conditions`."""
    shape, dtype = dual.q.shape, dual.q.dtype
    largest = operator.largest()
    shift = SHIFT[dtype.name] * jnp.where(largest > 0, largest, 1)
    direction = newton(dual, operator, active.free / (dual.d + shift))
    aligned = jnp.zeros_like(dual.q[0])
    drift = aligned, jnp.zeros_like(operator.compress(aligned))

    def precondition(right):
        r, r_1, r_2 = split(right, shape)
        da, _, db, drho, _ = direction(active.free * r, drift, -r_1, -r_2)
        db, drho = (db if dual.intercept else r_1), (drho if dual.total else r_2)
        return jnp.concatenate([(da + (1 - active.free) * r).reshape(-1), db[None], drho[None]])

    zeros = jnp.zeros(dual.q.size + 2, dtype)
    matvec = lambda v: jax.jvp(lambda x: conditions(x, dual, operator, active), (zeros,), (v,))[1]

    def solve(right):
        target = 100 * jnp.finfo(dtype).eps * jnp.max(jnp.abs(right))
        return refined(precondition, lambda d: right - matvec(d), right, target, REFINEMENT_STEPS, gain=0.9)[0]

    return solve


def at(dual: BoxDual, operator, x: jax.Array) -> Point:
    """The point of x = (a, b, rho)."""
    a, b, rho = split(x, dual.q.shape)
    w = operator.compress(dual.beta(a))
    point = Point(a, a, a, b, rho, w, operator.scores(w))
    A = margins(dual, point) + dual.d * a
    return point._replace(z=jnp.maximum(A, 0), t=jnp.maximum(-A, 0))


def polish(dual: BoxDual, operator, point: Point, enough: jax.Array) -> tuple[Point, ActiveSet, jax.Array]:
    """(the solution for the active set of an interior point, the active set, the relative gap), or the point itself if
    that is better. Below `enough` gaps are as good as zero, and exact zeros better than interior points. A set that
    turns out wrong is corrected, as in the primal-dual active set method."""
    live = dual.u > 0
    eps = jnp.finfo(point.a.dtype).eps
    upper_bound = dual.u if dual.bounded else jnp.inf
    pack = lambda a, b, rho: jnp.concatenate([a.reshape(-1), b[None], rho[None]])

    def attempt(state):
        rounds, _, active, best, best_active, best_gap = state
        x = pack((1 - active.free) * active.upper * dual.u + active.free * best.a, best.b, best.rho)
        x = x - solve_active(dual, operator, active)(conditions(x, dual, operator, active))
        a = x[:-2].reshape(dual.q.shape)
        new = at(dual, operator, pack(jnp.where(live, jnp.clip(a, 0, upper_bound), 0), x[-2], x[-1]))
        gap = certificate(dual, operator, new)[2]
        better = (gap < best_gap) | ((rounds == 0) & (gap <= enough))  # false for NaN
        keep = lambda new, old: jax.tree.map(lambda new, old: jnp.where(better, new, old), new, old)
        A = new.z - new.t
        free = jnp.where(active.free > 0, (a > 0) & (a < upper_bound), jnp.where(active.upper > 0, A > 0, A < 0))
        upper = jnp.where(active.free > 0, a >= upper_bound, (active.upper > 0) & (A <= 0))
        following = _active_set(live & free, live & upper, a.dtype)
        return (
            rounds + 1,
            better,
            following,
            keep(new, best),
            keep(active, best_active),
            jnp.where(better, gap, best_gap),
        )

    def unfinished(state):
        rounds, better, _, _, _, gap = state
        return (rounds < MAX_SETS) & better & (gap > 100 * eps)

    inside = point._replace(a=jnp.where(live, jnp.clip(point.a, 0, upper_bound), 0))
    active = guess(dual, point)
    begin = jnp.int32(0), jnp.array(True), active, inside, active, certificate(dual, operator, inside)[2]
    _, _, _, point, active, gap = jax.lax.while_loop(unfinished, attempt, vary_like((dual, operator), begin))
    return point, active, gap
