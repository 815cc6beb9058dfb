"""Cone programs that are small semidefinite programs, in batches.

The interior point of `semidefinite_interior_point.py` factorises a matrix with a row per variable, and the matrices of
the program themselves; that of `interior_point.py` computes eigenvalues of all matrices, for which LAPACK takes most of
the time of a small program. The answers are candidates only: `solver.py` proves them, and solves the others itself.
"""

import jax
import jax.numpy as jnp

from convexjax.active_set import Candidate
from convexjax.block_matrices import TRIED_SIDE
from convexjax.cone_program import ConeProgram
from convexjax.cones.linear import Nonnegative
from convexjax.cones.psd import PSD
from convexjax.linear_algebra import Rows
from convexjax.options import Options
from convexjax.semidefinite_interior_point import run, scaling_of, start
from convexjax.semidefinite_program import DiagonalBlock, MatrixBlocks, SemidefiniteProgram, traced_blocks
from convexjax.solution import Status

# Most variables.
MAX_VARIABLES = 60
# The start relative to that of programs of real size: small ones of norm one have solutions that are not large.
START = 0.1


def applies(program: ConeProgram) -> bool:
    """Whether a program is of this kind, as far as its structure says."""
    if not isinstance(program.A, Rows) or program.A.is_sparse or program.A.diagonals or program.P is not None:
        return False
    sides = [part.side for part in program.cone.parts if isinstance(part, PSD)]
    kinds = all(isinstance(part, PSD | Nonnegative) for part in program.cone.parts)
    return kinds and bool(sides) and 0 < max(sides) <= TRIED_SIDE and 0 < program.A.shape[1] <= MAX_VARIABLES


def solve(program: ConeProgram, options: Options) -> Candidate:
    """A candidate for one program, S = b - A x."""
    n, first = program.A.shape[1], 0
    parts: list[MatrixBlocks | DiagonalBlock] = []
    for part in program.cone.parts:
        own = slice(first, first + part.rows)
        first += part.rows
        F0, F = program.b[own], -program.A.matrix[own]
        if isinstance(part, Nonnegative):
            parts.append(DiagonalBlock(F0=F0, F=F.T))
        else:
            matrices = jax.vmap(part.matrices, 1, 1)(F)  # (count, n, side, side)
            parts.append(traced_blocks(part.matrices(F0), list(matrices), n, F0.dtype))
    nothing = jnp.zeros((0, n), program.q.dtype)
    blocks = SemidefiniteProgram(c=program.q, parts=tuple(parts), A=nothing, b=nothing[:, 0], weights=(0,) * len(parts))
    scaling = scaling_of(blocks)
    scaled = scaling.scale(blocks)
    state, point = run(scaled, scaling, options, start(scaled, START))
    x, _, S, Z = scaling.unscale(point)
    return Candidate(
        x,
        _rows(program, parts, S),
        _rows(program, parts, Z),
        Status.PRIMAL_INFEASIBLE.holds(state.status),
        state.num_iters,
    )


def _rows(program, parts, matrices):
    """The rows of a cone program."""
    of = lambda cone, part, M: cone.vector(M) if isinstance(part, MatrixBlocks) else M
    return jnp.concatenate([of(*own) for own in zip(program.cone.parts, parts, matrices, strict=True)])
