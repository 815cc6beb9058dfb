"""`solve_maxdet`: log det and linear matrix inequalities."""

from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.options import Options
from convexjax.problems.arguments import checked_options, floating, rank, require_shape, require_together
from convexjax.problems.matrix_inequality import (
    is_sparse_block,
    matrices_of,
    program_of,
    read_block,
)
from convexjax.semidefinite_solver import solve
from convexjax.solution import Solution


def solve_maxdet(
    c: ArrayLike,
    F: ArrayLike | list | tuple,
    G: ArrayLike | list | tuple | None = None,
    A: ArrayLike | None = None,
    b: ArrayLike | None = None,
    *,
    options: Options | None = None,
) -> Solution:
    """Minimise a linear function minus the log det of a matrix that depends linearly on the variables:

        minimise    c'x - log det(F_0 + sum_i x_i F_i)
        subject to  G_0 + sum_i x_i G_i  psd,    A x = b

    (the first matrix positive definite).

    Arguments:
        c: (n,), and F: (n + 1, k, k), F_0 first. For a sum of several log dets a tuple or list of such arrays.
        G: (m + 1, l, l) in the same way; several inequalities as a tuple or list.
        A: (p, n), and b: (p,).
        options: see `Options`; `tolerance` is for the duality gap and the residuals.
        Each block of F and G may also be a list of n + 1 matrices, some of them of scipy.sparse, or a BCOO array, and
        each diagonal one an array (n + 1, l) of the diagonals.

    Returns:
        `Solution`: `x` (n,); `s` = G(x) and its dual `z` psd (tuples where G is one, None without G); `y` (p,) or None;
        `s_cones` = (F(x), ...) and `z_cones` = (W, ...), the inverses of F(x), with
        `c_i + (A'y)_i = sum <F_i, W> + sum <G_i, z>` and the dual value
        `sum (log det W + k - <F_0, W>) - <G_0, z> - b'y`. PRIMAL_INFEASIBLE: W and z psd and y with
        `<F_i, W> + <G_i, z> = (A'y)_i` and `<F_0, W> + <G_0, z> + b'y = -1`. DUAL_INFEASIBLE (unbounded): `x` with
        `c'x = -1` along which all constraints hold, or with `c'x = 0` and F(x) - F_0 psd of trace 1, so that the log
        det grows.

    Raises:
        ValueError: shapes that do not fit; matrices that are not symmetric, if their numbers are known.
        TypeError: data that are not real numbers.

    Source: Vandenberghe, Boyd and Wu, "Determinant maximization with linear matrix inequality constraints", SIAM J.
    Matrix Anal. Appl., 1998. Method: `semidefinite_interior_point.py`.

    The inverse of a matrix S is where trace(S X) - log det X is least:

    >>> import jax.numpy as jnp
    >>> import convexjax as cj
    >>> F = jnp.array([[[0, 0], [0, 0]], [[1, 0], [0, 0]], [[0, 1], [1, 0]], [[0, 0], [0, 1.0]]])
    >>> S = jnp.array([[2.0, 1.0], [1.0, 1.0]])
    >>> print(cj.solve_maxdet([S[0, 0], 2 * S[0, 1], S[1, 1]], F).x.round(3) + 0.0)
    [ 1. -1.  2.]
    """
    options = checked_options(options)
    require_together(A=A, b=b)
    log_dets, one_F = _listed(F)
    inequalities, one_G = _listed(G) if G is not None else ([], False)
    names = [f"F[{j}]" if not one_F else "F" for j in range(len(log_dets))]
    names += [f"G[{j}]" if not one_G else "G" for j in range(len(inequalities))]
    values = [*log_dets, *inequalities]
    dense = {name: value for name, value in zip(names, values, strict=True) if not is_sparse_block(value)}
    c, A, b, *_ = floating(c=c, A=A, b=b, **dense)
    require_shape("c", c, (None,))
    n = c.shape[0]
    if A is not None:
        require_shape("A", A, (None, n), "one column per entry of c")
        require_shape("b", b, (A.shape[0],), "one entry per row of A")
    blocks = [read_block(name, value, n, c.dtype) for name, value in zip(names, values, strict=True)]
    weights = [1] * len(log_dets) + [0] * len(inequalities)
    program, places = program_of(c, blocks, weights, A, b)
    answer = _solve(program, options)
    S, Z = matrices_of(places, answer.point, blocks)
    k = len(log_dets)
    take = lambda matrices: None if G is None else (matrices[0] if one_G else matrices)
    return Solution(
        x=answer.point.x,
        s=take(S[k:]),
        y=None if A is None else answer.point.y,
        z=take(Z[k:]),
        s_cones=S[:k],
        z_cones=Z[:k],
        objective=answer.objective,
        status=answer.status,
        info=answer.info,
    )


_solve = quick_jit(solve)


def _listed(blocks) -> tuple[list, bool]:
    """The blocks as a list, and whether there was one that was not in a list."""
    if isinstance(blocks, tuple | list) and len(blocks):
        several = [is_sparse_block(v) and isinstance(v, list | tuple) for v in blocks]
        several += [rank(v) == 3 for v in blocks]
        diagonals = all(hasattr(v, "ndim") and v.ndim == 2 and not hasattr(v, "tocoo") for v in blocks)
        if any(several) or (diagonals and isinstance(blocks, tuple)):
            return list(blocks), False
    return [blocks], True
