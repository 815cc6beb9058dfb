"""Cross-validated grids of strengths and kernel scales."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.learn.kernels import RBF
from convexjax.learn.svm import working_set
from convexjax.learn.svm.arguments import WORKING_SET, require, signs
from convexjax.problems.arguments import floating, require_shape


def grid_scores(
    X: ArrayLike,
    y: ArrayLike,
    strengths: ArrayLike,
    scales: ArrayLike,
    folds: ArrayLike,
    *,
    kernel: Callable = RBF,
    tolerance: float = 1e-4,
    number: int | None = None,
) -> jax.Array:
    """The shares (k, l) of samples that are classified rightly while they are left out, for all strengths (k,), the C
    of `fit`, and all scales (l,) of `kernel(scale)`, in one program: a kernel matrix serves for all folds and
    strengths, and each strength starts from the one before.

    X (m, p), y (m,) with two labels, `folds` (m,) the fold in which a sample is left out (`validation.k_fold`), their
    `number` if they are traced. NaN where a machine did not reach the tolerance.

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
    require(strengths > 0, "strengths must be positive", strengths)
    return _grid_scores(
        X, jnp.where(y > 0, 1.0, -1.0).astype(X.dtype), strengths, scales, folds, kernel, number, tolerance
    )


@partial(jax.jit, static_argnames=("kernel", "number"))
def _grid_scores(X, y, strengths, scales, folds, kernel, number, tolerance):
    m, dtype = X.shape[0], X.dtype
    q = max(8, min(WORKING_SET, m // 2) // 4 * 4)
    order = jnp.argsort(strengths)
    folds = jnp.asarray(folds, jnp.int32)

    def of_scale(scale):
        K = kernel(scale)(X, X)

        def of_fold(fold):
            inside = (folds != fold).astype(dtype)

            def of_strength(before, C):
                (v, F), last = before[:2], before[2]
                hi, lo = jnp.where(y > 0, C * inside, 0), jnp.where(y > 0, 0, -C * inside)
                problem = working_set.Problem(y, lo, hi, jnp.zeros_like(y), jnp.zeros((), dtype))
                ratio = C / last
                start = jnp.clip(ratio * v, lo, hi), y - ratio * (y - F)
                v, F, b, gap, _ = working_set.solve(problem, lambda own: K[own], m, q, tolerance, start)
                right = jnp.where(y * (y - F + b) > 0, 1 - inside, 0)
                score = jnp.sum(right) / jnp.sum(1 - inside)
                return (v, F, C), jnp.where(gap <= tolerance, score, jnp.nan)

            begin = jnp.zeros_like(y), y, strengths[order[0]]
            return jax.lax.scan(of_strength, begin, strengths[order])[1]

        return jnp.mean(jax.lax.map(of_fold, jnp.arange(number, dtype=jnp.int32)), 0)

    scores = jax.lax.map(of_scale, scales)  # (l, k), by increasing strength
    return scores.T[jnp.argsort(order)]
