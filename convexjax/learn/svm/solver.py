"""A dual solved by one of the methods, with what its point proves and its derivatives."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax.learn.svm import working_set
from convexjax.learn.svm.active_set import ActiveSet, polish, split
from convexjax.learn.svm.derivatives import attach, values_of
from convexjax.learn.svm.dual import BoxDual, Point, certificate
from convexjax.learn.svm.interior_point import interior_point
from convexjax.learn.svm.kernel_matrix import Streamed
from convexjax.options import DEFAULT_TOLERANCES
from convexjax.solution import Status


class Found(NamedTuple):
    """A solution of (1), differentiable."""

    a: jax.Array
    b: jax.Array
    rho: jax.Array
    square: jax.Array  # beta'K beta
    objective: jax.Array  # 1/2 beta'K beta + losses
    gap: jax.Array
    status: jax.Array
    num_iters: jax.Array


def by_interior_point(dual: BoxDual, operator, tolerance: jax.Array) -> Found:
    """The solution of (1). SOLVED: the relative duality gap and the relative residual of the equations are at most
    `tolerance`; ALMOST_SOLVED: at most the looser one of `Options`; else MAX_ITERATIONS."""
    fixed = jax.lax.stop_gradient((dual, operator))
    point, count = interior_point(*fixed, tolerance / 10)
    point, active, gap = polish(*fixed, point, tolerance)
    return finish(dual, operator, point, active, gap, tolerance, count)


def by_working_sets(dual: BoxDual, operator: Streamed, tolerance, block: int) -> Found:
    """The solution by `working_set`."""
    fixed, op = jax.lax.stop_gradient((dual, operator))
    sign, u = fixed.sign.reshape(-1), fixed.u.reshape(-1)
    if not fixed.bounded:
        u = jnp.where(u > 0, jnp.inf, 0)
    problem = working_set.Problem(
        p=-sign * fixed.q.reshape(-1),
        lo=jnp.where(sign > 0, 0, -u),
        hi=jnp.where(sign > 0, u, 0),
        d=fixed.d.reshape(-1),
        e=fixed.e[0],
    )
    rows = lambda samples: op.kernel(op.X[samples], op.X)
    v, F, b, gap, count = working_set.solve(problem, rows, dual.q.shape[1], block, tolerance)
    a = jnp.abs(v).reshape(fixed.q.shape)
    f = (problem.p - F - problem.d * v).reshape(fixed.q.shape)[0]
    point = Point(a, a, a, b, jnp.zeros_like(b), fixed.beta(a), f)
    free, upper = (v > problem.lo) & (v < problem.hi), (jnp.abs(v) >= u) & (u > 0)
    active = ActiveSet(*(part.reshape(a.shape).astype(a.dtype) for part in (free, upper)))
    return finish(dual, operator, point, active, gap, tolerance, count)


def finish(dual: BoxDual, operator, point: Point, active: ActiveSet, gap, tolerance, count) -> Found:
    """The claims that a point proves, and its derivatives."""
    x = attach(dual, operator, jnp.concatenate([point.a.reshape(-1), point.b[None], point.rho[None]]), active)
    square, objective = values_of(point, certificate(dual, operator, point)[0], (dual, operator, x))
    a, b, rho = split(x, dual.q.shape)
    missed = jnp.abs(jnp.sum(dual.beta(a)) - dual.e[0]) if dual.intercept else jnp.zeros_like(gap)
    if dual.total:
        missed = jnp.maximum(missed, jnp.abs(jnp.sum(a) - dual.e[1]))
    size = jnp.maximum(jnp.sum(a), jnp.max(jnp.abs(dual.e)))
    error = jax.lax.stop_gradient(jnp.maximum(gap, missed / jnp.where(size > 0, size, 1)))
    looser = jnp.maximum(tolerance, DEFAULT_TOLERANCES[gap.dtype.name][1])
    status = jnp.where(error <= looser, jnp.int32(Status.ALMOST_SOLVED), jnp.int32(Status.MAX_ITERATIONS))
    status = jnp.where(error <= tolerance, jnp.int32(Status.SOLVED), status)
    known = jnp.isfinite(error) & jnp.isfinite(jax.lax.stop_gradient(operator).largest())
    status = jnp.where(known, status, jnp.int32(Status.NUMERICAL_ERROR))
    return Found(a, b, rho, square, objective, error, status, count)
