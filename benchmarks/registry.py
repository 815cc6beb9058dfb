"""The solvers a benchmark can name."""

from benchmarks import conic_peers, quadratic_peers, semidefinite_solvers
from benchmarks.solvers import Solver, prepare_convexjax, prepare_convexjax_sparse, through_conic

SOLVERS = {
    "convexjax": Solver("convexjax", prepare_convexjax, conic=True),
    "convexjax_sparse": Solver("convexjax", prepare_convexjax_sparse, conic=True),
    "convexjax_sdp": Solver("convexjax", semidefinite_solvers.prepare_convexjax_sdp, conic=True),
    "sdpa": Solver("sdpap", through_conic(semidefinite_solvers.prepare_sdpa), conic=True, accuracy=1e-7),
    "clarabel": Solver("clarabel", through_conic(conic_peers.prepare_clarabel), conic=True),
    "moreau": Solver("moreau", through_conic(conic_peers.prepare_moreau), conic=True, accuracy=1e-6),
    "moreau_ipm": Solver("moreau", through_conic(conic_peers.prepare_moreau_ipm), conic=True),
    "qpax": Solver("qpax", quadratic_peers.prepare_qpax, conic=False, accuracy=1e-5),
    "piqp": Solver("piqp", quadratic_peers.prepare_piqp, conic=False),
    "highs": Solver("highspy", quadratic_peers.prepare_highs, conic=False, accuracy=1e-7),
    "osqp": Solver("osqp", quadratic_peers.prepare_osqp, conic=False),
}
