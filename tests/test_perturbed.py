"""Averages over noise of solvers whose solutions jump: values and derivatives against the normal distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import convexjax as cj

pytestmark = pytest.mark.core

KEY = jax.random.key(3)
COST = jnp.array([1.0, 1.3])


def cheaper(c):
    """argmin c'x over the simplex of two points, without a solver."""
    return jnp.where(c[0] < c[1], jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))


def chosen(c, sigma):
    """The average of the first entry: the probability that c0 + sigma Z0 < c1 + sigma Z1."""
    return norm.cdf((c[1] - c[0]) / (sigma * 2**0.5))


def test_value_and_derivatives_are_those_of_the_average():
    sigma = 0.5
    soft = cj.perturbed(cheaper, KEY, sigma=sigma, num_samples=200_000)
    np.testing.assert_allclose(soft(COST)[0], chosen(COST, sigma), atol=5e-3)
    exact = jax.grad(chosen)(COST, sigma)
    np.testing.assert_allclose(jax.grad(lambda c: soft(c)[0])(COST), exact, atol=1e-2)
    np.testing.assert_allclose(jax.jacfwd(soft)(COST), jax.jacrev(soft)(COST), atol=1e-12)


def test_linear_program_learns_from_its_cost():
    A, b = jnp.ones((1, 3)), jnp.ones(1)
    soft = cj.perturbed(lambda c: cj.solve_lp(c, A=A, b=b, lb=0.0).x, KEY, sigma=0.5, num_samples=64)
    loss = jax.jit(jax.value_and_grad(lambda c: jnp.sum((soft(c) - jnp.array([0.0, 0.0, 1.0])) ** 2)))
    c = jnp.array([1.0, 1.1, 1.6])
    before, _ = loss(c)
    for _ in range(20):
        c = c - 0.3 * loss(c)[1]
    assert loss(c)[0] < 0.2 * before


def test_data_that_the_solver_holds_have_their_own_derivative():
    def value(b):
        soft = cj.perturbed(lambda c: cj.solve_lp(c, A=jnp.ones((1, 2)), b=b, lb=0.0).x, KEY, num_samples=8)
        return jnp.sum(soft(COST))

    # the entries of x add up to b
    np.testing.assert_allclose(jax.grad(value)(jnp.array([2.0])), [1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"num_samples": 3}, "num_samples"), ({"num_samples": 0}, "num_samples"), ({"sigma": 0.0}, "sigma")],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        cj.perturbed(cheaper, KEY, **arguments)


@pytest.mark.parametrize("cost", [jnp.ones((2, 2)), jnp.array([1, 2])])
def test_bad_costs(cost):
    with pytest.raises(ValueError, match="cost"):
        cj.perturbed(cheaper, KEY)(cost)
