"""`solve_maxdet`: closed forms, optimality conditions, derivatives, transforms, claims, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sparse
from helpers import near
from test_sdp import definite, inner, psd, symmetric
from test_sdp_large import checked_derivatives

import convexjax as cj

Status = cj.Status


def basis(k):
    """(1 + k (k + 1) / 2, k, k): zero, and the symmetric matrices with one entry of the upper triangle."""
    i, j = np.triu_indices(k)
    E = np.zeros((1 + i.size, k, k))
    E[1 + np.arange(i.size), i, j] = E[1 + np.arange(i.size), j, i] = 1
    return E


def certify(c, F, solution, G=None, A=None, b=None, tolerance=1e-7):
    """Feasibility, the multipliers and the duality gap, from the data."""
    assert solution.status == Status.SOLVED, (Status(int(solution.status)), solution.info)
    x = np.asarray(solution.x)
    (S,), (W,) = solution.s_cones, solution.z_cones
    near(S, F[0] + np.tensordot(x, F[1:], 1), tolerance)
    primal = c @ x - np.linalg.slogdet(S)[1]
    dual = np.linalg.slogdet(W)[1] + len(S) - inner(F[0], W)
    stationarity = c - inner(F[1:], W)
    if G is not None:
        s, z = np.asarray(solution.s), np.asarray(solution.z)
        near(s, G[0] + np.tensordot(x, G[1:], 1), tolerance)
        for M in (s, z):
            psd(M if M.ndim == 2 else np.diag(M), tolerance)
        axes = tuple(range(1, G.ndim))
        stationarity, dual = stationarity - np.sum(G[1:] * z, axes), dual - np.sum(G[0] * z)
    if A is not None:
        near(A @ x, b, tolerance)
        stationarity, dual = stationarity + solution.y @ A, dual - b @ solution.y
    near(stationarity, 0 * stationarity, tolerance * max(1, np.abs(c).max()))
    near(primal, dual, tolerance)
    near(solution.objective, primal, tolerance)


def test_inverse():
    """min trace(S X) - log det X is at X = S^-1."""
    S = definite(np.random.default_rng(0), 3)
    F = basis(3)
    c = inner(F[1:], S)
    solution = cj.solve_maxdet(c, F)
    certify(c, F, solution)
    near(solution.s_cones[0], np.linalg.inv(S), 1e-6)
    assert solution.s is None and solution.z is None and solution.y is None


def design(rng, n=12, k=3):
    V = rng.normal(size=(n, k))
    F = np.concatenate([np.zeros((1, k, k)), V[:, :, None] * V[:, None]])
    G = np.concatenate([np.zeros((1, n)), np.eye(n)])
    return V, F, G


@pytest.fixture(scope="module")
def optimal_design():
    V, F, G = design(np.random.default_rng(1))
    return V, F, G, cj.solve_maxdet(np.zeros(12), F, G, np.ones((1, 12)), [1.0])


def test_optimal_design(optimal_design):
    """Kiefer and Wolfowitz: v_i' M^-1 v_i <= k, with equality where there is weight."""
    V, F, G, solution = optimal_design
    certify(np.zeros(12), F, solution, G, np.ones((1, 12)), np.ones(1))
    leverage = np.einsum("ni,ij,nj->n", V, np.asarray(solution.z_cones[0]), V)
    near(leverage.max(), 3)
    near(leverage[np.asarray(solution.x) > 1e-4], 3, 1e-4)


def test_matrix_inequality_and_sparse_matrices():
    rng = np.random.default_rng(2)
    n, k = 3, 3
    F = np.concatenate([definite(rng, k)[None], symmetric(rng, n, k, k)])
    G = np.concatenate([definite(rng, k)[None], symmetric(rng, n, k, k)])
    c = inner(F[1:], definite(rng, k)) + inner(G[1:], definite(rng, k))
    solution = cj.solve_maxdet(c, F, G)
    certify(c, F, solution, G)
    listed = cj.solve_maxdet(c, [sparse.coo_array(F_i) for F_i in F], [sparse.coo_array(G_i) for G_i in G])
    near(listed.objective, solution.objective)
    twice = cj.solve_maxdet(2 * c, [F, F], [G, G])  # the same problem, everything twice
    near(twice.objective, 2 * solution.objective)
    assert len(twice.s_cones) == 2 and len(twice.s) == 2


def test_graphical_lasso():
    """min trace(S X) - log det X + rho |X_ij| off the diagonal: |S - X^-1| <= rho there."""
    rng = np.random.default_rng(3)
    p, rho = 4, 0.1
    S = np.cov(rng.normal(size=(30, p)).T)
    E = basis(p)
    i, j = np.triu_indices(p)
    off = np.flatnonzero(i != j)
    n = i.size
    F = np.concatenate([E, np.zeros((off.size, p, p))])
    T = np.eye(off.size)
    X = np.zeros((off.size, n))
    X[np.arange(off.size), off] = 1
    G = np.concatenate([np.zeros((1, 2 * off.size)), np.concatenate([np.vstack([X.T, T]), np.vstack([-X.T, T])], 1)])
    c = np.concatenate([inner(E[1:], S), np.full(off.size, 2 * rho)])
    solution = cj.solve_maxdet(c, F, G)
    certify(c, F, solution, G)
    theta = np.asarray(solution.s_cones[0])
    difference = S - np.linalg.inv(theta)
    zero = np.abs(theta) < 1e-5
    assert np.all(np.abs(difference) <= rho + 1e-5)
    near(
        (difference + rho * np.sign(theta))[~zero & ~np.eye(p, dtype=bool)],
        0 * theta[~zero & ~np.eye(p, dtype=bool)],
        1e-5,
    )


# ----------------------------------------------------------------------------- transforms


def test_derivatives_with_respect_to_all_data():
    rng = np.random.default_rng(4)
    F = np.concatenate([definite(rng, 3)[None], symmetric(rng, 3, 3, 3)])
    G = np.concatenate([definite(rng, 2)[None], symmetric(rng, 3, 2, 2)])
    c = inner(F[1:], definite(rng, 3)) + inner(G[1:], definite(rng, 2))
    A, x = rng.normal(size=(1, 3)), 0.1 * rng.normal(size=3)

    def function(c, F, G, A, b):
        solution = cj.solve_maxdet(c, F, G, A, b, options=cj.Options(tolerance=1e-11))
        return solution.objective + jnp.sum(jnp.sin(solution.x)) + jnp.sum(solution.z**2) + jnp.sum(solution.y)

    checked_derivatives(function, [jnp.asarray(v) for v in (c, F, G, A, A @ x)])


def test_second_derivatives_and_batches():
    """x = S^-1 as a function of S, for S of several lanes."""
    F = jnp.asarray(basis(2))
    S = jnp.asarray([[2.0, 0.5], [0.5, 1.0]])
    of_S = lambda S: jnp.sum(jnp.sin(cj.solve_maxdet(jnp.sum(F[1:] * S, (1, 2)), F).s_cones[0]))
    exact = lambda S: jnp.sum(jnp.sin(jnp.linalg.inv((S + S.T) / 2)))
    near(jax.jit(jax.hessian(of_S))(S), jax.hessian(exact)(S), 1e-6)
    scales = jnp.asarray([1.0, 2.0, -1.0])
    batch = jax.vmap(lambda t: cj.solve_maxdet(jnp.sum(F[1:] * S * t, (1, 2)), F))(scales)
    assert batch.status.tolist() == [Status.SOLVED, Status.SOLVED, Status.DUAL_INFEASIBLE]
    near(batch.s_cones[0][1], np.linalg.inv(2 * S), 1e-6)


def test_float32(optimal_design):
    _, F, G, exact = optimal_design
    data = (np.zeros(12), F, G, np.ones((1, 12)), np.ones(1))
    solution = cj.solve_maxdet(*(v.astype(np.float32) for v in data))
    assert solution.status == Status.SOLVED and solution.x.dtype == np.float32
    near(solution.objective, exact.objective, 1e-4)


# ----------------------------------------------------------------------------- claims and bad input


def test_unbounded_and_infeasible():
    F = np.stack([np.eye(2), np.eye(2)])
    solution = cj.solve_maxdet([-1.0], F)
    assert solution.status == Status.DUAL_INFEASIBLE and solution.objective == -np.inf
    near(solution.x, [1.0])
    solution = cj.solve_maxdet([1.0], np.stack([-np.eye(2), np.diag([1.0, -1.0])]))
    assert solution.status == Status.PRIMAL_INFEASIBLE and solution.objective == np.inf
    (W,) = solution.z_cones
    psd(W, 0)
    near([W[0, 0] - W[1, 1], -np.trace(W)], [0, -1])


def test_log_det_that_grows_for_ever():
    """c = 0: no direction of linear descent, but one along which the log det grows."""
    F = np.stack([np.eye(2), np.diag([1.0, 0.0]), np.diag([0.0, 1.0])])
    solution = cj.solve_maxdet([0.0, 1.0], F)
    assert solution.status == Status.DUAL_INFEASIBLE and solution.objective == -np.inf
    ray = np.tensordot(solution.x, F[1:], 1)
    near(np.trace(ray), 1)
    psd(ray, 1e-7)
    assert solution.x[1] <= 1e-8


def test_no_interior():
    """F(x) is singular for all x: there is no value."""
    F = np.stack([np.diag([1.0, 0.0]), np.diag([1.0, 0.0])])
    assert cj.solve_maxdet([1.0], F).status not in (Status.SOLVED, Status.ALMOST_SOLVED)


def test_bad_input():
    F = np.stack([np.eye(2), np.array([[1.0, 2.0], [1.0, 1.0]])])
    with pytest.raises(ValueError, match="F is not symmetric: its largest asymmetry is 1"):
        cj.solve_maxdet([1.0], F)
    with pytest.raises(ValueError, match="A given without b"):
        cj.solve_maxdet([1.0], np.stack([np.eye(2)] * 2), A=np.ones((1, 1)))
    with pytest.raises(ValueError, match="F has shape"):
        cj.solve_maxdet([1.0, 2.0], np.stack([np.eye(2)] * 2))
