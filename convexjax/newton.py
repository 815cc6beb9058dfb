"""Newton's method with a line search, for smooth programs without constraints.

A step solves (H + damping I) d = -grad f, H the Hessian, and is halved until f has fallen by 1e-4 of what its slope
promises (Armijo). A step into places where f is not finite is shortened a little at a time, one that had to be halved
often raises the damping. Half the square of the Newton decrement, -grad'd, is about f(x) minus its minimum, and is what
the gap of a solution is measured by (Boyd and Vandenberghe, section 9.5).
"""

import jax
import jax.numpy as jnp

from convexjax import kkt
from convexjax.interior_point import State, print_row
from convexjax.linear_algebra import DiagonalPlusLowRank, Products, diagonal_of, vary_like
from convexjax.matrix_free import conjugate_gradients
from convexjax.options import Options
from convexjax.smooth_interior_point import MOST_TRIES, SHORTER, WITHIN_DOMAIN, is_indefinite
from convexjax.smooth_program import SmoothProgram
from convexjax.solution import Status

# Least part of the decrease promised by the slope; iterations without progress before the method gives up.
ARMIJO, PATIENCE = 1e-4, 15
# Longest step relative to x; and where x is looked upon as on its way to infinity, which `smooth_solver.py` checks.
LONGEST, ENDLESS = 1e4, 1e12


def run(program: SmoothProgram, options: Options, before: State) -> State:
    """Iterate from the point of `before`, in the user's units, and return it with `point` and `best` the last one."""
    n, dtype = program.A.shape[1], program.b.dtype
    solved, almost, _ = options.tolerances(dtype)
    eps, largest = jnp.finfo(dtype).eps, lambda v: jnp.max(jnp.abs(v), initial=0)
    no_rows = jnp.zeros(0, dtype)

    def iterate(carry):
        state, unit, damping, before = carry
        x = state.point
        model = program.model(x, no_rows)
        P, gradient, f = model.program.P, model.gradient, model.value
        matrix_free = isinstance(P, Products)
        if matrix_free:
            along = P @ gradient
            curvature = jnp.linalg.norm(along) / jnp.maximum(jnp.linalg.norm(gradient), jnp.finfo(dtype).tiny)
        else:
            curvature = largest(diagonal_of(P))
        first = state.num_iters == 0
        # one unit of the gradient: the user's, or the size of the derivatives at the start if that is smaller
        unit = jnp.where(first, jnp.minimum(1, jnp.maximum(largest(gradient), curvature)), unit)
        unit = jnp.where(unit > 0, unit, 1)
        shift = damping + 10 * n * eps * curvature + jnp.finfo(dtype).tiny
        if matrix_free:
            # exact only near the end, where that pays
            relative = jnp.clip(0.1 * largest(gradient) / unit, 1e-6, 0.1)
            d, negative = conjugate_gradients(lambda v: P @ v + shift * v, -gradient, relative)
            d = jnp.where(jnp.any(d != 0), d, -gradient)
        else:
            factor = kkt.factorise(model.program, model.program.A, shift)
            d = -kkt.solve_reduced(factor, gradient, no_rows)[0]
        # a Hessian that is not positive definite to rounding errors: down the gradient
        has_factor = jnp.all(jnp.isfinite(d))
        d = jnp.where(has_factor, d, -gradient)
        # where f is nearly linear the step has no end
        d = d * jnp.minimum(1, LONGEST * (1 + largest(x)) / jnp.maximum(largest(d), eps))
        decrement = -gradient @ d
        dual = largest(gradient) / unit
        gap = decrement / 2 / jnp.maximum(jnp.abs(f), unit)
        error = jnp.maximum(dual, jnp.where(damping > 0, 0, gap))
        state = state._replace(claims=jnp.stack([0 * f, dual, gap, jnp.inf + 0 * f, jnp.inf + 0 * f, f]))
        better = error < 0.9 * state.records[0]
        idle = jnp.where(better | (f < before - 1e-3 * jnp.abs(before)), 0, state.idle + 1)
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(gradient)) & jnp.isfinite(curvature)
        exhausted = state.num_iters >= jnp.asarray(options.max_iters).astype(jnp.int32)
        stuck = (idle >= PATIENCE) | ~finite
        # once more after the tolerance is reached, as in the interior point
        finished = (error <= solved) & ((state.records[0] <= solved) | (error <= 0.01 * solved) | stuck | exhausted)
        outcomes = [
            (finished & finite, Status.SOLVED),
            ((stuck | exhausted) & (error <= almost) & finite, Status.ALMOST_SOLVED),
            (largest(x) > ENDLESS, Status.DUAL_INFEASIBLE),
            (stuck, Status.NUMERICAL_ERROR),
            (exhausted, Status.MAX_ITERATIONS),
        ]
        status = jnp.int32(Status.UNSOLVED)
        for happened, outcome in reversed(outcomes):
            status = jnp.where(happened, jnp.int32(outcome), status)
        # convexity is the user's claim. A Cholesky factor of the Hessian itself shows that it holds here
        if matrix_free:
            indefinite = negative & finite
        else:
            structured = isinstance(P, DiagonalPlusLowRank)
            unknown = structured | first | ~has_factor | (damping > 0) | Status.SOLVED.holds(status)
            indefinite = jax.lax.cond(unknown, is_indefinite, lambda model: jnp.array(False), model)
        state = state._replace(
            idle=idle,
            records=state.records.at[0].set(jnp.where(error < state.records[0], error, state.records[0])),
            status=jnp.where(indefinite, jnp.int32(Status.NONCONVEX), status),
        )
        if options.history:
            row = jnp.concatenate([state.claims[:3], jnp.zeros(1, dtype), state.step[None]])
            state = state._replace(history=state.history.at[state.num_iters].set(row, mode="drop"))
        if options.verbose:
            print_row(state, jnp.zeros((), dtype))

        def attempt(search):
            tries, halvings, step, _ = search
            new = program.value(x + step * d)
            # rounding errors of f hide the last steps
            accepted = new <= f - ARMIJO * step * decrement + 10 * eps * jnp.abs(f)
            finite = jnp.isfinite(new)
            shorter = step * jnp.where(finite, SHORTER, WITHIN_DOMAIN)
            return (
                tries + 1,
                halvings + (finite & ~accepted).astype(jnp.int32),
                jnp.where(accepted, step, shorter),
                accepted,
            )

        going = Status.UNSOLVED.holds(state.status)
        start = vary_like((program, x), (jnp.int32(0), jnp.int32(0), jnp.ones((), dtype), ~going))
        _, halvings, step, accepted = jax.lax.while_loop(
            lambda search: ~search[3] & (search[0] < MOST_TRIES), attempt, start
        )
        moved = jnp.where(going & accepted, x + step * d, x)
        raised = jnp.maximum(10 * damping, 1e-6 * jnp.maximum(curvature, largest(gradient)))
        lowered = jnp.where(damping < 1e-10 * jnp.maximum(curvature, unit), 0, damping / 10)
        damping = jnp.where((halvings > 2) | ~accepted, raised, jnp.where(halvings == 0, lowered, damping))
        state = state._replace(
            point=moved,
            best=x,
            best_claims=state.claims,
            step=jnp.where(going, step, state.step),
            num_iters=state.num_iters + going.astype(jnp.int32),
        )
        return state, unit, damping, f

    zero = jnp.zeros((), dtype)
    state, *_ = jax.lax.while_loop(
        lambda carry: Status.UNSOLVED.holds(carry[0].status),
        iterate,
        vary_like((program, before), (before, zero, zero, zero + jnp.inf)),
    )
    return state
