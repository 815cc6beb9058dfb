"""The interior-point method of `interior_point.py` for programs given as functions.

The direction is that of the cone program that models the program at the current point (`smooth_program.py`). What the
model does not know, the curvature of the residuals along the step and where the functions are not finite, is left to a
line search on

    merit = |r_x| / |r_x|_0 + |r_z| / |r_z|_0 + |r_tau| / |r_tau|_0 + mu / mu_0,

the residuals of the homogeneous embedding relative to those of the start, or to one.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax.cone_program import is_convex
from convexjax.embedding import Claims, Point, Residuals, Units, measure, unpack
from convexjax.interior_point import State, begin, direction, judge, recorded
from convexjax.linear_algebra import DiagonalPlusLowRank, diagonal_of, shifted, vary_like
from convexjax.options import Options
from convexjax.smooth_program import Model, SmoothProgram
from convexjax.solution import Status

# Most shares of a step that the line search tries; what it takes of a step to a point without finite values, and of
# one that does not lower the merit. The former stops close to the boundary of the domain, as logarithms want it.
MOST_TRIES, WITHIN_DOMAIN, SHORTER = 60, 0.8, 0.5
# The merit may grow by this factor: where the functions are strongly curved, a search that insists on less follows the
# boundary of what it accepts in tiny steps, while the next direction removes what the last step has added.
TOLERATED = 1.5
# Residuals this many times as large as mu, both relative to the start, are removed before mu is lowered further.
LAG = 100
# Negative eigenvalues of a Hessian, relative to its size, that may be rounding errors of its derivatives.
CURVATURE_ERROR = {"float64": 1e-9, "float32": 1e-4}


def sizes(program: SmoothProgram, point: Point) -> jax.Array:
    """|r_x|, |r_z|, |r_tau| and mu at a point, NaN where the functions are not finite."""
    x, s, z, tau, kappa = point
    value, gradient, h = program.first_order(x / tau, z / tau)
    r_tau = kappa + x @ gradient - z @ h
    mu = (s @ z + tau * kappa) / (program.cone.degree + 1)
    parts = jnp.stack([jnp.linalg.norm(tau * gradient), jnp.linalg.norm(tau * h + s), jnp.abs(r_tau), mu])
    return jnp.where(jnp.isfinite(value), parts, jnp.nan)


def sizes_of(at: Residuals) -> jax.Array:
    """The same of known residuals."""
    return jnp.stack([jnp.linalg.norm(at.r_x), jnp.linalg.norm(at.r_z), jnp.abs(at.r_tau), at.mu])


def measured(model: Model, units: Units, point: Point, unit_f: jax.Array) -> tuple[Residuals, Claims]:
    """Residuals of the embedding and how far each claim is from being proved. `unit_f` is one unit of f, in its own
    units, for where f vanishes.

    Those of the model (`embedding.measure`) but for three: the dual residual is relative to grad f and h'z, the largest
    entry in the solver's units and in the user's, and so no Hessian enters; the gap has f in the place of the model's
    value; and the objective is f.
    """
    x, s, z, tau, kappa = point
    program, gradient = model.program, model.gradient
    residuals, claims = measure(program, units, point)
    Atz, h = program.A.rmatvec(z), program.A.matvec(x) - program.b * tau
    r_x = tau * gradient + Atz
    largest = lambda v: jnp.max(jnp.abs(v), initial=0)
    # one unit of the gradient: the solver's, or the user's if that is smaller
    unit = jnp.minimum(units.objective, 1) * tau
    columns = units.columns
    in_solver = largest(r_x) / jnp.maximum(jnp.maximum(tau * largest(gradient), largest(Atz)), tau)
    in_user = largest(columns * r_x) / jnp.maximum(
        jnp.maximum(tau * largest(columns * gradient), largest(columns * Atz)), unit * units.z / units.objective
    )
    along, across = x @ gradient, (x @ Atz - z @ h) / tau
    f = model.value
    terms = jnp.maximum(jnp.maximum(jnp.abs(along / tau), jnp.abs(across / tau)), jnp.abs(f))
    gap = jnp.maximum(jnp.abs(along + across) / tau - 10 * jnp.finfo(x.dtype).eps * terms, 0)
    unit_f = jnp.minimum(unit_f * units.objective, unit / tau)
    floor = jnp.maximum(jnp.maximum(jnp.minimum(unit / tau, 0.01 * terms), 1e-6 * unit / tau), unit_f)
    size = jnp.maximum(residuals.size, largest(r_x))
    return residuals._replace(r_x=r_x, size=size, r_tau=kappa + along + across), claims._replace(
        dual=jnp.maximum(in_solver, in_user),
        gap=gap / jnp.maximum(jnp.maximum(jnp.abs(f), jnp.abs(f - gap)), floor),
        objective=f / units.objective,
    )


def is_indefinite(model: Model) -> jax.Array:
    """Whether the Hessian of the Lagrangian has a negative eigenvalue; not where it is not finite."""
    P = model.program.P
    size = jnp.max(jnp.abs(diagonal_of(P)), initial=0)
    allowed = CURVATURE_ERROR[P.dtype.name] / (10 * max(P.shape[0], 1) * float(jnp.finfo(P.dtype).eps))
    finite = jax.tree.map(lambda part: jnp.all(jnp.isfinite(part)), jax.tree.leaves(P))
    negative = lambda: ~is_convex(P, size * max(allowed, 1))
    if not isinstance(P, DiagonalPlusLowRank):
        # a dominant diagonal, as sums of functions of one variable have it, needs no Cholesky factor
        dominant = jnp.all(2 * jnp.diagonal(P) >= jnp.sum(jnp.abs(P), 1))
        indefinite = jax.lax.cond(dominant, lambda: jnp.array(False), negative)
    else:
        indefinite = negative()
    return indefinite & jnp.all(jnp.stack(finite)) & jnp.isfinite(model.value)


# ----------------------------------------------------------------------------- one iteration


def move(
    program: SmoothProgram, options: Options, state: State, model: Model, at: Residuals, first: jax.Array
) -> State:
    """Step to the next point, as far as the merit falls. A step that leads nowhere is tried again with a term
    damping/2 |x - x_k|^2 in the model."""
    point = unpack(model.program, state.point)
    weights = 1 / jnp.maximum(first, 1)
    terms = sizes_of(at) * weights
    lagging = jnp.max(terms[:3]) > LAG * terms[3]
    aim = lambda sigma: (jnp.where(lagging, 1, 1 - sigma), jnp.where(lagging, jnp.maximum(sigma, 0.8), sigma))
    damping = jnp.where(state.boost > 1, 1e-10 * state.boost, 0).astype(terms.dtype)
    local = model.program
    local = replace(local, P=shifted(local.P, damping), q=local.q - damping * point.x / point.tau)
    at = at._replace(Px=at.Px + damping * point.x)
    along, largest = direction(local, point, at, jnp.ones_like(state.boost), options.refinement_steps, aim)
    merit = jnp.sum(terms)

    def attempt(search):
        tries, step, _ = search
        new = jnp.sum(sizes(program, unpack(local, state.point + step * along)) * weights)
        accepted = new <= TOLERATED * merit  # false for NaN
        shorter = step * jnp.where(jnp.isfinite(new), SHORTER, WITHIN_DOMAIN)
        return tries + 1, jnp.where(accepted, step, shorter), accepted

    start = vary_like((program, state.point), (jnp.int32(0), largest, jnp.array(False)))
    _, step, accepted = jax.lax.while_loop(lambda search: ~search[2] & (search[0] < MOST_TRIES), attempt, start)
    useful = accepted & (step > 1e-10)
    return state._replace(
        point=jnp.where(useful, state.point + step * along, state.point),
        boost=jnp.where(useful, jnp.maximum(state.boost / 100, 1), jnp.maximum(state.boost * 100, 1e6)),
        step=jnp.where(useful, step, 0),
        num_iters=state.num_iters + 1,
    )


class Search(NamedTuple):
    """What the loop carries: the state of the interior-point method, and what was seen at the start."""

    state: State
    first: jax.Array  # `sizes` there
    f: jax.Array  # f there, and the largest entry of its gradient, in the user's units
    slope: jax.Array


def run(program: SmoothProgram, units: Units, options: Options, point: Point, before: State) -> State:
    """Iterate from `point` until a claim is proved or none can be, if the status `before` is UNSOLVED; iterations
    count, and are recorded, from those before."""
    dtype = point.x.dtype
    tolerances = options.tolerances(dtype)

    def iterate(search):
        state = search.state
        n, m = point.x.shape[0], point.s.shape[0]
        x, s, z, (tau, kappa) = jnp.split(state.point, (n, n + m, n + 2 * m))
        here = Point(x, s, z, tau, kappa)
        model = program.model(x / tau, z / tau)
        # where f vanishes at the solution it is measured by its gradient at the start, and by how much it has fallen
        f, begins = model.value / units.objective, state.num_iters == before.num_iters
        of_x = slice(program.A.shape[1])
        slope = jnp.max(jnp.abs((units.columns * model.gradient)[of_x]), initial=0) * units.x / units.objective
        search = search._replace(f=jnp.where(begins, f, search.f), slope=jnp.where(begins, slope, search.slope))
        at, claims = measured(model, units, here, jnp.maximum(search.slope, search.f - f))
        search = search._replace(first=jnp.where(begins, sizes_of(at), search.first))
        new = judge(options, tolerances, state._replace(claims=jnp.stack(claims)), at.mu)
        status = jnp.where(begins & jnp.isnan(jnp.max(search.first)), jnp.int32(Status.NUMERICAL_ERROR), new.status)
        # convexity is the user's claim; an indefinite Hessian that is met disproves it
        status = jnp.where(is_indefinite(model), jnp.int32(Status.NONCONVEX), status)
        state = recorded(options, new._replace(status=status), at.mu)
        state = jax.lax.cond(
            Status.UNSOLVED.holds(state.status),
            lambda state: move(program, options, state, model, at, search.first),
            lambda state: state,
            state,
        )
        return search._replace(state=state)

    start = begin(program, options, point, before.status)
    start = start._replace(num_iters=before.num_iters, history=before.history)
    zero = jnp.zeros((), dtype)
    search = Search(start, jnp.ones(4, dtype), zero, zero)
    unsolved = lambda search: Status.UNSOLVED.holds(search.state.status)
    return jax.lax.while_loop(unsolved, iterate, vary_like((program, search), search)).state
