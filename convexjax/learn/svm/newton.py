"""The linear system of Newton's method for the dual of a support vector machine.

For the conditions (2) of `dual.py` with products a z = (u - a) t = tau, dz and dt eliminated, it has the diagonal
matrix

    D_c = (d + z / a + t / (u - a))^-1,    da_c = D_c (r_c - sign_c (K dbeta + db) - drho),    (3)

and, da eliminated, with D = sum_c D_c and h = sum_c sign_c D_c (r_c - drho),

    dbeta + D (K dbeta + db) = h,    sum dbeta = -r_1.    (4)
"""

import jax
import jax.numpy as jnp

from convexjax.learn.svm.dual import BoxDual


def newton(dual: BoxDual, operator, D: jax.Array):
    """A function of (r, beta and w, r_1, r_2) to the solution (da, dw, db, drho, K dbeta) of

        D_c^-1 da_c + sign_c (K dbeta + db) + drho = r_c,   sum dbeta = -r_1,   sum da = -r_2

    for D (c, m), which may be zero."""
    of_samples = jnp.sum(D, 0)
    system = operator.factor(of_samples, dual.intercept)
    equation = lambda r: r if dual.intercept else None
    zero = jnp.zeros((), D.dtype)
    if dual.total:
        h_rho = jnp.sum(dual.sign * D, 0)
        nothing = jnp.zeros_like(h_rho), jnp.zeros_like(operator.compress(h_rho))
        dw_rho, db_rho, g_rho = operator.solve(system, of_samples, h_rho, nothing, equation(zero))
        schur = jnp.sum(D) - h_rho @ g_rho

    def solve(r, drift, r_1, r_2):
        weighted = D * r
        dw, db, g = operator.solve(system, of_samples, jnp.sum(dual.sign * weighted, 0), drift, equation(r_1))
        drho = zero
        if dual.total:
            drho = (jnp.sum(weighted) - h_rho @ g + r_2) / jnp.where(schur > 0, schur, 1)
            dw, db, g = dw - drho * dw_rho, db - drho * db_rho, g - drho * g_rho
        return weighted - D * (dual.sign * g + drho), dw, db, drho, g - db

    return solve
