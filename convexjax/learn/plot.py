"""Pictures of what the fits return, for matplotlib (the extra `plot`)."""

from typing import Any

import numpy as np
from jaxtyping import ArrayLike

from convexjax.learn.validation import CrossValidation


def regularisation_path(penalties: ArrayLike, path: Any, axes=None):
    """Coefficients of a path against the penalty. Returns the axes."""
    axes = _axes(axes)
    axes.plot(np.asarray(penalties), np.asarray(path.coefficients).reshape(len(np.asarray(penalties)), -1))
    axes.set(xscale="log", xlabel="penalty", ylabel="coefficients")
    return axes


def validation_curve(values: ArrayLike, found: CrossValidation, axes=None):
    """Mean loss of the rows left out against a hyperparameter, with the spread of the folds. Returns the axes."""
    axes = _axes(axes)
    values, mean, deviation = (np.asarray(v) for v in (values, found.mean, found.deviation))
    axes.plot(values, mean)
    axes.fill_between(values, mean - deviation, mean + deviation, alpha=0.2)
    axes.axvline(values[int(found.best)], linestyle=":")
    axes.set(xscale="log", xlabel="hyperparameter", ylabel="loss of the rows left out")
    return axes


def trade_off(first: ArrayLike, second: ArrayLike, labels: tuple[str, str] = ("first", "second"), axes=None):
    """One objective against the other. Returns the axes."""
    axes = _axes(axes)
    axes.plot(np.asarray(first), np.asarray(second), marker="o")
    axes.set(xlabel=labels[0], ylabel=labels[1])
    return axes


def _axes(axes):
    if axes is not None:
        return axes
    import matplotlib.pyplot as plt

    return plt.subplots()[1]
