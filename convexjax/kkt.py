"""The linear systems of a step: assemble, factor, solve, refine.

    [P  A'] [dx]   [r_x]
    [A  -H] [dz] = [r_z]

is solved through the positive definite matrix of size n

    M = P + epsilon I + A'(H + delta I)^-1 A,     dz = (H + delta I)^-1 (A dx - r_z),

one step of the proximal method of multipliers, whose condition is bounded by 1/delta also when H is singular (equations)
or nearly so (active rows). Refinement against the true matrix removes delta and epsilon: each step is one more step of the
proximal method, so it contracts where the system is well posed and leaves the rest at its minimum-norm part (Friedlander and
Orban, Math. Prog. Comp. 2012; Schwan et al., PIQP, 2023).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import cho_solve

from convexjax.cone_program import ConeProgram

# (delta, epsilon) by dtype: as small as keeps the Cholesky factor of M accurate enough for refinement to contract.
REGULARISATION = {"float64": (1e-6, 1e-9), "float32": (1e-3, 1e-5)}

# Residual, relative to the right-hand side, at which refinement is done.
TARGET = {"float64": 1e-12, "float32": 1e-6}


class Factor(NamedTuple):
    """What solving with the current H needs."""

    cholesky: jax.Array
    scaling: tuple
    delta: jax.Array


def factor(program: ConeProgram, scaling: tuple, boost: jax.Array) -> Factor:
    """Factorise M; `boost` >= 1 multiplies the regularisation (raised after a failed step)."""
    n, dtype = program.q.shape[0], program.q.dtype
    delta, epsilon = (jnp.asarray(r, dtype) * boost for r in REGULARISATION[dtype.name])
    dense = program.A.dense
    M = dense.T @ program.cone.regularised_inverse(scaling, delta, dense)
    diagonal = jnp.full(n, epsilon, dtype)
    if program.A.diagonals:
        ones = jnp.ones((program.A.shape[0] - dense.shape[0], 1), dtype)
        weights = program.cone.parts[-1].regularised_inverse(scaling[-1], delta, ones)[:, 0]
        for i, sign in enumerate(program.A.diagonals):
            diagonal = diagonal + sign**2 * weights[i * n : (i + 1) * n]
    if program.P is not None:
        M = M + program.P
    M = M + jnp.diag(diagonal)
    return Factor(jnp.linalg.cholesky(M, symmetrize_input=False), scaling, delta)


def solve(
    program: ConeProgram, factor: Factor, r_x: jax.Array, r_z: jax.Array, refinement_steps: int
) -> tuple[jax.Array, jax.Array]:
    """(dx, dz) for right-hand sides with columns (n, k), (m, k), refined until the residual is at rounding level."""
    cone, A = program.cone, program.A
    inverse = lambda v: cone.regularised_inverse(factor.scaling, factor.delta, v)
    hessian = jax.vmap(lambda v: cone.hessian(factor.scaling, v), 1, 1)
    target = TARGET[r_x.dtype.name] * (jnp.max(jnp.abs(r_x), 0, initial=0) + jnp.max(jnp.abs(r_z), 0, initial=0))

    def refine(state):
        steps, _, dx, dz, e_x, e_z, size = state
        weighted = inverse(e_z)
        step = cho_solve((factor.cholesky, True), e_x + A.rmatvec(weighted))
        new_x, new_z = dx + step, dz + inverse(A.matvec(step)) - weighted
        new_e_x = r_x - program.quadratic(new_x) - A.rmatvec(new_z)
        new_e_z = r_z - A.matvec(new_x) + hessian(new_z)
        new_size = error(new_e_x, new_e_z)
        accepted = (steps == 0) | (new_size < size)  # false for NaN
        improving = (steps == 0) | (new_size < 0.5 * size)
        old, new = (dx, dz, e_x, e_z, size), (new_x, new_z, new_e_x, new_e_z, new_size)
        return steps + 1, improving, *(jnp.where(accepted, a, b) for a, b in zip(new, old, strict=True))

    def unfinished(state):
        steps, improving, *_, size = state
        return improving & (steps <= refinement_steps) & (size > 1)

    def error(e_x, e_z):
        """Largest residual of a column, relative to what it should reach."""
        columns = jnp.maximum(jnp.max(jnp.abs(e_x), 0, initial=0), jnp.max(jnp.abs(e_z), 0, initial=0))
        return jnp.max(columns / jnp.maximum(target, jnp.finfo(r_x.dtype).tiny))

    start = (jnp.int32(0), jnp.array(True), jnp.zeros_like(r_x), jnp.zeros_like(r_z), r_x, r_z, jnp.full((), jnp.inf, r_x.dtype))
    _, _, dx, dz, *_ = jax.lax.while_loop(unfinished, refine, start)
    return dx, dz
