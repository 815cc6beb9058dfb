"""Solutions inside of networks: lanes without a solution must not reach the parameters."""

import jax
import jax.numpy as jnp

from convexjax.solution import Solution, Status


def masked(solution: Solution, otherwise: float | jax.Array = 0.0) -> tuple[jax.Array, jax.Array]:
    """(x, solved): x of a solution, or of a batch of them, with `otherwise` in the lanes that are not solved, which
    have no derivative; and whether each lane is SOLVED or ALMOST_SOLVED.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import convexjax as cj
    >>> solve = jax.vmap(lambda ub: cj.solve_lp(jnp.ones(2), lb=1.0, ub=ub))
    >>> x, solved = cj.layers.masked(solve(jnp.array([2.0, 0.0])))
    >>> print(x.round(3), solved)
    [[1. 1.]
     [0. 0.]] [ True False]
    """
    solved = Status.SOLVED.holds(solution.status) | Status.ALMOST_SOLVED.holds(solution.status)
    rows = solved.reshape(solved.shape + (1,) * (solution.x.ndim - solved.ndim))
    return jnp.where(rows, solution.x, jnp.asarray(otherwise, solution.x.dtype)), solved


def mean_of_solved(losses: jax.Array, solved: jax.Array) -> jax.Array:
    """The mean of the losses (n,) of the lanes that are solved; zero if none is."""
    count = jnp.sum(solved).astype(losses.dtype)
    return jnp.sum(jnp.where(solved, losses, 0)) / jnp.maximum(count, 1)
