"""`lstsq`: least squares, the solution of smallest norm, with equations if wanted."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax import pseudo_inverse
from convexjax.compilation import quick_jit
from convexjax.options import DEFAULT_TOLERANCES
from convexjax.problems.arguments import floating, require_given, require_shape, require_together
from convexjax.pytrees import pytree
from convexjax.solution import Status

METHODS = {"auto": pseudo_inverse.CHOLESKY, "qr": pseudo_inverse.QR, "svd": pseudo_inverse.SVD, "lsmr": None}


@pytree
@dataclass(frozen=True, kw_only=True)
class LeastSquares:
    """Answer of `lstsq`: a pytree, under `vmap` with one entry per lane in each array."""

    x: Any  # (n,) or (n, q)
    residual_sum_of_squares: Any  # () or (q,), weighted
    rank: Any  # int32, of the columns; None without a factorisation (method "lsmr")
    status: Any  # int32, a `Status`


def lstsq(
    A: ArrayLike | tuple[Callable, Callable] | Any,
    b: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    C: ArrayLike | None = None,
    d: ArrayLike | None = None,
    method: str = "auto",
    rcond: float | jax.Array | None = None,
) -> LeastSquares:
    """Solve a linear least-squares problem; of several solutions the one of smallest norm.

        minimise    sum_i w_i (a_i'x - b_i)^2       subject to  C x = d

    Arguments:
        A: (m, n), any m and n; or a lineax operator; or a pair of callables (x to A x, y to A'y) for problems that are
            too large for a factorisation.
        b: (m,), or (m, q) for q outputs at once.
        weights: (m,), w, nonnegative; None for ones.
        C, d: (p, n) and (p,) or (p, q), equations that x satisfies exactly. They may be redundant.
        method: "auto", "qr", "svd" or "lsmr".

            - "auto": a Cholesky factor of A'A whose errors are corrected with residuals of the data, for tall matrices
              that are not badly conditioned. Where a bound of its error is too large (or A wide): "qr".
            - "qr": Householder QR, corrected with residuals in doubled precision (where m n q is at most 3e7). If the
              columns (rows) are dependent: "svd".
            - "svd": singular values, those below `rcond` times the largest cut off; corrected in the same way.
            - "lsmr": iterative, for A given as a function (the only method for it). Needs the extra `lineax`.
        rcond: singular values below `rcond` times the largest count as zero, after columns have been scaled to the same
            length, so that ranks do not depend on units. None: eps max(m, n). With "lsmr": the relative tolerance,
            None: 1e3 eps.

    Returns:
        `LeastSquares` with `x` (n,) or (n, q), `residual_sum_of_squares` () or (q,), `rank` of A (with equations: of A
        within their null space) and `status`: SOLVED; PRIMAL_INFEASIBLE if the equations contradict each other;
        NUMERICAL_ERROR for NaN or infinite data; NONCONVEX for a negative weight; MAX_ITERATIONS (lsmr). Derivatives of
        any order are exact, at constant rank also if the columns are dependent.

    Raises:
        ValueError: shapes that do not fit, C without d, an unknown method, a method that does not suit A.
        TypeError: data that are not real numbers.

    Source: Bjorck, "Numerical Methods for Least Squares Problems", 1996; Golub and Pereyra, "The differentiation of
    pseudo-inverses and nonlinear least squares problems whose variables separate", 1973.

    >>> import numpy as np
    >>> import convexjax as cj
    >>> A, b = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]]), np.array([1.0, 2.0, 4.0])
    >>> solution = cj.lstsq(A, b)
    >>> print(np.asarray(solution.x).round(3), int(solution.rank))
    [0.833 1.5  ] 2
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(map(repr, METHODS))}, got {method!r}.")
    if rcond is not None and not isinstance(rcond, jax.core.Tracer) and not 0 <= float(rcond) < 1:
        raise ValueError(f"rcond must be a number in [0, 1), got {rcond!r}.")
    require_together(C=C, d=d)
    if _is_function(A) or method == "lsmr":
        return _matrix_free(A, b, weights, C, method, rcond)
    require_given(A=A, b=b)
    A, b, weights, C, d = floating(A=A, b=b, weights=weights, C=C, d=d)
    m, n = _check_matrix("A", A)
    require_shape("b", b, (m,) if b.ndim != 2 else (m, None), "with one row per row of A")
    if weights is not None:
        require_shape("weights", weights, (m,), "with one entry per row of A")
    if C is not None:
        p, _ = _check_matrix("C", C)
        require_shape("C", C, (None, n), "with one column per column of A")
        require_shape("d", d, (p, *b.shape[1:]), "with one row per row of C and the outputs of b")
    rcond = jnp.asarray(float(jnp.finfo(A.dtype).eps) * max(m, n) if rcond is None else rcond, A.dtype)
    return _lstsq(A, b, weights, C, d, rcond, jnp.int32(METHODS[method]))


def _check_matrix(name: str, A) -> tuple[int, int]:
    require_shape(name, A, (None, None))
    return A.shape


@quick_jit
def _lstsq(A: Any, b: Any, w: Any, C: Any, d: Any, rcond: jax.Array, method: jax.Array) -> LeastSquares:
    """The solution, on checked arrays."""
    # A itself is looked at only where the solution does not show that it is finite
    tree = (None if C is None else A, b, w, C, d)
    fine = jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
    convex = jnp.array(True) if w is None else ~jnp.any(w < 0)
    usable = fine & convex
    # a lane that cannot be solved gets data that can, and is cut off from its own; A is not copied for that

    def safe(leaf) -> Any:
        return None if leaf is None else jnp.where(usable, leaf, 0)

    columns = lambda v: v if v is None or v.ndim == 2 else v[:, None]
    B, w, C, D = (safe(leaf) for leaf in (columns(b), w, C, columns(d)))
    feasible = jnp.array(True)
    if C is None:
        fixed_A, fixed_w, fixed_B = jax.lax.stop_gradient((A, w, B))
        x, rss, rank, finite = pseudo_inverse.solve(fixed_A, fixed_w, fixed_B, method, rcond, usable)
        fine, usable = fine & (finite | ~usable), usable & finite
        x = pseudo_inverse.attach(A, w, B, x, method, rcond, usable)
        rss = pseudo_inverse.attach_sum_of_squares(A, w, B, x, rss, usable)
    else:
        A = safe(A)
        x, rank, feasible = _with_equations(A, w, B, C, D, method, rcond)
        rss = pseudo_inverse.sum_of_squares(A, w, B, x)
    if jnp.ndim(b) == 1:
        x, rss = x[:, 0], rss[0]
    status = jnp.where(feasible & jnp.all(jnp.isfinite(x)), jnp.int32(Status.SOLVED), jnp.int32(Status.NUMERICAL_ERROR))
    status = jnp.where(feasible, status, jnp.int32(Status.PRIMAL_INFEASIBLE))
    status = jnp.where(convex, status, jnp.int32(Status.NONCONVEX))
    status = jnp.where(fine, status, jnp.int32(Status.NUMERICAL_ERROR))
    fill = lambda value: jnp.where(usable, value, jnp.nan)
    return LeastSquares(x=fill(x), residual_sum_of_squares=fill(rss), rank=rank, status=status)


# ----------------------------------------------------------------------------- equations


def _with_equations(A, w, b, C, d, method, rcond):
    """(x, rank, whether the equations hold): x = C^+ d + Z y with Z an orthonormal basis of the null space of C."""
    data = (A, w, b, C, d)
    A_, w_, b_, C_, d_ = jax.lax.stop_gradient(data)
    n = A.shape[1]
    svd = jnp.int32(pseudo_inverse.SVD)
    particular, _, rank_C, _ = pseudo_inverse.solve(C_, None, d_, svd, rcond)
    V = jnp.linalg.svd(C_, full_matrices=True)[2].T
    bound = jnp.arange(n, dtype=jnp.int32) < rank_C
    Z = jnp.where(bound, 0, V)
    # a unit row for each y that is not there keeps the columns independent
    rows = jnp.concatenate([A_ @ Z, jnp.diag(bound.astype(A.dtype))])
    right = jnp.concatenate([b_ - A_ @ particular, jnp.zeros((n, b.shape[1]), b.dtype)])
    weights = None if w is None else jnp.concatenate([w_, jnp.ones(n, w_.dtype)])
    y, _, rank, _ = pseudo_inverse.solve(rows, weights, right, method, rcond)
    x = particular + Z @ y
    left, terms = jnp.abs(C_ @ x - d_), jnp.abs(C_) @ jnp.abs(x) + jnp.abs(d_)
    feasible = jnp.all(left <= DEFAULT_TOLERANCES[A.dtype.name][0] * jnp.maximum(terms, jnp.max(terms, initial=0)))
    x = pseudo_inverse.attach_constrained(*data, x)
    return x, rank - rank_C, feasible


# ----------------------------------------------------------------------------- without a matrix


def _is_function(A) -> bool:
    pair = isinstance(A, tuple | list) and len(A) == 2 and all(callable(part) for part in A)
    return pair or type(A).__module__.split(".")[0] == "lineax"


def _matrix_free(A, b, weights, C, method, rcond) -> LeastSquares:
    """LSMR (Fong and Saunders, 2011), by lineax."""
    if method not in ("auto", "lsmr"):
        raise ValueError(f'method {method!r} needs A as a matrix; for operators and callables use "lsmr".')
    if C is not None:
        raise ValueError("C is given, but equations need A as a matrix.")
    try:
        import lineax
    except ImportError:
        raise ImportError('method "lsmr" needs lineax: pip install "convexjax[lineax]".') from None
    b, weights = floating(b=b, weights=weights)
    m = b.shape[0]
    if weights is not None:
        require_shape("weights", weights, (m,), "with one entry per row of A")
    if not _is_function(A):
        require_given(A=A)
        A, b = floating(A=A, b=b)
        require_shape("A", A, (m, None), "with one row per row of b")
        A = lineax.MatrixLinearOperator(A)
    elif isinstance(A, tuple | list):
        product, transposed = A
        like = jax.eval_shape(transposed, jax.ShapeDtypeStruct((m,), b.dtype))
        A = lineax.FunctionLinearOperator(product, jax.ShapeDtypeStruct(like.shape, like.dtype))
    if weights is not None:
        # the derivative of a root at zero is infinite, and that of the solution is not: such rows are left out
        root = jnp.where(weights > 0, jnp.sqrt(jnp.where(weights > 0, weights, 1)), 0)
        A, b = lineax.DiagonalLinearOperator(root) @ A, (root if b.ndim == 1 else root[:, None]) * b
    tolerance = 1e3 * float(jnp.finfo(b.dtype).eps) if rcond is None else rcond
    solver = lineax.LSMR(rtol=tolerance, atol=tolerance)

    def column(b):
        found = lineax.linear_solve(A, b, solver, throw=False)
        r = b - A.mv(found.value)
        fine = jnp.all(jnp.isfinite(found.value))
        status = jnp.where(found.result == lineax.RESULTS.successful, Status.SOLVED, Status.MAX_ITERATIONS)
        return found.value, r @ r, jnp.where(fine, status, Status.NUMERICAL_ERROR).astype(jnp.int32)

    x, rss, status = column(b) if b.ndim == 1 else jax.vmap(column, 1, (1, 0, 0))(b)
    return LeastSquares(x=x, residual_sum_of_squares=rss, rank=None, status=jnp.max(status))
