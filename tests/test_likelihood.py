"""Losses, empirical risk, maximum likelihood and divergences: values by NumPy and SciPy, and their identities."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from convexjax import learn
from convexjax.learn import likelihood, losses

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(60, 3)) @ RNG.normal(size=(3, 3)) + np.array([1.0, -2.0, 0.5]))
LINE = lambda params, X, key=None: X @ params


@pytest.fixture(scope="module", autouse=True)
def _promotion():
    """Optax mixes types as JAX does by default."""
    with jax.numpy_dtype_promotion("standard"):
        yield


# ----------------------------------------------------------------------------- losses and risk


def test_values_of_the_losses():
    f, y = np.array([0.3, -2.0, 4.0]), np.array([1.0, -1.0, 1.0])
    near = lambda loss, expected, y=y: np.testing.assert_allclose(loss(jnp.asarray(f), jnp.asarray(y)), expected)
    near(losses.squared, (f - y) ** 2)
    near(losses.absolute, abs(f - y))
    near(losses.huber(0.5), np.where(abs(f - y) < 0.5, (f - y) ** 2 / 2, 0.5 * (abs(f - y) - 0.25)))
    near(losses.hinge, np.maximum(0, 1 - f * y))
    near(losses.logistic, np.log1p(np.exp(-f * y)), (y + 1) / 2)
    scores, classes = RNG.normal(size=(4, 5, 3)), RNG.integers(0, 3, (4, 5))
    log_p = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_p, classes[..., None], -1)[..., 0].mean(1)
    np.testing.assert_allclose(losses.cross_entropy(jnp.asarray(scores), jnp.asarray(classes)), expected)
    np.testing.assert_allclose(losses.accuracy(jnp.asarray(scores), jnp.asarray(classes)).shape, (4,))
    assert losses.accuracy(jnp.asarray(f), jnp.asarray(y)).tolist() == [1.0, 1.0, 1.0]


def test_risk_and_its_gradient_by_hand():
    y, beta = X @ jnp.array([1.0, 2.0, 3.0]) + 0.1, jnp.array([0.5, -1.0, 2.0])
    risk = losses.empirical_risk(LINE, losses.squared, losses.squares)
    np.testing.assert_allclose(risk(beta, X, y, 0.3), np.mean((X @ beta - y) ** 2) + 0.15 * np.sum(beta**2))
    slope = 2 * X.T @ (X @ beta - y) / len(y) + 0.3 * beta
    np.testing.assert_allclose(jax.grad(risk)(beta, X, y, 0.3), slope, rtol=1e-12)
    assert losses.sizes({"a": jnp.array([-1.0, 2.0]), "b": jnp.array(-3.0)}) == 6


# ----------------------------------------------------------------------------- identities


def test_gaussian_likelihood_is_mean_squared_error():
    y = X @ jnp.array([1.0, 2.0, 3.0]) + jnp.sin(jnp.arange(60.0))
    unit = losses.negative_log_likelihood(lambda f, y: jax.scipy.stats.norm.logpdf(y, f))
    of_density = jax.value_and_grad(losses.empirical_risk(LINE, unit))
    of_squares = jax.value_and_grad(losses.empirical_risk(LINE, losses.squared))
    for seed in range(3):
        beta = jax.random.normal(jax.random.key(seed), (3,), X.dtype)
        (a, slope), (b, slope_of_squares) = of_density(beta, X, y), of_squares(beta, X, y)
        np.testing.assert_allclose(a, b / 2 + np.log(2 * np.pi) / 2, rtol=1e-12)
        np.testing.assert_allclose(slope, slope_of_squares / 2, rtol=1e-12, atol=1e-12)


def test_likelihood_is_divergence_up_to_the_entropy_of_the_data():
    # counts of four outcomes, and a model with free log probabilities
    counts = jnp.array([5, 1, 0, 14])
    sample = jnp.repeat(jnp.arange(4), counts, total_repeat_length=20)
    p = counts / 20.0
    entropy = -np.sum(np.asarray(p)[np.asarray(p) > 0] * np.log(np.asarray(p)[np.asarray(p) > 0]))
    log_q = lambda params: jax.nn.log_softmax(params)
    risk = lambda params: -jnp.mean(log_q(params)[sample])
    divergence = lambda params: likelihood.kl_divergence(p, jnp.exp(log_q(params)))
    params = jnp.array([0.3, -1.0, 0.2, 0.9])
    np.testing.assert_allclose(risk(params), divergence(params) + entropy, rtol=1e-12)
    np.testing.assert_allclose(jax.grad(risk)(params), jax.grad(divergence)(params), atol=1e-13)
    # of all models the frequencies are the nearest
    assert divergence(jnp.log(p + 1e-12)) < 1e-10


def test_fitted_gaussian_is_nearest_to_the_data():
    """Among Gaussians KL(data' | q), with data' the Gaussian of the same moments, is least, zero, at the fit."""
    best = likelihood.gaussian(X)
    risk = lambda q: -jnp.mean(q.log_density(X))
    other = likelihood.Gaussian(mean=best.mean + 0.1, covariance=best.covariance * 1.2, status=None)
    difference = risk(other) - risk(best)
    np.testing.assert_allclose(likelihood.gaussian_kl_divergence(best, other), difference, rtol=1e-10)
    assert abs(likelihood.gaussian_kl_divergence(best, best)) < 1e-12


@pytest.mark.parametrize("covariance", likelihood.COVARIANCES)
def test_gaussian_fit(covariance):
    model = likelihood.gaussian(X, covariance)
    S = {"unit": np.eye(3), "diagonal": np.diag(np.var(X, 0)), "full": np.cov(X.T, bias=True)}[covariance]
    np.testing.assert_allclose(model.mean, np.mean(X, 0))
    np.testing.assert_allclose(model.covariance, S, atol=1e-12)
    expected = stats.multivariate_normal(np.mean(X, 0), S).logpdf(np.asarray(X))
    np.testing.assert_allclose(model.log_density(X), expected, rtol=1e-9)
    assert model.status == 1


def test_gaussian_without_spread_is_no_claim():
    flat = jnp.concatenate([X[:, :2], X[:, :1] + X[:, 1:2]], 1)
    assert likelihood.gaussian(flat).status == 6
    assert likelihood.gaussian(flat, "diagonal").status == 1
    assert likelihood.gaussian(X.at[0, 0].set(jnp.nan)).status == 6
    batch = jax.vmap(likelihood.gaussian)(jnp.stack([X, flat]))
    assert batch.status.tolist() == [1, 6]


# ----------------------------------------------------------------------------- by gradient


def test_poisson_by_gradient_is_poisson_regression():
    counts = jnp.asarray(RNG.poisson(np.exp(0.3 * np.asarray(X[:, 0]))))
    log_density = lambda params, row: jax.scipy.stats.poisson.logpmf(row[-1], jnp.exp(row[:-1] @ params))
    rows = jnp.concatenate([X, counts[:, None].astype(X.dtype)], 1)
    found = likelihood.maximise(log_density, jnp.zeros(3), rows, tolerance=1e-9)
    model = learn.poisson.fit(X, counts, intercept=False)
    assert found.status == 1 and found.gradient <= 1e-9
    np.testing.assert_allclose(found.params, model.coefficients, atol=1e-7)


def test_mixture_finds_two_groups():
    key = jax.random.key(2)
    group = jax.random.normal(key, (150, 2), X.dtype)
    data = jnp.concatenate([group[:50] * 0.5 + jnp.array([4.0, 4.0]), group[50:] - 1])
    model = likelihood.mixture(data, 2, jax.random.key(0))
    order = jnp.argsort(model.weights)
    assert model.status == 1
    np.testing.assert_allclose(model.weights[order], [1 / 3, 2 / 3], atol=0.03)
    np.testing.assert_allclose(model.means[order], [[4, 4], [-1, -1]], atol=0.25)
    np.testing.assert_allclose(model.responsibilities(data).sum(1), 1, rtol=1e-12)
    parts = [
        w * stats.multivariate_normal(m, S).pdf(np.asarray(data))
        for w, m, S in zip(*map(np.asarray, (model.weights, model.means, model.covariances)), strict=True)
    ]
    np.testing.assert_allclose(model.log_density(data), np.log(sum(parts)), rtol=1e-9)


def test_lbfgs_reaches_the_least_squares_solution_and_says_when_it_does_not():
    y = X @ jnp.array([1.0, 2.0, 3.0]) + jnp.cos(jnp.arange(60.0))
    risk = lambda beta: jnp.mean((X @ beta - y) ** 2)
    found = learn.lbfgs.minimise(risk, jnp.zeros(3), tolerance=1e-9)
    np.testing.assert_allclose(found.params, np.linalg.lstsq(X, y)[0], atol=1e-8)
    assert found.status == 1
    assert learn.lbfgs.minimise(risk, jnp.zeros(3), tolerance=1e-9, max_iters=2).status == 5
    assert learn.lbfgs.minimise(lambda x: jnp.sum(jnp.log(x)), -jnp.ones(3)).status == 6


# ----------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: likelihood.gaussian(X[:, 0]), "X has shape"),
        (lambda: likelihood.gaussian(X[:0]), "no rows"),
        (lambda: likelihood.gaussian(X, "round"), "covariance"),
        (lambda: likelihood.mixture(X, 100, jax.random.key(0)), "components"),
        (lambda: likelihood.maximise(lambda p, x: p * x, jnp.array(1.0), X), "log_density"),
        (lambda: likelihood.maximise(lambda p, x: -((x[0] - p) ** 2), 1, X), "start must be a pytree of floating"),
        (lambda: likelihood.mixture(X, 2, 3), "key must be a random key"),
        (lambda: likelihood.kl_divergence([0.5, 0.5], [1.0]), "q has shape"),
        (lambda: losses.huber(0.0), "delta"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
