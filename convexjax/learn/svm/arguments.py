"""What every fit does with its arguments: what is known when it is called is checked, or raises an error."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.learn.kernels import Kernel, Linear, Precomputed
from convexjax.problems.arguments import floating, require_given, require_shape
from convexjax.pytrees import pytree

# Most samples with which "auto" factorises the kernel matrix, and the size of working sets.
DENSE_SAMPLES, WORKING_SET = 200, 256


def require_loss(loss, plain):
    squared = "squared" if plain == "absolute" else "squared_hinge"
    if loss not in (plain, squared):
        raise ValueError(f'loss must be "{plain}" or "{squared}", got {loss!r}.')


def require(holds, message, value):
    """Raise `ValueError` for what is known now and does not hold."""
    if not isinstance(holds, jax.core.Tracer) and not bool(jnp.all(holds)):
        raise ValueError(f"{message}, got {value}.")


def strength(gamma, C) -> tuple:
    """(C, by what the objective is multiplied)."""
    if (gamma is None) == (C is None):
        raise ValueError("pass one of gamma and C (C = gamma / 2).")
    if gamma is None:
        return C, 1
    (gamma,) = floating(gamma=gamma)
    require(gamma > 0, "gamma must be positive", gamma)
    return gamma / 2, 2


def is_infinite(C) -> bool:
    """Whether C is known to be inf."""
    return not isinstance(C, jax.core.Tracer) and np.ndim(C) == 0 and bool(np.isposinf(C))


def checked(X, y, weights, missing, tolerance, two_classes=False, **scalars) -> list:
    """(X, y, weights, tolerance, the scalars in turn) as arrays of the type of X that fit; y with its labels as they
    are, unless they are known now: then -1 and 1 with the labels beside them."""
    if missing not in ("status", "drop"):
        raise ValueError(f'missing must be "status" or "drop", got {missing!r}.')
    require_given(X=X, y=y)
    classes = None
    if two_classes and not isinstance(y, jax.core.Tracer):
        y, classes = signs(y)
    (X,) = floating(X=X)
    y, weights, tolerance = floating(y=y, weights=weights, tolerance=0 if tolerance is None else tolerance)
    require_shape("X", X, (None, None))
    m = X.shape[0]
    if m == 0:
        raise ValueError("X has no rows, expected at least one sample.")
    require_shape("y", y, (m,), "with one entry per row of X")
    if weights is not None:
        require_shape("sample_weight", weights, (m,), "with one entry per row of X")
        weights = weights.astype(X.dtype)
    require(tolerance >= 0, "tolerance must be positive", tolerance)
    arrays = []
    for name, value in scalars.items():
        (value,) = floating(**{name: value})
        require_shape(name, value, ())
        if name == "C":
            require((value > 0) & (value < jnp.inf), "C must be positive and finite", value)
        arrays.append(value.astype(X.dtype))
    labelled = (y.astype(X.dtype), classes) if two_classes else y.astype(X.dtype)
    return [X, labelled, weights, tolerance.astype(X.dtype), *arrays]


def signs(y) -> tuple:
    """(-1 and 1 for two labels that are known now, the labels)."""
    if isinstance(y, jax.core.Tracer):
        raise ValueError("y is traced, expected labels that are known now.")
    values = np.asarray(y)
    if values.dtype.kind not in "biuf":
        raise TypeError(f"y holds {values.dtype}, expected numbers; for names pass a comparison such as y == 'yes'.")
    classes = np.unique(values[np.isfinite(values)] if values.dtype.kind == "f" else values)
    if classes.size != 2:
        raise ValueError(f"y holds {classes.size} different labels, expected 2 (for more: fit_multiclass).")
    signs = np.where(values == classes[1], 1.0, np.where(values == classes[0], -1.0, np.nan))
    return signs, jnp.asarray(classes, jnp.int32 if classes.dtype.kind in "biu" else None)


def class_factors(class_weight, dtype):
    """None, "balanced", or the two factors."""
    if class_weight is None:
        return None
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f'class_weight must be "balanced" or two numbers, got {class_weight!r}.')
        return Balanced()
    (factors,) = floating(class_weight=class_weight)
    require_shape("class_weight", factors, (2,), "for the smaller and the larger label")
    require(factors > 0, "class_weight must be positive", factors)
    return factors.astype(dtype)


@pytree
@dataclass(frozen=True)
class Balanced:
    """Factors m / (2 m_class)."""


def form(X, kernel, missing, intercept, method, memory) -> tuple:
    """(whether K is X X' of low rank, whether it is X X', the size of working sets, intercept, drop)."""
    if method not in ("auto", "interior_point", "working_set"):
        raise ValueError(f'method must be "auto", "interior_point" or "working_set", got {method!r}.')
    if not isinstance(intercept, bool):
        raise ValueError(f"intercept must be True or False (it is static), got {intercept!r}.")
    if kernel is not None and not isinstance(kernel, Kernel):
        raise ValueError(f"kernel must be one of learn.kernels, got {type(kernel).__name__}; see kernels.Function.")
    if kernel is not None:
        kernel.check(X.shape[1])
    if isinstance(kernel, Precomputed):
        require_shape("X", X, (X.shape[0], X.shape[0]), "the values of a precomputed kernel")
    linear = kernel is None or isinstance(kernel, Linear)
    m, low_rank = X.shape[0], linear and X.shape[1] <= X.shape[0]
    block = 0
    if method == "working_set" and not intercept:
        raise ValueError('method "working_set" wants intercept=True.')
    if method == "working_set" or (method == "auto" and intercept and not low_rank and m > DENSE_SAMPLES):
        low_rank = False
        # rows that are kept, new ones, and those as a product before the kernel is applied
        entries = memory / X.dtype.itemsize / 2.5
        block = max(8, min(WORKING_SET, int(entries / m), m // 2) // 4 * 4)
    return low_rank, linear, block, intercept, missing == "drop"
