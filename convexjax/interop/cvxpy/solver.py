"""`CONVEXJAX`: the solver that CVXPY's `problem.solve` takes."""

import time

import cvxpy.settings as s
import jax
import numpy as np
import scipy.sparse as sp
from cvxpy.constraints import SOC, ExpCone, PowCone3D, SvecPSD
from cvxpy.reductions.solution import Solution as Answer
from cvxpy.reductions.solution import failure_solution
from cvxpy.reductions.solvers import utilities
from cvxpy.reductions.solvers.conic_solvers.conic_solver import ConicSolver
from cvxpy.utilities.psd_utils import TriangleKind

from convexjax.interop.cone_form import ConeForm, solve_cone_form
from convexjax.interop.semidefinite_form import is_large_semidefinite, solve_semidefinite_form
from convexjax.options import Options
from convexjax.solution import Solution, Status

STATUSES = {
    Status.SOLVED: s.OPTIMAL,
    Status.ALMOST_SOLVED: s.OPTIMAL_INACCURATE,
    Status.PRIMAL_INFEASIBLE: s.INFEASIBLE,
    Status.DUAL_INFEASIBLE: s.UNBOUNDED,
    Status.MAX_ITERATIONS: s.USER_LIMIT,
}


def cone_form(dims, entries: tuple, nonnegative: int | None = None) -> ConeForm:
    """From CVXPY's dimensions of the cones (another number of nonnegative rows, perhaps), and the entries of A."""
    return ConeForm.build(
        zero=dims.zero,
        nonnegative=dims.nonneg if nonnegative is None else nonnegative,
        second_order=dims.soc,
        semidefinite=dims.psd,
        exponential=dims.exp,
        power=dims.p3d,
        entries=entries,
    )


def num_rows(dims) -> int:
    """The rows of A."""
    triangles = sum(side * (side + 1) // 2 for side in dims.psd)
    return dims.zero + dims.nonneg + sum(dims.soc) + triangles + 3 * (dims.exp + len(dims.p3d))


def rows_of(data: dict, dims) -> tuple:
    """(form, A, b), the bounds of the variables being rows behind the nonnegative ones."""
    A, b, n = data[s.A].tocsr(), data[s.B], data[s.C].size
    last = dims.zero + dims.nonneg
    sides = ((sign, data[name]) for sign, name in ((-1, s.LOWER_BOUNDS), (1, s.UPPER_BOUNDS)))
    given = [(sign, bound, np.flatnonzero(np.isfinite(bound))) for sign, bound in sides if bound is not None]
    eye = sp.eye_array(n, format="csr")
    A = sp.vstack([A[:last], *(sign * eye[finite] for sign, _, finite in given), A[last:]]).tocsr()
    b = np.concatenate([b[:last], *(sign * bound[finite] for sign, bound, finite in given), b[last:]])
    entries = A.tocoo()
    extra = sum(finite.size for _, _, finite in given)
    return cone_form(dims, (entries.row, entries.col, entries.data), dims.nonneg + extra), A, b


class CONVEXJAX(ConicSolver):
    """A solver for continuous problems of CVXPY, with quadratic objectives, and every cone that CVXPY has.

    It runs in float64, whatever the x64 flag of the process says. The options of `solve` are the fields of
    `convexjax.Options`. `problem.solver_stats` holds the number of iterations, the time, and as `extra_stats` the
    `convexjax.Solution` of the cone form, with its residuals. A problem that is solved again with other values of its
    parameters starts from its last solution, unless `warm_start=False`. Of infeasible problems the dual values of
    the constraints are the certificate. Large semidefinite programs without other cones are solved by the method of
    `solve_sdp`, which uses zeros, or their duals are, if these have fewer variables (`semidefinite_form.py`); these
    start anew each time.

    Errors: an unknown option raises `ValueError`. NUMERICAL_ERROR and NONCONVEX are CVXPY's SolverError.

    >>> import cvxpy as cp
    >>> from convexjax.interop.cvxpy import CONVEXJAX
    >>> x = cp.Variable(2)
    >>> problem = cp.Problem(cp.Minimize(cp.sum_squares(x)), [cp.sum(x) == 1, x[0] >= 0.75])
    >>> round(float(problem.solve(solver=CONVEXJAX(), tolerance=1e-9)), 3)
    0.625
    >>> print(problem.status, x.value.round(3))
    optimal [0.75 0.25]
    """

    MIP_CAPABLE = False
    BOUNDED_VARIABLES = True
    SUPPORTED_CONSTRAINTS = [*ConicSolver.SUPPORTED_CONSTRAINTS, SOC, ExpCone, PowCone3D, SvecPSD]  # noqa: RUF012
    PSD_TRIANGLE_KIND = TriangleKind.UPPER
    PSD_SQRT2_SCALING = True
    EXP_CONE_ORDER = [0, 1, 2]  # noqa: RUF012

    def name(self):
        """How CVXPY calls it."""
        return "CONVEXJAX"

    def import_solver(self):
        """Nothing is left to import."""

    def supports_quad_obj(self):
        """No reduction to a second-order cone is needed."""
        return True

    def cite(self, data):
        """There is no paper to cite yet."""
        return "convexjax: convex optimisation as pure JAX functions."

    def solve_via_data(self, data, warm_start, verbose, solver_opts, solver_cache=None):
        """Solve what `apply` returned; `invert` reads the result."""
        options = Options(**{"verbose": verbose} | {k: v for k, v in solver_opts.items() if k != "use_quad_obj"})
        form, A, b = rows_of(data, data[self.DIMS])
        P = data[s.P].toarray() if s.P in data and data[s.P].nnz else None
        begin = time.perf_counter()
        if P is None and is_large_semidefinite(form, A, options):
            with jax.enable_x64(True):
                solution = jax.tree.map(np.asarray, solve_semidefinite_form(form, data[s.C], A, b, options))
            return solution, time.perf_counter() - begin
        numbers = P, data[s.C], A.tocsr()[form.kept].toarray(), b
        key = self.name()
        with jax.enable_x64(True):
            # without a last solution the guess is NaN, which counts as none, so that both compile once
            guess = [np.full(len(v), np.nan) for v in (data[s.C], b, b)]
            last = solver_cache.get(key) if warm_start and solver_cache is not None else None
            if last is not None and last[0] == form and last[1][0].shape == guess[0].shape:
                guess = last[1]
            solution = jax.tree.map(np.asarray, solve_cone_form(form, *numbers, options, tuple(guess)))
        if solver_cache is not None and solution.status in (Status.SOLVED, Status.ALMOST_SOLVED):
            solver_cache[key] = form, [solution.x, solution.s, solution.z]
        return solution, time.perf_counter() - begin

    def invert(self, result, inverse_data):
        """CVXPY's answer."""
        solution, seconds = result
        status = STATUSES.get(Status(int(solution.status)), s.SOLVER_ERROR)
        about = {s.SOLVE_TIME: seconds, s.NUM_ITERS: int(solution.info.num_iters), s.EXTRA_STATS: solution}
        duals = self._duals(solution, inverse_data)
        if status not in s.SOLUTION_PRESENT:
            return failure_solution(status, about, duals if status in s.INF_OR_UNB else {})
        value = float(solution.objective) + inverse_data[s.OFFSET]
        return Answer(status, value, {inverse_data[self.VAR_ID]: solution.x}, duals, about)

    def _duals(self, solution: Solution, inverse_data) -> dict:
        p, dims = inverse_data[self.DIMS].zero, inverse_data[self.DIMS]
        others = solution.z.size - num_rows(dims)  # rows of the variables' bounds
        z = np.delete(solution.z, p + dims.nonneg + np.arange(others))
        parts = (z[:p], self.EQ_CONSTR), (z[p:], self.NEQ_CONSTR)
        values = [utilities.get_dual_values(z, utilities.extract_dual_value, inverse_data[name]) for z, name in parts]
        return values[0] | values[1]
