"""The cone form of a large semidefinite program, solved by the method for these, which uses the zeros of its data.

    minimise q'x   subject to   A x + s = b,   s in {0}^p x R+^g x (psd blocks)                                    (1)

with sparse A, known on the host. Its method takes linear matrix inequalities and forms a matrix with a row for each
variable, so of two programs that are (1) the one with fewer variables is solved.

The inequality itself: b - A x in the blocks, A x = b in the first p rows.

The dual, if the blocks are variables: all their rows have one entry of their own, -a_r x_j(r) + s_r = b_r. With the
multipliers w of the rows that are not so, A'z + q = 0 says of such a column z_r = (q_j + sum_i A_ij w_i) / a_r, and of
the others, which are free, an equation:

    minimise    b'z
    subject to  z_r psd, w_i >= 0 for inequalities,   sum_i A_ij w_i = -q_j for free columns j                     (2)

The duals of (2) are s, and minus x of the free columns.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from convexjax import semidefinite_solver
from convexjax.compilation import quick_jit
from convexjax.interop.cone_form import ConeForm
from convexjax.options import Options
from convexjax.problems.matrix_inequality import Block, matrices_of, program_of
from convexjax.problems.sdp import REAL_SIZE
from convexjax.semidefinite_program import Entries
from convexjax.solution import Info, Solution, Status

_solve = quick_jit(semidefinite_solver.solve)
SWAPPED = {
    Status.PRIMAL_INFEASIBLE: Status.DUAL_INFEASIBLE,
    Status.DUAL_INFEASIBLE: Status.PRIMAL_INFEASIBLE,
}


def is_large_semidefinite(form: ConeForm, A, options: Options) -> bool:
    """Whether the method applies, and is the better one."""
    others = form.second_order or form.exponential or form.power
    plain = options.method == "auto" and options.derivative == "exact"
    plain = plain and not (options.check_derivative or options.polish)
    return plain and bool(form.semidefinite) and not others and A.shape[0] * A.shape[1] >= REAL_SIZE


def solve_semidefinite_form(form: ConeForm, q, A, b, options: Options) -> Solution:
    """(1): `x` (n,), `s` and `z` (m,) in the order of the rows, on the host. A is of scipy.sparse."""
    A = sp.csr_array(A)
    A.eliminate_zeros()
    variables = _variables(form, A)
    if variables is not None and A.shape[0] - variables.rows.size < A.shape[1]:
        return _solve_dual(form, q, A, b, variables, options)
    return _solve_inequality(form, q, A, b, options)


class _Variables(NamedTuple):
    """Rows with one entry, of columns that no other of these rows has: s_r = b_r + scale_r x_column_r."""

    rows: np.ndarray
    columns: np.ndarray
    scale: np.ndarray


def _variables(form: ConeForm, A) -> _Variables | None:
    """All rows of the blocks, and those of the inequalities that are so, too; None if some of the blocks are not."""
    alone = np.flatnonzero(np.diff(A.indptr) == 1)
    alone = alone[(alone >= form.zero) & (A.data[A.indptr[alone]] < 0)]
    # the rows of blocks first
    alone = np.concatenate([alone[alone >= form.zero + form.nonnegative], alone[alone < form.zero + form.nonnegative]])
    columns = A.indices[A.indptr[alone]]
    _, first = np.unique(columns, return_index=True)
    chosen = alone[np.sort(first)]
    if np.sum(chosen >= form.zero + form.nonnegative) < A.shape[0] - form.zero - form.nonnegative:
        return None
    chosen = np.sort(chosen)
    at = A.indptr[chosen]
    return _Variables(chosen, A.indices[at], -A.data[at])


# ----------------------------------------------------------------------------- the inequality


def _solve_inequality(form, q, A, b, options) -> Solution:
    p, dtype = form.zero, np.float64
    slack = sp.hstack([sp.csr_array(b[p:, None]), -A[p:]]).tocsr()
    blocks = _blocks(form, slack, form.nonnegative)
    program, places = program_of(jnp.asarray(q, dtype), blocks, A=jnp.asarray(A[:p].toarray()), b=jnp.asarray(b[:p]))
    answer = _solve(program, options)
    S, Z = (np.concatenate(_vectors(v)) for v in matrices_of(places, answer.point, blocks))
    return Solution(
        x=np.asarray(answer.point.x),
        s=np.concatenate([b[:p] - A[:p] @ answer.point.x, S]),
        z=np.concatenate([answer.point.y, Z]),
        objective=answer.objective,
        status=answer.status,
        info=answer.info,
    )


# ----------------------------------------------------------------------------- the dual


def _solve_dual(form, q, A, b, variables: _Variables, options) -> Solution:
    m, n = A.shape
    rows, columns, scale = variables
    others = np.setdiff1d(np.arange(m), rows)
    free = np.setdiff1d(np.arange(n), columns)
    signed = others >= form.zero
    # the rows of (2): z_r by its constant and w, then w of the inequalities
    of_w = sp.diags_array(1 / scale) @ A[others][:, columns].T
    of_rows = sp.hstack([sp.csr_array((q[columns] / scale)[:, None]), of_w]).tocsr()
    linear = int(np.sum(rows < form.zero + form.nonnegative))
    unit = sp.eye_array(others.size, format="csr")[np.flatnonzero(signed)]
    unit = sp.hstack([sp.csr_array((unit.shape[0], 1)), unit])
    slack = sp.vstack([of_rows[:linear], unit, of_rows[linear:]]).tocsr()
    c, constant = b[others] + of_w.T @ b[rows], b[rows] @ (q[columns] / scale)
    blocks = _blocks(form, slack, linear + int(signed.sum()))
    equal = A[others][:, free].T.toarray()
    program, places = program_of(jnp.asarray(c), blocks, A=jnp.asarray(equal), b=jnp.asarray(-q[free]))
    answer = _solve(program, options)

    z_rows, s_rows = (np.concatenate(_vectors(v)) for v in matrices_of(places, answer.point, blocks))
    status = SWAPPED.get(Status(int(answer.status)), Status(int(answer.status)))
    x, s, z = np.zeros(n), np.zeros(m), np.zeros(m)
    order = np.concatenate([rows[:linear], others[signed], rows[linear:]])
    s[order], z[order] = s_rows, z_rows
    z[others] = answer.point.x
    # of a ray the rows have no constants
    shift = 0 if status == Status.DUAL_INFEASIBLE else b[rows]
    x[columns], x[free] = (s[rows] - shift) / scale, -np.asarray(answer.point.y)
    info = answer.info
    return Solution(
        x=x,
        s=s,
        z=z,
        objective=-(answer.objective + constant),
        status=jnp.int32(status),
        info=Info(
            num_iters=info.num_iters,
            primal_residual=info.dual_residual,
            dual_residual=info.primal_residual,
            gap=info.gap,
            history=info.history,
        ),
    )


# ----------------------------------------------------------------------------- blocks


def _blocks(form: ConeForm, slack, linear: int) -> list[Block]:
    """The blocks of rows: F_0 in the first column, F_i in the others."""
    rows = slack[:linear].toarray().T
    blocks = [Block(jnp.asarray(rows[0]), jnp.asarray(rows[1:]))] if linear else []
    first = linear
    for side in form.semidefinite:
        size = side * (side + 1) // 2
        own = slack[first : first + size].tocsc()
        column, row = np.tril_indices(side)  # of the upper triangle, column by column
        value = own.data / np.where(row == column, 1, np.sqrt(2))[own.indices]
        constraint = np.repeat(np.arange(own.shape[1]), np.diff(own.indptr))
        i, j = row[own.indices], column[own.indices]
        F0, of_F0 = np.zeros((side, side)), constraint == 0
        F0[i[of_F0], j[of_F0]] = F0[j[of_F0], i[of_F0]] = value[of_F0]
        rest = ~of_F0
        blocks.append(Block(jnp.asarray(F0), Entries(constraint[rest] - 1, i[rest], j[rest], value[rest])))
        first += size
    return blocks


def _vectors(matrices: tuple) -> list[np.ndarray]:
    """The rows of blocks, off-diagonal entries times sqrt(2)."""
    vectors = []
    for matrix in map(np.asarray, matrices):
        if matrix.ndim == 1:
            vectors.append(matrix)
        else:
            column, row = np.tril_indices(matrix.shape[0])
            vectors.append(matrix[row, column] * np.where(row == column, 1, np.sqrt(2)))
    return vectors or [np.zeros(0)]
