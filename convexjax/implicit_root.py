"""Derivatives of the root of a gradient: of the minimiser of a smooth convex function."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def attach_root(residual: Callable, x: jax.Array, data) -> jax.Array:
    """x (n,), where `residual(x, data) = 0`, as a function of `data` (a pytree of arrays), with derivatives of any
    order by the implicit function theorem. The Jacobian J of the residual in x must be symmetric positive semidefinite;
    where it is singular the derivative is regularised by a relative eps. `residual` must not hold tracers."""
    return x


@attach_root.defjvp
def _attach_root_jvp(residual, primals, tangents):
    (x, data), (_, ddata) = primals, tangents
    fixed, fixed_data = jax.lax.stop_gradient((x, data))
    n = x.shape[0]
    J = jax.jacfwd(residual)(fixed, fixed_data)
    shift = n * jnp.finfo(x.dtype).eps * jnp.max(jnp.abs(jnp.diagonal(J)), initial=0)
    factor = jnp.linalg.cholesky(J + shift * jnp.eye(n, dtype=x.dtype), symmetrize_input=True)

    def solve(_, right):
        inverse = lambda v: jax.scipy.linalg.cho_solve((factor, True), v)
        found = inverse(right)
        return found + inverse(right - J @ found)

    x = attach_root(residual, x, data)
    _, change = jax.jvp(lambda data: residual(x, data), (data,), (ddata,))
    matvec = lambda v: jax.jvp(lambda x: residual(x, data), (x,), (v,))[1]
    return x, jax.lax.custom_linear_solve(matvec, -change, solve, symmetric=True)
