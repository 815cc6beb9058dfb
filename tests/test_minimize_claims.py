"""Claims about programs given as functions that look right and are not, and derivatives of batches."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convexjax as cj
from convexjax import Status, learn


def logarithm(x, p):
    return p - jnp.log(x)


@pytest.fixture(scope="module")
def behind_a_logarithm():
    return jax.jit(lambda p: cj.minimize(lambda x, p: x[0], jnp.ones(1), params=p, inequalities=logarithm))


def test_feasible_far_away_is_not_infeasible(behind_a_logarithm):
    solution = behind_a_logarithm(3.0)
    assert solution.status == Status.SOLVED
    np.testing.assert_allclose(solution.x, np.exp(3.0), rtol=1e-6)
    for p in (25.0, 30.0):  # x >= e^p
        assert behind_a_logarithm(p).status not in (Status.PRIMAL_INFEASIBLE, Status.DUAL_INFEASIBLE)


def test_a_minimum_far_away_is_not_unbounded():
    f = lambda x, p: 2 * p * jnp.sqrt(1 + (x[0] / p) ** 2) - x[0]  # least at p / sqrt 3
    solve = jax.jit(lambda p: cj.minimize(f, jnp.ones(1), params=p, inequalities=lambda x, p: -x[0] - 1))
    np.testing.assert_allclose(solve(1e3).x, 1e3 / np.sqrt(3), rtol=1e-5)
    assert solve(1e10).status != Status.DUAL_INFEASIBLE


def test_a_saddle_is_not_a_solution_of_the_barrier_method():
    assert cj.barrier_method(lambda x: x[0] * x[1], jnp.zeros(2)).status == Status.NONCONVEX


def test_an_infinite_bound_has_no_barrier():
    options = cj.Options(tolerance=1e-6)
    f = lambda x: (x - 2) @ (x - 2)
    solution = cj.barrier_method(f, 0.1 * jnp.ones(2), lb=-jnp.inf, ub=1.0, options=options)
    assert solution.status == Status.SOLVED
    np.testing.assert_allclose(solution.x, 1, atol=1e-6)


def test_the_gradient_of_a_batch_with_data_that_all_lanes_share():
    f0 = lambda x, p: p * jnp.sum(x**2) - x[0] - x[1]
    one = lambda p: jnp.sum(
        cj.minimize(f0, jnp.zeros(3), params=p, ub=0.3, equalities=(jnp.ones((1, 3)), jnp.ones(1) * 0.2)).x ** 2
    )
    p = jnp.array([0.5, 1.0, 3.0])
    of_batch = jax.jit(jax.grad(lambda p: jnp.sum(jax.vmap(one)(p))))(p)
    np.testing.assert_allclose(of_batch, jax.jit(jax.vmap(jax.grad(one)))(p), atol=1e-9)


def test_the_gradient_of_a_batch_with_nan_for_lanes_that_fail():
    options = cj.Options(failed_derivative="nan")
    one = lambda q: jnp.sum(cj.solve_qp(np.eye(2), q, ub=0.3, options=options).x)
    q = jnp.array([[1.0, -2.0], [0.5, 0.5]])
    np.testing.assert_allclose(jax.grad(lambda q: jnp.sum(jax.vmap(one)(q)))(q), [[-1, 0], [-1, -1]], atol=1e-7)


def test_one_large_row_does_not_hide_that_classes_overlap():
    X, y = np.array([[1e7], [1.0], [1.0], [-1.0], [2.0], [-2.0]]), np.array([1.0, 0, 1, 1, 0, 0])
    assert learn.logistic.fit(X, y, intercept=False).status != Status.DUAL_INFEASIBLE
    X, y = np.array([[-1e7], [1.0], [2.0]]), np.array([0.0, 3, 8])
    assert learn.poisson.fit(X, y, intercept=False).status != Status.DUAL_INFEASIBLE


WRONG = {
    "no equations": ({"equalities": (None, None)}, "equalities"),
    "a scalar right-hand side": ({"equalities": (jnp.ones((1, 2)), 1.0)}, "b has shape"),
    "inequalities that return nothing": ({"inequalities": lambda x: None}, "inequalities must return"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_named(case):
    arguments, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        cj.minimize(lambda x: x @ x, jnp.ones(2), **arguments)


def test_numpy_in_a_function_is_told_as_jax_tells_it():
    with pytest.raises(jax.errors.TracerArrayConversionError):
        cj.minimize(lambda x: jnp.sum(jnp.asarray(np.asarray(x))), jnp.ones(2))


def test_a_batch_of_horizons_is_not_shifted_along_its_lanes():
    solve = jax.vmap(lambda x0: cj.solve_mpc(np.eye(1), np.eye(1), np.eye(1), np.eye(1), x0, horizon=3))
    solutions = solve(jnp.ones((2, 1)))
    with pytest.raises(ValueError, match=r"use jax\.vmap"):
        cj.shift_horizon(solutions)
    assert jax.vmap(cj.shift_horizon)(solutions).x.states.shape == (2, 4, 1)
