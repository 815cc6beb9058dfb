"""Convex programs with constraints or bounds of the CUTEst collection, as the package sif2jax writes them.

Those are listed here of which one sees that they are convex: linear, quadratic and separable functions, exponentials,
entropies, and maxima of such in epigraph form. The package is an extra of the benchmarks; without it there are none.
"""

import importlib.util

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.function_programs import PROGRAMS, FunctionProgram

NAMES = (
    "AVGASA", "AVGASB", "CANTILVR", "CB2", "CB3", "DEGENLPA", "DUAL1", "DUAL4", "GIGOMEZ1", "GOFFIN", "HS11", "HS12",
    "HS14", "HS21", "HS22", "HS34", "HS35", "HS43", "HS53", "HS65", "HS66", "HS100", "HS112", "HS113", "HS268",
    "MAKELA4", "ODFITS", "OET1", "OET3", "POLAK1", "PORTFL1", "SIPOW1", "SIPOW2", "ZECEVIC2",
)  # fmt: skip
# The package writes most inequalities as c(x) >= 0, but those of these problems, as their files say, as c(x) <= 0.
NEGATIVE = ("CANTILVR", "GOFFIN", "MAKELA4", "POLAK1", "ZECEVIC2")


def build(name: str) -> FunctionProgram:
    """A problem of sif2jax: its equations, which have to be affine, as a matrix, its inequalities as g(x) <= 0."""
    import sif2jax

    problem = getattr(sif2jax.cutest, name)()
    x0, A, b, g = np.asarray(problem.y0, float), None, None, None
    equations, inequalities = problem.constraint(jnp.asarray(x0))
    flat = lambda i: lambda x: jnp.ravel(jnp.asarray(problem.constraint(x)[i]))
    if equations is not None:
        A, b = np.asarray(jax.jacfwd(flat(0))(jnp.zeros(len(x0)))), -np.asarray(flat(0)(jnp.zeros(len(x0))))
        at = np.random.default_rng(0).normal(size=len(x0))
        if not np.allclose(A @ at - b, flat(0)(jnp.asarray(at))):
            raise ValueError(f"{name} has equations that are not affine.")
    if inequalities is not None:
        sign = 1 if name in NEGATIVE else -1
        g = lambda x: sign * flat(1)(x)
    lb, ub = (None, None) if problem.bounds is None else (np.asarray(side, float) for side in problem.bounds)
    finite = lambda side: side if side is not None and np.any(np.isfinite(side)) else None
    return FunctionProgram(
        name, lambda x: problem.objective(x, problem.args), x0, g=g, A=A, b=b, lb=finite(lb), ub=finite(ub)
    )


if importlib.util.find_spec("sif2jax") is not None:
    PROGRAMS.update({name: (lambda name=name: build(name)) for name in NAMES})
