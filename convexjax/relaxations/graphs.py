"""Relaxations of problems on graphs: `max_cut` and `lovasz_theta`."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.options import Options
from convexjax.problems.arguments import checked_options, floating, require_shape, symmetric
from convexjax.problems.matrix_inequality import Block, matrices_of, program_of
from convexjax.semidefinite_program import Entries
from convexjax.semidefinite_solver import solve
from convexjax.solution import Solution

_solve = quick_jit(solve)


class Cut(NamedTuple):
    """A cut and the bound on every cut."""

    side: jax.Array  # (n,), 1 or -1
    value: jax.Array
    bound: jax.Array
    solution: Solution  # of the relaxation, x its matrix


def max_cut(weights: ArrayLike, key: jax.Array, *, rounds: int = 100, options: Options | None = None) -> Cut:
    """Divide the nodes of a graph so that the weight of the edges between the two sides is large:

        maximise   1/4 sum_ij W_ij (1 - X_ij)     subject to   X_ii = 1,  X psd

    bounds every cut, and signs of random projections of the columns of a root of X are cuts whose expected weight is at
    least 0.878 of the bound for nonnegative weights. The best of `rounds` of them is returned.

    Arguments:
        weights: (n, n), symmetric, W_ij the weight of edge ij.
        key: of `jax.random`.

    Source: Goemans and Williamson, J. ACM, 1995.

    The cycle of five nodes has a cut of four edges:

    >>> import jax, numpy as np
    >>> import convexjax as cj
    >>> W = np.roll(np.eye(5), 1, 1) + np.roll(np.eye(5), -1, 1)
    >>> cut = cj.relaxations.max_cut(W, jax.random.key(0))
    >>> print(round(float(cut.value), 2), round(float(cut.bound), 2))
    4.0 4.52
    """
    options = checked_options(options)
    (W,) = floating(weights=weights)
    n = W.shape[0] if W.ndim else 0
    require_shape("weights", W, (n, n), "a square matrix")
    W = symmetric(W)
    C = -(jnp.diag(jnp.sum(W, 1)) - W) / 4
    each = np.arange(n)
    block = Block(C, Entries(each, each, each, np.ones(n)))
    solution = _solve_matrix_form(jnp.ones(n, W.dtype), block, options)
    # X = V V' up to its rounding errors, which may be negative
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(jnp.where(jnp.isfinite(solution.x), solution.x, 0)))
    V = vectors * jnp.sqrt(jnp.maximum(values, 0))
    signs = jnp.where(V @ jax.random.normal(key, (n, rounds), W.dtype) >= 0, 1, -1).astype(W.dtype)
    cuts = jnp.sum(signs * (-C @ signs), 0)
    best = jnp.argmax(cuts)
    return Cut(signs[:, best], cuts[best], -solution.objective, solution)


def lovasz_theta(adjacency: ArrayLike, *, options: Options | None = None) -> Solution:
    """The Lovasz number of a graph, between its largest independent set and the chromatic number of its complement:

        maximise   sum_ij X_ij     subject to   trace X = 1,  X_ij = 0 for all edges ij,  X psd

    (`-solution.objective`; X is `solution.x`).

    Arguments:
        adjacency: (n, n), nonzero where there is an edge. Its pattern must be known, not traced.

    Source: Lovasz, "On the Shannon capacity of a graph", IEEE Trans. Inf. Theory, 1979.

    >>> import numpy as np
    >>> import convexjax as cj
    >>> pentagon = np.roll(np.eye(5), 1, 1) + np.roll(np.eye(5), -1, 1)
    >>> print(round(-float(cj.relaxations.lovasz_theta(pentagon).objective), 2))
    2.24
    """
    options = checked_options(options)
    if isinstance(adjacency, jax.core.Tracer):
        raise ValueError("adjacency is traced; the edges decide the constraints and must be known (a NumPy array).")
    pattern = np.asarray(adjacency) != 0
    n = pattern.shape[0] if pattern.ndim else 0
    require_shape("adjacency", pattern, (n, n), "a square matrix")
    row, column = np.nonzero(np.triu(pattern | pattern.T, 1))
    each = np.arange(n)
    entries = Entries(
        np.concatenate([np.zeros(n, int), 1 + np.arange(row.size)]),
        np.concatenate([each, row]),
        np.concatenate([each, column]),
        np.ones(n + row.size),
    )
    dtype = jnp.result_type(float)
    b = jnp.zeros(1 + row.size, dtype).at[0].set(1)
    return _solve_matrix_form(b, Block(-jnp.ones((n, n), dtype), entries), options)


def _solve_matrix_form(b, block, options) -> Solution:
    """min <C, X>, <A_i, X> = b_i, X psd; it is feasible and bounded."""
    program, places = program_of(b, [block])
    answer = _solve(program, options)
    (S,), (X,) = matrices_of(places, answer.point, [block])
    return Solution(x=X, y=answer.point.x, z=S, objective=-answer.objective, status=answer.status, info=answer.info)
