"""Regression with any convex loss, subject to any convex constraints."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from convexjax import pseudo_inverse
from convexjax.compilation import quick_jit
from convexjax.cones import PSD, Nonnegative, SecondOrder, Zero
from convexjax.learn import newton
from convexjax.learn.constraints import AtMost, Bounds, Equal, Norm, Semidefinite, Smooth
from convexjax.learn.data import Data, prepare
from convexjax.learn.model import LinearModel, linear_model, predict
from convexjax.linear_algebra import svec
from convexjax.options import Options
from convexjax.problems.arguments import checked_options, floating, rank, require_shape
from convexjax.problems.conic import solve_conic
from convexjax.problems.minimize import minimize
from convexjax.problems.qp import solve_qp
from convexjax.pytrees import pytree

__all__ = ["Absolute", "Chebyshev", "Huber", "Quantile", "Squared", "fit", "predict"]


@pytree
@dataclass(frozen=True)
class Squared:
    """The square of the residual."""


@pytree
@dataclass(frozen=True)
class Huber:
    """The square up to `threshold`, beyond it `threshold (2 |r| - threshold)`."""

    threshold: Any = 1.0


@pytree
@dataclass(frozen=True)
class Quantile:
    """`level r` for r >= 0, else `(level - 1) r`, r = y - prediction: the fit is a quantile of that level."""

    level: Any = 0.5


@pytree
@dataclass(frozen=True)
class Absolute:
    """The absolute value: least absolute deviations."""


@pytree
@dataclass(frozen=True)
class Chebyshev:
    """The largest absolute value of all residuals of positive weight takes the place of the sum; weights multiply."""


LOSSES = (Squared, Huber, Quantile, Absolute, Chebyshev)


def fit(
    X: ArrayLike,
    y: ArrayLike,
    loss=None,
    constraints=(),
    *,
    penalty: float | jax.Array = 0.0,
    weights: ArrayLike | None = None,
    intercept: bool = True,
    missing: str = "status",
    options: Options | None = None,
) -> LinearModel:
    """Fit a linear model with a convex loss, subject to convex constraints on the coefficients.

        minimise    sum_i w_i loss(x_i'beta + beta_0, y_i) + penalty |beta|^2
        subject to  constraints on beta

    Arguments:
        X: (n, d).
        y: (n,).
        loss: `Squared()` (None), `Huber(threshold)`, `Quantile(level)`, `Absolute()` or `Chebyshev()`, which are losses
            of the residual y_i - x_i'beta - beta_0; or a function of predictions (n,) and y (n,) to losses (n,), convex
            in the predictions and twice differentiable.
        constraints: any of `learn.constraints`, or a list of them, nested as it comes; `constraints.smooth(g)` is
            g(beta) <= 0 for any convex function g.
        penalty: nonnegative.
        weights: (n,), w, nonnegative; None for ones.
        intercept: whether there is a beta_0; it is neither penalised nor constrained. (To constrain it, give X a column
            of ones and False here.)
        missing: "status" (NaN in X or y gives NUMERICAL_ERROR) or "drop" (such rows are left out).
        options: of the solver, see `Options`.

    Returns:
        `LinearModel` with the solver's status, PRIMAL_INFEASIBLE for constraints that contradict each other, and its
        `gap`. Huber's loss without constraints is minimised by Newton's method, and `gap` is the relative gradient. A
        fit with a function as loss or constraint is solved by `minimize`, every other one is a cone program, and its
        certificates and derivatives are those of `solve_conic`. Squares and functions need no variables beyond beta,
        the largest residual one, the other losses one or two for each row: they are for some hundred rows.

    Raises:
        ValueError: shapes that do not fit, an unknown loss or constraint.
        TypeError: data that are not real numbers.

    A function is compiled in and kept by identity, as `jax.jit` does: pass the same one again, not a new lambda.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> X, y = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0]]), np.array([1.0, 2.0, 4.0])
    >>> model = learn.regression.fit(X, y, constraints=learn.constraints.simplex(2))
    >>> print(np.asarray(model.coefficients).round(3))
    [1. 0.]
    >>> model = learn.regression.fit(X, y, constraints=learn.constraints.smooth(lambda beta: beta @ beta - 1.0))
    >>> print(np.asarray(model.coefficients).round(3))
    [0.981 0.193]
    """
    loss = Squared() if loss is None else loss
    if not (isinstance(loss, LOSSES) or (callable(loss) and not isinstance(loss, type))):
        names = ", ".join(f"{kind.__name__}()" for kind in LOSSES)
        raise ValueError(f"loss must be one of {names}, or a function of predictions and y, got {loss!r}.")
    options = checked_options(options)
    if rank(y) != 1:
        raise ValueError(f"y has {rank(y)} axes, expected (n,); for many outputs use jax.vmap.")
    squared = isinstance(loss, Squared)
    # only squares lose their intercept by centring
    data = prepare(X, y, weights, intercept=intercept and squared, missing=missing)
    (penalty,) = floating(penalty=penalty)
    require_shape("penalty", penalty, ())
    d, dtype = data.X.shape[1], data.X.dtype
    items = _flat(constraints)
    parts = _checked_constraints(items, d, dtype)
    smooth = [item for item in items if isinstance(item, Smooth)]
    rows = jnp.concatenate([data.X, jnp.ones((data.X.shape[0], 1), dtype)], 1) if intercept and not squared else data.X
    if isinstance(loss, Huber) and not items:
        return _huber(data, rows, loss, penalty.astype(dtype), intercept, options)
    program = _program(loss, data._replace(X=rows), d, penalty.astype(dtype), parts)
    if smooth or not isinstance(loss, LOSSES):
        solution = _by_functions(program, smooth, loss, data._replace(X=rows), d, options)
    else:
        solution = _by_cones(program, options)
    beta, offset = solution.x[:d], solution.x[d] if intercept and not squared else 0
    model = linear_model(data, beta[:, None], False, solution.objective, solution.status, solution.info.gap)
    # the cone program leaves out what no variable changes
    constant = jnp.sum(data.weights * data.y[:, 0] ** 2) if squared else 0
    return replace(model, intercept=model.intercept + offset, objective=model.objective + constant)


# ----------------------------------------------------------------------------- Huber by Newton's method


def _huber_loss(scores, y):
    """2 times the usual scale: the square in the middle."""
    y, threshold = y.T
    size = jnp.abs(y - scores[:, 0])
    return jnp.where(size <= threshold, size * size, threshold * (2 * size - threshold))


def _huber_majorant(scores, y):
    """That of iteratively reweighted least squares."""
    y, threshold = y.T
    size = jnp.abs(y - scores[:, 0])
    return 2 * jnp.where(size <= threshold, 1, threshold / jnp.where(size > 0, size, 1))


def _never(scores, sizes, y, weights):
    return jnp.array(False)


HUBER = newton.Loss(_huber_loss, _never, _huber_majorant)


@quick_jit
def _huber_fit(rows, y, w, threshold, p, tolerance):
    targets = jnp.stack([y, jnp.broadcast_to(threshold, y.shape)], 1)
    problem = newton.Problem(rows, targets, w, p)
    start = pseudo_inverse.solve(
        *jax.lax.stop_gradient((rows, w, y[:, None])), jnp.int32(0), jnp.asarray(1e3 * jnp.finfo(y.dtype).eps, y.dtype)
    )[0]
    theta, status, gradient, _ = newton.minimise(HUBER, *jax.lax.stop_gradient((problem, start, tolerance)))
    theta = newton.attach(HUBER, theta, problem)
    return theta, newton.objective(HUBER, theta, problem), status, gradient


def _huber(data: Data, rows, loss: Huber, penalty, intercept: bool, options: Options) -> LinearModel:
    """Newton's method, which needs no variables for the rows."""
    d = data.X.shape[1]
    (threshold,) = floating(threshold=loss.threshold)
    p = jnp.concatenate([jnp.full(d, 2 * penalty), jnp.zeros(rows.shape[1] - d, rows.dtype)])
    tolerance = options.tolerances(rows.dtype)[0]
    theta, value, status, gap = _huber_fit(rows, data.y[:, 0], data.weights, threshold.astype(rows.dtype), p, tolerance)
    model = linear_model(data, theta[:d], False, value, status, gap)
    return replace(model, intercept=model.intercept + theta[d, 0]) if intercept else model


# ----------------------------------------------------------------------------- constraints


def _flat(constraints):
    if isinstance(constraints, tuple | list):
        return [part for item in constraints for part in _flat(item)]
    if not isinstance(constraints, Bounds | AtMost | Equal | Norm | Semidefinite | Smooth):
        raise ValueError(f"constraints must be of learn.constraints, got {constraints!r}.")
    return [constraints]


def _checked_constraints(items: list, d: int, dtype) -> list[tuple]:
    """(cone, rows M, right v) each, for v - M beta in the cone."""
    parts: list[tuple] = []
    for i, item in enumerate(items):
        if isinstance(item, Smooth):
            continue
        name = f"constraints[{i}]"
        fields = {f"{name}.{key}": value for key, value in vars(item).items()}
        values: list[Any] = [None if v is None else v.astype(dtype) for v in floating(**fields)]
        labels = list(fields)
        if isinstance(item, Bounds):
            for label, value, sign in zip(labels, values, (-1, 1), strict=True):
                if value is not None:
                    if value.shape != ():
                        require_shape(label, value, (d,), "or a scalar")
                    parts.append((Nonnegative(d), sign * jnp.eye(d, dtype=dtype), sign * jnp.broadcast_to(value, d)))
        elif isinstance(item, AtMost | Equal):
            M, v = values
            require_shape(labels[0], M, (None, d), "with one column per coefficient")
            require_shape(labels[1], v, (M.shape[0],), f"with one entry per row of {labels[0]}")
            cone = Nonnegative(M.shape[0]) if isinstance(item, AtMost) else Zero(M.shape[0])
            parts.append((cone, M, v))
        elif isinstance(item, Norm):
            M, r, c, top = values
            require_shape(labels[0], M, (None, d), "with one column per coefficient")
            k = M.shape[0]
            r, c = (jnp.zeros(size, dtype) if v is None else v for v, size in ((r, k), (c, d)))
            top = jnp.zeros((), dtype) if top is None else top
            for label, value, shape in zip(labels[1:], (r, c, top), ((k,), (d,), ()), strict=True):
                require_shape(label, value, shape)
            parts.append((SecondOrder(k + 1), -jnp.concatenate([c[None], M]), jnp.concatenate([top[None], r])))
        else:
            F, F0 = values
            require_shape(labels[0], F, (d, None, None), "one matrix per coefficient")
            require_shape(labels[1], F0, F.shape[1:])
            parts.append((PSD(F.shape[1]), -svec((F + jnp.swapaxes(F, 1, 2)) / 2).T, svec((F0 + F0.T) / 2)))
    return parts


# ----------------------------------------------------------------------------- losses as cone programs


class Program(NamedTuple):
    """min 1/2 v'Pv + q'v (P None for zero) subject to pairs (M, right) of rows: right - M v >= 0 (linear), = 0 (equal),
    and triples (cone, M, right). v begins with beta and, if there is one, beta_0."""

    P: Any
    q: jax.Array
    linear: list
    equal: list
    others: list


def _program(loss, data: Data, d: int, penalty, parts: list[tuple]) -> Program:
    """Loss, penalty and constraints; a loss that is a function counts as zero."""
    X, y, w = data.X, data.y[:, 0], data.weights
    (n, size), dtype = X.shape, X.dtype
    eye, zeros = jnp.eye(n, dtype=dtype), lambda *shape: jnp.zeros(shape, dtype)
    ridge = jnp.concatenate([jnp.full(d, penalty), zeros(size - d)])
    if isinstance(loss, Squared):
        P, q = 2 * X.T @ (w[:, None] * X) + 2 * jnp.diag(ridge), -2 * X.T @ (w * y)
        own: list[tuple] = []
        total = size
    elif not isinstance(loss, LOSSES):
        P, q, own, total = 2 * jnp.diag(ridge), zeros(size), [], size
    elif isinstance(loss, Chebyshev):
        # w |y - X beta| <= t
        total = size + 1
        P, q = jnp.diag(jnp.append(2 * ridge, 0)), jnp.append(zeros(size), 1)
        t = jnp.ones((n, 1), dtype)
        wX, wy = w[:, None] * X, w * y
        own = [(jnp.block([[-wX, -t], [wX, -t]]), jnp.concatenate([-wy, wy]))]
    elif isinstance(loss, Huber):
        # min over u of u^2 + 2 threshold |r - u|: |y - X beta - u| <= v
        (threshold,) = floating(threshold=loss.threshold)
        total = size + 2 * n
        P = 2 * jnp.diag(jnp.concatenate([ridge, w, zeros(n)]))
        q = jnp.concatenate([zeros(size + n), 2 * threshold.astype(dtype) * w])
        own = [(jnp.block([[-X, -eye, -eye], [X, eye, -eye]]), jnp.concatenate([-y, y]))]
    else:
        # t >= level r, t >= (level - 1) r
        (level,) = floating(level=loss.level if isinstance(loss, Quantile) else 0.5)
        level, factor = level.astype(dtype), 2 if isinstance(loss, Absolute) else 1
        total = size + n
        P = None if _is_zero(penalty) else 2 * jnp.diag(jnp.concatenate([ridge, zeros(n)]))
        q = jnp.concatenate([zeros(size), factor * w])
        own = [
            (jnp.block([[-level * X, -eye], [(1 - level) * X, -eye]]), jnp.concatenate([-level * y, (1 - level) * y]))
        ]

    widen = lambda M: jnp.concatenate([M, zeros(M.shape[0], total - M.shape[1])], 1)
    linear = [(widen(M), v) for cone, M, v in parts if isinstance(cone, Nonnegative)] + own
    equal = [(widen(M), v) for cone, M, v in parts if isinstance(cone, Zero)]
    others = [(cone, widen(M), v) for cone, M, v in parts if not isinstance(cone, Nonnegative | Zero)]
    return Program(P, q, linear, equal, others)


def _join(blocks: list[tuple]) -> tuple:
    """The rows of all pairs; None for none."""
    if not blocks:
        return None, None
    return jnp.concatenate([M for M, _ in blocks]), jnp.concatenate([v for _, v in blocks])


def _by_cones(program: Program, options: Options):
    P, q, linear, equal, others = program
    if not others:
        return solve_qp(P, q, *_join(linear), *_join(equal), options=options)
    M, v = _join([*equal, *linear, *((M, v) for _, M, v in others)])
    cones = [Zero(v.shape[0]) for _, v in equal] + [Nonnegative(v.shape[0]) for _, v in linear]
    return solve_conic(P, q, M, v, [*cones, *(cone for cone, _, _ in others)], options=options)


# ----------------------------------------------------------------------------- losses and constraints as functions


def _by_functions(program: Program, smooth: list[Smooth], loss, data: Data, d: int, options: Options):
    """The same with functions among loss and constraints, which the solver keeps by equality of the objects here."""
    P, q, linear, equal, others = program
    # a row without weight may hold anything: it becomes one that counts, so that its loss is finite where others are
    counted = data.weights > 0
    like = jnp.where(counted, jnp.arange(counted.shape[0]), jnp.argmax(counted))
    rows = (data.X[like], data.y[like, 0], data.weights)
    params = {
        "P": P,
        "q": q,
        "rows": None if isinstance(loss, LOSSES) else rows,
        "linear": _join(linear),
        "cones": [(M, v) for _, M, v in others],
        "smooth": [item.params for item in smooth],
    }
    objective = _Objective(None if isinstance(loss, LOSSES) else loss)
    start = jnp.zeros_like(q)
    if objective.loss is not None and q.shape[0] > d:
        # with all predictions the mean of y, where the loss has no value at zero
        X, y, w = rows
        finite = jnp.isfinite(objective(start, params))
        start = jnp.where(finite, start, start.at[d].set(w @ y / jnp.sum(w)))
    has_rows = bool(linear or smooth)
    return minimize(
        objective,
        jax.lax.stop_gradient(start),
        inequalities=_Inequalities(tuple(item.function for item in smooth), d) if has_rows else None,
        equalities=_join(equal) if equal else None,
        cones=[(_Rows(i), cone) for i, (cone, _, _) in enumerate(others)],
        params=params,
        options=options,
    )


@dataclass(frozen=True)
class _Objective:
    """1/2 v'Pv + q'v and the weighted losses."""

    loss: Callable | None

    def __call__(self, v, params):
        P, q = params["P"], params["q"]
        value = q @ v if P is None else q @ v + v @ P @ v / 2
        if self.loss is None:
            return value
        X, y, w = params["rows"]
        losses = self.loss(X @ v, y)
        if jnp.shape(losses) != y.shape:
            raise ValueError(f"loss returns shape {jnp.shape(losses)}, expected one loss per row, {y.shape}.")
        return value + w @ losses


@dataclass(frozen=True)
class _Inequalities:
    """M v - right of the linear rows, and the functions of beta, the first d entries of v."""

    functions: tuple[Callable, ...]
    d: int

    def __call__(self, v, params):
        M, right = params["linear"]
        values = [] if M is None else [M @ v - right]
        for function, own in zip(self.functions, params["smooth"], strict=True):
            beta = v[: self.d]
            values.append(jnp.ravel(function(beta) if own is None else function(beta, own)))
        return jnp.concatenate(values)


@dataclass(frozen=True)
class _Rows:
    """M v - right of a cone."""

    position: int

    def __call__(self, v, params):
        M, right = params["cones"][self.position]
        return M @ v - right


def _is_zero(value) -> bool:
    return not isinstance(value, jax.core.Tracer) and bool(value == 0)
