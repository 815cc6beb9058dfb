"""Cross-validated grids of strengths and kernel scales."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.learn.kernels import RBF
from convexjax.learn.svm import working_set
from convexjax.learn.svm.arguments import require, signs
from convexjax.problems.arguments import floating, require_shape

# Size of working sets. Smaller than where rows of the kernel matrix have to be formed first.
SET = 128


def grid_scores(
    X: ArrayLike,
    y: ArrayLike,
    strengths: ArrayLike,
    scales: ArrayLike,
    folds: ArrayLike,
    *,
    kernel: Callable = RBF,
    tolerance: float = 1e-3,
    number: int | None = None,
) -> jax.Array:
    """The shares (k, l) of samples that are classified rightly while they are left out, for all strengths (k,), the C
    of `fit`, and all scales (l,) of `kernel(scale)`, in one program: a kernel matrix serves for all folds and
    strengths, and each strength starts from the one before.

    X (m, p), y (m,) with two labels, `folds` (m,) the fold in which a sample is left out (`validation.k_fold`), their
    `number` if they are traced; `tolerance` of the duality gap of each machine, relative to its objective. NaN where a
    machine did not reach it. Called as it is on a CPU, not as a part of a traced function, each scale has a thread.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> X, y = np.linspace(-1, 1, 12)[:, None], np.repeat([0, 1, 0], 4)
    >>> scores = learn.svm.grid_scores(X, y, [1.0, 10.0], [0.1, 3.0], learn.validation.k_fold(12, 4))
    >>> scores.shape
    (2, 2)
    """
    if isinstance(folds, jax.core.Tracer) and number is None:
        raise ValueError("folds is traced: pass the number of folds as `number`.")
    if number is None:
        number = int(np.max(np.asarray(folds))) + 1
    if not isinstance(y, jax.core.Tracer):
        y, _ = signs(y)
    X, y, strengths, scales = floating(X=X, y=y, strengths=strengths, scales=scales)
    require_shape("X", X, (None, None))
    for name, array in (("y", y), ("folds", jnp.asarray(folds))):
        require_shape(name, array, X.shape[:1], "with one entry per row of X")
    for name, array in (("strengths", strengths), ("scales", scales)):
        require_shape(name, array, (None,))
        require((array > 0) & (array < jnp.inf), f"{name} must be positive and finite", array)
    y = jnp.where(y > 0, 1.0, -1.0).astype(X.dtype)
    data = X, y, strengths.astype(X.dtype), jnp.asarray(folds, jnp.int32), jnp.asarray(tolerance, X.dtype)
    scales = scales.astype(X.dtype)
    if any(isinstance(leaf, jax.core.Tracer) for leaf in (*data, scales, jnp.zeros(()))):
        columns = jax.lax.map(lambda scale: _of_scale(scale, *data, kernel, number), scales)
    else:
        # XLA runs a loop of small steps in one thread
        program = _of_scale.lower(scales[0], *data, kernel, number).compile()
        with ThreadPoolExecutor((os.cpu_count() or 1) if jax.default_backend() == "cpu" else 1) as threads:
            columns = jnp.stack(
                list(threads.map(lambda scale: jax.block_until_ready(program(scale, *data)), [*scales]))
            )
    return columns.T


@partial(jax.jit, static_argnames=("kernel", "number"))
def _of_scale(scale, X, y, strengths, folds, tolerance, kernel, number):
    """The scores of all strengths for one scale."""
    K = kernel(scale)(X, X)
    order = jnp.argsort(strengths)
    scores = jax.lax.map(
        lambda fold: _path(K, y, strengths[order], folds != fold, tolerance), jnp.arange(number, dtype=jnp.int32)
    )
    return jnp.mean(scores, 0)[jnp.argsort(order)]


def _path(K, y, strengths, inside, tolerance):
    """The scores of rising strengths on the samples that are not inside."""
    m = y.shape[0]
    inside = inside.astype(y.dtype)
    size = max(8, min(SET, m // 2) // 4 * 4)

    def of_strength(before, C):
        v, F, last = before
        hi, lo = jnp.where(y > 0, C * inside, 0), jnp.where(y > 0, 0, -C * inside)
        problem = working_set.Problem(y, lo, hi, jnp.zeros_like(y), jnp.zeros((), y.dtype))
        start = _rescaled(y, v, F, lo, hi, C / last)
        v, F, b, gap, _ = working_set.solve(problem, lambda own: K[own], m, size, tolerance, start)
        right = jnp.where(y * (y - F + b) > 0, 1 - inside, 0)
        score = jnp.sum(right) / jnp.sum(1 - inside)
        return (v, F, C), jnp.where(gap <= tolerance, score, jnp.nan)

    v = strengths[0] * _nearest(K, y, inside)
    return jax.lax.scan(of_strength, (v, y - K @ v, strengths[0]), strengths)[1]


def _nearest(K, y, inside):
    """The solution for small strengths: 1 for the samples of the smaller class and as many of the other, those that a
    machine of class means thinks the least of; -1 for the negative class."""
    number = lambda side: jnp.sum(jnp.where(side, inside, 0))
    count = jnp.where(y > 0, number(y > 0), number(y < 0))
    margin = y * (K @ (inside * y / jnp.maximum(count, 1)))
    order = lambda side: jnp.argsort(jnp.where(side & (inside > 0), margin, jnp.inf))
    rank = lambda side: jnp.argsort(order(side)).astype(y.dtype)
    kept = jnp.where(y > 0, rank(y > 0), rank(y < 0)) < jnp.minimum(number(y > 0), number(y < 0))
    return jnp.where(kept, inside * y, 0)


def _rescaled(y, v, F, lo, hi, ratio):
    """(v, F) of the best multiple of a solution for bounds that are `ratio` times as large."""
    Kv = y - F
    curvature = v @ Kv
    best = (y @ v) / jnp.where(curvature > 0, curvature, 1)
    multiple = jnp.where(curvature > 0, jnp.minimum(ratio, best), ratio)
    # what was at a bound stays there, whatever rounding says
    near = 1 - 100 * jnp.finfo(v.dtype).eps
    moved = multiple * v
    moved = jnp.where(moved >= near * hi, hi, jnp.where(moved <= near * lo, lo, moved))
    return moved, y - multiple * Kv
