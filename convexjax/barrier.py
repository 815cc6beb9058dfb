"""The barrier method, as it is taught: minimise f(x) + mu phi(-g(x)) subject to A x = b by Newton's method, for mu
falling to zero (Boyd and Vandenberghe, "Convex Optimization", sections 10.3 and 11.3).

phi is the logarithmic barrier of the cone, and z = -mu grad phi(s) with s = -g(x) are multipliers with s'z = mu degree.
The start has to satisfy the inequalities strictly, the equations hold from the first full step on. The line search is
on the norm of the residual (grad + A'y, A x - b). Here to be learnt from and checked against; `minimize` is faster,
starts anywhere, and proves what it says.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax import kkt
from convexjax.cone_program import ConeProgram, is_convex
from convexjax.cones.linear import Nonnegative, Zero
from convexjax.cones.product import ProductCone
from convexjax.cones.psd import PSD
from convexjax.cones.second_order import SecondOrder
from convexjax.linear_algebra import Rows, vary_like
from convexjax.options import Options
from convexjax.smooth_program import SmoothProgram
from convexjax.solution import Status

# The first mu and what it is divided by; the square of the Newton decrement, relative to mu, at which a point counts
# as centred; and how often a step is halved.
FIRST, FACTOR, CENTRED, MOST_HALVINGS = 1.0, 10.0, 1e-6, 50


class State(NamedTuple):
    """What the loop carries."""

    x: jax.Array
    y: jax.Array
    mu: jax.Array
    step: jax.Array
    claims: jax.Array  # primal, dual, gap, 0, 0, f
    num_iters: jax.Array
    status: jax.Array
    history: jax.Array  # (options.history, 5)


def has_barrier(cone: ProductCone) -> bool:
    """Whether the method knows the barrier of the cone: those of the symmetric cones are their duals'."""
    return all(isinstance(part, Zero | Nonnegative | SecondOrder | PSD) for part in cone.parts)


def barrier(program: SmoothProgram, x: jax.Array) -> jax.Array:
    """phi(-g(x)), NaN outside of the interior of the cone."""
    s = -program.rows(x)
    # an infinite bound has no barrier; NaN outside, also in the derivatives, is what the line search looks for
    s = jnp.where(s == jnp.inf, program.cone.start(s.dtype), s)
    inside = jnp.max(jnp.abs(program.cone.project(s) - s), initial=0, where=~_equations(program)) <= 1e-14 * jnp.max(
        jnp.abs(s), initial=1
    )
    return jnp.where(inside, program.cone.dual_barrier(s), jnp.nan)


def multipliers(program: SmoothProgram, x: jax.Array, y: jax.Array, mu: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(s, z): s = -h(x), z = -mu grad phi(s), and y in the rows of the equations."""
    s = -program.rows(x)
    filled = jnp.where(jnp.isfinite(s), s, program.cone.start(s.dtype))
    z = jnp.where(jnp.isfinite(s), -mu * jax.grad(program.cone.dual_barrier)(filled), 0)
    of_equations = jnp.concatenate([y, jnp.zeros(s.shape[0] - y.shape[0], y.dtype)])
    return s, jnp.where(_equations(program), program.cone.to_solver(of_equations), z)


def _equations(program):
    """Which rows, in the solver's order, are equations."""
    return program.cone.to_solver(jnp.arange(program.cone.rows) < program.b.shape[0])


def run(program: SmoothProgram, options: Options, x0: jax.Array) -> State:
    """Follow the central path from x0."""
    n, p, dtype, degree = x0.shape[0], program.b.shape[0], x0.dtype, program.cone.degree
    A, b = program.A, program.b
    cone = ProductCone.build((Zero(p),))
    tolerance = options.tolerances(dtype)[0]
    F = lambda x, mu: program.value(x) + mu * barrier(program, x)
    largest = lambda v: jnp.max(jnp.abs(v), initial=0)

    def iterate(state):
        x, y, mu = state.x, state.y, state.mu
        f, df = jax.value_and_grad(program.value)(x)
        gradient, H = jax.grad(F)(x, mu), jax.hessian(F)(x, mu)
        r_x, r_y = gradient + y @ A, A @ x - b
        size = jnp.maximum(1, jnp.maximum(largest(df), largest(df - r_x)))
        primal, dual = largest(r_y) / jnp.maximum(1, largest(b)), largest(r_x) / size
        gap = degree * mu / jnp.maximum(1, jnp.abs(f))
        claims = jnp.stack([primal, dual, gap, 0 * f, 0 * f, f])
        solved = jnp.max(claims[:3]) <= tolerance
        finite = jnp.isfinite(f) & jnp.all(jnp.isfinite(gradient)) & jnp.all(jnp.isfinite(H))
        exhausted = state.num_iters >= jnp.asarray(options.max_iters).astype(jnp.int32)

        model = ConeProgram(P=H, q=gradient, A=Rows(A), b=b, cone=cone)
        factor = kkt.factor(model, cone.scaling(b, b), jnp.ones((), dtype))
        d, _ = kkt.solve(model, factor, jnp.concatenate([-r_x, -r_y]), 1e-3 * tolerance, options.refinement_steps)
        dx, dy = d[:n], d[n:]
        norm = lambda x, y: jnp.linalg.norm(jnp.concatenate([jax.grad(F)(x, mu) + y @ A, A @ x - b]))
        now = norm(x, y)

        def halve(search):
            tries, step, _ = search
            new = norm(x + step * dx, y + step * dy)
            inside = jnp.isfinite(F(x + step * dx, mu))
            good = inside & (new <= (1 - 0.01 * step) * now + 10 * jnp.finfo(dtype).eps * size)
            return tries + 1, jnp.where(good, step, step / 2), good

        start = vary_like((program, x), (jnp.int32(0), jnp.ones((), dtype), jnp.array(False)))
        _, step, good = jax.lax.while_loop(lambda search: ~search[2] & (search[0] < MOST_HALVINGS), halve, start)
        step = jnp.where(good, step, 0)
        centred = (dx @ H @ dx <= CENTRED * mu) & (primal <= tolerance) & (dual <= 1e3 * tolerance)
        status = jnp.where(exhausted, jnp.int32(Status.MAX_ITERATIONS), jnp.int32(Status.UNSOLVED))
        status = jnp.where(~finite | (~good & ~centred), jnp.int32(Status.NUMERICAL_ERROR), status)
        # a saddle satisfies the same conditions
        convex = is_convex(H, largest(jnp.diagonal(H)))
        found = jnp.where(convex, jnp.int32(Status.SOLVED), jnp.int32(Status.NONCONVEX))
        status = jnp.where(solved & finite, found, status)
        going = Status.UNSOLVED.holds(status)
        row = jnp.stack([primal, dual, gap, mu, state.step])
        history = state.history.at[state.num_iters].set(row, mode="drop") if options.history else state.history
        least = 0.1 * tolerance * jnp.maximum(1, jnp.abs(f)) / max(degree, 1)
        lower = jnp.maximum(mu / FACTOR, jnp.minimum(mu, least))
        return State(
            x=jnp.where(going, x + step * dx, x),
            y=jnp.where(going, y + step * dy, y),
            mu=jnp.where(going & centred, lower, mu),
            step=step,
            claims=claims,
            num_iters=state.num_iters + going.astype(jnp.int32),
            status=status,
            history=history,
        )

    zero = jnp.zeros((), dtype)
    start = State(
        x=x0,
        y=jnp.zeros(p, dtype),
        mu=zero + FIRST,
        step=zero,
        claims=jnp.ones(6, dtype),
        num_iters=jnp.int32(0),
        status=jnp.int32(Status.UNSOLVED),
        history=jnp.full((options.history, 5), jnp.nan, dtype),
    )
    unsolved = lambda state: Status.UNSOLVED.holds(state.status)
    return jax.lax.while_loop(unsolved, iterate, vary_like((program, start), start))
