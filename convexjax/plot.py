"""Pictures, for matplotlib (the extra `plot`): convergence, regularisation paths, validation curves, trade-offs,
decision regions, central paths.

Each function draws on `axes`, or on new ones if that is None, and returns them. The colours are those of `COLOURS`,
which people who do not tell red from green tell apart, too; the settings of matplotlib are left as they are.

Source: Okabe and Ito, "Color universal design", 2008.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import ArrayLike

from convexjax.learn import logistic, svm
from convexjax.learn.validation import CrossValidation
from convexjax.solution import Solution

# blue, vermilion, green, orange, sky blue, purple, black, yellow
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000", "#F0E442")
LINES, MARKERS = ("-", "--", "-.", ":"), "osD^vP*X"
# Of the picture of decision regions, along each axis.
RESOLUTION = 200
MOST_CLASSES = 20
# Values of mu at which a central path given as a function is drawn.
PATH = np.geomspace(1e3, 1e-6, 91)


def convergence(solution: Solution, axes=None) -> Any:
    """Primal residual, dual residual and gap of each iteration of one solve.

    Arguments:
        solution: solved with `Options(history=n)`, n the number of iterations to record. Of a batch, one lane:
            `jax.tree.map(lambda v: v[i], solution)`.
        axes: to draw on; None for new ones.

    Raises:
        ValueError: a solution without history, or with many lanes.

    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import convexjax as cj
    >>> solution = cj.solve_lp([1.0, 2.0], lb=[0.0, 1.0], options=cj.Options(history=20))
    >>> axes = cj.plot.convergence(solution)
    >>> [line.get_label() for line in axes.lines]
    ['primal residual', 'dual residual', 'gap']
    """
    history = solution.info.history
    if history is None:
        raise ValueError("solution has no history; solve with options=Options(history=50) to record 50 iterations.")
    if np.ndim(history.gap) != 1:
        raise ValueError(
            f"solution must be one solve, got {np.ndim(history.gap) - 1} batch dimensions; "
            "take lane i with jax.tree.map(lambda v: v[i], solution)."
        )
    axes = _axes(axes)
    for name, colour, marker in zip(("primal_residual", "dual_residual", "gap"), COLOURS, MARKERS, strict=False):
        values = np.asarray(getattr(history, name))
        steps = np.flatnonzero(~np.isnan(values))
        axes.plot(steps, values[steps], color=colour, marker=marker, markersize=4, label=name.replace("_", " "))
    axes.set_yscale("log", nonpositive="clip")
    axes.set(xlabel="iteration", ylabel="relative residual")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend()
    return axes


def regularisation_path(penalties: ArrayLike, path: Any, names: Sequence[str] | None = None, axes=None) -> Any:
    """Coefficients against the penalty.

    Arguments:
        penalties: (k,), positive.
        path: a model with `coefficients` (k, d) or (k, d, q), such as `learn.elastic_net.path` returns.
        names: d, of the columns, for a legend.
        axes: to draw on; None for new ones.

    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from types import SimpleNamespace
    >>> from convexjax import plot
    >>> path = SimpleNamespace(coefficients=[[0.9, 0.5], [0.5, 0.1], [0.0, 0.0]])
    >>> axes = plot.regularisation_path([0.1, 0.5, 1.0], path, names=["age", "weight"])
    >>> [line.get_label() for line in axes.lines[:2]]
    ['age', 'weight']
    """
    penalties = np.asarray(penalties)
    coefficients = np.asarray(path.coefficients).reshape(len(penalties), -1)
    axes = _axes(axes)
    for i, values in enumerate(coefficients.T):
        label = None if names is None else names[i * len(names) // coefficients.shape[1]]
        axes.plot(penalties, values, color=_colour(i), linestyle=LINES[i // len(COLOURS) % len(LINES)], label=label)
    axes.axhline(0, color="0.5", linewidth=0.8, zorder=0)
    axes.set(xscale="log", xlabel="penalty", ylabel="coefficients")
    if names is not None:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return axes


def validation_curve(values: ArrayLike, found: CrossValidation, axes=None) -> Any:
    """Mean loss of the rows left out against a hyperparameter, with the standard deviation of the folds and a line at
    the best.

    Arguments:
        values: (k,), positive, of the hyperparameter.
        found: of `learn.validation.cross_validate`.
        axes: to draw on; None for new ones.

    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from types import SimpleNamespace
    >>> from convexjax import plot
    >>> found = SimpleNamespace(mean=[3.0, 1.0, 2.0], deviation=[0.1, 0.2, 0.1], best=1)
    >>> axes = plot.validation_curve([0.1, 1.0, 10.0], found)
    >>> axes.get_xscale()
    'log'
    """
    axes = _axes(axes)
    values, mean, deviation = (np.asarray(v) for v in (values, found.mean, found.deviation))
    colour = _colour(len(axes.lines))
    axes.plot(values, mean, color=colour)
    axes.fill_between(values, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)
    axes.axvline(values[int(found.best)], color=colour, linestyle=":")
    axes.set(xscale="log", xlabel="hyperparameter", ylabel="loss of the rows left out")
    return axes


def trade_off(
    first: ArrayLike, second: ArrayLike, labels: tuple[str, str] = ("first", "second"), axes=None, **style
) -> Any:
    """One objective against the other, such as `learn.validation.trade_off` or a solve under `vmap` returns.

    Arguments:
        first, second: (k,), the objectives.
        labels: of the two axes.
        axes: to draw on; None for new ones. Another curve takes the next colour.
        style: what `axes.plot` takes, such as label, color, marker.

    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from convexjax import plot
    >>> axes = plot.trade_off([1.0, 2.0, 3.0], [3.0, 1.5, 1.0], ("risk", "loss"), label="frontier")
    >>> axes.get_xlabel(), axes.lines[0].get_label()
    ('risk', 'frontier')
    """
    axes = _axes(axes)
    axes.plot(np.asarray(first), np.asarray(second), **{"color": _colour(len(axes.lines)), "marker": "o"} | style)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    return axes


def decision_regions(model: Any, X: ArrayLike, y: ArrayLike, axes=None) -> Any:
    """The classes that a model gives to the points of a plane, and its samples. Of a support vector machine also the
    line between the classes, the margins (where the score is -1 and 1), and rings around the support vectors.

    Arguments:
        model: of `learn.svm.fit`, `learn.svm.fit_multiclass` or `learn.logistic.fit`, or a function from rows (n, 2) to
            labels (n,).
        X: (m, 2), samples.
        y: (m,), their labels.
        axes: to draw on; None for new ones.

    Raises:
        ValueError: X that has not two columns, a model that returns numbers instead of labels.

    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> import numpy as np
    >>> from convexjax import plot
    >>> X, y = np.array([[0.0, 0.0], [1.0, 1.0]]), np.array([0, 1])
    >>> axes = plot.decision_regions(lambda Z: (Z[:, 0] > 0.5).astype(int), X, y)
    >>> len(axes.collections) > 1
    True
    """
    X, y = np.asarray(X), np.asarray(y)
    if X.ndim != 2 or X.shape[1] != 2:
        raise ValueError(f"X must have the shape (m, 2), got {X.shape}; a picture shows two columns.")
    axes = _axes(axes)
    low, high = X.min(0), X.max(0)
    margin = 0.08 * np.maximum(high - low, 1e-12)
    across, up = (np.linspace(*ends, RESOLUTION) for ends in zip(low - margin, high + margin, strict=True))
    grid = np.stack(np.meshgrid(across, up), -1).reshape(-1, 2).astype(X.dtype)
    on_grid = lambda values: np.asarray(values).reshape(RESOLUTION, RESOLUTION)

    labels = on_grid(_predictor(model)(grid))
    classes = np.union1d(y, labels)
    if len(classes) > MOST_CLASSES:
        raise ValueError(f"model must return labels of at most {MOST_CLASSES} classes, got {len(classes)} values.")
    for i, label in enumerate(classes):
        axes.contourf(across, up, (labels == label).astype(float), levels=(0.5, 2), colors=[_colour(i)], alpha=0.2)
    if isinstance(model, svm.SVMModel):
        scores = on_grid(svm.decision_function(model, grid))
        axes.contour(across, up, scores, levels=(-1, 0, 1), colors="0.2", linestyles=("--", "-", "--"), linewidths=1)
    for i, label in enumerate(classes):
        rows = X[y == label]
        look = {"color": _colour(i), "marker": MARKERS[i % len(MARKERS)], "edgecolors": "white", "s": 22}
        axes.scatter(rows[:, 0], rows[:, 1], label=str(label), **look)
    if isinstance(model, svm.SVMModel) and len(model.support) == len(X):
        rings = X[np.asarray(model.support)]
        axes.scatter(rings[:, 0], rings[:, 1], s=70, facecolors="none", edgecolors="0.2", label="support vectors")
    axes.set(xlim=(across[0], across[-1]), ylim=(up[0], up[-1]))
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return axes


def central_path(
    G: ArrayLike, h: ArrayLike, points: ArrayLike | Callable, q: ArrayLike | None = None, axes=None
) -> Any:
    """The polygon G x <= h, and in it the points of a central path or the iterates of a method.

    Arguments:
        G, h: (m, 2) and (m,), a bounded polygon with an interior, such as of a linear program min q'x.
        points: (k, 2), or a function from mu to (2,), which is drawn for mu from 1e3 to 1e-6.
        q: (2,), drawn as an arrow along -q, in which the objective falls; None for no arrow.
        axes: to draw on; None for new ones. Drawn there again, the polygon lies over itself and the points take the
            next colour.

    Raises:
        ValueError: shapes that do not fit; a polygon that is empty or unbounded.

    >>> import matplotlib
    >>> matplotlib.use("agg")
    >>> from convexjax import plot
    >>> G, h = [[-1.0, 0.0], [0.0, -1.0], [1.0, 1.0]], [0.0, 0.0, 1.0]
    >>> axes = plot.central_path(G, h, points=[[0.33, 0.33], [0.2, 0.6], [0.01, 0.98]], q=[-1.0, -2.0])
    >>> len(axes.lines[0].get_xdata())
    3
    """
    G, h = np.asarray(G, float), np.asarray(h, float)
    if G.ndim != 2 or G.shape[1] != 2 or h.shape != G.shape[:1]:
        raise ValueError(f"G and h must have the shapes (m, 2) and (m,), got {G.shape} and {h.shape}.")
    smooth = callable(points)
    points = np.stack([np.asarray(points(mu)) for mu in PATH]) if callable(points) else np.asarray(points)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"points must have the shape (k, 2), got {points.shape}.")
    corners = _corners(G, h)
    axes = _axes(axes)
    number = len(axes.lines)
    axes.fill(corners[:, 0], corners[:, 1], facecolor="0.93", edgecolor="0.3", zorder=0)
    marker = None if smooth else MARKERS[number % len(MARKERS)]
    axes.plot(points[:, 0], points[:, 1], color=_colour(number), marker=marker, markersize=4)
    if q is not None:
        start = corners.mean(0)
        end = start - 0.25 * np.ptp(corners, 0).min() * np.asarray(q, float) / np.linalg.norm(q)
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "0.3"})
        axes.annotate("$-q$", end, xytext=(3, 3), textcoords="offset points", color="0.3")
    axes.set(xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    return axes


def _axes(axes):
    if axes is not None:
        return axes
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("pictures are drawn by matplotlib: pip install 'convexjax[plot]'.") from error
    return plt.subplots(layout="constrained")[1]


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]


def _predictor(model: Any) -> Callable:
    """The function from rows to labels."""
    if isinstance(model, svm.SVMModel):
        return lambda X: svm.predict(model, X)
    if isinstance(model, svm.MulticlassModel):
        return lambda X: svm.predict_multiclass(model, X)
    if isinstance(model, logistic.LogisticModel):
        return lambda X: logistic.predict(model, X)
    if not callable(model):
        raise TypeError(f"model must be a classifier of convexjax.learn or a function, got {type(model).__name__}.")
    return model


def _corners(G: np.ndarray, h: np.ndarray) -> np.ndarray:
    """The corners of the polygon G x <= h in their order around it."""
    G, h = G[np.any(G != 0, 1)], h[np.any(G != 0, 1)]
    angles = np.sort(np.arctan2(G[:, 1], G[:, 0]))
    # Bounded if no direction has an angle of 90 degrees or more to every normal.
    if len(angles) < 3 or np.diff(angles, append=angles[0] + 2 * np.pi).max() >= np.pi - 1e-9:
        raise ValueError("G x <= h is unbounded; add bounds on x as rows of G, or take away what cannot be drawn.")
    pairs = np.stack(np.triu_indices(len(h), 1), 1)
    regular = np.abs(np.linalg.det(G[pairs])) > 1e-12 * np.prod(np.linalg.norm(G[pairs], axis=2), 1)
    points = np.linalg.solve(G[pairs[regular]], h[pairs[regular]][..., None])[..., 0]
    size = np.abs(G) @ np.abs(points).T + np.abs(h)[:, None]
    points = points[np.all(G @ points.T <= h[:, None] + 1e-9 * size, 0)]
    if not len(points) or np.linalg.matrix_rank(points - points[0]) < 2:
        raise ValueError("G x <= h is empty, or has no interior.")
    around = points - points.mean(0)
    return points[np.argsort(np.arctan2(around[:, 1], around[:, 0]))]
