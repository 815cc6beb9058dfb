"""The active set of an optimal control problem by a semismooth Newton method, also called primal-dual active set
(Hintermueller, Ito and Kunisch, SIAM J. Optim. 13, 2003).

With the inequalities of a guessed active set as equations, and without the others, the optimality conditions are linear,

    P x + A'z + q = 0,    (A x)_i = b_i for i active or an equation,    z_i = 0 for the others.

Rows of the active set with z_i < 0 leave it, other rows with s_i = (b - A x)_i < 0 enter, all at once, until nothing
changes: then the point is a solution. One guess costs one factorisation, whose time is linear in the horizon; in a
receding horizon most guesses are right at once or after one change. The iteration may cycle, and it finds nothing where
there is no solution, so its answers are candidates only: `solver.py` proves them, and solves with the interior point
what they do not prove.
"""

import jax
import jax.numpy as jnp

from convexjax import kkt
from convexjax.active_set import Candidate
from convexjax.equilibration import equilibration
from convexjax.linear_algebra import reductions, vary_like
from convexjax.stage_program import StageProgram

# Most active sets that are tried.
MAX_STEPS = 15
# A row whose slack or multiplier is above minus this stays where it is, in the solver's units, by dtype.
TOLERANCE = {"float64": 1e-10, "float32": 1e-5}
# Most steps of refinement with one active set, and the residual at which it ends.
REFINEMENT_STEPS, TARGET = 4, {"float64": 1e-13, "float32": 1e-6}


def solve(program: StageProgram, max_steps: jax.Array, guess: tuple | None) -> Candidate:
    """The candidate that Newton's method finds from the active set of the guess (x, s, z)."""
    scaling = equilibration(program, True)
    scaled = scaling.scale(program)
    inequality = jnp.asarray(scaled.cone.is_inequality())
    tolerance = TOLERANCE[scaled.q.dtype.name]
    active = jnp.zeros_like(inequality)
    if guess is not None:
        _, s, z = scaling.scale_point(*guess)
        active = inequality & ~scaling.dropped & (z > s)  # false for NaN

    def unfinished(state):
        steps, changed, *_ = state
        return changed & (steps < jnp.minimum(jnp.asarray(max_steps).astype(jnp.int32), MAX_STEPS))

    def step(state):
        steps, _, active, _, _ = state
        x, z = solve_active(scaled, active | ~inequality)
        s = scaled.b - scaled.A.matvec(x)
        new = inequality & jnp.where(active, z >= -tolerance, s < -tolerance)
        return steps + 1, jnp.any(new != active), new, x, z

    nothing = jnp.zeros_like(scaled.q), jnp.zeros_like(scaled.b)
    start = jnp.int32(0), jnp.array(True), active, *nothing
    steps, changed, active, x, z = jax.lax.while_loop(unfinished, step, vary_like((program, guess), start))
    z = jnp.where(inequality, jnp.maximum(z, 0), z)
    s = jnp.where(active | ~inequality, 0, jnp.maximum(scaled.b - scaled.A.matvec(x), 0))
    # no first-order condition shows that a stage cost is not convex
    x = jnp.where(program.convexity > 0, x, jnp.nan)
    return Candidate(*scaling.unscale_point(x, s, z), jnp.array(False), steps)


def solve_active(program: StageProgram, active: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(x, z) with the rows `active` as equations and without the others."""
    n, A, dtype = program.q.shape[0], program.A, program.q.dtype
    delta, epsilon = kkt.REGULARISATION[dtype.name]
    ones = active.astype(dtype)
    weights = ones / delta
    weighted_A = A.weighted(weights)
    reduced = kkt.factor_reduced(program, weighted_A, epsilon)

    def precondition(e):
        of_rows = weighted_A.rmatvec(kkt.replace_exact(A, e[n:], 0))
        dx, exact = kkt.solve_reduced(reduced, e[:n] + of_rows, e[n : n + A.num_exact])
        dz = weights * (A.matvec(dx) - e[n:])
        return jnp.concatenate([dx, kkt.replace_exact(A, dz, exact)])

    def left(d):
        x, z = d[:n], d[n:]
        return right - jnp.concatenate([program.quadratic(x) + A.rmatvec(z), ones * A.matvec(x)])

    right = jnp.concatenate([-program.q, ones * program.b])
    (size,) = reductions(maxima=(jnp.abs(right),))
    d, _ = kkt.refined(precondition, left, right, TARGET[dtype.name] * size, REFINEMENT_STEPS, gain=0.9)
    return d[:n], d[n:]
