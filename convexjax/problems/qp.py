"""`solve_qp` and `solve_lp`: quadratic and linear programs."""

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.cone_program import ConeProgram
from convexjax.cones.linear import Nonnegative, Zero
from convexjax.cones.product import ProductCone
from convexjax.linear_algebra import Rows
from convexjax.options import Options
from convexjax.problems.arguments import (
    checked_guess,
    checked_options,
    floating_matrices,
    require_given,
    require_shape,
    require_together,
    rows_or_empty,
    symmetric,
)
from convexjax.solution import Solution
from convexjax.solver import solve
from convexjax.sparse_matrix import SparseMatrix


def solve_qp(
    P: ArrayLike | None,
    q: ArrayLike,
    G: ArrayLike | None = None,
    h: ArrayLike | None = None,
    A: ArrayLike | None = None,
    b: ArrayLike | None = None,
    lb: ArrayLike | None = None,
    ub: ArrayLike | None = None,
    *,
    options: Options | None = None,
    warm_start: Solution | None = None,
) -> Solution:
    """Solve a convex quadratic program.

        minimise    1/2 x'Px + q'x
        subject to  G x <= h,   A x = b,   lb <= x <= ub

    Arguments:
        P: (n, n), symmetric positive semidefinite, or None for zero. Only its symmetric part counts.
        q: (n,).
        G, h: (m, n) and (m,), inequalities. An entry of h >= 1e20 (or inf) means that the row has no effect.
        A, b: (p, n) and (p,), equations. They may be redundant.
        lb, ub: (n,) or a scalar, bounds; infinite entries are no bounds. Cheaper than the same rows in G.
        options: see `Options`.
        warm_start: a `Solution` of a similar problem. Where it tells which constraints bind, one Newton step finds the
            new solution. Values that are not finite, or far from a solution, are ignored.

    P, G and A may be sparse: of scipy.sparse, or BCOO or BCSR of jax.experimental.sparse, whose values may be traced,
    batched and differentiated. If one of them is, all become so, and the linear systems are solved by sparse factors,
    in float64 on the host (extra `sparse`; `convexjax/sparse_factor.py`): for large programs with few entries a row.

    Returns:
        `Solution` with `x` (n,), slack `s = h - Gx` (m,), duals `y` (p,) of the equations, `z` (m,) of the
        inequalities, `z_lb`, `z_ub` (n,) of the bounds (None where no such constraint is given), all but `y`
        nonnegative, so that `Px + q + A'y + G'z + z_ub - z_lb = 0`; `objective`, `status`, `info`. PRIMAL_INFEASIBLE:
        the duals satisfy `A'y + G'z + z_ub - z_lb = 0`, `b'y + h'z + ub'z_ub - lb'z_lb = -1`. DUAL_INFEASIBLE: `x`
        with `q'x = -1`, `Px = 0`, `Gx <= 0`, `Ax = 0`, and within the signs that the bounds allow.

    Raises:
        ValueError: shapes that do not fit, G without h, A without b.
        TypeError: data that are not real numbers.
        ImportError: a sparse matrix without the extra.

    Source: Goulart and Chen, arXiv:2405.12762.

    >>> import numpy as np
    >>> import convexjax as cj
    >>> P, q = [[2.0, 0.0], [0.0, 2.0]], [-2.0, -5.0]
    >>> solution = cj.solve_qp(P, q, G=[[1.0, 2.0]], h=[3.0], lb=0.0)
    >>> print(np.asarray(solution.x).round(3), np.asarray(solution.z).round(3))
    [0.4 1.3] [1.2]

    Sparse, min |x - 1|^2 / 2 with differences x_i - x_{i+1} of at least one half:

    >>> import scipy.sparse as sparse
    >>> differences = sparse.diags_array([-1.0, 1.0], offsets=[0, 1], shape=(3, 4))
    >>> solution = cj.solve_qp(sparse.eye_array(4), -np.ones(4), G=differences, h=-0.5 * np.ones(3))
    >>> print(np.asarray(solution.x).round(3))
    [1.75 1.25 0.75 0.25]
    """
    return _checked_qp("q", P, q, G, h, A, b, lb, ub, options, warm_start)


def _checked_qp(linear: str, P, q, G, h, A, b, lb, ub, options, warm_start) -> Solution:
    """`linear` is the user's name of q."""
    options = checked_options(options)
    require_given(**{linear: q})
    require_together(G=G, h=h)
    require_together(A=A, b=b)
    matrices, vectors = dict(P=P, G=G, A=A), {linear: q, "h": h, "b": b, "lb": lb, "ub": ub}
    P, G, A, q, h, b, lb, ub = floating_matrices(matrices, vectors)
    require_shape(linear, q, (None,))
    n = q.shape[0]
    if P is not None:
        require_shape("P", P, (n, n), "with n the length of q")
    for matrix_name, matrix, vector_name, vector in (("G", G, "h", h), ("A", A, "b", b)):
        if matrix is not None:
            require_shape(matrix_name, matrix, (None, n), f"with one column per entry of {linear}")
            require_shape(vector_name, vector, (matrix.shape[0],), f"with one entry per row of {matrix_name}")
    for name, bound in (("lb", lb), ("ub", ub)):
        if bound is not None and bound.shape != ():
            require_shape(name, bound, (n,), "or a scalar")

    guess = None
    if warm_start is not None:
        z_lb, z_ub = (None if bound is None else q for bound in (lb, ub))
        guess = checked_guess(warm_start, x=q, y=b, z=h, z_lb=z_lb, z_ub=z_ub)
    return _solve_qp(P, q, G, h, A, b, lb, ub, options, guess)


@quick_jit
def _solve_qp(P, q, G, h, A, b, lb, ub, options, guess) -> Solution:
    """The reduction, on checked arrays."""
    n, dtype = q.shape[0], q.dtype
    is_sparse = any(isinstance(matrix, SparseMatrix) for matrix in (P, A, G))
    (A_rows, b_rows), (G_rows, h_rows) = (rows_or_empty(*rows, n, dtype, is_sparse) for rows in ((A, b), (G, h)))
    p, m = A_rows.shape[0], G_rows.shape[0]
    sides = [(sign, jnp.broadcast_to(sign * bound, n)) for sign, bound in ((-1, lb), (1, ub)) if bound is not None]
    rows = A_rows.above(G_rows) if is_sparse else jnp.concatenate([A_rows, G_rows])
    program = ConeProgram(
        P=symmetric(P),
        q=q,
        A=Rows(rows, tuple(jnp.full(n, sign, dtype) for sign, _ in sides)),
        b=jnp.concatenate([b_rows, h_rows, *(value for _, value in sides)]),
        cone=ProductCone.build((Zero(p), Nonnegative(m)), num_bounds=n * len(sides)),
    )
    if guess is not None:
        x, *duals = jax.tree.leaves(guess)
        guess = x, program.b - program.A.matvec(x), jnp.concatenate([jnp.zeros(0, dtype), *duals])
    answer = solve(program, options, guess)

    y, z = answer.z[:p], answer.z[p : p + m]
    bound_duals = iter(program.A.bound_rows(answer.z))
    return Solution(
        x=answer.x,
        s=None if G is None else answer.s[p : p + m],
        y=None if A is None else y,
        z=None if G is None else z,
        z_lb=None if lb is None else next(bound_duals),
        z_ub=None if ub is None else next(bound_duals),
        objective=answer.objective,
        status=answer.status,
        info=answer.info,
    )


def solve_lp(
    c: ArrayLike,
    G: ArrayLike | None = None,
    h: ArrayLike | None = None,
    A: ArrayLike | None = None,
    b: ArrayLike | None = None,
    lb: ArrayLike | None = None,
    ub: ArrayLike | None = None,
    *,
    options: Options | None = None,
    warm_start: Solution | None = None,
) -> Solution:
    """Solve a linear program.

        minimise    c'x
        subject to  G x <= h,   A x = b,   lb <= x <= ub

    Arguments, returns and errors as in `solve_qp` with P = 0 and q = c. The solution of an interior-point method lies
    inside the face of optima when there is more than one.

    >>> import numpy as np
    >>> import convexjax as cj
    >>> solution = cj.solve_lp([-1.0, -2.0], G=[[1.0, 1.0], [1.0, 3.0]], h=[4.0, 6.0], lb=0.0)
    >>> print(np.asarray(solution.x).round(3), round(float(solution.objective), 3))
    [3. 1.] -5.0
    """
    return _checked_qp("c", None, c, G, h, A, b, lb, ub, options, warm_start)
