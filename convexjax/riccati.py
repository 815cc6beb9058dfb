"""The linear systems of an optimal control problem by a Riccati recursion: time and memory linear in the horizon.

With weights W of the inequality rows C, the solver needs (x, u, y) with

    Q~_t x_t + S~_t'u_t + A_t'y_{t+1} - y_t = f_t,      -x_0 = e_0,
    S~_t x_t + R~_t u_t + B_t'y_{t+1}       = g_t,      A_t x_t + B_t u_t - x_{t+1} = e_{t+1},

the blocks with ~ those of P + epsilon I + C'W C. Backwards from the last stage, `y_t = P_t x_t + p_t` with

    M = [S~ R~] + B'P [A B],   K = M_u^-1 M_x,   F = A - B K,   P_t = Q~ + A'P A - M_x'K,
    d_t = p_{t+1} - P_{t+1} e_{t+1},   p_t = F'd_t + K'g_t - f_t,

and forwards `u_t = -K x_t - M_u^-1 (B'd_t - g_t)`. P, K, F and M_u^-1 do not depend on the right-hand side: for each of
these one product with F_t a stage is all that remains sequential. (Rao, Wright and Rawlings, JOTA 99, 1998.)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax.stage_program import StageProgram, StageRows, stagewise, stagewise_transposed


class Riccati(NamedTuple):
    """What solving with the current weights needs."""

    P: jax.Array  # (T + 1, n, n)
    K: jax.Array  # (T, m, n)
    F: jax.Array  # (T, n, n)
    inverse: jax.Array  # (T, m, m), M_u^-1
    rows: StageRows


def factor(program: StageProgram, weights: jax.Array, epsilon: jax.Array | float) -> Riccati:
    """The recursion for the matrices. `weights`: those of the inequality rows; `epsilon`: one for all variables, or one
    for each."""
    Q, R, S = _weighted_costs(program, weights, epsilon)
    rows, n = program.A, program.A.A.shape[1]
    AB = jnp.concatenate([rows.A, rows.B], 2)  # one product of larger matrices takes less time than several of smaller

    def backwards(P, stage):
        Q, R, S, AB = stage
        M = AB.T @ (P @ AB)
        M_x = M[n:, :n] if S is None else M[n:, :n] + S
        inverse = _inverse(R + M[n:, n:])
        K = inverse @ M_x
        before = Q + M[:n, :n] - M_x.T @ K
        return (before + before.T) / 2, (P, K, AB[:, :n] - AB[:, n:] @ K, inverse)

    first, (after, K, F, inverse) = jax.lax.scan(backwards, Q[-1], (Q[:-1], R, S, AB), reverse=True)
    return Riccati(jnp.concatenate([first[None], after]), K, F, inverse, rows)


# Largest matrix that is inverted by halves.
LARGEST_HALVED = 8


def _inverse(M: jax.Array) -> jax.Array:
    """Inverse of a symmetric positive definite matrix. By halves while it is small: a call of LAPACK for each of many
    small matrices takes longer than all else."""
    m = M.shape[0]
    if m > LARGEST_HALVED:
        L = jnp.linalg.cholesky(M, symmetrize_input=False)
        L_inverse = jax.lax.linalg.triangular_solve(L, jnp.eye(m, dtype=M.dtype), left_side=True, lower=True)
        return L_inverse.T @ L_inverse
    if m <= 1:
        return 1 / M
    half = m // 2
    product = lambda X, Y: jnp.sum(X[:, :, None] * Y[None], 1)
    a, b = _inverse(M[:half, :half]), M[half:, :half]
    ba = product(b, a)
    d = _inverse(M[half:, half:] - product(ba, b.T))
    c = -product(d, ba)
    return jnp.concatenate([jnp.concatenate([a - product(ba.T, c), c.T], 1), jnp.concatenate([c, d], 1)])


def _weighted_costs(program: StageProgram, weights: jax.Array, epsilon) -> tuple:
    """Q~, R~, S~."""
    rows, Q, R, S = program.A, program.Q, program.R, program.S
    first = 0
    epsilon = jnp.broadcast_to(jnp.asarray(epsilon, Q.dtype), program.q.shape)
    of_x, of_u = rows.states(epsilon), rows.inputs(epsilon)
    squared = weights if rows.weights is None else weights * rows.weights**2
    if rows.G is not None:
        first = rows.G.shape[0] * rows.G.shape[1]
        W = squared[:first].reshape(rows.G.shape[:2])
        WG, WJ = W[:, :, None] * rows.G, W[:-1, :, None] * rows.J[:-1]
        Q = Q + jnp.einsum("tki,tkj->tij", rows.G, WG)
        R = R + jnp.einsum("tki,tkj->tij", rows.J[:-1], WJ)
        mixed = jnp.einsum("tki,tkj->tij", WJ, rows.G[:-1])
        S = mixed if S is None else S + mixed
    for kind in rows.bounds:
        like = of_x if kind < 2 else of_u
        part = squared[first : first + like.size].reshape(like.shape)
        first += like.size
        of_x, of_u = (of_x + part, of_u) if kind < 2 else (of_x, of_u + part)
    diagonal = lambda d: d[:, :, None] * jnp.eye(d.shape[1], dtype=d.dtype)
    return Q + diagonal(of_x), R + diagonal(of_u), S


def solve(riccati: Riccati, f_g: jax.Array, e: jax.Array) -> tuple[jax.Array, jax.Array]:
    """([x; u], y) for right-hand sides as vectors in the order of the variables and of the equations."""
    P, K, F, inverse, rows = riccati
    f, g, e = rows.states(f_g), rows.inputs(f_g), rows.states(e)
    P_e, of_stage = stagewise(P[1:], e[1:]), stagewise_transposed(K, g) - f[:-1]

    def backwards(p, stage):
        F, P_e, of_stage = stage
        d = p - P_e
        return d @ F + of_stage, (p, d)

    first, (after, d) = jax.lax.scan(backwards, -f[-1], (F, P_e, of_stage), reverse=True)
    p = jnp.concatenate([first[None], after])
    k = stagewise(inverse, stagewise_transposed(rows.B, d) - g)
    drift = -stagewise(rows.B, k) - e[1:]

    def forwards(x, stage):
        F, drift = stage
        return F @ x + drift, x

    last, before = jax.lax.scan(forwards, -e[0], (F, drift))
    x = jnp.concatenate([before, last[None]])
    u = -stagewise(K, x[:-1]) - k
    return jnp.concatenate([x.reshape(-1), u.reshape(-1)]), (stagewise(P, x) + p).reshape(-1)
