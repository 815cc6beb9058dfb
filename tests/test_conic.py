"""`solve_conic`: known solutions, random programs over each cone and over all, and every claim with its proof."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
    certify_conic,
    infeasible_program,
    lane,
    size,
    solved_program,
    stack,
    unbounded_program,
)

import convexjax as cj
from convexjax.cones import CONES

pytestmark = pytest.mark.core

Status = cj.Status
LANES = 6

# name: (variables, cones); every cone of the registry alone, and all of them in an arbitrary order of rows.
PRODUCTS = {
    "Zero": (5, [cj.Zero(3)]),
    "Nonnegative": (4, [cj.Nonnegative(9)]),
    "SecondOrder": (4, [cj.SecondOrder(3, count=2), cj.SecondOrder(4)]),
    "PSD": (4, [cj.PSD(3, count=2)]),
    "Exponential": (4, [cj.Exponential(3)]),
    "Power": (4, [cj.Power(jnp.array([0.5, 0.2, 0.85]))]),
    "all": (
        8,
        [
            cj.Exponential(1),
            cj.Nonnegative(2),
            cj.PSD(2),
            cj.Zero(1),
            cj.Power(jnp.array([0.3])),
            cj.SecondOrder(3),
            cj.Zero(1),
            cj.Exponential(1),
            cj.Nonnegative(1),
            cj.SecondOrder(3),
            cj.Power(jnp.array([0.7])),
            cj.PSD(2),
        ],
    ),
}
_batched = {
    name: jax.jit(jax.vmap(lambda P, q, A, b, cones=cones: cj.solve_conic(P, q, A, b, cones)))
    for name, (_, cones) in PRODUCTS.items()
}


def solve_all(name, programs):
    solution = _batched[name](*stack(programs))
    return [lane(solution, i) for i in range(len(programs))]


def test_every_cone_has_random_programs():
    assert {cone.__name__ for cone in CONES} == set(PRODUCTS) - {"all"}


@pytest.mark.parametrize("name", PRODUCTS)
def test_random_programs_from_known_solutions(name):
    n, cones = PRODUCTS[name]
    rng = np.random.default_rng(1)
    programs, values = zip(*(solved_program(rng, n, cones) for _ in range(LANES)), strict=True)
    for program, value, solution in zip(programs, values, solve_all(name, programs), strict=True):
        certify_conic(*program, cones, solution)
        # the gap of a certified pair bounds the error of the value
        assert abs(float(solution.objective) - value) <= 1e-7 * max(1, abs(value))


@pytest.mark.parametrize("name", PRODUCTS)
def test_random_linear_objectives(name):
    n, cones = PRODUCTS[name]
    rng = np.random.default_rng(2)
    programs, values = zip(*(solved_program(rng, n, cones, rank=0) for _ in range(LANES)), strict=True)
    for program, value, solution in zip(programs, values, solve_all(name, programs), strict=True):
        certify_conic(*program, cones, solution)
        assert abs(float(solution.objective) - value) <= 1e-7 * max(1, abs(value))


@pytest.mark.parametrize("name", PRODUCTS)
def test_random_infeasible_programs(name):
    n, cones = PRODUCTS[name]
    rng = np.random.default_rng(3)
    programs = [infeasible_program(rng, n, cones) for _ in range(LANES)]
    for program, solution in zip(programs, solve_all(name, programs), strict=True):
        # equations alone leave a linear objective unbounded along their null space: then either claim is right
        both = name == "Zero" and solution.status == Status.DUAL_INFEASIBLE
        expected = Status.DUAL_INFEASIBLE if both else Status.PRIMAL_INFEASIBLE
        # the ray is measured with the solver's own scaling of its rows
        certify_conic(*program, cones, solution, 2e-8 if both else 1e-8, expected=expected)


@pytest.mark.parametrize("name", PRODUCTS)
def test_random_unbounded_programs(name):
    n, cones = PRODUCTS[name]
    rng = np.random.default_rng(4)
    programs = [unbounded_program(rng, n, cones) for _ in range(LANES)]
    for program, solution in zip(programs, solve_all(name, programs), strict=True):
        certify_conic(*program, cones, solution, expected=Status.DUAL_INFEASIBLE)


@pytest.mark.parametrize("exponents", [(-8, 0), (8, 0), (0, -8), (0, 8), (-6, 6)], ids=str)
def test_units_of_objective_and_right_hand_side_do_not_matter(exponents):
    """q times c and b times beta multiply the duals by c, the solution by beta (P by c / beta)."""
    n, cones = PRODUCTS["all"]
    c, beta = 10.0 ** np.array(exponents)
    rng = np.random.default_rng(5)
    programs, values = zip(*(solved_program(rng, n, cones) for _ in range(LANES)), strict=True)
    scaled = [(P * c / beta, q * c, A, b * beta) for P, q, A, b in programs]
    for (P, q, A, b), value, solution in zip(programs, values, solve_all("all", scaled), strict=True):
        back = cj.Solution(
            x=solution.x / beta,
            s=solution.s / beta,
            z=solution.z / c,
            objective=solution.objective / (c * beta),
            status=solution.status,
            info=solution.info,
        )
        certify_conic(P, q, A, b, cones, back)
        assert abs(back.objective - value) <= 1e-7 * max(1, abs(value))


def test_rows_in_any_order_give_the_same_answer():
    """Permuting the cones permutes s and z."""
    n, cones = PRODUCTS["all"]
    (P, q, A, b), _ = solved_program(np.random.default_rng(6), n, cones, rank=n)
    order = np.random.default_rng(7).permutation(len(cones))
    first = np.concatenate([[0], np.cumsum([cone.rows for cone in cones])])
    rows = np.concatenate([np.arange(first[i], first[i + 1]) for i in order])
    one = cj.solve_conic(P, q, A, b, cones)
    other = cj.solve_conic(P, q, A[rows], b[rows], [cones[i] for i in order])
    certify_conic(P, q, A, b, cones, one)
    # P is positive definite, so x is unique, to the square root of the gap
    assert size(np.asarray(one.x) - np.asarray(other.x)) <= 1e-5
    assert size(np.asarray(one.s)[rows] - np.asarray(other.s)) <= 1e-5


# name: (P, q, A, b, cones, x, z), z where it is unique
R2 = np.sqrt(2)
KNOWN = {
    # min x1 + x2, |x| <= 1
    "unit disk": (
        None,
        [1, 1],
        [[0, 0], [-1, 0], [0, -1]],
        [1, 0, 0],
        [cj.SecondOrder(3)],
        [-1 / R2, -1 / R2],
        [R2, 1, 1],
    ),
    # min x, [[x, 1], [1, x]] psd
    "matrix": (None, [1], [[-1], [0], [-1]], [0, R2, 0], [cj.PSD(2)], [1], [0.5, -1 / R2, 0.5]),
    # min w, exp(1) <= w
    "exponential": (None, [1], [[0], [0], [-1]], [1, 1, 0], [cj.Exponential()], [np.e], [-np.e, 0, 1]),
    # max w, |w| <= 2^a 3^(1 - a)
    "power": (
        None,
        [-1],
        [[0], [0], [-1]],
        [2, 3, 0],
        [cj.Power(jnp.array([0.25]))],
        [2**0.25 * 3**0.75],
        [0.125 * 2**0.25 * 3**0.75, 0.25 * 2**0.25 * 3**0.75, -1],
    ),
    # min 1/2 |x|^2, x1 + x2 = 2
    "equality only": (np.eye(2), [0, 0], [[1, 1]], [2], [cj.Zero(1)], [1, 1], [-1]),
    # min 1/2 (x - 3)^2, x <= 1
    "one variable": ([[1]], [-3], [[1]], [1], [cj.Nonnegative(1)], [1], [2]),
    # the same with the cone |0| <= s
    "second-order cone of size one": ([[1]], [-3], [[1]], [1], [cj.SecondOrder(1)], [1], [2]),
    "matrix of side one": ([[1]], [-3], [[1]], [1], [cj.PSD(1)], [1], [2]),
    "no rows": (np.diag([1, 4]), [-1, -8], np.zeros((0, 2)), [], [], [1, 2], []),
    "empty cones": (
        [[1]],
        [-3],
        [[1]],
        [1],
        [cj.Zero(0), cj.PSD(0), cj.Nonnegative(1), cj.SecondOrder(3, count=0), cj.Exponential(0), cj.PSD(2, count=0)],
        [1],
        [2],
    ),
    "empty power cone": ([[1]], [-3], [[1]], [1], [cj.Power(jnp.zeros(0)), cj.Nonnegative(1)], [1], [2]),
    # a single feasible point, s = 0: x <= 1 and x >= 1; only the difference of the duals is determined
    "single point": (None, [1], [[1], [-1]], [1, -1], [cj.Nonnegative(2)], [1], None),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_solution(name):
    P, q, A, b, cones, x, z = KNOWN[name]
    P = None if P is None else np.asarray(P, float)
    q, A, b, x = (np.asarray(v, float) for v in (q, A, b, x))
    solution = cj.solve_conic(P, q, A, b, cones)
    certify_conic(P, q, A, b, cones, solution)
    # a curved boundary determines x to the square root of the tolerance only
    assert size(np.asarray(solution.x) - x) <= 1e-6
    assert z is None or size(np.asarray(solution.z) - np.asarray(z)) <= 1e-4


def test_no_variables():
    """A decision without unknowns: whether b is in K."""
    empty, cones = np.zeros((2, 0)), [cj.Nonnegative(2)]
    solved = cj.solve_conic(None, np.zeros(0), empty, [1.0, 2.0], cones)
    certify_conic(None, np.zeros(0), empty, np.array([1.0, 2.0]), cones, solved)
    infeasible = cj.solve_conic(None, np.zeros(0), empty, [1.0, -2.0], cones)
    certify_conic(None, np.zeros(0), empty, [1.0, -2.0], cones, infeasible, expected=Status.PRIMAL_INFEASIBLE)


def test_nothing_at_all():
    solution = cj.solve_conic(None, np.zeros(0), np.zeros((0, 0)), np.zeros(0), [])
    assert solution.status == Status.SOLVED
    assert solution.objective == 0


def test_no_rows_and_a_linear_objective_is_unbounded():
    q, A = np.array([1.0, -2.0]), np.zeros((0, 2))
    solution = cj.solve_conic(None, q, A, np.zeros(0), [])
    certify_conic(None, q, A, np.zeros(0), [], solution, expected=Status.DUAL_INFEASIBLE)


def test_zero_rows_and_columns():
    """A row of zeros that holds, and a variable that appears nowhere."""
    P, q = np.diag([1.0, 0.0]), np.array([-3.0, 0.0])
    A, b = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]), np.array([1.0, 5.0, 0.0])
    cones = [cj.Nonnegative(2), cj.Zero(1)]
    solution = cj.solve_conic(P, q, A, b, cones)
    certify_conic(P, q, A, b, cones, solution)
    assert size(np.asarray(solution.x)[:1] - 1) <= 1e-7


@pytest.mark.parametrize(("cone", "b"), [(cj.Zero(1), 1.0), (cj.Nonnegative(1), -1.0)], ids=["equation", "inequality"])
def test_zero_row_that_cannot_hold_is_infeasible(cone, b):
    q, A, b = np.array([1.0, 1.0]), np.array([[0.0, 0.0], [-1.0, 0.0], [0.0, -1.0]]), np.array([b, 0.0, 0.0])
    cones = [cone, cj.Nonnegative(2)]
    solution = cj.solve_conic(None, q, A, b, cones)
    certify_conic(None, q, A, b, cones, solution, expected=Status.PRIMAL_INFEASIBLE)


def test_redundant_and_contradictory_equations():
    row, cones = np.array([1.0, 2.0, -1.0]), [cj.Zero(3), cj.Nonnegative(3)]
    A = np.concatenate([row[None], row[None], 3 * row[None], -np.eye(3)])
    b, q = np.array([1.0, 1, 3, 0, 0, 0]), np.array([1.0, 1.0, 1.0])
    solution = cj.solve_conic(None, q, A, b, cones)
    certify_conic(None, q, A, b, cones, solution)
    assert abs(solution.objective - 0.5) <= 1e-8
    b = np.array([1.0, 1, 4, 0, 0, 0])
    solution = cj.solve_conic(None, q, A, b, cones)
    certify_conic(None, q, A, b, cones, solution, expected=Status.PRIMAL_INFEASIBLE)


@pytest.mark.parametrize("infinite", [1e20, 1e30, np.inf])
def test_infinite_right_hand_side_is_no_constraint(infinite):
    P, q, A = np.eye(2), np.array([-3.0, -1.0]), np.array([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    with_row = cj.solve_conic(P, q, A, [infinite, 1.0, infinite], [cj.Nonnegative(3)])
    certify_conic(P, q, A[1:2], [1.0], [cj.Nonnegative(1)], _only(with_row, 1))
    assert size(np.asarray(with_row.x) - [1, 1]) <= 1e-7
    assert np.all(np.asarray(with_row.z)[[0, 2]] == 0)
    assert np.all(np.asarray(with_row.s)[[0, 2]] == infinite)


def _only(solution, row):
    return cj.Solution(
        x=solution.x,
        s=solution.s[row : row + 1],
        z=solution.z[row : row + 1],
        objective=solution.objective,
        status=solution.status,
        info=solution.info,
    )


@pytest.mark.parametrize("where", ["P", "q", "A", "b"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_data_that_are_not_finite_end_at_once(where, bad):
    data = {
        "P": np.eye(2),
        "q": np.array([-3.0, -1.0]),
        "A": np.array([[1.0, 1.0], [1.0, 0.0]]),
        "b": np.array([1.0, 1.0]),
    }
    data[where] = data[where].copy()
    data[where].flat[0] = bad
    solution = cj.solve_conic(**data, cones=[cj.Nonnegative(2)])
    if where == "b" and bad == np.inf:
        assert solution.status == Status.SOLVED
    elif where == "b" and bad == -np.inf:
        assert solution.status in (Status.PRIMAL_INFEASIBLE, Status.NUMERICAL_ERROR)
    else:
        assert solution.status == Status.NUMERICAL_ERROR
        assert solution.info.num_iters == 0
        assert np.all(np.isnan(solution.x))


@pytest.mark.parametrize("infinite", [np.inf, -np.inf])
@pytest.mark.parametrize("cone", [cj.Zero(2), cj.SecondOrder(2), cj.PSD(1, count=2)], ids=str)
def test_infinite_right_hand_side_elsewhere_is_never_solved(cone, infinite):
    A = np.array([[1.0, 1.0], [1.0, 0.0]])
    solution = cj.solve_conic(np.eye(2), np.array([-3.0, -1.0]), A, [1.0, infinite], [cone])
    assert solution.status in (Status.PRIMAL_INFEASIBLE, Status.NUMERICAL_ERROR)


@pytest.mark.parametrize("P", [-np.eye(2), np.array([[0.0, 1.0], [1.0, 0.0]]), np.diag([1.0, -1e-6])], ids=str)
def test_indefinite_objective_is_a_status(P):
    solution = cj.solve_conic(P, np.zeros(2), np.eye(2), np.ones(2), [cj.Nonnegative(2)])
    assert solution.status == Status.NONCONVEX


def test_only_the_symmetric_part_of_P_counts():
    P, q, A, b = np.array([[2.0, 1.0], [-1.0, 2.0]]), np.array([-3.0, -4.0]), np.eye(2), np.ones(2)
    solution = cj.solve_conic(P, q, A, b, [cj.Nonnegative(2)])
    certify_conic(P, q, A, b, [cj.Nonnegative(2)], solution)
    assert size(np.asarray(solution.x) - 1) <= 1e-7


@pytest.mark.parametrize("max_iters", [0, 1])
def test_out_of_iterations_is_finite(max_iters):
    n, cones = PRODUCTS["all"]
    (P, q, A, b), _ = solved_program(np.random.default_rng(8), n, cones)
    solution = cj.solve_conic(P, q, A, b, cones, options=cj.Options(max_iters=max_iters))
    assert solution.status == Status.MAX_ITERATIONS
    assert solution.info.num_iters == max_iters
    assert all(np.all(np.isfinite(v)) for v in (solution.x, solution.s, solution.z, solution.objective))


def test_unattained_infimum_is_honest():
    """min x with [[x, 1], [1, y]] psd: the infimum 0 is approached as y grows, never attained."""
    A, b = np.array([[-1.0, 0.0], [0.0, 0.0], [0.0, -1.0]]), np.array([0.0, R2, 0.0])
    q = np.array([1.0, 0.0])
    solution = cj.solve_conic(None, q, A, b, [cj.PSD(2)])
    if solution.status == Status.SOLVED:
        certify_conic(None, q, A, b, [cj.PSD(2)], solution)
    else:
        assert solution.status in (Status.ALMOST_SOLVED, Status.NUMERICAL_ERROR, Status.MAX_ITERATIONS)
    assert np.all(np.isfinite(solution.x))
