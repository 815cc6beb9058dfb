"""The barrier method, structured Hessians and the check of convexity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import near

import convexjax as cj
from convexjax import Status

RNG = np.random.default_rng(0)
G, H = RNG.normal(size=(12, 4)), RNG.uniform(1, 2, 12)
ONES, TOTAL = np.ones((1, 4)), np.array([0.3])


def f(x):
    return jnp.sum(jnp.exp(x)) + x @ x


def g(x):
    return G @ x - H


def ball(x):
    return -jnp.concatenate([jnp.ones(1), 2 * x])


PROBLEM = {"inequalities": g, "equalities": (ONES, TOTAL), "cones": [(ball, cj.SecondOrder(5))], "lb": -0.4}


def test_barrier_method():
    options = cj.Options(history=100)
    plain = cj.barrier_method(f, jnp.zeros(4), options=options, **PROBLEM)
    known = cj.minimize(f, jnp.zeros(4), **PROBLEM)
    assert plain.status == known.status == Status.SOLVED
    near(plain.x, known.x)
    near(plain.z, known.z, 1e-5)
    near(plain.z_cones[0], known.z_cones[0], 1e-5)
    near(plain.y, known.y, 1e-5)
    mu = np.asarray(plain.info.history.mu)[: int(plain.info.num_iters)]
    assert np.all(np.diff(mu) <= 0) and mu[0] == 1
    # not strictly feasible
    assert cj.barrier_method(f, jnp.full(4, 5.0), **PROBLEM).status == Status.NUMERICAL_ERROR
    with pytest.raises(ValueError, match="Exponential"):
        cj.barrier_method(f, jnp.zeros(4), cones=[(lambda x: x[:3], cj.Exponential())])


def diagonal_problem(h, **arguments):
    # a separable objective with a square of few sums, entropy and an active row
    return cj.minimize(
        lambda x: jnp.sum(x * jnp.log(x)) + jnp.sum((F.T @ x) ** 2) / 2,
        jnp.full(40, 1 / 40),
        inequalities=lambda x: ROWS @ x - h,
        equalities=(np.ones((1, 40)), np.ones(1)),
        ub=0.2,
        **arguments,
    )


F, ROWS = RNG.normal(size=(40, 2)), RNG.normal(size=(3, 40))
RIGHT = jnp.array(ROWS @ np.full(40, 1 / 40) - 0.05)


@pytest.mark.parametrize("derivative", ["value", "gradient"])
def test_low_rank_hessian(derivative):
    low_rank = lambda h: diagonal_problem(h, hessian=lambda x: (1 / x, jnp.asarray(F)))
    if derivative == "value":
        solution, known = low_rank(RIGHT), diagonal_problem(RIGHT)
        assert solution.status == known.status == Status.SOLVED
        near(solution.x, known.x)
        near(solution.z, known.z, 1e-6)
    else:
        slope = lambda solve: jax.jit(jax.grad(lambda h: solve(h).x[0]))(RIGHT)
        near(slope(low_rank), slope(diagonal_problem), 1e-6)


def logistic(theta, penalty):
    return jnp.sum(jnp.logaddexp(0, -DATA @ theta)) + penalty * theta @ theta / 2


DATA = RNG.normal(size=(90, 30))


def test_products_of_the_hessian():
    """The same solution and derivatives as with the matrix; an indefinite Hessian and descent for ever are found."""
    fit = lambda penalty, hessian: cj.minimize(logistic, jnp.zeros(30), params=penalty, hessian=hessian)

    def both(penalty, hessian):
        value = lambda penalty: jnp.sum(jnp.sin(fit(penalty, hessian).x))
        return value(penalty), jax.grad(value)(penalty), jax.jvp(jax.grad(value), (penalty,), (1.0,))[1]

    known, new = (jax.jit(both, static_argnums=1)(0.3, hessian) for hessian in ("dense", "products"))
    for a, b in zip(known, new, strict=True):
        near(a, b, 1e-8)
    lanes = jax.vmap(lambda penalty: fit(penalty, "products").status)(jnp.array([0.3, -1e3, jnp.nan, 1.0]))
    assert lanes.tolist() == [Status.SOLVED, Status.NONCONVEX, Status.NUMERICAL_ERROR, Status.SOLVED]
    solution = fit(0.3, "products")
    near(jax.grad(logistic)(solution.x, 0.3), np.zeros(30), 1e-7)
    linear = cj.minimize(jnp.sum, jnp.zeros(30), hessian="products")
    assert linear.status == Status.DUAL_INFEASIBLE
    near(jnp.sum(linear.x), -1.0)
    with pytest.raises(ValueError, match="without constraints, got lb"):
        cj.minimize(jnp.sum, jnp.zeros(30), hessian="products", lb=0.0)


def test_many_variables():
    """A chain of 20,000 springs, whose Hessian would take 3 GB."""
    target = jnp.cumsum(jnp.asarray(RNG.normal(size=20_000)))
    chain = lambda x: jnp.sum((x - target) ** 2) / 2 + 10 * jnp.sum(jnp.sqrt(1 + jnp.diff(x) ** 2))
    solution = cj.minimize(chain, jnp.zeros(20_000), hessian="products")
    assert solution.status == Status.SOLVED
    near(jax.grad(chain)(solution.x), np.zeros(20_000), 1e-7)


def test_diagonal_hessian():
    problem = {"equalities": (np.ones((1, 4)), [1.0]), "inequalities": lambda x: x[0] ** 2 + x[1] ** 2 - 0.02}
    entropy = lambda x: jnp.sum(x * jnp.log(x))
    solution = cj.minimize(entropy, jnp.full(4, 0.25), hessian="diagonal", **problem)
    assert solution.status == Status.SOLVED
    near(solution.x, [0.1, 0.1, 0.4, 0.4])
    with pytest.raises(ValueError, match="hessian"):
        cj.minimize(entropy, jnp.full(4, 0.25), hessian="sparse")
    with pytest.raises(ValueError, match="shapes"):
        cj.minimize(entropy, jnp.full(4, 0.25), hessian=lambda x: (x, x))


def test_check_convexity():
    key = jax.random.key(0)
    normal = lambda key: {"a": jax.random.normal(key, (3,))}
    convex = lambda v: jnp.stack([jax.nn.logsumexp(v["a"]), v["a"] @ v["a"]])
    assert not cj.check_convexity(convex, normal, key).found
    # log has no value left of zero; its domain is convex
    assert not cj.check_convexity(lambda v: -jnp.log(v["a"]), normal, key).found
    wrong = lambda v: jnp.stack([v["a"] @ v["a"], jnp.sin(v["a"][0])])
    result = cj.check_convexity(wrong, normal, key, samples=300)
    assert result.found
    x, y, theta = result.x["a"], result.y["a"], result.weight
    middle = theta * x + (1 - theta) * y
    assert jnp.sin(middle[0]) > theta * jnp.sin(x[0]) + (1 - theta) * jnp.sin(y[0])
    # a domain that is not convex
    assert cj.check_convexity(lambda v: jnp.sqrt(jnp.abs(v["a"][0]) - 0.5), normal, key).found
