"""The dual of every support vector machine, by an interior point that knows its structure.

    minimise    1/2 beta'K beta + 1/2 sum_ci d_ci a_ci^2 + sum_ci q_ci a_ci
    subject to  0 <= a <= u,   beta_i = sum_c sign_ci a_ci,   sum_i beta_i = e_1,   [sum_ci a_ci = e_2]    (1)

with one or two variables a_ci for each sample i: one for classification, two (residual above and below) for
regression. K is a kernel matrix, or X X' and then never formed. Multipliers: z >= 0 of a >= 0, t >= 0 of a <= u (the
slacks of the hinge), the intercept b of the first equation and rho of the second. With f = K beta the optimality
conditions are

    sign (f + b) + rho + d a + q - z + t = 0,    a z = 0,    (u - a) t = 0.    (2)

Newton's method for (2) with products a z = (u - a) t = tau, dz and dt eliminated, has the diagonal matrix

    D_c = (d + z / a + t / (u - a))^-1,    da_c = D_c (r_c - sign_c (K dbeta + db) - drho),    (3)

and, da eliminated, with D = sum_c D_c and h = sum_c sign_c D_c (r_c - drho),

    dbeta + D (K dbeta + db) = h,    sum dbeta = -r_1.    (4)

For K = X X' that is a system in dw = X'dbeta and db with the matrix [I + X'DX, X'D1; 1'DX, 1'D1]: an iteration costs
one product X'DX, O(m p^2), and memory is O(m p) (Ferris and Munson, "Interior-point methods for massive support vector
machines", 2002). The iteration is Mehrotra's predictor-corrector.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_solve

from convexjax.gram import over_rows
from convexjax.kkt import refined
from convexjax.linear_algebra import static, vary_like
from convexjax.options import DEFAULT_TOLERANCES
from convexjax.solution import Status

# Most iterations, and the part of the way to the boundary that a step takes.
MAX_ITERS, TO_BOUNDARY = 100, 0.995
# Samples whose part of a kernel matrix that is too large to be stored is checked to be positive semidefinite.
CHECKED = 500
# Of the system of a known active set: what is added to its diagonal, relative to the largest K_ii, by dtype; most steps
# of refinement; most active sets that are tried.
SHIFT, REFINEMENT_STEPS, MAX_SETS = {"float64": 1e-9, "float32": 1e-4}, 8, 4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class BoxDual:
    """The data of (1) but for K. Entries with `u = 0` are not there."""

    sign: jax.Array  # (c, m)
    q: jax.Array  # (c, m)
    u: jax.Array  # (c, m); positive or zero is all that counts if not `bounded`
    d: jax.Array  # (c, m), nonnegative
    e: jax.Array  # (2,)
    bounded: bool = static(default=True)
    intercept: bool = static(default=True)  # whether the first equation is there
    total: bool = static(default=False)  # whether the second is

    def beta(self, a: jax.Array) -> jax.Array:
        return jnp.sum(self.sign * a, 0)


class Point(NamedTuple):
    """A primal-dual point of (1)."""

    a: jax.Array  # (c, m)
    z: jax.Array  # (c, m)
    t: jax.Array  # (c, m)
    b: jax.Array
    rho: jax.Array
    w: jax.Array  # beta as K has it
    f: jax.Array  # (m,), K beta


# ----------------------------------------------------------------------------- the quadratic form


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LowRank:
    """K = X X' for X (m, p). beta is carried as w = X'beta."""

    X: jax.Array

    def compress(self, beta):
        return beta @ self.X

    def scores(self, w):
        """K beta."""
        return self.X @ w

    def follow(self, w, f):
        """K beta after steps in which w and f moved together."""
        return f

    def square(self, w, f):
        """beta'K beta."""
        return w @ w

    def largest(self):
        """The largest entry of the diagonal of K."""
        return jnp.max(jnp.sum(self.X * self.X, 1), initial=0)

    def factor(self, D, intercept: bool):
        """The matrix of (4), and its factor scaled to a unit diagonal."""
        p = self.X.shape[1]

        def add(total, X, D):
            G, c = total
            # the transposed block in memory: a faster product, see `gram.py`
            weighted = jax.lax.optimization_barrier(X.T * D)
            return G + weighted @ X, c + D @ X

        zeros = jnp.zeros((p, p), D.dtype), jnp.zeros(p, D.dtype)
        G, c = over_rows(add, zeros, self.X, D)
        corner = jnp.sum(D)
        corner = jnp.where(corner > 0, corner, 1)
        if not intercept:
            c, corner = jnp.zeros_like(c), jnp.ones_like(corner)
        M = jnp.block([[G + jnp.eye(p, dtype=D.dtype), c[:, None]], [c[None, :], corner[None, None]]])
        diagonal = jnp.diagonal(M)
        scale = jnp.where(diagonal > 0, jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1)), 1)
        shift = 4 * (p + 1) * jnp.finfo(D.dtype).eps * jnp.eye(p + 1, dtype=D.dtype)
        return M, scale, jnp.linalg.cholesky(scale[:, None] * M * scale + shift, symmetrize_input=False)

    def solve(self, system, D, h, drift, r_1):
        """(dw, db, K dbeta + db) of (4). `drift`: beta and w, of which w + dw is to fit to beta + dbeta."""
        M, scale, factor = system
        beta, w = drift
        inverse = lambda v: scale * cho_solve((factor, True), scale * v)
        right = jnp.append(self.compress(h + beta) - w, 0 if r_1 is None else jnp.sum(h) + r_1)
        found = inverse(right)
        found = found + inverse(right - M @ found)
        return found[:-1], found[-1], self.X @ found[:-1] + found[-1]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dense:
    """K (m, m) itself."""

    K: jax.Array

    def compress(self, beta):
        return beta

    def scores(self, w):
        return self.K @ w

    def follow(self, w, f):
        return self.K @ w

    def square(self, w, f):
        return w @ f

    def largest(self):
        return jnp.max(jnp.abs(jnp.diagonal(self.K)), initial=0)

    def factor(self, D, intercept: bool):
        """The factor of I + S K S with S = D^(1/2)."""
        S = jnp.sqrt(D)
        m = D.shape[0]
        shift = 1 + 4 * m * jnp.finfo(D.dtype).eps
        factor = jnp.linalg.cholesky(
            S[:, None] * self.K * S + shift * jnp.eye(m, dtype=D.dtype), symmetrize_input=False
        )
        return S, factor, S * cho_solve((factor, True), S)

    def solve(self, system, D, h, drift, r_1):
        S, factor, of_ones = system
        behind = drift[0] - drift[1]
        # dw = dbeta + behind fulfils dw + D (K dw + db) = h + behind
        right = jnp.where(S > 0, (h - D * (self.K @ behind)) / jnp.where(S > 0, S, 1), 0)
        dbeta, db = S * cho_solve((factor, True), right), jnp.zeros((), h.dtype)
        if r_1 is not None:
            total = jnp.sum(of_ones)
            db = (jnp.sum(dbeta) + r_1) / jnp.where(total > 0, total, 1)
            dbeta = dbeta - db * of_ones
        dw = dbeta + behind
        return dw, db, self.K @ dw + db


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Streamed:
    """K = kernel(X, X), formed by rows where it is needed, and as a whole for derivatives only."""

    kernel: Any
    X: jax.Array

    def compress(self, beta):
        return beta

    def scores(self, w):
        m, block = self.X.shape[0], min(256, self.X.shape[0])
        samples = jnp.minimum(jnp.arange(-(-m // block) * block), m - 1).reshape(-1, block)
        return jax.lax.map(lambda own: self.kernel(self.X[own], self.X) @ w, samples).reshape(-1)[:m]

    def square(self, w, f):
        return w @ f

    def largest(self):
        return jnp.max(jnp.abs(self.kernel.diagonal(self.X)), initial=0)

    def dense(self, samples=slice(None)):
        K = self.kernel(self.X[samples], self.X)[:, samples]
        return Dense((K + K.T) / 2)

    def factor(self, D, intercept: bool):
        dense = self.dense()
        return dense, dense.factor(D, intercept)

    def solve(self, system, D, h, drift, r_1):
        dense, system = system
        return dense.solve(system, D, h, drift, r_1)


def is_convex(operator: Dense | Streamed) -> jax.Array:
    """Whether K is positive semidefinite up to rounding errors; of a `Streamed` one the part of some samples."""
    if isinstance(operator, Streamed):
        m = operator.X.shape[0]
        operator = operator.dense(np.unique(np.linspace(0, m - 1, min(m, CHECKED)).astype(np.int32)))
    m, dtype = operator.K.shape[0], operator.K.dtype
    shift = 10 * m * jnp.finfo(dtype).eps * jnp.max(jnp.abs(operator.K), initial=0) * jnp.eye(m, dtype=dtype)
    return jnp.all(jnp.isfinite(jnp.linalg.cholesky(operator.K + shift, symmetrize_input=False)))


# ----------------------------------------------------------------------------- what a point proves


def margins(dual: BoxDual, point: Point) -> jax.Array:
    """sign (f + b) + rho + q, (c, m): minus the argument of the loss."""
    return dual.sign * (point.f + point.b) + point.rho + dual.q


def certificate(dual: BoxDual, operator, point: Point) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(primal objective, duality gap, gap relative to the objectives), whatever z and t are.

    The gap is the sum of those of the pairs loss and conjugate, all nonnegative, and what the equations miss.
    """
    a, live = point.a, dual.u > 0
    A = margins(dual, point)
    behind, ahead = jnp.maximum(-A, 0), jnp.maximum(A, 0)
    if dual.bounded:
        gaps, at_zero = a * ahead + (dual.u - a) * behind, dual.u * jnp.maximum(-dual.q, 0)
    else:
        d = jnp.where(live, dual.d, 1)
        gaps, at_zero = (behind - d * a) ** 2 / (2 * d) + a * ahead, jnp.maximum(-dual.q, 0) ** 2 / (2 * d)
    add = lambda v: jnp.sum(jnp.where(live, v, 0))
    dual_value = operator.square(point.w, point.f) / 2 + add(a * (dual.d * a / 2 + dual.q))
    gap = add(gaps)
    if dual.intercept:
        gap = gap + jnp.abs(point.b * (jnp.sum(dual.beta(a)) - dual.e[0]))
    if dual.total:
        gap = gap + jnp.abs(point.rho * (add(a) - dual.e[1]))
    primal = gap - dual_value
    # small objectives are as good as zero beside that of coefficients zero
    size = jnp.maximum(jnp.maximum(jnp.abs(primal), jnp.abs(dual_value)), 1e-4 * add(at_zero))
    return primal, gap, gap / jnp.where(size > 0, size, 1)


# ----------------------------------------------------------------------------- the method


def _mean(live, v):
    """The mean of the entries that are there."""
    return jnp.sum(jnp.where(live, v, 0)) / jnp.maximum(jnp.sum(live.astype(v.dtype)), 1)


def start(dual: BoxDual, operator) -> Point:
    """The point of the central path that there would be with w = 0: beta does not fit to w yet, but every product is
    in its place."""
    live, q = dual.u > 0, dual.q
    size = _mean(live, jnp.abs(q))
    # without a linear term the scores are of the size of K times the prescribed sum
    size = jnp.where(size > 0, size, operator.largest() * jnp.sum(jnp.abs(dual.e)))
    size = jnp.where(size > 0, size, 1)
    if dual.bounded:
        # a z = mu, (u - a) t = mu, z - t = q with mu = size u
        u = jnp.where(live, dual.u, 1)
        mu = size * u
        B = q * u + 2 * mu
        a = 2 * mu * u / (B + jnp.sqrt(B * B - 4 * q * mu * u))
        t = mu / (u - a)
    else:
        # a z = mu, z - d a = q with mu = size^2 / d
        d = jnp.where(live, dual.d, 1)
        mu = size**2 / d
        a, t = (jnp.sqrt(q * q + 4 * d * mu) - q) / (2 * d), jnp.zeros_like(q)
    w = jnp.zeros_like(operator.compress(q[0]))
    zero = jnp.zeros((), q.dtype)
    return Point(jnp.where(live, a, 0), mu / a, t, zero, zero, w, jnp.zeros_like(q[0]))


def newton(dual: BoxDual, operator, D: jax.Array):
    """A function of (r, beta and w, r_1, r_2) to the solution (da, dw, db, drho, K dbeta) of

        D_c^-1 da_c + sign_c (K dbeta + db) + drho = r_c,   sum dbeta = -r_1,   sum da = -r_2

    for D (c, m), which may be zero."""
    of_samples = jnp.sum(D, 0)
    system = operator.factor(of_samples, dual.intercept)
    equation = lambda r: r if dual.intercept else None
    zero = jnp.zeros((), D.dtype)
    if dual.total:
        h_rho = jnp.sum(dual.sign * D, 0)
        nothing = jnp.zeros_like(h_rho), jnp.zeros_like(operator.compress(h_rho))
        dw_rho, db_rho, g_rho = operator.solve(system, of_samples, h_rho, nothing, equation(zero))
        schur = jnp.sum(D) - h_rho @ g_rho

    def solve(r, drift, r_1, r_2):
        weighted = D * r
        dw, db, g = operator.solve(system, of_samples, jnp.sum(dual.sign * weighted, 0), drift, equation(r_1))
        drho = zero
        if dual.total:
            drho = (jnp.sum(weighted) - h_rho @ g + r_2) / jnp.where(schur > 0, schur, 1)
            dw, db, g = dw - drho * dw_rho, db - drho * db_rho, g - drho * g_rho
        return weighted - D * (dual.sign * g + drho), dw, db, drho, g - db

    return solve


def step(dual: BoxDual, operator, point: Point) -> Point:
    """One iteration of the predictor-corrector method."""
    live = dual.u > 0
    a, z, t, b, rho, w, f = point
    safe = lambda v: jnp.where(live, v, 1)
    a1, z1 = safe(a), safe(z)
    theta = dual.d + z1 / a1
    if dual.bounded:
        room, t1 = safe(dual.u - a), safe(t)
        theta = theta + t1 / room
    D = jnp.where(live, 1 / theta, 0)
    solve = newton(dual, operator, D)
    A = margins(dual, point) + dual.d * a
    beta = dual.beta(a)
    r_1, r_2 = jnp.sum(beta) - dual.e[0], jnp.sum(a) - dual.e[1]

    def direction(of_a, of_t):
        """The step to products `of_a` of a and z, `of_t` of u - a and t."""
        r = -A + of_a / a1
        if dual.bounded:
            r = r - of_t / room
        da, dw, db, drho, df = solve(jnp.where(live, r, 0), (beta, w), r_1, r_2)
        dz = of_a / a1 - z1 - z1 / a1 * da
        dt = of_t / room - t1 + t1 / room * da if dual.bounded else None
        return da, dz, dt, db, drho, dw, df

    def longest(da, dz, dt):
        """The step to the boundary."""
        shrink = jnp.maximum(-da / a1, -dz / z1)
        if dual.bounded:
            shrink = jnp.maximum(shrink, jnp.maximum(da / room, -dt / t1))
        return 1 / jnp.maximum(jnp.max(jnp.where(live, shrink, 0)), 1)

    def products(alpha, da, dz, dt):
        """The mean of the products after a step."""
        all_of = (a1 + alpha * da) * (z1 + alpha * dz)
        if dual.bounded:
            all_of = all_of + (room - alpha * da) * (t1 + alpha * dt)
        return _mean(live, all_of) / (2 if dual.bounded else 1)

    da, dz, dt, *_ = direction(0, 0)
    mu = products(0, da, dz, dt)
    sigma = (products(longest(da, dz, dt), da, dz, dt) / jnp.where(mu > 0, mu, 1)) ** 3
    tau = sigma * mu
    da, dz, dt, db, drho, dw, df = direction(tau - da * dz, tau + da * dt if dual.bounded else None)
    alpha = TO_BOUNDARY * longest(da, dz, dt)
    move = lambda v, dv: jnp.where(live, v + alpha * dv, v)
    new_w = w + alpha * dw
    return Point(
        a=move(a, da),
        z=move(z, dz),
        t=move(t, dt) if dual.bounded else t,
        b=b + alpha * db,
        rho=rho + alpha * drho,
        w=new_w,
        f=operator.follow(new_w, f + alpha * df),
    )


def interior_point(dual: BoxDual, operator, tolerance: jax.Array, max_iters: int = MAX_ITERS) -> tuple:
    """(point, iterations): the first point whose relative gap is below `tolerance`, or the last one."""
    begin = start(dual, operator)

    def advance(state):
        count, point, gap, _ = state
        new = step(dual, operator, point)
        new_gap = certificate(dual, operator, new)[2]
        fine = jnp.isfinite(new_gap)
        point = jax.tree.map(lambda new, old: jnp.where(fine, new, old), new, point)
        return count + 1, point, jnp.where(fine, new_gap, gap), fine

    unfinished = lambda state: (state[0] < max_iters) & (state[2] > tolerance) & state[3]
    state = jnp.int32(0), begin, jnp.full((), jnp.inf, begin.f.dtype), jnp.array(True)
    count, point, _, _ = jax.lax.while_loop(unfinished, advance, vary_like((dual, operator), state))
    return point, count


# ----------------------------------------------------------------------------- known active set


class ActiveSet(NamedTuple):
    """Where a variable is neither 0 nor u, and where it is u: 0 or 1, (c, m)."""

    free: jax.Array
    upper: jax.Array


def guess(dual: BoxDual, point: Point) -> ActiveSet:
    """The active set of an interior point: a variable is at the bound to which it is closer than its multiplier is to
    zero, each in units of its own."""
    live = dual.u > 0
    if dual.bounded:
        size = _mean(live, point.z + point.t)
        size = jnp.where(live & (size > 0), size / jnp.where(live, dual.u, 1), 1)
        lower, upper = point.a * size < point.z, (dual.u - point.a) * size < point.t
    else:
        lower, upper = point.a * dual.d < point.z, jnp.zeros_like(live)
    return _active_set(live & ~lower & ~upper, live & upper & ~lower, point.a.dtype)


def _active_set(free, upper, dtype) -> ActiveSet:
    return ActiveSet(free.astype(dtype), upper.astype(dtype))


def _split(x, shape):
    return x[:-2].reshape(shape), x[-2], x[-1]


def conditions(x: jax.Array, dual: BoxDual, operator, active: ActiveSet) -> jax.Array:
    """Zero where x = (a, b, rho) is the solution of (1) with this active set. The Jacobian in x is symmetric."""
    a, b, rho = _split(x, dual.q.shape)
    at_bound = active.upper * dual.u
    inside = active.free * a + at_bound
    beta = dual.beta(inside)
    f = operator.scores(operator.compress(beta))
    margin = dual.sign * (f + b if dual.intercept else f) + dual.d * inside + dual.q
    margin = margin + rho if dual.total else margin
    of_a = active.free * margin + (1 - active.free) * (a - at_bound)
    of_b = jnp.sum(beta) - dual.e[0] if dual.intercept else b
    of_rho = jnp.sum(inside) - dual.e[1] if dual.total else rho
    return jnp.concatenate([of_a.reshape(-1), of_b[None], of_rho[None]])


def solve_active(dual: BoxDual, operator, active: ActiveSet):
    """A function that solves with the Jacobian of `conditions`."""
    shape, dtype = dual.q.shape, dual.q.dtype
    largest = operator.largest()
    shift = SHIFT[dtype.name] * jnp.where(largest > 0, largest, 1)
    direction = newton(dual, operator, active.free / (dual.d + shift))
    aligned = jnp.zeros_like(dual.q[0])
    drift = aligned, jnp.zeros_like(operator.compress(aligned))

    def precondition(right):
        r, r_1, r_2 = _split(right, shape)
        da, _, db, drho, _ = direction(active.free * r, drift, -r_1, -r_2)
        db, drho = (db if dual.intercept else r_1), (drho if dual.total else r_2)
        return jnp.concatenate([(da + (1 - active.free) * r).reshape(-1), db[None], drho[None]])

    zeros = jnp.zeros(dual.q.size + 2, dtype)
    matvec = lambda v: jax.jvp(lambda x: conditions(x, dual, operator, active), (zeros,), (v,))[1]

    def solve(right):
        target = 100 * jnp.finfo(dtype).eps * jnp.max(jnp.abs(right))
        return refined(precondition, lambda d: right - matvec(d), right, target, REFINEMENT_STEPS, gain=0.9)[0]

    return solve


def at(dual: BoxDual, operator, x: jax.Array) -> Point:
    """The point of x = (a, b, rho)."""
    a, b, rho = _split(x, dual.q.shape)
    w = operator.compress(dual.beta(a))
    point = Point(a, a, a, b, rho, w, operator.scores(w))
    A = margins(dual, point) + dual.d * a
    return point._replace(z=jnp.maximum(A, 0), t=jnp.maximum(-A, 0))


def polish(dual: BoxDual, operator, point: Point, enough: jax.Array) -> tuple[Point, ActiveSet, jax.Array]:
    """(the solution for the active set of an interior point, the active set, the relative gap), or the point itself if
    that is better. Below `enough` gaps are as good as zero, and exact zeros better than interior points. A set that
    turns out wrong is corrected, as in the primal-dual active set method."""
    live = dual.u > 0
    eps = jnp.finfo(point.a.dtype).eps
    upper_bound = dual.u if dual.bounded else jnp.inf
    pack = lambda a, b, rho: jnp.concatenate([a.reshape(-1), b[None], rho[None]])

    def attempt(state):
        rounds, _, active, best, best_active, best_gap = state
        x = pack((1 - active.free) * active.upper * dual.u + active.free * best.a, best.b, best.rho)
        x = x - solve_active(dual, operator, active)(conditions(x, dual, operator, active))
        a = x[:-2].reshape(dual.q.shape)
        new = at(dual, operator, pack(jnp.where(live, jnp.clip(a, 0, upper_bound), 0), x[-2], x[-1]))
        gap = certificate(dual, operator, new)[2]
        better = (gap < best_gap) | ((rounds == 0) & (gap <= enough))  # false for NaN
        keep = lambda new, old: jax.tree.map(lambda new, old: jnp.where(better, new, old), new, old)
        A = new.z - new.t
        free = jnp.where(active.free > 0, (a > 0) & (a < upper_bound), jnp.where(active.upper > 0, A > 0, A < 0))
        upper = jnp.where(active.free > 0, a >= upper_bound, (active.upper > 0) & (A <= 0))
        following = _active_set(live & free, live & upper, a.dtype)
        return (
            rounds + 1,
            better,
            following,
            keep(new, best),
            keep(active, best_active),
            jnp.where(better, gap, best_gap),
        )

    def unfinished(state):
        rounds, better, _, _, _, gap = state
        return (rounds < MAX_SETS) & better & (gap > 100 * eps)

    inside = point._replace(a=jnp.where(live, jnp.clip(point.a, 0, upper_bound), 0))
    active = guess(dual, point)
    begin = jnp.int32(0), jnp.array(True), active, inside, active, certificate(dual, operator, inside)[2]
    _, _, _, point, active, gap = jax.lax.while_loop(unfinished, attempt, vary_like((dual, operator), begin))
    return point, active, gap


@jax.custom_jvp
def attach(dual: BoxDual, operator, x: jax.Array, active: ActiveSet) -> jax.Array:
    """x = (a, b, rho), the solution with this active set, as a function of the data of (1) (implicit function
    theorem)."""
    return x


@attach.defjvp
def _attach_jvp(primals, tangents):
    (dual, operator, x, active), (ddual, doperator, _, _) = primals, tangents
    solve = solve_active(*jax.lax.stop_gradient((dual, operator, active)))
    x = attach(dual, operator, x, active)
    of_data = lambda dual, operator: conditions(x, dual, operator, active)
    change = jax.jvp(of_data, (dual, operator), (ddual, doperator))[1]
    matvec = lambda v: jax.jvp(lambda x: conditions(x, dual, operator, active), (x,), (v,))[1]
    return x, jax.lax.custom_linear_solve(matvec, -change, lambda _, right: solve(right), symmetric=True)


# ----------------------------------------------------------------------------- all together


class Found(NamedTuple):
    """A solution of (1), differentiable."""

    a: jax.Array
    b: jax.Array
    rho: jax.Array
    square: jax.Array  # beta'K beta
    objective: jax.Array  # 1/2 beta'K beta + losses
    gap: jax.Array
    status: jax.Array
    num_iters: jax.Array


def solve(dual: BoxDual, operator, tolerance: jax.Array) -> Found:
    """The solution of (1). SOLVED: the relative duality gap and the relative residual of the equations are at most
    `tolerance`; ALMOST_SOLVED: at most the looser one of `Options`; else MAX_ITERATIONS."""
    fixed = jax.lax.stop_gradient((dual, operator))
    point, count = interior_point(*fixed, tolerance / 10)
    point, active, gap = polish(*fixed, point, tolerance)
    return finish(dual, operator, point, active, gap, tolerance, count)


def values_of(point: Point, objective: jax.Array, arguments: tuple) -> tuple[jax.Array, jax.Array]:
    """(beta'K beta, the objective) of a point, of which K beta is known, as functions of (dual, operator, x)."""
    fixed = jax.lax.stop_gradient((point, objective))
    square = arguments[1].square(fixed[0].w, fixed[0].f)
    return known(_values, (jax.lax.stop_gradient(square), fixed[1]), arguments)


def _values(dual, operator, x):
    point = at(dual, operator, x)
    return operator.square(point.w, point.f), certificate(dual, operator, point)[0]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def known(function, value, arguments):
    """`function(*arguments)`, whose value is known, with its derivatives."""
    return value


@known.defjvp
def _known_jvp(function, primals, tangents):
    (value, arguments), (_, changes) = primals, tangents
    # the values of the next derivative come from the function itself
    again = lambda arguments: known(function, jax.lax.stop_gradient(value), arguments)
    return again(arguments), jax.jvp(lambda arguments: function(*arguments), (arguments,), (changes,))[1]


def finish(dual: BoxDual, operator, point: Point, active: ActiveSet, gap, tolerance, count) -> Found:
    """The claims that a point proves, and its derivatives."""
    x = attach(dual, operator, jnp.concatenate([point.a.reshape(-1), point.b[None], point.rho[None]]), active)
    square, objective = values_of(point, certificate(dual, operator, point)[0], (dual, operator, x))
    a, b, rho = _split(x, dual.q.shape)
    missed = jnp.abs(jnp.sum(dual.beta(a)) - dual.e[0]) if dual.intercept else jnp.zeros_like(gap)
    if dual.total:
        missed = jnp.maximum(missed, jnp.abs(jnp.sum(a) - dual.e[1]))
    size = jnp.maximum(jnp.sum(a), jnp.max(jnp.abs(dual.e)))
    error = jax.lax.stop_gradient(jnp.maximum(gap, missed / jnp.where(size > 0, size, 1)))
    looser = jnp.maximum(tolerance, DEFAULT_TOLERANCES[gap.dtype.name][1])
    status = jnp.where(error <= looser, jnp.int32(Status.ALMOST_SOLVED), jnp.int32(Status.MAX_ITERATIONS))
    status = jnp.where(error <= tolerance, jnp.int32(Status.SOLVED), status)
    status = jnp.where(jnp.isfinite(error), status, jnp.int32(Status.NUMERICAL_ERROR))
    return Found(a, b, rho, square, objective, error, status, count)
