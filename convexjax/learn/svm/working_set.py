"""The dual of a support vector machine whose kernel matrix is too large to be stored or factorised.

    minimise    1/2 v'K v + 1/2 sum_i d_i v_i^2 - p'v      subject to   lo <= v <= hi,   sum v = e    (1)

is solved over a working set of some hundred variables at a time, the others fixed (Joachims, "Making large-scale SVM
learning practical", 1998). With the slopes F = p - K v - d v a variable may rise if v < hi and fall if v > lo, and v is
optimal if no F that may rise is above one that may fall. Half of the working set is new each time: those that may rise
with the largest F and those that may fall with the smallest; the rows of K of the other half are still there. Within
the set pairs of variables are moved, chosen by the decrease of the objective (Fan, Chen and Lin, "Working set selection
using second order information", 2005), and in turns with them all that are between their bounds, by conjugate
gradients. The rows of K are formed by matrix products, q m numbers at a time.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax.linear_algebra import vary_like

# Of the violation in a working set, the share that is left there; most rounds, and of each the variables for one step
# in pairs and the most conjugate directions.
INNER, INNER_ROUNDS, PER_PAIR, CONJUGATE = 0.1, 100, 4, 50
# Most working sets.
MAX_SETS = 20_000


class Problem(NamedTuple):
    """The data of (1); variable i belongs to sample i mod m."""

    p: jax.Array  # (n,)
    lo: jax.Array
    hi: jax.Array
    d: jax.Array
    e: jax.Array  # ()


class State(NamedTuple):
    sets: jax.Array  # how many there were
    v: jax.Array  # (n,)
    F: jax.Array  # (n,)
    old: jax.Array  # (q / 2,), the newer half of the last working set
    rows: jax.Array  # (q / 2, m), of K
    gap: jax.Array
    b: jax.Array


def bias(problem: Problem, v: jax.Array, F: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(the intercept between the F that may rise and those that may fall, the largest, the smallest of them)."""
    top = jnp.max(jnp.where(v < problem.hi, F, -jnp.inf))
    bottom = jnp.min(jnp.where(v > problem.lo, F, jnp.inf))
    one_sided = jnp.where(jnp.isfinite(top), top, jnp.where(jnp.isfinite(bottom), bottom, 0))
    return jnp.where(jnp.isfinite(top) & jnp.isfinite(bottom), (top + bottom) / 2, one_sided), top, bottom


def relative_gap(problem: Problem, v: jax.Array, F: jax.Array, b: jax.Array) -> jax.Array:
    """The duality gap over the larger objective, with the intercept b: the sum of those of loss and conjugate."""
    p, lo, hi, d, e = problem
    r = F - b
    to_hi, to_lo = jnp.where(jnp.isfinite(hi), hi - v, 0), jnp.where(jnp.isfinite(lo), v - lo, 0)
    of_bounds = to_hi * jnp.maximum(r, 0) + to_lo * jnp.maximum(-r, 0)
    # with d > 0 there is one bound, zero, and the conjugate of the loss is its square
    size, slope = jnp.abs(v), jnp.where(jnp.isfinite(hi), -r, r)
    soft = slope * slope / (2 * jnp.where(d > 0, d, 1))
    of_squares = jnp.where(slope + d * size > 0, soft, -size * slope - d * size * size / 2)
    gap = jnp.sum(jnp.where(d > 0, of_squares, of_bounds))
    Kv = p - F - d * v
    dual = v @ Kv / 2 + d @ (v * v) / 2 - p @ v
    size = jnp.maximum(jnp.abs(dual), jnp.abs(gap - dual))
    return gap / jnp.where(size > 0, size, 1)


def solve(problem: Problem, row_block, m: int, q: int, tolerance: jax.Array, start: tuple | None = None) -> tuple:
    """(v, F, b, relative gap, working sets) of (1). `row_block(samples)` gives rows (k, m) of K; q, a multiple of
    4, is the size of the working set; `start` is (v, F) of a feasible point."""
    p, lo, hi, d, e = problem
    n, half = p.shape[0], q // 2
    copies = n // m

    def pick(score, mask, count):
        # in single precision: XLA sorts doubles, and selects only here. Scores around b keep their order.
        return jax.lax.top_k(jnp.where(mask, score, -jnp.inf).astype(jnp.float32), count)[1].astype(jnp.int32)

    def one_set(state):
        count, v, F, old, old_rows, gap, b = state
        fresh = jnp.ones(n, bool).at[old].set(False)
        rising = pick(F - b, fresh & (v < hi), half // 2)
        falling = pick(b - F, fresh.at[rising].set(False) & (v > lo), half // 2)
        new = jnp.concatenate([rising, falling])
        new_rows = row_block(new % m)
        index = jnp.concatenate([old, new])
        # an index that is there twice moves once
        places = jnp.arange(q, dtype=jnp.int32)
        single = jnp.zeros(n, jnp.int32).at[index].set(places)[index] == places
        own = index % m
        K = jnp.concatenate([old_rows[:, own], new_rows[:, own]])
        start = v[index]
        low, high = jnp.where(single, lo[index], start), jnp.where(single, hi[index], start)
        end = within(K, d[index], F[index], start, low, high)[0]
        change = end - start
        of_samples = change[:half] @ old_rows + change[half:] @ new_rows
        # what reaches a bound is there exactly
        v = v.at[jnp.where(single, index, n)].set(end, mode="drop")
        moved = jnp.zeros(n, v.dtype).at[index].add(change)
        F = F - jnp.tile(of_samples, copies) - d * moved
        b, _, _ = bias(problem, v, F)
        return State(count + 1, v, F, new, new_rows, relative_gap(problem, v, F, b), b)

    if start is None:
        size = jnp.where(hi - lo < jnp.inf, hi - lo, 1)
        v = jnp.where(e != 0, e * size / jnp.sum(size), 0).astype(p.dtype)
        F = jax.lax.cond(e != 0, lambda: p - jnp.tile(product(row_block, v, m, q), copies) - d * v, lambda: p)
    else:
        v, F = start
    first = jnp.arange(half, dtype=jnp.int32)
    b, _, _ = bias(problem, v, F)
    state = State(jnp.int32(0), v, F, first, row_block(first % m), jnp.full((), jnp.inf, p.dtype), b)
    unfinished = lambda s: (s.sets < MAX_SETS) & (s.gap > tolerance)  # false for NaN
    state = jax.lax.while_loop(unfinished, one_set, vary_like((problem, state.rows), state))
    return state.v, state.F, state.b, state.gap, state.sets


def product(row_block, v: jax.Array, m: int, block: int) -> jax.Array:
    """K times the sums of v over the copies of each sample, by blocks of rows."""
    beta = jnp.sum(v.reshape(-1, m), 0)
    number = -(-m // block)
    samples = jnp.minimum(jnp.arange(number * block, dtype=jnp.int32), m - 1).reshape(number, block)
    return jax.lax.map(lambda own: row_block(own) @ beta, samples).reshape(-1)[:m]


def within(K, d, F, v, lo, hi) -> tuple[jax.Array, jax.Array]:
    """(v, F) optimal over a working set with the kernel matrix K up to the share `INNER` of its violation: steps in
    pairs, which find the variables that stay at bounds, and conjugate directions for the others."""
    q = v.shape[0]
    target = INNER * violation(v, F, lo, hi)
    curvature = jnp.diagonal(K) + d
    product = lambda p: K @ p + d * p

    def unfinished(state):
        rounds, _, _, left = state
        return (rounds < INNER_ROUNDS) & (left > target)

    def one_round(state):
        rounds, v, F, _ = state
        v, F = jax.lax.cond(rounds > 0, lambda: move_free(product, curvature, F, v, lo, hi), lambda: (v, F))
        v, F, left = move_pairs(K, d, F, v, lo, hi, target, q // PER_PAIR)
        return rounds + 1, v, F, left

    start = jnp.int32(0), v, F, jnp.full((), jnp.inf, v.dtype)
    return jax.lax.while_loop(unfinished, one_round, vary_like((K, v), start))[1:3]


def violation(v, F, lo, hi) -> jax.Array:
    """By how much the largest F that may rise is above the smallest that may fall."""
    return jnp.max(jnp.where(v < hi, F, -jnp.inf)) - jnp.min(jnp.where(v > lo, F, jnp.inf))


def move_free(product, curvature, F, v, lo, hi) -> tuple[jax.Array, jax.Array]:
    """(v, F) after steps of the method of conjugate gradients in the variables between their bounds, the last one when
    one of them meets a bound (Polyak, "The conjugate gradient method in extremal problems", 1969). `product` gives
    (K + d) p, `curvature` is the diagonal of that matrix."""
    free = (v > lo) & (v < hi)
    inverse = jnp.where(free, 1 / jnp.where(free & (curvature > 0), curvature, 1), 0)
    total = jnp.sum(inverse)
    inverse_sum = 1 / jnp.where(total > 0, total, 1)

    def scaled(F):
        """(F scaled by the diagonal such that the sum is zero, the square of its length): twice, for when the F are
        nearly the same."""
        centred = F - jnp.sum(inverse * F) * inverse_sum
        z = inverse * (centred - jnp.sum(inverse * centred) * inverse_sum)
        return z, jnp.sum(curvature * z * z)

    def step(state):
        count, v, F, p, size, _ = state
        Kp = product(p)
        bend = p @ Kp
        length = size / jnp.where(bend > 0, bend, 1)
        bound = jnp.where(p > 0, hi, lo)
        room = jnp.where(p != 0, (bound - v) / jnp.where(p != 0, p, 1), jnp.inf)
        longest = jnp.min(room)
        inside = (bend > 0) & (length < longest)
        length = jnp.where(inside, length, jnp.where(jnp.isfinite(longest), longest, 0))
        # what reaches a bound is there exactly
        v = jnp.where(room <= length, bound, jnp.clip(v + length * p, lo, hi))
        F = F - length * Kp
        z, new = scaled(F)
        return count + 1, v, F, z + new / jnp.where(size > 0, size, 1) * p, new, inside

    z, first = scaled(F)
    unfinished = lambda s: (s[0] < CONJUGATE) & (s[4] > INNER**2 * first) & s[5]
    start = jnp.int32(0), v, F, z, first, jnp.array(True)
    return jax.lax.while_loop(unfinished, step, vary_like((curvature, v), start))[1:3]


def move_pairs(K, d, F, v, lo, hi, target, most: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(v, F, violation) after at most `most` steps in pairs."""
    q = v.shape[0]
    places = jnp.arange(q, dtype=jnp.int32)
    curvature = jnp.diagonal(K) + d
    floor = jnp.finfo(v.dtype).eps * jnp.max(jnp.abs(curvature))
    # the first place of a maximum: two passes that vectorise, unlike argmax
    first = lambda where: jnp.min(jnp.where(where, places, q - 1))

    def step(state):
        count, v, F, _ = state
        slopes = jnp.where(v < hi, F, -jnp.inf)
        top = jnp.max(slopes)
        i = first(slopes == top)
        K_i = K[i]
        rise = jnp.where(v > lo, top - F, 0)
        second = jnp.maximum(curvature[i] + curvature - 2 * K_i, floor)
        gain = jnp.where(rise > 0, rise * rise / second, 0)
        most_gain = jnp.max(gain)
        j = first(gain == most_gain)
        length = jnp.minimum(jnp.minimum(rise[j] / second[j], hi[i] - v[i]), v[j] - lo[j])
        length = jnp.where(most_gain > 0, length, 0)
        # what reaches a bound is there exactly
        move = length * ((places == i).astype(v.dtype) - (places == j).astype(v.dtype))
        new = jnp.clip(v + move, lo, hi)
        F = F - length * (K_i - K[j]) - d * move
        return count + 1, new, F, jnp.max(rise)

    unfinished = lambda s: (s[0] < most) & (s[3] > target)
    start = jnp.int32(0), v, F, jnp.full((), jnp.inf, v.dtype)
    return jax.lax.while_loop(unfinished, step, vary_like((K, v), start))[1:]
