"""Geometric programs written as ordinary Python.

    from convexjax import gp

    h, w, d = gp.variables("h w d", units="m")
    walls, floor = gp.parameters("walls floor", units="m^2")
    model = gp.maximize(h * w * d, [2 * (h * w + h * d) <= walls, w * d <= floor])
    volume = gp.compile(model)
    print(volume(walls=200.0, floor=50.0))

Posynomials are sums of terms `c x1**a1 x2**a2 ...` with c > 0. What is not a geometric program is refused where it is
written. Coefficients and exponents may be traced JAX values (arrays of them to the right of variables, `x * c`); a
compiled model is a JAX function of its parameters.
"""

from convexjax.gp.arrays import Array
from convexjax.gp.model import Model, compile, maximize, minimize
from convexjax.gp.posynomials import Constraint, Posynomial, max
from convexjax.gp.result import Result
from convexjax.gp.terms import NotGeometricError
from convexjax.gp.variables import parameter, parameters, variable, variables

__all__ = [
    "Array",
    "Constraint",
    "Model",
    "NotGeometricError",
    "Posynomial",
    "Result",
    "compile",
    "max",
    "maximize",
    "minimize",
    "parameter",
    "parameters",
    "variable",
    "variables",
]
