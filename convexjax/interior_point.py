"""The interior-point method: Nesterov-Todd or primal-dual scaling, predictor and corrector.

It follows the central path `s = -mu grad f*(z), tau kappa = mu` of the homogeneous embedding (`embedding.py`) while the
residuals shrink with mu. A direction (dx, ds, dz, dtau, dkappa) towards sigma mu solves the linearised embedding with
right-hand sides -(1 - sigma) r and

    ds + H dz = -(s + correction),    kappa dtau + tau dkappa = -(tau kappa + dtau_p dkappa_p - sigma mu),

first with sigma = 0 (predictor), then with sigma = (1 - step)^2 and the second-order terms of the predictor (Mehrotra).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convexjax import kkt
from convexjax.cone_program import ConeProgram
from convexjax.embedding import Claims, Point, Residuals, Units, measure, pack, unpack
from convexjax.linear_algebra import reductions, vary_like
from convexjax.options import Options
from convexjax.solution import History, Status

# Fraction of the way to the boundary.
FRACTION = 0.99
# Most steps of refinement of a linear solve while the iterations make progress, and while they do not, until STALLING
# such iterations; by dtype. In a batch every lane waits for the refinement of all.
REFINEMENT_STEPS, STALLING = {"float64": (1, 3), "float32": (10, 10)}, 5
# Iterations without progress of any claim after which the method ends.
PATIENCE = 15


class State(NamedTuple):
    """What the loop carries."""

    point: jax.Array  # packed
    claims: jax.Array  # `Claims` as one array
    best: jax.Array  # packed point of the smallest error so far, and its claims
    best_claims: jax.Array
    records: jax.Array  # (4,) smallest error, certificate residuals and mu so far
    idle: jax.Array  # iterations since a record was last improved
    boost: jax.Array  # of the regularisation
    step: jax.Array
    num_iters: jax.Array
    status: jax.Array
    history: jax.Array  # (options.history, 5)


# ----------------------------------------------------------------------------- one iteration


def start(program: ConeProgram) -> Point:
    """The point of the central path that is its own shadow: s = z, tau = kappa = 1."""
    dtype = program.q.dtype
    central = program.cone.start(dtype)
    one = jnp.ones((), dtype)
    return Point(jnp.zeros_like(program.q), central, central, one, one)


def direction(
    program: ConeProgram,
    point: Point,
    at: Residuals,
    boost: jax.Array,
    refinement_steps: jax.Array | int,
    aim: Callable | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The corrected direction, packed, and the largest step along it. `aim` of sigma is the share of the residuals to
    remove and that of mu to keep, if they are not 1 - sigma and sigma.

    With K = [P A'; A -H] and d1 = K^-1 [-q; b], a direction is d2 + dtau d1. The three solves, for d1, for the
    predictor's d2 and for the corrector's, are rounds of one loop, so that they are compiled once.
    """
    cone, q, b, n = program.cone, program.q, program.b, program.q.shape[0]
    _, s, z, tau, kappa = point
    scaling = cone.scaling(s, z)
    factor = kkt.factor(program, scaling, boost)
    xi, P_xi = point.x / tau, at.Px / tau
    # errors of the linear solves end up in the residuals, which have to fall by much less than this
    target = 1e-3 * at.size
    constant = jnp.concatenate([-q, b])
    gradient = jnp.concatenate([q + 2 * P_xi, b])  # of the objective row with respect to (x, z)

    one = vary_like((program, point), jnp.ones((), q.dtype))

    def round_(i, carry):
        previous, step, *constant_solve = carry
        first = i == 0
        previous = unpack(program, previous)
        sigma = (1 - step) ** 2
        keep = 1 - sigma
        if aim is not None:
            keep, sigma = (jnp.where(i == 2, new, old) for new, old in zip(aim(sigma), (keep, sigma), strict=True))
        sigma_mu = sigma * at.mu
        d_s = s + cone.correction(scaling, s, z, previous.s, previous.z, sigma_mu)
        d_kappa = tau * kappa + previous.tau * previous.kappa - sigma_mu
        right = jnp.concatenate([-keep * at.r_x, d_s - keep * at.r_z])
        d2, e = kkt.solve(program, factor, jnp.where(first, constant, right), target, refinement_steps)
        x2, z2 = d2[:n], d2[n:]
        Hz2 = cone.hessian(scaling, z2)
        # -(q + 2 P xi)'x1 - b'z1 + xi'P xi without cancellation: |xi - x1|_P^2 + z1'H z1, and what the error e leaves
        # of it. e does not vanish if K is singular and (-q, b) not in its range, as in many infeasible programs.
        off = xi - x2
        curved = jnp.concatenate([off * program.quadratic(off) + e[:n] * x2, z2 * (Hz2 - e[n:])])
        curvature, slope = reductions((curved, gradient * d2))
        d1, Hz1, curvature = (
            jnp.where(first, new, old) for new, old in zip((d2, Hz2, curvature), constant_solve, strict=True)
        )
        dtau = (keep * at.r_tau - d_kappa / tau + slope) / (kappa / tau + curvature)
        d = d2 + dtau * d1
        dx, dz = d[:n], d[n:]
        ds = cone.choose_slack(b * dtau - keep * at.r_z - program.A.matvec(dx), -d_s - Hz2 - dtau * Hz1)
        dkappa = -(d_kappa + kappa * dtau) / tau
        scalars = jnp.maximum(1, jnp.maximum(-dtau / tau, -dkappa / kappa))
        to_boundary = jax.lax.cond(first, lambda: one, lambda: cone.max_step(scaling, s, z, ds, dz))
        step = jnp.minimum(to_boundary, 1 / scalars)
        along = pack(Point(dx, ds, dz, dtau, dkappa))
        # before the predictor: no direction, and sigma = (1 - 1)^2 = 0
        return jnp.where(first, 0, along), jnp.where(first, 1, step), d1, Hz1, curvature

    nothing = (jnp.zeros(n + 2 * b.shape[0] + 2, q.dtype), one, jnp.zeros_like(constant), jnp.zeros_like(b), one)
    along, step, *_ = jax.lax.fori_loop(0, 3, round_, vary_like((program, point), nothing))
    return along, FRACTION * step


def move(program: ConeProgram, options: Options, state: State, point: Point, at: Residuals) -> State:
    """Step to the next point. A direction that is not finite, or leads nowhere, is tried again with more
    regularisation."""
    limits = (*REFINEMENT_STEPS[program.q.dtype.name], options.refinement_steps)
    few, some, most = (np.int32(min(steps, options.refinement_steps)) for steps in limits)
    refinement_steps = jnp.where(state.idle == 0, few, jnp.where(state.idle < STALLING, some, most))
    along, step = direction(program, point, at, state.boost, refinement_steps)
    moved = state.point + step * along
    useful = step > 1e-10  # false for NaN
    return state._replace(
        point=jnp.where(useful, moved, state.point),
        boost=jnp.where(useful, jnp.maximum(state.boost / 10, 1), state.boost * 100),
        step=jnp.where(useful, step, 0),
        num_iters=state.num_iters + 1,
    )


def judge(options: Options, tolerances: jax.Array, state: State, mu: jax.Array) -> State:
    """Update best point, records and status after `state.claims` have been measured."""
    solved, almost, infeasible = tolerances
    error = jnp.maximum(jnp.maximum(state.claims[0], state.claims[1]), state.claims[2])
    valid = ~jnp.isnan(error)
    error = jnp.where(valid, error, jnp.inf)
    records = jnp.stack([error, state.claims[3], state.claims[4], jnp.maximum(mu, jnp.finfo(mu.dtype).eps ** 1.25)])
    idle = jnp.where(jnp.min(records / state.records) < 0.9, 0, state.idle + 1)
    better = error < state.records[0]
    lowest = jnp.minimum(records, state.records)
    # a start that is not finite comes from such data
    stuck = (idle >= PATIENCE) | (state.boost > 1e12) | ((state.num_iters == 0) & ~valid)
    exhausted = state.num_iters >= jnp.asarray(options.max_iters).astype(jnp.int32)
    finished = (lowest[0] <= solved) & ((state.records[0] <= solved) | (lowest[0] <= 0.01 * solved) | stuck | exhausted)
    outcomes = [
        # once more after the tolerance is reached: the last steps gain two digits each, and leave the rest of the
        # claims (signs, complementarity, the objective's own digits) well inside their tolerances
        (finished, Status.SOLVED),
        (records[1] <= infeasible, Status.PRIMAL_INFEASIBLE),
        (records[2] <= infeasible, Status.DUAL_INFEASIBLE),
        ((stuck | exhausted) & (lowest[0] <= almost), Status.ALMOST_SOLVED),
        (stuck, Status.NUMERICAL_ERROR),
        (exhausted, Status.MAX_ITERATIONS),
    ]
    status = jnp.int32(Status.UNSOLVED)
    for happened, outcome in reversed(outcomes):
        status = jnp.where(happened, jnp.int32(outcome), status)
    return state._replace(
        best=jnp.where(better, state.point, state.best),
        best_claims=jnp.where(better, state.claims, state.best_claims),
        records=lowest,
        idle=idle,
        status=status,
    )


def begin(program, options: Options, point: Point, status: jax.Array) -> State:
    """The state before the first iteration from `point`; if `status` is not UNSOLVED, none is made."""
    state = begin_at(pack(point), options, status)
    return vary_like((program, state), state)


def begin_at(vector: jax.Array, options: Options, status: jax.Array) -> State:
    """The same of a packed point of any method."""
    dtype = vector.dtype
    return State(
        point=vector,
        claims=jnp.ones(6, dtype),
        best=vector,
        best_claims=jnp.ones(6, dtype),
        records=jnp.full(4, jnp.finfo(dtype).max, dtype),
        idle=jnp.int32(0),
        boost=jnp.ones((), dtype),
        step=jnp.zeros((), dtype),
        num_iters=jnp.int32(0),
        status=status,
        history=jnp.full((options.history, 5), jnp.nan, dtype),
    )


def unfinished(state: State) -> jax.Array:
    """Whether there is something left to prove."""
    return Status.UNSOLVED.holds(state.status)


def iterate(program: ConeProgram, units: Units, options: Options, state: State) -> State:
    """One iteration: measure, judge, and if that does not end it, step."""
    point = unpack(program, state.point)
    at, claims = measure(program, units, point)
    tolerances = options.tolerances(program.q.dtype)
    state = judge(options, tolerances, state._replace(claims=jnp.stack(claims)), at.mu)
    state = recorded(options, state, at.mu)
    return jax.lax.cond(
        unfinished(state), lambda state: move(program, options, state, point, at), lambda state: state, state
    )


def recorded(options: Options, state: State, mu: jax.Array) -> State:
    """The state with its row of the history; printed, if that is wanted."""
    if options.history:
        row = jnp.concatenate([state.claims[:3], mu[None], state.step[None]])
        state = state._replace(history=state.history.at[state.num_iters].set(row, mode="drop"))
    if options.verbose:
        print_row(state, mu)
    return state


def run(program: ConeProgram, units: Units, options: Options, state: State) -> State:
    """Iterate until a claim is proved or none can be."""
    if options.verbose:
        print_header()
    return jax.lax.while_loop(unfinished, lambda state: iterate(program, units, options, state), state)


# ----------------------------------------------------------------------------- what people see


def history_of(rows: jax.Array) -> History | None:
    """The recorded iterations by name, from `State.history`."""
    if not rows.shape[0]:
        return None
    names = ("primal_residual", "dual_residual", "gap", "mu", "step")
    return History(**{name: rows[:, i] for i, name in enumerate(names)})


def print_header() -> None:
    """Head of the table of `options.verbose`."""
    jax.debug.print(" iter   primal     dual       gap        mu         step     objective", ordered=False)


def print_row(state: State, mu: jax.Array) -> None:
    """One row of the table of `options.verbose`."""
    claims = Claims(*state.claims)
    jax.debug.print(
        "{i:5d}   {p:.2e}   {d:.2e}   {g:.2e}   {mu:.2e}   {step:.4f}   {f:+.8e}",
        i=state.num_iters,
        p=claims.primal,
        d=claims.dual,
        g=claims.gap,
        mu=mu,
        step=state.step,
        f=claims.objective,
    )
