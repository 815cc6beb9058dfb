"""One entry for every named problem: scale, run, unscale, and say what was proved."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax import active_set, interior_point, semidefinite_batch, semismooth
from convexjax.batches import chunk_of, in_chunks, in_slots
from convexjax.cone_program import ConeProgram, is_convex
from convexjax.embedding import Claims, Point, Units, measure, units_of, unpack
from convexjax.equilibration import Equilibration, equilibration
from convexjax.implicit import attach, attach_value, is_unique, sharpen
from convexjax.linear_algebra import scale_tangent, vary_like
from convexjax.options import Options
from convexjax.solution import Info, Status
from convexjax.stage_program import StageProgram


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
    return _differentiable(program, options, _solve(data, options, guess))


# ----------------------------------------------------------------------------- derivatives


def _differentiable(program: ConeProgram, options: Options, answer: ConeSolution) -> ConeSolution:
    """The answer as a function of the program. A lane without a solution is cut off from it on both sides."""
    solved = Status.SOLVED.holds(answer.status) | Status.ALMOST_SOLVED.holds(answer.status)
    weight = jnp.where(solved, 1, jnp.nan).astype(program.q.dtype)
    if options.failed_derivative == "nan":
        program = scale_tangent(program, weight)
    is_number = lambda leaf: jnp.issubdtype(leaf.dtype, jnp.floating)
    fill = lambda tree: jax.tree.map(lambda leaf: jnp.where(solved, leaf, 0.5) if is_number(leaf) else leaf, tree)
    filled, point, objective = fill(program), fill((answer.x, answer.s, answer.z)), fill(answer.objective)
    info = answer.info
    if options.check_derivative:
        data = jax.lax.stop_gradient(filled)
        scaling = equilibration(data, options.equilibrate)
        info = replace(info, derivative_unique=solved & is_unique(scaling.scale(data), scaling.scale_point(*point)))
    found = answer.x, answer.s, answer.z, answer.objective
    attached = _attach(options.equilibrate, options.derivative, filled, point, objective, options.smoothing)
    x, s, z, objective = (jnp.where(solved, new, old) for new, old in zip(attached, found, strict=True))
    answer = ConeSolution(x, s, z, objective, answer.status, info)
    return scale_tangent(answer, weight) if options.failed_derivative == "nan" else answer


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _attach(equilibrate: bool, derivative: str, program: ConeProgram, point: tuple, objective, smoothing) -> tuple:
    """(x, s, z, objective) as functions of `program`, in the user's units: `implicit.attach` in the solver's, with the
    scaling held fixed, for it cancels. Nothing is computed that is not differentiated."""
    return *point, objective


@_attach.defjvp
def _attach_jvp(equilibrate, derivative, primals, tangents):
    (program, point, objective, smoothing), (dprogram, *_) = primals, tangents
    scaling = equilibration(jax.lax.stop_gradient(program), equilibrate)
    scaled_point = scaling.scale_point(*point)
    mu = jnp.asarray(smoothing, program.q.dtype) * scaling.c if derivative == "smoothed" else None

    def of_program(program):
        scaled = scaling.scale(program)
        attached = attach(scaled, scaled_point, mu)
        value = attach_value(scaled, attached, objective * scaling.c) / scaling.c
        x, s, z = scaling.unscale_point(*attached)
        # the dropped rows have the slack of their infinite bound
        return x, jnp.where(scaling.dropped, point[1], s), z, value

    return jax.jvp(of_program, (program,), (dprogram,))


# ----------------------------------------------------------------------------- one program, and batches

# Lanes that the interior point steps together: fewer than fit, for each step takes as long as its slowest lane; and the
# fewest for which it pays to exchange those that have finished.
SLOTS, LEAST_SLOTS = 16, 4
# Matrices as large as Q that an optimal control problem keeps for each stage, few of them at a time in use.
STAGE_COPIES = 1.4


@jax.custom_batching.custom_vmap
def _solve(program: ConeProgram, options: Options, guess: tuple | None) -> ConeSolution:
    """One program by the interior point (by the active set first if that is asked for); a batch in chunks, small
    quadratic programs by the active set first."""
    if isinstance(program, StageProgram):
        return _newton_or_interior_point(program, options, guess)
    if options.method == "active_set" and _may_walk(program, options, guess):
        batch = jax.tree.map(lambda leaf: leaf[None], (program, options, guess))
        answers = _walk_lanes(jax.tree.map(lambda _: True, (program, options, guess)), batch, 1)
        return jax.tree.map(lambda leaf: leaf[0], answers)
    return _interior_point(program, options, guess)


@_solve.def_vmap
def _(lanes, batched, *data):
    batched = tuple(batched)
    program, *rest = jax.tree.map(
        lambda leaf, flag: jax.ShapeDtypeStruct(jnp.shape(leaf)[flag:], jnp.result_type(leaf)), data, batched
    )
    (m, n), size = program.A.shape, program.q.dtype.itemsize
    if isinstance(program, StageProgram):
        run, numbers = _newton_lanes, int(STAGE_COPIES * program.Q.size)
    elif _may_walk(program, *rest):
        run, numbers = _walk_lanes, m * m
    elif _is_small_semidefinite(program, *rest):
        run, numbers = _semidefinite_lanes, 1
    else:
        run, numbers = _interior_point_lanes, 2 * n * (m + n)
    chunk = chunk_of(size * numbers, lanes)
    on_cpu = jax.default_backend() == "cpu"
    few = isinstance(lanes, int) and min(chunk, SLOTS) < lanes
    # an exchange of lanes would take them from device to device
    exchange = on_cpu and few and chunk >= LEAST_SLOTS and jax.local_device_count() == 1 and not rest[0].verbose
    if run is _interior_point_lanes and exchange:
        answers = _interior_point_slots(batched, min(chunk, SLOTS), data, lanes)
    else:
        answers = in_chunks(partial(run, batched), data, batched, lanes, chunk)
    return answers, jax.tree.map(lambda _: True, answers)


def _may_walk(program: ConeProgram, options: Options, guess: tuple | None) -> bool:
    """Whether `active_set` may solve the program, as far as the structure says."""
    plain = guess is None and not options.verbose and not options.history
    return options.method != "interior_point" and plain and active_set.applies(program)


def _is_small_semidefinite(program: ConeProgram, options: Options, guess: tuple | None) -> bool:
    """Whether `semidefinite_batch` may solve the program, as far as the structure says."""
    plain = guess is None and not options.verbose and not options.history and not options.polish
    return options.method == "auto" and plain and semidefinite_batch.applies(program)


def _axes(batched):
    return jax.tree.map(lambda flag: 0 if flag else None, batched)


def _interior_point_lanes(batched: tuple, data: tuple, lanes: int) -> ConeSolution:
    return jax.vmap(_interior_point, _axes(batched), axis_size=lanes)(*data)


def _interior_point_slots(batched: tuple, slots: int, data: tuple, lanes: int) -> ConeSolution:
    """The same, with a new lane in the place of each that has finished."""
    of_lanes = lambda function, batched: lambda data, lanes: jax.vmap(function, _axes(batched), axis_size=lanes)(*data)
    start = in_chunks(of_lanes(_start, batched), data, batched, lanes, slots)
    every = lambda tree: jax.tree.map(lambda _: True, tree)
    program, options, _ = data

    def iterate(data, state):
        scaled, units, options = data
        return interior_point.iterate(scaled, units, options, state)

    options_of_lanes = jax.tree.map(
        lambda leaf, flag: leaf if flag else jnp.broadcast_to(leaf, (lanes, *jnp.shape(leaf))), options, batched[1]
    )
    given = start.scaled, start.units, options_of_lanes
    states = in_slots(iterate, interior_point.unfinished, given, start.state, slots)
    parts, flags = (program, options, start, states), (*batched[:2], every(start), every(states))
    return in_chunks(of_lanes(_finish, flags), parts, flags, lanes, slots)


def _walk_lanes(batched: tuple, data: tuple, lanes: int) -> ConeSolution:
    """Answers of a batch by the active set where they are proved, else by the interior point. `data` are the program,
    the options and no guess, `batched` says which of their leaves have lanes."""
    program, options, _ = data
    candidates = active_set.solve(program, batched[0], lanes, options.max_iters)
    return jax.vmap(_proved_or_interior_point, (*_axes(batched[:2]), 0))(program, options, candidates)


def _semidefinite_lanes(batched: tuple, data: tuple, lanes: int) -> ConeSolution:
    """Answers of a batch by the interior point for matrices where they are proved, else by that for all cones."""
    program, options, _ = data
    candidates = jax.vmap(semidefinite_batch.solve, _axes(batched[:2]), axis_size=lanes)(program, options)
    return jax.vmap(_proved_or_interior_point, (*_axes(batched[:2]), 0))(program, options, candidates)


def _newton_lanes(batched: tuple, data: tuple, lanes: int) -> ConeSolution:
    return jax.vmap(_newton_or_interior_point, _axes(batched), axis_size=lanes)(*data)


def _newton_or_interior_point(program: StageProgram, options: Options, guess: tuple | None) -> ConeSolution:
    """An optimal control problem by the semismooth Newton method where that is proved, else by the interior point."""
    if options.method == "interior_point" or options.verbose or options.history:
        return _interior_point(program, options, guess)
    return _proved_or_interior_point(program, options, semismooth.solve(program, options.max_iters, guess))


def _proved_or_interior_point(program: ConeProgram, options: Options, candidate: active_set.Candidate) -> ConeSolution:
    """The candidate, if it is proved. A loop of at most one round is what `vmap` skips if no lane needs it."""
    unscaled = equilibration(program, False)
    x, s, z, infeasible, steps = candidate
    one = jnp.ones((), program.q.dtype)
    s = jnp.where(unscaled.dropped, unscaled.b_dropped, s)
    _, claims = measure(unscaled.scale(program), units_of(unscaled), Point(x, s, z, one, 0 * one))
    tolerance, _, tolerance_infeasible = options.tolerances(one.dtype)
    solved = ~infeasible & (_error(claims) <= tolerance)
    # a certificate is relative to b, whose size the solver's units make one
    size_b = jnp.maximum(unscaled.b_dropped, 1)
    impossible = infeasible & (claims.primal_infeasible * size_b <= tolerance_infeasible)
    status = jnp.where(impossible, jnp.int32(Status.PRIMAL_INFEASIBLE), jnp.int32(Status.SOLVED))
    # a certificate is scaled so that its constant is -1
    constant = jnp.sum(jnp.where(z == 0, 0, -program.b * z))
    z = z / jnp.where(impossible, constant, 1)
    s = jnp.where(unscaled.dropped, program.b, s)
    answer = _answer((x, s, z), claims, claims.objective, status, steps, None)

    def solve_again(state):
        proved, _ = state
        # no program where none is needed; and what depends on the state XLA does not take out of the loop
        data = jax.tree.map(lambda leaf: jnp.where(proved, jnp.zeros_like(leaf), leaf), program)
        return proved | True, _interior_point(data, options, None, needed=~proved)

    start = vary_like((program, options, candidate), (solved | impossible, answer))
    return jax.lax.while_loop(lambda state: ~state[0], solve_again, start)[1]


# ----------------------------------------------------------------------------- the interior point


class Start(NamedTuple):
    """What the interior point begins with: the scaled program and the first state; and what Newton's method finds near
    a guess, if there is one."""

    scaling: Equilibration
    scaled: ConeProgram
    units: Units
    state: interior_point.State
    near: "Near | None"


def _interior_point(
    program: ConeProgram, options: Options, guess: tuple | None, needed: jax.Array | bool = True
) -> ConeSolution:
    """Scale, run, unscale. If not `needed`, no iteration is made, and the answer means nothing."""
    start = _start(program, options, guess, needed)
    return _finish(program, options, start, interior_point.run(start.scaled, start.units, options, start.state))


def _start(program: ConeProgram, options: Options, guess: tuple | None, needed: jax.Array | bool = True) -> Start:
    """Scale, and choose the first point."""
    scaling = equilibration(program, options.equilibrate)
    scaled, units = scaling.scale(program), units_of(scaling)
    point, near = interior_point.start(scaled), None
    if guess is not None:
        point, near = _warm(scaled, units, options, point, scaling.scale_point(*guess))
        needed = ~near.reached
    status = jnp.where(needed, jnp.int32(Status.UNSOLVED), jnp.int32(Status.SOLVED))
    # NaN in P makes its factor NaN, too, and is found by the loop
    convex = scaled.convexity > 0 if isinstance(scaled, StageProgram) else is_convex(scaled.P, scaling.size_P)
    convex = convex | ~jnp.isfinite(scaling.size_P)
    status = jnp.where(convex, status, jnp.int32(Status.NONCONVEX))
    return Start(scaling, scaled, units, interior_point.begin(scaled, options, point, status), near)


def _finish(program: ConeProgram, options: Options, start: Start, state: interior_point.State) -> ConeSolution:
    """What the last state proves, in the user's units."""
    scaling, scaled, units, _, near = start
    status = state.status
    failed = Status.NUMERICAL_ERROR.holds(status) & (state.num_iters == 0)
    primal_infeasible, dual_infeasible = Status.PRIMAL_INFEASIBLE.holds(status), Status.DUAL_INFEASIBLE.holds(status)
    is_certificate = primal_infeasible | dual_infeasible
    point = unpack(scaled, jnp.where(is_certificate, state.point, state.best))
    claims = Claims(*jnp.where(is_certificate, state.claims, state.best_claims))
    z = jnp.where(scaling.dropped, 0, point.z)
    # a certificate is scaled so that its constant is -1 in the user's units
    constant = jnp.where(primal_infeasible, -scaled.b @ z, -scaled.q @ point.x) / scaling.c
    size = jnp.where(is_certificate, constant, point.tau)
    size = jnp.where(failed, jnp.nan, size)
    x, s, z = point.x / size, point.s / size, z / size
    num_iters = state.num_iters
    if near is not None:
        num_iters += near.num_steps
        x, s, z, claims = jax.tree.map(
            lambda new, old: jnp.where(near.reached, new, old), (*near.point, near.claims), (x, s, z, claims)
        )
    if options.polish:
        x, s, z, claims, status = _polish(scaled, units, options, (x, s, z), claims, status)
    x, s, z = scaling.unscale_point(x, s, z)
    # the dropped rows have the slack of their infinite bound
    s = jnp.where(scaling.dropped, program.b, s)
    objective = jnp.where(failed, jnp.nan, claims.objective)
    return _answer((x, s, z), claims, objective, status, num_iters, interior_point.history_of(state.history))


def _answer(point: tuple, claims: Claims, objective, status, num_iters, history) -> ConeSolution:
    """What was found, with the residuals that belong to the status."""
    primal_infeasible, dual_infeasible = Status.PRIMAL_INFEASIBLE.holds(status), Status.DUAL_INFEASIBLE.holds(status)
    info = Info(
        num_iters=num_iters,
        primal_residual=jnp.where(dual_infeasible, claims.dual_infeasible, claims.primal),
        dual_residual=jnp.where(primal_infeasible, claims.primal_infeasible, claims.dual),
        gap=claims.gap,
        history=history,
    )
    objective = jnp.where(primal_infeasible, jnp.inf, jnp.where(dual_infeasible, -jnp.inf, objective))
    x, s, z = point
    return ConeSolution(x, s, z, objective, status, info)


def _error(claims: Claims) -> jax.Array:
    """The largest residual of a solution."""
    return jnp.maximum(jnp.maximum(claims.primal, claims.dual), claims.gap)


def _polish(program: ConeProgram, units: Units, options: Options, point: tuple, claims: Claims, status) -> tuple:
    """The sharpened point, its claims and status, if it is better than the point that was found."""
    solved = Status.SOLVED.holds(status) | Status.ALMOST_SOLVED.holds(status)
    one = jnp.ones((), program.q.dtype)
    sharp, _ = sharpen(program, jax.tree.map(lambda leaf: jnp.where(solved, leaf, 0), point), None)
    _, new_claims = measure(program, units, Point(sharp[0], sharp[1], sharp[2], one, 0 * one))
    better = solved & (_error(new_claims) < _error(claims))
    reached = better & (_error(new_claims) <= options.tolerances(one.dtype)[0])
    choose = lambda new, old: jax.tree.map(lambda a, b: jnp.where(better, a, b), new, old)
    status = jnp.where(reached, jnp.int32(Status.SOLVED), status)
    return *choose(sharp, point), choose(new_claims, claims), status


# ----------------------------------------------------------------------------- warm starts

# A guess with larger residuals is no better a start than none.
USEFUL_GUESS = 0.1
# Least distance of a warm start from the boundary: much closer, and the first steps are short.
LEAST_SHIFT = 1e-3
# Most Newton steps from a guess. One is enough where the guess tells which rows bind.
GUESS_STEPS = 3


class Near(NamedTuple):
    """What Newton's method finds near a guess, and whether it is the solution."""

    point: tuple
    claims: Claims
    reached: jax.Array
    num_steps: jax.Array


def _warm(program: ConeProgram, units: Units, options: Options, cold: Point, guess: tuple) -> tuple[Point, Near]:
    """Where to start with a guess (x, s, z), and the solution if a few Newton steps lead to it. The start is the guess,
    moved into the interior of the cone by as much as its residuals say that it is off; the cold start if the guess is
    not finite or too far off."""
    x, s, z = guess
    s, z = jnp.where(jnp.isfinite(s), s, program.b), jnp.where(jnp.isfinite(z), z, 0)
    guess = x, program.cone.project(s), program.cone.project_dual(z)

    def claims_of(point):
        x, s, z = point
        return measure(program, units, Point(x, s, z, cold.tau, jnp.zeros_like(cold.kappa)))[1]

    error = _error(claims_of(guess))
    useful = error < USEFUL_GUESS  # false for NaN

    sharp, num_steps = sharpen(program, guess, None, jnp.where(useful, jnp.int32(GUESS_STEPS), 0))
    claims = claims_of(sharp)
    near = Near(sharp, claims, useful & (_error(claims) <= options.tolerances(cold.tau.dtype)[0]), num_steps)

    better = _error(claims) < error
    (x, s, z), error = jax.tree.map(
        lambda new, old: jnp.where(better, new, old), (sharp, _error(claims)), (guess, error)
    )
    shift = jnp.maximum(error, LEAST_SHIFT)
    warm = Point(x, s + shift * cold.s, z + shift * cold.z, cold.tau, shift * cold.kappa)
    return jax.tree.map(lambda a, b: jnp.where(useful, a, b), warm, cold), near
