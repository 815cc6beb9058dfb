"""`solve_gp`: geometric programs."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse

from convexjax.geometric_program import Pattern, Terms
from convexjax.geometric_solver import GeometricSolution, Layout, solve
from convexjax.options import Options
from convexjax.problems.arguments import checked_options, floating, require_given, require_shape

# Sparse exponents of so many variables or fewer are treated as dense.
DENSE_VARIABLES = 64


def solve_gp(
    exponents: Any,
    log_coefficients: Any,
    segment_ids: Any,
    *,
    equalities: Sequence[int] = (),
    options: Options | None = None,
    warm_start: GeometricSolution | None = None,
) -> GeometricSolution:
    """Solve a geometric program.

        minimise    p_0(x)
        subject to  p_i(x) <= 1  (or = 1, of one term),   i = 1, ..., m,   x > 0
        with        p_i(x) = sum over k of posynomial i of exp(log_coefficients[k]) prod_j x_j ** exponents[k, j]

    Arguments:
        exponents: (K, n), one row for each term: an array, a `scipy.sparse` matrix or a `jax.experimental.sparse.BCOO`.
        log_coefficients: (K,), logarithms of the positive coefficients.
        segment_ids: (K,) integers, the posynomial of each term: 0 the objective, 1 to m the constraints, each with at
            least one term. They are structure, and cannot be traced.
        equalities: which of 1 to m are equations of monomials, `p_i(x) = 1`.
        options: see `Options`; those of `method`, `derivative`, `polish`, `equilibrate` and `refinement_steps` have no
            effect.
        warm_start: the solution of a similar program.

    Returns:
        `GeometricSolution` with `x` (n,); `objective`, the value p_0(x); their logarithms `log_x`, `log_objective`;
        `s` (m,), -log p_i(x); sensitivities: `z` (m,), by how many percent the optimum falls if the right-hand side of
        constraint i grows by one percent, nonnegative for inequalities; `term_sensitivities` (K,), by how many percent
        the optimum grows if a coefficient does by one; `status` and `info`. Residuals are in log space: primal the
        largest log p_i(x), dual the gradient of the Lagrangian in log x relative to its terms. A status says

        - SOLVED: these residuals and the gap of log p_0 are at the tolerance.
        - PRIMAL_INFEASIBLE: `term_sensitivities`, zero on the objective, prove that there is no feasible x: with them
          as weights d and with z, `sum_i z_i log p_i(x) >= 1` for every x.
        - DUAL_INFEASIBLE: the optimum is 0 (or there is no feasible x): in the direction `log_x` all terms of the
          objective fall at a rate of one or more and none of the constraints grows. `log_x[j] > 0` says that variable j
          goes to infinity, < 0 that it goes to 0. `x` is exp(log_x).

    Raises:
        ValueError: shapes that do not fit, a posynomial without terms, an equation of several terms.
        TypeError: data that are not real numbers.

    Source: Boyd, Kim, Vandenberghe and Hassibi, "A tutorial on geometric programming", Optim. Eng. 2007; Kortanek, Xu
    and Ye, Math. Prog. 1996.

    The largest box with walls of at most 200 and a floor of at most 50 (minimise 1 / (h w d)), h = w = d at most 10:

    >>> import numpy as np
    >>> import convexjax as cj
    >>> exponents = [[-1, -1, -1], [1, 1, 0], [1, 0, 1], [0, 1, 1]]
    >>> solution = cj.solve_gp(exponents, np.log([1, 2 / 200, 2 / 200, 1 / 50]), [0, 1, 1, 2])
    >>> print(np.asarray(solution.x).round(3), np.asarray(solution.z).round(3))
    [7.071 7.071 7.071] [1.  0.5]
    """
    require_given(exponents=exponents, log_coefficients=log_coefficients, segment_ids=segment_ids)
    values, positions, shape, b = _exponents(exponents, log_coefficients)
    return solve_entries(values, positions, shape, b, segment_ids, equalities, options, warm_start)


def solve_entries(values, positions, shape, b, segment_ids, equalities, options, warm_start) -> GeometricSolution:
    """`solve_gp` with the exponents as values at positions (rows, columns) of a matrix of a shape; dense if these are
    None."""
    options = checked_options(options)
    require_shape("log_coefficients", b, (shape[0],), "one for each row of exponents")
    if positions is not None and shape[1] <= DENSE_VARIABLES:
        values, positions = jnp.zeros(shape, b.dtype).at[positions].set(values), None
    segments = _segments(segment_ids, shape[0])
    layout, pattern, terms = _layout(segments, equalities, positions, shape, b.dtype)
    guess = None
    if warm_start is not None:
        if not isinstance(warm_start, GeometricSolution):
            raise ValueError(f"warm_start must be a GeometricSolution, got {type(warm_start).__name__}.")
        log_x, z = floating(log_x=warm_start.log_x, z=warm_start.z)
        require_shape("warm_start.log_x", log_x, (shape[1],))
        require_shape("warm_start.z", z, (int(segments.max(initial=0)),))
        guess = log_x.astype(b.dtype), z.astype(b.dtype)
    return solve(values, pattern, b, layout, terms, options, guess)


# ----------------------------------------------------------------------------- arguments


def _exponents(exponents, log_coefficients):
    """Values of the exponents, their positions (None if dense), the shape, and the log-coefficients."""
    positions = None
    if hasattr(exponents, "tocoo") and hasattr(exponents, "nnz"):
        matrix = exponents.tocsr(copy=True)
        matrix.sum_duplicates()
        matrix = matrix.tocoo()
        shape, positions, values = matrix.shape, (np.asarray(matrix.row), np.asarray(matrix.col)), matrix.data
    elif isinstance(exponents, sparse.BCOO):
        if isinstance(exponents.indices, jax.core.Tracer):
            raise ValueError("exponents.indices are structure and cannot be traced; close over them.")
        if exponents.n_batch or exponents.n_dense:
            raise ValueError("exponents must be a BCOO without batch or dense axes; for a batch use jax.vmap.")
        indices = np.asarray(exponents.indices)
        if len(np.unique(indices, axis=0)) < len(indices):
            raise ValueError("exponents has an entry twice; call exponents.sum_duplicates() first.")
        shape, positions, values = exponents.shape, (indices[:, 0], indices[:, 1]), exponents.data
    else:
        values, b = floating(exponents=exponents, log_coefficients=log_coefficients)
        require_shape("exponents", values, (None, None), "one row for each term, one column for each variable")
        return values, None, values.shape, b
    values, b = floating(exponents=values, log_coefficients=log_coefficients)
    return values, positions, shape, b


def _segments(segment_ids, num_terms: int) -> np.ndarray:
    if isinstance(segment_ids, jax.core.Tracer):
        raise ValueError("segment_ids are structure and cannot be traced; pass them as a NumPy array.")
    segments = np.asarray(segment_ids)
    if not np.issubdtype(segments.dtype, np.integer):
        raise ValueError(f"segment_ids must hold integers, got dtype {segments.dtype}.")
    require_shape("segment_ids", segments, (num_terms,), "one for each row of exponents")
    if num_terms == 0 or segments.min() != 0:
        raise ValueError("segment_ids must start at 0: the objective needs at least one term.")
    missing = np.setdiff1d(np.arange(segments.max() + 1), segments)
    if missing.size:
        raise ValueError(f"segment_ids has no term of posynomial {missing[0]}; number the constraints 1, 2, ....")
    return segments


def _layout(segments, equalities, positions, shape, dtype) -> tuple[Layout, Pattern | None, Terms]:
    m = int(segments.max(initial=0))
    is_equation = np.zeros(m + 1, bool)
    chosen = np.asarray(equalities)
    if chosen.size and (chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer)):
        raise ValueError(f"equalities must be a sequence of integers, numbers of constraints, got {equalities!r}.")
    for i in chosen.tolist():
        if not 1 <= i <= m:
            raise ValueError(f"equalities has {i}; the constraints are 1 to {m}.")
        is_equation[i] = True
    sizes = np.bincount(segments)
    several = np.flatnonzero(is_equation & (sizes > 1))
    if several.size:
        raise ValueError(
            f"equalities has {several[0]}, a posynomial of {sizes[several[0]]} terms: only a monomial (one term) may "
            "be equal to 1. A posynomial has to be <= 1."
        )
    order = np.argsort(segments, kind="stable")
    inner, equal = order[~is_equation[segments[order]]], order[is_equation[segments[order]]]
    kept = np.flatnonzero(~is_equation)
    number = np.zeros(m + 1, np.int32)
    number[kept] = np.arange(kept.size)
    segment = number[segments[inner]]
    pattern, entries, equal_entries = None, np.zeros(0, np.int32), np.zeros((3, 0), np.int32)
    if positions is not None:
        rows, columns = positions
        place = np.full(shape[0], -1)
        place[inner] = np.arange(inner.size)
        entries = np.flatnonzero(place[rows] >= 0)
        entries = entries[np.lexsort((columns[entries], place[rows[entries]]))]
        pattern = Pattern.build(place[rows[entries]], columns[entries], segment, shape[1])
        place[:] = -1
        place[equal] = np.arange(equal.size)
        own = np.flatnonzero(place[rows] >= 0)
        equal_entries = np.stack([own, place[rows[own]], columns[own]]).astype(np.int32)
    layout = Layout(
        inner.astype(np.int32),
        entries.astype(np.int32),
        equal.astype(np.int32),
        equal_entries,
        (kept[1:] - 1).astype(np.int32),
        (segments[equal] - 1).astype(np.int32),
    )
    terms = Terms.build(np.append(segment, kept.size), kept.size + 1, np.dtype(dtype))
    return layout, pattern, terms
