"""Scaling of the data before the solve, and its inverse.

With positive diagonal D, E (one factor per copy of a cone) and scalars beta, c the solver sees

    P^ = c beta^2 D P D,   q^ = c beta D q,   A^ = E A D,   b^ = E b / beta,

    x = beta D x^,   s = beta E^-1 s^,   z = E z^ / (c beta).

D and E bring the rows and columns of [P A'; A 0] to norms of about one (Ruiz, RAL-TR-2001-034); beta and c bring b^ and
the objective to size one, so that a problem in other units is the same problem to the solver. All factors are powers of
two: scaling makes no rounding errors.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from convexjax.cone_program import ConeProgram, infinite_rows
from convexjax.linear_algebra import (
    DiagonalPlusLowRank,
    Rows,
    congruent,
    diagonal_of,
    reductions,
    scaled,
    squared,
    vary_like,
)
from convexjax.pytrees import pytree, static
from convexjax.stage_program import StageProgram

MAX_PASSES = 12
# Factors stay within these bounds: beyond them a small entry is more likely noise than a unit of measure.
SMALLEST, LARGEST = 2.0**-30, 2.0**30


@pytree
@dataclass(frozen=True, kw_only=True)
class Equilibration:
    """The factors: D (n,), E (m,), beta and c scalars; and what was seen of the data on the way."""

    D: jax.Array
    E: jax.Array
    beta: jax.Array
    c: jax.Array
    rows: jax.Array  # 1 / E, and 0 for rows without effect
    dropped: jax.Array  # (m,), which rows have no effect, and the value that their b^ gets
    b_dropped: jax.Array
    size_P: jax.Array  # largest norm of a column of the scaled P, to a factor of 2
    no_q: jax.Array  # whether q = 0, b = 0
    no_b: jax.Array
    enabled: bool = static(default=True)  # else all factors are one

    def scale(self, program: ConeProgram) -> ConeProgram:
        """The program in the solver's units."""
        c, beta, D, E = self.c, self.beta, self.D, self.E
        q, b = (c * beta) * (D * program.q), jnp.where(self.dropped, self.b_dropped, E * program.b) / beta
        if isinstance(program, StageProgram):
            kept = program.kept(~self.dropped)
            return replace(kept.scaled(D, E, c * beta * beta) if self.enabled else kept, q=q, b=b)
        matrix, diagonals = _effective(program, self.dropped)
        return replace(
            program,
            P=None if program.P is None else congruent(program.P, D, c * beta * beta),
            q=q,
            A=Rows(scaled(matrix, E[: matrix.shape[0]], D), diagonals),
            b=b,
        )

    def scale_point(self, x, s, z):
        """A point in the user's units to the solver's."""
        s = jnp.where(self.dropped, self.b_dropped, s * self.E) / self.beta
        return x / (self.beta * self.D), s, z * (self.c * self.beta) / self.E

    def unscale_point(self, x, s, z):
        """A point in the solver's units to the user's."""
        return x * (self.beta * self.D), s * self.beta / self.E, z * self.E / (self.c * self.beta)


def _effective(program: ConeProgram, dropped: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """A without the dropped rows."""
    matrix, of_rows = program.A.matrix, dropped[: program.A.num_general]
    matrix = matrix.without(of_rows) if program.A.is_sparse else jnp.where(of_rows[:, None], 0, matrix)
    return matrix, tuple(
        jnp.where(part, 0, diagonal)
        for part, diagonal in zip(program.A.bound_rows(dropped), program.A.diagonals, strict=True)
    )


def equilibration(program: ConeProgram, enabled: bool, x: jax.Array | None = None) -> Equilibration:
    """The factors of a program (all one if not `enabled`).

    A program given as functions has a start x, and inequalities that may be far away. So the size of x is that of the
    largest entry of b, or if that is smaller, of what is near: the start, the minimum without constraints, equations,
    and inequalities that x = 0 violates.

    Rows of inequalities with b >= 1e20 become `0'x + s = t`, t the size of b, solved by s = t, z = 0: no effect.
    """
    dropped = infinite_rows(program)
    one = jnp.ones((), program.q.dtype)
    if isinstance(program, StageProgram):
        D, E, norms_P = _stage_factors(program, dropped, enabled)
    else:
        D, E, norms_P = _factors(program, dropped, enabled)
    q, b = D * program.q, jnp.where(dropped, 0, E * program.b)
    size_q, size_P = reductions(maxima=(jnp.abs(q), norms_P))
    (size_b,) = reductions(maxima=(jnp.abs(b),))
    beta = c = one
    if enabled:
        # b = 0: the size of x is that of the unconstrained minimum, if there is one
        ratio = jnp.where((size_q > 0) & (size_P > 0), size_q / size_P, 1)
        beta = jnp.where(size_b > 0, size_b, ratio)
        if x is not None:
            slack = jnp.asarray(program.cone.is_inequality()) & (b >= 0)
            (needed,) = reductions(maxima=(jnp.where(slack, 0, jnp.abs(b)),))
            # the variable t of phase one, after the others, has a curvature of its own
            (size_x, curvature) = reductions(maxima=(jnp.abs(x / D[: x.shape[0]]), norms_P[: x.shape[0]]))
            minimum = jnp.where(curvature > 0, size_q / jnp.where(curvature > 0, curvature, 1), jnp.inf)
            nearer = jnp.maximum(jnp.maximum(needed, size_x), minimum)
            beta = jnp.where(nearer > 0, jnp.minimum(beta, nearer), beta)
        beta = _power_of_two(beta)
        size = jnp.maximum(beta * beta * size_P, beta * size_q)
        c = _power_of_two(1 / jnp.where(size > 0, size, beta))
    return Equilibration(
        D=D,
        E=E,
        beta=beta,
        c=c,
        rows=jnp.where(dropped, 0, 1 / E),
        dropped=dropped,
        b_dropped=jnp.where(size_b > 0, size_b, 1),
        size_P=c * beta * beta * size_P,
        no_q=size_q == 0,
        no_b=size_b == 0,
        enabled=enabled,
    )


def _factors(program: ConeProgram, dropped: jax.Array, enabled: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """D, E and the norms of the columns of D P D."""
    n, dtype = program.q.shape[0], program.q.dtype
    matrix, diagonals = _effective(program, dropped)
    if enabled:
        D, E, norms_P = _ruiz(program.P, matrix, diagonals, program.cone)
    else:
        D, E = jnp.ones(n, dtype), jnp.ones(matrix.shape[0], dtype)
        # the largest entry of a positive semidefinite matrix is on its diagonal
        norms_P = jnp.zeros(n, dtype) if program.P is None else jnp.abs(diagonal_of(program.P))
    # bounds keep unit coefficients: E = 1/D there
    return D, jnp.concatenate([E] + [1 / D] * len(diagonals)), norms_P


# A state or an input with a smaller share of the largest entry of the cost counts as one of this share.
LEAST_COST = 1e-4


def _stage_factors(program: StageProgram, dropped: jax.Array, enabled: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The same for an optimal control problem: one factor for each state and each input that brings the diagonal of its
    cost to the same size in all; the coefficient -1 of x_{t+1} stays what it is."""
    rows, one = program.A, jnp.ones((), program.q.dtype)
    of_states = jnp.abs(jnp.diagonal(program.Q, axis1=1, axis2=2))
    of_inputs = jnp.abs(jnp.diagonal(program.R, axis1=1, axis2=2))
    units = [jnp.ones_like(costs[0]) for costs in (of_states, of_inputs)]
    if enabled:
        sizes = [jnp.max(costs, 0, initial=0) for costs in (of_states, of_inputs)]
        largest = jnp.maximum(jnp.max(sizes[0]), jnp.max(sizes[1]))
        least = jnp.where(largest > 0, LEAST_COST * largest, one)
        units = [_power_of_two(jax.lax.rsqrt(jnp.maximum(size, least))) for size in sizes]
    D_x, D_u = jnp.broadcast_to(units[0], of_states.shape), jnp.broadcast_to(units[1], of_inputs.shape)
    D = jnp.concatenate([D_x.reshape(-1), D_u.reshape(-1)])
    E = [1 / D_x.reshape(-1)]
    if rows.G is not None:
        squares = jnp.sum((rows.G * D_x[:, None]) ** 2, 2).at[:-1].add(jnp.sum((rows.J[:-1] * D_u[:, None]) ** 2, 2))
        norms = jnp.sqrt(squares).reshape(-1)
        norms = jnp.where((norms > 0) & ~dropped[rows.num_equations : rows.num_general], norms, 1)
        E.append(_power_of_two(1 / norms) if enabled else jnp.ones_like(norms))
    E += [1 / (D_x, D_u)[kind // 2].reshape(-1) for kind in rows.bounds]
    return D, jnp.concatenate(E), D * D * jnp.concatenate([of_states.reshape(-1), of_inputs.reshape(-1)])


def _power_of_two(v):
    """The power of two nearest to v > 0: its exponent bits, rounded by a factor sqrt 2. 1 if v is not finite."""
    bits, integer = (0x7FF0000000000000, jnp.int64) if v.dtype == jnp.float64 else (0x7F800000, jnp.int32)
    exponent = jax.lax.bitcast_convert_type(v * 2**0.5, integer) & integer(bits)
    return jnp.where(jnp.isfinite(v), jax.lax.bitcast_convert_type(exponent, v.dtype), 1)


def _squared(P):
    """The squared entries of P; of a structured one those of the diagonal, for its columns are no larger by far."""
    if P is None or not isinstance(P, DiagonalPlusLowRank):
        return None if P is None else squared(P)
    return DiagonalPlusLowRank(diagonal_of(P) ** 2, jnp.zeros_like(P.factor[:, :0]))


def _ruiz(P, matrix, diagonals, cone):
    """D and E of the general rows, passes until every row and column has a norm between 1/2 and 2; and the norms of the
    columns of D P D.

    Euclidean norms, so that a pass is a few products of the squared entries with vectors.
    """
    (m, n), dtype = matrix.shape, matrix.dtype
    squared_A, squared_P = squared(matrix), _squared(P)
    bounded = sum((jnp.abs(diagonal) for diagonal in diagonals), start=jnp.zeros(n, dtype)) > 0

    def improve(state):
        passes, _, factors, _ = state
        D2, E2 = factors[:n] ** 2, factors[n:] ** 2
        norms_P = jnp.zeros_like(D2) if P is None else D2 * (squared_P @ D2)
        columns = D2 * (E2 @ squared_A) + norms_P
        # a variable that only has bounds is brought to the unit of its bound
        columns = jnp.where((columns == 0) & bounded, D2, columns)
        rows = cone.block_max(E2 * (squared_A @ D2))
        norms = jnp.concatenate([columns, rows])
        norms = jnp.where(norms > 0, norms, 1)
        factors = _power_of_two(jnp.clip(factors * jax.lax.rsqrt(jnp.sqrt(norms)), SMALLEST, LARGEST))
        largest, largest_inverse = reductions(maxima=(norms, 1 / norms))
        return passes + 1, jnp.maximum(largest, largest_inverse) > 4, factors, norms_P

    start = (jnp.int32(0), jnp.array(True), jnp.ones(n + m, dtype), jnp.zeros(n, dtype))
    start = vary_like((P, matrix, diagonals), start)
    _, _, factors, norms_P = jax.lax.while_loop(lambda state: (state[0] < MAX_PASSES) & state[1], improve, start)
    return factors[:n], factors[n:], jnp.sqrt(norms_P)
