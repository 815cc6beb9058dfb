"""Derivatives from solves alone: central differences of eighth order, at a tight tolerance.

The stencil reaches four steps to both sides; along one direction it gives the first and the second derivative of
everything a solve returns. Its own error is estimated beside: the change against the stencil of sixth order.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

OFFSETS = np.arange(-4, 5)
# weights of the offsets 1..order/2, and for the second derivative of the offsets 0..order/2
FIRST = {6: np.array([45, -9, 1]) / 60, 8: np.array([672, -168, 32, -3]) / 840}
SECOND = {6: np.array([-490, 270, -27, 2]) / 180, 8: np.array([-14350, 8064, -1008, 128, -9]) / 5040}


@dataclass(frozen=True)
class Estimate:
    """A derivative along each direction, and the change of it against the lower order, relative to its norm."""

    value: np.ndarray
    error: float


def points(theta: np.ndarray, directions: np.ndarray, step: float) -> np.ndarray:
    """(..., directions, offsets, N): theta (..., N) moved along directions (k, N)."""
    return theta[..., None, None, :] + step * OFFSETS[:, None] * directions[:, None, :]


def first(values: np.ndarray, step: float, axis: int) -> Estimate:
    """d/dt of values at the offsets, which lie along `axis`."""
    values = np.moveaxis(values, axis, 0)
    return _estimate(lambda order: _odd(values, FIRST[order]) / step)


def second(values: np.ndarray, step: float, axis: int) -> Estimate:
    """d2/dt2 of values at the offsets, which lie along `axis`."""
    values = np.moveaxis(values, axis, 0)
    return _estimate(lambda order: _even(values, SECOND[order]) / step**2)


def _odd(values, weights):
    middle = len(OFFSETS) // 2
    return sum(weight * (values[middle + i] - values[middle - i]) for i, weight in enumerate(weights, start=1))


def _even(values, weights):
    middle = len(OFFSETS) // 2
    pairs = sum(w * (values[middle + i] + values[middle - i]) for i, w in enumerate(weights[1:], start=1))
    return weights[0] * values[middle] + pairs


def _estimate(derivative: Callable) -> Estimate:
    value, lower = derivative(8), derivative(6)
    return Estimate(value, float(np.linalg.norm(value - lower) / np.linalg.norm(value)))
