"""Models whose loss is a smooth function of scores, X coefficients + intercept: what their fits share."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from convexjax.learn.data import column_scale, constant_columns
from convexjax.learn.newton import Loss, Problem, attach, minimise, objective
from convexjax.options import DEFAULT_TOLERANCES
from convexjax.problems.arguments import floating, require_shape
from convexjax.pytrees import pytree
from convexjax.solution import Status


@pytree
@dataclass(frozen=True, kw_only=True)
class ScoreModel:
    """A fitted model: a pytree. A path is a model with one entry per penalty in front of each array."""

    coefficients: Any  # (d,) or (d, q) for q scores
    intercept: Any  # () or (q,); zero for a fit without one
    objective: Any  # the minimum; NaN where none was found, or none is attained
    status: Any  # int32, a `Status`
    gradient: Any  # largest entry of the gradient of the objective, relative to its terms
    num_iters: Any


def checked_numbers(penalty, tolerance, dtype, **flags) -> tuple[jax.Array, jax.Array]:
    """(penalty, tolerance) as scalars of `dtype`; the flags are True or False."""
    for name, value in flags.items():
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False (it is static), got {value!r}.")
    tolerance = DEFAULT_TOLERANCES[dtype.name][0] if tolerance is None else tolerance
    penalty, tolerance = floating(penalty=penalty, tolerance=tolerance)
    for name, value in (("penalty", penalty), ("tolerance", tolerance)):
        require_shape(name, value, ())
        if not isinstance(value, jax.core.Tracer) and not value >= 0:
            raise ValueError(f"{name} must be nonnegative, got {value}.")
    return penalty.astype(dtype), tolerance.astype(dtype)


def fit(kind: type, loss: Loss, data: tuple, numbers: tuple, start: tuple, *, intercept: bool, standardise=False):
    """The model, of class `kind`, of the weighted sum of the losses plus penalty/2 times the squares of coefficients.

    data: (X, y, weights, fine) as from `data.clean`; numbers: (penalty, tolerance); start: coefficients (d, q) and
    intercepts (q,), not differentiated. SOLVED: the objective is convex and its gradient is `gradient`.
    DUAL_INFEASIBLE: no finite coefficients attain the infimum; they are the direction, of size one, along which it is
    approached.
    """
    (X, y, weights, fine), (penalty, tolerance) = data, numbers
    (n, d), (_, q) = X.shape, start[0].shape
    mean = weights @ X / jnp.sum(weights)
    # columns around zero: the same problem with an intercept, better conditioned; what is left of constant ones is
    # rounding errors
    centred = jnp.where(constant_columns(X - mean, weights, mean), 0, X - mean)
    scale = column_scale(centred, weights, mean) if standardise else jnp.ones(d, X.dtype)
    rows, p = X / scale, jnp.full(d, penalty)
    if intercept:
        rows, p = jnp.concatenate([centred / scale, jnp.ones((n, 1), X.dtype)], 1), jnp.append(p, 0)
    problem = Problem(rows, y, weights, p)

    coefficients, offset = start
    theta = scale[:, None] * coefficients
    if intercept:
        theta = jnp.concatenate([theta, (offset + mean @ coefficients)[None]])
    theta = jnp.where(jnp.all(jnp.isfinite(theta)), theta, 0)
    theta, status, gradient, count = minimise(loss, *jax.lax.stop_gradient((problem, theta, tolerance)))
    solved = Status.SOLVED.holds(status)
    theta = jnp.where(solved, attach(loss, theta, problem), theta)
    value = jnp.where(solved, objective(loss, theta, problem), jnp.nan)

    coefficients = theta[:d] / scale[:, None]
    offset = theta[d] - mean @ coefficients if intercept else jnp.zeros(q, X.dtype)
    fill = lambda value: jnp.where(fine, value, jnp.nan)
    single = (lambda v: v[..., 0]) if q == 1 else (lambda v: v)
    return kind(
        coefficients=fill(single(coefficients)),
        intercept=fill(single(offset)),
        objective=fill(value),
        status=jnp.where(fine, status, jnp.int32(Status.NUMERICAL_ERROR)),
        gradient=fill(gradient),
        num_iters=count,
    )
