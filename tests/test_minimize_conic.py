"""Ten programs written as functions and as cone programs: one optimum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convexjax as cj
from convexjax import Status

N = 4


def least_squares_in_a_ball(rng):
    F, y = rng.normal(size=(9, N)), 3 * rng.normal(size=9)
    as_functions = cj.minimize(
        lambda x: jnp.sum((F @ x - y) ** 2) / 2,
        jnp.zeros(N),
        cones=[(lambda x: -jnp.concatenate([jnp.ones(1), x]), cj.SecondOrder(N + 1))],
    )
    conic = cj.solve_socp(-F.T @ y, [(np.eye(N), None, None, 1.0)], P=F.T @ F)
    return as_functions, conic, y @ y / 2


def linear_program(rng):
    G, x = rng.normal(size=(9, N)), rng.normal(size=N)
    h, c = G @ x + rng.uniform(0.1, 1, 9), -G.T @ rng.uniform(0, 1, 9)
    return cj.minimize(lambda x: c @ x, jnp.zeros(N), inequalities=lambda x: G @ x - h), cj.solve_lp(c, G, h), 0


def quadratic_program(rng):
    F, A, q = rng.normal(size=(N, N)), rng.normal(size=(1, N)), rng.normal(size=N)
    P, b = F @ F.T, A @ np.full(N, 0.3)
    as_functions = cj.minimize(
        lambda x: x @ P @ x / 2 + q @ x, jnp.zeros(N), equalities=(A, b), lb=0.0, inequalities=lambda x: jnp.sum(x) - 3
    )
    return as_functions, cj.solve_qp(P, q, np.ones((1, N)), [3.0], A, b, lb=0.0), 0


def norm_approximation(rng):
    F, y = rng.normal(size=(9, N)), rng.normal(size=9)
    as_functions = cj.minimize(
        lambda v: v["t"],
        {"t": jnp.array(9.0), "x": jnp.zeros(N)},
        cones=[(lambda v: -jnp.concatenate([v["t"][None], F @ v["x"] - y]), cj.SecondOrder(10))],
    )
    norm = (np.hstack([np.zeros((9, 1)), F]), -y, np.eye(1, N + 1)[0], None)
    return as_functions, cj.solve_socp(np.eye(1, N + 1)[0], [norm]), 0


def largest_entropy(rng):
    A = np.vstack([np.ones(N), rng.uniform(size=N)])
    b = A @ np.array([0.4, 0.3, 0.2, 0.1])
    as_functions = cj.minimize(lambda p: jnp.sum(p * jnp.log(p)), jnp.full(N, 0.25), equalities=(A, b))
    # t_i >= p_i log p_i: (-t_i, p_i, 1) in the exponential cone
    rows = np.zeros((3 * N, 2 * N))
    rows[0::3, :N], rows[1::3, N:] = np.eye(N), -np.eye(N)
    A_conic = np.vstack([np.hstack([np.zeros((2, N)), A]), rows])
    b_conic = np.concatenate([b, np.tile([0.0, 0.0, 1.0], N)])
    q = np.concatenate([np.ones(N), np.zeros(N)])
    return as_functions, cj.solve_conic(None, q, A_conic, b_conic, [cj.Zero(2), cj.Exponential(N)]), 0


def log_sum_exp(rng):
    """log sum_i exp(f_i'x + y_i) <= t as exponential cones, with a quadratic term."""
    F, y, q = rng.normal(size=(5, N)), rng.normal(size=5), rng.normal(size=N)
    as_functions = cj.minimize(lambda x: jax.nn.logsumexp(F @ x + y) + x @ x / 2 + q @ x, jnp.zeros(N))
    # variables (x, t, u): sum u <= 1, (f_i'x + y_i - t, 1, u_i) in the cone
    rows = np.zeros((15, N + 6))
    rows[0::3, :N], rows[0::3, N], rows[2::3, N + 1 :] = -F, 1, -np.eye(5)
    right = np.zeros(15)
    right[0::3], right[1::3] = y, 1
    A = np.vstack([np.concatenate([np.zeros(N + 1), np.ones(5)]), rows])
    P = np.diag(np.concatenate([np.ones(N), np.zeros(6)]))
    linear = np.concatenate([q, [1.0], np.zeros(5)])
    cones = [cj.Nonnegative(1), cj.Exponential(5)]
    return as_functions, cj.solve_conic(P, linear, A, np.concatenate([[1.0], right]), cones), 0


def smallest_largest_eigenvalue(rng):
    F = rng.normal(size=(3, 3, 3))
    F = F + F.transpose(0, 2, 1)
    as_functions = cj.minimize(
        lambda v: v[0],
        jnp.array([20.0, 0.0, 0.0]),
        cones=[(lambda v: F[0] + v[1] * F[1] + v[2] * F[2] - v[0] * jnp.eye(3), cj.PSD(3))],
        lb=np.array([-np.inf, -1, -1]),
        ub=np.array([np.inf, 1, 1]),
    )
    box = np.zeros((3, 4, 4))
    box[0] = np.eye(4)
    box[1, 0, 0], box[1, 1, 1], box[2, 2, 2], box[2, 3, 3] = 1, -1, 1, -1
    blocks = [np.stack([-F[0], np.eye(3), -F[1], -F[2]]), np.concatenate([box[:1], np.zeros((1, 4, 4)), box[1:]])]
    return as_functions, cj.solve_sdp(c=[1.0, 0.0, 0.0], F=blocks), 0


def robust_linear_program(rng):
    G, R, x = rng.normal(size=(7, N)), 0.3 * rng.normal(size=(7, N, N)), rng.normal(size=N)
    h = G @ x + np.linalg.norm(R @ x, axis=1) + rng.uniform(0.1, 1, 7)
    c = -G.T @ np.ones(7)
    as_functions = cj.minimize(
        lambda x: c @ x,
        jnp.zeros(N),
        cones=[(lambda x: -jnp.concatenate([(h - G @ x)[:, None], R @ x], 1), cj.SecondOrder(N + 1, count=7))],
        lb=-10.0,
        ub=10.0,
    )
    box = np.vstack([np.eye(N), -np.eye(N)])
    return as_functions, cj.solve_socp(c, [(R, None, -G, h)], box, np.full(2 * N, 10.0)), 0


def nearest_correlation_matrix(rng):
    C = rng.uniform(-1, 1, (3, 3))
    target, diagonal = np.asarray(cj.svec(jnp.asarray(C + C.T))), np.array([0, 2, 5])
    A = np.zeros((3, 6))
    A[np.arange(3), diagonal] = 1
    as_functions = cj.minimize(
        lambda x: jnp.sum((x - target) ** 2) / 2,
        jnp.zeros(6),
        equalities=(A, np.ones(3)),
        cones=[(lambda x: -cj.smat(x, 3), cj.PSD(3))],
    )
    cones, rows = [cj.Zero(3), cj.PSD(3)], np.vstack([A, -np.eye(6)])
    conic = cj.solve_conic(np.eye(6), -target, rows, np.concatenate([np.ones(3), np.zeros(6)]), cones)
    return as_functions, conic, target @ target / 2


def powers(rng):
    A, b = rng.uniform(0.5, 1, (2, N)), np.array([3.0, 2.5])
    as_functions = cj.minimize(lambda x: jnp.sum(x**1.5), jnp.ones(N), inequalities=lambda x: b - A @ x, lb=0.0)
    # |x_i| <= t_i^(2/3) 1^(1/3)
    rows, right = np.zeros((3 * N, 2 * N)), np.zeros(3 * N)
    rows[0::3, :N], rows[2::3, N:], right[1::3] = -np.eye(N), -np.eye(N), 1
    rows = np.vstack([np.hstack([np.zeros((2, N)), -A]), np.hstack([np.zeros((N, N)), -np.eye(N)]), rows])
    right = np.concatenate([-b, np.zeros(N), right])
    q = np.concatenate([np.ones(N), np.zeros(N)])
    return as_functions, cj.solve_conic(None, q, rows, right, [cj.Nonnegative(2 + N), cj.Power([2 / 3] * N)]), 0


PROGRAMS = (
    least_squares_in_a_ball,
    linear_program,
    quadratic_program,
    norm_approximation,
    largest_entropy,
    log_sum_exp,
    smallest_largest_eigenvalue,
    robust_linear_program,
    nearest_correlation_matrix,
    powers,
)


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_functions_and_cones_have_one_optimum(program):
    as_functions, conic, constant = program(np.random.default_rng(3))
    assert as_functions.status == Status.SOLVED and conic.status == Status.SOLVED
    np.testing.assert_allclose(as_functions.objective, conic.objective + constant, rtol=1e-7, atol=1e-7)
