"""Adapters of the peers that solve LPs and QPs alone: qpax, piqp, HiGHS and OSQP."""

from collections.abc import Callable
from functools import cache

import numpy as np
import scipy.sparse as sparse

from benchmarks import programs
from benchmarks.programs import Answer, QuadraticProgram
from benchmarks.solvers import Solve, quadratic_part


def prepare_qpax(program: QuadraticProgram, tolerance: float) -> Solve:
    """qpax, compiled, bounds as rows, default tolerance; it makes no claim of infeasibility."""
    import jax

    jax.config.update("jax_enable_x64", True)
    flat = programs.with_bounds_as_rows(program)
    rows = programs.split_rows(flat.l, flat.u)
    (A, b), (G, h) = rows.equations(flat), rows.inequalities(flat)
    dense = (quadratic_part(program).toarray(), program.q, A.toarray(), b, G.toarray(), h)
    data = [jax.numpy.asarray(value) for value in dense]
    solve = _compiled_qpax()

    def run() -> Answer:
        x, _, z, y, converged, iterations = (np.asarray(value) for value in solve(*data))
        duals = rows.joined_duals(flat.l.size, y, z)
        row_duals, z_bounds = programs.bounds_from_rows(program, duals)
        claim = "solved" if converged == 1 else "failed"
        return Answer(claim=claim, x=x, z=row_duals, z_bounds=z_bounds, iterations=int(iterations))

    return run


@cache
def _compiled_qpax() -> Callable:
    import jax
    import qpax

    return jax.jit(lambda *data: qpax.solve_qp(*data))


def prepare_piqp(program: QuadraticProgram, tolerance: float) -> Solve:
    """PIQP, two-sided rows and bounds as they are; its dense back end where more than half of the entries are there."""
    import piqp

    rows = programs.split_rows(program.l, program.u)
    other = np.flatnonzero(program.l != program.u)
    A, b = rows.equations(program)
    matrices = [sparse.csc_matrix(matrix) for matrix in (quadratic_part(program), A, program.A[other])]
    dense = 2 * program.A.nnz > program.A.shape[0] * program.A.shape[1]
    if dense:
        matrices = [np.asfortranarray(matrix.toarray()) for matrix in matrices]
    claims = {
        piqp.PIQP_SOLVED: "solved",
        piqp.PIQP_PRIMAL_INFEASIBLE: "infeasible",
        piqp.PIQP_DUAL_INFEASIBLE: "unbounded",
    }

    def run() -> Answer:
        P, A, G = matrices
        solver = piqp.DenseSolver() if dense else piqp.SparseSolver()
        solver.setup(P, program.q, A, b, G, program.l[other], program.u[other], program.lb, program.ub)
        claim = claims.get(solver.solve(), "failed")
        found = solver.result
        z = np.zeros(program.l.size)
        z[rows.equal], z[other] = found.y, found.z_u - found.z_l
        z_bounds = np.asarray(found.z_bu) - np.asarray(found.z_bl)
        return Answer(claim=claim, x=np.asarray(found.x), z=z, z_bounds=z_bounds, iterations=found.info.iter)

    return run


def prepare_osqp(program: QuadraticProgram, tolerance: float) -> Solve:
    """OSQP, bounds as rows; a first-order method, so given many iterations."""
    import osqp

    flat = programs.with_bounds_as_rows(program)
    P, A = sparse.csc_matrix(sparse.triu(quadratic_part(program))), sparse.csc_matrix(flat.A)
    claims = {"OSQP_SOLVED": "solved", "OSQP_SOLVED_INACCURATE": "almost"}
    claims |= {"OSQP_PRIMAL_INFEASIBLE": "infeasible", "OSQP_DUAL_INFEASIBLE": "unbounded"}
    accuracy = {"eps_abs": tolerance, "eps_rel": tolerance, "max_iter": 50_000, "time_limit": 60.0}

    def run() -> Answer:
        solver = osqp.OSQP()
        solver.setup(P, program.q, A, flat.l, flat.u, verbose=False, **accuracy)
        found = solver.solve(raise_error=False)
        claim = claims.get(osqp.SolverStatus(found.info.status_val).name, "failed")
        duals = found.prim_inf_cert if claim == "infeasible" else found.y
        z, z_bounds = programs.bounds_from_rows(program, np.asarray(duals))
        x = np.asarray(found.dual_inf_cert if claim == "unbounded" else found.x)
        return Answer(claim=claim, x=x, z=z, z_bounds=z_bounds, iterations=found.info.iter)

    return run


def prepare_highs(program: QuadraticProgram, tolerance: float) -> Solve:
    """HiGHS with its default settings; a claim of infeasibility comes with the ray it offers, if it offers one."""
    import highspy

    model = _highs_model(program)
    claims = {
        highspy.HighsModelStatus.kOptimal: "solved",
        highspy.HighsModelStatus.kInfeasible: "infeasible",
        highspy.HighsModelStatus.kUnbounded: "unbounded",
    }

    def run() -> Answer:
        highs = highspy.Highs()
        highs.setOptionValue("output_flag", False)
        highs.passModel(model)
        highs.run()
        info, found = highs.getInfo(), highs.getSolution()
        counts = (info.simplex_iteration_count, info.qp_iteration_count, info.ipm_iteration_count)
        iterations = sum(max(count, 0) for count in counts)
        claim = claims.get(highs.getModelStatus(), "failed")
        if claim == "infeasible":
            return _highs_infeasible(program, highs, iterations)
        if claim == "unbounded":
            _, has_ray, ray = highs.getPrimalRay()
            return Answer(claim=claim, x=np.asarray(ray) if has_ray else None, iterations=iterations)
        x, y, w = (np.asarray(value) for value in (found.col_value, found.row_dual, found.col_dual))
        return Answer(claim=claim, x=x, z=-y, z_bounds=-w, iterations=iterations)

    return run


def _highs_infeasible(program: QuadraticProgram, highs, iterations: int) -> Answer:
    _, has_ray, ray = highs.getDualRay()
    if not has_ray:
        return Answer(claim="infeasible", iterations=iterations)
    z = -np.asarray(ray)
    return Answer(claim="infeasible", z=z, z_bounds=-(program.A.T @ z), iterations=iterations)


def _highs_model(program: QuadraticProgram):
    import highspy

    rows, columns = program.A.shape
    model = highspy.HighsModel()
    lp = model.lp_
    lp.num_col_, lp.num_row_ = columns, rows
    lp.col_cost_, lp.col_lower_, lp.col_upper_ = program.q, program.lb, program.ub
    lp.row_lower_, lp.row_upper_ = program.l, program.u
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = program.A.indptr, program.A.indices
    lp.a_matrix_.value_ = program.A.data
    lower = sparse.csc_array(sparse.tril(quadratic_part(program)))
    if lower.nnz:
        hessian = model.hessian_
        hessian.dim_, hessian.format_ = columns, highspy.HessianFormat.kTriangular
        hessian.start_, hessian.index_, hessian.value_ = lower.indptr, lower.indices, lower.data
    return model
