"""`solve_socp`: known solutions, duals and signs, batched constraints."""

import numpy as np
import pytest
from helpers import certify_conic, near, size

import convexjax as cj

pytestmark = pytest.mark.core

Status = cj.Status


def conic(q, norms, G=None, h=None, A=None, b=None, P=None):
    """The standard form of the docstring, rows A, G, then (t, v) of each norm."""
    n = len(q)
    rows, right, cones = [], [], []
    for matrix, vector, cone in ((A, b, cj.Zero), (G, h, cj.Nonnegative)):
        if matrix is not None:
            rows.append(np.asarray(matrix, float)), right.append(np.asarray(vector, float))
            cones.append(cone(len(right[-1])))
    for M, r, c, d in norms:
        M = np.asarray(M, float)
        batch, k = M.shape[:-2], M.shape[-2]
        r, c, d = (
            np.zeros(shape) if v is None else np.asarray(v, float)
            for v, shape in ((r, (*batch, k)), (c, (*batch, n)), (d, batch))
        )
        for i in np.ndindex(batch):
            rows.append(-np.concatenate([c[i][None], M[i]])), right.append(np.concatenate([d[i][None], r[i]]))
            cones.append(cj.SecondOrder(k + 1))
    rows, right = np.concatenate([np.zeros((0, n)), *rows]), np.concatenate([np.zeros(0), *right])
    return None if P is None else np.asarray(P, float), np.asarray(q, float), rows, right, cones


def certify(solution, *problem, tolerance=1e-8, expected=Status.SOLVED, **named):
    """The named parts, joined, prove the claim about the standard form."""
    parts = lambda first, cones: np.concatenate(
        [np.zeros(0), *(np.asarray(v, float) for v in first if v is not None), *(np.ravel(v) for v in cones)]
    )
    rows_of_A = None if solution.y is None else np.zeros(solution.y.shape)
    whole = cj.Solution(
        x=solution.x,
        s=parts((rows_of_A, solution.s), solution.s_cones),
        z=parts((solution.y, solution.z), solution.z_cones),
        objective=solution.objective,
        status=solution.status,
        info=solution.info,
    )
    certify_conic(*conic(*problem, **named), whole, tolerance, expected)


def solve(*problem, expected=Status.SOLVED, **named):
    solution = cj.solve_socp(*problem, **named)
    certify(solution, *problem, expected=expected, **named)
    return solution


def test_nearest_point_of_the_disk():
    M = np.eye(2, 3)
    solution = solve([0.0, 0, 1], [(M, [-3.0, -4], [0.0, 0, 1], None), (M, None, None, 1.0)])
    near(solution.x, [0.6, 0.8, 4], 1e-6)
    # lambda_1 = 1 from the last column; u_1 = -(x - p)/|x - p|, u_2 = -u_1 and lambda_2 = |u_2|
    near(solution.z_cones[0], [1, 0.6, 0.8], 1e-6)
    near(solution.z_cones[1], [1, -0.6, -0.8], 1e-6)
    near(solution.s_cones[0], [4, -2.4, -3.2], 1e-6)
    near(solution.s_cones[1], [1, 0.6, 0.8], 1e-6)
    assert (solution.s, solution.y, solution.z) == (None,) * 3


def test_identity_of_the_docstring():
    """Px + q + A'y + G'z - sum (lambda_i c_i + M_i'u_i) = 0, written out, with every block active."""
    rng = np.random.default_rng(0)
    n, M, c = 4, rng.normal(size=(2, 4)), rng.normal(size=4) * 0.1
    P, q = np.eye(n), -4 * np.ones(n)
    G, h, A, b = np.array([[1.0, 0, 0, 0]]), np.array([0.1]), np.array([[0.0, 1, 1, 0]]), np.array([0.3])
    norms = [(M, np.zeros(2), c, 1.0), (np.eye(n), None, None, 1.5)]
    solution = solve(q, norms, G, h, A, b, P=P)
    (l0, *u0), (l1, *u1) = (np.asarray(z) for z in solution.z_cones)
    left = P @ solution.x + q + A.T @ solution.y + G.T @ solution.z - (l0 * c + M.T @ u0) - np.array(u1)
    assert size(np.asarray(left)) <= 1e-7
    assert solution.z[0] > 0.1
    assert abs(solution.y[0]) > 0.1
    assert l1 > 0.1
    slack = np.concatenate([[c @ solution.x + 1], M @ np.asarray(solution.x)])
    near(solution.s_cones[0], slack)
    near(solution.s, h - G @ np.asarray(solution.x))


def test_batched_norms_are_the_same_as_one_by_one():
    rng = np.random.default_rng(1)
    n, count, k = 3, 4, 2
    M, r, c, d = (
        rng.normal(size=(count, k, n)),
        rng.normal(size=(count, k)),
        rng.normal(size=(count, n)) * 0.1,
        rng.uniform(3, 4, count),
    )
    q, ball = rng.normal(size=n), (np.eye(n), None, None, 2.0)
    together = solve(q, [(M, r, c, d), ball])
    apart = solve(q, [*zip(M, r, c, d, strict=True), ball])
    assert together.s_cones[0].shape == together.z_cones[0].shape == (count, k + 1)
    assert len(apart.s_cones) == count + 1
    near(together.objective, apart.objective)
    near(together.x, apart.x, 1e-5)
    near(together.s_cones[0], np.stack(apart.s_cones[:count]), 1e-5)
    defaults = solve(q, [(M, None, None, d)])
    near(defaults.objective, solve(q, [(M, np.zeros((count, k)), np.zeros((count, n)), d)]).objective)


def test_norm_of_no_rows_is_a_linear_inequality():
    # 0 <= c'x + d
    solution = solve([1.0, 1.0], [(np.zeros((0, 2)), None, [1.0, 0.0], 2.0)], G=[[0.0, -1.0]], h=[1.0])
    near(solution.x, [-2, -1])
    near(solution.z_cones[0], [1])
    near(solution.z, [1])


def test_absolute_value():
    # min 1/2 x^2 - 5 x, |x| <= 2
    solution = solve([-5.0], [([[1.0]], None, None, 2.0)], P=[[1.0]])
    near(solution.x, [2])
    near(solution.z_cones[0], [3, -3])


def test_no_norms():
    solution = solve([-1.0, -1.0], [], G=[[1.0, 2.0], [3.0, 1.0]], h=[4.0, 6.0])
    near(solution.x, [1.6, 1.2])
    assert solution.s_cones == solution.z_cones == ()


def test_empty_batch():
    solution = solve([1.0], [(np.zeros((0, 2, 1)), None, None, None)], P=[[1.0]])
    near(solution.x, [-1])
    assert solution.s_cones[0].shape == (0, 3)


def test_apex_of_the_cone_is_the_only_point():
    """|x| <= 0: a single point without interior. Its residuals prove it; the point is known to their square root."""
    solution = cj.solve_socp([1.0, 1.0], [(np.eye(2), None, None, None)])
    assert solution.status == Status.SOLVED
    near(solution.x, [0, 0], 1e-7)


def test_steiner_point():
    """The sum of distances to the corners of an equilateral triangle: its centre, sqrt 3 sides in all."""
    corners = np.array([[0, 0], [1, 0], [0.5, np.sqrt(3) / 2]])
    M, c = np.tile(np.eye(2, 5), (3, 1, 1)), np.eye(5)[2:]
    solution = solve([0.0, 0, 1, 1, 1], [(M, -corners, c, None)])
    near(solution.objective, np.sqrt(3))
    near(solution.x[:2], corners.mean(0), 1e-4)


def test_infeasible():
    """Two disks without a common point; the certificate contains r and d."""
    norms = [(np.eye(2), None, None, 1.0), (np.eye(2), [-3.0, 0.0], None, 1.0)]
    solution = solve([1.0, 1.0], norms, expected=Status.PRIMAL_INFEASIBLE)
    r, d = [np.zeros(2), np.array([-3.0, 0])], [1.0, 1.0]
    constant = sum(z[0] * d_i + z[1:] @ r_i for z, r_i, d_i in zip(solution.z_cones, r, d, strict=True))
    near(constant, -1)


def test_infeasible_with_equations_and_rows():
    solve(
        [1.0, 1.0],
        [(np.eye(2), None, None, 1.0)],
        [[-1.0, 0.0]],
        [-1.0],
        [[0.0, 1.0]],
        [1.0],
        expected=Status.PRIMAL_INFEASIBLE,
    )


def test_unbounded():
    # |x1| <= x2 opens upwards
    solution = solve([0.0, -1.0], [([[1.0, 0.0]], None, [0.0, 1.0], None)], expected=Status.DUAL_INFEASIBLE)
    near(solution.x[1], 1)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_units(scale):
    """The disk of another size."""
    solution = cj.solve_socp([3.0, 4.0], [(np.eye(2), None, None, scale)])
    assert solution.status == Status.SOLVED
    near(solution.x / scale, [-0.6, -0.8], 1e-6)
    near(solution.objective / scale, -5)
    near(solution.z_cones[0], [5, 3, 4], 1e-6)
