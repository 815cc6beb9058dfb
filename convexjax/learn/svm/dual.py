"""The dual of every support vector machine, and what a point of it proves.

    minimise    1/2 beta'K beta + 1/2 sum_ci d_ci a_ci^2 + sum_ci q_ci a_ci
    subject to  0 <= a <= u,   beta_i = sum_c sign_ci a_ci,   sum_i beta_i = e_1,   [sum_ci a_ci = e_2]    (1)

with one or two variables a_ci for each sample i: one for classification, two (residual above and below) for
regression. K is a kernel matrix, or X X' and then never formed (`kernel_matrix.py`). Multipliers: z >= 0 of a >= 0,
t >= 0 of a <= u (the slacks of the hinge), the intercept b of the first equation and rho of the second. With f = K beta
the optimality conditions are

    sign (f + b) + rho + d a + q - z + t = 0,    a z = 0,    (u - a) t = 0.    (2)
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax.pytrees import pytree, static


@pytree
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


def mean_of(live, v):
    """The mean of the entries that are there."""
    return jnp.sum(jnp.where(live, v, 0)) / jnp.maximum(jnp.sum(live.astype(v.dtype)), 1)
