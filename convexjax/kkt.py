"""The linear systems of a step: assemble, factor, solve, refine.

    [P  A'] [dx]   [r_x]
    [A  -H] [dz] = [r_z]

is solved through the positive definite matrix of size n

    M = P + epsilon I + A'(H + delta I)^-1 A,     dz = (H + delta I)^-1 (A dx - r_z),

one step of the proximal method of multipliers, whose condition is bounded by 1/delta also when H is singular
(equations) or nearly so (active rows). Refinement against the true matrix removes delta and epsilon: each step is one
more step of the proximal method, so it contracts where the system is well posed and leaves the rest at its
minimum-norm part (Friedlander and Orban, Math. Prog. Comp. 2012; Schwan et al., PIQP, 2023).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve

from convexjax import riccati, sparse_factor
from convexjax.cone_program import ConeProgram
from convexjax.linear_algebra import DiagonalPlusLowRank, Rows, reductions, shifted, vary_like
from convexjax.riccati import Riccati
from convexjax.stage_program import StageProgram, StageRows

# (delta, epsilon) by dtype: as small as keeps the Cholesky factor of M accurate enough for refinement to contract.
REGULARISATION = {"float64": (1e-8, 1e-10), "float32": (1e-4, 1e-6)}
# Those of a sparse program, whose rows are not squared.
SPARSE_REGULARISATION = {"float64": (1e-10, 1e-10), "float32": (1e-4, 1e-6)}


class Factor(NamedTuple):
    """What solving with the current H needs."""

    reduced: "Reduced"  # factors of M
    weighted_A: Rows  # (H + delta I)^-1 A
    scaling: tuple
    delta: jax.Array


def factor(program: ConeProgram, scaling: tuple, boost: jax.Array) -> Factor:
    """Factorise M; `boost` >= 1 multiplies the regularisation (raised after a failed step)."""
    dtype = program.q.dtype
    regularisation = SPARSE_REGULARISATION if program.A.is_sparse else REGULARISATION
    delta, epsilon = (jnp.asarray(r, dtype) * boost for r in regularisation[dtype.name])
    weighted_A = program.cone.weigh("regularised_inverse", scaling, delta, program.A)
    kept = None
    if program.A.is_sparse:
        of_columns = lambda i, part, v: jax.vmap(lambda v: part.hessian(scaling[i], v) + delta * v, 1, 1)(v)
        kept = program.cone.matrices(of_columns, program.A.num_general, dtype)
    return Factor(factorise(program, weighted_A, epsilon, kept=kept), weighted_A, scaling, delta)


class Woodbury(NamedTuple):
    """M = D + B'C with D diagonal and few rows of B and C: M^-1 = D^-1 - D^-1 B'(I + C D^-1 B')^-1 C D^-1."""

    diagonal: jax.Array
    B: jax.Array
    C: jax.Array
    inner: tuple  # LU factors of I + C D^-1 B'


class Sparse(NamedTuple):
    """Factors of [P + shift I + the bounds of A'W A, A'; A, -H], A without the bounds."""

    factors: sparse_factor.Factors


# A Cholesky factor, or what stands for one with the structure of a program.
Reduced = jax.Array | Woodbury | Riccati | Sparse


def factorise(
    program: ConeProgram,
    weighted_A: Rows,
    epsilon: jax.Array | float,
    relative: float = 0,
    kept: list[jax.Array] | None = None,
) -> Reduced:
    """Factors of M = P + shift I + A'W A, given W A: a Cholesky factor; with a structured P what never has n x n
    entries; for an optimal control problem a Riccati recursion. The shift is epsilon and, but there, `relative` times
    the largest entry of the diagonal. A sparse program keeps the general rows, with W^-1 = H in blocks `kept`."""
    A, P = program.A, program.P
    if isinstance(program, StageProgram) and isinstance(weighted_A, StageRows):
        return riccati.factor(program, weighted_A.weights, epsilon)
    diagonal = jnp.zeros_like(program.q) + sum(d * w for d, w in zip(A.diagonals, weighted_A.diagonals, strict=True))
    if isinstance(P, DiagonalPlusLowRank):
        diagonal = diagonal + P.diagonal
        diagonal = diagonal + epsilon + relative * jnp.max(diagonal, initial=0)
        B = jnp.concatenate([P.factor.T, A.matrix])
        C = jnp.concatenate([P.factor.T, weighted_A.matrix])
        inner = jnp.eye(B.shape[0], dtype=B.dtype) + (C / diagonal) @ B.T
        return Woodbury(diagonal, B, C, jax.scipy.linalg.lu_factor(inner))
    if kept is not None:
        shift = epsilon + relative * jnp.max(diagonal, initial=0)
        return Sparse(sparse_factor.factor(P, A.matrix, diagonal + shift, kept))
    M = A.matrix.T @ weighted_A.matrix + jnp.diag(diagonal)
    M = M if P is None else M + P
    shift = epsilon + relative * jnp.max(jnp.diagonal(M), initial=0)
    return jnp.linalg.cholesky(shifted(M, shift), symmetrize_input=False)


def solve_reduced(reduced: Reduced, right: jax.Array, exact: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(dx, dz) with M dx + A'dz = right, A dx - H dz = exact for the rows that are kept out of M (`Rows.num_exact`):
    the equations of a Riccati recursion, where H = 0, and all but the bounds of a sparse program."""
    if isinstance(reduced, Riccati):
        return riccati.solve(reduced, right, exact)
    if isinstance(reduced, Sparse):
        d = sparse_factor.solve(reduced.factors, jnp.concatenate([right, exact]))
        return d[: right.shape[0]], d[right.shape[0] :]
    if not isinstance(reduced, Woodbury):
        return cho_solve((reduced, True), right), exact
    first = right / reduced.diagonal
    correction = jax.scipy.linalg.lu_solve(reduced.inner, reduced.C @ first) @ reduced.B
    return first - correction / reduced.diagonal, exact


def replace_exact(A: Rows, rows: jax.Array, exact: jax.Array | float) -> jax.Array:
    """The entries of `rows` that belong to the rows that hold exactly replaced by `exact`."""
    return rows.at[: A.num_exact].set(exact) if A.num_exact else rows


def solve(
    program: ConeProgram, factor: Factor, right: jax.Array, target: jax.Array, refinement_steps: jax.Array | int
) -> tuple[jax.Array, jax.Array]:
    """(dx; dz) for a right-hand side (n + m,), and what is left of that. Refined until no residual is above `target`,
    or refinement no longer helps.

    One right-hand side at a time: products of a matrix with two columns take XLA several times as long as with one.
    """
    n, cone, A = program.q.shape[0], program.cone, program.A

    def precondition(e):
        """Solve with the regularised matrix."""
        of_rows = factor.weighted_A.rmatvec(replace_exact(A, e[n:], 0))
        dx, exact = solve_reduced(factor.reduced, e[:n] + of_rows, e[n : n + A.num_exact])
        dz = cone.regularised_inverse(factor.scaling, factor.delta, (A.matvec(dx) - e[n:])[:, None])[:, 0]
        return jnp.concatenate([dx, replace_exact(A, dz, exact)])

    def residual(d):
        """What is left of the right-hand side with the true matrix."""
        dx, dz = d[:n], d[n:]
        hessian = cone.hessian(factor.scaling, dz)
        return right - jnp.concatenate([program.quadratic(dx) + A.rmatvec(dz), A.matvec(dx) - hessian])

    # not if a step helps little: in the range that a singular system lacks it changes nothing but the size of d
    return refined(precondition, residual, right, target, refinement_steps, gain=0.8)


def refined(
    precondition, residual, right, target, refinement_steps: jax.Array | int, gain: float
) -> tuple[jax.Array, jax.Array]:
    """Iterative refinement of d = precondition(right): d, and what is left of the right-hand side. It ends when nothing
    left is above `target`, after `refinement_steps` more steps, or with a step that does not leave less than `gain`
    times as much, which is not taken."""

    def refine(state):
        steps, _, d, e, size = state
        new_d = d + precondition(e)
        new_e = residual(new_d)
        _, new_size = reductions((new_e,), (jnp.abs(new_e),))
        improving = (steps == 0) | (new_size < gain * size)  # false for NaN
        keep = lambda new, old: jnp.where(improving, new, old)
        return steps + 1, improving, keep(new_d, d), keep(new_e, e), keep(new_size, size)

    def unfinished(state):
        steps, improving, _, _, size = state
        return improving & (steps <= refinement_steps) & (size > target)

    start = (jnp.int32(0), jnp.array(True), jnp.zeros_like(right), right, jnp.full((), jnp.inf, right.dtype))
    _, _, d, e, _ = jax.lax.while_loop(unfinished, refine, vary_like((right, target), start))
    return d, e
