"""Matrices near others: `nearest_correlation` and `complete_matrix`."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.cones import PSD
from convexjax.linear_algebra import smat, svec, svec_indices
from convexjax.options import Options
from convexjax.problems.arguments import checked_options, floating, require_shape, symmetric
from convexjax.problems.conic import solve_conic
from convexjax.problems.matrix_inequality import Block, matrices_of, program_of
from convexjax.relaxations.graphs import _solve
from convexjax.semidefinite_program import Entries
from convexjax.solution import Solution


def nearest_correlation(A: ArrayLike, *, options: Options | None = None) -> Solution:
    """The correlation matrix nearest to a symmetric one in the Frobenius norm:

        minimise   1/2 |X - A|_F^2     subject to   X_ii = 1,  X psd

    `x` is X, `z` the dual matrix.

    Source: Higham, "Computing the nearest correlation matrix", IMA J. Numer. Anal., 2002.

    >>> import jax.numpy as jnp
    >>> import convexjax as cj
    >>> A = jnp.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]])
    >>> print(cj.relaxations.nearest_correlation(A).x.round(3))
    [[ 1.   0.5 -0.5]
     [ 0.5  1.   0.5]
     [-0.5  0.5  1. ]]
    """
    (A,) = floating(A=A)
    k = A.shape[-1] if A.ndim else 0
    require_shape("A", A, (k, k), "a square matrix")
    target = svec(symmetric(A))
    rows, columns, _, _ = svec_indices(k)
    off = np.flatnonzero(rows != columns)  # the variables: svec(X) off the diagonal
    n, identity = off.size, svec(jnp.eye(k, dtype=A.dtype))
    minus = jnp.zeros((identity.size, n), A.dtype).at[off, np.arange(n)].set(-1)
    found = solve_conic(jnp.eye(n, dtype=A.dtype), -target[off], minus, identity, (PSD(k),), options=options)
    constant = (jnp.sum(target[off] ** 2) + jnp.sum((jnp.diagonal(A) - 1) ** 2)) / 2
    return Solution(
        x=smat(identity.at[off].set(found.x), k),
        z=smat(found.z, k),
        objective=found.objective + constant,
        status=found.status,
        info=found.info,
    )


def complete_matrix(
    shape: tuple[int, int],
    rows: ArrayLike,
    columns: ArrayLike,
    values: ArrayLike,
    *,
    options: Options | None = None,
) -> Solution:
    """The matrix of least nuclear norm (sum of singular values) with given entries, `X[rows, columns] = values`:

        minimise   (trace U + trace V) / 2     subject to   [U X; X' V] psd,   X[rows, columns] = values

    `x` is X, `y` the multipliers of the entries, `objective` the nuclear norm.

    Arguments:
        shape: (p, q) of X.
        rows, columns: (m,), places, known and not traced, each at most once.
        values: (m,).

    Source: Fazel, Hindi and Boyd, "A rank minimization heuristic", ACC, 2001; Candes and Recht, 2009.

    A matrix of rank one from three of its four entries:

    >>> import convexjax as cj
    >>> print(cj.relaxations.complete_matrix((2, 2), [0, 0, 1], [0, 1, 0], [1.0, 1.0, 1.0]).x.round(2))
    [[1. 1.]
     [1. 1.]]
    """
    options = checked_options(options)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((rows, columns))):
        raise ValueError("rows and columns are traced; they decide the constraints and must be known (NumPy arrays).")
    p, q = shape
    i, j = np.asarray(rows), np.asarray(columns)
    (values,) = floating(values=values)
    require_shape("values", values, (i.size,), "one value per place")
    if i.shape != j.shape or i.ndim != 1:
        raise ValueError(f"rows and columns must be vectors of one length, got shapes {i.shape} and {j.shape}.")
    if i.size and (i.min() < 0 or i.max() >= p or j.min() < 0 or j.max() >= q):
        raise ValueError(f"rows and columns must lie in 0..{p - 1} and 0..{q - 1}.")
    if np.unique(i * q + j).size < i.size:
        raise ValueError("a place is given more than once in rows and columns.")
    block = Block(jnp.eye(p + q, dtype=values.dtype) / 2, Entries(np.arange(i.size), i, p + j, np.full(i.size, 0.5)))
    program, places = program_of(values, [block])
    answer = _solve(program, options)
    _, (X,) = matrices_of(places, answer.point, [block])
    return Solution(x=X[:p, p:], y=answer.point.x, objective=-answer.objective, status=answer.status, info=answer.info)
