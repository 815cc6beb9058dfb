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


class Measures(NamedTuple):
    """Residuals of the embedding at a point, and how far each claim is from being proved."""

    r_x: jax.Array
    r_z: jax.Array
    r_tau: jax.Array
    Px: jax.Array
    mu: jax.Array
    primal: jax.Array  # relative residuals and gap of x/tau, s/tau, z/tau
    dual: jax.Array
    gap: jax.Array
    primal_infeasible: jax.Array  # relative residual of z, x as a certificate; inf if it has the wrong sign
    dual_infeasible: jax.Array
    objective: jax.Array  # of x/tau


class State(NamedTuple):
    """What the loop carries."""

    point: Point
    measures: Measures
    best: Point  # of the smallest merit so far
    best_error: jax.Array
    records: jax.Array  # (3,) smallest solved error and certificate residuals so far
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


def units_of(program: ConeProgram, scaling: Equilibration) -> Units:
    """The units of a scaled program."""
    dtype = program.q.dtype
    return Units(
        x=1 / scaling.beta,
        z=scaling.c * scaling.beta,
        objective=scaling.c,
        rows=1 / scaling.E,
        columns=1 / scaling.D,
        P=jnp.zeros((), dtype) if program.P is None else max_abs(program.P),
        no_q=(max_abs(program.q) == 0).astype(dtype),
        no_b=(max_abs(program.b) == 0).astype(dtype),
    )


# ----------------------------------------------------------------------------- residuals and claims


def relative(residual, terms, size, unit, absolute, weights, user_unit):
    """Largest residual relative to the size of its terms: the larger of two measures.

    Row by row, relative to the terms of the row itself, which no scaling of rows or columns changes. Rows whose terms
    all vanish have a floor, `size` or `unit`, but never more than the largest term of all rows nor less than 1e-6 of it: a
    row of large numbers elsewhere does not loosen this one. `absolute` is a scale for when every term vanishes.
    And in the user's units (`weights` times the solver's), the largest residual relative to the largest term and to one.
    """
    magnitude = jnp.max(jnp.abs(jnp.stack(terms)), 0)
    norm = max_abs(magnitude)
    floor = jnp.minimum(jnp.maximum(jnp.maximum(size, unit), 1e-6 * norm), norm)
    scale = jnp.maximum(magnitude, jnp.maximum(floor, absolute))
    by_row = jnp.max(jnp.abs(residual) / jnp.where(scale > 0, scale, 1), initial=0)
    by_norm = max_abs(weights * residual) / jnp.maximum(max_abs(weights * magnitude), user_unit)
    return jnp.maximum(by_row, by_norm)


def measure(program: ConeProgram, units: Units, point: Point) -> Measures:
    """Residuals of the embedding and of every claim."""
    x, s, z, tau, kappa = point
    Px, Atz, Ax = program.quadratic(x), program.A.rmatvec(z), program.A.matvec(x)
    xPx, qx, bz = x @ Px, program.q @ x, program.b @ z
    r_x, r_z = Px + Atz + program.q * tau, Ax + s - program.b * tau
    size_x, size_z = max_abs(x), max_abs(z)
    unit_x, unit_z = units.x * tau, units.z * tau
    primal = relative(
        r_z, (Ax, s, program.b * tau), size_x, unit_x, 1e-4 * units.no_b * tau, units.rows, unit_x
    )
    absolute = 1e-4 * jnp.maximum(units.P * size_x, units.no_q * tau)
    dual = relative(r_x, (Px, Atz, program.q * tau), size_z, unit_z, absolute, units.columns, unit_z)
    # objective values times tau^2, and their gap beyond the rounding errors of the terms
    primal_objective, dual_objective = xPx / 2 + qx * tau, -xPx / 2 - bz * tau
    terms = jnp.maximum(jnp.abs(qx * tau), jnp.abs(xPx))
    rounding = 100 * jnp.finfo(x.dtype).eps * terms
    floor = jnp.minimum(units.objective * tau**2, terms)
    absolute = jnp.maximum(1e-6 * units.P * size_x**2, 1e-4 * units.no_q * tau**2)
    gap = jnp.maximum(jnp.abs(primal_objective - dual_objective) - rounding, 0) / jnp.maximum(
        jnp.maximum(jnp.abs(primal_objective), jnp.abs(dual_objective)), jnp.maximum(floor, absolute)
    )
    certificate = lambda residual, constant: jnp.where(
        constant < 0, residual / jnp.where(constant < 0, -constant, 1), jnp.inf
    )
    return Measures(
        r_x=r_x,
        r_z=r_z,
        r_tau=kappa + xPx / tau + qx + bz,
        Px=Px,
        mu=(s @ z + tau * kappa) / (program.cone.degree + 1),
        primal=primal,
        dual=dual,
        gap=gap,
        primal_infeasible=certificate(max_abs(Atz) * units.x, bz),
        dual_infeasible=certificate(jnp.maximum(max_abs(Px), max_abs(Ax + s)) * units.z, qx),
        objective=primal_objective / tau**2,
    )


# ----------------------------------------------------------------------------- one iteration


def start(program: ConeProgram) -> Point:
    """The point of the central path that is its own shadow: s = z, tau = kappa = 1."""
    dtype = program.q.dtype
    central = program.cone.start(dtype)
    one = jnp.ones((), dtype)
    return Point(jnp.zeros_like(program.q), central, central, one, one)


def direction(program: ConeProgram, point: Point, at: Measures, boost, refinement_steps: int) -> tuple[Point, jax.Array]:
    """The corrected direction and the largest step along it.

    Predictor and corrector are two rounds of one loop, so that they are compiled once.
    """
    cone, q, b = program.cone, program.q, program.b
    x, s, z, tau, kappa = point
    scaling = cone.scaling(s, z)
    factor = kkt.factor(program, scaling, boost)
    xi = x / tau
    gradient = q + 2 * (at.Px / tau)  # of the objective row with respect to x

    def phase(_, carry):
        previous, sigma, _ = carry
        keep = 1 - sigma
        d_s = s + cone.correction(scaling, s, z, previous.s, previous.z, sigma * at.mu)
        d_kappa = tau * kappa + previous.tau * previous.kappa - sigma * at.mu
        right_x = jnp.stack([-q, -keep * at.r_x], 1)
        right_z = jnp.stack([b, d_s - keep * at.r_z], 1)
        dx, dz = kkt.solve(program, factor, right_x, right_z, refinement_steps)
        x1, x2, z1, z2 = dx[:, 0], dx[:, 1], dz[:, 0], dz[:, 1]
        off = x1 - xi
        # the terms of kappa/tau - (q + 2 P xi)'x1 - b'z1 + xi'P xi without cancellation
        denominator = kappa / tau + off @ program.quadratic(off) + z1 @ cone.hessian(scaling, z1)
        dtau = (keep * at.r_tau - d_kappa / tau + gradient @ x2 + b @ z2) / denominator
        dx, dz = x2 + dtau * x1, z2 + dtau * z1
        ds = cone.choose_slack(b * dtau - keep * at.r_z - program.A.matvec(dx), -d_s - cone.hessian(scaling, dz))
        dkappa = -(d_kappa + kappa * dtau) / tau
        step = jnp.minimum(
            cone.max_step(scaling, s, z, ds, dz),
            1 / jnp.maximum(1, jnp.maximum(-dtau / tau, -dkappa / kappa)),
        )
        return Point(dx, ds, dz, dtau, dkappa), (1 - step) ** 2, step

    zero = jnp.zeros((), q.dtype)
    nothing = jax.tree.map(jnp.zeros_like, point)
    found, _, step = jax.lax.fori_loop(0, 2, phase, (nothing, zero, zero))
    return found, FRACTION * step


def advance(program: ConeProgram, units: Units, options: Options, tolerances, state: State) -> State:
    """One iteration: direction, step, measures, claims."""
    along, step = direction(program, state.point, state.measures, state.boost, options.refinement_steps)
    moved = jax.tree.map(lambda v, dv: v + step * dv, state.point, along)
    finite = jnp.isfinite(sum(jnp.sum(v) for v in moved)) & (step > 1e-10)
    point = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved, state.point)
    measures = measure(program, units, point)
    boost = jnp.where(finite, jnp.maximum(state.boost / 10, 1), state.boost * 100)
    state = state._replace(
        point=point, measures=measures, boost=boost, step=jnp.where(finite, step, 0), num_iters=state.num_iters + 1
    )
    state = judge(program, options, tolerances, state)
    if options.history:
        row = jnp.stack([measures.primal, measures.dual, measures.gap, measures.mu, state.step])
        state = state._replace(history=state.history.at[state.num_iters - 1].set(row, mode="drop"))
    if options.verbose:
        print_row(state)
    return state


def judge(program: ConeProgram, options: Options, tolerances, state: State) -> State:
    """Update best point, records and status after a new point."""
    solved, almost, infeasible = tolerances
    at = state.measures
    error = jnp.maximum(jnp.maximum(at.primal, at.dual), at.gap)
    error = jnp.where(jnp.isnan(error), jnp.inf, error)
    claims = jnp.stack([error, at.primal_infeasible, at.dual_infeasible])
    idle = jnp.where(jnp.any(claims < 0.9 * state.records), 0, state.idle + 1)
    better = error < state.best_error
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state.point, state.best)
    best_error = jnp.minimum(error, state.best_error)
    stuck = (idle >= PATIENCE) | (state.boost > 1e12)
    ended = stuck | (state.num_iters >= options.max_iters)
    given_up = jnp.where(
        best_error <= almost,
        Status.ALMOST_SOLVED,
        jnp.where(stuck, Status.NUMERICAL_ERROR, Status.MAX_ITERATIONS),
    )
    status = jnp.where(
        error <= solved,
        Status.SOLVED,
        jnp.where(
            at.primal_infeasible <= infeasible,
            Status.PRIMAL_INFEASIBLE,
            jnp.where(at.dual_infeasible <= infeasible, Status.DUAL_INFEASIBLE, jnp.where(ended, given_up, Status.UNSOLVED)),
        ),
    )
    return state._replace(
        best=best,
        best_error=best_error,
        records=jnp.minimum(claims, state.records),
        idle=idle,
        status=status.astype(jnp.int32),
    )


def run(program: ConeProgram, units: Units, options: Options, point: Point, valid: jax.Array) -> State:
    """Iterate from `point` until a claim is proved or none can be; not at all where `valid` is false."""
    dtype = program.q.dtype
    tolerances = options.tolerances(dtype)
    infinity = jnp.full((), jnp.inf, dtype)
    state = State(
        point=point,
        measures=measure(program, units, point),
        best=point,
        best_error=infinity,
        records=jnp.full(3, jnp.inf, dtype),
        idle=jnp.int32(0),
        boost=jnp.ones((), dtype),
        step=jnp.zeros((), dtype),
        num_iters=jnp.int32(0),
        status=jnp.int32(Status.UNSOLVED),
        history=jnp.full((options.history, 5), jnp.nan, dtype),
    )
    state = judge(program, options, tolerances, state)
    state = state._replace(status=jnp.where(valid, state.status, Status.NUMERICAL_ERROR).astype(jnp.int32))
    if options.verbose:
        print_header()
        print_row(state)
    return jax.lax.while_loop(
        lambda state: state.status == Status.UNSOLVED,
        lambda state: advance(program, units, options, tolerances, state),
        state,
    )


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


def print_row(state: State) -> None:
    """One row of the table of `options.verbose`."""
    at = state.measures
    jax.debug.print(
        "{i:5d}   {p:.2e}   {d:.2e}   {g:.2e}   {mu:.2e}   {step:.4f}   {f:+.8e}",
        i=state.num_iters,
        p=at.primal,
        d=at.dual,
        g=at.gap,
        mu=at.mu,
        step=state.step,
        f=at.objective,
    )
