"""`minimize` at the edges: equations that contradict each other, constraints far away, curvature on the way."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convexjax as cj
from convexjax import Status

RNG = np.random.default_rng(0)
A = RNG.normal(size=(3, 5))
A = np.vstack([A, A[0] + A[1]])
x = np.array([0.2, 0.3, 0.1, 0.5, 0.4])


def test_equations_that_contradict_each_other_are_proved_to():
    def solve(b):
        entropy = lambda x: jnp.sum(x * jnp.log(x))
        return cj.minimize(entropy, jnp.ones(5), equalities=(A, b), lb=0.0, inequalities=lambda x: x @ x - 100)

    solve = jax.jit(solve, compiler_options=cj.QUICK_COMPILATION)
    for size in (10.0, 1e-4):
        solution = solve(A @ x + size * np.eye(4)[3])
        assert solution.status == Status.PRIMAL_INFEASIBLE and solution.info.num_iters == 0
        y = np.asarray(solution.y)
        np.testing.assert_allclose(y @ (A @ np.asarray(solution.x) - A @ x - size * np.eye(4)[3]), 1, rtol=1e-9)
        assert np.abs(y @ A).max() <= 1e-9
        assert np.all(np.asarray(solution.z_lb) == 0) and solution.z == 0
    # redundant, and with rounding errors only
    assert solve(A @ x * (1 + 1e-15)).status == Status.SOLVED


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_constraints_far_away_have_no_effect(scale):
    g = lambda x: scale * jnp.stack([x[0] - 1e3, x @ x - 1e6])
    solution = cj.minimize(lambda x: jnp.sum((x - 1) ** 2), jnp.zeros(3), inequalities=g, ub=1e6)
    assert solution.status == Status.SOLVED
    np.testing.assert_allclose(solution.x, 1, atol=1e-7)
    assert np.abs(solution.z).max() * scale <= 1e-6 and np.abs(solution.z_ub).max() <= 1e-6


def test_an_objective_in_small_units_is_solved_to_its_own_accuracy():
    f = lambda x: 1e-8 * jnp.sum((x - 1) ** 2)
    solution = cj.minimize(f, jnp.zeros(3), inequalities=lambda x: x[0] - 3.0)
    assert solution.status == Status.SOLVED
    np.testing.assert_allclose(solution.x, 1, atol=1e-5)


def test_bounds_that_no_number_satisfies():
    for arguments in ({"lb": np.array([np.inf, 0.0])}, {"ub": -np.inf}):
        with pytest.raises(ValueError, match="which no x satisfies"):
            cj.minimize(lambda x: x @ x, jnp.zeros(2), **arguments)
    solve = jax.jit(lambda lb: cj.minimize(lambda x: x @ x, jnp.zeros(2), lb=lb))
    solution = solve(jnp.array([jnp.inf, 0.0]))
    assert solution.status == Status.PRIMAL_INFEASIBLE and solution.z_lb.tolist() == [1, 0]
    assert solve(jnp.array([1.0, -jnp.inf])).status == Status.SOLVED


@pytest.mark.parametrize("lb", [None, -20.0], ids=["newton", "interior point"])
def test_a_hessian_that_is_indefinite_on_the_way(lb):
    # convex at both ends, with a hill between them that the method walks over
    f = lambda x, height: jnp.sum(jnp.exp(x) - x + height * jnp.exp(-((x - 5) ** 2) / 2))
    solve = jax.jit(lambda height: cj.minimize(f, jnp.full(1, 10.0), lb=lb, params=height))
    curvature = jax.grad(lambda x: jax.grad(lambda x: f(x, 400.0))(x))
    assert curvature(10.0) > 0 and curvature(0.0) > 0 and curvature(5.0) < 0
    assert solve(400.0).status == Status.NONCONVEX
    convex = solve(0.0)
    assert convex.status == Status.SOLVED
    np.testing.assert_allclose(convex.x, 0, atol=1e-6)


def test_no_variables(recwarn):
    assert cj.minimize(lambda x: jnp.sum(x), jnp.zeros(0)).status == Status.SOLVED
    assert not [w for w in recwarn if issubclass(w.category, RuntimeWarning)]
