"""Predictions judged by the decisions they lead to.

A linear program min c'x over a set is solved with a predicted cost; what counts is the true cost of the decision. The
regret c'x(prediction) - c'x(c) has no useful derivative. The loss of Elmachtoub and Grigas bounds it from above, is
convex in the prediction, and its derivative is a difference of two decisions.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from convexjax.solution import Solution, Status


def decision_loss(
    solve: Callable[[jax.Array], Solution],
    predicted: jax.Array,
    cost: jax.Array,
    decision: jax.Array | None = None,
) -> jax.Array:
    """The loss of a predicted cost vector (n,), in the units of the objective.

        max_x (c - 2 p)'x + 2 p'x(c) - c'x(c),    p the prediction, x(c) the decision for the true cost c

    Arguments:
        solve: from a cost vector to the `Solution` of min c'x over the set of decisions, such as
            `lambda c: convexjax.solve_lp(c, A=A, b=b, lb=0.0)`.
        predicted, cost: (n,).
        decision: (n,), x(c), if it is known already; else it is solved for.

    Returns:
        The loss; zero, with derivative zero, where one of the programs is not solved.

    Source: Elmachtoub and Grigas, "Smart predict, then optimize", 2022.

    >>> import jax.numpy as jnp
    >>> import convexjax as cj
    >>> solve = lambda c: cj.solve_lp(c, A=jnp.ones((1, 2)), b=jnp.ones(1), lb=0.0)  # the cheaper of two
    >>> cost = jnp.array([1.0, 2.0])
    >>> right, wrong = (cj.layers.decision_loss(solve, p, cost) for p in (cost, cost[::-1]))
    >>> print(f"{abs(right):.2f} {wrong:.2f}")
    0.00 3.00
    """
    fixed_cost, slope = jax.lax.stop_gradient((cost, 2 * predicted - cost))
    tilted = solve(slope)
    solved = _solved(tilted)
    if decision is None:
        best = solve(fixed_cost)
        solved, decision = solved & _solved(best), best.x
    # a maximum over x changes with c and p as its terms do at the maximiser
    worst, decision = (jnp.where(solved, jax.lax.stop_gradient(x), 0) for x in (tilted.x, decision))
    return (cost - 2 * predicted) @ worst + (2 * predicted - cost) @ decision


def regret(solve: Callable[[jax.Array], Solution], predicted: jax.Array, cost: jax.Array) -> jax.Array:
    """c'x(predicted) - c'x(c): what the decision for the predicted cost costs more than the best one. NaN where one of
    the programs is not solved."""
    best, chosen = solve(cost), solve(predicted)
    return jnp.where(_solved(best) & _solved(chosen), cost @ (chosen.x - best.x), jnp.nan)


def _solved(solution):
    return Status.SOLVED.holds(solution.status) | Status.ALMOST_SOLVED.holds(solution.status)
