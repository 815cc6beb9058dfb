"""The benchmarks' certificate accepts hand-known solutions and rejects every kind of wrong answer."""

from dataclasses import replace

import numpy as np
import pytest

# The benchmarks stand beside the package in the repository and are not shipped with it.
sparse = pytest.importorskip("scipy.sparse")
programs = pytest.importorskip("benchmarks.programs")
certificates = pytest.importorskip("benchmarks.certificates")

Answer, Cones, Reference = programs.Answer, programs.Cones, programs.Reference
TOLERANCE = 1e-9
INF = np.inf


def accepted(program, answer) -> bool:
    return certificates.certify(program, answer).worst <= TOLERANCE


def conic(q, A, b, P=None, **cones):
    P = None if P is None else sparse.csc_array(np.array(P, float))
    A, b, q = sparse.csc_array(np.array(A, float)), np.array(b, float), np.array(q, float)
    return programs.ConicProgram(name="test", P=P, q=q, A=A, b=b, cones=Cones(**cones))


def quadratic(P, q, A, sides, bounds):
    (l, u), (lb, ub) = np.array(sides, float).T, np.array(bounds, float).T
    P, A = sparse.csc_array(np.array(P, float)), sparse.csc_array(np.array(A, float))
    return programs.QuadraticProgram(name="test", P=P, q=np.array(q, float), A=A, l=l, u=u, lb=lb, ub=ub)


def answer(claim="solved", **values):
    return Answer(claim=claim, **{name: np.array(value, float) for name, value in values.items()})


ROOT = np.sqrt(2)

# name: (program, its solution), each over one cone with s = b - Ax.
SOLVED = {
    # minimise x1 + 2 x2 subject to x1 + x2 = 1, x >= 0
    "nonnegative": (
        conic([1, 2], [[1, 1], [-1, 0], [0, -1]], [1, 0, 0], zero=1, nonnegative=2),
        answer(x=[1, 0], s=[0, 1, 0], z=[-1, 0, 1]),
    ),
    # minimise 1/2 x^2 - x subject to x <= 0
    "quadratic objective": (
        conic([-1], [[1]], [0], P=[[1]], nonnegative=1),
        answer(x=[0], s=[0], z=[1]),
    ),
    # minimise x1 + x2 subject to |x| <= 1
    "second-order": (
        conic([1, 1], [[0, 0], [-1, 0], [0, -1]], [1, 0, 0], second_order=(3,)),
        answer(x=[-1 / ROOT, -1 / ROOT], s=[1, -1 / ROOT, -1 / ROOT], z=[ROOT, 1, 1]),
    ),
    # minimise x subject to [[x, 1], [1, x]] psd
    "psd": (
        conic([1], [[-1], [0], [-1]], [0, ROOT, 0], psd=(2,)),
        answer(x=[1], s=[1, ROOT, 1], z=[0.5, -1 / ROOT, 0.5]),
    ),
    # minimise x subject to exp(1) <= x
    "exponential": (
        conic([1], [[0], [0], [-1]], [1, 1, 0], exponential=1),
        answer(x=[np.e], s=[1, 1, np.e], z=[-np.e, 0, 1]),
    ),
    # maximise x subject to 4^(1/2) 1^(1/2) >= |x|
    "power": (
        conic([-1], [[0], [0], [-1]], [4, 1, 0], power=(0.5,)),
        answer(x=[2], s=[4, 1, 2], z=[0.25, 1, -1]),
    ),
}


@pytest.mark.parametrize("name", SOLVED)
def test_conic_solutions_are_accepted(name):
    assert accepted(*SOLVED[name])


@pytest.mark.parametrize("name", SOLVED)
@pytest.mark.parametrize("field", ["x", "s", "z"])
def test_perturbed_solutions_are_rejected(name, field):
    program, right = SOLVED[name]
    for row in range(getattr(right, field).size):
        wrong = getattr(right, field).copy()
        wrong[row] += 1e-6
        assert not accepted(program, replace(right, **{field: wrong}))


@pytest.mark.parametrize("name", SOLVED)
def test_duals_of_the_wrong_sign_are_rejected(name):
    program, right = SOLVED[name]
    assert not accepted(program, replace(right, z=-right.z))


@pytest.mark.parametrize("name", SOLVED)
@pytest.mark.parametrize("field", ["x", "s", "z"])
def test_missing_and_nan_values_prove_nothing(name, field):
    program, right = SOLVED[name]
    for value in (None, np.full_like(getattr(right, field), np.nan)):
        assert certificates.certify(program, replace(right, **{field: value})).worst == INF


def test_a_feasible_point_that_is_not_optimal_is_rejected_by_its_gap():
    program, right = SOLVED["nonnegative"]
    residuals = certificates.certify(program, replace(right, x=np.array([0.0, 1.0]), s=np.array([0.0, 0.0, 1.0])))
    assert residuals.residuals.pop("gap") > 0.1
    assert residuals.worst <= TOLERANCE


def test_infeasible_and_unbounded_rays():
    infeasible = conic([0], [[1], [-1]], [-1, -1], nonnegative=2)  # x <= -1 and x >= 1
    assert accepted(infeasible, answer("infeasible", z=[5, 5]))
    assert not accepted(infeasible, answer("infeasible", z=[5, 4.9]))
    assert not accepted(infeasible, answer("infeasible", z=[-5, -5]))
    assert not accepted(infeasible, answer("infeasible", z=[0, 0]))

    unbounded = conic([-1, 0], [[-1, 1]], [0], P=[[0, 0], [0, 1]], nonnegative=1)  # minimise x2^2 / 2 - x1, x2 <= x1
    assert accepted(unbounded, answer("unbounded", x=[3, 0]))
    assert not accepted(unbounded, answer("unbounded", x=[-3, 0]))
    assert not accepted(unbounded, answer("unbounded", x=[3, 1]))  # curvature
    assert not accepted(replace(unbounded, A=-unbounded.A), answer("unbounded", x=[3, 0]))  # leaves the cone


# ---------------------------------------------------------------- l <= Ax <= u, lb <= x <= ub

# minimise 1/2 |x|^2 - 3 x1 + x2 subject to 1 <= x1 + x2 <= 2, 0 <= x2: x = (2, 0), with (z, z_bounds) = (1, (0, -2))
QUADRATIC = quadratic(np.eye(2), [-3, 1], [[1, 1]], [(1, 2)], [(-INF, INF), (0, INF)])
OPTIMAL = answer(x=[2, 0], z=[1], z_bounds=[0, -2])


def test_quadratic_solution():
    assert accepted(QUADRATIC, OPTIMAL)
    for field in ("x", "z", "z_bounds"):
        value = getattr(OPTIMAL, field)
        assert not accepted(QUADRATIC, replace(OPTIMAL, **{field: value + 1e-6}))
        assert not accepted(QUADRATIC, replace(OPTIMAL, **{field: None}))
    assert not accepted(QUADRATIC, replace(OPTIMAL, z=-OPTIMAL.z))


def test_a_dual_on_a_missing_side_is_rejected():
    one_sided = quadratic([[0]], [1], [[1]], [(-INF, 1)], [(-INF, INF)])  # minimise x subject to x <= 1: unbounded
    claimed = answer(x=[1], z=[-1], z_bounds=[0])
    assert certificates.certify(one_sided, claimed).residuals["dual cone"] > 0.1
    assert accepted(one_sided, answer("unbounded", x=[-1]))
    assert not accepted(one_sided, answer("unbounded", x=[1]))


def test_quadratic_rays():
    crossing = quadratic([[0]], [0], [[1]], [(-INF, -1)], [(1, INF)])  # x <= -1 and x >= 1
    assert accepted(crossing, answer("infeasible", z=[2], z_bounds=[-2]))
    assert not accepted(crossing, answer("infeasible", z=[-2], z_bounds=[2]))
    assert not accepted(crossing, answer("infeasible", z=[2], z_bounds=[-1.9]))
    assert not accepted(crossing, answer("infeasible", z=[2]))
    bounded = quadratic([[0]], [-1], [[1]], [(-INF, INF)], [(-INF, 5)])
    assert not accepted(bounded, answer("unbounded", x=[1]))


# ---------------------------------------------------------------- cones

# (cones, a point inside K, a point on its boundary, a direction out of it there)
POINTS = [
    (Cones(nonnegative=2), [1, 2], [1, 0], [0, -1]),
    (Cones(second_order=(3,)), [2, 1, 1], [5, 3, 4], [0, 3, 4]),
    (Cones(psd=(2,)), [2, ROOT, 2], [1, ROOT, 1], [0, 1, 0]),
    (Cones(exponential=1), [0, 1, 2], [1, 1, np.e], [1, 0, 0]),
    (Cones(exponential=1), [-1, 0, 1], [-1, 0, 1], [0, -1, 0]),
    (Cones(power=(0.25,)), [1, 1, 0.5], [1, 16, -8], [-1, 0, 0]),
    (Cones(power=(0.25,)), [0, 1, 0], [0, 1, 0], [-1, 0, 0]),
]
# The same for K*.
DUAL_POINTS = [
    (Cones(nonnegative=2), [1, 2], [1, 0], [0, -1]),
    (Cones(second_order=(3,)), [2, 1, 1], [5, 3, 4], [0, 3, 4]),
    (Cones(psd=(2,)), [2, ROOT, 2], [1, ROOT, 1], [0, 1, 0]),
    (Cones(exponential=1), [-1, 1, 2], [-1, -1, 1], [-1, 0, 0]),
    (Cones(exponential=1), [0, 1, 1], [0, 1, 1], [1, 0, 0]),
    (Cones(power=(0.25,)), [1, 1, 1], [0.25, 0.75 * 16, 8], [0, -1, 0]),
]
CASES = [(*case, False) for case in POINTS] + [(*case, True) for case in DUAL_POINTS]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_points_around_a_cone(case):
    cones, inside, boundary, out, dual = case
    boundary, out = np.array(boundary, float), np.array(out, float)
    assert certificates.cone_violation(cones, np.array(inside, float), dual) == 0
    assert certificates.cone_violation(cones, boundary, dual) <= 1e-14
    for step in (1e-6, 1e-2, 1):
        assert 0.01 * step**2 < certificates.cone_violation(cones, boundary + step * out, dual) <= 10 * step


@pytest.mark.parametrize("case", CASES, ids=str)
def test_violation_scales_with_the_point(case):
    cones, _, boundary, out, dual = case
    point = np.array(boundary, float) + np.array(out, float)
    violation = certificates.cone_violation(cones, point, dual)
    assert certificates.cone_violation(cones, 1e6 * point, dual) == pytest.approx(1e6 * violation)


def test_exponential_cone_without_overflow():
    far = np.array([2000.0, 1.0, 1e300])  # exp(2000) is beyond the largest number
    assert 0 < certificates.cone_violation(Cones(exponential=1), far) < INF


def test_zero_cone_and_its_dual():
    point = np.array([1e-3, 0.0])
    assert certificates.cone_violation(Cones(zero=2), point) == 1e-3
    assert certificates.cone_violation(Cones(zero=2), point, dual=True) == 0


def test_half_vectorisation_keeps_the_inner_product():
    matrix = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 5.0], [3.0, 5.0, 6.0]])
    vector = np.array([1, 2 * ROOT, 4, 3 * ROOT, 5 * ROOT, 6])
    assert certificates.matrix_of(vector, 3) == pytest.approx(matrix)
    assert vector @ vector == pytest.approx(np.sum(matrix**2))


# ---------------------------------------------------------------- the truth


def test_reference_values():
    assert certificates.matches_reference(Reference(f_opt=100.0), 100.00009)
    assert not certificates.matches_reference(Reference(f_opt=100.0), 100.0002)
    assert certificates.matches_reference(Reference(f_opt=100.0, f_rtol=1e-3), 100.09)
    assert certificates.matches_reference(Reference(f_opt=0.0), 9e-10)
    assert not certificates.matches_reference(Reference(f_opt=0.0), 2e-9)
    assert not certificates.matches_reference(Reference(f_opt=1.0), np.nan)


def test_claims_against_the_truth():
    program = replace(QUADRATIC, reference=Reference(f_opt=-4.0))
    assert certificates.agrees(program, OPTIMAL)
    assert certificates.proves(program, OPTIMAL, TOLERANCE)
    assert not certificates.agrees(program, replace(OPTIMAL, claim="infeasible"))
    assert not certificates.agrees(replace(program, reference=Reference(status="infeasible")), OPTIMAL)
    assert not certificates.agrees(replace(program, reference=Reference(f_opt=-4.1)), OPTIMAL)
