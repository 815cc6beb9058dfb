"""Pictures of a run: time against certified accuracy, or time by size."""

from statistics import median

from benchmarks.runner import Row

# Okabe and Ito's colours, told apart with every kind of colour vision; the markers tell them apart without colour.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


def plot(rows: list[Row], path: str, tolerance: float, title: str) -> None:
    """Time against accuracy on the left, median time of each group on the right; hollow marks are not certified."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (scatter, bars) = plt.subplots(1, 2, figsize=(12, 4.8), layout="constrained")
    solvers = list(dict.fromkeys(row.solver for row in rows))
    _accuracy(scatter, rows, solvers, tolerance)
    _times(bars, rows, solvers)
    figure.suptitle(title)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _accuracy(axes, rows: list[Row], solvers: list[str], tolerance: float) -> None:
    for solver, colour, marker in zip(solvers, COLOURS, MARKERS, strict=False):
        own = [row for row in rows if row.solver == solver]
        for certified in (True, False):
            points = [(row.seconds, min(max(row.worst, 1e-17), 1.0)) for row in own if row.certified is certified]
            if points:
                face = colour if certified else "none"
                label = solver if certified else f"{solver}, not certified"
                axes.scatter(*zip(*points, strict=True), marker=marker, edgecolors=colour, facecolors=face, label=label)
    axes.axhline(tolerance, color="grey", linewidth=1, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel="seconds", ylabel="worst relative residual (1: no proof)")
    axes.legend(fontsize="small")


def _times(axes, rows: list[Row], solvers: list[str]) -> None:
    groups = list(dict.fromkeys(row.group for row in rows))
    width = 0.8 / len(solvers)
    for position, (solver, colour) in enumerate(zip(solvers, COLOURS, strict=False)):
        for place, group in enumerate(groups):
            own = [row for row in rows if row.solver == solver and row.group == group]
            if not own:
                continue
            certified = all(row.certified for row in own)
            height = median(row.seconds for row in own)
            label = solver if place == 0 else None
            face = colour if certified else "none"
            hatch = "" if certified else "//"
            where = place + (position - (len(solvers) - 1) / 2) * width
            axes.bar(where, height, width, color=face, edgecolor=colour, hatch=hatch, label=label)
    axes.set_xticks(range(len(groups)), groups, fontsize="small")
    axes.set(yscale="log", ylabel="median seconds (hatched: not all certified)")
    axes.legend(fontsize="small")


def plot_sizes(rows: list[Row], sizes: dict[str, int], path: str, label: str, title: str) -> None:
    """Time against size, one line per solver; hollow marks are not certified. `sizes` by the problem's name."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.5, 4.8), layout="constrained")
    for solver, colour, marker in zip(dict.fromkeys(row.solver for row in rows), COLOURS, MARKERS, strict=False):
        own = sorted((sizes[row.problem], row.seconds, row.certified) for row in rows if row.solver == solver)
        known = [(size, seconds) for size, seconds, certified in own if certified]
        if known:
            axes.plot(*zip(*known, strict=True), color=colour, marker=marker, label=solver)
        missed = [(size, seconds) for size, seconds, certified in own if not certified]
        if missed:
            text = f"{solver}, not certified"
            axes.scatter(*zip(*missed, strict=True), marker=marker, edgecolors=colour, facecolors="none", label=text)
    axes.set(xscale="log", yscale="log", xlabel=label, ylabel="seconds", title=title)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)
    plt.close(figure)
