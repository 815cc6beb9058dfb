"""From the data of a machine to its dual, and from the solution of that to the model."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from convexjax.compilation import quick_jit
from convexjax.learn.data import clean
from convexjax.learn.kernels import Linear
from convexjax.learn.svm import solver
from convexjax.learn.svm.arguments import Balanced
from convexjax.learn.svm.dual import BoxDual
from convexjax.learn.svm.kernel_matrix import Dense, LowRank, Streamed, is_convex
from convexjax.learn.svm.model import SVMModel
from convexjax.options import DEFAULT_TOLERANCES
from convexjax.pytrees import pytree, static
from convexjax.solution import Status

# Entries of X from which the run takes longer than the compilation.
LARGE = 1_000_000


@pytree
@dataclass(frozen=True)
class Setting:
    """What changes the traced program."""

    kind: str = static()
    low_rank: bool = static()
    linear: bool = static()
    block: int = static()  # size of working sets, 0 for the interior point
    intercept: bool = static()
    drop: bool = static()


def train(X, labelled, weights, class_factors, parameters, tolerance, kernel, how: Setting) -> SVMModel:
    # quick compilation makes exponentials of large blocks slower
    call = _compiled if how.block or X.size > LARGE else _quickly_compiled
    return call(X, labelled, weights, class_factors, parameters, tolerance, kernel, how)


def _machine(X, labelled, weights, class_factors, parameters, tolerance, kernel, how: Setting) -> SVMModel:
    separates = how.kind in ("hinge", "squared_hinge", "hard", "nu")
    y, classes = labelled if separates else (labelled, None)
    X, y, weights, fine = clean(X, y, weights, how.drop)
    default = DEFAULT_TOLERANCES[X.dtype.name][0]
    tolerance = jnp.where(tolerance > 0, tolerance, default)
    live = weights > 0
    if separates:
        y, classes, two = _two_classes(y, classes, live)
        fine = fine & two
    if class_factors is not None:
        if isinstance(class_factors, Balanced):
            count = lambda of: jnp.maximum(jnp.sum(live & of), 1).astype(X.dtype)
            class_factors = (count(y < 0) + count(y > 0)) / 2 / jnp.stack([count(y < 0), count(y > 0)])
        weights = weights * jnp.where(y > 0, class_factors[1], class_factors[0])
    mean = jnp.zeros(X.shape[1], X.dtype)
    if how.linear and how.intercept and how.kind != "one_class":
        # the same problem with an intercept, better conditioned
        mean = weights @ X / jnp.sum(weights)
    rows = jnp.where(live[:, None], X - mean, 0) if how.linear else X
    dual = _dual(y, weights, parameters, how)
    operator = _operator(rows, kernel, how)
    if how.block:
        found = solver.by_working_sets(dual, operator, tolerance, how.block)
    else:
        found = solver.by_interior_point(dual, operator, tolerance)
    a, b, beta, status = found.a, found.b, dual.beta(found.a), found.status
    square, objective, gap = found.square, found.objective, found.gap
    if not how.linear and not kernel.is_convex:
        fine_kernel = is_convex(jax.lax.stop_gradient(operator))
        status = jnp.where(fine_kernel, status, jnp.int32(Status.NONCONVEX))
    if how.kind == "nu":
        rho = -found.rho
        proper = rho > 0
        rho = jnp.where(proper, rho, 1)
        a, b, beta = (v / rho for v in (a, b, beta))
        smaller = jnp.minimum(*(jnp.sum(jnp.where(side, weights, 0)) for side in (y > 0, y < 0)))
        excess = parameters[0] * jnp.sum(weights) > 2 * smaller * (1 + 10 * jnp.finfo(X.dtype).eps)
        status = jnp.where(excess, jnp.int32(Status.PRIMAL_INFEASIBLE), status)
        fine, square = fine & (proper | excess), square / rho**2
    if how.kind == "hard":
        # the hulls' nearest points; the machine has their difference as normal and half its square as margin
        proper = square > 0
        rho = jnp.where(proper, square, 1) / 2
        gap, status = hard_margin(dual, operator, found, tolerance)
        scale = jnp.where(status == Status.PRIMAL_INFEASIBLE, 1, rho)
        a, b, beta, square = a / scale, b / scale, beta / scale, square / scale**2
        objective = square / 2
    margin = jnp.where(square > 0, jax.lax.rsqrt(jnp.where(square > 0, square, 1)), jnp.inf)
    coef = beta @ rows if how.linear else None
    b = b if coef is None else b - mean @ coef
    fill = lambda v: None if v is None else jnp.where(fine, v, jnp.nan)
    if how.kind == "one_class":
        classes = jnp.array([-1, 1], jnp.int32)
    return SVMModel(
        coef=fill(coef),
        intercept=fill(b),
        dual=fill(beta if "regression" in how.kind else a[0]),
        beta=fill(beta),
        support=beta != 0,
        margin=fill(margin),
        objective=fill(objective),
        gap=fill(gap),
        status=jnp.where(fine, status, jnp.int32(Status.NUMERICAL_ERROR)),
        num_iters=found.num_iters,
        classes=classes,
        samples=None if how.linear else X,
        kernel=None if how.linear else kernel,
    )


_compiled, _quickly_compiled = jax.jit(_machine), quick_jit(_machine)


def _operator(rows, kernel, how: Setting):
    """K in the form that the method needs."""
    if how.low_rank:
        return LowRank(rows)
    if how.block:
        return Streamed(Linear() if how.linear else kernel, rows)
    K = rows @ rows.T if how.linear else kernel(rows, rows)
    return Dense((K + K.T) / 2)


def hard_margin(dual: BoxDual, operator, found: solver.Found, tolerance) -> tuple[jax.Array, jax.Array]:
    """(gap, status) of a hard margin by the points of the two hulls, |w| apart: no machine has |w| smaller than that of
    2 w / |w|^2, and w divided by its smallest score separates."""
    dual, operator, a, b = jax.lax.stop_gradient((dual, operator, found.a[0], found.b))
    y, live = dual.sign[0], dual.u[0] > 0
    if dual.intercept:
        total = jnp.where(y > 0, jnp.sum(jnp.where(y > 0, a, 0)), jnp.sum(jnp.where(y > 0, 0, a)))
    else:
        total = jnp.sum(a) / 2
    w = operator.compress(y * a / jnp.where(total > 0, total, 1))
    f = operator.scores(w)
    square = operator.square(w, f)
    if dual.intercept:
        # in the middle between the classes
        lowest = jnp.min(jnp.where(live & (y > 0), f, jnp.inf))
        highest = jnp.max(jnp.where(live & (y < 0), f, -jnp.inf))
        b = -(lowest + highest) / 2
    least = jnp.min(jnp.where(live, y * (f + b), jnp.inf))
    ratio = 2 * least / jnp.where(square > 0, square, 1)
    gap = jnp.where((least > 0) & (square > 0), jnp.maximum(1 - ratio * ratio, 0), 1)
    _, looser, infeasible = DEFAULT_TOLERANCES[gap.dtype.name]
    status = jnp.where(gap <= jnp.maximum(tolerance, looser), Status.ALMOST_SOLVED, Status.MAX_ITERATIONS)
    status = jnp.where(gap <= tolerance, Status.SOLVED, status)
    touching = (least <= 0) & (square <= infeasible * operator.largest())
    status = jnp.where(touching, Status.PRIMAL_INFEASIBLE, status)
    return gap, jnp.where(jnp.isfinite(gap + square), status, Status.NUMERICAL_ERROR).astype(jnp.int32)


def _two_classes(y, classes, live):
    """(y with -1 and 1, the labels, whether there are two with samples of positive weight)."""
    if classes is None:
        low = jnp.min(jnp.where(live, y, jnp.inf))
        high = jnp.max(jnp.where(live, y, -jnp.inf))
        known = jnp.all(~live | (y == low) | (y == high))
        return jnp.where(y == high, 1, -1).astype(y.dtype), jnp.stack([low, high]), known & (low < high)
    return y, classes, jnp.any(live & (y > 0)) & jnp.any(live & (y < 0))


def _dual(y, weights, parameters, how: Setting) -> BoxDual:
    """The problem in the form of `dual.py`."""
    m, dtype = y.shape[0], y.dtype
    one, zero = jnp.ones((1, m), dtype), jnp.zeros((), dtype)
    e = jnp.zeros(2, dtype)
    if how.kind == "hard":
        # the nearest points of the convex hulls of the two classes, each with weights of sum 1
        there = jnp.where(weights > 0, 2 * one, 0)
        return BoxDual(y[None], 0 * one, there, 0 * one, e.at[1].set(2), intercept=how.intercept, total=True)
    if how.kind in ("nu", "one_class"):
        amount = parameters[0] * jnp.sum(weights)
        if how.kind == "nu":
            return BoxDual(y[None], 0 * one, weights[None], 0 * one, jnp.stack([zero, amount]), total=True)
        return BoxDual(one, 0 * one, weights[None], 0 * one, jnp.stack([amount, zero]))
    C = parameters[0] * weights
    if "regression" in how.kind:
        epsilon = parameters[1]
        sign, q = jnp.concatenate([one, -one]), jnp.stack([epsilon - y, epsilon + y])
    else:
        sign, q = y[None], -one
    u = jnp.broadcast_to(C, q.shape)
    if not how.kind.startswith("squared"):
        return BoxDual(sign, q, u, jnp.zeros_like(q), e, intercept=how.intercept)
    d = 1 / (2 * jnp.where(u > 0, u, 1))
    return BoxDual(sign, q, u, d, e, bounded=False, intercept=how.intercept)
