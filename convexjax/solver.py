"""One entry for every named problem: scale, run, unscale, and say what was proved."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax import interior_point
from convexjax.cone_program import ConeProgram, drop_rows, infinite_rows, is_convex, is_finite
from convexjax.equilibration import equilibrate
from convexjax.interior_point import Point
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
    given = program
    dropped = infinite_rows(program)
    program = drop_rows(program, dropped)
    finite, convex = is_finite(program), is_convex(program.P)
    # the loop never sees NaN: a lane without valid data runs on zeros and is labelled afterwards
    program = jax.tree.map(lambda v: jnp.where(finite, v, jnp.zeros_like(v)), program)
    scaled, scaling = equilibrate(program, options.equilibrate)
    units = interior_point.units_of(scaled, scaling)
    begin = interior_point.start(scaled)
    if warm_start is not None:
        begin = _warm(scaled, begin, scaling.scale_point(*warm_start))
    state = interior_point.run(scaled, units, options, begin, finite & convex)

    status = jnp.where(finite, jnp.where(convex, state.status, Status.NONCONVEX), Status.NUMERICAL_ERROR)
    claimed = (status == Status.PRIMAL_INFEASIBLE) | (status == Status.DUAL_INFEASIBLE)
    point = jax.tree.map(lambda own, best: jnp.where(claimed | (state.num_iters == 0), own, best), state.point, state.best)
    point = point._replace(z=jnp.where(dropped, 0, point.z))
    size = jnp.where(
        status == Status.PRIMAL_INFEASIBLE,
        -(scaled.b @ point.z) / scaling.c,
        jnp.where(status == Status.DUAL_INFEASIBLE, -(scaled.q @ point.x) / scaling.c, point.tau),
    )
    x, s, z = scaling.unscale_point(*(v / jnp.where(size > 0, size, 1) for v in (point.x, point.s, point.z)))
    failed = ~finite
    x, s, z = (jnp.where(failed, jnp.nan, v) for v in (x, s, z))
    # the dropped rows have the slack of their infinite bound
    s = jnp.where(dropped & ~failed, given.b, s)
    objective = x @ program.quadratic(x) / 2 + program.q @ x
    objective = jnp.where(
        status == Status.PRIMAL_INFEASIBLE,
        jnp.inf,
        jnp.where(status == Status.DUAL_INFEASIBLE, -jnp.inf, objective),
    )
    measures = interior_point.measure(scaled, units, point)
    info = Info(
        num_iters=state.num_iters,
        primal_residual=jnp.where(status == Status.DUAL_INFEASIBLE, measures.dual_infeasible, measures.primal),
        dual_residual=jnp.where(status == Status.PRIMAL_INFEASIBLE, measures.primal_infeasible, measures.dual),
        gap=measures.gap,
        history=interior_point.history_of(state),
    )
    return ConeSolution(x, s, z, objective, status.astype(jnp.int32), info)


def _warm(program: ConeProgram, cold: Point, guess: tuple) -> Point:
    return cold
