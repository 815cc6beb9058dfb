"""Linear models: what the fits return, and their predictions."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax.learn.data import Data
from convexjax.problems.arguments import floating, require_shape
from convexjax.pytrees import pytree
from convexjax.solution import Status


@pytree
@dataclass(frozen=True, kw_only=True)
class LinearModel:
    """y ~ X coefficients + intercept: a pytree. A path is a model with one entry per penalty in front of each array."""

    coefficients: Any  # (d,) or (d, q)
    intercept: Any  # () or (q,); zero for a fit without one
    objective: Any  # the minimum that the fit states
    status: Any  # int32, a `Status`
    gap: Any = None  # proved distance from the minimum, relative to the objective of coefficients of zero


def predict(model: LinearModel, X: ArrayLike) -> jax.Array:
    """Predictions (n,) or (n, q) for the rows of X (n, d). For a path `jax.vmap(predict, (0, None))(path, X)`."""
    X, coefficients, intercept = floating(X=X, coefficients=model.coefficients, intercept=model.intercept)
    require_shape("X", X, (None, coefficients.shape[0]), "with one column per coefficient")
    return X @ coefficients + intercept


def linear_model(data: Data, beta: jax.Array, y_axis: bool, objective, status=Status.SOLVED, gap=None) -> LinearModel:
    """The model of coefficients (d, q) in the coordinates of the solver; without the axis of q if y had none."""
    coefficients, intercept = data.to_user(beta)
    finite = data.fine & jnp.all(jnp.isfinite(beta))
    status = jnp.where(finite, jnp.asarray(status, jnp.int32), jnp.int32(Status.NUMERICAL_ERROR))
    fill = lambda value: None if value is None else jnp.where(data.fine, value, jnp.nan)
    if not y_axis:
        coefficients, intercept = coefficients[:, 0], intercept[0]
    return LinearModel(
        coefficients=fill(coefficients),
        intercept=fill(intercept),
        objective=fill(objective),
        status=status,
        gap=fill(gap),
    )
