"""Adapters of the peers that solve the conic form: clarabel and moreau."""

import numpy as np
import scipy.sparse as sparse

from benchmarks.programs import Answer, Cones, ConicProgram
from benchmarks.solvers import Solve, quadratic_part

CLAIMS = {"Solved": "solved", "AlmostSolved": "almost", "PrimalInfeasible": "infeasible", "DualInfeasible": "unbounded"}


def prepare_clarabel(program: ConicProgram, tolerance: float) -> Solve:
    """Clarabel with its default settings."""
    import clarabel

    P, A = sparse.csc_matrix(sparse.triu(quadratic_part(program))), sparse.csc_matrix(program.A)
    cones = _clarabel_cones(program)

    def run() -> Answer:
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        found = clarabel.DefaultSolver(P, program.q, A, program.b, cones, settings).solve()
        return Answer(
            claim=CLAIMS.get(str(found.status), "failed"),
            x=np.asarray(found.x),
            s=np.asarray(found.s),
            z=np.asarray(found.z),
            iterations=found.iterations,
        )

    return run


def _clarabel_cones(program: ConicProgram) -> list:
    import clarabel

    cones = program.cones
    product = [clarabel.ZeroConeT(cones.zero)] if cones.zero else []
    product += [clarabel.NonnegativeConeT(cones.nonnegative)] if cones.nonnegative else []
    product += [clarabel.SecondOrderConeT(size) for size in cones.second_order]
    product += [clarabel.PSDTriangleConeT(side) for side in cones.psd]
    product += [clarabel.ExponentialConeT()] * cones.exponential
    product += [clarabel.PowerConeT(alpha) for alpha in cones.power]
    return product


def prepare_moreau(program: ConicProgram, tolerance: float) -> Solve:
    """moreau with its own choice of method: an active set for small QPs, an interior point elsewhere."""
    return _prepare_moreau(program, "auto")


def prepare_moreau_ipm(program: ConicProgram, tolerance: float) -> Solve:
    """moreau with its interior point."""
    return _prepare_moreau(program, "ipm")


def moreau_cones(cones: Cones):
    """The cones in moreau's words; its row order is ours."""
    import moreau

    return moreau.Cones(
        num_zero_cones=cones.zero,
        num_nonneg_cones=cones.nonnegative,
        so_cone_dims=list(cones.second_order),
        num_exp_cones=cones.exponential,
        power_alphas=list(cones.power),
        psd_dims=list(cones.psd),
    )


def _prepare_moreau(program: ConicProgram, method: str) -> Solve:
    import moreau

    P, A = sparse.csr_array(quadratic_part(program)), sparse.csr_array(program.A)
    product = moreau_cones(program.cones)
    # Both methods read this limit; its default of 200 would end the active set early, whose own default is 10000.
    settings = moreau.Settings(solver=method, device="cpu", max_iter=10_000 if method == "auto" else 200)

    def run() -> Answer:
        solver = moreau.Solver(P, program.q, A, program.b, product, settings)
        found = solver.solve()
        x, s, z = (np.asarray(value) for value in (found.x, found.s, found.z))
        iterations = int(np.ravel(solver.info.iterations)[0])
        claim = CLAIMS.get(str(solver.info.status), "failed")
        return Answer(claim=claim, x=x, s=s, z=z, iterations=iterations)

    return run
