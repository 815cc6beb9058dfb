"""The graphical lasso: duality gap and optimality conditions by NumPy, derivatives, transforms, claims, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import near

import convexjax as cj
from convexjax.learn import graphical_lasso

Status = cj.Status
P = 6


def covariance(seed, p=P, n=30):
    return np.cov(np.random.default_rng(seed).normal(size=(n, p)).T)


def certify(S, Lambda, found, tolerance=1e-8):
    """Objective, duality gap and subgradient from the data."""
    X = np.asarray(found.precision, float)
    near(found.covariance, np.linalg.inv(X), 1e-7)
    value = np.sum(S * X) - np.linalg.slogdet(X)[1] + np.sum(Lambda * np.abs(X))
    W = S + np.clip(np.linalg.inv(X) - S, -Lambda, Lambda)
    assert np.linalg.eigvalsh(W)[0] > 0
    assert value - np.linalg.slogdet(W)[1] - len(S) <= tolerance * max(1, abs(value))
    near(found.objective, value, 10 * tolerance)
    assert found.status == Status.SOLVED and found.gap <= 1.01 * tolerance


@pytest.fixture(scope="module")
def fitted():
    S = covariance(0)
    return S, graphical_lasso.fit(S, 0.15)


@pytest.mark.core
def test_optimum(fitted):
    S, found = fitted
    off = 1 - np.eye(P)
    certify(S, 0.15 * off, found)
    X = np.asarray(found.precision)
    assert 0 < np.sum(X == 0) < P * (P - 1)
    difference = S - np.linalg.inv(X)
    near(difference[X != 0], -(0.15 * off * np.sign(X))[X != 0], 1e-6)
    assert np.all(np.abs(difference) <= 0.15 + 1e-6)


def test_matrix_of_penalties():
    """Entries of their own, the diagonal too; large in some rows and of data in very different units."""
    rng = np.random.default_rng(1)
    units = 10.0 ** np.arange(-3, 3)
    S = covariance(1) * units[:, None] * units
    Lambda = rng.uniform(0, 0.3, (P, P)) * units[:, None] * units
    Lambda = (Lambda + Lambda.T) / 2
    certify(S, Lambda, graphical_lasso.fit(S, Lambda))


def test_fewer_samples_than_variables():
    S = covariance(2, n=4)
    certify(S, 0.3 * (1 - np.eye(P)), graphical_lasso.fit(S, 0.3))


def test_no_penalty_gives_the_inverse():
    S = covariance(3)
    near(graphical_lasso.fit(S, 0.0).precision, np.linalg.inv(S), 1e-4)


def test_large_penalty_gives_a_diagonal_at_once():
    S = covariance(4)
    found = graphical_lasso.fit(S, 10.0)
    near(found.precision, np.diag(1 / np.diag(S)), 1e-12)
    assert found.num_iters == 0


def test_float32():
    S = covariance(0).astype(np.float32)
    found = graphical_lasso.fit(S, np.float32(0.15))
    assert found.precision.dtype == np.float32 and found.status == Status.SOLVED
    near(found.precision, graphical_lasso.fit(S.astype(float), 0.15).precision, 1e-2)


# ----------------------------------------------------------------------------- transforms


def loss(S, Lambda):
    found = graphical_lasso.fit(S, Lambda, tolerance=1e-14)
    return found.objective + jnp.sum(jnp.sin(found.precision)) + jnp.sum(found.covariance**2)


def test_derivatives(fitted):
    """First and second ones against differences, in S and Lambda."""
    S, _ = fitted
    rng = np.random.default_rng(5)
    symmetric = lambda M: (M + M.T) / 2
    Lambda = jnp.asarray(0.15 * (1 - np.eye(P)))
    gradient = jax.jit(jax.grad(loss, (0, 1)))
    directions = [symmetric(rng.normal(size=(P, P))) for _ in range(2)]
    h = 1e-4
    both = [jnp.asarray(S) + np.outer([h, -h, 0, 0], 1)[:, :, None] * directions[0], None]
    both[1] = Lambda + np.outer([0, 0, h, -h], 1)[:, :, None] * directions[1] * (1 - np.eye(P))
    values = jax.jit(jax.vmap(loss))(*both)
    found = gradient(jnp.asarray(S), Lambda)
    near(np.sum(found[0] * directions[0]), (values[0] - values[1]) / (2 * h), 1e-6)
    near(np.sum(found[1] * directions[1] * (1 - np.eye(P))), (values[2] - values[3]) / (2 * h), 1e-6)
    along = lambda t: loss(S + t * directions[0], Lambda)
    second = jax.jit(jax.hessian(along))(0.0)
    slope = jax.jit(jax.vmap(jax.grad(along)))(jnp.asarray([h, -h]))
    near(second, (slope[0] - slope[1]) / (2 * h), 1e-5)


def test_lanes_of_a_batch(fitted):
    """NaN, an unbounded lane, and lanes that are as alone."""
    S, alone = fitted
    nothing = S.copy()
    nothing[0] = nothing[:, 0] = 0
    batch = jnp.stack([jnp.asarray(M) for M in (S, np.full_like(S, np.nan), nothing, 2 * S)])
    solve = jax.jit(jax.vmap(lambda S, penalty: graphical_lasso.fit(S, penalty)))
    found = solve(batch, jnp.asarray([0.15, 0.15, 0.15, 0.3]))
    assert found.status.tolist() == [
        Status.SOLVED,
        Status.NUMERICAL_ERROR,
        Status.DUAL_INFEASIBLE,
        Status.SOLVED,
    ]
    near(found.precision[0], alone.precision, 1e-12)
    near(found.precision[3], alone.precision / 2, 1e-7)
    assert found.objective[2] == -np.inf
    total = lambda batch: jnp.sum(jax.vmap(lambda S: graphical_lasso.fit(S, 0.15).objective)(batch)[jnp.array([0, 3])])
    gradient = jax.jit(jax.grad(total))(batch)
    near(gradient[0], alone.precision, 1e-7)
    assert np.all(gradient[1] == 0) and np.all(gradient[2] == 0)


# ----------------------------------------------------------------------------- bad input


def test_bad_input():
    S = covariance(0)
    with pytest.raises(ValueError, match=r"S has shape \(6, 5\)"):
        graphical_lasso.fit(S[:, :5], 0.1)
    with pytest.raises(ValueError, match=r"penalty has shape \(3,\)"):
        graphical_lasso.fit(S, np.ones(3))
    with pytest.raises(ValueError, match="its largest asymmetry is 1"):
        graphical_lasso.fit(S + np.eye(P)[:, ::-1] * np.tri(P), 0.1)
    with pytest.raises(ValueError, match=r"penalty must be nonnegative, got -0\.1"):
        graphical_lasso.fit(S, -0.1)
