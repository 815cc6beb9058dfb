"""Small strictly convex quadratic programs in batches: the dual active-set method of Goldfarb and Idnani (Math.
Programming 27, 1983) on a tableau.

With P positive definite, x follows from the multipliers, x = -P^-1 (q + A'z), and what is left is

    s = d + S z,     S = A P^-1 A',   d = b + A P^-1 q,     z >= 0, s >= 0, s'z = 0 (rows of equations: s = 0, z free).

The tableau T expresses the slacks of the rows outside the active set and the multipliers of those inside by the others
(principal pivot transform of S); `values` are both when the others vanish. First the equations enter. Then the row that
is violated most enters, its multiplier grows until its slack vanishes, and rows whose multipliers would change sign on
the way leave. If nothing stops the growth, the multipliers are a certificate that no feasible point exists. Entering
and leaving are one and the same update T - u v', so lanes never branch, and all lanes of a batch step together.

The answers are candidates only: `solver.py` proves them, and solves with the interior point what they do not prove.

How it is written follows from what XLA does with it on a CPU: the arrays have the lanes as explicit first axis (`vmap`
of a loop selects between old and new tableau in every step), and T is updated once in `STEPS` steps by all of their
vectors, which the loop carries (an update by freshly computed vectors computes them again for every entry of T).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.cone_program import ConeProgram, infinite_rows
from convexjax.cones.linear import Nonnegative, Zero
from convexjax.linear_algebra import vary_like

# Most rows, bounds included, and variables: beyond, the interior point takes less time.
MAX_ROWS, MAX_VARIABLES = 160, 100
# Steps between two updates of the tableau.
STEPS = 3
# Power of eps below which a diagonal entry of the tableau, 1 at the start, says that the row depends on active ones.
DEPENDENT = 0.7
# A row counts as violated if its slack is below minus this times the size of its terms; times eps.
VIOLATED = 1e2

WALKING, OPTIMAL, INFEASIBLE = np.int32(0), np.int32(1), np.int32(2)


class Candidate(NamedTuple):
    """What the walk ends with: a solution, or if `infeasible` z as a certificate; neither has been proved."""

    x: jax.Array
    s: jax.Array
    z: jax.Array
    infeasible: jax.Array
    steps: jax.Array


def applies(program: ConeProgram) -> bool:
    """Whether a program is of this kind, as far as its structure says."""
    rows, variables = program.A.shape
    kinds = all(isinstance(part, Zero | Nonnegative) for part in program.cone.parts)
    return (
        kinds
        and program.P is not None
        and not program.A.is_sparse
        and 0 < rows <= MAX_ROWS
        and variables <= MAX_VARIABLES
    )


def solve(program: ConeProgram, batched, lanes: int, max_steps: jax.Array) -> Candidate:
    """The candidates of a batch of programs; `batched` has the structure of `program` and says which leaves have lanes.
    `max_steps` () or (lanes,)."""
    axes = jax.tree.map(lambda flag: 0 if flag else None, batched)
    prepared = jax.vmap(_prepare, (axes,), axis_size=lanes)(program)
    num_equations = sum(part.rows for part in program.cone.parts if isinstance(part, Zero))
    end = _walk(prepared, num_equations, max_steps)
    return jax.vmap(_finish, (axes, 0, 0))(program, prepared, end)


# ----------------------------------------------------------------------------- one lane: before and after


class Prepared(NamedTuple):
    """The tableau of an empty active set, each row scaled to a diagonal entry of 1, and what it was made of."""

    T: jax.Array
    values: jax.Array
    allowed: jax.Array  # rounding errors of `values`
    scale: jax.Array  # of the rows
    A: jax.Array  # (m, n), rows without effect zero
    b: jax.Array
    L: jax.Array  # Cholesky factor of P
    W: jax.Array  # L^-1 A'
    w: jax.Array  # -L^-1 q


def _prepare(program: ConeProgram) -> Prepared:
    dropped = infinite_rows(program)
    A = jnp.concatenate([program.A.matrix, *(jnp.diag(diagonal) for diagonal in program.A.diagonals)])
    A, b = jnp.where(dropped[:, None], 0, A), jnp.where(dropped, 1, program.b)
    L = jnp.linalg.cholesky(program.P, symmetrize_input=False)
    right = jnp.concatenate([A.T, -program.q[:, None]], 1)
    W = jax.lax.linalg.triangular_solve(L, right, left_side=True, lower=True)
    W, w = W[:, :-1], W[:, -1]
    S, Ax = W.T @ W, w @ W  # at x = -P^-1 q
    diagonal = jnp.diagonal(S)
    scale = jax.lax.rsqrt(jnp.where(diagonal > 0, diagonal, 1))
    allowed = VIOLATED * jnp.finfo(b.dtype).eps * jnp.maximum(jnp.abs(Ax), jnp.abs(b))
    return Prepared(S * scale[:, None] * scale, (b - Ax) * scale, allowed * scale, scale, A, b, L, W, w)


def _finish(program: ConeProgram, prepared: Prepared, end: "End") -> Candidate:
    """Back from the tableau to a point, refined once with the inverses at hand."""
    A, b, L, W, scale, active = prepared.A, prepared.b, prepared.L, prepared.W, prepared.scale, end.active
    multipliers = end.multipliers * scale
    backwards = lambda v: jax.lax.linalg.triangular_solve(L, v[:, None], left_side=True, lower=True, transpose_a=True)
    forwards = lambda v: jax.lax.linalg.triangular_solve(L, v[:, None], left_side=True, lower=True)
    x = backwards(prepared.w - W @ multipliers)[:, 0]

    # P dx + A'dz = g, A dx = r in the active rows
    g = -(program.quadratic(x) + program.q + multipliers @ A)
    r = b - A @ x
    u = forwards(g)[:, 0]
    dz = scale * jnp.where(active, end.T @ jnp.where(active, scale * (u @ W - r), 0), 0)
    x, multipliers = x + backwards(u - W @ dz)[:, 0], multipliers + dz

    inequality = jnp.asarray(program.cone.is_inequality())
    z = jnp.where(end.infeasible, end.ray * scale, multipliers)
    z = jnp.where(inequality, jnp.maximum(z, 0), z)
    s = jnp.where(active | ~inequality, 0, jnp.maximum(b - A @ x, 0))
    return Candidate(x, s, z, end.infeasible, end.steps)


# ----------------------------------------------------------------------------- all lanes: the walk


class End(NamedTuple):
    """Where the walk ends: the tableau, the active set and its multipliers; and the change of the multipliers for one
    unit of the last that entered, which is the certificate if nothing stopped it."""

    T: jax.Array
    active: jax.Array
    multipliers: jax.Array
    ray: jax.Array
    infeasible: jax.Array
    steps: jax.Array


class Walk(NamedTuple):
    """The state of the walk."""

    T: jax.Array  # (lanes, m, m), to which the updates below are still to be added
    U: jax.Array  # (lanes, STEPS, m): T - sum_i u_i v_i'
    V: jax.Array
    values: jax.Array  # (lanes, m): multipliers of the active rows, slacks of the others
    active: jax.Array
    entering: jax.Array  # row whose multiplier grows, -1 for none
    multiplier: jax.Array  # of that row
    equation: jax.Array  # next to enter
    outcome: jax.Array
    steps: jax.Array


def _walk(prepared: Prepared, num_equations: int, max_steps: jax.Array) -> End:
    T, values, allowed = prepared.T, prepared.values, prepared.allowed
    max_steps = jnp.asarray(max_steps).astype(np.int32)
    lanes, m = values.shape
    dtype, rows = values.dtype, jnp.arange(m, dtype=np.int32)
    dependent = jnp.finfo(dtype).eps ** DEPENDENT
    inequality = rows >= num_equations
    one_hot = lambda k: rows == k[:, None]

    def unfinished(walk):
        return (walk.outcome == WALKING) & ((walk.steps < max_steps) | (walk.equation < num_equations))

    def row(walk, k):
        """Row k[i] of the tableau of lane i."""
        old, u = _take(walk.T, k, 1), _take(walk.U, k, 2)
        return old - sum(u[:, i, None] * walk.V[:, i] for i in range(STEPS))

    def pivot(walk, i, k, of_k, sign, live):
        """Row k, `of_k` in the tableau, enters the active set or leaves it, where `live`; step i of the block.
        `sign`: 1 for active rows, -1 for the others."""
        at_k = one_hot(k) & live[:, None]
        from_k = _pick(sign, k)
        factor = jnp.where(live, from_k / jnp.where(live, _pick(of_k, k), 1), 0)[:, None]
        u = factor * (sign * of_k) + jnp.where(at_k, from_k[:, None] * factor, 0)
        put = lambda U, u: jax.lax.dynamic_update_slice(U, u[:, None], (0, i, 0))
        return walk._replace(U=put(walk.U, u), V=put(walk.V, of_k - at_k.astype(dtype)), active=walk.active ^ at_k)

    def enter_or_leave(i, walk):
        values, active = walk.values, walk.active
        least, violated = _least(jnp.where(active | ~inequality, jnp.inf, values + allowed))
        choosing, at_equation = walk.entering < 0, walk.equation < num_equations
        # no step is taken from NaN, which compares as false
        optimal = choosing & ~at_equation & ~(least < 0)
        entering = jnp.where(at_equation, walk.equation, jnp.where(choosing, violated, walk.entering))

        sign = _sign(active, dtype)
        of_entering = row(walk, entering)
        change = -sign * of_entering  # of the values, for one unit of the entering multiplier
        shrinking = active & inequality & (change < -dependent)
        ratio, leaving = _least(jnp.where(shrinking, values / -change, jnp.inf))
        until_leaving = jnp.maximum(ratio, 0)
        slope = _pick(of_entering, entering)
        until_feasible = jnp.where(slope > dependent, -_pick(values, entering) / slope, jnp.inf)
        length = jnp.minimum(until_leaving, until_feasible)
        endless = ~(length < jnp.inf)  # an equation that depends on others: left out
        outcome = jnp.where(optimal, OPTIMAL, jnp.where(endless & ~at_equation, INFEASIBLE, WALKING))
        outcome = jnp.where(unfinished(walk), outcome, walk.outcome)
        live = unfinished(walk) & (outcome == WALKING) & ~endless
        length = jnp.where(live, length, 0)[:, None]
        entered = until_feasible <= until_leaving
        k = jnp.where(entered, entering, leaving)
        done = (entered & live) | at_equation

        multiplier = walk.multiplier[:, None] + length
        at_k = one_hot(k) & live[:, None]
        new_values = jnp.where(at_k, jnp.where(entered[:, None], multiplier, 0), values + length * change)
        return pivot(walk, i, k, row(walk, k), sign, live)._replace(
            values=new_values,
            entering=jnp.where(done, np.int32(-1), entering),
            multiplier=jnp.where(done, 0, multiplier[:, 0]),
            equation=jnp.minimum(walk.equation + 1, num_equations),
            outcome=outcome,
            steps=walk.steps + (live & ~at_equation).astype(np.int32),
        )

    def update(walk):
        """Add the updates of the last steps to the tableau."""
        T = walk.T - sum(walk.U[:, i, :, None] * walk.V[:, i, None] for i in range(STEPS))
        return walk._replace(T=T, U=jnp.zeros_like(walk.U), V=jnp.zeros_like(walk.V))

    def block(walk):
        return jax.lax.fori_loop(0, STEPS, enter_or_leave, update(walk))

    none = jnp.zeros((lanes, STEPS, m), dtype)
    start = Walk(
        T=T,
        U=none,
        V=none,
        values=values,
        active=jnp.zeros((lanes, m), bool),
        entering=jnp.full(lanes, -1, np.int32),
        multiplier=jnp.zeros(lanes, dtype),
        equation=jnp.zeros(lanes, np.int32),
        outcome=jnp.full(lanes, WALKING),
        steps=jnp.zeros(lanes, np.int32),
    )
    start = vary_like((prepared, max_steps), start)
    walk = update(jax.lax.while_loop(lambda walk: jnp.any(unfinished(walk)), block, start))
    change = -_sign(walk.active, dtype) * _take(walk.T, walk.entering, 1)
    return End(
        T=walk.T,
        active=walk.active,
        multipliers=jnp.where(walk.active, walk.values, 0),
        ray=jnp.where(one_hot(walk.entering), 1, jnp.where(walk.active, change, 0)),
        infeasible=walk.outcome == INFEASIBLE,
        steps=walk.steps,
    )


def _sign(active, dtype):
    return jnp.where(active, jnp.ones((), dtype), -1)


def _pick(v, k):
    """v[i, k[i]]."""
    return jnp.take_along_axis(v, k[:, None], 1, mode="promise_in_bounds")[:, 0]


def _take(T, k, axis):
    """T[i, k[i]] or T[i, :, k[i]]."""
    return jnp.squeeze(jnp.take_along_axis(T, k[:, None, None], axis, mode="promise_in_bounds"), axis)


def _least(v):
    """The least entry of each lane and its position, without the slow reduction of `argmin`."""
    least = jnp.min(v, 1)
    positions = jnp.arange(v.shape[1], dtype=np.int32)
    return least, jnp.min(jnp.where(v == least[:, None], positions, v.shape[1] - 1), 1)
