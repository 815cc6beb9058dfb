"""Least squares with penalties that set coefficients, or groups of them, to zero.

    minimise    1/2 b'G b - c'b + l1 sum_g p_g |b_g| + l2/2 sum_j p_j^2 b_j^2                                      (1)

with G = X'WX, c = X'Wy, w of sum one, for many pairs (l1, l2) at once: every iteration is one product of G with the
matrix of all solutions. Three stages, of which the last two see only what is left:

- Accelerated proximal gradient with restarts (Beck and Teboulle, "A fast iterative shrinkage-thresholding algorithm",
  2009; O'Donoghue and Candes, "Adaptive restart for accelerated gradient schemes", 2015).
- For the lasso an active-set method, which ends at the optimum after finitely many steps (Lee, Battle, Raina and Ng,
  "Efficient sparse coding algorithms", 2006); with groups a Newton step on the coefficients that are not zero.
- Both in turns, until the duality gap is proved to be below the tolerance.

The dual point is the residual of the augmented data (y - Xb, -l2^(1/2) p b), shrunk until it is feasible (Kim, Koh,
Lustig, Boyd and Gorinevsky, "An interior-point method for large-scale l1-regularized least squares", 2007).
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.implicit_root import attach_root
from convexjax.linear_algebra import vary_like
from convexjax.pytrees import pytree, static


class Problem(NamedTuple):
    """Data of (1) for k pairs (l1, l2). `groups` is None (each coefficient by itself), or tells each one's group."""

    G: jax.Array  # (d, d)
    c: jax.Array  # (d,)
    yy: jax.Array  # y'Wy
    p: jax.Array  # (d,), the same within a group
    l1: jax.Array  # (k,)
    l2: jax.Array  # (k,)


@pytree
@dataclass(frozen=True)
class Groups:
    """The group of each coefficient, 0, 1, ..., without gaps."""

    of: tuple[int, ...] = static()

    def sums(self, values: jax.Array) -> jax.Array:
        """Sums over the groups, in the place of each member."""
        index = np.asarray(self.of, np.int32)
        return jax.ops.segment_sum(values, index, num_segments=int(index.max()) + 1)[index]

    def sizes(self, dtype) -> jax.Array:
        """The number of members of each one's group."""
        return jnp.asarray(np.bincount(self.of)[np.asarray(self.of)], dtype)


# Iterations of the first stage between attempts of the second; rounds of both.
ITERATIONS, ROUNDS = 100, 100


def norms(B: jax.Array, groups: Groups | None) -> jax.Array:
    """Of each coefficient the norm of its group, for the columns of B."""
    if groups is None:
        return jnp.abs(B)
    squares = groups.sums(B * B)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


def gap(problem: Problem, groups: Groups | None, B: jax.Array, GB: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(objective + yy/2, duality gap) of the columns of B."""
    _, c, yy, p, l1, l2 = problem
    p = p[:, None]
    first = l1 * jnp.sum(_per_group(p * norms(B, groups), groups), 0)
    second = l2 * jnp.sum((p * B) ** 2, 0)
    explained = c @ B
    rr = jnp.maximum(yy - 2 * explained + jnp.sum(B * GB, 0), 0)
    primal = rr / 2 + first + second / 2
    correlation = norms(c[:, None] - GB - l2 * p * p * B, groups) / p
    largest = jnp.max(correlation, 0, initial=0)
    shrink = jnp.where(largest > l1, l1 / jnp.where(largest > 0, largest, 1), 1)
    dual = shrink * (yy - explained) - shrink**2 * (rr + second) / 2
    return primal, primal - dual


def _per_group(values, groups: Groups | None):
    """Values that agree within groups, each group counted once."""
    if groups is None:
        return values
    return values / groups.sizes(values.dtype)[:, None]


def _shrink(B, threshold, groups: Groups | None):
    """The proximal map of sum_g threshold_g |b_g|."""
    if groups is None:
        return jnp.sign(B) * jnp.maximum(jnp.abs(B) - threshold, 0)
    size = norms(B, groups)
    return jnp.where(size > threshold, B * (1 - threshold / jnp.where(size > threshold, size, 1)), 0)


def solve(problem: Problem, groups: Groups | None, tolerance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(B (d, k), duality gaps (k,)): columns whose gap is at most `tolerance` times yy/2, or what was reached."""
    # coordinates in which G has a unit diagonal, as far as the groups allow
    diagonal = jnp.sqrt(jnp.maximum(jnp.diagonal(problem.G), 0))
    if groups is not None:
        diagonal = groups.sums(diagonal)
    scale = jnp.where(diagonal > 0, 1 / jnp.where(diagonal > 0, diagonal, 1), 1)
    G, c, yy, p, l1, l2 = problem
    scaled = Problem(scale[:, None] * G * scale, scale * c, yy, scale * p, l1, l2)
    allowed = tolerance * yy / 2
    d, k = c.shape[0], l1.shape[0]
    # the step is right if no eigenvalue is underestimated; the gap tells
    largest = 1.02 * _largest_eigenvalue(scaled.G)
    steps = 1 / (largest + l2 * jnp.max(scaled.p, initial=0) ** 2)

    def iterate(state):
        count, (B, GB), (last, Glast), t, found, _ = state
        momentum = jnp.where(count == 0, 0, (t - 1) / (0.5 + jnp.sqrt(0.25 + t * t)))
        Y, GY = B + momentum * (B - last), GB + momentum * (GB - Glast)
        gradient = GY - scaled.c[:, None] + l2 * scaled.p[:, None] ** 2 * Y
        new = _shrink(Y - steps * gradient, steps * l1 * scaled.p[:, None], groups)
        # against the direction of the step: begin again
        restart = jnp.sum((Y - new) * (new - B), 0) > 0
        t = jnp.where(restart, 1, 0.5 + jnp.sqrt(0.25 + t * t))
        done = found <= allowed
        keep = lambda new, old: jnp.where(done, old, new)
        new = keep(new, B)
        Gnew = scaled.G @ new
        found = keep(gap(scaled, groups, new, Gnew)[1], found)
        return count + 1, (new, Gnew), (B, GB), t, found, jnp.all(found <= allowed)

    def first_stage(B, found):
        GB = scaled.G @ B
        start = jnp.int32(0), (B, GB), (B, GB), jnp.ones(k, B.dtype), found, jnp.all(found <= allowed)
        state = jax.lax.while_loop(lambda s: ~s[5] & (s[0] < ITERATIONS), iterate, vary_like((problem, B), start))
        return state[1][0], state[4]

    def second_stage(B, found):
        def of_lane(lane):
            b, found, l1, l2 = lane
            single = scaled._replace(l1=l1[None], l2=l2[None])

            def attempt():
                new = _active_set(single, b) if groups is None else _newton(single, groups, b)
                reached = gap(single, groups, new[:, None], (scaled.G @ new)[:, None])[1][0]
                better = reached < found  # false for NaN
                return jnp.where(better, new, b), jnp.where(better, reached, found)

            return jax.lax.cond(found > allowed, attempt, lambda: (b, found))

        B, found = jax.lax.map(of_lane, (B.T, found, l1, l2))
        return B.T, found

    def one_round(state):
        rounds, B, found = state
        B, found = first_stage(B, found)
        B, found = second_stage(B, found)
        return rounds + 1, B, found

    start = jnp.int32(0), jnp.zeros((d, k), G.dtype), jnp.full(k, jnp.inf, G.dtype)
    start = vary_like(problem, start)
    unfinished = lambda s: (s[0] < ROUNDS) & ~jnp.all(s[2] <= allowed) & ~jnp.any(jnp.isnan(s[2]))
    _, B, found = jax.lax.while_loop(unfinished, one_round, start)
    return scale[:, None] * B, found


def _largest_eigenvalue(G: jax.Array) -> jax.Array:
    d = G.shape[0]
    start = 1 + 0.3 * jnp.sin(1.7 * jnp.arange(1, d + 1, dtype=G.dtype))

    def step(_, state):
        v = G @ state[0]
        size = jnp.linalg.norm(v)
        return v / jnp.where(size > 0, size, 1), size

    start = vary_like(G, (start / jnp.linalg.norm(start), jnp.zeros((), G.dtype)))
    size = jax.lax.fori_loop(0, 50, step, start)[1]
    return jnp.where(size > 0, size, 1)


def _active_set(problem: Problem, b: jax.Array) -> jax.Array:
    """The lasso from b: solve for the coefficients with given signs, go there or to the breakpoint on the way, where a
    sign changes, with the lowest objective; when the signs are right, let in the coefficient with the largest
    correlation."""
    G, c, _, p, (l1,), (l2,) = problem
    d, eps = c.shape[0], jnp.finfo(c.dtype).eps
    H, limit = G + jnp.diag(l2 * p * p), l1 * p
    slack = 1e2 * eps * jnp.max(jnp.abs(c), initial=0)
    shift = 10 * d * eps * jnp.max(jnp.diagonal(H), initial=0)

    def step(state):
        count, b, sign, _ = state
        active = sign != 0
        pair = active[:, None] & active
        factor = jnp.linalg.cholesky(
            jnp.where(pair, H, 0) + jnp.diag(jnp.where(active, shift, 1)), symmetrize_input=False
        )
        solve = lambda v: jax.scipy.linalg.cho_solve((factor, True), jnp.where(active, v, 0))
        move = jnp.where(active, solve(c - limit * sign - H @ b), -b)
        move = move + solve(c - limit * sign - H @ (b + move))
        change = b * (b + move) < 0
        times = jnp.append(jnp.where(change, b / jnp.where(change, -move, 1), 1), 1)
        quadratic = times * (move @ (H @ b - c)) + times**2 / 2 * (move @ (H @ move))
        values = quadratic + jnp.abs(b + times[:, None] * move) @ limit
        time = times[jnp.argmin(values)]
        new = jnp.where(change & (times[:-1] == time), 0, b + time * move)
        # a coefficient that just came in may not have moved yet
        left = jnp.where(change, jnp.sign(new), jnp.where(active, sign, 0))
        correlation = c - H @ new
        excess = jnp.where(left == 0, jnp.abs(correlation) - limit, -jnp.inf)
        entering = jnp.argmax(excess)
        settled = time == 1
        enters = settled & ~jnp.any(change) & (excess[entering] > slack)
        left = jnp.where(enters & (jnp.arange(d) == entering), jnp.sign(correlation), left)
        return count + 1, new, left, settled & ~jnp.any(change) & ~enters

    start = vary_like((problem, b), (jnp.int32(0), b, jnp.sign(b), jnp.array(False)))
    return jax.lax.while_loop(lambda s: ~s[3] & (s[0] < 4 * d + 100), step, start)[1]


def _newton(problem: Problem, groups: Groups | None, b: jax.Array) -> jax.Array:
    """One Newton step on the coefficients that are not zero."""
    data = (problem, (b != 0).astype(b.dtype), jnp.sign(b))
    residual = lambda b: stationarity(b, data, groups)
    J = jax.jacfwd(residual)(b)
    factor = jnp.linalg.cholesky(J, symmetrize_input=True)
    return b - jax.scipy.linalg.cho_solve((factor, True), residual(b))


def stationarity(b: jax.Array, data: tuple, groups: Groups | None) -> jax.Array:
    """The gradient of (1) in the coefficients that are not zero; of the others the coefficients themselves."""
    (G, c, _, p, (l1,), (l2,)), active, sign = data
    b_active = active * b
    slope = sign if groups is None else b_active / jnp.where(active > 0, norms(b_active[:, None], groups)[:, 0], 1)
    gradient = G @ b_active - c + l2 * p * p * b_active + l1 * p * slope
    return active * gradient + (1 - active) * b


def attach(problem: Problem, groups: Groups | None, B: jax.Array) -> jax.Array:
    """The solutions B, found without derivatives, as functions of the problem."""
    residual = _Stationarity(groups)

    def of_lane(b, l1, l2):
        data = (problem._replace(l1=l1[None], l2=l2[None]), (b != 0).astype(b.dtype), jnp.sign(b))
        return attach_root(residual, b, data)

    return jax.vmap(of_lane, (1, 0, 0), 1)(jax.lax.stop_gradient(B), problem.l1, problem.l2)


class _Stationarity(NamedTuple):
    """`stationarity` for given groups, as a function that compares equal where the groups do."""

    groups: Groups | None

    def __call__(self, b, data):
        return stationarity(b, data, self.groups)
