"""A primal-dual interior-point method for semidefinite programs of real size (`semidefinite_program.py`).

From S, Z positive definite and any x, Newton's method on

    R = F_0 + sum x_i F_i - S = 0,      c + A'y - <F_i, Z> = 0,      A x = b,      S Z = t I,

the last one symmetrised as by Helmberg, Rendl, Vanderbei and Wolkowicz, Kojima, Shindoh and Hara, and Monteiro (1997):
with V = S^-1 and sym(X) = (X + X')/2 the direction and the new y are

    M dx + A'y = t <F_i, V> - c - <F_i, V R Z + E>,      A dx = b - A x,      M_ij = tr(F_i V F_j Z),          (1)
    dS = sum dx_i F_i + R,      dZ = t V - Z - sym(V dS Z + E),                                                (2)

E = 0 in the predictor and V dS dZ of the predictor in the corrector (Mehrotra). The target t is sigma mu, and for a
block with a log det in the objective max(sigma mu, 1): S Z = I is its optimality condition. Primal and dual steps have
lengths of their own. Start, sigma and lengths are those of Toh, Todd and Tutuncu, "SDPT3" (1999).

Where one side has no interior the solutions of the other are unbounded, and (1) becomes singular before a residual that
is left can be removed. An attempt that gets stuck is therefore followed by others from an S that is much larger, from
where the residuals vanish while mu is still large, with shorter steps.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax.linalg import triangular_solve

from convexjax.block_matrices import (
    each,
    inner_product,
    inverse_factor,
    is_definite,
    largest,
    log_det,
    product,
    symmetric,
    to_boundary,
    transpose,
)
from convexjax.embedding import Claims
from convexjax.interior_point import State, begin_at, judge, print_header, recorded, unfinished
from convexjax.linear_algebra import vary_like
from convexjax.options import Options
from convexjax.semidefinite_program import SemidefiniteProgram
from convexjax.solution import Status

# What a direction may miss of the equations of Z before it is refined, relative to c; by dtype.
MISSED = {"float64": 1e-11, "float32": 1e-5}
# S at the start of each attempt relative to that of the first; share of the step to the boundary of the later ones.
ATTEMPTS, CAREFUL = np.array([1, 1e3, 1e5]), 0.9
# Most conjugate-gradient steps of the projection of Z.
PROJECTION_STEPS = 60
# Most Newton steps to a point of the central path.
CENTRING_STEPS = 40
# Regularisation of the Schur matrix, scaled to unit diagonal, by dtype; and steps of refinement with the matrix itself.
REGULARISATION, REFINEMENT_STEPS = {"float64": 1e-15, "float32": 1e-7}, 2


class Point(NamedTuple):
    """x, y, and S and Z, tuples with one entry per part."""

    x: jax.Array
    y: jax.Array
    S: tuple
    Z: tuple


class Scaling(NamedTuple):
    """The program in the solver's units: F_i / size_i, F_0 / of_S, c_i / (size_i of_Z), rows of A of size one."""

    size: jax.Array  # (n,)
    of_S: jax.Array
    of_Z: jax.Array
    rows: jax.Array  # (p,)

    def scale(self, program: SemidefiniteProgram) -> SemidefiniteProgram:
        """The program in the solver's units."""
        return SemidefiniteProgram(
            c=program.c / self.size / self.of_Z,
            parts=tuple(part.scaled(self.size, self.of_S) for part in program.parts),
            A=program.A * (self.of_S / self.size) / self.rows[:, None],
            b=program.b / self.rows,
            weights=program.weights,
        )

    def scale_point(self, point: Point) -> Point:
        """A point in the solver's units."""
        times = lambda matrices, factor: tuple(matrix / factor for matrix in matrices)
        x, y = point.x / self.of_S * self.size, point.y / self.of_S / self.of_Z * self.rows
        return Point(x, y, times(point.S, self.of_S), times(point.Z, self.of_Z))

    def unscale(self, point: Point) -> Point:
        """A point in the user's units."""
        times = lambda matrices, factor: tuple(matrix * factor for matrix in matrices)
        x, y = point.x * self.of_S / self.size, point.y * self.of_S * self.of_Z / self.rows
        return Point(x, y, times(point.S, self.of_S), times(point.Z, self.of_Z))


def scaling_of(program: SemidefiniteProgram) -> Scaling:
    """The scaling to matrices of norm one."""
    positive = lambda size: jnp.where(size > 0, size, 1)
    size = positive(program.norms())
    of_S = positive(jnp.sqrt(sum(jnp.sum(F0**2) for F0 in program.F0)))
    of_Z = positive(jnp.linalg.norm(program.c / size))
    return Scaling(size, of_S, of_Z, positive(jnp.max(jnp.abs(program.A * (of_S / size)), 1, initial=0)))


def unscaled(program: SemidefiniteProgram) -> Scaling:
    """The scaling that changes nothing."""
    one = jnp.ones((), program.c.dtype)
    return Scaling(jnp.ones_like(program.c), one, one, jnp.ones_like(program.b))


# ----------------------------------------------------------------------------- claims


def measure(program: SemidefiniteProgram, scaling: Scaling, point: Point, tolerance: jax.Array) -> Claims:
    """What the point proves: residuals relative to their terms, in the units of the user and of the solver,
    certificates of infeasibility (that of `x` is tested, not measured: 0 or infinite), and the objective in the user's
    units."""
    x, y, S, Z = point
    c, F0, dtype = program.c, program.F0, program.c.dtype
    tiny, eps = jnp.finfo(dtype).tiny, jnp.finfo(dtype).eps
    combined, inner, Ax, Aty = program.combine(x), program.inner(Z), program.A @ x, y @ program.A
    size = lambda v: jnp.max(jnp.abs(v), initial=0)
    relative = lambda residual, *terms: residual / jnp.maximum(jnp.stack(terms).max(), tiny)
    R, r = each(lambda f, a, s: f + a - s, F0, combined, S), inner - Aty - c
    of_A = jnp.max(jnp.abs(program.A) * jnp.abs(x), 1, initial=0)
    primal = jnp.maximum(
        relative(
            largest(R),
            largest(F0),
            largest(combined),
            largest(S),
        ),
        size((Ax - program.b) / jnp.maximum(jnp.maximum(jnp.abs(program.b), of_A), tiny)),
    )
    # without an objective all its terms may vanish
    one = jnp.where(size(c) > 0, 0, 1).astype(dtype)
    of_user = lambda v: size(v * scaling.size)
    dual = jnp.maximum(
        relative(size(r), size(c), size(inner), size(Aty), one),
        relative(of_user(r), of_user(c), of_user(inner), of_user(Aty), one),
    )
    unit = scaling.of_S * scaling.of_Z
    linear, dual_value = c @ x, -inner_product(F0, Z) - program.b @ y
    primal_value, dual_objective = linear * unit, dual_value * unit
    for weight, S_j, Z_j in zip(program.weights, S, Z, strict=True):
        if weight:
            degree = degree_of(S_j)
            primal_value -= log_det(S_j) + degree * jnp.log(scaling.of_S)
            dual_objective += log_det(Z_j) + degree * jnp.log(scaling.of_Z) + degree
    terms = jnp.sum(jnp.abs(c * x))
    # both values may vanish: then relative to the size that they have for data of these norms
    least = jnp.maximum(jnp.minimum(1, 0.01 * terms * unit), 1e-3 * jnp.minimum(unit, 1))
    gap = jnp.maximum(jnp.abs(primal_value - dual_objective) - 10 * eps * terms * unit, 0)

    # rays, along which every constraint holds: of descent, or without ascent and a log det grows; the counterpart for Z
    descends = (-linear > 1e-4 * eps**0.5 * terms) & (-linear > 10)
    growth = growth_of(program, combined)
    grows = ~descends & (linear <= 10 * eps * jnp.maximum(terms, growth)) & (growth > 10 * sum(map(degree_of, S)))
    rate = jnp.where(grows, growth, jnp.where(descends, -linear, 1))
    unit_ray = each(lambda a: a / rate, combined)
    largest_ray = jnp.maximum(1, largest(unit_ray))
    holds = lambda: (
        jnp.all(
            jnp.stack(
                each(
                    lambda a, one: is_definite(a + largest_ray * tolerance / 2 * one),
                    unit_ray,
                    identity(program),
                )
            )
        )
        & (size(Ax) <= tolerance * rate)
    )
    ray = jax.lax.cond(descends | grows, holds, lambda: jnp.array(False))
    sizes = sum((jnp.sum(jnp.abs(f * z)) for f, z in zip(F0, Z, strict=True)), jnp.sum(jnp.abs(program.b * y)))
    certain = dual_value > 1e4 * eps * sizes
    return Claims(
        primal=primal,
        dual=dual,
        gap=relative(gap, jnp.abs(primal_value), jnp.abs(dual_objective), least),
        primal_infeasible=jnp.where(certain, size(inner - Aty) / jnp.where(certain, dual_value, 1), jnp.inf),
        dual_infeasible=jnp.where(ray, 0, jnp.inf).astype(dtype),
        objective=primal_value,
    )


def growth_of(program: SemidefiniteProgram, matrices: tuple) -> jax.Array:
    """The trace of the blocks with a log det."""
    traces = [
        jnp.sum(M) if M.ndim == 1 else jnp.sum(jnp.trace(M, axis1=-2, axis2=-1))
        for M, weight in zip(matrices, program.weights, strict=True)
        if weight
    ]
    return sum(traces, jnp.zeros((), program.c.dtype))


def error_of(claims: Claims) -> jax.Array:
    """How far the point is from being a proved solution."""
    return jnp.maximum(jnp.maximum(claims.primal, claims.dual), claims.gap)


# ----------------------------------------------------------------------------- one iteration


def identity(program: SemidefiniteProgram) -> tuple:
    """The identity, in each part."""
    return tuple(part.identity() for part in program.parts)


def degree_of(X: jax.Array) -> int:
    """Number of eigenvalues of a part."""
    return X.size if X.ndim == 1 else X.shape[0] * X.shape[1]


def means(program: SemidefiniteProgram, S: tuple, Z: tuple) -> tuple[jax.Array, jax.Array]:
    """The mean eigenvalue of S Z over the blocks without and over those with a log det."""
    found = []
    for weight in (0, 1):
        of_kind = [(s, z) for w, s, z in zip(program.weights, S, Z, strict=True) if w == weight]
        total = sum((jnp.sum(s * z) for s, z in of_kind), jnp.zeros((), program.c.dtype))
        found.append(total / max(1, sum(degree_of(s) for s, _ in of_kind)))
    return found[0], found[1]


def start(program: SemidefiniteProgram, factor: float = 1.0, factor_of_S: jax.Array | float = 1.0) -> Point:
    """Multiples of the identity, large enough to be as far from the boundary as the solution may be large, or `factor`
    times that, and S `factor_of_S` times that again."""
    S, Z = [], []
    for part in program.parts:
        side = part.F0.shape[-1]
        norms = jnp.sqrt(part.squares())
        of_Z = side * jnp.max((1 + jnp.abs(program.c)) / (1 + norms), initial=0)
        of_S = jnp.maximum(jnp.max(norms, initial=0), jnp.sqrt(jnp.sum(part.F0**2)))
        least = max(10.0, float(np.sqrt(side)))
        S.append(factor * factor_of_S * jnp.maximum(of_S, least) * part.identity())
        Z.append(factor * jnp.maximum(of_Z, least) * part.identity())
    return Point(jnp.zeros_like(program.c), jnp.zeros_like(program.b), tuple(S), tuple(Z))


def schur_solver(M: jax.Array, boost: jax.Array):
    """Solve with the Schur matrix: a Cholesky factor of it, regularised, and refinement."""
    root = jnp.sqrt(jnp.diagonal(M))
    scale = 1 / jnp.where(root > 0, root, 1)
    n = M.shape[0]
    scaled = M * scale[:, None] * scale
    shift = boost * n**0.5 * REGULARISATION[M.dtype.name]
    factor = jnp.linalg.cholesky(
        scaled + jnp.diag(shift + jnp.where(root > 0, 0, 1).astype(M.dtype)), symmetrize_input=False
    )

    def back(right):
        y = triangular_solve(factor, right[:, None], left_side=True, lower=True)
        return triangular_solve(factor, y, left_side=True, lower=True, transpose_a=True)[:, 0]

    def solve(right):
        right = right * scale

        def refine(_, carry):
            y, residual, best = carry
            new = y + back(residual)
            left = right - scaled @ new
            size = jnp.linalg.norm(left)
            better = size < best
            return jnp.where(better, new, y), jnp.where(better, left, residual), jnp.where(better, size, best)

        first = back(right)
        left = right - scaled @ first
        y, *_ = jax.lax.fori_loop(0, REFINEMENT_STEPS, refine, (first, left, jnp.linalg.norm(left)))
        return y * scale

    return solve


def bordered_solver(M: jax.Array, A: jax.Array, boost: jax.Array):
    """Solve [M A'; A 0] (dx, y) = (right, e). With rows of A, M + A'A takes the place of M, which changes nothing but y
    and is positive definite whenever there is a unique solution."""
    if A.shape[0] == 0:
        solve = schur_solver(M, boost)
        return lambda right, e: (solve(right), e)
    weight = jnp.mean(jnp.diagonal(M))
    solve = schur_solver(M + weight * A.T @ A, boost)
    MA = jax.vmap(solve)(A)  # (p, n), rows M^-1 A_r
    solve_rows = schur_solver(symmetric(MA @ A.T), boost)

    def solve_both(right, e):
        def once(right, e):
            dx = solve(right + weight * e @ A)
            y = solve_rows(A @ dx - e)
            return dx - y @ MA, y

        dx, y = once(right, e)
        more, dy = once(right - M @ dx - y @ A, e - A @ dx)
        return dx + more, y + dy

    return solve_both


def newton(program: SemidefiniteProgram, point: Point, boost: jax.Array):
    """What gives the direction (1), (2) for targets t, one per part, and E, with the primal and dual steps to the
    boundary; its refinement; and V."""
    x, y, S, Z = point
    inverse_S, inverse_Z = (
        each(inverse_factor, S),
        each(inverse_factor, Z),
    )
    V = each(lambda L: product(transpose(L) if L.ndim > 1 else L, L), inverse_S)
    R = each(lambda f, a, s: f + a - s, program.F0, program.combine(x), S)
    solve = bordered_solver(program.schur(V, Z), program.A, boost)
    VRZ, missing = each(product, V, R, Z), program.b - program.A @ x

    def towards(targets, E):
        wanted = each(lambda t, v, vrz, e: t * v - symmetric(vrz + e), targets, V, VRZ, E)
        dx, y_new = solve(program.inner(wanted) - program.c, missing)
        dS = each(lambda a, r: a + r, program.combine(dx), R)
        dZ = each(
            lambda t, v, z, ds, e: t * v - z - symmetric(product(v, ds, z) + e),
            targets,
            V,
            Z,
            dS,
            E,
        )
        steps = [
            jnp.stack(each(to_boundary, X, inverse, directions)).min()
            for X, inverse, directions in ((S, inverse_S, dS), (Z, inverse_Z, dZ))
        ]
        return Point(dx, y_new - y, dS, dZ), *steps

    def refined(d):
        """The direction, changed so that Z + dZ fulfils its equations in spite of the rounding errors of V, which are
        those of a matrix that is nearly singular."""
        y_new = y + d.y
        missed = program.inner(each(lambda z, dz: z + dz, Z, d.Z)) - program.c - y_new @ program.A

        def again():
            dx, dy = solve(missed, jnp.zeros_like(missing))
            dS = program.combine(dx)
            dZ = each(lambda v, z, ds: -symmetric(product(v, ds, z)), V, Z, dS)
            return jax.tree.map(lambda a, b: jnp.where(jnp.all(jnp.isfinite(dx)), a + b, a), d, Point(dx, dy, dS, dZ))

        largest = lambda v: jnp.max(jnp.abs(v), initial=0)
        needed = largest(missed) > MISSED[missed.dtype.name] * largest(program.c)
        return jax.lax.cond(needed, again, lambda: d)

    return towards, refined, V


def direction(
    program: SemidefiniteProgram, point: Point, weight: jax.Array, boost: jax.Array, careful: jax.Array
) -> tuple[Point, jax.Array, jax.Array]:
    """The corrected direction, and the primal and the dual step, shorter if `careful`. `weight` is that of a log det in
    these units."""
    _, _, S, Z = point
    towards, refined, V = newton(program, point, boost)
    mu, mu_log = means(program, S, Z)

    # predictor and corrector are rounds of one loop, so that they are compiled once
    def round_(i, carry):
        E, sigma, *_ = carry
        targets = tuple(jnp.maximum(sigma * mu_log, weight) if w else sigma * mu for w in program.weights)
        d, primal, dual = towards(targets, E)
        p, q = jnp.minimum(primal, 1), jnp.minimum(dual, 1)
        moved = means(
            program,
            each(lambda s, ds: s + p * ds, S, d.S),
            each(lambda z, dz: z + q * dz, Z, d.Z),
        )
        ratio = moved[0] / mu
        if 0 not in program.weights:
            ratio = jnp.maximum(moved[1] - weight, 0) / jnp.maximum(mu_log, weight)
        exponent = jnp.where(mu > 1e-6, jnp.maximum(1, 3 * jnp.minimum(p, q) ** 2), 1)
        sigma = jnp.clip(jnp.clip(ratio, 0, 1) ** exponent, 1e-6, 0.8)
        return each(product, V, d.S, d.Z), sigma, d, primal, dual

    zeros, zero = jax.tree.map(jnp.zeros_like, point), jnp.zeros_like(mu)
    begin = vary_like((program, point), (zeros.S, zero, zeros, zero, zero))
    _, _, d, primal, dual = jax.lax.fori_loop(0, 2, round_, begin)
    fraction = jnp.where(careful, CAREFUL, 0.9 + 0.09 * jnp.minimum(jnp.minimum(primal, dual), 1))
    return refined(d), jnp.minimum(fraction * primal, 1), jnp.minimum(fraction * dual, 1)


def _retreat(X, dX, step):
    """The step, shortened until X + step dX is positive definite."""

    def fails(step):
        return ~jnp.all(jnp.stack(each(lambda x, d: is_definite(x + step * d), X, dX)))

    return jax.lax.while_loop(lambda step: fails(step) & (step > 1e-10), lambda step: 0.8 * step, step)


def move(program: SemidefiniteProgram, weight: jax.Array, state: State, unpack, careful: jax.Array) -> State:
    """Step to the next point. A direction that is not finite, or leads nowhere, is tried again with more
    regularisation."""
    point = unpack(state.point)
    d, primal, dual = direction(program, point, weight, state.boost, careful)
    finite = jnp.all(jnp.isfinite(d.x)) & jnp.isfinite(primal) & jnp.isfinite(dual)
    d = jax.tree.map(lambda leaf: jnp.where(finite, leaf, 0), d)
    primal, dual = _retreat(point.S, d.S, primal), _retreat(point.Z, d.Z, dual)
    moved = Point(
        point.x + primal * d.x,
        point.y + dual * d.y,
        each(lambda s, ds: s + primal * ds, point.S, d.S),
        each(lambda z, dz: z + dual * dz, point.Z, d.Z),
    )
    useful = finite & (jnp.maximum(primal, dual) > 1e-8)
    return state._replace(
        point=jnp.where(useful, pack(moved), state.point),
        boost=jnp.where(useful, jnp.maximum(state.boost / 10, 1), state.boost * 100),
        step=jnp.where(useful, jnp.minimum(primal, dual), 0),
        num_iters=state.num_iters + 1,
    )


def pack(point: Point) -> jax.Array:
    """The point as one vector."""
    return jnp.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(point)])


def run(
    program: SemidefiniteProgram, scaling: Scaling, options: Options, first: Point | None = None
) -> tuple[State, Point]:
    """Iterate until a claim is proved or none can be. `program` is in the solver's units; the last state and its point,
    best or current as the claim says, in these units."""
    attempts = len(ATTEMPTS) if first is None else 1
    first = start(program) if first is None else first
    tolerances = options.tolerances(program.c.dtype)
    leaves, structure = jax.tree.flatten(first)
    ends = np.cumsum([0, *(leaf.size for leaf in leaves)])
    weight = 1 / (scaling.of_S * scaling.of_Z)

    def unpack(v):
        parts = [v[a:b].reshape(leaf.shape) for a, b, leaf in zip(ends[:-1], ends[1:], leaves, strict=True)]
        return jax.tree.unflatten(structure, parts)

    def begin_again(state, attempt):
        """The state of another attempt, with the best point of the earlier ones."""
        far = start(program, factor_of_S=jnp.asarray(ATTEMPTS, program.c.dtype)[attempt])
        begun = begin_at(pack(far), options, jnp.int32(Status.UNSOLVED))
        best = {name: getattr(state, name) for name in ("claims", "best", "best_claims", "num_iters", "history")}
        return begun._replace(**best, records=begun.records.at[0].set(state.records[0]))

    def iterate(carry):
        state, attempt = carry
        point = unpack(state.point)
        claims = measure(program, scaling, point, tolerances[2])
        mu = jnp.maximum(*means(program, point.S, point.Z))
        state = recorded(options, judge(options, tolerances, state._replace(claims=jnp.stack(claims)), mu), mu)
        stuck = Status.ALMOST_SOLVED.holds(state.status) | Status.NUMERICAL_ERROR.holds(state.status)
        if attempts > 1:
            again = stuck & (attempt + 1 < attempts) & (state.num_iters > 0)
            again = again & (state.num_iters < jnp.asarray(options.max_iters))
            attempt = attempt + again.astype(jnp.int32)
            begun = begin_again(state, attempt)
            state = jax.tree.map(lambda new, old: jnp.where(again, new, old), begun, state)
        step = lambda state: move(program, weight, state, unpack, attempt > 0)
        return jax.lax.cond(unfinished(state), step, lambda state: state, state), attempt

    if options.verbose:
        print_header()
    begin = begin_at(pack(first), options, jnp.int32(Status.UNSOLVED)), jnp.int32(0)
    state, _ = jax.lax.while_loop(lambda carry: unfinished(carry[0]), iterate, vary_like((program, begin), begin))
    ray = Status.PRIMAL_INFEASIBLE.holds(state.status) | Status.DUAL_INFEASIBLE.holds(state.status)
    return state, unpack(jnp.where(ray, state.point, state.best))


def projected(program: SemidefiniteProgram, point: Point) -> Point:
    """The point with the nearest Z and y that fulfil c + A'y = <F_i, Z>, up to rounding errors: by conjugate gradients
    on the equations of the multipliers u of Z - sum u_i F_i and y + A u."""
    operator = lambda u: program.inner(program.combine(u)) + (program.A @ u) @ program.A

    def once(_, point):
        residual = program.inner(point.Z) - program.c - point.y @ program.A
        u, _ = jax.scipy.sparse.linalg.cg(operator, residual, tol=1e-6, maxiter=PROJECTION_STEPS)
        u = jnp.where(jnp.all(jnp.isfinite(u)), u, 0)
        return point._replace(y=point.y + program.A @ u, Z=each(lambda z, a: z - a, point.Z, program.combine(u)))

    return jax.lax.fori_loop(0, 2, once, point)


def centred(program: SemidefiniteProgram, point: Point, targets: tuple) -> tuple[jax.Array, jax.Array]:
    """x and y of the point with S Z = t I, for targets t, from one near it or nearer to the boundary."""
    root = jnp.sqrt(jnp.stack(targets).min())
    away = lambda X: each(lambda x, one: x + root * one, X, identity(program))
    first = point._replace(S=away(point.S), Z=away(point.Z))
    no_E = jax.tree.map(jnp.zeros_like, point.S)

    def off_centre(point):
        return jnp.stack(
            [
                jnp.max(jnp.abs(product(s, z) / t - one), initial=0)
                for s, z, t, one in zip(point.S, point.Z, targets, identity(program), strict=True)
            ]
        ).max()

    def step(carry):
        rounds, point, _ = carry
        towards, *_ = newton(program, point, jnp.ones_like(root))
        d, primal, dual = towards(targets, no_E)
        primal, dual = (jnp.minimum(1, 0.95 * step) for step in (primal, dual))
        new = Point(
            point.x + primal * d.x,
            point.y + dual * d.y,
            each(lambda s, ds: s + primal * ds, point.S, d.S),
            each(lambda z, dz: z + dual * dz, point.Z, d.Z),
        )
        fine = jnp.all(jnp.isfinite(d.x))
        new = jax.tree.map(lambda new, old: jnp.where(fine, new, old), new, point)
        full = (primal == 1) & (dual == 1)
        return jnp.where(fine, rounds + 1, CENTRING_STEPS), new, jnp.where(full, off_centre(new), 1)

    begin = vary_like((program, point), (jnp.int32(0), first, jnp.ones_like(root)))
    unfinished = lambda carry: (carry[0] < CENTRING_STEPS) & ~(carry[2] < 1e-6)
    _, found, _ = jax.lax.while_loop(unfinished, step, begin)
    return found.x, found.y
