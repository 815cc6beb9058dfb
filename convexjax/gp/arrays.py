"""Arrays of posynomials, and operations with arrays of numbers."""

from collections.abc import Callable
from typing import Any

import numpy as np

from convexjax.gp.terms import NotGeometricError, is_traced


class Array(np.ndarray):
    """An array of posynomials; all arithmetic of NumPy, `sum()`, `prod()` and `@` work. Comparisons give a list of
    constraints."""

    __array_priority__ = 1000.0  # above that of JAX's arrays

    def __jax_array__(self):
        raise NotGeometricError("Write an array of JAX to the right of an array of variables: x * c and not c * x.")

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return array[()] if np.ndim(array) == 0 else np.asarray(array).view(Array)

    def __le__(self, other):
        return _pairs(lambda a, b: a <= b, self, other)

    def __ge__(self, other):
        return _pairs(lambda a, b: a >= b, self, other)

    def __eq__(self, other):
        return _pairs(lambda a, b: a == b, self, other)

    __hash__ = None


def _of_entries(name: str) -> Callable:
    """An operation of NumPy that takes traced values entry by entry."""
    plain = getattr(np.ndarray, name)
    return lambda self, other: plain(self, _entries(other) if is_traced(other) else other)


for _name in ("__add__", "__mul__", "__truediv__", "__pow__", "__matmul__"):
    setattr(Array, _name, _of_entries(_name))


def _pairs(relation: Callable, left: Array, right: Any) -> list:
    return [relation(a, b) for a, b in np.broadcast(left, _entries(right))]


def elementwise(operation: Callable, other: Any) -> Array | None:
    """The operation with each entry of an array; None for what is no array."""
    if not is_array(other):
        return None
    entries = _entries(other)
    found = np.empty(entries.shape, object)
    for index in np.ndindex(entries.shape):
        found[index] = operation(entries[index])
    return found.view(Array)


def is_array(value: Any) -> bool:
    """Whether it has entries."""
    return isinstance(value, list | tuple) or bool(np.ndim(value))


def _entries(value) -> np.ndarray:
    if not is_traced(value):
        return np.asarray(value, object)
    found = np.empty(value.shape, object)
    for index in np.ndindex(value.shape):
        found[index] = value[index]
    return found
