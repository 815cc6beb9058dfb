"""Optimizers beside those of optax, and networks that learn rules."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import least_squares

from convexjax import layers, learn
from convexjax.cones import PSD, SecondOrder
from convexjax.learn import losses, proximal, rules, training
from convexjax.linear_algebra import smat, svec

RNG = np.random.default_rng(1)
X = jnp.asarray(RNG.normal(size=(50, 6)))
Y = X @ jnp.array([2.0, 0.0, 0.0, -1.0, 0.5, 0.0]) + 0.1 * jnp.asarray(RNG.normal(size=50))
RISK = lambda beta: jnp.mean((X @ beta - Y) ** 2) / 2
ZERO = jnp.zeros(6)


@pytest.fixture(scope="module", autouse=True)
def _promotion():
    """Optax mixes types as JAX does by default."""
    with jax.numpy_dtype_promotion("standard"):
        yield


# ----------------------------------------------------------------------------- proximal gradient


@pytest.mark.parametrize("accelerated", [True, False])
def test_lasso_is_that_of_elastic_net(accelerated):
    found = proximal.minimise(RISK, proximal.lasso(0.2), ZERO, accelerated=accelerated, tolerance=1e-9)
    expected = learn.elastic_net.fit(X, Y, 0.2, intercept=False).coefficients
    assert found.status == 1
    np.testing.assert_allclose(found.params, expected, atol=1e-7)
    assert bool(jnp.all((found.params == 0) == (jnp.abs(expected) < 1e-9)))
    few = proximal.minimise(RISK, proximal.lasso(0.2), ZERO, max_iters=2, tolerance=1e-9)
    assert few.status == 5


def test_group_lasso_is_that_of_the_module():
    groups = np.array([0, 0, 1, 1, 2, 2])
    prox = proximal.group_lasso(0.3 * 2**0.5, axis=1)
    risk = lambda beta: RISK(beta.ravel())
    found = proximal.minimise(risk, prox, jnp.zeros((3, 2)), tolerance=1e-9)
    expected = learn.group_lasso.fit(X, Y, groups, 0.3, intercept=False).coefficients
    np.testing.assert_allclose(found.params.ravel(), expected, atol=1e-6)


def test_proximal_maps_by_their_definition():
    """No point near prox(v) has a smaller g(x) + |x - v|^2 / (2 step)."""
    v, step = jnp.asarray(RNG.normal(size=(3, 4))), jnp.array(0.3)
    cases = [
        (proximal.lasso(1.2), lambda x: 1.2 * jnp.sum(jnp.abs(x))),
        (proximal.group_lasso(1.2), lambda x: 1.2 * jnp.sum(jnp.sqrt(jnp.sum(x**2, 0)))),
        (proximal.nuclear_norm(1.2), lambda x: 1.2 * jnp.sum(jnp.linalg.svd(x, compute_uv=False))),
    ]
    moves = jnp.asarray(RNG.normal(size=(40, 3, 4))) * 1e-3
    for prox, g in cases:
        value = lambda x, g=g: g(x) + jnp.sum((x - v) ** 2) / (2 * step)
        x = prox(v, step)
        assert bool(jnp.all(jax.vmap(value)(x + moves) >= value(x)))


def test_projected_gradient_onto_sets_of_layers_and_cones():
    """At the minimum over a set the projection of a gradient step is the point itself, and the point is in the set."""
    cone = SecondOrder(6)
    psd = lambda M: smat(PSD(3).project(svec(M)), 3)
    target = jnp.asarray(RNG.normal(size=(3, 3)))
    cases = [
        (RISK, layers.simplex, ZERO),
        (RISK, cone.project, ZERO),
        (RISK, optax.projections.projection_l2_ball, ZERO),
        (lambda M: jnp.sum((M - target - target.T) ** 2), psd, jnp.zeros((3, 3))),
    ]
    for risk, onto, start in cases:
        found = proximal.minimise(risk, proximal.projection(onto), start, tolerance=1e-8)
        assert found.status == 1
        x = found.params
        np.testing.assert_allclose(onto(x), x, atol=1e-9)
        np.testing.assert_allclose(onto(x - 0.1 * jax.grad(risk)(x)), x, atol=1e-7)


def test_stochastic_proximal_and_projected_gradient_in_fit():
    line = lambda params, x, key: x @ params
    how = dict(loss=losses.squared, epochs=120, batch_size=10)
    rate = optax.exponential_decay(0.05, 100, 0.5)
    optimizer = proximal.transformation(optax.sgd(rate), proximal.lasso(0.4), rate)
    sparse = training.fit(line, ZERO, X, Y, jax.random.key(0), optimizer=optimizer, **how)
    # fit has twice the loss of RISK
    expected = proximal.minimise(RISK, proximal.lasso(0.2), ZERO).params
    np.testing.assert_allclose(sparse.params, expected, atol=0.02)
    assert bool(jnp.all(sparse.params[jnp.array([1, 2, 5])] == 0))
    onto = proximal.transformation(optax.adam(0.01), proximal.projection(layers.simplex), 0.01)
    shares = training.fit(line, jnp.full(6, 1 / 6), X, Y, jax.random.key(0), optimizer=onto, **how).params
    np.testing.assert_allclose(jnp.sum(shares), 1, rtol=1e-12)
    assert bool(jnp.all(shares >= 0))
    with pytest.raises(ValueError, match="needs the parameters"):
        optimizer.update(ZERO, optimizer.init(ZERO))


# ----------------------------------------------------------------------------- Gauss-Newton


def misfit(p):
    t = jnp.linspace(0, 3, 20)
    return p["a"] * jnp.exp(-p["b"] * t) + p["c"] - 2 * jnp.exp(-1.3 * t) - 0.5 - 0.1 * jnp.sin(9 * t)


def test_levenberg_marquardt_finds_what_scipy_finds():
    start = {"a": jnp.array(1.0), "b": jnp.array(0.1), "c": jnp.array(0.0)}
    found = jax.jit(lambda start: learn.gauss_newton.minimise(misfit, start, tolerance=1e-10))(start)
    in_scipy = least_squares(lambda v: np.asarray(misfit(dict(zip("abc", v, strict=True)))), [1.0, 0.1, 0.0])
    assert found.status == 1
    np.testing.assert_allclose(found.value, in_scipy.cost, rtol=1e-9)
    np.testing.assert_allclose([found.params[k] for k in "abc"], in_scipy.x, rtol=1e-4)


def test_gauss_newton_solves_a_linear_problem_in_one_step():
    found = learn.gauss_newton.minimise(lambda beta: X @ beta - Y, ZERO, damping=0, tolerance=1e-9)
    np.testing.assert_allclose(found.params, np.linalg.lstsq(X, Y)[0], atol=1e-10)
    assert found.num_iters <= 2 and found.status == 1
    # more parameters than residuals
    wide = learn.gauss_newton.minimise(lambda beta: (X.T @ beta)[:3] - Y[:3], jnp.zeros(50), tolerance=1e-9)
    assert wide.status == 1 and wide.value < 1e-18
    with pytest.raises(ValueError, match="damping"):
        learn.gauss_newton.minimise(lambda beta: beta, ZERO, damping=-1.0)


# ----------------------------------------------------------------------------- rules


def test_labels_and_agreement():
    rule = lambda row: (row[0] > row[1]).astype(jnp.int32)
    rows, classes = rules.label(rule, lambda key: jax.random.normal(key, (2,)), jax.random.key(0), 500)
    np.testing.assert_array_equal(classes, (rows[:, 0] > rows[:, 1]))
    scores = jnp.stack([rows[:, 1], rows[:, 0]], 1)
    found = rules.agreement(3 * scores, classes)
    assert found.rate == 1
    np.testing.assert_allclose(found.by_class, 1)
    # too modest by 1 - confidence
    np.testing.assert_allclose(found.calibration_error, 1 - found.confidence, rtol=1e-9)
    np.testing.assert_allclose(jnp.sum(found.bins[:, 0]), 500)
    with pytest.raises(ValueError, match="one integer per row"):
        rules.label(lambda row: row[0], lambda key: jax.random.normal(key, (2,)), jax.random.key(0), 5)
    with pytest.raises(ValueError, match="shapes"):
        rules.agreement(scores, classes[:3])
    with pytest.raises(ValueError, match="shapes"):
        rules.temperature(scores, classes[:3])
    with pytest.raises(ValueError, match="bins"):
        rules.agreement(scores, classes, bins=0)


def test_calibration_of_labels_drawn_from_the_probabilities():
    scores = 2 * jax.random.normal(jax.random.key(1), (20_000, 3))
    drawn = jax.random.categorical(jax.random.key(2), scores)
    found = rules.agreement(scores, drawn)
    assert found.calibration_error < 0.02 and abs(found.rate - found.confidence) < 0.01
    sure = rules.agreement(4 * scores, drawn)
    assert sure.calibration_error > 0.15
    np.testing.assert_allclose(rules.temperature(4 * scores, drawn), 4, rtol=0.03)
