"""Unconstrained minimisation with products of the Hessian alone, for variables too many for a matrix.

The limited-memory method of Broyden, Fletcher, Goldfarb and Shanno (optax) goes most of the way with one or two
gradients an iteration. Newton's method (`newton.py`) finishes and proves it; its steps, and the derivatives of the
solution, are linear systems with the Hessian, solved by conjugate gradients (Nocedal and Wright, "Numerical
Optimization", algorithm 7.1).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from convexjax.linear_algebra import vary_like
from convexjax.options import Options
from convexjax.smooth_program import SmoothProgram

# The gradient, relative to that at the start, at which Newton's method takes over; iterations without a smaller one
# before that.
ROUGH, PATIENCE = 1e-5, 50
# Most steps of conjugate gradients, in multiples of the number of variables and altogether.
ROUNDS, MOST_STEPS = 2, 5000


class Steps(NamedTuple):
    """What conjugate gradients found."""

    x: jax.Array
    negative: jax.Array  # whether a direction of negative curvature was met, and so the matrix is not positive definite


def conjugate_gradients(matvec: Callable, right: jax.Array, relative: jax.Array | float) -> Steps:
    """x with |matvec(x) - right| <= relative |right|, or as near as rounding errors allow; where the curvature is not
    positive, the last x before that."""
    n, dtype = right.shape[0], right.dtype
    goal = jnp.asarray(relative, dtype) * jnp.linalg.norm(right)
    most = min(ROUNDS * n + 10, MOST_STEPS)

    def step(carry):
        k, x, r, p, square, _, _ = carry
        Hp = matvec(p)
        curvature = p @ Hp
        length = square / jnp.where(curvature > 0, curvature, 1)
        fine = (curvature > 0) & jnp.isfinite(length)
        new_r = r - length * Hp
        new_square = new_r @ new_r
        # not positive, by more than the rounding errors of a product
        negative = curvature < -10 * n**0.5 * jnp.finfo(dtype).eps * jnp.linalg.norm(p) * jnp.linalg.norm(Hp)
        keep = lambda new, old: jnp.where(fine, new, old)
        x, r = keep(x + length * p, x), keep(new_r, r)
        p = keep(new_r + new_square / jnp.where(square > 0, square, 1) * p, p)
        return k + 1, x, r, p, keep(new_square, square), ~fine, negative

    off = jnp.array(False)
    start = (jnp.int32(0), jnp.zeros_like(right), right, right, right @ right, off, off)
    going = lambda carry: (carry[0] < most) & (carry[4] > goal * goal) & ~carry[5]
    _, x, _, _, _, _, negative = jax.lax.while_loop(going, step, vary_like((right, goal), start))
    return Steps(x, negative)


def descend(program: SmoothProgram, options: Options, x: jax.Array) -> jax.Array:
    """A point near the minimum, from x: the one of the smallest gradient met."""
    method = optax.lbfgs()
    value_and_gradient = optax.value_and_grad_from_state(program.value)
    size = lambda v: jnp.max(jnp.abs(v), initial=0)
    _, gradient = jax.value_and_grad(program.value)(x)
    first = size(gradient)

    def iterate(carry):
        count, x, state, best, least, idle = carry
        value, gradient = value_and_gradient(x, state=state)
        now = size(gradient)
        better = now < least  # false for NaN
        best, least = jnp.where(better, x, best), jnp.where(better, now, least)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes types, whatever the user's setting
            updates, state = method.update(gradient, state, x, value=value, grad=gradient, value_fn=program.value)
        moved = optax.apply_updates(x, updates)
        fine = jnp.all(jnp.isfinite(moved)) & jnp.isfinite(value)
        return (
            count + 1,
            jnp.where(fine, moved, x),
            state,
            best,
            least,
            jnp.where(fine, jnp.where(better, 0, idle + 1), PATIENCE),
        )

    most = jnp.asarray(options.max_iters).astype(jnp.int32) * 10
    start = (jnp.int32(0), x, method.init(x), x, 2 * first, jnp.int32(0))
    going = lambda carry: (carry[0] < most) & (carry[4] > ROUGH * first) & (carry[5] < PATIENCE)
    return jax.lax.while_loop(going, iterate, vary_like((program, x), start))[3]


@jax.custom_jvp
def attach_minimiser(program: SmoothProgram, x: jax.Array) -> jax.Array:
    """x, where the gradient of the objective vanishes, as a function of the program, by the implicit function theorem:
    the same as `implicit_root.attach_root`, by conjugate gradients."""
    return x


@attach_minimiser.defjvp
def _attach_minimiser_jvp(primals, tangents):
    (program, x), (change_of_program, _) = primals, tangents
    x = attach_minimiser(program, jax.lax.stop_gradient(x))
    gradient = jax.grad(lambda x, program: program.value(x))
    _, change = jax.jvp(lambda program: gradient(x, program), (program,), (change_of_program,))
    matvec = lambda v: jax.jvp(lambda x: gradient(x, program), (x,), (v,))[1]
    accuracy = 100 * float(jnp.finfo(x.dtype).eps)
    solve = lambda matvec, right: conjugate_gradients(matvec, right, accuracy).x
    return x, jax.lax.custom_linear_solve(matvec, -change, solve, symmetric=True)
