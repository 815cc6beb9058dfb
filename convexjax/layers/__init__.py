"""Convex problems as layers of networks: functions of arrays, differentiable, to be batched by `jax.vmap`.

Every `convexjax.solve_*` and `minimize` is a layer as it is, with learnable data; `masked` keeps lanes without a
solution away from the parameters. Here are those with a shape of their own.
"""

from convexjax.layers.decisions import decision_loss, regret
from convexjax.layers.denoising import total_variation
from convexjax.layers.pool_adjacent import isotonic
from convexjax.layers.probabilities import entmax, simplex, sparsemax
from convexjax.layers.ranking import permutahedron, soft_rank, soft_sort, soft_top_k
from convexjax.layers.solved_lanes import masked, mean_of_solved
from convexjax.layers.transport import optimal_transport

__all__ = [
    "decision_loss",
    "entmax",
    "isotonic",
    "masked",
    "mean_of_solved",
    "optimal_transport",
    "permutahedron",
    "regret",
    "simplex",
    "soft_rank",
    "soft_sort",
    "soft_top_k",
    "sparsemax",
    "total_variation",
]
