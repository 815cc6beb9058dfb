"""`solve_gp`: geometric programs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse

from convexjax.batches import in_chunks
from convexjax.compilation import quick_jit
from convexjax.geometric_interior_point import LEAST_SLACK, State, factor, run, solve_refined
from convexjax.geometric_program import GeometricProgram, Pattern, Terms, extended
from convexjax.interior_point import history_of
from convexjax.linear_algebra import scale_tangent, vary_like
from convexjax.options import Options
from convexjax.problems.arguments import checked_options, floating, require_given, require_shape
from convexjax.smooth_solver import gate
from convexjax.solution import Info, Solution, Status, _pytree
from convexjax.solver import CHUNK_BYTES, LARGEST_CHUNK

# Sparse exponents of so many variables or fewer are treated as dense.
DENSE_VARIABLES = 64
# How far a warm start is from the boundary.
GUESS_SHIFT = 1e-2


@_pytree
@dataclass(frozen=True, kw_only=True)
class GeometricSolution(Solution):
    """A `Solution` of a geometric program, which also has the logarithms, that never overflow, and sensitivities."""

    log_x: Any
    log_objective: Any
    term_sensitivities: Any  # (K,)


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
    return _solve_gp(values, pattern, b, layout, terms, options, guess)


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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Layout:
    """Where the user's terms and posynomials are in the program."""

    inner: Any  # terms of the objective and the inequalities, by posynomial
    entries: Any  # entries of sparse exponents among these, by term
    equal: Any  # terms of the equations
    equal_entries: Any  # their entries of sparse exponents: which, row, column
    inequality_ids: Any  # which of the constraints, from 0
    equation_ids: Any


def _layout(segments, equalities, positions, shape, dtype) -> tuple[_Layout, Pattern | None, Terms]:
    m = int(segments.max(initial=0))
    is_equation = np.zeros(m + 1, bool)
    for i in equalities:
        if not 1 <= int(i) <= m:
            raise ValueError(f"equalities has {i}; the constraints are 1 to {m}.")
        is_equation[int(i)] = True
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
    layout = _Layout(
        inner.astype(np.int32),
        entries.astype(np.int32),
        equal.astype(np.int32),
        equal_entries,
        (kept[1:] - 1).astype(np.int32),
        (segments[equal] - 1).astype(np.int32),
    )
    terms = Terms.build(np.append(segment, kept.size), kept.size + 1, np.dtype(dtype))
    return layout, pattern, terms


# ----------------------------------------------------------------------------- solve


@quick_jit
def _solve_gp(values, pattern, b, layout: _Layout, terms: Terms, options: Options, guess) -> GeometricSolution:
    """The reduction, on checked arrays."""
    dtype = b.dtype
    if pattern is None:
        n, inner, G = values.shape[1], values[layout.inner], values[layout.equal]
    else:
        n, inner = pattern.num_variables, values[layout.entries]
        which, row, column = layout.equal_entries
        G = jnp.zeros((layout.equal.shape[0], n), dtype).at[row, column].set(values[which])
    program = extended(inner, pattern, b[layout.inner], terms, G, -b[layout.equal])
    program = vary_like(program, program)
    data, options, guess = jax.lax.stop_gradient((program, options, guess))
    state = _run(data, options, *_start(data, layout, guess))

    status, best = state.status, state.best
    solved = Status.SOLVED.holds(status) | Status.ALMOST_SOLVED.holds(status)
    failed = Status.NUMERICAL_ERROR.holds(status)
    infeasible, unbounded = Status.PRIMAL_INFEASIBLE.holds(status), Status.DUAL_INFEASIBLE.holds(status)
    weight = jnp.where(solved, 1, jnp.nan).astype(dtype)
    if options.failed_derivative == "nan":
        program = scale_tangent(program, weight)
    point = best.y, terms.sums(best.d).at[0].set(1), best.nu
    answer = _answer(gate(program, solved), point)
    # where there is no solution: the certificate, cut off from the data
    found = jax.lax.stop_gradient(_certificate(data, best, infeasible, unbounded))
    found = jax.tree.map(lambda leaf: jnp.where(failed, jnp.nan, leaf), found)
    y, F, lam, nu, shares, log_objective = jax.tree.map(lambda new, old: jnp.where(solved, new, old), answer, found)
    if options.failed_derivative == "nan":
        y, F, lam, nu, shares, log_objective = scale_tangent((y, F, lam, nu, shares, log_objective), weight)

    m = layout.inequality_ids.shape[0] + layout.equation_ids.shape[0]
    of_all = lambda inequalities, equations: (
        jnp.zeros(m, dtype).at[layout.inequality_ids].set(inequalities).at[layout.equation_ids].set(equations)
    )
    sensitivities = jnp.zeros(b.shape[0], dtype).at[layout.inner].set(shares[:-1]).at[layout.equal].set(nu)
    log_x = y[:-1]
    primal, dual, gap, no_point, no_bound = state.claims
    info = Info(
        num_iters=state.num_iters,
        primal_residual=jnp.where(unbounded, no_bound, primal),
        dual_residual=jnp.where(infeasible, no_point, dual),
        gap=gap,
        history=history_of(state.history),
    )
    return GeometricSolution(
        x=jnp.exp(log_x),
        s=of_all(-F[1:-1], program.h - program.G @ y),
        z=of_all(lam[1:-1], nu),
        objective=jnp.exp(log_objective),
        log_x=log_x,
        log_objective=log_objective,
        term_sensitivities=sensitivities,
        status=status,
        info=info,
    )


@jax.custom_batching.custom_vmap
def _run(program: GeometricProgram, options: Options, y, guess: tuple | None) -> State:
    """One program; a batch in chunks, as in `solver.py`."""
    return run(program, options, y, guess)


@_run.def_vmap
def _(lanes, batched, *data):
    batched = tuple(batched)
    program = data[0]
    n, terms = program.G.shape[-1], program.b.shape[-1]
    fitting = CHUNK_BYTES // (program.b.dtype.itemsize * n * (terms + 2 * n) + 1)
    chunk = max(1, min(fitting, LARGEST_CHUNK)) if jax.default_backend() == "cpu" else lanes
    axes = jax.tree.map(lambda flag: 0 if flag else None, batched)
    of_lanes = lambda data, lanes: jax.vmap(_run.fun, axes, axis_size=lanes)(*data)
    answers = in_chunks(of_lanes, data, batched, lanes, chunk)
    return answers, jax.tree.map(lambda _: True, answers)


def _start(program: GeometricProgram, layout: _Layout, guess: tuple | None) -> tuple:
    """log x with the equations, of least norm; or the guess where it is finite."""
    G, dtype = program.G, program.b.dtype
    y = jnp.zeros(G.shape[1], dtype)
    if G.shape[0]:
        y = jnp.linalg.lstsq(G, jnp.where(jnp.isfinite(program.h), program.h, 0))[0]
        y = jnp.where(jnp.isfinite(y), y, 0)
    if guess is None:
        return y, None
    log_x, z = guess
    useful = jnp.all(jnp.isfinite(log_x)) & jnp.all(jnp.isfinite(z))
    y = jnp.where(useful, jnp.append(jnp.where(useful, log_x, 0), 0), y)
    lam = jnp.concatenate([jnp.ones(1, dtype), z[layout.inequality_ids], jnp.zeros(1, dtype)])
    # without a guess lambda is one, and the slacks at least one
    return y, (jnp.where(useful, lam, 1), jnp.where(useful, GUESS_SHIFT, 1).astype(dtype))


def _certificate(program: GeometricProgram, best, infeasible, unbounded) -> tuple:
    """As `_answer`, for a point that is no solution."""
    y, d, s, nu = best
    terms = program.terms
    F, shares = program.posynomials(y)
    lam = terms.sums(d)
    # the value of the certificate is one
    inner = (terms.segment > 0) & (terms.segment < terms.number - 1)
    own = jnp.where(inner, d, 0)
    share = jnp.where(inner, d / terms.spread(lam), 1)
    value = own @ (program.b - jnp.log(share)) - nu @ program.h
    value = jnp.where(infeasible, value, 1)
    d, lam, nu = jnp.where(infeasible, own, d) / value, lam / value, nu / value
    fall = -jnp.max(jnp.where(terms.segment == 0, program.A.matvec(y), -jnp.inf))
    y = y / jnp.where(unbounded, fall, 1)
    return y, F, lam, nu, d, jnp.where(infeasible, jnp.inf, jnp.where(unbounded, -jnp.inf, F[0]))


# ----------------------------------------------------------------------------- derivatives


def _answer(program: GeometricProgram, point: tuple) -> tuple:
    """y, F, lambda, nu, the weights of the terms and the optimum, as functions of the program."""
    y, lam, nu = _attach(program, point)
    terms = program.terms
    F, shares = program.posynomials(y)
    # the Lagrangian, whose derivatives in y, lambda and nu are zero
    inner = F[1:] * jnp.where(_binding(program, point)[1:], lam[1:], 0)
    lagrangian = F[0] + jnp.sum(inner) + nu @ (program.G @ y - program.h)
    value = F[0] + (lagrangian - jax.lax.stop_gradient(lagrangian)) - (F[0] - jax.lax.stop_gradient(F[0]))
    return y, F, lam, nu, terms.spread(lam) * shares, value


def _binding(program: GeometricProgram, point: tuple) -> jax.Array:
    """Which constraints hold with equality: slack below the multiplier."""
    program, (y, lam, _) = jax.lax.stop_gradient((program, point))
    F, _ = program.posynomials(y)
    return (lam > -F).at[0].set(False).at[-1].set(False)


def _residual(x: tuple, program: GeometricProgram, binding) -> tuple:
    """What is zero at the solution, with a symmetric Jacobian: the gradient of the Lagrangian of the constraints that
    bind, these, the multipliers of the others, and the equations."""
    y, lam, nu = x
    F, shares = program.posynomials(y)
    weights = jnp.where(binding, lam, 0).at[0].set(1)
    gradient = program.A.rmatvec(program.terms.spread(weights) * shares) + nu @ program.G
    return gradient.at[-1].add(y[-1]), jnp.where(binding, F, lam), program.G @ y - program.h


@jax.custom_jvp
def _attach(program: GeometricProgram, point: tuple) -> tuple:
    """The point (y, lambda, nu) as a function of the program, by the implicit function theorem."""
    return point


@_attach.defjvp
def _attach_jvp(primals, tangents):
    (program, point), (dprogram, _) = primals, tangents
    fixed, (y, lam, nu) = jax.lax.stop_gradient((program, point))
    binding, dtype = _binding(program, point), lam.dtype
    x = _attach(program, point)
    _, change = jax.jvp(lambda program: _residual(x, program, binding), (program,), (dprogram,))
    sizes = np.cumsum([y.shape[0], lam.shape[0]])
    pack, unpack = jnp.concatenate, lambda v: tuple(jnp.split(v, sizes))

    def matvec(v):
        return pack(jax.jvp(lambda x: _residual(x, program, binding), (x,), (unpack(v),))[1])

    terms = fixed.terms
    _, shares = fixed.posynomials(y)
    weights = jnp.where(binding, lam, 0).at[0].set(1)
    d, safe = terms.spread(weights) * shares, jnp.where(binding, lam, 1).at[0].set(1)
    slack = jnp.zeros_like(lam)
    factors = factor(fixed, d, safe, slack + LEAST_SLACK[dtype.name], jnp.ones((), dtype))

    def solve(_, right):
        r_y, r_v, r_G = unpack(right)
        target = 10 * jnp.finfo(dtype).eps * jnp.max(jnp.abs(right))
        u, r_y = r_y[-1], r_y.at[-1].set(0)
        right_v = jnp.where(binding, safe * r_v, 0)
        dy, v, dnu = solve_refined(fixed, factors, d, safe, slack, r_y, right_v, r_G, target)
        return pack((dy.at[-1].set(u), jnp.where(binding, safe * v, r_v), dnu))

    change = jax.lax.custom_linear_solve(matvec, -pack(change), solve, symmetric=True)
    return x, unpack(change)
