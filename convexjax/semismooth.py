"""The active set of an optimal control problem by a semismooth Newton method, also called primal-dual active set
(Hintermueller, Ito and Kunisch, SIAM J. Optim. 13, 2003).

With the inequalities of a guessed active set as equations and without the others the optimality conditions are linear:

    P x + A'z + q = 0,    (A x)_i = b_i for i active or an equation,    z_i = 0 for the others.

Rows of the active set with z_i < 0 leave it, other rows with s_i = (b - A x)_i < 0 enter, all at once, until nothing
changes: then the point is a solution. One guess costs one factorisation, whose time is linear in the horizon; in a
receding horizon most guesses are right at once or after one change. The iteration may cycle, and it finds nothing where
there is no solution, so its answers are candidates only: `solver.py` proves them, and solves with the interior point
what they do not prove.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp

from convexjax import kkt, riccati
from convexjax.active_set import Candidate
from convexjax.equilibration import equilibration
from convexjax.linear_algebra import reductions, vary_like
from convexjax.stage_program import StageProgram

# Most active sets that are tried.
MAX_STEPS = 15
# A row whose slack or multiplier is above minus this stays where it is, in the units of `equilibration`, by dtype.
TOLERANCE = {"float64": 1e-11, "float32": 1e-6}
# Most steps of refinement with the last active set, and the residual at which they end.
REFINEMENT_STEPS, TARGET = 3, {"float64": 1e-11, "float32": 1e-6}


def solve(program: StageProgram, max_steps: jax.Array | int, guess: tuple | None) -> Candidate:
    """The candidate that Newton's method finds from the active set of the guess (x, s, z)."""
    # The data stay as they are. What depends on the units is measured and regularised in those of `equilibration`.
    units, dtype, n = equilibration(program, True), program.q.dtype, program.q.shape[0]
    program = replace(program.kept(~units.dropped), b=jnp.where(units.dropped, units.b_dropped, program.b))
    inequality, tolerance = jnp.asarray(program.cone.is_inequality()), TOLERANCE[dtype.name]
    of_slacks, of_duals = units.E / units.beta, units.c * units.beta / units.E
    of_residuals = jnp.concatenate([units.c * units.beta * units.D, of_slacks])
    active = jnp.zeros_like(inequality)
    if guess is not None:
        _, s, z = guess
        active = inequality & ~units.dropped & (z * of_duals > s * of_slacks)  # false for NaN

    def update(active, d):
        x, z = d[:n], d[n:]
        s = program.b - program.A.matvec(x)
        return inequality & jnp.where(active, z * of_duals >= -tolerance, s * of_slacks < -tolerance)

    def try_set(state):
        steps, unsettled, active, _ = state
        precondition, left, right = _system(program, units, active | ~inequality)

        def refine(state):
            rounds, _, d, e, _ = state
            d = d + precondition(e)
            e = left(d)
            new = update(active, d)
            (size,) = reductions(maxima=(jnp.abs(e * of_residuals),))
            improvable = jnp.all(new == active) & (size > TARGET[dtype.name])
            return rounds + 1, improvable, d, e, new

        # none for the lanes of a batch that have settled before
        start = jnp.int32(0), unsettled, jnp.zeros_like(right), right, active
        start = vary_like((program, right), start)
        going = lambda state: state[1] & (state[0] <= REFINEMENT_STEPS)
        _, _, d, _, new = jax.lax.while_loop(going, refine, start)
        return steps + 1, jnp.any(new != active), new, d

    def unfinished(state):
        steps, changed, *_ = state
        return changed & (steps < jnp.minimum(jnp.asarray(max_steps).astype(jnp.int32), MAX_STEPS))

    nothing = jnp.zeros_like(of_residuals)
    start = vary_like((program, guess), (jnp.int32(0), jnp.array(True), active, nothing))
    steps, _, active, d = jax.lax.while_loop(unfinished, try_set, start)
    # no first-order condition shows that a stage cost is not convex
    x, z = jnp.where(program.convexity > 0, d[:n], jnp.nan), d[n:]
    s = jnp.where(active | ~inequality, 0, jnp.maximum(program.b - program.A.matvec(x), 0))
    z = jnp.where(inequality, jnp.maximum(z, 0), z)
    return Candidate(x, s, z, jnp.array(False), steps)


def _system(program: StageProgram, units, rows: jax.Array) -> tuple:
    """The linear system with `rows` as equations and without the others: a function that solves it approximately, one
    for what a point (x, z) leaves of the right-hand side, and the right-hand side."""
    (n,), A, dtype = program.q.shape, program.A, program.q.dtype
    delta, epsilon = kkt.REGULARISATION[dtype.name]
    ones, cost = rows.astype(dtype), units.c * units.beta**2
    cost = cost / jnp.where(units.size_P > 0, units.size_P, 1)
    weighted_A = A.weighted(ones * units.E**2 / (delta * cost))
    factor = riccati.factor(program, weighted_A.weights, epsilon / (cost * units.D**2))

    def precondition(e):
        of_rows = weighted_A.inequality_rmatvec(e[n + A.num_equations :])
        dx, dy = riccati.solve(factor, e[:n] + of_rows, e[n : n + A.num_equations])
        dz = weighted_A.weights * (A.matvec(dx) - e[n:])[A.num_equations :]
        return jnp.concatenate([dx, dy, dz])

    def left(d):
        x, z = d[:n], d[n:]
        return right - jnp.concatenate([program.quadratic(x) + A.rmatvec(z), ones * A.matvec(x)])

    right = jnp.concatenate([-program.q, ones * program.b])
    return precondition, left, right
