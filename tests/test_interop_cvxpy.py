"""CVXPY's own tests of solvers through the bridge, and its problems as JAX functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convexjax as cj

cp = pytest.importorskip("cvxpy", minversion="1.9")

import cvxpy.tests.solver_test_helpers as standard  # noqa: E402

from convexjax.interop.cvxpy import CONVEXJAX, from_cvxpy  # noqa: E402

CLASSES = [
    standard.StandardTestLPs,
    standard.StandardTestQPs,
    standard.StandardTestSOCPs,
    standard.StandardTestSDPs,
    standard.StandardTestECPs,
    standard.StandardTestMixedCPs,
    standard.StandardTestPCPs,
]
# These two ask for what only other solvers have: fields of a QP solver's data, and SDPA itself. Their problems follow.
OTHERS = {"test_qp_bound_attr", "test_lp_7"}
CASES = [
    pytest.param(getattr(kind, name), id=f"{kind.__name__}-{name}")
    for kind in CLASSES
    for name in dir(kind)
    if name.startswith("test_") and "_mi_" not in name and name not in OTHERS
]
# CVXPY itself warns of arrays of three dimensions.
pytestmark = pytest.mark.filterwarnings("ignore:The problem has an expression with dimension:UserWarning")


@pytest.mark.parametrize("case", CASES)
def test_standard_problems(case):
    case(CONVEXJAX())


def test_bounds_of_a_quadratic_program():
    problem = standard.qp_bound_attr()
    problem.solve(CONVEXJAX())
    problem.verify_objective(4)
    problem.verify_primal_values(4)


def test_an_ill_posed_linear_program():
    problem = standard.lp_7()
    problem.solve(CONVEXJAX())
    problem.verify_objective(4)


INFEASIBLE = [name for name in dir(standard.StandardTestInfeasibleProblems) if name.startswith("test_")]


@pytest.mark.parametrize("name", INFEASIBLE)
def test_infeasible_problems_have_certificates(name):
    getattr(standard.StandardTestInfeasibleProblems, name)(CONVEXJAX())


def small_problem():
    x, target = cp.Variable(3), cp.Parameter(3)
    return x, target, cp.Problem(cp.Minimize(cp.sum_squares(x - target)), [cp.sum(x) == 1, x >= 0])


def test_statistics_options_and_warm_start():
    x, target, problem = small_problem()
    target.value = np.array([0.9, 0.4, -1.0])
    solver = CONVEXJAX()
    problem.solve(solver=solver, tolerance=1e-10)
    stats = problem.solver_stats
    assert stats.solver_name == "CONVEXJAX" and stats.solve_time > 0
    assert isinstance(stats.extra_stats, cj.Solution) and stats.extra_stats.info.gap < 1e-10
    cold = stats.num_iters
    np.testing.assert_allclose(x.value, [0.75, 0.25, 0.0], atol=1e-9)
    target.value = np.array([0.91, 0.4, -1.0])
    problem.solve(solver=solver, tolerance=1e-10, warm_start=True)
    np.testing.assert_allclose(x.value, [0.755, 0.245, 0.0], atol=1e-9)
    assert problem.solver_stats.num_iters < cold
    with pytest.raises(ValueError, match=r"unknown option 'tolerence'"):
        problem.solve(solver=solver, tolerence=1e-3)
    with pytest.raises(cp.SolverError, match="mixed-integer"):
        cp.Problem(cp.Minimize(cp.Variable(integer=True))).solve(solver=solver)


def test_statuses(capfd):
    x = cp.Variable()
    unbounded = cp.Problem(cp.Minimize(x), [x <= 1])
    unbounded.solve(solver=CONVEXJAX())
    assert unbounded.status == cp.UNBOUNDED and unbounded.value == -np.inf
    bounded = cp.Problem(cp.Minimize(x), [x >= 1])
    with pytest.warns(UserWarning, match="inaccurate"):
        bounded.solve(solver=CONVEXJAX(), max_iters=1)
    assert bounded.status == cp.USER_LIMIT
    bounded.solve(solver=CONVEXJAX(), verbose=True)
    assert "primal" in capfd.readouterr().out


def test_float64_in_a_process_of_float32():
    x, target, problem = small_problem()
    target.value = np.array([0.9, 0.4, -1.0])
    with jax.enable_x64(False):
        problem.solve(solver=CONVEXJAX())
        assert jnp.ones(1).dtype == np.float32
    np.testing.assert_allclose(x.value, [0.75, 0.25, 0.0], atol=1e-7)


# ------------------------------------------------------------------------------------------------- functions


def linear_program():
    x, c, b = cp.Variable(3), cp.Parameter(3), cp.Parameter(2)
    A = np.array([[1.0, 2.0, 1.0], [0.5, -1.0, 2.0]])
    problem = cp.Problem(cp.Maximize(c @ x + 3), [A @ x <= b, x >= 0, cp.sum(x) <= 4])
    return problem, [c, b], [x, problem.constraints[0].dual_variables[0]], [[1.0, 2.0, 1.5], [4.0, 3.0]], False


def quadratic_program():
    x, S, A, b = cp.Variable(3), cp.Parameter((3, 3), PSD=True), cp.Parameter((4, 3)), cp.Parameter(4)
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3))
    problem = cp.Problem(cp.Minimize(cp.quad_form(x, S) + cp.sum_squares(A @ x - b)), [x >= 0.1])
    return problem, [S, A, b], [x], [root @ root.T, rng.normal(size=(4, 3)), rng.normal(size=4)], False


def second_order_program():
    x, y, t, A = cp.Variable(3), cp.Variable(), cp.Parameter(nonneg=True), cp.Parameter((3, 3))
    problem = cp.Problem(cp.Minimize(cp.norm(A @ x - 1) + t * cp.norm1(x) + y), [cp.SOC(y, x - 2), x <= 1.5])
    values = [0.3, np.random.default_rng(1).normal(size=(3, 3))]
    return problem, [t, A], [x, *problem.constraints[0].dual_variables], values, False


def semidefinite_program():
    X, D, C = cp.Variable((3, 3), symmetric=True), cp.Variable((3, 3), diag=True), cp.Parameter((3, 3), symmetric=True)
    problem = cp.Problem(
        cp.Minimize(cp.trace(C @ X) + cp.sum_squares(D - X)), [X >> 0, cp.trace(X) == 1, X[0, 1] >= 0.1]
    )
    C_value = np.array([[1.0, 0.3, -0.2], [0.3, 2.0, 0.5], [-0.2, 0.5, 0.7]])
    return problem, [C], [X, D, problem.constraints[0].dual_variables[0]], [C_value], False


def entropy():
    x, q = cp.Variable(4), cp.Parameter(4, nonneg=True)
    problem = cp.Problem(cp.Minimize(cp.sum(cp.kl_div(x, q))), [cp.sum(x) == 1, x[0] >= 0.4])
    return problem, [q], [x], [[0.1, 0.2, 0.3, 0.4]], False


def determinant():
    X, S = cp.Variable((2, 2), symmetric=True), cp.Parameter((2, 2), symmetric=True)
    problem = cp.Problem(cp.Minimize(cp.trace(S @ X) - cp.log_det(X)), [X[0, 1] >= -0.1])
    return problem, [S], [X], [np.array([[2.0, 0.8], [0.8, 1.5]])], False


def powers():
    x, c = cp.Variable(3), cp.Parameter(3, nonneg=True)
    problem = cp.Problem(cp.Maximize(cp.geo_mean(x)), [c @ cp.power(x, 1.5) <= 2])
    return problem, [c], [x], [[1.0, 2.0, 0.5]], False


def geometric_program():
    h, w, d = (cp.Variable(pos=True) for _ in range(3))
    wall, floor, ratio = (cp.Parameter(pos=True) for _ in range(3))
    problem = cp.Problem(cp.Maximize(h * w * d), [2 * (h * w + h * d) <= wall, w * d <= floor, h / w <= ratio])
    return problem, [wall, floor, ratio], [h, w, d], [100.0, 30.0, 0.8], True


PROBLEMS = [
    linear_program,
    quadratic_program,
    second_order_program,
    semidefinite_program,
    entropy,
    determinant,
    powers,
    geometric_program,
]


def direction(values):
    """One for each value, symmetric where the value is."""
    rng = np.random.default_rng(7)
    tangents = [rng.normal(size=np.shape(value)) for value in values]
    square = lambda v: np.ndim(v) == 2 and np.shape(v)[0] == np.shape(v)[1] and np.allclose(v, np.transpose(v))
    return tuple(t + t.T if square(v) else t for t, v in zip(tangents, values, strict=True))


@pytest.mark.parametrize("make", PROBLEMS, ids=lambda make: make.__name__)
def test_functions(make):
    problem, parameters, variables, values, gp = make()
    values = tuple(np.asarray(value, float) for value in values)
    f = from_cvxpy(problem, parameters, variables, gp=gp, options=cj.Options(polish=True))
    tangents = direction(values)
    both = jax.jit(lambda values, tangents: jax.jvp(lambda *v: (f(*v).x, f(*v).objective), values, tangents))
    (found, objective), (moved, slope) = both(values, tangents)

    for parameter, value in zip(parameters, values, strict=True):
        parameter.value = value
    expected = problem.solve(solver=cp.CLARABEL, gp=gp)
    np.testing.assert_allclose(objective, expected, rtol=1e-6)
    for variable, value in zip(variables, found, strict=True):
        wanted = variable.value.toarray() if hasattr(variable.value, "toarray") else variable.value
        np.testing.assert_allclose(np.reshape(value, np.shape(wanted)), wanted, atol=2e-4)

    step = 1e-5
    ahead, behind = (
        both(tuple(v + sign * step * t for v, t in zip(values, tangents, strict=True)), tangents)[0] for sign in (1, -1)
    )
    differences = jax.tree.map(lambda a, b: (a - b) / (2 * step), ahead, behind)
    for derivative, difference in zip(jax.tree.leaves((moved, slope)), jax.tree.leaves(differences), strict=True):
        np.testing.assert_allclose(derivative, difference, atol=1e-5 * (1 + np.abs(difference).max()))


def test_batches_have_a_status_a_lane():
    x, target, problem = small_problem()
    limit = cp.Parameter()
    problem = cp.Problem(problem.objective, [cp.sum(x) == 1, x >= limit])
    f = from_cvxpy(problem, [limit, target], [x])
    limits = jnp.array([0.0, 1.0, 0.1])
    targets = jnp.array([[0.9, 0.4, -1.0]] * 3)
    solutions = jax.vmap(f)(limits, targets)
    assert solutions.status.tolist() == [cj.Status.SOLVED, cj.Status.PRIMAL_INFEASIBLE, cj.Status.SOLVED]
    gradient = jax.grad(lambda t: jnp.sum(jax.vmap(f)(limits, t).x[0][:, 0]))(targets)
    np.testing.assert_allclose(gradient, [[0.5, -0.5, 0], [0, 0, 0], [0.5, -0.5, 0]], atol=1e-6)


def test_what_cannot_become_a_function():
    x, target, problem = small_problem()
    other = cp.Parameter(3, name="other")
    with pytest.raises(ValueError, match=r"missing \['param.*'\], not in the problem \['other'\]"):
        from_cvxpy(problem, [other], [x])
    with pytest.raises(ValueError, match=r"variables must be the problem's"):
        from_cvxpy(problem, [target], [cp.Variable(name="else")])
    with pytest.raises(ValueError, match=r"\(DPP\)"):
        from_cvxpy(cp.Problem(cp.Minimize(cp.sum_squares(x)), [x >= cp.exp(target)[0] * target[1]]), [target], [x])
    with pytest.raises(ValueError, match="integer"):
        from_cvxpy(cp.Problem(cp.Minimize(cp.Variable(integer=True))), [], [])
    with pytest.raises(ValueError, match="complex"):
        from_cvxpy(cp.Problem(cp.Minimize(cp.norm(cp.Variable(2, complex=True)))), [], [])
    with pytest.raises(ValueError, match=r"problem must be a cvxpy.Problem, got int"):
        from_cvxpy(3, [], [])
    f = from_cvxpy(problem, [target], [x])
    with pytest.raises(ValueError, match=r"parameters\[0\] .* must have shape \(3,\), got \(2, 3\); use vmap"):
        f(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="takes 1 values"):
        f()
