"""`solve_sdp`: semidefinite programs in matrix form and as linear matrix inequalities."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax import semidefinite_solver
from convexjax.compilation import quick_jit
from convexjax.cone_program import ConeProgram
from convexjax.cones.product import ProductCone
from convexjax.cones.psd import PSD
from convexjax.linear_algebra import Rows, smat, svec
from convexjax.options import Options
from convexjax.problems.arguments import checked_guess, checked_options, floating, rank, require_shape, symmetric
from convexjax.problems.matrix_inequality import (
    is_sparse_block,
    matrices_of,
    program_of,
    read_block,
    require_symmetric,
)
from convexjax.solution import Solution, Status
from convexjax.solver import solve

# Numbers of the dense constraint matrix, rows times variables, from which on the Schur-complement method is used.
REAL_SIZE = 40_000


def solve_sdp(
    C: ArrayLike | list | tuple | None = None,
    A: ArrayLike | list | tuple | None = None,
    b: ArrayLike | None = None,
    *,
    c: ArrayLike | None = None,
    F: ArrayLike | list | tuple | None = None,
    options: Options | None = None,
    warm_start: Solution | None = None,
) -> Solution:
    """Solve a semidefinite program, in one of two forms.

    Matrix form, `solve_sdp(C, A, b)`, and linear matrix inequality, `solve_sdp(c=c, F=F)`:

        minimise    <C, X>                        minimise    c'x
        subject to  <A_i, X> = b_i,  i = 1..m     subject to  F_0 + sum_i x_i F_i  psd
                    X psd

    Arguments:
        C: (k, k), and A: (m, k, k), b: (m,). For several blocks X = diag(X_1, X_2, ...) pass tuples or lists of C_j
            (k_j, k_j) and of A_j (m, k_j, k_j).
        c: (n,), and F: (n + 1, k, k), F_0 first. For several inequalities a tuple or list of such arrays.
            Sparse matrices: in place of A (of F) a list of matrices, some of them of scipy.sparse, or a BCOO array.
            A diagonal block among several: the diagonals alone, C_j (l,) and A_j (m, l), or F_j (n + 1, l).
        options: see `Options`.
        warm_start: a `Solution` of a similar problem in the same form, as in `solve_qp`; programs of real size are
            solved without.
        Of matrices that are traced only the symmetric parts count; those whose numbers are known must be symmetric.

    Programs of real size, and all with sparse or diagonal blocks, are solved by an interior point of their own
    (`semidefinite_interior_point.py`), which uses the zeros of constraint matrices whose numbers are known, not traced.
    Its derivatives are those of the central path very near the solution (`semidefinite_solver.py`).

    Returns:
        `Solution`. Matrix form: `x` is X (k, k), `y` (m,) and `z` = Z (k, k), psd, with `C + sum_i y_i A_i = Z` and
        `<X, Z> = 0`; PRIMAL_INFEASIBLE: `y`, `Z = sum_i y_i A_i` psd with `b'y = -1`; DUAL_INFEASIBLE: X psd with
        `<C, X> = -1`, `<A_i, X> = 0`. Inequality form: `x` (n,), slack `s = F(x)` (k, k) and dual `z` = Z (k, k),
        psd, with `<F_i, Z> = c_i`; PRIMAL_INFEASIBLE: `z` psd with `<F_i, Z> = 0`, `<F_0, Z> = -1`; DUAL_INFEASIBLE:
        `x` with `c'x = -1`, `sum_i x_i F_i` psd. Tuples of matrices where the data are tuples. `objective`, `status`,
        `info`.

    Raises:
        ValueError: shapes that do not fit, both forms or neither; matrices that are not symmetric, if their numbers are
            known.
        TypeError: data that are not real numbers.

    Source: Vandenberghe and Boyd, "Semidefinite programming", SIAM Review, 1996.

    The smallest eigenvalue of a matrix, in both forms:

    >>> import jax.numpy as jnp
    >>> import convexjax as cj
    >>> C = jnp.array([[2.0, 1.0], [1.0, 2.0]])
    >>> print(round(float(cj.solve_sdp(C, jnp.eye(2)[None], [1.0]).objective), 3))
    1.0
    >>> print(round(-float(cj.solve_sdp(c=[-1.0], F=jnp.stack([C, -jnp.eye(2)])).objective), 3))
    1.0
    """
    options = checked_options(options)
    matrix_form, inequality_form = (C, A, b), (c, F)
    if all(v is not None for v in matrix_form) and all(v is None for v in inequality_form):
        if _has_structure((C, A), options):
            return _structured_matrix_form(C, A, b, options)
        return _matrix_form(C, A, b, options, warm_start)
    if all(v is not None for v in inequality_form) and all(v is None for v in matrix_form):
        if _has_structure((F, F), options):
            return _structured_inequality_form(c, F, options)
        return _inequality_form(c, F, options, warm_start)
    given = [name for name, v in zip("CAbcF", (*matrix_form, *inequality_form), strict=True) if v is not None]
    raise ValueError(
        f"solve_sdp needs C, A, b (matrix form) or c=, F= (inequality form), got {', '.join(given) or 'neither'}."
    )


def _matrix_form(C, A, b, options, warm_start):
    # The dual of a cone program is one again: with y -> -y the multipliers of <A_i, X> = b_i are its variables,
    # minimise b'y subject to -sum y_i A_i + S = C, S psd, and X is the dual of that constraint.
    several = isinstance(C, tuple | list) and len(C) > 0 and rank(C[0]) == 2
    Cs, As = (list(C), list(A)) if several else ([C], [A])
    if len(Cs) != len(As):
        raise ValueError(f"C has {len(Cs)} blocks and A has {len(As)}; there must be one A_j per C_j.")
    names = {f"C[{j}]" if several else "C": v for j, v in enumerate(Cs)}
    names |= {f"A[{j}]" if several else "A": v for j, v in enumerate(As)}
    b, *data = floating(b=b, **names)
    require_shape("b", b, (None,))
    m, blocks = b.shape[0], list(zip(data[: len(Cs)], data[len(Cs) :], strict=True))
    for (C_name, A_name), (C_j, A_j) in zip(
        zip(list(names)[: len(Cs)], list(names)[len(Cs) :], strict=True), blocks, strict=True
    ):
        side = C_j.shape[0] if C_j.ndim else None
        require_shape(C_name, C_j, (side, side), "a square matrix")
        require_shape(A_name, A_j, (m, *C_j.shape), f"with one matrix of the size of {C_name} per entry of b")
        require_symmetric(C_name, names[C_name])
        require_symmetric(A_name, names[A_name])
    guess = None
    if warm_start is not None:
        guess = checked_guess(warm_start, y=b, x=tuple(C_j for C_j, _ in blocks) if several else blocks[0][0])
    F = [jnp.concatenate([C_j[None], A_j]) for C_j, A_j in blocks]
    answer, S, X = _solve_inequality(b, F, options, guess)
    status = answer.status
    primal, dual = jnp.int32(Status.PRIMAL_INFEASIBLE), jnp.int32(Status.DUAL_INFEASIBLE)
    swapped = jnp.where(status == primal, dual, jnp.where(status == dual, primal, status))
    take = (lambda v: tuple(v)) if several else (lambda v: v[0])
    # <C, X>, with the derivative of the optimal value that `answer` has
    objective = jax.lax.stop_gradient(sum(jnp.sum(C_j * X_j) for (C_j, _), X_j in zip(blocks, X, strict=True)))
    objective = objective - (answer.objective - jax.lax.stop_gradient(answer.objective))
    objective = jnp.where(jnp.isinf(answer.objective), -answer.objective, objective)
    info = replace(answer.info, primal_residual=answer.info.dual_residual, dual_residual=answer.info.primal_residual)
    return Solution(x=take(X), y=answer.x, z=take(S), objective=objective, status=swapped, info=info)


def _inequality_form(c, F, options, warm_start):
    several = isinstance(F, tuple | list) and len(F) > 0 and rank(F[0]) == 3
    Fs = list(F) if several else [F]
    c, *blocks = floating(c=c, **{f"F[{j}]" if several else "F": v for j, v in enumerate(Fs)})
    require_shape("c", c, (None,))
    for j, (block, value) in enumerate(zip(blocks, Fs, strict=True)):
        name, side = f"F[{j}]" if several else "F", block.shape[-1] if block.ndim else None
        require_shape(name, block, (c.shape[0] + 1, side, side), "F_0 and one matrix per entry of c")
        require_symmetric(name, value)
    guess = None
    if warm_start is not None:
        guess = checked_guess(warm_start, x=c, z=tuple(F_j[0] for F_j in blocks) if several else blocks[0][0])
    answer, S, Z = _solve_inequality(c, blocks, options, guess)
    take = (lambda v: tuple(v)) if several else (lambda v: v[0])
    return Solution(
        x=answer.x, s=take(S), z=take(Z), objective=answer.objective, status=answer.status, info=answer.info
    )


@quick_jit
def _solve_inequality(c, blocks, options, guess):
    """min c'x, F_0 + sum x_i F_i psd for each block: the answer, slack and dual matrices."""
    vectors = [svec(symmetric(block)) for block in blocks]  # (n + 1, dim) each
    cone = ProductCone.build([PSD(block.shape[-1]) for block in blocks])
    F0 = jnp.concatenate([v[0] for v in vectors])
    Fx = jnp.concatenate([v[1:].T for v in vectors])
    program = ConeProgram(P=None, q=c, A=Rows(cone.to_solver(-Fx)), b=cone.to_solver(F0), cone=cone)
    if guess is not None:
        x, *duals = jax.tree.leaves(guess)
        z = cone.to_solver(jnp.concatenate([svec(symmetric(dual)) for dual in duals]))
        guess = x, program.b - program.A.matvec(x), z
    answer = solve(program, options, guess)
    S, Z, first = [], [], 0
    s, z = cone.to_user(answer.s), cone.to_user(answer.z)
    for block, v in zip(blocks, vectors, strict=True):
        own = slice(first, first + v.shape[1])
        S.append(smat(s[own], block.shape[-1]))
        Z.append(smat(z[own], block.shape[-1]))
        first += v.shape[1]
    return answer, S, Z


# ----------------------------------------------------------------------------- programs of real size


def _has_structure(pair: tuple, options: Options) -> bool:
    """Whether the program is solved by `semidefinite_solver`: some blocks are sparse or diagonal, or it is large."""
    first, rest = pair
    several = _are_several(first if first is not rest else rest, 2 if first is not rest else 3)
    blocks = list(rest) if several else [rest]
    if any(is_sparse_block(block) for block in (*blocks, *(first if several else [first]))):
        return True
    if several and any(rank(block) == 2 for block in blocks):
        return True
    plain = options.method == "auto" and options.derivative == "exact"
    plain = plain and not (options.check_derivative or options.polish)
    shapes = [jnp.shape(block if hasattr(block, "shape") else jnp.asarray(block)) for block in blocks]
    numbers = sum(shape[0] * shape[-1] * (shape[-1] + 1) // 2 for shape in shapes if len(shape) == 3)
    return plain and numbers >= REAL_SIZE


def _are_several(value, rank_of_one: int) -> bool:
    """Whether this is a sequence of blocks: some entry is one, with `rank_of_one` axes or sparse matrices."""
    if not isinstance(value, list | tuple) or not value:
        return False
    if rank_of_one == 3 and is_sparse_block(value) and not any(isinstance(v, list | tuple) for v in value):
        return any(getattr(v, "ndim", 0) == 3 for v in value)
    return any(is_sparse_block(v) or rank(v) == rank_of_one for v in value)


def _structured_inequality_form(c, F, options):
    several = _are_several(F, 3)
    Fs = list(F) if several else [F]
    names = [f"F[{j}]" if several else "F" for j in range(len(Fs))]
    c = _with_blocks("c", c, names, Fs)
    require_shape("c", c, (None,))
    blocks = [read_block(name, F_j, c.shape[0], c.dtype) for name, F_j in zip(names, Fs, strict=True)]
    answer, S, Z = _solve_blocks(c, blocks, options)
    take = (lambda v: v) if several else (lambda v: v[0])
    return Solution(
        x=answer.point.x,
        s=take(S),
        z=take(Z),
        objective=answer.objective,
        status=answer.status,
        info=answer.info,
    )


def _structured_matrix_form(C, A, b, options):
    several = _are_several(C, 2)
    Cs, As = (list(C), list(A)) if several else ([C], [A])
    if len(Cs) != len(As):
        raise ValueError(f"C has {len(Cs)} blocks and A has {len(As)}; there must be one A_j per C_j.")
    names = [f"[{j}]" if several else "" for j in range(len(Cs))]
    b = _with_blocks(
        "b", b, [f"{kind}{name}" for name in names for kind in "CA"], [v for p in zip(Cs, As, strict=True) for v in p]
    )
    require_shape("b", b, (None,))
    blocks = [
        _matrix_form_block(name, C_j, A_j, b.shape[0], b.dtype) for name, C_j, A_j in zip(names, Cs, As, strict=True)
    ]
    answer, S, X = _solve_blocks(b, blocks, options)
    status = answer.status
    primal, dual = jnp.int32(Status.PRIMAL_INFEASIBLE), jnp.int32(Status.DUAL_INFEASIBLE)
    swapped = jnp.where(status == primal, dual, jnp.where(status == dual, primal, status))
    take = (lambda v: v) if several else (lambda v: v[0])
    info = replace(answer.info, primal_residual=answer.info.dual_residual, dual_residual=answer.info.primal_residual)
    # <C, X> with the derivative of the optimal value
    objective = jax.lax.stop_gradient(sum(jnp.sum(block.F0 * X_j) for block, X_j in zip(blocks, X, strict=True)))
    objective = objective - (answer.objective - jax.lax.stop_gradient(answer.objective))
    objective = jnp.where(jnp.isinf(answer.objective), -answer.objective, objective)
    return Solution(x=take(X), y=answer.point.x, z=take(S), objective=objective, status=swapped, info=info)


def _with_blocks(name, vector, names, values):
    """The vector, in the floating type of all dense data."""
    dense = {own: v for own, v in zip(names, values, strict=True) if not is_sparse_block(v)}
    return floating(**{name: vector}, **dense)[0]


def _matrix_form_block(name, C, A, m, dtype):
    """One block C + sum y_i A_i psd of the dual."""
    if is_sparse_block(A) and isinstance(A, list | tuple):
        return read_block(f"A{name}", [_host(C), *A], m, dtype)
    if is_sparse_block(A):
        rest = read_block(f"A{name}", _behind_zeros(A), m, dtype)
        return rest._replace(F0=symmetric(jnp.asarray(_dense(C), dtype)))
    if is_sparse_block(C):
        return read_block(f"A{name}", [C, *np.asarray(A)], m, dtype)
    C, A = floating(C=C, A=A)
    require_shape(f"C{name}", C, (C.shape[-1],) * C.ndim, "a square matrix")
    require_shape(f"A{name}", A, (m, *C.shape), f"with one matrix of the size of C{name} per entry of b")
    if C.ndim == 2:
        require_symmetric(f"C{name}", C)
        require_symmetric(f"A{name}", A)
    known = not any(isinstance(v, jax.core.Tracer) for v in (C, A))
    both = np.concatenate([np.asarray(C)[None], np.asarray(A)]) if known else jnp.concatenate([C[None], A])
    return read_block(f"A{name}", both, m, dtype)


def _host(C):
    return C if is_sparse_block(C) and hasattr(C, "tocoo") else np.asarray(_dense(C))


def _dense(C):
    return C.toarray() if hasattr(C, "toarray") else C.todense() if hasattr(C, "todense") else C


def _behind_zeros(A):
    """A BCOO array with one more matrix, zero, in front."""
    from jax.experimental.sparse import BCOO

    shift = jnp.asarray([1, 0, 0], A.indices.dtype)
    return BCOO((A.data, A.indices + shift), shape=(A.shape[0] + 1, *A.shape[1:]))


def _solve_blocks(c, blocks, options):
    program, places = program_of(c, blocks)
    answer = _solve_structured(program, options)
    return answer, *matrices_of(places, answer.point, blocks)


_solve_structured = quick_jit(semidefinite_solver.solve)
