"""The homogeneous embedding of a cone program: its points, its residuals, and what they prove.

With a quadratic objective (Goulart and Chen, arXiv:2405.12762, section 3): find s in K, z in K*, tau, kappa >= 0 with

    P x + A'z + q tau = 0                                       r_x
    A x + s - b tau = 0                                         r_z
    kappa + x'P x / tau + q'x + b'z = 0                         r_tau

tau > 0 gives a solution (x, s, z)/tau; kappa > 0 a certificate, z of primal infeasibility if b'z < 0, x of dual
infeasibility if q'x < 0.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.cone_program import ConeProgram
from convexjax.equilibration import Equilibration
from convexjax.linear_algebra import reductions
from convexjax.pytrees import pytree


class Point(NamedTuple):
    """Variables of the embedding, or a direction of them."""

    x: jax.Array
    s: jax.Array
    z: jax.Array
    tau: jax.Array
    kappa: jax.Array


def pack(point: Point) -> jax.Array:
    """The point as one vector, as the loop carries it: one array to move, select and test instead of five."""
    return jnp.concatenate([point.x, point.s, point.z, point.tau[None], point.kappa[None]])


def unpack(program: ConeProgram, v: jax.Array) -> Point:
    """Inverse of `pack`."""
    n, m = program.q.shape[0], program.b.shape[0]
    return Point(v[:n], v[n : n + m], v[n + m : n + 2 * m], v[-2], v[-1])


class Residuals(NamedTuple):
    """Residuals of the embedding at a point, with mu and P x."""

    r_x: jax.Array
    r_z: jax.Array
    r_tau: jax.Array
    size: jax.Array  # largest entry of r_x and r_z
    mu: jax.Array
    Px: jax.Array


class Claims(NamedTuple):
    """How far each claim is from being proved: relative residuals and gap of x/tau, s/tau, z/tau; of z and of x as
    certificates (inf for the wrong sign); and the objective of x/tau."""

    primal: jax.Array
    dual: jax.Array
    gap: jax.Array
    primal_infeasible: jax.Array
    dual_infeasible: jax.Array
    objective: jax.Array


@pytree
@dataclass(frozen=True, kw_only=True)
class Units:
    """What counts as size one, in the solver's units (see `equilibration`)."""

    x: jax.Array  # one unit of the user's x, z and objective
    z: jax.Array
    objective: jax.Array
    rows: jax.Array  # (m,), (n,): times these, residuals are in the user's units but for beta and 1 / (c beta)
    columns: jax.Array
    P: jax.Array  # largest entry of P
    no_q: jax.Array  # 1 if q = 0, so that all terms of the dual residual may vanish at the solution, else 0
    no_b: jax.Array  # the same for b and the primal residual


def units_of(scaling: Equilibration) -> Units:
    """The units of a scaled program."""
    dtype = scaling.D.dtype
    return Units(
        x=1 / scaling.beta,
        z=scaling.c * scaling.beta,
        objective=scaling.c,
        rows=scaling.rows,
        columns=1 / scaling.D,
        P=scaling.size_P,
        no_q=scaling.no_q.astype(dtype),
        no_b=scaling.no_b.astype(dtype),
    )


def measure(program: ConeProgram, units: Units, point: Point) -> tuple[Residuals, Claims]:
    """Residuals of the embedding and of every claim.

    A primal or dual residual is the larger of two measures. Row by row, relative to the terms of the row itself,
    which no scaling of rows or columns changes; rows whose terms all vanish have a floor, the size of x (of z) or one
    unit, but never more than the largest term of all rows nor less than 1e-8 of it: a row of large numbers elsewhere
    does not loosen this one. And in the user's units, the largest residual relative to the largest term and to one.
    """
    x, s, z, tau, kappa = point
    q, b = program.q * tau, program.b * tau
    Px, Atz, Ax = program.quadratic(x), program.A.rmatvec(z), program.A.matvec(x)
    r_x, r_z = Px + Atz + q, Ax + s - b
    largest = lambda *vectors: functools.reduce(jnp.maximum, _absolute(*vectors))
    terms_x, terms_z = largest(Px, Atz, q), largest(Ax, s, b)
    xPx, qx, size_qx, size_x, size_Px, size_Atz, norm_x, size_r_x, user_r_x, user_x = reductions(
        (x * Px, program.q * x, jnp.abs(program.q * x)),
        (
            *_absolute(x, Px, Atz, terms_x, r_x),
            *_absolute(units.columns * r_x, units.columns * terms_x),
        ),
    )
    # bounds are no rows to the user: a large one must not loosen the others
    dense = np.arange(s.shape[0]) < program.A.num_general
    groups = (dense,) if dense.all() else (dense, ~dense)
    bz, sz, size_bz, size_z, size_ray, norm_z, size_r_z, *in_groups = reductions(
        (program.b * z, s * z, jnp.abs(program.b * z)),
        (
            *_absolute(z, Ax + s, terms_z, r_z),
            *_absolute(*(jnp.where(group, units.rows * v, 0) for group in groups for v in (r_z, terms_z))),
        ),
    )

    unit_x, unit_z = units.x * tau, units.z * tau
    floor_z = jnp.minimum(jnp.maximum(jnp.maximum(size_x, unit_x), 1e-8 * norm_z), norm_z)
    floor_x = jnp.minimum(jnp.maximum(jnp.maximum(size_z, unit_z), 1e-8 * norm_x), norm_x)
    # a scale for when every term vanishes at the solution
    floor_z = jnp.maximum(floor_z, 1e-4 * units.no_b * tau)
    floor_x = jnp.maximum(floor_x, 1e-4 * jnp.maximum(units.P * size_x, units.no_q * tau))
    tiny = jnp.finfo(x.dtype).tiny
    ratio_x = jnp.abs(r_x) / jnp.maximum(jnp.maximum(terms_x, floor_x), tiny)
    ratio_z = jnp.abs(r_z) / jnp.maximum(jnp.maximum(terms_z, floor_z), tiny)
    by_row_x, by_row_z = reductions(
        maxima=(
            jnp.concatenate([ratio_x, jnp.zeros_like(ratio_z)]),
            jnp.concatenate([jnp.zeros_like(ratio_x), ratio_z]),
        )
    )

    # objective values times tau^2, and their gap beyond the rounding errors of the terms
    qx_tau, bz_tau = qx * tau, bz * tau
    primal_objective, dual_objective = xPx / 2 + qx_tau, -xPx / 2 - bz_tau
    terms = jnp.maximum(jnp.abs(qx_tau), jnp.abs(xPx))
    rounding = 10 * jnp.finfo(x.dtype).eps * terms
    floor = jnp.minimum(units.objective * tau**2, 0.01 * terms)
    # both values may vanish: 1e-6 of the objective's size, that of these units or of the user's
    absolute = 1e-6 * jnp.maximum(units.P * size_x**2, jnp.minimum(units.objective, 1) * tau**2)
    gap = jnp.maximum(jnp.abs(primal_objective - dual_objective) - rounding, 0) / jnp.maximum(
        jnp.maximum(jnp.abs(primal_objective), jnp.abs(dual_objective)),
        jnp.maximum(jnp.maximum(floor, absolute), tiny),
    )
    # relative to b and q, whose size is one in these units: then no feasible x (or z) exists up to 1e8 times the size
    # that the data suggest; and the constant is no rounding error of its own terms
    relative_to = lambda constant, terms, residual: jnp.where(
        constant < -1e4 * jnp.finfo(x.dtype).eps * terms, residual / jnp.abs(constant), jnp.inf
    )
    residuals = Residuals(
        r_x=r_x,
        r_z=r_z,
        r_tau=kappa + xPx / tau + qx + bz,
        size=jnp.maximum(size_r_x, size_r_z),
        mu=(sz + tau * kappa) / (program.cone.degree + 1),
        Px=Px,
    )
    return residuals, Claims(
        primal=functools.reduce(
            jnp.maximum,
            (user_r_z / jnp.maximum(user_z, unit_x) for user_r_z, user_z in zip(*[iter(in_groups)] * 2, strict=True)),
            by_row_z,
        ),
        dual=jnp.maximum(by_row_x, user_r_x / jnp.maximum(user_x, unit_z)),
        gap=gap,
        primal_infeasible=relative_to(bz, size_bz, size_Atz),
        dual_infeasible=relative_to(qx, size_qx, jnp.maximum(size_Px, size_ray)),
        objective=primal_objective / tau**2 / units.objective,
    )


def _absolute(*vectors):
    return tuple(jnp.abs(v) for v in vectors)
