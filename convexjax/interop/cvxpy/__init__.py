"""CVXPY: `CONVEXJAX`, a solver for its problems, and `from_cvxpy`, which makes a problem a JAX function.

Needs the extra `cvxpy` (CVXPY 1.9).
"""

from convexjax.interop.cvxpy.functions import from_cvxpy
from convexjax.interop.cvxpy.solver import CONVEXJAX

__all__ = ["CONVEXJAX", "from_cvxpy"]
