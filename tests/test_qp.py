"""`solve_qp` and `solve_lp`: known solutions, the named duals and their signs, infeasible and unbounded programs."""

import jax
import numpy as np
import pytest
from helpers import certify_qp, near, size
from hypothesis import given
from hypothesis import strategies as st

import convexjax as cj

pytestmark = pytest.mark.core

Status = cj.Status
INF = np.inf


def solve(P, q, tolerance=1e-8, expected=Status.SOLVED, **constraints):
    """Solve and certify."""
    constraints = {name: np.asarray(value, float) for name, value in constraints.items()}
    P, q = None if P is None else np.asarray(P, float), np.asarray(q, float)
    solution = cj.solve_qp(P, q, **constraints)
    certify_qp(P, q, **constraints, solution=solution, tolerance=tolerance, expected=expected)
    return solution


# ----------------------------------------------------------------------------- known solutions, every dual by name


def test_inequality_and_bound():
    # min |x|^2 - 2 x1 - 5 x2, x1 + 2 x2 <= 3, x >= 0
    solution = solve(2 * np.eye(2), [-2, -5], G=[[1, 2]], h=[3], lb=0)
    near(solution.x, [0.4, 1.3])
    near(solution.z, [1.2])
    near(solution.z_lb, [0, 0])
    near(solution.s, [0])
    near(solution.objective, 0.16 + 1.69 - 0.8 - 6.5)
    assert solution.y is None
    assert solution.z_ub is None


def test_signs_of_all_duals():
    """Each kind of constraint is active once, with a multiplier of its own."""
    # min 1/2 |x - t|^2, t = (3, 4, -5, 7): x1 + x2 = 1, x2 <= 1/2 by a row, x3 >= -2, x4 <= 6
    t = np.array([3.0, 4.0, -5.0, 7.0])
    solution = solve(
        np.eye(4),
        -t,
        G=[[0, 1, 0, 0]],
        h=[0.5],
        A=[[1, 1, 0, 0]],
        b=[1],
        lb=[-INF, -INF, -2, -INF],
        ub=[INF, INF, INF, 6],
    )
    near(solution.x, [0.5, 0.5, -2, 6])
    near(solution.y, [2.5])  # x1 - 3 + y = 0
    near(solution.z, [1])  # x2 - 4 + y + z = 0
    near(solution.z_lb, [0, 0, 3, 0])
    near(solution.z_ub, [0, 0, 0, 1])


def test_signs_of_equation_and_inequality():
    # min 1/2 |x - (3, 5)|^2, x1 + x2 = 1, x2 <= 0: y = 2, z = 3
    solution = solve(np.eye(2), [-3, -5], G=[[0, 1]], h=[0], A=[[1, 1]], b=[1])
    near(solution.x, [1, 0])
    near(solution.y, [2])
    near(solution.z, [3])


@pytest.mark.parametrize("sides", ["lb", "ub", "both"])
def test_bounds_only(sides):
    t = np.array([-3.0, 0.2, 5.0])
    bounds = {"lb": {"lb": -1.0}, "ub": {"ub": 1.0}, "both": {"lb": -1.0, "ub": 1.0}}[sides]
    solution = solve(np.eye(3), -t, **bounds)
    x = np.clip(t, bounds.get("lb", -INF), bounds.get("ub", INF))
    near(solution.x, x)
    if "lb" in bounds:
        near(solution.z_lb, np.maximum(x - t, 0))
    if "ub" in bounds:
        near(solution.z_ub, np.maximum(t - x, 0))
    assert solution.s is None


def test_equations_only():
    rng = np.random.default_rng(0)
    M, A, b, q = rng.normal(size=(5, 5)), rng.normal(size=(2, 5)), rng.normal(size=2), rng.normal(size=5)
    P = M @ M.T
    solution = solve(P, q, A=A, b=b)
    system = np.block([[P, A.T], [A, np.zeros((2, 2))]])
    known = np.linalg.solve(system, np.concatenate([-q, b]))
    near(solution.x, known[:5], 1e-6)
    near(solution.y, known[5:], 1e-6)


def test_no_constraints():
    solution = solve(np.diag([1, 4]), [-1, -8])
    near(solution.x, [1, 2])
    assert (solution.s, solution.y, solution.z, solution.z_lb, solution.z_ub) == (None,) * 5
    solve(np.diag([1, 0]), [-1, -8], expected=Status.DUAL_INFEASIBLE)
    near(solve(np.diag([1, 0]), [-1, 0]).x[0], 1)


def test_one_variable():
    near(solve([[1]], [-3], ub=1).x, [1])
    near(solve(None, [-3], ub=1).z_ub, [3])
    near(solve(None, [1], A=[[2]], b=[4]).y, [-0.5])
    solve(None, [1], ub=1, expected=Status.DUAL_INFEASIBLE)
    solve(None, [1], lb=2, ub=1, expected=Status.PRIMAL_INFEASIBLE)


def test_no_variables():
    empty = np.zeros((0, 0))
    assert cj.solve_qp(empty, np.zeros(0)).status == Status.SOLVED
    assert cj.solve_lp(np.zeros(0), G=np.zeros((1, 0)), h=[1.0]).status == Status.SOLVED
    assert cj.solve_lp(np.zeros(0), A=np.zeros((1, 0)), b=[1.0]).status == Status.PRIMAL_INFEASIBLE


def test_blocks_without_rows():
    empty = {"G": np.zeros((0, 2)), "h": np.zeros(0), "A": np.zeros((0, 2)), "b": np.zeros(0)}
    solution = solve(np.diag([1, 4]), [-1, -8], **empty)
    near(solution.x, [1, 2])
    assert solution.y.shape == solution.z.shape == solution.s.shape == (0,)


def test_infinite_bounds_and_rows():
    """Infinite sides have no effect and a dual of zero; 1e20 and 1e30 say the same."""
    P, q, G = np.eye(3), np.array([-3.0, 0.5, 4.0]), np.array([[1.0, 1.0, 0.0], [0.0, 0.0, -1.0]])
    for infinite in (INF, 1e20, 1e30):
        solution = solve(P, q, G=G, h=[infinite, 1], lb=[-infinite, 0, -infinite], ub=[2, infinite, infinite])
        near(solution.x, [2, 0, -1])
        near(solution.z, [0, 3])
        near(solution.z_ub, [1, 0, 0])
        near(solution.z_lb, [0, 0.5, 0])
    free = solve(P, q, lb=-INF, ub=INF)
    near(free.x, -q)
    assert size(np.asarray(free.z_lb), np.asarray(free.z_ub)) == 0


def test_lower_bound_of_plus_infinity_is_never_solved():
    for bounds in ({"lb": INF}, {"ub": -INF}):
        solution = cj.solve_qp(np.eye(2), np.ones(2), **bounds)
        assert solution.status in (Status.PRIMAL_INFEASIBLE, Status.NUMERICAL_ERROR)


def test_fixed_variables():
    """lb = ub leaves nothing to choose; the difference of the duals is determined."""
    solution = solve(np.eye(3), [-1, -1, -1], lb=[0.5, 2, -1], ub=[0.5, 2, 5])
    near(solution.x, [0.5, 2, 1])
    near(solution.z_ub - solution.z_lb, [0.5, -1, 0], 1e-6)


def test_zero_multipliers():
    """The unconstrained minimum lies on the boundary: active rows with a multiplier of zero."""
    solution = solve(np.eye(2), [-1, -1], G=[[1, 0], [0, 1], [1, 1]], h=[1, 1, 2])
    # without strict complementarity the error is the square root of the gap
    near(solution.x, [1, 1], 1e-4)
    near(solution.z, [0, 0, 0], 1e-4)


# ----------------------------------------------------------------------------- redundancy and degeneracy


def test_redundant_equations():
    A = np.array([[1.0, 1, 1], [2, 2, 2], [1, -1, 0], [0, 0, 0]])
    solution = solve(np.eye(3), [0, 0, 0], A=A, b=[3, 6, 0, 0])
    near(solution.x, [1, 1, 1])
    near(A.T @ np.asarray(solution.y), [-1, -1, -1])
    solve(np.eye(3), [0, 0, 0], A=A, b=[3, 6.5, 0, 0], expected=Status.PRIMAL_INFEASIBLE)
    solve(np.eye(3), [0, 0, 0], A=A, b=[3, 6, 0, 0.5], expected=Status.PRIMAL_INFEASIBLE)


def test_fifty_copies_of_one_row():
    solution = solve(np.eye(2), [-3, -3], G=np.ones((50, 2)), h=np.full(50, 2.0))
    near(solution.x, [1, 1])
    near(np.sum(solution.z), 2)


def test_fifty_copies_of_one_equation():
    solution = solve(np.eye(2), [-3, -3], A=np.ones((50, 2)), b=np.full(50, 2.0))
    near(solution.x, [1, 1])
    near(np.sum(solution.y), 2)


def test_whole_face_of_optima():
    """An interior-point method ends inside the face: strict complementarity."""
    solution = solve(None, [1, 1, 0], A=[[1, 1, 0]], b=[1], lb=0, ub=[INF, INF, 1])
    near(solution.objective, 1)
    assert np.min(solution.x) > 0.05
    assert solution.x[2] < 0.95


def test_single_feasible_point():
    solution = solve(None, [1, 2], G=[[1, 1], [-1, 0], [0, -1]], h=[0, 0, 0])
    near(solution.x, [0, 0])
    solution = solve(np.eye(2), [1, 2], A=[[1, 1], [1, -1]], b=[3, 1], lb=0)
    near(solution.x, [2, 1])


def test_free_variables():
    """Columns without bounds, and one that only enters an equation."""
    solution = solve(None, [1, 0, 0], G=[[-1, 1, 0], [-1, -1, 0]], h=[0, 0], A=[[0, 1, 1]], b=[3])
    near(solution.objective, 0)
    near(solution.x[0], 0)
    near(solution.x[1] + solution.x[2], 3)


def test_zero_rows_and_columns():
    solution = solve([[2, 0], [0, 0]], [-2, 0], G=[[0, 0], [1, 0]], h=[1, 0.5], A=[[0, 0]], b=[0])
    near(solution.x[0], 0.5)
    solve(None, [0, 1], G=[[1, 0]], h=[1], expected=Status.DUAL_INFEASIBLE)
    solve(None, [0, 0], G=[[0, 0]], h=[-1], expected=Status.PRIMAL_INFEASIBLE)


def test_no_objective():
    solution = solve(None, [0, 0], G=[[1, 1]], h=[1], lb=0)
    near(solution.objective, 0)


@pytest.mark.parametrize("n", [3, 8])
def test_klee_minty(n):
    """max sum 10^(n - j) x_j, 2 sum_(j < i) 10^(i - j) x_j + x_i <= 100^(i - 1): x = (0, ..., 0, 100^(n - 1))."""
    i, j = np.mgrid[:n, :n]
    G = np.where(j < i, 2 * 10.0 ** (i - j), np.eye(n))
    solution = solve(None, -(10.0 ** np.arange(n - 1, -1, -1)), G=G, h=100.0 ** np.arange(n), lb=0)
    near(solution.objective / 100 ** (n - 1), -1)
    near(solution.x / 100 ** (n - 1), np.eye(n)[-1])


def test_beale():
    """Beale's example, on which the simplex method cycles: -1/20."""
    solution = solve(
        None, [-0.75, 20, -0.5, 6], G=[[0.25, -8, -1, 9], [0.5, -12, -0.5, 3], [0, 0, 1, 0]], h=[0, 0, 1], lb=0
    )
    near(solution.objective, -1.25)
    near(solution.x, [1, 0, 1, 0])


@pytest.mark.parametrize("n", [4, 10])
def test_hilbert(n):
    """P the Hilbert matrix, of condition 1e4 and 1e13: the value and the residuals, x only as far as P tells."""
    i, j = np.mgrid[:n, :n]
    P = 1 / (i + j + 1.0)
    solution = solve(P, -P.sum(1), lb=0, ub=2)
    near(solution.objective, -P.sum() / 2)
    near(P @ np.asarray(solution.x), P.sum(1), 1e-6)


# ----------------------------------------------------------------------------- units


@pytest.mark.parametrize("c", [1e-8, 1e-3, 1e6, 1e8])
def test_units_of_the_objective(c):
    """An objective times c is the same problem with duals times c, to the same relative accuracy."""
    q = np.array([-2.0, -5.0])
    solution = cj.solve_qp(2 * c * np.eye(2), c * q, G=[[1.0, 2.0]], h=[3.0], lb=0.0)
    assert solution.status == Status.SOLVED
    near(solution.x, [0.4, 1.3])
    near(solution.z / c, [1.2])
    near(solution.objective / c, -5.45)


@pytest.mark.parametrize("beta", [1e-8, 1e-3, 1e6, 1e8])
def test_units_of_the_variables(beta):
    solution = cj.solve_qp(2 / beta * np.eye(2), [-2.0, -5.0], G=[[1.0, 2.0]], h=[3.0 * beta], lb=0.0)
    assert solution.status == Status.SOLVED
    near(solution.x / beta, [0.4, 1.3])
    near(solution.z, [1.2])


def test_units_of_rows_and_columns():
    rows, columns = np.array([1e-6, 1e6]), np.array([1e4, 1e-5])
    G, h = np.array([[1.0, 2.0], [1.0, 0.0]]), np.array([3.0, 0.2])
    P, q = 2 * np.eye(2), np.array([-2.0, -5.0])
    plain = solve(P, q, G=G, h=h, lb=0)
    scaled = cj.solve_qp(
        columns[:, None] * P * columns, columns * q, G=rows[:, None] * G * columns, h=rows * h, lb=np.zeros(2)
    )
    assert scaled.status == Status.SOLVED
    near(scaled.x * columns, plain.x)
    near(scaled.z * rows, plain.z)


# ----------------------------------------------------------------------------- certificates


def test_infeasible_certificate_uses_every_block():
    # x1 + x2 = 3, x1 - x2 <= -5 with 0 <= x <= 1: rows and bounds contradict each other
    solution = solve(
        np.eye(2), [1, 1], G=[[1, -1]], h=[-5], A=[[1, 1]], b=[3], lb=0, ub=1, expected=Status.PRIMAL_INFEASIBLE
    )
    assert solution.objective == INF


def test_crossing_bounds_are_infeasible():
    solution = solve(np.eye(3), [1, 1, 1], lb=[0, 2, 0], ub=[1, 1, 1], expected=Status.PRIMAL_INFEASIBLE)
    # z_lb - z_ub = 0 and ub'z_ub - lb'z_lb = -1
    near(solution.z_lb, solution.z_ub, 1e-6)
    assert solution.z_lb[1] >= 1 - 1e-6


def test_unbounded_ray():
    solution = solve([[1, 0], [0, 0]], [1, -1], G=[[1, 0]], h=[1], lb=0, expected=Status.DUAL_INFEASIBLE)
    near(solution.x, [0, 1], 1e-6)
    assert solution.objective == -INF


def test_infeasible_and_unbounded_at_once():
    """Both certificates exist; either is right."""
    G, h = np.array([[1.0, 0.0], [-1.0, 0.0]]), np.array([-1.0, 0.0])
    solution = cj.solve_lp([0.0, -1.0], G=G, h=h)
    assert solution.status in (Status.PRIMAL_INFEASIBLE, Status.DUAL_INFEASIBLE)
    certify_qp(None, [0.0, -1.0], G=G, h=h, solution=solution, expected=int(solution.status))


# ----------------------------------------------------------------------------- random programs of one shape

SHAPE = n, m, p = 6, 8, 2
general = jax.jit(cj.solve_qp)


def general_program(rng):
    """A program with every kind of constraint and its solution: (P, q, G, h, A, b, lb, ub), x."""
    x, y = rng.normal(size=n), rng.normal(size=p)
    G, A, M = rng.normal(size=(m, n)), rng.normal(size=(p, n)), rng.normal(size=(n, n // 2))
    active = rng.uniform(size=m) < 0.4
    s, z = rng.uniform(0.1, 2, m) * ~active, rng.uniform(0.1, 2, m) * active
    side = rng.integers(0, 3, n)  # at the lower bound, at the upper bound, between (or without)
    gap_l, gap_u = rng.uniform(0.1, 2, (2, n))
    lb, ub = np.where(side == 0, x, x - gap_l), np.where(side == 1, x, x + gap_u)
    lb, ub = np.where((side == 2) & (gap_l > 1), -INF, lb), np.where((side == 2) & (gap_u > 1), INF, ub)
    w = rng.uniform(0.1, 2, n)
    P = M @ M.T
    q = -(P @ x + G.T @ z + A.T @ y + w * (side == 1) - w * (side == 0))
    return (P, q, G, G @ x + s, A, A @ x, lb, ub), x


@given(seed=st.integers(0, 2**32 - 1))
def test_random_programs_from_known_solutions(seed):
    program, x = general_program(np.random.default_rng(seed))
    solution = general(*program)
    certify_qp(*program, solution=solution)
    P, q = program[:2]
    near(solution.objective, x @ P @ x / 2 + q @ x)


@given(seed=st.integers(0, 2**32 - 1))
def test_random_infeasible_programs(seed):
    """Rows of G made to contradict each other (and the equations), certificate known."""
    rng = np.random.default_rng(seed)
    (P, q, G, h, A, b, lb, ub), _ = general_program(rng)
    z, y = rng.uniform(0.1, 1, m), rng.normal(size=p)
    G[0] = -(z[1:] @ G[1:] + y @ A) / z[0]
    h[0] = -(1 + z[1:] @ h[1:] + y @ b) / z[0]
    solution = general(P, q, G, h, A, b, lb, ub)
    certify_qp(P, q, G, h, A, b, lb, ub, solution=solution, expected=Status.PRIMAL_INFEASIBLE)


@given(seed=st.integers(0, 2**32 - 1))
def test_random_unbounded_programs(seed):
    rng = np.random.default_rng(seed)
    (P, q, G, h, A, b, lb, ub), _ = general_program(rng)
    ray = rng.normal(size=n)
    off = lambda M, to=0.0: M - np.outer(M @ ray - to, ray) / (ray @ ray)
    A, G = off(A), off(G, -rng.uniform(0.1, 1, m))
    P = off(off(P).T)
    q = q - ray * (q @ ray + 1) / (ray @ ray)
    x = rng.normal(size=n)
    h, b = G @ x + rng.uniform(0.1, 1, m), A @ x
    lb, ub = np.where(ray > 0, x - 1, -INF), np.where(ray < 0, x + 1, INF)
    solution = general(P, q, G, h, A, b, lb, ub)
    certify_qp(P, q, G, h, A, b, lb, ub, solution=solution, expected=Status.DUAL_INFEASIBLE)


def test_bounds_are_the_same_as_rows():
    (P, q, G, h, A, b, lb, ub), _ = general_program(np.random.default_rng(3))
    P = P + np.eye(n)
    bounds = general(P, q, G, h, A, b, lb, ub)
    rows = general(P, q, np.concatenate([G, -np.eye(n), np.eye(n)]), np.concatenate([h, -lb, ub]), A, b)
    near(bounds.x, rows.x, 1e-6)
    near(bounds.objective, rows.objective)


def test_linear_program_is_a_quadratic_one_without_P():
    (_, q, G, h, A, b, lb, ub), _ = general_program(np.random.default_rng(4))
    lb, ub = np.maximum(lb, -5), np.minimum(ub, 5)
    lp = cj.solve_lp(q, G, h, A, b, lb, ub)
    certify_qp(None, q, G, h, A, b, lb, ub, solution=lp)
    qp = general(np.zeros((n, n)), q, G, h, A, b, lb, ub)
    near(lp.objective, qp.objective)


def test_single_precision():
    program, x = general_program(np.random.default_rng(5))
    program = [np.asarray(v, np.float32) for v in program]
    solution = general(*program)
    assert solution.x.dtype == solution.objective.dtype == solution.z_lb.dtype == np.float32
    certify_qp(*[np.asarray(v, float) for v in program], solution=solution, tolerance=1e-5)
