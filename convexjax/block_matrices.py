"""Operations on the parts of S and Z: an array (count, side, side) of matrices, or (l,) for a diagonal block."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax.linalg import triangular_solve

from convexjax.linear_algebra import vary_like

# Steps of Lanczos' method for the smallest eigenvalue of a large matrix; up to this side all eigenvalues are computed.
LANCZOS_STEPS, SMALL_SIDE = 40, 60
# In a batch, up to this side, step lengths are tried.
TRIED_SIDE = 16
STEPS = np.array([1.12, 0.99, 0.9, 0.8, 0.68, 0.54, 0.4, 0.24, 0.1, 0.02])


def transpose(X):
    """Of the matrices of a part."""
    return jnp.swapaxes(X, -1, -2)


def symmetric(X):
    """The symmetric part."""
    return (X + transpose(X)) / 2 if X.ndim > 1 else X


def product(*factors):
    """Of matrices, or of diagonals."""
    out = factors[0]
    for factor in factors[1:]:
        out = out @ factor if out.ndim > 1 else out * factor
    return out


def inverse_factor(X):
    """L^-1 for X = L L', NaN if X is not positive definite."""
    if X.ndim == 1:
        return 1 / jnp.sqrt(jnp.where(X > 0, X, jnp.nan))
    L = jnp.linalg.cholesky(X, symmetrize_input=False)
    identity = jnp.broadcast_to(jnp.eye(X.shape[-1], dtype=X.dtype), X.shape)
    return triangular_solve(L, identity, left_side=True, lower=True)


def is_definite(X):
    """Whether all matrices of a part, or its diagonal, are positive definite."""
    return jnp.all(X > 0) if X.ndim == 1 else jnp.all(are_definite(X))


def are_definite(X):
    """Which matrices, (..., side, side), are positive definite."""
    return jnp.all(jnp.isfinite(jnp.linalg.cholesky(X, symmetrize_input=False)), (-1, -2))


def inner_product(X, Z):
    """<X, Z> over all parts."""
    return sum((jnp.sum(X_j * Z_j) for X_j, Z_j in zip(X, Z, strict=True)), jnp.zeros(()).astype(X[0].dtype))


def log_det(X):
    """Of all matrices of a part together."""
    if X.ndim == 1:
        return jnp.sum(jnp.log(X))
    return 2 * jnp.sum(jnp.log(jnp.diagonal(jnp.linalg.cholesky(X, symmetrize_input=False), axis1=-2, axis2=-1)))


def largest(X):
    """The largest entry of all parts."""
    return jnp.stack([jnp.max(jnp.abs(X_j), initial=0) for X_j in X]).max()


def each(function, *parts):
    """`function` of each part."""
    return tuple(function(*own) for own in zip(*parts, strict=True))


def _by_eigenvalues(X, inverse_factor, direction):
    """The largest step from X = L L' along a direction that stays in the cone, at most 1e10."""
    if direction.ndim == 1:
        smallest = jnp.min(direction * inverse_factor**2, initial=0)
    else:
        W = symmetric(inverse_factor @ direction @ transpose(inverse_factor))
        W = jnp.where(jnp.all(jnp.isfinite(W)), W, 0)  # LAPACK may not return from NaN
        if W.shape[-1] <= SMALL_SIDE:
            smallest = jnp.min(jnp.linalg.eigvalsh(W, symmetrize_input=False), initial=0)
        else:
            smallest = jnp.min(jax.vmap(smallest_eigenvalue)(W), initial=0)
    return 1 / jnp.maximum(-smallest, 1e-10)


def _tried(X, direction):
    """The longest of a grid of steps that stay in the cone: LAPACK takes as long for the eigenvalues of a small matrix
    as for fifty Cholesky factors."""
    steps = jnp.asarray(STEPS, X.dtype)
    good = are_definite(X + steps[:, None, None, None] * direction)
    return jnp.max(jnp.where(jnp.all(good, 1), steps, 0))


# the largest step from X = L L' along a direction that stays in the cone
to_boundary = jax.custom_batching.custom_vmap(_by_eigenvalues)


@to_boundary.def_vmap
def _(lanes, batched, X, inverse_factor, direction):
    axes = tuple(0 if flag else None for flag in batched)
    small = direction.ndim - batched[2] == 3 and direction.shape[-1] <= TRIED_SIDE
    one = (lambda X, _, direction: _tried(X, direction)) if small else _by_eigenvalues
    return jax.vmap(one, axes, axis_size=lanes)(X, inverse_factor, direction), True


def smallest_eigenvalue(W: jax.Array) -> jax.Array:
    """A lower bound, nearly always, of the smallest eigenvalue of a symmetric matrix, close to it: Lanczos' method,
    with the residual of the Ritz vector subtracted (Toh, "A note on the calculation of step-lengths in interior-point
    methods for semidefinite programming", 2002)."""
    side, steps = W.shape[0], LANCZOS_STEPS
    first = jnp.asarray(np.random.default_rng(0).normal(size=side), W.dtype)

    def step(j, carry):
        Q, alpha, beta, q = carry
        Q = Q.at[j].set(q)
        v = W @ q
        alpha = alpha.at[j].set(q @ v)
        for _ in range(2):
            v = v - (Q @ v) @ Q
        norm = jnp.linalg.norm(v)
        return Q, alpha, beta.at[j].set(norm), v / jnp.maximum(norm, jnp.finfo(W.dtype).tiny)

    zeros = jnp.zeros(steps, W.dtype)
    start = jnp.zeros((steps, side), W.dtype), zeros, zeros, first / jnp.linalg.norm(first)
    _, alpha, beta, _ = jax.lax.fori_loop(0, steps, step, vary_like(W, start))
    T = jnp.diag(alpha) + jnp.diag(beta[:-1], 1) + jnp.diag(beta[:-1], -1)
    values, vectors = jnp.linalg.eigh(T)
    return values[0] - beta[-1] * jnp.abs(vectors[-1, 0])
