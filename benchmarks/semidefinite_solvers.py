"""Adapters for linear matrix inequalities: convexjax with sparse blocks, and SDPA."""

import numpy as np
import scipy.sparse as sparse

from benchmarks.programs import Answer, ConicProgram
from benchmarks.solvers import Solve


def is_semidefinite(program: ConicProgram) -> bool:
    """Whether the cone is one of nonnegative numbers and matrices alone."""
    cones = program.cones
    return not (cones.zero or cones.second_order or cones.exponential or cones.power)


def _rows_of_blocks(program: ConicProgram):
    """(rows, side, row of the matrix, column) of each block."""
    first = program.cones.nonnegative
    for side in program.cones.psd:
        size = side * (side + 1) // 2
        columns, rows = np.tril_indices(side)
        yield slice(first, first + size), side, rows, columns
        first += size


def _vector(matrix: np.ndarray) -> np.ndarray:
    """The scaled half-vectorisation."""
    columns, rows = np.tril_indices(matrix.shape[0])
    return matrix[rows, columns] * np.where(rows == columns, 1, np.sqrt(2))


def prepare_convexjax_sdp(program: ConicProgram, tolerance: float) -> Solve:
    """`solve_sdp` with the inequality as sparse blocks, b - A x in K."""
    import jax

    jax.config.update("jax_enable_x64", True)
    from jax.experimental.sparse import BCOO

    import convexjax as cj

    n, few = program.q.size, program.cones.nonnegative
    rows_of_A = sparse.csr_array(program.A)
    blocks = [np.concatenate([program.b[None, :few], -rows_of_A[:few].toarray().T])] if few else []
    for own, side, rows, columns in _rows_of_blocks(program):
        found, b = sparse.coo_array(rows_of_A[own]), program.b[own]
        at = np.flatnonzero(b)
        scale = np.where(rows == columns, 1, np.sqrt(0.5))
        place = np.concatenate([at, found.row])
        number = np.concatenate([np.zeros(at.size, int), 1 + found.col])
        value = np.concatenate([b[at], -found.data]) * scale[place]
        off = rows[place] != columns[place]
        indices = np.stack([number, rows[place], columns[place]], 1)
        indices = np.concatenate([indices, indices[off][:, [0, 2, 1]]])
        data = np.concatenate([value, value[off]])
        blocks.append(BCOO((data, indices), shape=(n + 1, side, side)))

    def run() -> Answer:
        found = cj.solve_sdp(c=program.q, F=blocks, options=cj.Options(tolerance=tolerance))
        claims = {"SOLVED": "solved", "ALMOST_SOLVED": "almost"}
        claims |= {"PRIMAL_INFEASIBLE": "infeasible", "DUAL_INFEASIBLE": "unbounded"}
        flat = lambda M: np.asarray(M) if M.ndim == 1 else _vector(np.asarray(M))
        return Answer(
            claim=claims.get(cj.Status(int(found.status)).name, "failed"),
            x=np.asarray(found.x),
            s=np.concatenate([flat(S) for S in found.s]),
            z=np.concatenate([flat(Z) for Z in found.z]),
            iterations=int(found.info.num_iters),
        )

    return run


def prepare_sdpa(program: ConicProgram, tolerance: float) -> Solve:
    """SDPA through its Python package, which wants matrices as vectors of all their entries; two threads."""
    import sdpap

    few = program.cones.nonnegative
    rows_of_A = sparse.csr_matrix(program.A)
    A, b = [-rows_of_A[:few]], [-program.b[:few]]
    for own, side, rows, columns in _rows_of_blocks(program):
        scale, off = np.where(rows == columns, 1, np.sqrt(0.5)), rows != columns
        each = np.arange(rows.size)
        entries = np.concatenate([scale, scale[off]])
        places = np.concatenate([rows * side + columns, (columns * side + rows)[off]])
        whole = sparse.csr_matrix((entries, (places, np.concatenate([each, each[off]]))), (side**2, rows.size))
        A.append(whole @ -rows_of_A[own])
        b.append(whole @ -program.b[own])
    data = (
        sparse.csc_matrix(sparse.vstack(A)),
        sparse.csc_matrix(np.concatenate(b)[:, None]),
        sparse.csc_matrix(program.q[:, None]),
        sdpap.SymCone(f=program.q.size),
        sdpap.SymCone(l=few, s=tuple(program.cones.psd)),
    )
    options = {"print": "no", "numThreads": 2, "epsilonStar": tolerance, "epsilonDash": tolerance}

    def run() -> Answer:
        x, y, info, *_ = sdpap.solve(*data, options)
        claims = {"pdOPT": "solved", "pdFEAS": "almost", "pUNBD": "unbounded", "dUNBD": "infeasible"}
        claims |= {"pFEAS_dINF": "unbounded", "pINF_dFEAS": "infeasible"}
        flat = lambda v: np.concatenate([v[:few]] + [_vector(M) for M in _square(v[few:], program.cones.psd)])
        x = np.asarray(sparse.csc_matrix(x).todense()).ravel()
        z = np.asarray(sparse.csc_matrix(y).todense()).ravel()
        s = np.asarray(data[0] @ x[:, None] - data[1].todense()).ravel()
        return Answer(claim=claims.get(info["phasevalue"], "failed"), x=x, s=flat(s), z=flat(z))

    return run


def _square(vector: np.ndarray, sides: tuple[int, ...]) -> list[np.ndarray]:
    matrices = [v.reshape(k, k) for v, k in zip(np.split(vector, np.cumsum(np.square(sides))[:-1]), sides, strict=True)]
    return [(M + M.T) / 2 for M in matrices]
