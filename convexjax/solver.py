"""One entry for every named problem: scale, run, unscale, and say what was proved."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax import interior_point
from convexjax.cone_program import ConeProgram, infinite_rows, is_convex
from convexjax.embedding import Claims, Point, Units, measure, units_of, unpack
from convexjax.equilibration import equilibrate
from convexjax.linear_algebra import vary_like
from convexjax.options import Options
from convexjax.solution import Info, Status


class ConeSolution(NamedTuple):
    """Answer to a `ConeProgram`, rows in the solver's order; the named problems take it apart."""

    x: jax.Array
    s: jax.Array
    z: jax.Array
    objective: jax.Array
    status: jax.Array
    info: Info


def solve(program: ConeProgram, options: Options, warm_start: tuple | None = None) -> ConeSolution:
    """Solve a cone program. `warm_start` is a guess (x, s, z) in the user's units."""
    program = vary_like(program, program)
    scaled, scaling = equilibrate(program, options.equilibrate)
    units = units_of(scaling)
    begin = interior_point.start(scaled)
    if warm_start is not None:
        begin = _warm(scaled, units, begin, scaling.scale_point(*warm_start))
    # NaN in P makes its factor NaN, too, and is found by the loop
    convex = is_convex(scaled.P, scaling.size_P) | ~jnp.isfinite(scaling.size_P)
    status = jnp.where(convex, jnp.int32(Status.UNSOLVED), jnp.int32(Status.NONCONVEX))
    state = interior_point.run(scaled, units, options, begin, status)

    status = state.status
    failed = Status.NUMERICAL_ERROR.holds(status) & (state.num_iters == 0)
    primal_infeasible, dual_infeasible = Status.PRIMAL_INFEASIBLE.holds(status), Status.DUAL_INFEASIBLE.holds(status)
    is_certificate = primal_infeasible | dual_infeasible
    point = unpack(scaled, jnp.where(is_certificate, state.point, state.best))
    claims = Claims(*jnp.where(is_certificate, state.claims, state.best_claims))
    dropped = infinite_rows(program)
    z = jnp.where(dropped, 0, point.z)
    constant = jnp.where(primal_infeasible, -scaled.b @ z, -scaled.q @ point.x) / scaling.c
    size = jnp.where(is_certificate, constant, point.tau)
    size = jnp.where(failed, jnp.nan, size)
    x, s, z = scaling.unscale_point(point.x / size, point.s / size, z / size)
    # the dropped rows have the slack of their infinite bound
    s = jnp.where(dropped, program.b, s)
    objective = jnp.where(primal_infeasible, jnp.inf, jnp.where(dual_infeasible, -jnp.inf, claims.objective))
    info = Info(
        num_iters=state.num_iters,
        primal_residual=jnp.where(dual_infeasible, claims.dual_infeasible, claims.primal),
        dual_residual=jnp.where(primal_infeasible, claims.primal_infeasible, claims.dual),
        gap=claims.gap,
        history=interior_point.history_of(state),
    )
    return ConeSolution(x, s, z, jnp.where(failed, jnp.nan, objective), status, info)


# A guess with larger residuals is no better a start than none.
USEFUL_GUESS = 0.1
# Least distance of a warm start from the boundary: much closer, and the first steps are short.
LEAST_SHIFT = 1e-3


def _warm(program: ConeProgram, units: Units, cold: Point, guess: tuple) -> Point:
    """The guess, moved into the interior of the cone by as much as its residuals say that it is off; the cold start
    if it is not finite or too far off."""
    x, s, z = guess
    s, z = jnp.where(jnp.isfinite(s), s, program.b), jnp.where(jnp.isfinite(z), z, 0)
    s, z = program.cone.project(s), program.cone.project_dual(z)
    _, claims = measure(program, units, Point(x, s, z, cold.tau, jnp.zeros_like(cold.kappa)))
    error = jnp.maximum(jnp.maximum(claims.primal, claims.dual), claims.gap)
    shift = jnp.maximum(error, LEAST_SHIFT)
    warm = Point(x, s + shift * cold.s, z + shift * cold.z, cold.tau, shift * cold.kappa)
    useful = error < USEFUL_GUESS  # false for NaN
    return jax.tree.map(lambda a, b: jnp.where(useful, a, b), warm, cold)
