"""Maximum likelihood of densities, and the Kullback-Leibler divergence that it makes small.

For data x_1, ..., x_n with the empirical distribution p and a model q

    KL(p | q) = sum p log p - 1/n sum_i log q(x_i),

whose first term does not depend on the model: the most likely model is the one nearest to the data. Logistic and
Poisson regression (`logistic`, `poisson`) are maximum likelihood, too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.scipy.stats import multivariate_normal
from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.learn import lbfgs
from convexjax.problems.arguments import floating, floating_tree, require_key, require_shape
from convexjax.pytrees import pytree
from convexjax.solution import Status

COVARIANCES = ("unit", "diagonal", "full")


def maximise(
    log_density: Callable,
    start: Any,
    X: ArrayLike,
    *,
    tolerance: float | jax.Array | None = None,
    max_iters: int | jax.Array = 500,
) -> lbfgs.Minimum:
    """Parameters that make data likely, by gradient.

        minimise    -1/n sum_i log_density(params, x_i)

    Arguments:
        log_density: `log_density(params, x)`, a number, of one row x of X, differentiable in params.
        start: params to begin with, a pytree.
        X: (n, ...), the data.
        tolerance: of the largest entry of the gradient. None: 1e-6 (float32: 1e-4).
        max_iters: most steps.

    Returns:
        `Minimum` as of `lbfgs.minimise`; `value` is the mean of minus the log density.

    >>> import jax.numpy as jnp
    >>> from jax.scipy.stats import poisson
    >>> from convexjax import learn
    >>> log_density = lambda log_mean, x: poisson.logpmf(x, jnp.exp(log_mean))
    >>> found = learn.likelihood.maximise(log_density, jnp.array(0.0), jnp.array([1, 2, 6]))
    >>> print(jnp.exp(found.params).round(2))
    3.0
    """
    X, start = jnp.asarray(X), floating_tree("start", start)
    if X.ndim == 0 or X.shape[0] == 0:
        raise ValueError(f"X has shape {X.shape}, expected at least one row.")
    average = lambda params: -jnp.mean(jax.vmap(log_density, (None, 0))(params, X))
    value = jax.eval_shape(lambda params: log_density(params, X[0]), start)
    if value.shape:
        raise ValueError(f"log_density must return a number for one row of X, got shape {value.shape}.")
    if tolerance is None:
        tolerance = 1e-4 if value.dtype == jnp.float32 else 1e-6
    return lbfgs.minimise(average, start, tolerance=tolerance, max_iters=max_iters)


# ----------------------------------------------------------------------------- Gaussian


@pytree
@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """The normal distribution: a pytree."""

    mean: Any  # (d,)
    covariance: Any  # (d, d)
    status: Any = None  # int32, a `Status`: SOLVED, or NUMERICAL_ERROR where the covariance is singular

    def log_density(self, X: ArrayLike) -> jax.Array:
        """(n,) of the rows of X (n, d)."""
        return jnp.asarray(multivariate_normal.logpdf(jnp.asarray(X), self.mean, self.covariance))


def gaussian(X: ArrayLike, covariance: str = "full") -> Gaussian:
    """The Gaussian that makes data most likely, in closed form.

        minimise    1/n sum_i 1/2 (x_i - mean)' S^-1 (x_i - mean) + 1/2 log det(2 pi S)

    over the mean and the covariances S that are the identity ("unit"), diagonal, or any ("full").

    Arguments:
        X: (n, d).
        covariance: one of "unit", "diagonal" and "full".

    Returns:
        `Gaussian`. NUMERICAL_ERROR: data that are not finite, or have no spread in some direction, where the likelihood
        is not bounded.

    Raises:
        ValueError: shapes that do not fit, another word for `covariance`.
        TypeError: data that are not real numbers.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> model = learn.likelihood.gaussian(np.array([[0.0], [2.0]]))
    >>> print(np.asarray(model.mean), np.asarray(model.covariance))
    [1.] [[1.]]
    """
    (X,) = floating(X=X)
    require_shape("X", X, (None, None))
    n, d = X.shape
    _require_word(covariance)
    if n == 0:
        raise ValueError("X has no rows, expected at least one sample.")
    mean = jnp.mean(X, 0)
    error = X - mean
    if covariance == "unit":
        S = jnp.eye(d, dtype=X.dtype)
    elif covariance == "diagonal":
        S = jnp.diag(jnp.mean(error**2, 0))
    else:
        S = error.T @ error / n
    scale = jnp.sqrt(jnp.diag(S))
    correlation = S / jnp.where(scale > 0, scale[:, None] * scale, 1)
    pivots = jnp.diag(jnp.linalg.cholesky(correlation))
    sound = jnp.all(pivots > 10 * jnp.sqrt(d * jnp.finfo(X.dtype).eps)) & jnp.all(scale > 0)
    status = jnp.where(sound & jnp.all(jnp.isfinite(mean)), jnp.int32(Status.SOLVED), jnp.int32(Status.NUMERICAL_ERROR))
    return Gaussian(mean=mean, covariance=S, status=status)


def _require_word(covariance):
    if covariance not in COVARIANCES:
        raise ValueError(f"covariance must be one of {', '.join(map(repr, COVARIANCES))}, got {covariance!r}.")


# ----------------------------------------------------------------------------- mixture


@pytree
@dataclass(frozen=True, kw_only=True)
class Mixture:
    """A mixture of k Gaussians: a pytree."""

    weights: Any  # (k,)
    means: Any  # (k, d)
    covariances: Any  # (k, d, d)
    status: Any = None  # int32, a `Status`: SOLVED says that the gradient of the likelihood is small

    def log_densities(self, X: ArrayLike) -> jax.Array:
        """(n, k), of each component with its weight."""
        of_component = lambda mean, S: multivariate_normal.logpdf(jnp.asarray(X), mean, S)
        return jnp.log(self.weights) + jax.vmap(of_component, out_axes=1)(self.means, self.covariances)

    def log_density(self, X: ArrayLike) -> jax.Array:
        """(n,) of the rows of X (n, d)."""
        return jax.nn.logsumexp(self.log_densities(X), axis=1)

    def responsibilities(self, X: ArrayLike) -> jax.Array:
        """(n, k), the probability of each component given the row."""
        return jax.nn.softmax(self.log_densities(X), axis=1)


def mixture(
    X: ArrayLike,
    components: int,
    key: jax.Array,
    *,
    covariance: str = "full",
    least_variance: float | jax.Array = 1e-3,
    tolerance: float | jax.Array | None = None,
    max_iters: int | jax.Array = 500,
) -> Mixture:
    """A mixture of Gaussians that makes data likely, by gradient from means at random rows of the data.

        minimise    -1/n sum_i log sum_k w_k N(x_i; mean_k, S_k)

    The likelihood has several local maxima and is not bounded where a component shrinks to a point: the covariances are
    kept above `least_variance` times the variances of the columns. Try several keys (`jax.vmap`) and keep the best.

    Arguments:
        X: (n, d).
        components: k, static.
        key: a random key, for the first means.
        covariance: "unit", "diagonal" or "full".
        least_variance: positive.
        tolerance, max_iters: as in `maximise`.

    Returns:
        `Mixture`.

    Raises:
        ValueError: shapes that do not fit, fewer rows than components, another word for `covariance`.
        TypeError: data that are not real numbers.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from convexjax import learn
    >>> X = jnp.concatenate([jnp.linspace(-5, -4, 20), jnp.linspace(2, 3, 60)])[:, None]
    >>> model = learn.likelihood.mixture(X, 2, jax.random.key(1))
    >>> print(jnp.sort(model.weights).round(2), jnp.sort(model.means[:, 0]).round(1))
    [0.25 0.75] [-4.5  2.5]
    """
    (X,) = floating(X=X)
    require_shape("X", X, (None, None))
    n, d = X.shape
    _require_word(covariance)
    require_key(key)
    if not isinstance(components, int) or not 1 <= components <= n:
        raise ValueError(f"components must be a Python int from 1 to the number of rows, {n}, got {components!r}.")
    if tolerance is None:
        tolerance = 1e-4 if X.dtype == jnp.float32 else 1e-6
    least_variance, tolerance = (jnp.asarray(value, X.dtype) for value in (least_variance, tolerance))
    return _mixture(components, covariance)(X, key, least_variance, tolerance, jnp.asarray(max_iters))


@cache
def _mixture(components: int, covariance: str):
    return quick_jit(partial(_fit_mixture, components, covariance))


def _fit_mixture(components, covariance, X, key, least_variance, tolerance, max_iters) -> Mixture:
    d = X.shape[1]
    centre, scale = jnp.mean(X, 0), jnp.std(X, 0)
    scale = jnp.where(scale > 0, scale, 1)
    if covariance == "unit":
        scale = jnp.ones_like(scale)
    Z = (X - centre) / scale
    one = jnp.eye(d, dtype=X.dtype)

    def model(params):
        """In the coordinates of Z: S = L L' + least_variance I with the diagonal of L by its log."""
        log_weights, means, diagonal, below = params
        L = jax.vmap(jnp.diag)(jnp.exp(diagonal))
        if covariance == "full":
            L = L + jnp.tril(below, -1)
        S = L @ L.mT + least_variance * one if covariance != "unit" else jnp.broadcast_to(one, L.shape)
        return Mixture(weights=jax.nn.softmax(log_weights), means=means, covariances=S)

    means = _spread_rows(Z, components, key)
    start = (
        jnp.zeros(components, X.dtype),
        means,
        jnp.full((components, d), -0.5 * jnp.log(float(components)), X.dtype),
        jnp.zeros((components, d, d), X.dtype),
    )
    risk = lambda params: -jnp.mean(model(params).log_density(Z))
    found = lbfgs.minimise(risk, start, tolerance=tolerance, max_iters=max_iters)
    fitted = model(found.params)
    return Mixture(
        weights=fitted.weights,
        means=centre + scale * fitted.means,
        covariances=scale[:, None] * fitted.covariances * scale,
        status=found.status,
    )


def _spread_rows(Z, count, key):
    """Rows at random, each with probability proportional to its squared distance from those before (Arthur and
    Vassilvitskii, "k-means++", 2007)."""
    first, *keys = jax.random.split(key, count)
    chosen = Z[jax.random.randint(first, (), 0, Z.shape[0])][None]
    for own in keys:
        distance = jnp.min(jnp.sum((Z[:, None] - chosen) ** 2, -1), 1)
        row = jax.random.categorical(own, jnp.log(distance + jnp.finfo(Z.dtype).tiny))
        chosen = jnp.concatenate([chosen, Z[row][None]])
    return chosen


# ----------------------------------------------------------------------------- divergence


def kl_divergence(p: ArrayLike, q: ArrayLike) -> jax.Array:
    """sum_j p_j log(p_j / q_j) of probabilities on the last axis; terms with p_j = 0 are zero.

    >>> from convexjax import learn
    >>> print(f"{learn.likelihood.kl_divergence([0.5, 0.5], [0.25, 0.75]):.4f}")
    0.1438
    """
    p, q = floating(p=p, q=q)
    require_shape("q", q, p.shape, "as p")
    return optax.kl_divergence(jnp.log(q), p)


def gaussian_kl_divergence(p: Gaussian, q: Gaussian) -> jax.Array:
    """KL(p | q) = 1/2 (tr(S_q^-1 S_p) + (m_q - m_p)' S_q^-1 (m_q - m_p) - d + log det S_q - log det S_p)."""
    factor = jax.scipy.linalg.cho_factor(q.covariance, lower=True)
    difference = q.mean - p.mean
    trace = jnp.trace(jax.scipy.linalg.cho_solve(factor, p.covariance))
    distance = difference @ jax.scipy.linalg.cho_solve(factor, difference)
    log_dets = jnp.linalg.slogdet(q.covariance)[1] - jnp.linalg.slogdet(p.covariance)[1]
    return (trace + distance - p.mean.shape[0] + log_dets) / 2
