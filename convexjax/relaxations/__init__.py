"""Well-known problems as semidefinite programs: combinatorial bounds, matrices, ellipsoids, control, polynomials."""

from convexjax.relaxations.control import common_lyapunov, h_infinity_norm
from convexjax.relaxations.ellipsoids import minimum_volume_ellipsoid
from convexjax.relaxations.graphs import lovasz_theta, max_cut
from convexjax.relaxations.matrices import complete_matrix, nearest_correlation
from convexjax.relaxations.polynomials import minimize_polynomial

__all__ = [
    "common_lyapunov",
    "complete_matrix",
    "h_infinity_norm",
    "lovasz_theta",
    "max_cut",
    "minimize_polynomial",
    "minimum_volume_ellipsoid",
    "nearest_correlation",
]
