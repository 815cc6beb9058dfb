"""The interior-point method: homogeneous embedding, Nesterov-Todd or primal-dual scaling, predictor and corrector.

Homogeneous embedding of a cone program with a quadratic objective (Goulart and Chen, arXiv:2405.12762, section 3): find
s in K, z in K*, tau, kappa >= 0 with

    P x + A'z + q tau = 0                                       r_x
    A x + s - b tau = 0                                         r_z
    kappa + x'P x / tau + q'x + b'z = 0                         r_tau

tau > 0 gives a solution (x, s, z)/tau, kappa > 0 a certificate of infeasibility. The method follows the central path
`s = -mu grad f*(z), tau kappa = mu` while the residuals shrink with mu. A direction (dx, ds, dz, dtau, dkappa) towards
sigma mu solves the linearisation with right-hand sides -(1 - sigma) r and

    ds + H dz = -(s + correction),    kappa dtau + tau dkappa = -(tau kappa + dtau_p dkappa_p - sigma mu),

first with sigma = 0 (predictor), then with sigma = (1 - step)^2 and the second-order terms of the predictor (Mehrotra).
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax import kkt
from convexjax.cone_program import ConeProgram
from convexjax.equilibration import Equilibration
from convexjax.linear_algebra import max_abs
from convexjax.options import Options
from convexjax.solution import History, Status

# Fraction of the way to the boundary.
FRACTION = 0.99
# Iterations without progress of any claim after which the method ends.
PATIENCE = 15


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
    """Residuals of the embedding at a point, and the products they are made of."""

    r_x: jax.Array
    r_z: jax.Array
    r_tau: jax.Array
    mu: jax.Array
    Px: jax.Array
    Atz: jax.Array
    Ax: jax.Array
    xPx: jax.Array
    qx: jax.Array
    bz: jax.Array


class State(NamedTuple):
    """What the loop carries."""

    point: jax.Array  # packed
    claims: jax.Array  # how far each claim is from being proved (`claims`)
    best: jax.Array  # packed point of the smallest error so far, and its claims
    best_claims: jax.Array
    records: jax.Array  # (3,) smallest error and certificate residuals so far
    idle: jax.Array  # iterations since a record was last improved
    boost: jax.Array  # of the regularisation
    step: jax.Array
    num_iters: jax.Array
    status: jax.Array
    history: jax.Array  # (options.history, 5)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Units:
    """What counts as size one, in the solver's units (see `equilibration`)."""

    x: jax.Array  # one unit of the user's x, z and objective
    z: jax.Array
    objective: jax.Array
    rows: jax.Array  # (m,) and (n,): primal and dual residuals in the user's units, times beta and 1 / (c beta)
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
        rows=1 / scaling.E,
        columns=1 / scaling.D,
        P=scaling.size_P,
        no_q=scaling.no_q.astype(dtype),
        no_b=scaling.no_b.astype(dtype),
    )


# ----------------------------------------------------------------------------- residuals and claims


def residuals_at(program: ConeProgram, point: Point) -> Residuals:
    """Residuals of the embedding."""
    x, s, z, tau, kappa = point
    Px, Atz, Ax = program.quadratic(x), program.A.rmatvec(z), program.A.matvec(x)
    xPx, qx, bz = x @ Px, program.q @ x, program.b @ z
    return Residuals(
        r_x=Px + Atz + program.q * tau,
        r_z=Ax + s - program.b * tau,
        r_tau=kappa + xPx / tau + qx + bz,
        mu=(s @ z + tau * kappa) / (program.cone.degree + 1),
        Px=Px,
        Atz=Atz,
        Ax=Ax,
        xPx=xPx,
        qx=qx,
        bz=bz,
    )


def claims(program: ConeProgram, units: Units, point: Point, at: Residuals) -> jax.Array:
    """Relative primal residual, dual residual and gap of x/tau, s/tau, z/tau, and of z and x as certificates of primal
    and dual infeasibility (inf for a wrong sign).

    A residual is the larger of two measures. Row by row, relative to the terms of the row itself, which no scaling of rows
    or columns changes; rows whose terms all vanish have a floor, the size of x (of z) or one unit, but never more than
    the largest term of all rows nor less than 1e-6 of it: a row of large numbers elsewhere does not loosen this one. And
    in the user's units, the largest residual relative to the largest term and to one.
    """
    x, s, z, tau, _ = point
    unit_x, unit_z = units.x * tau, units.z * tau
    terms_x = jnp.maximum(jnp.maximum(jnp.abs(at.Px), jnp.abs(at.Atz)), jnp.abs(program.q * tau))
    terms_z = jnp.maximum(jnp.maximum(jnp.abs(at.Ax), jnp.abs(s)), jnp.abs(program.b * tau))
    norm_x, size_x, size_Px, size_Atz, user_r_x, user_x = _max_rows(
        terms_x, x, at.Px, at.Atz, units.columns * at.r_x, units.columns * terms_x
    )
    norm_z, size_z, size_ray, user_r_z, user_z = _max_rows(
        terms_z, z, at.Ax + s, units.rows * at.r_z, units.rows * terms_z
    )

    floor_z = jnp.minimum(jnp.maximum(jnp.maximum(size_x, unit_x), 1e-6 * norm_z), norm_z)
    floor_x = jnp.minimum(jnp.maximum(jnp.maximum(size_z, unit_z), 1e-6 * norm_x), norm_x)
    # a scale for when every term vanishes at the solution
    floor_z = jnp.maximum(floor_z, 1e-4 * units.no_b * tau)
    floor_x = jnp.maximum(floor_x, 1e-4 * jnp.maximum(units.P * size_x, units.no_q * tau))
    primal = jnp.maximum(_max_ratio(at.r_z, terms_z, floor_z), user_r_z / jnp.maximum(user_z, unit_x))
    dual = jnp.maximum(_max_ratio(at.r_x, terms_x, floor_x), user_r_x / jnp.maximum(user_x, unit_z))

    # objective values times tau^2, and their gap beyond the rounding errors of the terms
    primal_objective, dual_objective = at.xPx / 2 + at.qx * tau, -at.xPx / 2 - at.bz * tau
    terms = jnp.maximum(jnp.abs(at.qx * tau), jnp.abs(at.xPx))
    rounding = 100 * jnp.finfo(x.dtype).eps * terms
    floor = jnp.minimum(units.objective * tau**2, terms)
    absolute = jnp.maximum(1e-6 * units.P * size_x**2, 1e-4 * units.no_q * tau**2)
    gap = jnp.maximum(jnp.abs(primal_objective - dual_objective) - rounding, 0) / jnp.maximum(
        jnp.maximum(jnp.abs(primal_objective), jnp.abs(dual_objective)), jnp.maximum(floor, absolute)
    )
    certificate = lambda residual, constant: jnp.where(constant < 0, residual / jnp.abs(constant), jnp.inf)
    return jnp.stack(
        [
            primal,
            dual,
            gap,
            certificate(size_Atz * units.x, at.bz),
            certificate(jnp.maximum(size_Px, size_ray) * units.z, at.qx),
        ]
    )


def _max_rows(*vectors):
    """Largest absolute entry of each vector, in one reduction."""
    return jnp.max(jnp.abs(jnp.stack(vectors)), 1, initial=0)


def _max_ratio(residual, terms, floor):
    return jnp.max(jnp.abs(residual) / jnp.maximum(jnp.maximum(terms, floor), jnp.finfo(floor.dtype).tiny), initial=0)


# ----------------------------------------------------------------------------- one iteration


def start(program: ConeProgram) -> Point:
    """The point of the central path that is its own shadow: s = z, tau = kappa = 1."""
    dtype = program.q.dtype
    central = program.cone.start(dtype)
    one = jnp.ones((), dtype)
    return Point(jnp.zeros_like(program.q), central, central, one, one)


def direction(
    program: ConeProgram, point: Point, at: Residuals, boost: jax.Array, refinement_steps: int
) -> tuple[jax.Array, jax.Array]:
    """The corrected direction, packed, and the largest step along it.

    Predictor and corrector are two rounds of one loop, so that they are compiled once.
    """
    cone, q, b, n = program.cone, program.q, program.b, program.q.shape[0]
    _, s, z, tau, kappa = point
    scaling = cone.scaling(s, z)
    factor = kkt.factor(program, scaling, boost)
    xi = point.x / tau
    gradient = q + 2 * (at.Px / tau)  # of the objective row with respect to x
    # errors of the linear solves end up in the residuals, which have to fall by much less than this
    target = 1e-3 * jnp.max(jnp.abs(jnp.concatenate([at.r_x, at.r_z])), initial=0)

    def round_(_, carry):
        previous, step = carry
        previous = unpack(program, previous)
        sigma = (1 - step) ** 2
        keep, sigma_mu = 1 - sigma, sigma * at.mu
        d_s = s + cone.correction(scaling, s, z, previous.s, previous.z, sigma_mu)
        d_kappa = tau * kappa + previous.tau * previous.kappa - sigma_mu
        right = jnp.stack(
            [jnp.concatenate([-q, b]), jnp.concatenate([-keep * at.r_x, d_s - keep * at.r_z])], 1
        )
        d1, d2 = kkt.solve(program, factor, right, target, refinement_steps).T
        x1, z1 = d1[:n], d1[n:]
        # kappa/tau - (q + 2 P xi)'x1 - b'z1 + xi'P xi without cancellation
        off = x1 - xi
        denominator = kappa / tau + off @ program.quadratic(off) + z1 @ cone.hessian(scaling, z1)
        dtau = (keep * at.r_tau - d_kappa / tau + jnp.concatenate([gradient, b]) @ d2) / denominator
        d = d2 + dtau * d1
        dx, dz = d[:n], d[n:]
        ds = cone.choose_slack(b * dtau - keep * at.r_z - program.A.matvec(dx), -d_s - cone.hessian(scaling, dz))
        dkappa = -(d_kappa + kappa * dtau) / tau
        scalars = jnp.maximum(1, jnp.maximum(-dtau / tau, -dkappa / kappa))
        step = jnp.minimum(cone.max_step(scaling, s, z, ds, dz), 1 / scalars)
        return pack(Point(dx, ds, dz, dtau, dkappa)), step

    # sigma = (1 - 1)^2 = 0 and no second-order terms in the first round
    first = (jnp.zeros(n + 2 * b.shape[0] + 2, q.dtype), jnp.ones((), q.dtype))
    along, step = jax.lax.fori_loop(0, 2, round_, first)
    return along, FRACTION * step


def move(program: ConeProgram, options: Options, state: State, point: Point, at: Residuals) -> State:
    """Step to the next point. A direction that is not finite, or leads nowhere, is tried again with more
    regularisation."""
    along, step = direction(program, point, at, state.boost, options.refinement_steps)
    moved = state.point + step * along
    useful = jnp.isfinite(jnp.sum(moved)) & (step > 1e-10)
    return state._replace(
        point=jnp.where(useful, moved, state.point),
        boost=jnp.where(useful, jnp.maximum(state.boost / 10, 1), state.boost * 100),
        step=jnp.where(useful, step, 0),
        num_iters=state.num_iters + 1,
    )


def judge(options: Options, tolerances: jax.Array, state: State) -> State:
    """Update best point, records and status after `state.claims` have been measured."""
    solved, almost, infeasible = tolerances
    error = jnp.max(state.claims[:3])
    valid = ~jnp.isnan(error)
    error = jnp.where(valid, error, jnp.inf)
    records = jnp.concatenate([error[None], state.claims[3:]])
    idle = jnp.where(jnp.any(records < 0.9 * state.records), 0, state.idle + 1)
    better = error < state.records[0]
    lowest = jnp.minimum(records, state.records)
    # a start that is not finite comes from such data
    stuck = (idle >= PATIENCE) | (state.boost > 1e12) | ((state.num_iters == 0) & ~valid)
    exhausted = state.num_iters >= options.max_iters
    outcomes = [
        (error <= solved, Status.SOLVED),
        (records[1] <= infeasible, Status.PRIMAL_INFEASIBLE),
        (records[2] <= infeasible, Status.DUAL_INFEASIBLE),
        ((stuck | exhausted) & (lowest[0] <= almost), Status.ALMOST_SOLVED),
        (stuck, Status.NUMERICAL_ERROR),
        (exhausted, Status.MAX_ITERATIONS),
    ]
    return state._replace(
        best=jnp.where(better, state.point, state.best),
        best_claims=jnp.where(better, state.claims, state.best_claims),
        records=lowest,
        idle=idle,
        status=jnp.select([happened for happened, _ in outcomes], [jnp.int32(s) for _, s in outcomes], Status.UNSOLVED),
    )


def run(program: ConeProgram, units: Units, options: Options, point: Point) -> State:
    """Iterate from `point` until a claim is proved or none can be."""
    dtype = program.q.dtype
    tolerances = options.tolerances(dtype)

    def iterate(state):
        point = unpack(program, state.point)
        at = residuals_at(program, point)
        state = judge(options, tolerances, state._replace(claims=claims(program, units, point, at)))
        if options.history:
            row = jnp.concatenate([state.claims[:3], at.mu[None], state.step[None]])
            state = state._replace(history=state.history.at[state.num_iters].set(row, mode="drop"))
        if options.verbose:
            print_row(state, at, point.tau)
        return jax.lax.cond(
            state.status == Status.UNSOLVED,
            lambda state: move(program, options, state, point, at),
            lambda state: state,
            state,
        )

    vector = pack(point)
    state = State(
        point=vector,
        claims=jnp.ones(5, dtype),
        best=vector,
        best_claims=jnp.ones(5, dtype),
        records=jnp.full(3, jnp.inf, dtype),
        idle=jnp.int32(0),
        boost=jnp.ones((), dtype),
        step=jnp.zeros((), dtype),
        num_iters=jnp.int32(0),
        status=jnp.int32(Status.UNSOLVED),
        history=jnp.full((options.history, 5), jnp.nan, dtype),
    )
    if options.verbose:
        print_header()
    return jax.lax.while_loop(lambda state: state.status == Status.UNSOLVED, iterate, state)


# ----------------------------------------------------------------------------- what people see


def history_of(state: State) -> History | None:
    """The recorded iterations by name."""
    if not state.history.shape[0]:
        return None
    names = ("primal_residual", "dual_residual", "gap", "mu", "step")
    return History(**{name: state.history[:, i] for i, name in enumerate(names)})


def print_header() -> None:
    """Head of the table of `options.verbose`."""
    jax.debug.print(" iter   primal     dual       gap        mu         step     objective", ordered=False)


def print_row(state: State, at: Residuals, tau: jax.Array) -> None:
    """One row of the table of `options.verbose`."""
    jax.debug.print(
        "{i:5d}   {p:.2e}   {d:.2e}   {g:.2e}   {mu:.2e}   {step:.4f}   {f:+.8e}",
        i=state.num_iters,
        p=state.claims[0],
        d=state.claims[1],
        g=state.claims[2],
        mu=at.mu,
        step=state.step,
        f=(at.xPx / 2 / tau + at.qx) / tau,
    )
