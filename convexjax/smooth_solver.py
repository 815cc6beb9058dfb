"""Solve a program given as functions: phases, statuses and what proves them, derivatives."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax import barrier, interior_point, matrix_free, newton, smooth_interior_point
from convexjax.batches import vmap_in_chunks
from convexjax.cone_program import ConeProgram
from convexjax.cones.product import ProductCone
from convexjax.embedding import Point, units_of
from convexjax.equilibration import Equilibration, equilibration
from convexjax.implicit import attach, attach_value, is_unique
from convexjax.linear_algebra import gate, scale_tangent, shifted, vary_like
from convexjax.options import Options
from convexjax.smooth_program import SmoothProgram
from convexjax.solution import Info, Status
from convexjax.solver import LEAST_SHIFT, USEFUL_GUESS, ConeSolution

# Most runs of the method: from the start, phase one, and from the point that it found.
ROUNDS = 3
# An inequality with so many times as much slack as others have at the start is far away.
FAR_AWAY = 100
# A ray counts as one of unbounded descent if f falls along it at half the rate or more so many times farther out. That
# is a test and no proof: of a function given as code nobody knows what it does farther out.
FAR = (1e4, 1e8, 1e12)


def solve(program: SmoothProgram, cone: ProductCone, x0: jax.Array, options: Options, guess: tuple | None):
    """Solve a smooth program; `cone` is the same product of cones with bounds for one variable more. `guess` is (s, z),
    to go with x0."""
    program, x0 = vary_like((program, x0), (program, x0))
    data, x0, guess, options = jax.lax.stop_gradient((program, x0, guess, options))
    return _differentiable(program, options, _run(data, cone, x0, options, guess))


@jax.custom_batching.custom_vmap
def _run(program: SmoothProgram, cone: ProductCone, x0, options: Options, guess: tuple | None) -> ConeSolution:
    """One program; a batch in chunks, as in `solver.py`."""
    search = _barrier if options.method == "barrier" else _search
    return search(program, cone, x0, options, guess)


@_run.def_vmap
def _(lanes, batched, *data):
    program = data[0]
    n, rows = program.A.shape[-1], program.cone.rows
    return vmap_in_chunks(_run.fun, data, batched, lanes, program.b.dtype.itemsize * 2 * n * (rows + n))


def _barrier(program: SmoothProgram, cone: ProductCone, x0, options: Options, guess) -> ConeSolution:
    """The barrier method."""
    state = barrier.run(program, options, x0)
    s, z = barrier.multipliers(program, state.x, state.y, state.mu)
    info = Info(
        num_iters=state.num_iters,
        primal_residual=state.claims[0],
        dual_residual=state.claims[1],
        gap=state.claims[2],
        history=interior_point.history_of(state.history),
    )
    return ConeSolution(state.x, s, z, state.claims[5], state.status, info)


# ----------------------------------------------------------------------------- derivatives


def _differentiable(program: SmoothProgram, options: Options, answer: ConeSolution) -> ConeSolution:
    """The answer as a function of the program. A lane without a solution is cut off from it on both sides."""
    solved = Status.SOLVED.holds(answer.status) | Status.ALMOST_SOLVED.holds(answer.status)
    weight = jnp.where(solved, 1, jnp.nan).astype(program.b.dtype)
    if options.failed_derivative == "nan":
        program = scale_tangent(program, weight)
    gated = gate(program, solved)
    found = answer.x, answer.s, answer.z, answer.objective
    point, info = found[:3], answer.info
    if options.check_derivative:
        scaled, scaling = _scaled(jax.lax.stop_gradient(program), point, options.equilibrate)
        info = replace(info, derivative_unique=solved & is_unique(scaled, scaling.scale_point(*point)))
    if program.hessian == "products":
        minimiser = matrix_free.attach_minimiser(gated, answer.x)
        attached = minimiser, answer.s, answer.z, gated.value(minimiser)
    else:
        attached = _attach(options.equilibrate, options.derivative, gated, point, answer.objective, options.smoothing)
    x, s, z, objective = (jnp.where(solved, new, old) for new, old in zip(attached, found, strict=True))
    answer = ConeSolution(x, s, z, objective, answer.status, info)
    return scale_tangent(answer, weight) if options.failed_derivative == "nan" else answer


def _scaled(program: SmoothProgram, point: tuple, equilibrate: bool) -> tuple[SmoothProgram, Equilibration]:
    """The program in the units of its model at a point, and these."""
    scaling = equilibration(program.linearized(point[0], point[2]), equilibrate)
    return replace(program, scaling=scaling), scaling


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _attach(equilibrate: bool, derivative: str, program: SmoothProgram, point: tuple, objective, smoothing) -> tuple:
    """(x, s, z, objective) as functions of `program`, as in `solver.py`."""
    return *point, objective


@_attach.defjvp
def _attach_jvp(equilibrate, derivative, primals, tangents):
    (program, point, objective, smoothing), (dprogram, *_) = primals, tangents
    _, scaling = _scaled(jax.lax.stop_gradient(program), point, equilibrate)
    scaled_point = scaling.scale_point(*point)
    mu = jnp.asarray(smoothing, program.b.dtype) * scaling.c if derivative == "smoothed" else None

    def of_program(program):
        scaled = replace(program, scaling=scaling)
        attached = attach(scaled, scaled_point, mu)
        value = attach_value(scaled, attached, objective * scaling.c) / scaling.c
        x, s, z = scaling.unscale_point(*attached)
        # the dropped rows have the slack of their infinite bound
        return x, jnp.where(scaling.dropped, point[1], s), z, value

    return jax.jvp(of_program, (program,), (dprogram,))


# ----------------------------------------------------------------------------- phases


class Search(NamedTuple):
    """Where the rounds stand, in the user's units."""

    rounds: jax.Array
    phase_one: jax.Array  # whether the next round is phase one
    x: jax.Array
    s: jax.Array
    z: jax.Array
    finished: jax.Array
    claims: jax.Array
    state: interior_point.State


def _search(program: SmoothProgram, cone: ProductCone, x0, options: Options, guess: tuple | None) -> ConeSolution:
    """Run the method from x0; if that fails, and there are constraints, run phase one, and then again from where that
    ends. All are rounds of one loop, so that they are compiled once."""
    n, dtype = x0.shape[0], x0.dtype
    phases = program.A.shape[0] + n * len(program.signs) < program.cone.rows
    central = (cone if phases else program.cone).start(dtype)
    one = jnp.ones((), dtype)
    size = n + 1 if phases else n

    def round_(search):
        extended, start, duals = program, search.x, central
        if phases:
            extended = replace(program, phase=search.phase_one, cone=cone)
            start = jnp.append(start, 0)
        local = extended.linearized(start, duals)
        scaling = equilibration(local, options.equilibrate, search.x)
        scaled, units = replace(extended, scaling=scaling), units_of(scaling)
        point = _central(scaling.scale(local), start / (scaling.beta * scaling.D), central)
        if guess is not None:
            s, z = (_with_t(v, n, len(program.signs)) if phases else v for v in guess)
            _, s, z = scaling.scale_point(start, s, z)
            warm = _warm(scaled, point, s, z)
            point = jax.tree.map(lambda a, b: jnp.where(search.rounds == 0, a, b), warm, point)
        before = search.state._replace(status=jnp.int32(Status.UNSOLVED))
        state = smooth_interior_point.run(scaled, units, options, point, before)
        status = state.status
        is_ray = Status.PRIMAL_INFEASIBLE.holds(status) | Status.DUAL_INFEASIBLE.holds(status)
        found = jnp.where(is_ray, state.point, state.best)
        m = central.shape[0]
        x, s, z, (tau, _) = jnp.split(found, (size, size + m, size + 2 * m))
        x, s, z = scaling.unscale_point(x / tau, s / tau, z / tau)
        z = jnp.where(scaling.dropped, 0, z)
        s = jnp.where(scaling.dropped, jnp.inf, s)
        t = jnp.zeros((), dtype)
        if phases:
            x, t = x[:-1], x[-1]
            s, z = (_without_t(v, n, len(program.signs)) for v in (s, z))
        return _after(program, phases, search, state, x, s, z, t)

    x0, finite = _start_in_domain(program, x0)
    impossible, z = _contradiction(program, x0, options.tolerances(dtype))
    status = jnp.where(impossible, jnp.int32(Status.PRIMAL_INFEASIBLE), jnp.int32(Status.UNSOLVED))
    begin = Point(jnp.append(x0, 0) if phases else x0, central, central, one, one)
    state = interior_point.begin(program, options, begin, status)
    x, s, claims = x0, program.cone.start(dtype), jnp.ones(6, dtype)
    search = Search(jnp.int32(0), jnp.array(phases) & ~finite, x, s, z, impossible, claims, state)
    if options.verbose:
        interior_point.print_header()
    if not program.cone.rows:
        if program.hessian == "products":
            x0 = matrix_free.descend(program, options, x0)
        state = newton.run(program, options, state._replace(point=x0, best=x0))
        return _answer(program, search._replace(x=state.best, claims=state.best_claims, state=state), options)
    search = jax.lax.while_loop(
        lambda search: ~search.finished & (search.rounds < ROUNDS), round_, vary_like((program, x0), search)
    )
    return _answer(program, search, options)


def _contradiction(program: SmoothProgram, x0, tolerances) -> tuple[jax.Array, jax.Array]:
    """Whether the equations contradict each other, or a bound is infinite on the wrong side; and multipliers z that
    prove it.

    The part of b that no A x reaches is the limit of y_k+1 = delta (A A' + delta I)^-1 y_k from y_0 = b. It is zero
    times A, and -y'(Ax - b) = |y|^2 for all x.
    """
    A, b, dtype = program.A, program.b, program.b.dtype
    impossible, rows = jnp.array(False), jnp.zeros(0, dtype)
    if b.shape[0]:
        norms = jnp.linalg.norm(A, axis=1)
        norms = jnp.where(norms > 0, norms, 1)
        A, b = A / norms[:, None], b / norms
        delta = jnp.finfo(dtype).eps ** 0.6
        factor = jnp.linalg.cholesky(shifted(A @ A.T, delta), symmetrize_input=False)
        y = jax.lax.fori_loop(0, 8, lambda _, y: delta * jax.scipy.linalg.cho_solve((factor, True), y), b)
        solved, _, infeasible = tolerances
        largest = lambda v: jnp.max(jnp.abs(v), initial=0)
        change = jnp.sum(jnp.abs(y @ A) * jnp.maximum(jnp.abs(x0), 1))
        impossible = (largest(y) > 2 * solved * largest(b)) & (change < infeasible / 2 * (y @ b))
        rows = -y / norms
    z = program.cone.to_solver(jnp.concatenate([rows, jnp.zeros(program.cone.rows - rows.shape[0], dtype)]))
    endless = _endless(program)
    return impossible | jnp.any(endless), z


def _endless(program: SmoothProgram) -> jax.Array:
    """Which rows are bounds that no number satisfies: inf below or -inf above."""
    general = program.cone.rows - sum(side.shape[0] for side in program.bounds)
    return jnp.concatenate([jnp.zeros(general, bool), *(side == -jnp.inf for side in program.bounds)])


def _central(model: ConeProgram, x, central) -> Point:
    """A start on the central path of mu = 1: inequalities that are far away have a slack of that order."""
    slack = jnp.maximum((model.b - model.A.matvec(x)) / FAR_AWAY, 1)
    slack = jnp.where(jnp.asarray(model.cone.is_inequality()), slack, 1)
    one = jnp.ones((), x.dtype)
    return Point(x, central * slack, central / slack, one, one)


def _without_t(v, n, sides):
    """Rows without those of the bounds of t."""
    parts = jnp.split(v, [v.shape[0] - (n + 1) * (sides - i) for i in range(sides)]) if sides else [v]
    return jnp.concatenate([parts[0], *(part[:-1] for part in parts[1:])])


def _with_t(v, n, sides):
    """Rows with those of the bounds of t, which have no effect."""
    parts = jnp.split(v, [v.shape[0] - n * (sides - i) for i in range(sides)]) if sides else [v]
    return jnp.concatenate([parts[0], *(jnp.append(part, 0) for part in parts[1:])])


def _is_finite(program: SmoothProgram, x) -> jax.Array:
    """Whether f, its gradient and h are."""
    value, gradient = jax.value_and_grad(program.value)(x)
    return jnp.isfinite(value) & jnp.all(jnp.isfinite(gradient)) & _has_rows(program, x)


def _has_rows(program: SmoothProgram, x) -> jax.Array:
    return jnp.all(jnp.isfinite(program.constraints(x, program.params)))


def _start_in_domain(program: SmoothProgram, x0) -> tuple[jax.Array, jax.Array]:
    """x0, or if the functions are not finite there, the first of a few other points where they are, or at least the
    constraints; and whether all are."""
    sides = dict(zip(program.signs, program.bounds, strict=True))
    low, high = -sides.get(-1, jnp.full_like(x0, jnp.inf)), sides.get(1, jnp.full_like(x0, jnp.inf))
    inside = jnp.where(jnp.isfinite(high - low), (low + high) / 2, jnp.clip(x0, low + 1, high - 1))
    ones = jnp.ones_like(x0)
    candidates = jnp.stack([x0, inside, ones, 0.1 * ones, 10 * ones, 0.01 * ones, 0 * ones, -ones])

    def attempt(search):
        k, x, level = search
        candidate = candidates[k]
        all_finite, has_rows = _is_finite(program, candidate), _has_rows(program, candidate)
        new = jnp.where(all_finite, 2, jnp.where(has_rows, 1, 0))
        return k + 1, jnp.where(new > level, candidate, x), jnp.maximum(new, level)

    start = vary_like((program, x0), (jnp.int32(0), x0, jnp.asarray(0)))
    unfinished = lambda search: (search[0] < candidates.shape[0]) & (search[2] < 2)
    _, x, level = jax.lax.while_loop(unfinished, attempt, start)
    return x, level == 2


def _warm(scaled: SmoothProgram, cold: Point, s, z) -> Point:
    """The guess, moved into the interior of the cone by as much as its residuals say that it is off; the cold start if
    it is too far off."""
    s, z = jnp.where(jnp.isfinite(s), s, cold.s), jnp.where(jnp.isfinite(z), z, 0)
    s, z = scaled.cone.project(s), scaled.cone.project_dual(z)
    off = smooth_interior_point.sizes(scaled, Point(cold.x, s, z, cold.tau, 0 * cold.kappa))
    shift = jnp.maximum(jnp.max(off), LEAST_SHIFT)
    warm = Point(cold.x, s + shift * cold.s, z + shift * cold.z, cold.tau, shift * cold.kappa)
    useful = jnp.max(off) < USEFUL_GUESS  # false for NaN
    return jax.tree.map(lambda a, b: jnp.where(useful, a, b), warm, cold)


def _after(program, phases, search, state, x, s, z, t) -> Search:
    """What follows a round."""
    status = state.status
    solved = Status.SOLVED.holds(status) | Status.ALMOST_SOLVED.holds(status)
    in_main = ~search.phase_one
    failed = Status.NUMERICAL_ERROR.holds(status)
    # after phase one with t < 0: once more from there; with t > 0 its multipliers are a certificate
    feasible = solved & (t <= 0)
    infeasible = solved & (t > 0)
    found_start = search.phase_one & feasible
    first = search.rounds == 0
    try_phase_one = in_main & failed & first & jnp.array(phases)
    go_on = found_start | try_phase_one
    no_start = search.phase_one & ~found_start
    status = jnp.where(search.phase_one & infeasible, jnp.int32(Status.PRIMAL_INFEASIBLE), status)
    keep = Status.PRIMAL_INFEASIBLE.holds(status) | Status.MAX_ITERATIONS.holds(status)
    status = jnp.where(no_start & ~keep, jnp.int32(Status.NUMERICAL_ERROR), status)
    return search._replace(
        rounds=search.rounds + 1,
        phase_one=try_phase_one,
        x=jnp.where(try_phase_one, search.x, x),
        s=s,
        z=z,
        finished=~go_on,
        claims=jnp.where(Status.DUAL_INFEASIBLE.holds(status), state.claims, state.best_claims),
        state=state._replace(status=status),
    )


# ----------------------------------------------------------------------------- what was proved


def _answer(program: SmoothProgram, search: Search, options: Options) -> ConeSolution:
    """The end of the search in the user's units; certificates are checked with the user's functions, and scaled."""
    x, s, z, status, claims = search.x, search.s, search.z, search.state.status, search.claims
    tolerance = options.tolerances(x.dtype)[2]
    unbounded = Status.DUAL_INFEASIBLE.holds(status)

    def look(times):
        """f and its slope along x, z'h with its gradient, and how far h is from the cone, so many times farther out."""
        far = jnp.where(unbounded, times * x, x)
        value, gradient = jax.value_and_grad(program.value)(far)
        rows, pullback = jax.vjp(program.rows, far)
        rows = jnp.where(jnp.isfinite(rows), rows, 0)
        off = jnp.max(jnp.abs(rows + program.cone.project(-rows)), initial=0)
        holds = off <= tolerance * jnp.max(jnp.abs(far), initial=0)
        return value, -gradient @ x, z @ rows, pullback(z)[0], holds

    value, rate, constant, slope, holds = jax.vmap(look)(jnp.asarray((1, *FAR), x.dtype))
    value, constant, slope = value[0], constant[0], slope[0]
    # z'h(x) > 0 with a gradient of zero in x:
    # at the distance d from x the sum may have fallen to constant - |slope| d: positive far beyond the size of x
    change = jnp.sum(jnp.abs(slope) * jnp.maximum(jnp.abs(x), 1))
    primal_certificate = change / jnp.where(constant > 0, constant, jnp.nan)
    primal_infeasible = Status.PRIMAL_INFEASIBLE.holds(status)
    # a bound that no number satisfies proves itself
    endless = _endless(program)
    impossible = primal_infeasible & jnp.any(endless)
    primal_certificate = jnp.where(impossible, 0, primal_certificate)
    proved = primal_infeasible & (primal_certificate <= tolerance)
    status = jnp.where(primal_infeasible & ~proved, jnp.int32(Status.NUMERICAL_ERROR), status)
    z = jnp.where(impossible, endless.astype(z.dtype), jnp.where(proved, z / constant, z))
    # x is far out along a ray: f falls at half the rate or more much farther out, where the constraints still hold
    falls = (rate[0] > 0) & jnp.all((rate[1:] >= rate[0] / 2) & holds[1:])
    status = jnp.where(unbounded & ~falls, jnp.int32(Status.NUMERICAL_ERROR), status)
    unbounded &= falls
    x = jnp.where(unbounded, x / jnp.where(rate[0] > 0, rate[0], 1), x)
    info = Info(
        num_iters=search.state.num_iters,
        primal_residual=jnp.where(unbounded, claims[4], claims[0]),
        dual_residual=jnp.where(proved, primal_certificate, claims[1]),
        gap=claims[2],
        history=interior_point.history_of(search.state.history),
    )
    objective = jnp.where(proved, jnp.inf, jnp.where(unbounded, -jnp.inf, value))
    return ConeSolution(x, s, z, objective, status, info)
