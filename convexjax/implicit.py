"""Derivatives of solutions, from the optimality conditions: no loop is unrolled, no solver is known here.

With the projection pi onto K (`Cone.project`) and v = s - z, so that s = pi(v) and z = pi(v) - v, a point solves the
program if

    F(x, v) = [P x + A'(pi(v) - v) + q;  A x + pi(v) - b] = 0.

A program given as functions (`smooth_program.py`) has grad f(x) and h(x) in the place of P x + q and A x - b. Its
system is that of the cone program near the solution, P the Hessian of the Lagrangian and A that of the rows.

Differentiated, with D the derivative of pi at v (symmetric, eigenvalues between 0 and 1),

    J [dx; dv] = -dF,     J = [P, -A'(I - D); A, D],        ds = D dv + d pi,   dz = ds - dv,

where dF and d pi are the changes of F and pi by the data alone (implicit function theorem; Agrawal, Barratt, Boyd,
Busseti and Moursi, "Differentiating through a cone program", 2019). With B = (I - D)^1/2, y = B dv this is the
symmetric system

    [ P    -A'B] [dx]   [ r_x  ]
    [-B A   -D ] [y ] = [-B r_v],     dv = (I + D) B y + D (r_v - A dx),                                       (1)

which has the form of the systems of `kkt.py` with H = D (I - D)^-1: rows with D = 1 do not bind, rows with D = 0 hold
with equality. It is solved in the same way, by refinement with a Cholesky factor of P + epsilon I + A'R A,
R = (I - D)(D + delta (I - D))^-1, and so is its transpose.

Where the solution is not unique, (1) is singular and may have no solution; then (dx, y) is the least-squares solution
of smallest norm. At a kink of pi D is one of its generalised derivatives.

With mu > 0, `pi` is the smooth projection with s = -mu grad f*(z), and the zero of F the point of the central path at
mu.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.cone_program import ConeProgram
from convexjax.kkt import Reduced, factorise, refined, replace_exact, solve_reduced
from convexjax.linear_algebra import reductions, vary_like
from convexjax.smooth_program import SmoothProgram

# What can be differentiated: both have values, rows, the gradient of the Lagrangian, and a cone program near a point.
Program = ConeProgram | SmoothProgram

# delta and least epsilon of the regularised system, by dtype. Larger than in the solver: H has no tiny eigenvalues that
# matter, and rounding errors of relative size eps / (delta epsilon) mix with the null space of a singular system.
REGULARISATION = {"float64": (1e-6, 4e-6), "float32": (1e-3, 1e-2)}
# Most steps of refinement.
REFINEMENT_STEPS = 30
# Most Newton steps that bring a point to F = 0 before it is differentiated: from a solution, and from there to a point
# of the central path.
NEWTON_STEPS, CENTRAL_STEPS = 5, 60
# Largest entry of F, relative to that of the point or one, at which it ends.
SHARP = {"float64": 2e-13, "float32": 4e-6}
# Distance from a kink of the projection, in the solver's units, within which a derivative does not count as unique.
KINK = 1e-6


def residual(program: Program, x: jax.Array, v: jax.Array, mu: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """F(x, v)."""
    s = program.cone.project(v, mu)
    return program.stationarity(x, s - v), program.rows(x) + s


# ----------------------------------------------------------------------------- what solvers call


@jax.custom_jvp
def attach(program: Program, point: tuple, mu: jax.Array | None) -> tuple:
    """The solution (x, s, z) of `program`, which a solver has found, as a function of the program: `point` itself, with
    the derivatives of any order that the optimality conditions give; those of the central path at mu, if given."""
    return point


@attach.defjvp
def _attach_jvp(primals, tangents):
    (program, point, mu), (dprogram, _, _) = primals, tangents
    exact, _ = sharpen(program, point, mu)
    # these values depend on the program, too: the same rule gives the next derivative
    sharp = attach(program, jax.lax.stop_gradient(exact), mu)
    x, s, z = sharp
    v = s - z
    system = factor(*jax.lax.stop_gradient((program, x, v, mu)))
    _, change = jax.jvp(lambda program: residual(program, x, v, mu), (program,), (dprogram,))
    _, J = jax.linearize(lambda x, v: residual(program, x, v, mu), x, v)
    # one vector: JAX transposes a linear solve only if all parts of its right-hand side are to be differentiated
    split = lambda d: (d[: x.shape[0]], d[x.shape[0] :])
    dx, dv = split(
        jax.lax.custom_linear_solve(
            lambda d: jnp.concatenate(J(*split(d))),
            -jnp.concatenate(change),
            lambda _, right: jnp.concatenate(solve(system, *split(right))),
            lambda _, right: jnp.concatenate(solve_transposed(system, *split(right))),
        )
    )
    _, ds = jax.jvp(lambda cone, v: cone.project(v, mu), (program.cone, v), (dprogram.cone, dv))
    value = jax.tree.map(lambda value, new: value + (new - jax.lax.stop_gradient(new)), point, sharp)
    return value, (dx, ds, ds - dv)


@jax.custom_jvp
def attach_value(program: Program, point: tuple, objective: jax.Array) -> jax.Array:
    """The optimal value as a function of the program: `objective` itself, with the derivative of the Lagrangian

        L = 1/2 x'Px + q'x + z'(Ax + pi(s - z) - b)

    with respect to the data at fixed x, s, z (envelope theorem), right also where x or z are not unique."""
    return objective


@attach_value.defjvp
def _attach_value_jvp(primals, tangents):
    (program, (x, s, z), objective), (dprogram, _, _) = primals, tangents

    def lagrangian(program):
        return program.value(x) + z @ (program.rows(x) + program.cone.project(s - z))

    value = attach_value(program, (x, s, z), objective)
    return value, jax.jvp(lagrangian, (program,), (dprogram,))[1]


def is_unique(program: Program, point: tuple) -> jax.Array:
    """Whether the derivative of the solution is: pi has no kink nearby, and (1) is not singular, nor so nearly
    so that its solution is lost in rounding errors: it leaves nothing of a right-hand side without special position."""
    (x, s, z), _ = sharpen(program, point, None)
    system = factor(program, x, s - z, None)
    right = jnp.asarray(np.random.default_rng(0).normal(size=x.size + s.size), x.dtype)
    _, left = _refine(system, vary_like((program, point), right))
    kinked = program.cone.near_kink(s - z, jnp.asarray(max(KINK, 10 * jnp.finfo(x.dtype).eps), x.dtype))
    return ~kinked & (_size(left) < jnp.finfo(x.dtype).eps ** 0.4)


# ----------------------------------------------------------------------------- the linear system


class System(NamedTuple):
    """A factored system (1)."""

    program: ConeProgram
    spectrum: tuple  # of D
    reduced: Reduced  # factors of P + epsilon I + A'R A
    delta: jax.Array


def factor(program: Program, x: jax.Array, v: jax.Array, mu: jax.Array | None) -> System:
    """Factorise the system at (x, v)."""
    dtype = x.dtype
    program = program.linearized(x, program.cone.project(v, mu) - v)
    delta, epsilon = (jnp.asarray(r, dtype) for r in REGULARISATION[dtype.name])
    spectrum = program.cone.spectrum(v, mu)
    weighted_A = program.cone.weigh("spectral", spectrum, lambda d: (1 - d) * _inverse(d, delta), program.A)
    # as much more than epsilon as keeps the factor from breaking down
    kept = None
    if program.A.is_sparse:
        H = lambda d: (delta + (1 - delta) * jnp.clip(d, 0, 1)) * _inverse_root(d, delta) ** 2
        of_columns = lambda i, part, v: part.spectral(spectrum[i], H, v)
        kept = program.cone.matrices(of_columns, program.A.num_general, dtype)
    reduced = factorise(program, weighted_A, epsilon, 10 * float(jnp.finfo(dtype).eps), kept)
    return System(program, spectrum, reduced, delta)


def _root(d):
    """The eigenvalues of B."""
    return jnp.sqrt(jnp.clip(1 - d, 0, 1))


def _inverse_root(d, delta):
    """Those of B^-1, bounded."""
    return jax.lax.rsqrt(jnp.clip(1 - d, 0, 1) + 0.01 * delta)


def _inverse(d, delta):
    """Those of T = (D + delta (I - D))^-1."""
    return 1 / (delta + (1 - delta) * jnp.clip(d, 0, 1))


def solve(system: System, r_x: jax.Array, r_v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(dx, dv) with J (dx, dv) = (r_x, r_v)."""
    B, BD, D = (_function(system, f) for f in (_root, lambda d: (1 + d) * _root(d), lambda d: d))
    dx, y = _least_squares(system, r_x, -B(r_v))
    return dx, BD(y) + D(r_v - system.program.A.matvec(dx))


def solve_transposed(system: System, c_x: jax.Array, c_v: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(r_x, r_v) with J'(r_x, r_v) = (c_x, c_v): the transpose of `solve`, line by line."""
    B, BD, D = (_function(system, f) for f in (_root, lambda d: (1 + d) * _root(d), lambda d: d))
    D_c = D(c_v)
    a, y = _least_squares(system, c_x - system.program.A.rmatvec(D_c), BD(c_v))
    return a, D_c - B(y)


def _function(system, function):
    """v to function(D) v."""
    return lambda v: system.program.cone.spectral(system.spectrum, function, v[:, None])[:, 0]


def _least_squares(system: System, r_x: jax.Array, r_y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The least-squares solution of (1) of smallest norm.

    Refinement leaves the part of the right-hand side that no (dx, y) reaches. Along the null space the regularised
    matrix is as small as delta and epsilon, so that the answer is then of the size of that part over epsilon. Without
    that part it is solved again; each time the null space is left with an error smaller by eps / epsilon. A regular
    system needs one round.
    """
    n = r_x.shape[0]
    right = vary_like((system, r_x, r_y), jnp.concatenate([r_x, r_y]))
    negligible = 1e3 * jnp.finfo(right.dtype).eps * _size(right)

    def solve_again(state):
        rounds, right, _, _ = state
        d, left = _refine(system, right)
        return rounds + 1, right - left, d, _size(left)

    start = jnp.int32(0), right, right, jnp.full_like(negligible, jnp.inf)
    _, _, d, _ = jax.lax.while_loop(lambda state: (state[0] < 3) & (state[3] > negligible), solve_again, start)
    return d[:n], d[n:]


def _refine(system: System, right: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Solve (1) up to what no (dx, y) reaches; and that part."""
    program, n, delta = system.program, system.program.q.shape[0], system.delta
    B, D = _function(system, _root), _function(system, lambda d: d)
    T, BT = _function(system, lambda d: _inverse(d, delta)), _function(system, lambda d: _root(d) * _inverse(d, delta))

    # rows that are kept: of a sparse program A dx - H u, u = -B y, H = B^-1 (D + delta (I - D)) B^-1; else B = I, D = 0
    of_exact = _function(system, lambda d: _inverse_root(d, delta)) if program.A.is_sparse else lambda v: v

    def precondition(e):
        of_rows = program.A.rmatvec(replace_exact(program.A, BT(e[n:]), 0))
        dx, exact = solve_reduced(system.reduced, e[:n] - of_rows, of_exact(-e[n : n + program.A.num_exact]))
        y = -T(e[n:] + B(program.A.matvec(dx)))
        return jnp.concatenate([dx, replace_exact(program.A, y, -of_exact(exact))])

    def left(d):
        dx, y = d[:n], d[n:]
        return right - jnp.concatenate(
            [program.quadratic(dx) - program.A.rmatvec(B(y)), -B(program.A.matvec(dx)) - D(y)],
        )

    target = 100 * jnp.finfo(right.dtype).eps * _size(right)
    return refined(precondition, left, right, target, REFINEMENT_STEPS, gain=0.9)


def _size(v):
    """Largest entry in absolute value."""
    return reductions(maxima=(jnp.abs(v),))[0]


# ----------------------------------------------------------------------------- the point


def sharpen(
    program: Program, point: tuple, mu: jax.Array | None, max_steps: int | jax.Array | None = None
) -> tuple[tuple, jax.Array]:
    """The point (x, s, z) with F(x, s - z) = 0 to rounding errors, from a solution near by, by Newton's method; and how
    many steps it took.

    An interior point with residuals of 1e-9 has eigenvalues of s and z of the size of their root, which may not tell
    yet which rows bind, and where the cone is curved x and the derivatives have errors of that size.
    """
    program, point, mu = jax.lax.stop_gradient((program, point, mu))
    x, s, z = point
    v = s - z
    steps = jnp.asarray([1.0] if mu is None else 0.5 ** np.arange(0, 12, 2), x.dtype)
    sharp = SHARP[x.dtype.name]
    if max_steps is None:
        max_steps = NEWTON_STEPS if mu is None else CENTRAL_STEPS

    def error(x, v):
        return _size(jnp.concatenate(residual(program, x, v, mu)))

    def newton(state):
        rounds, (x, v), best, smallest, stalled = state
        F_x, F_v = residual(program, x, v, mu)
        dx, dv = solve(factor(program, x, v, mu), -F_x, -F_v)
        sizes = jax.vmap(lambda step: error(x + step * dx, v + step * dv))(steps)
        sizes = jnp.where(jnp.isnan(sizes), jnp.inf, sizes)
        chosen = jnp.argmin(sizes)
        size, moved = sizes[chosen], (x + steps[chosen] * dx, v + steps[chosen] * dv)
        improved = size < smallest
        best = jax.tree.map(lambda new, old: jnp.where(improved, new, old), moved, best)
        return rounds + 1, moved, best, jnp.minimum(size, smallest), jnp.where(improved, 0, stalled + 1)

    def unfinished(state):
        rounds, _, best, smallest, stalled = state
        # one step may fail: when it has changed the rows that bind, the next one is right
        return (stalled < 2) & (rounds < max_steps) & (smallest > sharp * (1 + _size(jnp.concatenate(best))))

    start = (jnp.int32(0), (x, v), (x, v), error(x, v), jnp.int32(0))
    rounds, _, (x, v), _, _ = jax.lax.while_loop(unfinished, newton, vary_like((program, point), start))
    s = program.cone.project(v, mu)
    return (x, s, s - v), rounds
