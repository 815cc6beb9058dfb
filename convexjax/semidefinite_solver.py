"""Semidefinite programs of real size: run the interior point, say what was proved, and differentiate.

The derivatives are those of the central path at a small mu, which tends to that of the solution where this is unique
and strictly complementary. At (x, y), with S = F_0 + sum x_i F_i and Z = t S^-1 (t = mu, or 1 for a block with a log
det), the path is the zero of

    c + A'y - t <F_i, S^-1> = 0,      A x - b = 0,                                                             (1)

whose Jacobian is [M A'; A 0] with M_ij = t tr(F_i S^-1 F_j S^-1), the Schur matrix again. No eigenvector is
differentiated, so that repeated eigenvalues do no harm.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax.batches import in_chunks
from convexjax.block_matrices import each, is_definite, largest
from convexjax.embedding import Claims
from convexjax.interior_point import history_of
from convexjax.linear_algebra import scale_tangent, vary_like
from convexjax.options import Options
from convexjax.semidefinite_interior_point import (
    Point,
    bordered_solver,
    centred,
    error_of,
    growth_of,
    measure,
    projected,
    run,
    scaling_of,
    unscaled,
)
from convexjax.semidefinite_program import SemidefiniteProgram
from convexjax.solution import Info, Status

# Lanes of a batch that are solved together.
CHUNK = 64
# mu of the derivatives, relative to the product of the largest entries of S and Z, by dtype.
CENTRE = {"float64": 1e-10, "float32": 1e-4}


class SemidefiniteSolution(NamedTuple):
    """Answer to a `SemidefiniteProgram`; the named problems take it apart."""

    point: Point
    objective: jax.Array
    status: jax.Array
    info: Info


def solve(program: SemidefiniteProgram, options: Options) -> SemidefiniteSolution:
    """Solve the program; the answer is a function of it, differentiable as often as wanted."""
    program = vary_like(program, program)
    answer = _solve(*jax.lax.stop_gradient((program, options)))
    solved = Status.SOLVED.holds(answer.status) | Status.ALMOST_SOLVED.holds(answer.status)
    factor = jnp.where(solved, 1, jnp.nan).astype(program.c.dtype)
    if options.failed_derivative == "nan":
        program = scale_tangent(program, factor)
    # a lane without a solution is cut off from its program on both sides
    fill = lambda tree: jax.tree.map(
        lambda leaf: (
            jnp.where(solved, leaf, jnp.ones((), leaf.dtype)) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf
        ),
        tree,
    )
    found = answer.point, answer.objective
    attached = _attach(fill(program), *fill(found))
    point, objective = jax.tree.map(lambda new, old: jnp.where(solved, new, old), attached, found)
    answer = answer._replace(point=point, objective=objective)
    return scale_tangent(answer, factor) if options.failed_derivative == "nan" else answer


def _solve_one(program: SemidefiniteProgram, options: Options) -> SemidefiniteSolution:
    scaling = scaling_of(program)
    scaled = scaling.scale(program)
    state, point = run(scaled, scaling, options)
    solved, almost, infeasible = options.tolerances(program.c.dtype)
    # the claim of a solution once more, from the user's own data; one that was not made may hold
    point, claims = _better(program, scaled, scaling, state, point, options)
    error, status = error_of(claims), state.status
    claimed = ~(Status.PRIMAL_INFEASIBLE.holds(status) | Status.DUAL_INFEASIBLE.holds(status))
    status = jnp.where(claimed & (error <= solved), jnp.int32(Status.SOLVED), status)
    claimed = Status.SOLVED.holds(status) | Status.ALMOST_SOLVED.holds(status)
    lesser = jnp.where(error <= almost, jnp.int32(Status.ALMOST_SOLVED), jnp.int32(Status.NUMERICAL_ERROR))
    proved = jnp.where(error <= solved, jnp.int32(Status.SOLVED), lesser)
    status = jnp.where(claimed, jnp.maximum(status, proved), status)

    # certificates are scaled so that their constant is -1
    impossible, unbounded = Status.PRIMAL_INFEASIBLE.holds(status), Status.DUAL_INFEASIBLE.holds(status)
    x, y, S, Z = point
    descent, growth = -program.c @ x, growth_of(program, program.combine(x))
    descent = jnp.where(unbounded, jnp.where(descent > infeasible * growth, descent, growth), 1)
    inner = sum((jnp.sum(f * z) for f, z in zip(program.F0, Z, strict=True)), program.b @ y)
    rise = jnp.where(impossible, -inner, 1)
    x, y = x / descent, y / rise
    S = tuple(jnp.where(unbounded, a, s) for a, s in zip(program.combine(x), S, strict=True))
    Z = tuple(z / rise for z in Z)
    inf = jnp.asarray(jnp.inf, program.c.dtype)
    objective = jnp.where(impossible, inf, jnp.where(unbounded, -inf, claims.objective))
    info = Info(
        num_iters=state.num_iters,
        primal_residual=claims.primal,
        dual_residual=claims.dual,
        gap=claims.gap,
        history=history_of(state.history),
    )
    return SemidefiniteSolution(Point(x, y, S, Z), objective, status, info)


def _better(program, scaled, scaling, state, point, options):
    """The point in the user's units and its claims. Where nothing was proved, since rounding errors keep Z from its
    equations, Z is projected on them, if that leaves it in its cone as far as matters."""
    solved, _, infeasible = options.tolerances(program.c.dtype)
    plain = scaling.unscale(point)
    proved = (Status.SOLVED, Status.PRIMAL_INFEASIBLE, Status.DUAL_INFEASIBLE)
    unproved = ~jnp.any(jnp.stack([status.holds(state.status) for status in proved]))

    def project():
        new = scaling.unscale(projected(scaled, point))
        slack = 0.1 * solved * jnp.maximum(1, largest(new.Z))
        inside = each(lambda z, part: is_definite(z + slack * part.identity()), new.Z, scaled.parts)
        return jax.tree.map(lambda new, old: jnp.where(jnp.all(jnp.stack(inside)), new, old), new, plain)

    def try_one(i, best):
        new = jax.lax.cond(i > 0, project, lambda: plain)
        claims = measure(program, unscaled(program), new, infeasible)
        better = (i == 0) | (error_of(claims) < error_of(best[1]))
        return jax.tree.map(lambda new, old: jnp.where(better, new, old), (new, claims), best)

    begin = vary_like((program, state), (plain, Claims(*[jnp.zeros((), program.c.dtype)] * len(Claims._fields))))
    return jax.lax.fori_loop(0, 1 + unproved.astype(jnp.int32), try_one, begin)


_solve = jax.custom_batching.custom_vmap(_solve_one)


@_solve.def_vmap
def _(lanes, batched, *data):
    axes = jax.tree.map(lambda flag: 0 if flag else None, tuple(batched))
    run = lambda data, lanes: jax.vmap(_solve_one, axes, axis_size=lanes)(*data)
    chunk = CHUNK if jax.default_backend() == "cpu" else lanes
    answers = in_chunks(run, data, tuple(batched), lanes, chunk)
    return answers, jax.tree.map(lambda _: True, answers)


# ----------------------------------------------------------------------------- derivatives


@jax.custom_jvp
def _attach(program: SemidefiniteProgram, point: Point, objective: jax.Array) -> tuple[Point, jax.Array]:
    """The point and the objective as functions of the program. Nothing is computed that is not differentiated."""
    return point, objective


@_attach.defjvp
def _(primals, tangents):
    (program, point, objective), (dprogram, *_) = primals, tangents
    data = jax.lax.stop_gradient(program)
    scaling = scaling_of(data)
    scaled_point = jax.lax.stop_gradient(scaling.scale_point(point))
    largest = lambda X: jnp.stack([jnp.max(jnp.abs(X_j), initial=0) for X_j in X]).max()
    mu = CENTRE[data.c.dtype.name] * jnp.maximum(1, largest(scaled_point.S) * largest(scaled_point.Z))
    targets = tuple(1 / (scaling.of_S * scaling.of_Z) if weight else mu for weight in data.weights)
    central = jax.lax.stop_gradient(centred(scaling.scale(data), scaled_point, targets))

    def of_program(program):
        scaled = scaling.scale(program)
        x, y = _central(scaled, central, targets)
        S = tuple(f + a for f, a in zip(scaled.F0, scaled.combine(x), strict=True))
        Z = tuple(t * _inverse(s) for t, s in zip(targets, S, strict=True))
        attached = scaling.unscale(Point(x, y, S, Z))
        same = jax.tree.map(lambda value, new: value + (new - jax.lax.stop_gradient(new)), point, attached)
        return same, _attach_value(program, same, objective)

    return jax.jvp(of_program, (program,), (dprogram,))


@jax.custom_jvp
def _central(program: SemidefiniteProgram, at: tuple, targets: tuple) -> tuple:
    """(x, y) of the central path, which solve (1), as a function of the program."""
    return at


@_central.defjvp
def _(primals, tangents):
    (program, at, targets), (dprogram, *_) = primals, tangents
    at = _central(program, jax.lax.stop_gradient(at), targets)
    n = program.c.shape[0]

    def equations(program, packed):
        x, y = packed[:n], packed[n:]
        S = (f + a for f, a in zip(program.F0, program.combine(x), strict=True))
        Z = tuple(t * _inverse(s) for t, s in zip(targets, S, strict=True))
        return jnp.concatenate([program.c + y @ program.A - program.inner(Z), program.A @ x - program.b])

    packed = jnp.concatenate(at)
    _, change = jax.jvp(lambda program: equations(program, packed), (program,), (dprogram,))
    _, jacobian = jax.linearize(lambda packed: equations(program, packed), packed)
    fixed = jax.lax.stop_gradient(program)
    S = (f + a for f, a in zip(fixed.F0, fixed.combine(jax.lax.stop_gradient(packed[:n])), strict=True))
    V = tuple(_inverse(s) for s in S)
    M = fixed.schur(V, tuple(t * v for t, v in zip(targets, V, strict=True)))
    solve_bordered = bordered_solver(M, fixed.A, jnp.ones((), M.dtype))
    solution = jax.lax.custom_linear_solve(
        jacobian, -change, lambda _, right: jnp.concatenate(solve_bordered(right[:n], right[n:])), symmetric=True
    )
    return at, (solution[:n], solution[n:])


@jax.custom_jvp
def _attach_value(program: SemidefiniteProgram, point: Point, objective: jax.Array) -> jax.Array:
    """The optimal value as a function of the program: its derivative is that of the Lagrangian (envelope theorem)."""
    return objective


@_attach_value.defjvp
def _(primals, tangents):
    (program, point, objective), (dprogram, *_) = primals, tangents
    x, y, _, Z = point

    def lagrangian(program):
        S = (f + a for f, a in zip(program.F0, program.combine(x), strict=True))
        return program.c @ x - sum(jnp.sum(s * z) for s, z in zip(S, Z, strict=True)) + y @ (program.A @ x - program.b)

    value = _attach_value(program, point, objective)
    return value, jax.jvp(lagrangian, (program,), (dprogram,))[1]


def _inverse(S):
    if S.ndim == 1:
        return 1 / S
    V = jnp.linalg.inv(S)
    return (V + jnp.swapaxes(V, -1, -2)) / 2
