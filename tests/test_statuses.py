"""Every status is a claim that the returned values prove; data that are in the way get an honest one."""

import re
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convexjax as cj
from convexjax import Status

INF, NAN = np.inf, np.nan
INFEASIBLE, UNBOUNDED = Status.PRIMAL_INFEASIBLE, Status.DUAL_INFEASIBLE

# All quadratic programs of this file have these shapes, so that they share one compiled program.
QP = {
    "P": np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.5], [0.0, 0.5, 2.0]]),
    "q": np.array([1.0, -2.0, 0.5]),
    "G": np.array([[1.0, -1.0, 0.0], [0.0, 1.0, 1.0], [-1.0, 0.0, 1.0], [1.0, 1.0, -1.0]]),
    "h": np.array([2.0, 0.5, 3.0, 1.5]),
    "A": np.array([[1.0, 1.0, 1.0], [0.0, 1.0, -1.0]]),
    "b": np.array([1.0, 0.2]),
    "lb": np.full(3, -2.0),
    "ub": np.full(3, 2.0),
}
FREE = {"lb": np.full(3, -INF), "ub": np.full(3, INF)}
# x1 + x2 + x3 = 1 with x <= 0.2
NO_POINT = QP | {"ub": np.full(3, 0.2)}
# x falls along (-1, -1, -1)
NO_END = {
    "P": np.zeros((3, 3)),
    "q": np.ones(3),
    "G": np.array([[1.0, -1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]),
    "h": np.array([0.0, 1.0, 1.0, 1.0]),
    "A": np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]),
    "b": np.zeros(2),
    **FREE,
}


def solve(problem, **options):
    return cj.solve_qp(**problem, options=cj.Options(**options) if options else None)


def host(solution):
    """The fields as NumPy arrays."""
    names = ("x", "s", "y", "z", "z_lb", "z_ub", "objective", "status")
    return SimpleNamespace(**{name: np.asarray(getattr(solution, name)) for name in names})


def prove(problem, solution, tolerance=1e-7):
    """Check the claim of a quadratic program from its definition, leaving out rows without effect."""
    d, v = SimpleNamespace(**problem), host(solution)
    finite_lb, finite_ub, finite_h = d.lb > -1e20, d.ub < 1e20, d.h < 1e20
    lb, ub, h = np.where(finite_lb, d.lb, 0), np.where(finite_ub, d.ub, 0), np.where(finite_h, d.h, 0)
    stationary = d.A.T @ v.y + d.G.T @ v.z + v.z_ub - v.z_lb

    def small(value, *terms):
        scale = 1 + max([np.abs(term).max() for term in terms], default=0)
        assert np.all(np.abs(value) <= tolerance * scale), value

    def signs(*duals):
        for dual in duals:
            assert np.all(dual >= 0)

    if v.status == Status.SOLVED:
        signs(v.z, v.z_lb, v.z_ub)
        small(d.P @ v.x + d.q + stationary, d.P @ v.x, d.q, d.A.T @ v.y, d.G.T @ v.z)
        small(d.A @ v.x - d.b, v.x, d.b)
        for violation in ((d.G @ v.x - h)[finite_h], (lb - v.x)[finite_lb], (v.x - ub)[finite_ub]):
            small(np.maximum(violation, 0), v.x)
        small((d.G @ v.x + v.s - h)[finite_h], v.x, h)
        primal = v.x @ d.P @ v.x / 2 + d.q @ v.x
        dual = -v.x @ d.P @ v.x / 2 - d.b @ v.y - h @ v.z - ub @ v.z_ub + lb @ v.z_lb
        small(primal - dual, primal)
        small(primal - v.objective, primal)
    elif v.status == INFEASIBLE:
        signs(v.z, v.z_lb, v.z_ub)
        np.testing.assert_allclose(d.b @ v.y + h @ v.z + ub @ v.z_ub - lb @ v.z_lb, -1, rtol=1e-9)
        assert not (v.z[~finite_h].any() or v.z_lb[~finite_lb].any() or v.z_ub[~finite_ub].any())
        small(stationary)
        assert v.objective == INF
    elif v.status == UNBOUNDED:
        np.testing.assert_allclose(d.q @ v.x, -1, rtol=1e-9)
        small(d.P @ v.x), small(d.A @ v.x)
        for growth in ((d.G @ v.x)[finite_h], -v.x[finite_lb], v.x[finite_ub]):
            small(np.maximum(growth, 0))
        assert v.objective == -INF
    else:
        raise AssertionError(f"{Status(int(v.status)).name} claims nothing")


def all_finite(solution):
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(solution))


# ----------------------------------------------------------------------------- claims


@pytest.mark.core
@pytest.mark.parametrize(
    "problem, status",
    [
        (QP, Status.SOLVED),
        (NO_POINT, INFEASIBLE),
        (NO_END, UNBOUNDED),
        (QP | FREE, Status.SOLVED),
        (QP | {"b": np.array([1.0, 9.0])}, INFEASIBLE),
        (NO_POINT | {"P": np.zeros((3, 3)), "q": np.zeros(3)}, INFEASIBLE),
        (NO_END | {"P": np.array([[1.0, -1, 0], [-1, 1, 0], [0, 0, 0]])}, UNBOUNDED),
        (QP | {"P": np.zeros((3, 3))}, Status.SOLVED),
        (QP | {"q": np.zeros(3)}, Status.SOLVED),
        (QP | {"P": np.zeros((3, 3)), "q": np.zeros(3)}, Status.SOLVED),
    ],
    ids=[
        "solved", "infeasible", "unbounded", "without bounds", "equations against bounds", "infeasible, no objective",
        "unbounded along the kernel of P", "linear", "no linear term", "no objective",
    ],
)  # fmt: skip
def test_a_status_is_proved_by_the_values(problem, status):
    solution = solve(problem)
    assert Status(int(solution.status)) == status
    prove(problem, solution)


def test_lp_certificates():
    # x1 + x2 <= -1, x >= 0
    got = cj.solve_lp([1.0, 1.0], G=[[1.0, 1.0]], h=[-1.0], lb=0.0)
    assert got.status == INFEASIBLE and got.objective == INF
    np.testing.assert_allclose(-got.z[0], -1, rtol=1e-9)
    np.testing.assert_allclose(got.z[0] * np.ones(2) - got.z_lb, 0, atol=1e-7)
    assert (got.z_lb >= 0).all()
    # the same point is wanted everywhere along (1, 1)
    got = cj.solve_lp([-1.0, -1.0], G=[[1.0, -1.0]], h=[1.0], lb=0.0)
    assert got.status == UNBOUNDED and got.objective == -INF
    np.testing.assert_allclose(np.sum(got.x), 1, rtol=1e-9)
    assert got.x[0] - got.x[1] <= 1e-7 and (got.x >= -1e-7).all()


def test_conic_certificates():
    # |x| <= -1 for x in R^2, and a ray of the second-order cone
    A = -np.eye(3)
    got = cj.solve_conic(None, np.zeros(3), np.vstack([A, [[1.0, 0, 0]]]), [0, 0, 0, -1.0],
                         [cj.SecondOrder(3), cj.Nonnegative(1)])  # fmt: skip
    assert got.status == INFEASIBLE
    np.testing.assert_allclose(-got.z[3], -1, rtol=1e-9)
    np.testing.assert_allclose(np.vstack([A, [[1.0, 0, 0]]]).T @ got.z, 0, atol=1e-7)
    assert got.z[0] >= np.linalg.norm(got.z[1:3]) - 1e-12 and got.z[3] >= 0
    got = cj.solve_conic(None, [0.0, 1.0, 0.0], A, np.zeros(3), [cj.SecondOrder(3)])
    assert got.status == UNBOUNDED
    np.testing.assert_allclose(got.x[1], -1, rtol=1e-9)
    assert got.x[0] >= np.linalg.norm(got.x[1:]) - 1e-7


def test_certificates_of_nonsymmetric_cones():
    # u exp... (x1, 1, x2) in the cones with a first (second) entry that must be positive and is -1
    for cone, row in ((cj.Exponential(), 1), (cj.Power([0.3]), 0), (cj.Power([0.3]), 1)):
        A, b = -np.eye(3), np.zeros(3)
        A[row], b[row] = 0, -1
        got = cj.solve_conic(None, np.zeros(3), A, b, [cone])
        assert got.status == INFEASIBLE, cone
        np.testing.assert_allclose(b @ got.z, -1, rtol=1e-9)
        np.testing.assert_allclose(A.T @ got.z, 0, atol=1e-7)


def test_sdp_certificates():
    # trace X = -1
    got = cj.solve_sdp(np.eye(2), np.eye(2)[None], [-1.0])
    assert got.status == INFEASIBLE and got.objective == INF
    np.testing.assert_allclose(-got.y[0], -1, rtol=1e-9)
    np.testing.assert_allclose(got.z, got.y[0] * np.eye(2), atol=1e-7)
    # <C, X> falls without end along diag(0, 1)
    C = np.diag([1.0, -1.0])
    got = cj.solve_sdp(C, np.diag([1.0, 0.0])[None], [1.0])
    assert got.status == UNBOUNDED and got.objective == -INF
    np.testing.assert_allclose(np.sum(C * got.x), -1, rtol=1e-9)
    np.testing.assert_allclose(got.x[0, 0], 0, atol=1e-7)
    assert np.linalg.eigvalsh(got.x).min() >= -1e-7
    # diag(x, -1 - x) psd; x falls without end in diag(1 - x, 1) psd
    F = np.stack([np.diag([0.0, -1.0]), np.diag([1.0, -1.0])])
    got = cj.solve_sdp(c=[0.0], F=F)
    assert got.status == INFEASIBLE
    np.testing.assert_allclose(np.sum(F[0] * got.z), -1, rtol=1e-9)
    np.testing.assert_allclose(np.sum(F[1] * got.z), 0, atol=1e-7)
    assert np.linalg.eigvalsh(got.z).min() >= -1e-12
    F = np.stack([np.eye(2), np.diag([-1.0, 0.0])])
    got = cj.solve_sdp(c=[1.0], F=F)
    assert got.status == UNBOUNDED
    np.testing.assert_allclose(got.x, [-1], rtol=1e-9)


def test_every_status_has_a_message_of_its_own():
    messages = [status.message for status in Status]
    assert all(messages) and len(set(messages)) == len(Status) == 8


@pytest.mark.core
def test_names():
    assert Status.name_of(np.int32(4)) == "DUAL_INFEASIBLE"
    assert Status.name_of(jnp.array([[1], [6]], jnp.int32)) == [["SOLVED"], ["NUMERICAL_ERROR"]]


def test_require_solved():
    solved = solve(QP)
    assert solved.require_solved() is solved
    failures = {
        INFEASIBLE: solve(NO_POINT),
        UNBOUNDED: solve(NO_END),
        Status.MAX_ITERATIONS: solve(QP, max_iters=1),
        Status.NUMERICAL_ERROR: solve(QP | {"q": np.full(3, NAN)}),
        Status.NONCONVEX: solve(QP | {"P": -np.eye(3)}),
        Status.ALMOST_SOLVED: solve(QP, tolerance=1e-30),
    }
    for status, solution in failures.items():
        with pytest.raises(RuntimeError, match=status.name) as error:
            solution.require_solved()
        assert status.message in str(error.value)
    with pytest.raises(ValueError, match="inside jit"):
        jax.jit(lambda d: solve(d).require_solved().x)(QP)


def test_require_solved_counts_lanes():
    h = np.tile(QP["h"], (4, 1))
    h[1:3, 0] = -30.0
    batch = jax.vmap(lambda h: solve(QP | {"h": h}))(h)
    with pytest.raises(RuntimeError, match=r"PRIMAL_INFEASIBLE.*2 of 4 lanes.*\(1,\)"):
        batch.require_solved()
    assert jax.tree.map(lambda v: v[::3], batch).require_solved().x.shape == (2, 3)


# ----------------------------------------------------------------------------- data that are not finite


@pytest.mark.core
@pytest.mark.parametrize("name", QP)
def test_nan_is_a_numerical_error_at_once(name):
    for index in (0, -1):
        value = QP[name].copy()
        value.flat[index] = NAN
        solution = solve(QP | {name: value})
        assert Status(int(solution.status)) == Status.NUMERICAL_ERROR
        assert solution.info.num_iters == 0
        assert np.isnan(solution.x).all() and np.isnan(solution.objective)


@pytest.mark.core
@pytest.mark.parametrize("name", ["P", "q", "G", "A"])
@pytest.mark.parametrize("value", [INF, -INF])
def test_infinite_coefficients_are_a_numerical_error_at_once(name, value):
    changed = QP[name].copy()
    changed.flat[0] = value
    solution = solve(QP | {name: changed})
    assert Status(int(solution.status)) == Status.NUMERICAL_ERROR
    assert solution.info.num_iters == 0


def test_nan_in_conic_data():
    data = {"P": np.eye(2), "q": np.array([-3.0, 0]), "A": -np.eye(3)[:, 1:], "b": np.array([1.0, 0, 0])}
    for cones in ([cj.SecondOrder(3)], [cj.Power([0.5])], [cj.PSD(2)], [cj.Exponential()]):
        for name, value in data.items():
            for bad in (NAN, INF):
                changed = value.copy()
                changed.flat[0] = bad
                solution = cj.solve_conic(**data | {name: changed}, cones=cones)
                assert Status(int(solution.status)) == Status.NUMERICAL_ERROR, (cones, name, bad)
                assert solution.info.num_iters == 0


def test_nan_in_a_traced_exponent_is_never_solved():
    run = jax.jit(lambda alpha: cj.solve_conic(None, [-1.0], [[0.0], [0.0], [-1.0]], [1, 2, 0], [cj.Power(alpha)]))
    assert run(np.array([0.5])).status == Status.SOLVED
    np.testing.assert_allclose(run(np.array([0.5])).x, np.sqrt(2), rtol=1e-7)
    for alpha in (NAN, 0.0, 1.0, -0.5, 1.5, INF):
        assert Status(int(run(np.array([alpha])).status)) == Status.NUMERICAL_ERROR, alpha


@pytest.mark.core
@pytest.mark.parametrize("infinite", [1e20, 1e30, INF])
def test_infinite_bounds_have_no_effect(infinite):
    # row 1 of G is active in the base problem
    far = QP["h"].copy()
    far[1] = 1e3
    expected = host(solve(QP | {"h": far, "lb": np.full(3, -1e3), "ub": np.full(3, 1e3)}))
    assert np.abs(expected.x - host(solve(QP)).x).max() > 1e-2
    far[1] = infinite
    problem = QP | {"h": far, "lb": np.full(3, -infinite), "ub": np.full(3, infinite)}
    solution = solve(problem)
    prove(problem, solution)
    got = host(solution)
    np.testing.assert_allclose(got.x, expected.x, atol=1e-7)
    np.testing.assert_allclose(got.objective, expected.objective, rtol=1e-7)
    np.testing.assert_allclose(got.y, expected.y, atol=1e-6)
    assert got.z[1] == 0 and not got.z_lb.any() and not got.z_ub.any()
    assert got.s[1] == infinite


@pytest.mark.parametrize("status, problem", [(INFEASIBLE, NO_POINT), (UNBOUNDED, NO_END)])
def test_infinite_bounds_beside_certificates(status, problem):
    h = problem["h"].copy()
    h[3] = INF
    changed = problem | {"h": h}
    solution = solve(changed)
    assert solution.status == status
    prove(changed, solution)


def test_every_bound_infinite():
    problem = QP | FREE | {"h": np.full(4, INF)}
    solution = solve(problem)
    assert solution.status == Status.SOLVED
    prove(problem, solution)
    kkt = np.block([[QP["P"], QP["A"].T], [QP["A"], np.zeros((2, 2))]])
    exact = np.linalg.solve(kkt, np.concatenate([-QP["q"], QP["b"]]))
    np.testing.assert_allclose(solution.x, exact[:3], atol=1e-8)


@pytest.mark.core
@pytest.mark.parametrize(
    "name, value", [("b", INF), ("b", -INF), ("h", -INF), ("ub", -INF), ("lb", INF), ("b", 1e30), ("h", -1e30)]
)
def test_impossible_infinities_are_never_solved(name, value):
    changed = QP[name].copy()
    changed[0] = value
    status = Status(int(solve(QP | {name: changed}).status))
    assert status in (INFEASIBLE, Status.NUMERICAL_ERROR)


# ----------------------------------------------------------------------------- limits


@pytest.mark.core
@pytest.mark.parametrize("dtype, tolerance, reached", [(np.float64, 1e-30, 1e-11), (np.float32, 1e-12, 1e-4)])
def test_a_tolerance_below_reach_ends_almost_solved_at_the_floor(dtype, tolerance, reached):
    problem = {name: value.astype(dtype) for name, value in QP.items()}
    solution = solve(problem, tolerance=tolerance)
    assert Status(int(solution.status)) == Status.ALMOST_SOLVED
    assert solution.info.num_iters < 100
    assert max(solution.info.primal_residual, solution.info.dual_residual, solution.info.gap) <= reached
    np.testing.assert_allclose(solution.x, solve(QP, tolerance=1e-10).x, atol=10 * reached)


@pytest.mark.core
@pytest.mark.parametrize("max_iters", [0, 1])
def test_out_of_iterations(max_iters):
    for problem in (QP, NO_POINT, NO_END):
        solution = solve(problem, max_iters=max_iters)
        assert Status(int(solution.status)) == Status.MAX_ITERATIONS
        assert solution.info.num_iters == max_iters
        assert all_finite(solution)


def test_out_of_iterations_on_cones():
    for cones in ([cj.SecondOrder(3)], [cj.Power([0.5])], [cj.PSD(2)], [cj.Exponential()]):
        data = np.eye(2), np.array([-3.0, 0]), -np.eye(3)[:, 1:], np.array([1.0, 0, 0])
        for max_iters in (0, 1):
            solution = cj.solve_conic(*data, cones, options=cj.Options(max_iters=max_iters))
            assert Status(int(solution.status)) == Status.MAX_ITERATIONS
            assert solution.info.num_iters == max_iters and all_finite(solution)


# ----------------------------------------------------------------------------- convexity


@pytest.mark.core
@pytest.mark.parametrize(
    "P",
    [
        -np.eye(3),
        np.diag([1.0, 1.0, -1e-3]),
        np.diag([1.0, -1e-9, 1.0]),
        np.diag([1e6, 1e6, -1e-3]),
        -1e-8 * np.eye(3),
        np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
        np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    ],
    ids=["-I", "-1e-3", "-1e-9", "mixed sizes", "small", "zero diagonal", "indefinite"],
)
@pytest.mark.parametrize("q", [np.zeros(3), QP["q"]], ids=["stationary at 0", "with q"])
def test_a_P_that_is_not_positive_semidefinite(P, q):
    for bounds in ({}, FREE):
        problem = QP | {"P": P, "q": q, "b": np.zeros(2)} | bounds
        assert Status(int(solve(problem).status)) == Status.NONCONVEX


@pytest.mark.parametrize(
    "P",
    [np.diag([1.0, 1.0, -1e-17]), np.diag([1.0, 0.0, 0.0]), 1e-300 * np.eye(3), np.outer([1, 2, 3.0], [1, 2, 3]) / 3],
    ids=["roundoff", "zero eigenvalues", "almost zero", "rank 1"],
)
def test_a_P_on_the_boundary_is_convex(P):
    problem = QP | {"P": P}
    solution = solve(problem)
    assert Status(int(solution.status)) == Status.SOLVED
    prove(problem, solution)


# ----------------------------------------------------------------------------- degenerate problems


def equations(*rows):
    rows = np.array(rows)
    return QP | {"A": rows[:, :3], "b": rows[:, 3]}


@pytest.mark.core
def test_redundant_and_contradictory_equations():
    single = equations([1, 1, 1, 1.0], [0, 0, 0, 0])
    for factor in (1.0, -3.0, 1e-4, 1e4):
        redundant = equations([1, 1, 1, 1.0], factor * np.array([1, 1, 1, 1.0]))
        solution = solve(redundant)
        assert solution.status == Status.SOLVED
        prove(redundant, solution)
        np.testing.assert_allclose(solution.x, solve(single).x, atol=1e-7)
    for difference in (1e-3, -1e-3, 1.0, 100.0):
        contradiction = equations([1, 1, 1, 1.0], [1, 1, 1, 1 + difference])
        solution = solve(contradiction)
        assert Status(int(solution.status)) == INFEASIBLE
        # y = (1, -1) / difference: A'y has rounding errors of the size of y
        prove(contradiction, solution)


def test_equations_that_contradict_within_the_tolerance():
    solution = solve(equations([1, 1, 1, 1.0], [1, 1, 1, 1 + 1e-9]))
    assert Status(int(solution.status)) in (Status.SOLVED, Status.ALMOST_SOLVED)
    np.testing.assert_allclose(solution.x, solve(equations([1, 1, 1, 1.0], [0, 0, 0, 0])).x, atol=1e-6)


def test_a_row_of_zeros():
    for right, status in ((0.0, Status.SOLVED), (1.0, INFEASIBLE), (-1e-3, INFEASIBLE)):
        problem = equations([1, 1, 1, 1.0], [0, 0, 0, right])
        solution = solve(problem)
        assert Status(int(solution.status)) == status
        prove(problem, solution)
    for right, status in ((1.0, Status.SOLVED), (0.0, Status.SOLVED), (-1.0, INFEASIBLE)):
        G, h = QP["G"].copy(), QP["h"].copy()
        G[2], h[2] = 0, right
        problem = QP | {"G": G, "h": h}
        solution = solve(problem)
        assert Status(int(solution.status)) == status
        prove(problem, solution)


def test_one_feasible_point():
    point = np.array([0.6, 0.3, 0.1])
    problem = QP | {"lb": point, "ub": point}
    solution = solve(problem)
    assert Status(int(solution.status)) in (Status.SOLVED, Status.ALMOST_SOLVED)
    np.testing.assert_allclose(solution.x, point, atol=1e-6)


def test_copies_of_one_row():
    problem = QP | {"G": np.tile(QP["G"][1], (4, 1)), "h": np.full(4, QP["h"][1])}
    solution = solve(problem)
    assert solution.status == Status.SOLVED
    prove(problem, solution)
    once = QP | {"h": np.array([50.0, QP["h"][1], 50.0, 50.0])}
    np.testing.assert_allclose(solution.x, solve(once).x, atol=1e-7)


def test_a_weakly_infeasible_sdp_is_never_solved_nor_unbounded():
    # [[x, 1], [1, 0]] psd: no x, but points of the cone come as near as you like
    F = np.array([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    for c in (1.0, 0.0):
        status = Status(int(cj.solve_sdp(c=[c], F=F).status))
        assert status in (INFEASIBLE, Status.ALMOST_SOLVED, Status.NUMERICAL_ERROR, Status.MAX_ITERATIONS)


def test_an_infimum_that_is_not_attained():
    # min x subject to [[x, 1], [1, y]] psd: the infimum 0 is approached as y grows
    F = np.array([[[0.0, 1], [1, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 1]]], float)
    solution = cj.solve_sdp(c=[1.0, 0.0], F=F)
    status = Status(int(solution.status))
    assert status not in (INFEASIBLE, UNBOUNDED, Status.NONCONVEX)
    if status in (Status.SOLVED, Status.ALMOST_SOLVED):
        assert abs(solution.objective) <= 1e-3


def test_an_sdp_with_a_gap():
    # Vandenberghe and Boyd, 1996, section 3.1: x1 = 0 is the only feasible value, and the dual optimum is -1
    F = np.zeros((3, 3, 3))
    F[0, 2, 2] = 1
    F[1, 0, 1] = F[1, 1, 0] = F[1, 2, 2] = 1
    F[2, 1, 1] = 1
    solution = cj.solve_sdp(c=[1.0, 0.0], F=F)
    status = Status(int(solution.status))
    assert status not in (INFEASIBLE, UNBOUNDED, Status.NONCONVEX)
    assert np.isfinite(solution.x).all()
    # a value that a perturbation within the tolerance could have
    if status == Status.SOLVED:
        assert -1 - 1e-6 <= solution.objective <= 1e-6


def test_empty_and_small_problems():
    def check(solution, x, objective):
        assert Status(int(solution.status)) == Status.SOLVED
        np.testing.assert_allclose(solution.x, x, atol=1e-7)
        np.testing.assert_allclose(solution.objective, objective, atol=1e-7)

    check(cj.solve_qp(np.diag([1.0, 2.0]), [1.0, -2.0]), [-1, 1], -1.5)  # no constraints
    check(cj.solve_qp(np.eye(2), [0.0, 0.0], A=[[1.0, 1.0]], b=[2.0]), [1, 1], 1)  # no inequalities
    check(cj.solve_qp(np.zeros((0, 0)), np.zeros(0)), np.zeros(0), 0)  # n = 0
    check(cj.solve_lp([1.0], lb=-3.0), [-3], -3)  # n = 1
    check(cj.solve_lp([0.0], A=[[2.0]], b=[1.0]), [0.5], 0)  # no objective
    # a free column, and a column of zeros
    check(cj.solve_lp([0.0, 1.0], A=[[1.0, -1.0]], b=[1.0], lb=[-INF, 0.0]), [1, 0], 0)
    solution = cj.solve_lp([0.0, 1.0], G=[[0.0, -1.0]], h=[-2.0])
    assert solution.status == Status.SOLVED and np.isfinite(solution.x).all()
    np.testing.assert_allclose(solution.x[1], 2, atol=1e-7)
    check(cj.solve_conic(None, [1.0], [[-1.0]], [-2.0], [cj.PSD(1)]), [2], 2)  # side 1
    check(cj.solve_conic(None, [1.0], [[-1.0]], [-2.0], [cj.SecondOrder(1), cj.PSD(0), cj.Zero(0)]), [2], 2)
    check(cj.solve_sdp([[2.0]], [[[1.0]]], [3.0]), [[3]], 6)
    assert cj.solve_lp([1.0, 0.0]).status == UNBOUNDED
    n0 = cj.solve_conic(None, np.zeros(0), np.zeros((1, 0)), [-1.0], [cj.Nonnegative(1)])
    assert Status(int(n0.status)) == INFEASIBLE
    np.testing.assert_allclose(n0.z, [1], rtol=1e-9)


# ----------------------------------------------------------------------------- scaling

SCALES = [1e-8, 1e-6, 1e-4, 1e-2, 1e2, 1e4, 1e6, 1e8]
SPREAD = {3: np.array([1e-4, 1.0, 1e4]), 4: np.array([1e4, 1e-4, 1.0, 1e2]), 2: np.array([1e-4, 1e4])}


def scale_objective(d, c):
    return d | {"P": c * d["P"], "q": c * d["q"]}, (1.0, c)


def scale_right_hand_side(d, c):
    return d | {name: c * d[name] for name in ("q", "h", "b", "lb", "ub")}, (c, c)


def scale_rows(d, c):
    return d | {name: c * d[name] for name in ("G", "h", "A", "b")}, (1.0, None)


def scale_columns(d, c):
    changed = {"P": c * c * d["P"], "q": c * d["q"], "G": c * d["G"], "A": c * d["A"]}
    return d | changed | {"lb": d["lb"] / c, "ub": d["ub"] / c}, (1 / c, None)


def spread_rows(d, c):
    rows, equalities = SPREAD[4] ** np.log10(c), SPREAD[2] ** np.log10(c)
    changed = {"G": rows[:, None] * d["G"], "h": rows * d["h"]}
    return d | changed | {"A": equalities[:, None] * d["A"], "b": equalities * d["b"]}, (1.0, None)


def spread_columns(d, c):
    e = SPREAD[3] ** np.log10(c)
    changed = {"P": np.outer(e, e) * d["P"], "q": e * d["q"], "G": d["G"] * e, "A": d["A"] * e}
    return d | changed | {"lb": d["lb"] / e, "ub": d["ub"] / e}, (1 / e, None)


UNSCALED = {
    "quadratic": QP,
    "linear": QP | {"P": np.zeros((3, 3))},
    "infeasible": NO_POINT,
    "unbounded": NO_END,
}


@pytest.mark.core
@pytest.mark.parametrize("kind", UNSCALED)
@pytest.mark.parametrize("change", [scale_objective, scale_right_hand_side, scale_rows, scale_columns])
def test_scaled_data_are_as_the_unscaled_problem(kind, change):
    base = UNSCALED[kind]
    expected = host(solve(base))
    for c in SCALES:
        problem, (of_x, of_duals) = change(base, c)
        if kind == "linear" and change is scale_right_hand_side:
            problem["q"] = base["q"]
            of_duals = 1.0
        got = host(solve(problem))
        assert Status(int(got.status)) == Status(int(expected.status)), c
        if expected.status == Status.SOLVED:
            np.testing.assert_allclose(got.x / of_x, expected.x, atol=1e-6, err_msg=str(c))
            if of_duals is not None:
                np.testing.assert_allclose(got.y / of_duals, expected.y, atol=1e-5, err_msg=str(c))
                np.testing.assert_allclose(got.z / of_duals, expected.z, atol=1e-5, err_msg=str(c))


@pytest.mark.parametrize("kind", UNSCALED)
@pytest.mark.parametrize("change", [spread_rows, spread_columns])
def test_rows_and_columns_of_mixed_sizes(kind, change):
    base = UNSCALED[kind]
    expected = host(solve(base))
    for c in (10.0, 0.1, 100.0, 0.01):  # factors of rows from 1e-4 to 1e4, then from 1e-8 to 1e8
        problem, (of_x, _) = change(base, c)
        got = host(solve(problem))
        assert Status(int(got.status)) == Status(int(expected.status)), c
        if expected.status == Status.SOLVED:
            np.testing.assert_allclose(got.x / of_x, expected.x, atol=1e-6, err_msg=str(c))


@pytest.mark.parametrize("M", [1e4, 1e6, 1e8])
def test_big_M(M):
    # row 1 is switched off by M, as are the bounds
    h = QP["h"].copy()
    h[1] = INF
    expected = solve(QP | {"h": h} | FREE)
    h[1] = QP["h"][1] + M
    for problem in (QP | {"h": h} | FREE, QP | {"h": h, "lb": np.full(3, -M), "ub": np.full(3, M)}):
        got = solve(problem)
        assert Status(int(got.status)) == Status.SOLVED
        np.testing.assert_allclose(got.x, expected.x, atol=1e-6)
    # row 0 holds unless x3, a slack at the price of M, is bought
    G = np.array([[-1.0, -1.0, -1.0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
    bounds = {"lb": np.zeros(3), "ub": np.full(3, 10.0)}
    problem = {"P": np.zeros((3, 3)), "q": np.array([1.0, 2.0, M]), "G": G, "h": np.array([-3.0, 2.0, 9.0, 9.0])}
    problem |= {"A": np.zeros((2, 3)), "b": np.zeros(2)} | bounds
    got = solve(problem)
    assert Status(int(got.status)) == Status.SOLVED
    np.testing.assert_allclose(got.x, [2, 1, 0], atol=1e-6)


@pytest.mark.parametrize("c", SCALES)
def test_scaled_cones(c):
    # min x3 subject to |x - (3, 4)| <= x3, |x| <= 1 with the answer (0.6, 0.8, 4)
    rows = np.zeros((7, 3))
    rows[0, 2] = rows[1, 0] = rows[2, 1] = rows[4, 0] = rows[5, 1] = -1
    rows[6, 2] = 1
    b = np.array([0.0, -3.0, -4.0, 1.0, 0.0, 0.0, 100.0])
    cones = [cj.SecondOrder(3, 2), cj.Nonnegative(1)]
    for q, right, of_x in (([0, 0, c], b, 1.0), ([0.0, 0, 1], c * b, c)):
        solution = cj.solve_conic(None, q, rows, right, cones)
        assert Status(int(solution.status)) == Status.SOLVED
        np.testing.assert_allclose(solution.x / of_x, [0.6, 0.8, 4], atol=1e-6)
    solution = cj.solve_conic(None, [0.0, 0, c], rows * c, b, cones)
    assert Status(int(solution.status)) == Status.SOLVED
    np.testing.assert_allclose(solution.x * c, [0.6, 0.8, 4], atol=1e-6)


# ----------------------------------------------------------------------------- what people see

HEAD = r"iter +primal +dual +gap +mu +step +objective"
ROW = r"^ *(\d+)( +[-+.\de]+){6}$"


@pytest.mark.parametrize("compiled", [False, True])
def test_verbose_prints_a_row_per_iteration(capfd, compiled):
    run = lambda d: solve(d, verbose=True)
    solution = (jax.jit(run) if compiled else run)(QP)
    jax.block_until_ready(solution)
    jax.effects_barrier()
    text = capfd.readouterr().out
    assert len(re.findall(HEAD, text)) == 1
    printed = sorted(int(row[0]) for row in re.findall(ROW, text, re.MULTILINE))
    assert printed == list(range(int(solution.info.num_iters) + 1))
    jax.tree.map(np.testing.assert_array_equal, solution.status, solve(QP).status)
    np.testing.assert_allclose(solution.x, solve(QP).x, atol=1e-9)


def test_nothing_is_printed_without_verbose(capfd):
    jax.block_until_ready(solve(QP))
    assert capfd.readouterr().out == ""


def test_history():
    plain = solve(QP)
    assert plain.info.history is None
    solution = solve(QP, history=60)
    jax.tree.map(np.testing.assert_allclose, solution.x, plain.x)
    history, last = solution.info.history, int(solution.info.num_iters)
    assert last < 59
    for name in ("primal_residual", "dual_residual", "gap", "mu", "step"):
        values = np.asarray(getattr(history, name))
        assert values.shape == (60,)
        assert np.isfinite(values[: last + 1]).all(), name
        assert np.isnan(values[last + 1 :]).all(), name
    for name in ("primal_residual", "dual_residual", "gap"):
        assert getattr(history, name)[last] == getattr(solution.info, name)
    assert history.mu[last] < 1e-6 * history.mu[0]
    assert ((history.step[1 : last + 1] > 0) & (history.step[1 : last + 1] <= 1)).all()


def test_a_history_that_is_too_short_keeps_the_first_iterations():
    long, short = solve(QP, history=60), solve(QP, history=3)
    assert short.status == Status.SOLVED
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[:3], rtol=1e-9), short.info.history, long.info.history)


def test_history_per_lane():
    q = np.stack([QP["q"], np.full(3, NAN), 10 * QP["q"]])
    batch = jax.vmap(lambda q: solve(QP | {"q": q}, history=60))(q)
    assert batch.info.history.gap.shape == (3, 60)
    recorded = np.isfinite(batch.info.history.mu).sum(1)
    np.testing.assert_array_equal(recorded[[0, 2]], batch.info.num_iters[np.array([0, 2])] + 1)
