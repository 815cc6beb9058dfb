"""A primal-dual interior-point method for geometric programs.

The unknowns are y, a weight d_k > 0 of each term, a slack s_i of each posynomial and nu, with lambda_i = sum_k d_k; for
the objective lambda_0 = 1 is demanded and -s_0 stands for its value. Newton's method is applied to

    A'd + G'nu = 0,    log(d_k / lambda_i) = a_k'y + b_k + s_i,    s_i lambda_i = sigma mu,    G y = h,

which is affine in y: terms that dominate or vanish far from the solution cost no more steps than others, as they do
where gradients of F_i are linearised. Summed over the terms of a posynomial the second equation says F_i(y) + s_i = 0.
A step in d_k is a share of d_k, so that no term takes the others along: where a weight falls by more than LEAST_SHARE
it is held there, and s_i and lambda_i alone limit the step.

Elimination of d and s leaves, with g_i = sum_k d_k a_k,

    M dy + G'dnu = right,    M = sum_i [sum_{k in i} d_k a_k a_k' + (1 / s_i - 1) g_i g_i' / lambda_i]   (1 / s_0 := 0),

a Cholesky factor of which, with slacks no smaller than LEAST_SLACK, serves in a refinement of the whole system in which
the share v_i = g_i'dy / (s_i lambda_i) of each posynomial is an unknown of its own.

After Kortanek, Xu and Ye, "An infeasible interior-point algorithm for solving primal and dual geometric programs",
Math. Prog. 1996, whose unknowns these are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax.geometric_program import Claims, GeometricProgram, growth, in_phase_one, measure
from convexjax.linear_algebra import vary_like
from convexjax.options import Options
from convexjax.solution import Status

# Fraction of the way to the boundary.
FRACTION = 0.99
LEAST_SHARE = 0.02
LEAST_SLACK = {"float64": 1e-9, "float32": 3e-5}
# The gap of all constraints that a step aims at is at least so many times the gradient of the Lagrangian: where
# a multiplier and its slack both go to 0, steps go wrong if the gap runs ahead of it.
LEAST_GAP = 0.3
# Regularisation in units of eps, relative to the largest and to each diagonal entry.
REGULARISATION = 5.0
REFINEMENT_STEPS = 6
# Up to so many variables the factor is inverted once: products with the inverse vectorise over batches.
INVERTED = 64
# Iterations without progress after which a round ends.
PATIENCE = 12
# Rounds: the program, phase one, and the program again, from the point that phase one found, or as far from the
# boundary from the best point of the first round if that was nearly a solution.
FIRST, PHASE_ONE, LAST, OUT_OF_ROUNDS = range(4)
RECENTRED = 1e-2


class Point(NamedTuple):
    """The unknowns."""

    y: jax.Array  # (n + 1,)
    d: jax.Array  # (K,)
    s: jax.Array  # (S,), of the objective minus its value
    nu: jax.Array  # (p,)


class State(NamedTuple):
    """What the loop carries."""

    point: Point
    best: Point
    claims: jax.Array  # of the best
    error: jax.Array  # of the best
    dual: jax.Array  # gradient of the Lagrangian at the point, relative to its terms
    idle: jax.Array
    boost: jax.Array
    step: jax.Array
    num_iters: jax.Array
    ended: jax.Array  # whether the round has
    status: jax.Array
    rounds: jax.Array
    history: jax.Array


# ----------------------------------------------------------------------------- linear algebra


def factor(program: GeometricProgram, d, lam, s, boost):
    """Cholesky factor U of M (its inverse for few variables) and that of the Schur complement of the equations; slacks
    are bounded from below, `s[0]` is not used."""
    terms, G, dtype = program.terms, program.G, d.dtype
    eps = jnp.finfo(dtype).eps
    bounded = jnp.maximum(s, LEAST_SLACK[dtype.name])
    curvature = (1 / bounded).at[0].set(0)
    M = program.A.gram(terms, d, lam, curvature)
    diagonal = jnp.diagonal(M)
    # of the weights themselves: what the slacks add may be larger by far
    size = jnp.max(program.A.sizes(d))
    size = jnp.where(size > 0, size, 1)
    shift = boost * eps * (REGULARISATION * size + diagonal)
    G_weight = jnp.max(diagonal)
    everywhere = jnp.arange(M.shape[0])
    M = M.at[everywhere, everywhere].add(shift)
    if G.shape[0]:
        M = M + G_weight * (G.T @ G)
    U = cholesky(M)
    if M.shape[0] <= INVERTED:
        U = jax.scipy.linalg.solve_triangular(U.T, jnp.eye(M.shape[0], dtype=dtype), lower=True).T
    if not G.shape[0]:
        return U, None, G_weight, curvature
    if M.shape[0] <= INVERTED:
        half = G @ U
    else:
        half = jax.lax.linalg.triangular_solve(U.T, G, left_side=False, lower=True, transpose_a=True)
    complement = half @ half.T
    ridge = 10 * eps * jnp.max(jnp.diagonal(complement))
    return U, jnp.linalg.cholesky(complement + ridge * jnp.eye(G.shape[0], dtype=dtype)), G_weight, curvature


def cholesky(M):
    """U with U'U = M, from the upper triangle of M. LAPACK wants columns, XLA keeps what a loop carries by rows: as a
    transpose of a lower factor nothing has to be reordered, which would take longer than a solve with the factor."""
    return jnp.linalg.cholesky(M.T, symmetrize_input=False).T


def solve_factored(program: GeometricProgram, factors, right, right_G):
    """(dy, dnu) with M dy + G'dnu = right, G dy = right_G, up to the regularisation."""
    U, L_G, G_weight, _ = factors
    inverted = U.shape[0] <= INVERTED
    solve = lambda v: U @ (v @ U) if inverted else jax.scipy.linalg.cho_solve((U.T, True), v)
    if L_G is None:
        return solve(right), right_G
    G = program.G
    right = right + G_weight * (right_G @ G)
    dnu = jax.scipy.linalg.cho_solve((L_G, True), G @ solve(right) - right_G)
    return solve(right - dnu @ G), dnu


def solve_refined(program: GeometricProgram, factors, d, lam, s, right, right_v, right_G, target):
    """(dy, v, dnu) with

        H dy + sum_i v_i g_i + G'dnu = right,    g_i'dy - s_i lambda_i v_i = right_v,   G dy = right_G,

    H the matrix M without the slacks, to errors of `target` or until they fall no more."""
    A, terms, G = program.A, program.terms, program.G
    inverse = factors[3] / lam

    def residuals(dy, v, dnu):
        along = d * A.matvec(dy)
        slopes = terms.sums(along)
        e = right - A.rmatvec(along + d * terms.spread(v - slopes / lam)) - dnu @ G
        # the objective has no v
        e_v = (right_v + s * lam * v - slopes).at[0].set(0)
        return e, e_v, right_G - G @ dy

    def size(errors):
        e, e_v, e_G = (jnp.max(jnp.abs(error), initial=0) for error in errors)
        return jnp.maximum(jnp.maximum(e, e_v), e_G)

    def refine(carry):
        steps, found, errors, error, _ = carry
        e, e_v, e_G = errors
        # g_i'(dy + ddy) = s lambda (v + dv)
        dy, dnu = solve_factored(program, factors, e + A.rmatvec(d * terms.spread(inverse * e_v)), e_G)
        v = inverse * (terms.sums(d * A.matvec(dy)) - e_v)
        new = found[0] + dy, found[1] + v, found[2] + dnu
        new_errors = residuals(*new)
        new_error = size(new_errors)
        better = (new_error < error) | (steps == 0)
        found, errors, new_error = jax.tree.map(
            lambda a, b: jnp.where(better, a, b), (new, new_errors, new_error), (found, errors, error)
        )
        return steps + 1, found, errors, new_error, new_error < 0.5 * error

    def unfinished(carry):
        steps, _, _, error, falls = carry
        return (steps < REFINEMENT_STEPS) & ((steps == 0) | ((error > target) & (falls | (steps == 1))))

    found = jnp.zeros_like(right), jnp.zeros_like(lam), jnp.zeros_like(right_G)
    errors = right, right_v, right_G
    start = jnp.int32(0), found, errors, size(errors), jnp.array(True)
    return jax.lax.while_loop(unfinished, refine, vary_like((program, d, right), start))[1]


# ----------------------------------------------------------------------------- one iteration


def direction(program: GeometricProgram, point: Point, boost, dual) -> tuple[Point, jax.Array, jax.Array]:
    """The corrected direction, the step, and mu; `dual` is the gradient of the Lagrangian."""
    A, b, terms, G, h = program.A, program.b, program.terms, program.G, program.h
    y, d, s, nu = point
    lam = terms.sums(d)
    scale = lam.at[0].set(1)
    factors = factor(program, d, lam, s, boost)
    r_d = A.rmatvec(d) + nu @ G
    r_log = jnp.log(d / terms.spread(scale)) - (A.matvec(y) + b) - terms.spread(s)
    r_G = G @ y - h
    s_lam = (s * lam).at[0].set(0)
    number = jnp.maximum(terms.number - 1, 1)
    mu = jnp.sum(s_lam) / number
    eps = jnp.finfo(d.dtype).eps
    # linear systems are solved as far as the residuals have come
    target = jnp.clip(1e-3 * mu, 1e3 * eps, eps**0.7) * jnp.maximum(jnp.max(A.sizes(d), initial=0), 1e-3)
    guarded = s.at[0].set(1)

    def towards(keep, r_log, complementarity):
        """The direction that removes the share `keep` of the linear residuals."""
        moment = terms.sums(d * r_log)
        constant = complementarity / (guarded * lam) + (1 - 1 / guarded) * moment / lam
        constant = constant.at[0].set((moment[0] - keep * (lam[0] - 1)) / lam[0])
        right = -keep * r_d - A.rmatvec(d * (terms.spread(constant) - r_log))
        dy, v, dnu = solve_refined(program, factors, d, lam, guarded, right, 0 * lam, -keep * r_G, target)
        along = A.matvec(dy)
        slopes = terms.sums(d * along)
        shares = along + terms.spread(constant + v - slopes / lam) - r_log
        ds = (moment - slopes) / lam
        ds = ds.at[0].set(constant[0] - slopes[0] / lam[0])
        return Point(dy, shares, ds, dnu), terms.sums(d * shares)

    def longest(move, dlam):
        ratio = jnp.maximum(jnp.max(-dlam / lam), jnp.max((-move.s / guarded)[1:], initial=0))
        return FRACTION / jnp.maximum(ratio, FRACTION)

    # one loop of two rounds, so that the solve is compiled once: predictor, then corrector
    def round_(i, carry):
        move, dlam, step = carry
        first = i == 0
        sigma = jnp.where(first, 0, jnp.maximum((1 - step) ** 3, 1e-6))
        second = (jnp.maximum(sigma * mu, LEAST_GAP * dual / number) - step**2 * move.s * dlam).at[0].set(0)
        clip = lambda e: jnp.clip(step * e, -1, 1)
        curved = 0.5 * clip(terms.spread((dlam / scale).at[0].set(0))) ** 2 - 0.5 * clip(move.d) ** 2
        keep = 1 - sigma
        new, new_dlam = towards(
            keep,
            jnp.where(first, r_log, keep * r_log + curved),
            jnp.where(first, -s_lam, second - s_lam),
        )
        return new, new_dlam, longest(new, new_dlam)

    nothing = Point(jnp.zeros_like(y), jnp.zeros_like(d), jnp.zeros_like(s), jnp.zeros_like(nu))
    start = nothing, jnp.zeros_like(lam), jnp.ones((), d.dtype)
    move, _, step = jax.lax.fori_loop(0, 2, round_, vary_like((program, point), start))
    return move, step, mu


def iterate(program: GeometricProgram, options: Options, state: State) -> State:
    """One iteration of a round: step, measure, judge."""
    move, step, mu = direction(program, state.point, state.boost, state.dual)
    y, d, s, nu = state.point
    new = Point(
        y + step * move.y, d * jnp.maximum(1 + step * move.d, LEAST_SHARE), s + step * move.s, nu + step * move.nu
    )
    finite = jnp.isfinite(jnp.sum(new.y) + jnp.sum(new.d) + jnp.sum(new.s) + jnp.sum(new.nu))
    useful = finite & (step > 1e-8)
    point = jax.tree.map(lambda a, b: jnp.where(useful, a, b), new, state.point)
    boost = jnp.where(useful, jnp.maximum(state.boost / 10, 1), state.boost * 100)
    state = state._replace(point=point, boost=boost, step=jnp.where(useful, step, 0), num_iters=state.num_iters + 1)
    return judge(program, options, state, mu, move.y)


def judge(program: GeometricProgram, options: Options, state: State, mu, along) -> State:
    """What the point proves."""
    y, d, _, nu = point = state.point
    solved, almost, infeasible = options.tolerances(d.dtype)
    claims, F = measure(program, y, d, nu)
    phase_one = state.rounds == PHASE_ONE
    # phase one goes on until it has found a feasible point, or proved that there is none
    feasible = phase_one & (jnp.max(F[1:-1], initial=-jnp.inf) + y[-1] < 0)
    fall = growth(program, along)
    ray_is_step = fall < claims.unbounded
    claims = claims._replace(unbounded=jnp.where(phase_one, jnp.inf, jnp.minimum(fall, claims.unbounded)))
    error = jnp.maximum(jnp.maximum(claims.primal, claims.dual), claims.gap)
    error = jnp.where(jnp.isnan(error), jnp.inf, error)
    better = error < state.error
    idle = jnp.where(error < 0.9 * state.error, 0, state.idle + 1)
    lowest = jnp.minimum(error, state.error)
    is_infeasible, is_unbounded = claims.infeasible <= infeasible, claims.unbounded <= infeasible
    exhausted = state.num_iters >= jnp.asarray(options.max_iters).astype(jnp.int32)
    stuck = (idle >= PATIENCE) | (state.boost > 1e12)
    # once more after the tolerance is reached: the last steps gain two digits each
    converged = (lowest <= solved) & ((state.error <= solved) | (lowest <= 0.01 * solved) | stuck | exhausted)
    proved = is_infeasible | is_unbounded
    status = jnp.int32(Status.UNSOLVED)
    for happened, outcome in (
        (((stuck & (state.rounds == LAST)) | exhausted) & (lowest <= almost), Status.ALMOST_SOLVED),
        (is_unbounded, Status.DUAL_INFEASIBLE),
        (converged, Status.SOLVED),
    ):
        status = jnp.where(happened & ~phase_one, jnp.int32(outcome), status)
    status = jnp.where(is_infeasible, jnp.int32(Status.PRIMAL_INFEASIBLE), status)
    # what proves the claim is returned
    ray = point._replace(y=jnp.where(ray_is_step & is_unbounded, along, y))
    taken = better | feasible | proved
    best = jax.tree.map(lambda a, b: jnp.where(taken, a, b), ray, state.best)
    new_claims = jnp.where(taken, jnp.stack(claims), state.claims)
    state = state._replace(
        best=best,
        claims=new_claims,
        error=lowest,
        dual=jnp.where(jnp.isfinite(claims.dual), claims.dual, 0),
        idle=idle,
        status=status,
        ended=(converged & ~phase_one) | feasible | stuck | exhausted | ~Status.UNSOLVED.holds(status),
    )
    return recorded(options, state, claims, mu)


# ----------------------------------------------------------------------------- rounds


def start(program: GeometricProgram, y: jax.Array, guess: tuple | None = None) -> Point:
    """A point with the given y; lambda and slacks of one, or as far as a guess says so."""
    terms, dtype = program.terms, y.dtype
    F, shares = program.posynomials(y)
    lam, s = jnp.ones(terms.number, dtype), jnp.maximum(1, -F)
    if guess is not None:
        z, least = guess
        lam, s = jnp.maximum(z, least), jnp.maximum(-F, least)
    count = terms.sums(jnp.ones_like(shares))
    d = terms.spread(lam.at[0].set(1)) * (0.9 * shares + 0.1 / terms.spread(count))
    return Point(y, d, s.at[0].set(-F[0]), jnp.zeros_like(program.h))


def run(program: GeometricProgram, options: Options, y: jax.Array, guess: tuple | None) -> State:
    """Rounds until something is proved, or nothing can be."""
    dtype = y.dtype
    first = start(program, y, guess)
    finite = jnp.all(jnp.isfinite(program.b)) & jnp.all(jnp.isfinite(program.A.sizes(jnp.ones_like(program.b))))
    finite = finite & jnp.all(jnp.isfinite(program.G)) & jnp.all(jnp.isfinite(program.h))
    exhausted = jnp.asarray(options.max_iters).astype(jnp.int32) <= 0
    state = State(
        point=first,
        best=first,
        claims=jnp.full(len(Claims._fields), jnp.inf, dtype),
        error=jnp.array(jnp.inf, dtype),
        dual=jnp.zeros((), dtype),
        idle=jnp.int32(0),
        boost=jnp.ones((), dtype),
        step=jnp.ones((), dtype),
        num_iters=jnp.int32(0),
        ended=exhausted | ~finite,
        status=jnp.where(
            ~finite,
            jnp.int32(Status.NUMERICAL_ERROR),
            jnp.where(exhausted, jnp.int32(Status.MAX_ITERATIONS), jnp.int32(Status.UNSOLVED)),
        ),
        rounds=jnp.int32(0),
        history=jnp.full((options.history, 5), jnp.nan, dtype),
    )
    if options.verbose:
        jax.debug.print(" iter   primal     dual       gap        infeas.    unbound.   mu         step", ordered=False)

    def round_(state):
        phase_one = state.rounds == PHASE_ONE
        local = in_phase_one(program, phase_one)
        state = jax.lax.while_loop(lambda state: ~state.ended, lambda state: iterate(local, options, state), state)
        return following(program, options, state)

    unfinished = lambda state: Status.UNSOLVED.holds(state.status)
    return jax.lax.while_loop(unfinished, round_, vary_like((program, state), state))


def following(program: GeometricProgram, options: Options, state: State) -> State:
    """The state at the start of the next round, if nothing has been proved."""
    _, almost, _ = options.tolerances(program.b.dtype)
    nearly = (state.rounds == FIRST) & (state.error <= almost)
    rounds = jnp.where(nearly, LAST, state.rounds + 1)
    to_phase_one = rounds == PHASE_ONE
    exhausted = state.num_iters >= jnp.asarray(options.max_iters).astype(jnp.int32)
    over = exhausted | (rounds == OUT_OF_ROUNDS)
    y = jnp.where(jnp.isfinite(state.best.y), state.best.y, 0).at[-1].set(0)
    F, _ = program.posynomials(y)
    # u of phase one above all constraints
    u = jnp.where(to_phase_one, jnp.max(F[1:-1], initial=0) + 1, 0)
    guess = jnp.where(nearly, program.terms.sums(state.best.d), 1), jnp.where(nearly, RECENTRED, 1).astype(F.dtype)
    point = start(in_phase_one(program, to_phase_one), y.at[-1].set(u), guess)
    point = point._replace(nu=jnp.where(nearly, state.best.nu, 0))
    fresh = state._replace(
        point=point,
        best=jax.tree.map(lambda a, b: jnp.where(over | nearly, a, b), state.best, point),
        error=jnp.where(nearly, state.error, jnp.inf),
        dual=jnp.zeros_like(state.dual),
        # until it has come as far again
        idle=jnp.where(nearly, jnp.int32(-PATIENCE), jnp.int32(0)),
        boost=jnp.ones_like(state.boost),
        ended=over,
        rounds=rounds,
        status=jnp.where(
            exhausted, jnp.int32(Status.MAX_ITERATIONS), jnp.where(over, jnp.int32(Status.NUMERICAL_ERROR), 0)
        ).astype(jnp.int32),
    )
    going = Status.UNSOLVED.holds(state.status)
    return jax.tree.map(lambda a, b: jnp.where(going, a, b), fresh, state)


# ----------------------------------------------------------------------------- what people see


def recorded(options: Options, state: State, claims: Claims, mu) -> State:
    """The state with its row of the history; printed, if that is wanted."""
    if options.history:
        row = jnp.stack([claims.primal, claims.dual, claims.gap, mu, state.step])
        state = state._replace(history=state.history.at[state.num_iters - 1].set(row, mode="drop"))
    if options.verbose:
        form = "{i:5d}   {p:.2e}   {d:.2e}   {g:.2e}   {inf:.2e}   {unb:.2e}   {mu:.2e}   {step:.4f}"
        jax.debug.print(
            form,
            i=state.num_iters,
            p=claims.primal,
            d=claims.dual,
            g=claims.gap,
            inf=claims.infeasible,
            unb=claims.unbounded,
            mu=mu,
            step=state.step,
        )
    return state
