"""convexjax: convex optimisation as pure JAX functions."""

from convexjax import gp, layers, learn, plot, relaxations
from convexjax.compilation import QUICK_COMPILATION
from convexjax.cones import PSD, Exponential, Nonnegative, Power, SecondOrder, Zero
from convexjax.convexity import Counterexample, check_convexity
from convexjax.geometric_solver import GeometricSolution
from convexjax.least_squares import LeastSquares, lstsq
from convexjax.linear_algebra import smat, svec
from convexjax.options import Options
from convexjax.perturbed import perturbed
from convexjax.problems.conic import solve_conic
from convexjax.problems.gp import solve_gp
from convexjax.problems.maxdet import solve_maxdet
from convexjax.problems.minimize import barrier_method, minimize
from convexjax.problems.mpc import Trajectory, shift_horizon, solve_mpc
from convexjax.problems.qp import solve_lp, solve_qp
from convexjax.problems.sdp import solve_sdp
from convexjax.problems.socp import solve_socp
from convexjax.solution import History, Info, Solution, Status

__all__ = [
    "PSD",
    "QUICK_COMPILATION",
    "Counterexample",
    "Exponential",
    "GeometricSolution",
    "History",
    "Info",
    "LeastSquares",
    "Nonnegative",
    "Options",
    "Power",
    "SecondOrder",
    "Solution",
    "Status",
    "Trajectory",
    "Zero",
    "barrier_method",
    "check_convexity",
    "gp",
    "layers",
    "learn",
    "lstsq",
    "minimize",
    "perturbed",
    "plot",
    "relaxations",
    "shift_horizon",
    "smat",
    "solve_conic",
    "solve_gp",
    "solve_lp",
    "solve_maxdet",
    "solve_mpc",
    "solve_qp",
    "solve_sdp",
    "solve_socp",
    "svec",
]
