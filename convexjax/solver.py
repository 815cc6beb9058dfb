"""One entry for every named problem: scale, run, unscale, and say what was proved."""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax import interior_point
from convexjax.cone_program import ConeProgram, is_convex
from convexjax.embedding import Claims, Point, Units, measure, units_of, unpack
from convexjax.equilibration import Equilibration, equilibration
from convexjax.implicit import attach, attach_value, is_unique, sharpen
from convexjax.linear_algebra import scale_tangent, vary_like
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
    data, guess, options = jax.lax.stop_gradient((program, warm_start, options))
    scaling = equilibration(data, options.equilibrate)
    scaled = scaling.scale(data)
    point, objective, status, info = _run(scaled, scaling, options, guess)

    # Derivatives are attached in the solver's units, with the scaling held fixed: it cancels. A lane without a solution
    # is cut off from them on both sides.
    solved = Status.SOLVED.holds(status) | Status.ALMOST_SOLVED.holds(status)
    smoothing = None
    if options.derivative == "smoothed":
        smoothing = jnp.asarray(options.smoothing, program.q.dtype) * scaling.c
    if options.failed_derivative == "nan":
        program = scale_tangent(program, jnp.where(solved, 1, jnp.nan).astype(program.q.dtype))
    fill = lambda tree: jax.tree.map(lambda leaf: jnp.where(solved, leaf, 0.5), tree)
    attached, attached_point = scaling.scale(fill(program)), fill(point)
    if options.check_derivative:
        info = replace(info, derivative_unique=solved & is_unique(*jax.lax.stop_gradient((attached, attached_point))))
    attached_point = attach(attached, attached_point, smoothing)
    value = attach_value(attached, attached_point, jnp.where(solved, objective * scaling.c, 0)) / scaling.c
    x, s, z = (jnp.where(solved, new, old) for new, old in zip(attached_point, point, strict=True))
    x, s, z = scaling.unscale_point(x, s, z)
    # the dropped rows have the slack of their infinite bound
    s = jnp.where(scaling.dropped, data.b, s)
    answer = ConeSolution(x, s, z, jnp.where(solved, value, objective), status, info)
    if options.failed_derivative == "nan":
        answer = scale_tangent(answer, jnp.where(solved, 1, jnp.nan).astype(program.q.dtype))
    return answer


def _run(program: ConeProgram, scaling: Equilibration, options: Options, guess: tuple | None) -> tuple:
    """The point (x, s, z) in the solver's units, the objective in the user's, status and info."""
    units = units_of(scaling)
    begin = interior_point.start(program)
    if guess is not None:
        begin = _warm(program, units, begin, scaling.scale_point(*guess))
    # NaN in P makes its factor NaN, too, and is found by the loop
    convex = is_convex(program.P, scaling.size_P) | ~jnp.isfinite(scaling.size_P)
    status = jnp.where(convex, jnp.int32(Status.UNSOLVED), jnp.int32(Status.NONCONVEX))
    state = interior_point.run(program, units, options, begin, status)

    status = state.status
    failed = Status.NUMERICAL_ERROR.holds(status) & (state.num_iters == 0)
    primal_infeasible, dual_infeasible = Status.PRIMAL_INFEASIBLE.holds(status), Status.DUAL_INFEASIBLE.holds(status)
    is_certificate = primal_infeasible | dual_infeasible
    point = unpack(program, jnp.where(is_certificate, state.point, state.best))
    claims = Claims(*jnp.where(is_certificate, state.claims, state.best_claims))
    z = jnp.where(scaling.dropped, 0, point.z)
    # a certificate is scaled so that its constant is -1 in the user's units
    constant = jnp.where(primal_infeasible, -program.b @ z, -program.q @ point.x) / scaling.c
    size = jnp.where(is_certificate, constant, point.tau)
    size = jnp.where(failed, jnp.nan, size)
    x, s, z = point.x / size, point.s / size, z / size
    if options.polish:
        x, s, z, claims, status = _polish(program, units, options, (x, s, z), claims, status)
    objective = jnp.where(primal_infeasible, jnp.inf, jnp.where(dual_infeasible, -jnp.inf, claims.objective))
    info = Info(
        num_iters=state.num_iters,
        primal_residual=jnp.where(dual_infeasible, claims.dual_infeasible, claims.primal),
        dual_residual=jnp.where(primal_infeasible, claims.primal_infeasible, claims.dual),
        gap=claims.gap,
        history=interior_point.history_of(state),
    )
    return (x, s, z), jnp.where(failed, jnp.nan, objective), status, info


def _polish(program: ConeProgram, units: Units, options: Options, point: tuple, claims: Claims, status) -> tuple:
    """The sharpened point, its claims and status, if it is better than the point that was found."""
    error = lambda claims: jnp.maximum(jnp.maximum(claims.primal, claims.dual), claims.gap)
    solved = Status.SOLVED.holds(status) | Status.ALMOST_SOLVED.holds(status)
    one = jnp.ones((), program.q.dtype)
    sharp = sharpen(program, jax.tree.map(lambda leaf: jnp.where(solved, leaf, 0), point), None)
    _, new_claims = measure(program, units, Point(sharp[0], sharp[1], sharp[2], one, 0 * one))
    better = solved & (error(new_claims) < error(claims))
    reached = better & (error(new_claims) <= options.tolerances(one.dtype)[0])
    choose = lambda new, old: jax.tree.map(lambda a, b: jnp.where(better, a, b), new, old)
    status = jnp.where(reached, jnp.int32(Status.SOLVED), status)
    return *choose(sharp, point), choose(new_claims, claims), status


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
