"""`minimum_volume_ellipsoid`: the smallest ellipsoid around points."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.options import Options
from convexjax.problems.arguments import floating, require_shape
from convexjax.problems.maxdet import solve_maxdet
from convexjax.solution import Solution


class Ellipsoid(NamedTuple):
    """The points p with (p - centre)' shape (p - centre) <= 1."""

    centre: jax.Array  # (d,)
    shape: jax.Array  # (d, d)
    solution: Solution  # x the weights of the points, positive on the boundary only


def minimum_volume_ellipsoid(points: ArrayLike, *, options: Options | None = None) -> Ellipsoid:
    """The ellipsoid of least volume that contains all points, through its dual, a D-optimal design: with q_i = (p_i, 1)

        maximise   log det sum_i u_i q_i q_i'     subject to   u >= 0,  sum u = 1.

    Arguments:
        points: (m, d), not all in one hyperplane.

    Source: Titterington, "Optimal design: some geometrical aspects of D-optimality", Biometrika, 1975.

    >>> import numpy as np
    >>> import convexjax as cj
    >>> ball = cj.relaxations.minimum_volume_ellipsoid(np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1], [0.3, 0.3]]))
    >>> print(abs(ball.centre).round(3), abs(ball.shape.round(3)))
    [0. 0.] [[1. 0.]
     [0. 1.]]
    """
    (points,) = floating(points=points)
    require_shape("points", points, (None, None), "one row per point")
    m, d = points.shape
    # centred and scaled, which changes the determinant by a factor
    middle = jax.lax.stop_gradient(jnp.mean(points, 0))
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(points - middle), 0, initial=0))
    size = jnp.where(size > 0, size, 1)
    Q = jnp.concatenate([(points - middle) / size, jnp.ones((m, 1), points.dtype)], 1)
    F = jnp.concatenate([jnp.zeros((1, d + 1, d + 1), Q.dtype), Q[:, :, None] * Q[:, None]])
    G = jnp.concatenate([jnp.zeros((1, m), Q.dtype), jnp.eye(m, dtype=Q.dtype)])
    one = jnp.ones((1, m), Q.dtype)
    solution = solve_maxdet(jnp.zeros(m, Q.dtype), F, G, one, one[0, :1], options=options)
    mean = solution.x @ Q[:, :d]
    spread = (Q[:, :d] - mean).T @ (solution.x[:, None] * (Q[:, :d] - mean))
    shape = jnp.linalg.inv(spread) / d
    return Ellipsoid(middle + size * mean, (shape + shape.T) / 2 / size[:, None] / size, solution)
