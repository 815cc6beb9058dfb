"""Solves a geometric program on checked arrays, alone or in a batch, and attaches derivatives to the solution."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.batches import vmap_in_chunks
from convexjax.compilation import quick_jit
from convexjax.geometric_interior_point import LEAST_SLACK, State, factor, run, solve_refined
from convexjax.geometric_program import GeometricProgram, Terms, extended
from convexjax.interior_point import history_of
from convexjax.linear_algebra import gate, scale_tangent, vary_like
from convexjax.options import Options
from convexjax.pytrees import pytree
from convexjax.solution import Info, Solution, Status, exportable_pytree

# How far a warm start is from the boundary.
GUESS_SHIFT = 1e-2


@exportable_pytree
@dataclass(frozen=True, kw_only=True)
class GeometricSolution(Solution):
    """A `Solution` of a geometric program, which also has the logarithms, that never overflow, and sensitivities."""

    log_x: Any
    log_objective: Any
    term_sensitivities: Any  # (K,)


@pytree
@dataclass(frozen=True)
class Layout:
    """Where the user's terms and posynomials are in the program."""

    inner: Any  # terms of the objective and the inequalities, by posynomial
    entries: Any  # entries of sparse exponents among these, by term
    equal: Any  # terms of the equations
    equal_entries: Any  # their entries of sparse exponents: which, row, column
    inequality_ids: Any  # which of the constraints, from 0
    equation_ids: Any


@quick_jit
def solve(values, pattern, b, layout: Layout, terms: Terms, options: Options, guess) -> GeometricSolution:
    """The reduction, on checked arrays."""
    dtype = b.dtype
    if pattern is None:
        n, inner, G = values.shape[1], values[layout.inner], values[layout.equal]
    else:
        n, inner = pattern.num_variables, values[layout.entries]
        which, row, column = layout.equal_entries
        G = jnp.zeros((layout.equal.shape[0], n), dtype).at[row, column].set(values[which])
    program = extended(inner, pattern, b[layout.inner], terms, G, -b[layout.equal])
    program = vary_like(program, program)
    data, options, guess = jax.lax.stop_gradient((program, options, guess))
    state = _run(data, options, *_start(data, layout, guess))

    status, best = state.status, state.best
    solved = Status.SOLVED.holds(status) | Status.ALMOST_SOLVED.holds(status)
    failed = Status.NUMERICAL_ERROR.holds(status)
    infeasible, unbounded = Status.PRIMAL_INFEASIBLE.holds(status), Status.DUAL_INFEASIBLE.holds(status)
    weight = jnp.where(solved, 1, jnp.nan).astype(dtype)
    if options.failed_derivative == "nan":
        program = scale_tangent(program, weight)
    point = best.y, terms.sums(best.d).at[0].set(1), best.nu
    answer = _answer(gate(program, solved), point)
    # where there is no solution: the certificate, cut off from the data
    found = jax.lax.stop_gradient(_certificate(data, best, infeasible, unbounded))
    found = jax.tree.map(lambda leaf: jnp.where(failed, jnp.nan, leaf), found)
    y, F, lam, nu, shares, log_objective = jax.tree.map(lambda new, old: jnp.where(solved, new, old), answer, found)
    if options.failed_derivative == "nan":
        y, F, lam, nu, shares, log_objective = scale_tangent((y, F, lam, nu, shares, log_objective), weight)

    m = layout.inequality_ids.shape[0] + layout.equation_ids.shape[0]
    of_all = lambda inequalities, equations: (
        jnp.zeros(m, dtype).at[layout.inequality_ids].set(inequalities).at[layout.equation_ids].set(equations)
    )
    sensitivities = jnp.zeros(b.shape[0], dtype).at[layout.inner].set(shares[:-1]).at[layout.equal].set(nu)
    log_x = y[:-1]
    primal, dual, gap, no_point, no_bound = state.claims
    info = Info(
        num_iters=state.num_iters,
        primal_residual=jnp.where(unbounded, no_bound, primal),
        dual_residual=jnp.where(infeasible, no_point, dual),
        gap=gap,
        history=history_of(state.history),
    )
    return GeometricSolution(
        x=jnp.exp(log_x),
        s=of_all(-F[1:-1], program.h - program.G @ y),
        z=of_all(lam[1:-1], nu),
        objective=jnp.exp(log_objective),
        log_x=log_x,
        log_objective=log_objective,
        term_sensitivities=sensitivities,
        status=status,
        info=info,
    )


@jax.custom_batching.custom_vmap
def _run(program: GeometricProgram, options: Options, y, guess: tuple | None) -> State:
    """One program; a batch in chunks, as in `solver.py`."""
    return run(program, options, y, guess)


@_run.def_vmap
def _(lanes, batched, *data):
    program = data[0]
    n, terms = program.G.shape[-1], program.b.shape[-1]
    return vmap_in_chunks(_run.fun, data, batched, lanes, program.b.dtype.itemsize * n * (terms + 2 * n))


def _start(program: GeometricProgram, layout: Layout, guess: tuple | None) -> tuple:
    """log x with the equations, of least norm; or the guess where it is finite."""
    G, dtype = program.G, program.b.dtype
    y = jnp.zeros(G.shape[1], dtype)
    if G.shape[0]:
        y = jnp.linalg.lstsq(G, jnp.where(jnp.isfinite(program.h), program.h, 0))[0]
        y = jnp.where(jnp.isfinite(y), y, 0)
    if guess is None:
        return y, None
    log_x, z = guess
    useful = jnp.all(jnp.isfinite(log_x)) & jnp.all(jnp.isfinite(z))
    y = jnp.where(useful, jnp.append(jnp.where(useful, log_x, 0), 0), y)
    lam = jnp.concatenate([jnp.ones(1, dtype), z[layout.inequality_ids], jnp.zeros(1, dtype)])
    # without a guess lambda is one, and the slacks at least one
    return y, (jnp.where(useful, lam, 1), jnp.where(useful, GUESS_SHIFT, 1).astype(dtype))


def _certificate(program: GeometricProgram, best, infeasible, unbounded) -> tuple:
    """As `_answer`, for a point that is no solution."""
    y, d, s, nu = best
    terms = program.terms
    F, shares = program.posynomials(y)
    lam = terms.sums(d)
    # the value of the certificate is one
    inner = (terms.segment > 0) & (terms.segment < terms.number - 1)
    own = jnp.where(inner, d, 0)
    share = jnp.where(inner, d / terms.spread(lam), 1)
    value = own @ (program.b - jnp.log(share)) - nu @ program.h
    value = jnp.where(infeasible, value, 1)
    d, lam, nu = jnp.where(infeasible, own, d) / value, lam / value, nu / value
    fall = -jnp.max(jnp.where(terms.segment == 0, program.A.matvec(y), -jnp.inf))
    y = y / jnp.where(unbounded, fall, 1)
    return y, F, lam, nu, d, jnp.where(infeasible, jnp.inf, jnp.where(unbounded, -jnp.inf, F[0]))


# ----------------------------------------------------------------------------- derivatives


def _answer(program: GeometricProgram, point: tuple) -> tuple:
    """y, F, lambda, nu, the weights of the terms and the optimum, as functions of the program."""
    y, lam, nu = _attach(program, point)
    terms = program.terms
    F, shares = program.posynomials(y)
    # the Lagrangian, whose derivatives in y, lambda and nu are zero
    inner = F[1:] * jnp.where(_binding(program, point)[1:], lam[1:], 0)
    lagrangian = F[0] + jnp.sum(inner) + nu @ (program.G @ y - program.h)
    value = F[0] + (lagrangian - jax.lax.stop_gradient(lagrangian)) - (F[0] - jax.lax.stop_gradient(F[0]))
    return y, F, lam, nu, terms.spread(lam) * shares, value


def _binding(program: GeometricProgram, point: tuple) -> jax.Array:
    """Which constraints hold with equality: slack below the multiplier."""
    program, (y, lam, _) = jax.lax.stop_gradient((program, point))
    F, _ = program.posynomials(y)
    return (lam > -F).at[0].set(False).at[-1].set(False)


def _residual(x: tuple, program: GeometricProgram, binding) -> tuple:
    """What is zero at the solution, with a symmetric Jacobian: the gradient of the Lagrangian of the constraints that
    bind, these, the multipliers of the others, and the equations."""
    y, lam, nu = x
    F, shares = program.posynomials(y)
    weights = jnp.where(binding, lam, 0).at[0].set(1)
    gradient = program.A.rmatvec(program.terms.spread(weights) * shares) + nu @ program.G
    return gradient.at[-1].add(y[-1]), jnp.where(binding, F, lam), program.G @ y - program.h


@jax.custom_jvp
def _attach(program: GeometricProgram, point: tuple) -> tuple:
    """The point (y, lambda, nu) as a function of the program, by the implicit function theorem."""
    return point


@_attach.defjvp
def _attach_jvp(primals, tangents):
    (program, point), (dprogram, _) = primals, tangents
    fixed, (y, lam, nu) = jax.lax.stop_gradient((program, point))
    binding, dtype = _binding(program, point), lam.dtype
    x = _attach(program, point)
    _, change = jax.jvp(lambda program: _residual(x, program, binding), (program,), (dprogram,))
    sizes = np.cumsum([y.shape[0], lam.shape[0]])
    pack, unpack = jnp.concatenate, lambda v: tuple(jnp.split(v, sizes))

    def matvec(v):
        return pack(jax.jvp(lambda x: _residual(x, program, binding), (x,), (unpack(v),))[1])

    terms = fixed.terms
    _, shares = fixed.posynomials(y)
    weights = jnp.where(binding, lam, 0).at[0].set(1)
    d, safe = terms.spread(weights) * shares, jnp.where(binding, lam, 1).at[0].set(1)
    slack = jnp.zeros_like(lam)
    factors = factor(fixed, d, safe, slack + LEAST_SLACK[dtype.name], jnp.ones((), dtype))

    def solve(_, right):
        r_y, r_v, r_G = unpack(right)
        target = 10 * jnp.finfo(dtype).eps * jnp.max(jnp.abs(right))
        u, r_y = r_y[-1], r_y.at[-1].set(0)
        right_v = jnp.where(binding, safe * r_v, 0)
        dy, v, dnu = solve_refined(fixed, factors, d, safe, slack, r_y, right_v, r_G, target)
        return pack((dy.at[-1].set(u), jnp.where(binding, safe * v, r_v), dnu))

    change = jax.lax.custom_linear_solve(matvec, -pack(change), solve, symmetric=True)
    return x, unpack(change)
