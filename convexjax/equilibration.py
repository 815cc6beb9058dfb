"""Scaling of the data before the solve, and its inverse.

With positive diagonal D, E (one factor per copy of a cone) and scalars beta, c the solver sees

    P^ = c beta^2 D P D,   q^ = c beta D q,   A^ = E A D,   b^ = E b / beta,

    x = beta D x^,   s = beta E^-1 s^,   z = E z^ / (c beta).

D and E bring the rows and columns of [P A'; A 0] to largest entries of one (Ruiz, RAL-TR-2001-034); beta and c bring b^ and
the objective to size one, so that a problem in other units is the same problem to the solver. All factors are powers of
two: scaling makes no rounding errors.
"""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from convexjax.cone_program import ConeProgram
from convexjax.linear_algebra import Rows, max_abs

MAX_PASSES = 12
# Factors stay within these bounds: beyond them a small entry is more likely noise than a unit of measure.
SMALLEST, LARGEST = 2.0**-20, 2.0**20


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Equilibration:
    """The factors: D (n,), E (m,), beta and c scalars."""

    D: jax.Array
    E: jax.Array
    beta: jax.Array
    c: jax.Array

    def scale_point(self, x, s, z):
        """A point in the user's units to the solver's."""
        return x / (self.beta * self.D), s * self.E / self.beta, z * (self.c * self.beta) / self.E

    def unscale_point(self, x, s, z):
        """A point in the solver's units to the user's."""
        return x * (self.beta * self.D), s * self.beta / self.E, z * self.E / (self.c * self.beta)


def equilibrate(program: ConeProgram, enabled: bool) -> tuple[ConeProgram, Equilibration]:
    """The scaled program and its factors (all one if not `enabled`)."""
    n, dtype = program.q.shape[0], program.q.dtype
    m = program.A.dense.shape[0]
    if enabled and m + n:
        D, E = _ruiz(program)
    else:
        D, E = jnp.ones(n, dtype), jnp.ones(m, dtype)
    # bounds keep unit coefficients: E = 1/D there
    E_all = jnp.concatenate([E] + [1 / D] * len(program.A.diagonals))
    P = None if program.P is None else D[:, None] * program.P * D
    q, b = D * program.q, E_all * program.b
    if enabled:
        size_P, size_q, size_b = 0 if P is None else max_abs(P), max_abs(q), max_abs(b)
        natural = jnp.where((size_q > 0) & (size_P > 0), size_q / jnp.where(size_P > 0, size_P, 1), 1)
        beta = _power_of_two(jnp.where(size_b > 0, size_b, natural))
        size = jnp.maximum(beta * beta * size_P, beta * size_q)
        c = _power_of_two(1 / jnp.where(size > 0, size, beta))
    else:
        beta = c = jnp.ones((), dtype)
    scaled = replace(
        program,
        P=None if P is None else (c * beta * beta) * P,
        q=(c * beta) * q,
        A=Rows(E[:, None] * program.A.dense * D, program.A.diagonals),
        b=b / beta,
    )
    return scaled, Equilibration(D=D, E=E_all, beta=beta, c=c)


def _power_of_two(v):
    return jnp.exp2(jnp.round(jnp.log2(v)))


def _ruiz(program):
    """D and E of the dense rows, passes until every row and column has its largest entry between 1/2 and 2."""
    absolute_A = jnp.abs(program.A.dense)
    absolute_P = None if program.P is None else jnp.abs(program.P)
    n, dtype = program.q.shape[0], program.q.dtype
    bounded = sum((jnp.abs(diagonal) for diagonal in program.A.diagonals), start=jnp.zeros(n, dtype)) > 0

    def norms(D, E):
        scaled = E[:, None] * absolute_A * D
        columns = jnp.max(scaled, 0, initial=0)
        if absolute_P is not None:
            columns = jnp.maximum(columns, D * jnp.max(absolute_P * D[:, None], 0, initial=0))
        columns = jnp.where((columns == 0) & bounded, D, columns)
        rows = program.cone.block_max(jnp.max(scaled, 1, initial=0))
        fill = lambda v: jnp.where(v > 0, v, 1)
        return fill(columns), fill(rows)

    def uneven(state):
        passes, _, _, columns, rows = state
        largest = jnp.maximum(jnp.max(columns, initial=1), jnp.max(rows, initial=1))
        smallest = jnp.minimum(jnp.min(columns, initial=1), jnp.min(rows, initial=1))
        return (passes < MAX_PASSES) & ((largest > 2) | (smallest < 0.5))

    def improve(state):
        passes, D, E, columns, rows = state
        D = jnp.clip(D * jax.lax.rsqrt(columns), SMALLEST, LARGEST)
        E = jnp.clip(E * jax.lax.rsqrt(rows), SMALLEST, LARGEST)
        return passes + 1, D, E, *norms(D, E)

    D, E = jnp.ones(n, dtype), jnp.ones(program.A.dense.shape[0], dtype)
    _, D, E, _, _ = jax.lax.while_loop(uneven, improve, (jnp.int32(0), D, E, *norms(D, E)))
    return _power_of_two(D), _power_of_two(E)
