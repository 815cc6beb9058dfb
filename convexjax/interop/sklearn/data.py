"""What every estimator does with its data: check as scikit-learn does, fill up to few shapes, say how the fit ended."""

import warnings
from contextlib import nullcontext
from typing import NamedTuple

import jax
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from convexjax.options import DEFAULT_TOLERANCES
from convexjax.solution import Status

# What data are fitted in: everything but float32 becomes float64.
TYPES = (np.float64, np.float32)


class Samples(NamedTuple):
    """The samples of positive weight."""

    X: np.ndarray  # (n, d)
    y: np.ndarray  # (n,) or (n, q)
    weights: np.ndarray  # (n,), positive, of the type of X
    places: np.ndarray  # (n,), among all samples


# ----------------------------------------------------------------------------- from the user


def samples(estimator, X, y, sample_weight, *, labels=False, outputs=False, square=False) -> Samples:
    """The data of `fit`: y holds labels, or numbers that get the type of X, in columns too if `outputs`; if `square`, X
    has a row and a column for each sample."""
    X, y = validate_data(estimator, X, y, dtype=TYPES, y_numeric=not labels, multi_output=outputs)
    if labels:
        check_classification_targets(y)
    else:
        y = y.astype(X.dtype, copy=False)
    return weighted(X, y, sample_weight, square)


def weighted(X, y, sample_weight, square=False) -> Samples:
    """The samples of positive weight."""
    if square and X.shape[0] != X.shape[1]:
        raise ValueError(f"X has shape {X.shape}, expected a square matrix of the values of the kernel.")
    weights = _weights(sample_weight, X)
    places = np.flatnonzero(weights)
    if places.size < len(weights):
        X = X[np.ix_(places, places)] if square else X[places]
    return Samples(X, y[places], weights[places], places)


def _weights(sample_weight, X) -> np.ndarray:
    n = X.shape[0]
    if sample_weight is None:
        return np.ones(n, X.dtype)
    if isinstance(sample_weight, int | float | np.number):
        return np.full(n, sample_weight, X.dtype)
    weights = check_array(sample_weight, ensure_2d=False, dtype=X.dtype, input_name="sample_weight")
    if weights.shape != (n,):
        raise ValueError(f"sample_weight has shape {weights.shape}, expected ({n},): one weight per row of X.")
    if not (weights >= 0).all():
        raise ValueError("sample_weight holds negative weights, expected nonnegative ones.")
    if not weights.any():
        raise ValueError("sample_weight is zero for all samples, expected a positive weight for at least one.")
    return weights


def encoded(y, class_weight, weights) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(labels, the index of each sample's label, weights times those of the classes)."""
    classes, index = np.unique(y, return_inverse=True)
    if classes.size < 2:
        raise ValueError(
            f"y holds one class only, {classes[0]!r} (in samples of positive weight), expected at least 2."
        )
    if class_weight is None:
        return classes, index, weights
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f'class_weight must be "balanced", a dict or None, got {class_weight!r}.')
        factors = weights.sum() / (classes.size * np.bincount(index, weights))
    else:
        factors = np.array([class_weight.get(label, 1.0) for label in classes.tolist()])
        if not (factors > 0).all():
            raise ValueError(f"class_weight must be positive, got {class_weight!r}.")
    return classes, index, weights * factors[index].astype(weights.dtype)


def new_samples(estimator, X) -> np.ndarray:
    """X of `predict`."""
    check_is_fitted(estimator)
    return validate_data(estimator, X, reset=False, dtype=TYPES)


def number(name: str, value, dtype, *, above: float | None = None, least: float = 0.0, most: float = np.inf):
    """A parameter of an estimator as a scalar array, if it is above `above`, or else at least `least`."""
    wanted = f"at least {least:g}" if above is None else f"above {above:g}"
    wanted += "" if most == np.inf else f" and at most {most:g}"
    if not isinstance(value, int | float | np.number) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number {wanted}, got {value!r}.")
    if not ((value >= least if above is None else value > above) and value <= most):
        raise ValueError(f"{name} must be {wanted}, got {value!r}.")
    return np.asarray(value, dtype)


def tolerance(tol, dtype):
    """That of the solvers for None."""
    return np.asarray(DEFAULT_TOLERANCES[dtype.name][0], dtype) if tol is None else number("tol", tol, dtype, above=0)


# ----------------------------------------------------------------------------- few shapes


def filled(size: int) -> int:
    """To how many rows so many are filled up: a power of two, of at least 32; above 256 a multiple of an eighth of the
    power of two below."""
    if size <= 256:
        return max(32, 1 << (size - 1).bit_length())
    step = 1 << (size.bit_length() - 4)
    return -(-size // step) * step


def filled_columns(size: int) -> int:
    """To how many columns: few ones to 4, 8, 16 or 32. More of them would cost more than they save."""
    return size if size > 32 else max(4, 1 << (size - 1).bit_length())


def rows(array: np.ndarray, size: int | None = None) -> np.ndarray:
    """An array with rows of zeros below."""
    size = filled(array.shape[0]) if size is None else size
    return np.pad(array, [(0, size - array.shape[0])] + [(0, 0)] * (array.ndim - 1))


def columns(X: np.ndarray) -> np.ndarray:
    """A matrix with columns of zeros behind."""
    return np.pad(X, ((0, 0), (0, filled_columns(X.shape[1]) - X.shape[1])))


# ----------------------------------------------------------------------------- to the user


def precision(dtype):
    """Where float64 is what it says."""
    return jax.enable_x64(True) if dtype == np.float64 else nullcontext()


def conclude(estimator, *statuses) -> None:
    """Set `status_`, that of the first fit that is not proved, and warn of it."""
    found = [Status(int(status)) for status in statuses]
    estimator.status_ = next((status for status in found if status != Status.SOLVED), Status.SOLVED)
    if estimator.status_ != Status.SOLVED:
        name, status = type(estimator).__name__, estimator.status_
        warnings.warn(f"{name} ended with {status.name}: {status.message}.", ConvergenceWarning, stacklevel=3)
