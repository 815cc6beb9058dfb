"""Group lasso: coefficients that are zero or not in groups."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.learn.data import prepare
from convexjax.learn.elastic_net import fit_path
from convexjax.learn.model import LinearModel, predict
from convexjax.learn.sparse import Groups
from convexjax.options import DEFAULT_TOLERANCES
from convexjax.problems.arguments import floating, require_shape

__all__ = ["fit", "largest_penalty", "path", "predict"]


def fit(
    X: ArrayLike,
    y: ArrayLike,
    groups,
    penalty: float | jax.Array,
    *,
    weights: ArrayLike | None = None,
    intercept: bool = True,
    standardise: bool = False,
    missing: str = "status",
    tolerance: float | jax.Array | None = None,
) -> LinearModel:
    """Fit a linear model in which few groups of coefficients are not zero.

        minimise    1/(2 sum w) sum_i w_i (y_i - x_i'beta - beta_0)^2 + penalty sum_g size_g^(1/2) |beta_g|

    Arguments:
        X, y, weights, intercept, standardise, missing, tolerance: as in `elastic_net.fit`.
        groups: (d,) integers known while tracing, 0, 1, ..., the group of each column.
        penalty: positive.

    Returns:
        `LinearModel` with a proved duality gap, as `elastic_net.fit`.

    Raises:
        ValueError: shapes that do not fit, groups with gaps, penalties that are not positive.
        TypeError: data that are not real numbers.

    Source: Yuan and Lin, "Model selection and estimation in regression with grouped variables", 2006.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> X = np.array([[-1.0, 0.5, 0.1], [0.0, -1.0, -0.2], [1.0, 0.5, 0.1]])
    >>> model = learn.group_lasso.fit(X, np.array([1.0, 2.0, 3.0]), groups=[0, 0, 1], penalty=0.2)
    >>> bool(model.coefficients[2] == 0), bool(model.coefficients[0] > 0.4)
    (True, True)
    """
    how = dict(weights=weights, intercept=intercept, standardise=standardise, missing=missing)
    return jax.tree.map(lambda leaf: leaf[0], _checked(X, y, groups, penalty, (), tolerance, **how))


def path(X: ArrayLike, y: ArrayLike, groups, penalties: ArrayLike, **how) -> LinearModel:
    """`fit` for all penalties (k,) together: every array of the model has k entries in front."""
    return _checked(X, y, groups, penalties, (None,), how.pop("tolerance", None), **how)


def largest_penalty(X: ArrayLike, y: ArrayLike, groups, **how) -> jax.Array:
    """The least penalty for which all coefficients are zero."""
    data = prepare(X, y, **how)
    of = _groups(groups, data.X.shape[1])
    correlation = data.X.T @ (data.weights * data.y[:, 0]) / jnp.sum(data.weights)
    return jnp.max(jnp.sqrt(of.sums(correlation**2) / of.sizes(correlation.dtype)))


def _groups(groups, d: int) -> Groups:
    if isinstance(groups, jax.core.Tracer):
        raise ValueError("groups must be known while tracing (they are static), got a traced array.")
    index = np.asarray(groups)
    if index.shape != (d,) or not np.issubdtype(index.dtype, np.integer):
        raise ValueError(f"groups must be {d} integers, one per column of X, got shape {index.shape} of {index.dtype}.")
    if sorted(set(index.tolist())) != list(range(index.max() + 1)):
        raise ValueError("groups must be 0, 1, ... without gaps.")
    return Groups(tuple(index.tolist()))


def _checked(X, y, groups, penalty, shape, tolerance, **how) -> LinearModel:
    data = prepare(X, y, **how)
    of, dtype = _groups(groups, data.X.shape[1]), data.X.dtype
    tolerance = DEFAULT_TOLERANCES[dtype.name][0] if tolerance is None else tolerance
    penalties, tolerance = floating(penalty=penalty, tolerance=tolerance)
    require_shape("penalty" if shape == () else "penalties", penalties, shape)
    if not isinstance(penalties, jax.core.Tracer) and not bool(jnp.all(penalties > 0)):
        raise ValueError(f"penalties must be positive, got {penalties}.")
    l1 = jnp.atleast_1d(penalties).astype(dtype)
    return fit_path(data, l1, jnp.zeros_like(l1), jnp.sqrt(of.sizes(dtype)), tolerance.astype(dtype), of)
