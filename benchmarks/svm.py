"""Support vector machines beside scikit-learn (LIBSVM, LIBLINEAR), in one process, and their objectives.

Times are of second calls (first calls compile). Objectives of both are computed here, in NumPy, from what the fits
return. Peers that are not installed are left out.
"""

import resource
import subprocess
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.worker import missing

Rows = list[list[str]]


def timed(function, repeats: int = 1):
    """(least seconds of some calls after a first one, the last answer)."""
    import jax

    answer = jax.block_until_ready(function())
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        answer = jax.block_until_ready(function())
        best = min(best, time.perf_counter() - start)
    return best, answer


def once(function):
    """(seconds of one call, its answer): for peers, which do not compile."""
    start = time.perf_counter()
    answer = function()
    return time.perf_counter() - start, answer


def peak_memory() -> float:
    """GiB of this process. What the kernel of Linux says does not include the parent before the fork."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def linear_objective(X, y, C, w, b) -> float:
    """1/2 |w|^2 + C sum of the hinge losses."""
    return w @ w / 2 + C * np.maximum(0, 1 - y * (X @ w + b)).sum()


def dual_objective(scores, y, beta) -> float:
    """1/2 beta'K beta - y'beta for scores K beta."""
    return beta @ scores / 2 - y @ beta


def classification(m: int, p: int, **how):
    """The data of `make_classification`, standardised, with labels -1 and 1."""
    from sklearn.datasets import make_classification

    X, y = make_classification(m, p, random_state=0, **how)
    return (X - X.mean(0)) / X.std(0), 2.0 * y - 1


def kernel_data(m: int):
    return classification(m, 20, n_informative=10, class_sep=0.7)


# ----------------------------------------------------------------------------- optima


def read(path: Path) -> tuple:
    """(X, y, linear optimum, RBF dual optimum or None) of a file."""
    with np.load(path) as data:
        X = data["X"] if "X" in data else np.zeros(data["X_shape"])
        if "X" not in data:
            columns = np.repeat(np.arange(X.shape[1]), np.diff(data["X_indptr"]))
            X[data["X_indices"], columns] = data["X_data"]
        dual = float(data["rbf_dual_f"]) if "rbf_dual_f" in data else None
        return X.astype(float), data["y"].astype(float), float(data["f_opt"]), dual


def optima(folder: Path | None, max_rows: int) -> Rows:
    """Relative distances from reference optima, from those of LIBSVM (tolerance 1e-10 with the RBF kernel) where there
    are none, and how many predictions differ from LIBSVM's."""
    import jax

    from convexjax import learn

    rows = [["set", "size", "linear", "s", "RBF dual", "s", "other predictions", "LIBSVM s (linear, RBF)"]]
    problems = {path.stem: read(path) for path in sorted(folder.glob("*.npz"))} if folder else {}
    peers = not missing(("sklearn",))
    if peers:
        from sklearn.datasets import load_breast_cancer, load_digits
        from sklearn.svm import SVC

        X, y = load_breast_cancer(return_X_y=True)
        problems["breast cancer"] = (X - X.mean(0)) / X.std(0), 2.0 * y - 1, None, None
        X, y = load_digits(return_X_y=True)
        problems["digits, even or odd"] = X / 16, 2.0 * (y % 2) - 1, None, None
    with jax.enable_x64(True):
        for name, (X, y, optimum, dual_optimum) in problems.items():
            if len(y) > max_rows:
                continue
            width = 1 / X.shape[1]
            seconds, model = timed(lambda X=X, y=y: learn.svm.fit(X, y, C=1.0))
            value = linear_objective(X, y, 1.0, np.asarray(model.coef), float(model.intercept))
            kernel_seconds = dual = np.nan
            other, theirs = "", ""
            if len(y) <= 5000:
                fit = lambda X=X, y=y, w=width: learn.svm.fit(X, y, C=1.0, kernel=learn.kernels.RBF(w), tolerance=1e-8)
                kernel_seconds, machine = timed(fit)
                scores = np.asarray(learn.svm.decision_function(machine, X))
                dual = dual_objective(scores - float(machine.intercept), y, np.asarray(machine.beta))
                if peers:
                    t_linear, linear = once(lambda X=X, y=y: SVC(kernel="linear", C=1.0, tol=1e-6).fit(X, y))
                    t_rbf, rbf = once(lambda X=X, y=y, w=width: SVC(C=1.0, gamma=w, tol=1e-10).fit(X, y))
                    own = np.asarray(learn.svm.decision_function(model, X))
                    differ = np.sum((own > 0) != (linear.predict(X) > 0)) + np.sum((scores > 0) != (rbf.predict(X) > 0))
                    other, theirs = str(differ), f"{t_linear:.3f}, {t_rbf:.3f}"
                    beta = np.zeros(len(y))
                    beta[rbf.support_] = rbf.dual_coef_[0]
                    f = rbf.decision_function(X) - rbf.intercept_
                    dual_optimum = dual_optimum or dual_objective(f, y, beta)
                    optimum = optimum or linear_objective(X, y, 1.0, linear.coef_[0], linear.intercept_[0])
            far = lambda value, best: f"{value / best - 1:+.0e}" if best and np.isfinite(value) else ""
            rows.append([name, "x".join(map(str, X.shape)), far(value, optimum), f"{seconds:.3f}"])
            rows[-1] += [far(dual, dual_optimum), f"{kernel_seconds:.3f}", other, theirs]
    return rows


# ----------------------------------------------------------------------------- linear


def linear(sizes: tuple = (10_000, 200_000), repeats: int = 2) -> Rows:
    """Seconds and objective of linear machines with 100 columns, C = 1."""
    import jax
    import jax.numpy as jnp

    from convexjax import learn

    rows = [["rows", "solver", "seconds", "objective", "above the best"]]
    with jax.enable_x64(True):
        for m in sizes:
            X, y = classification(m, 100, n_informative=30)
            data, found = jnp.asarray(X), {}
            for tolerance in (1e-6, 1e-8):
                fit = lambda t=tolerance, y=y, data=data: learn.svm.fit(data, y, C=1.0, tolerance=t)
                seconds, model = timed(fit, repeats)
                value = linear_objective(X, y, 1.0, np.asarray(model.coef), float(model.intercept))
                found[f"convexjax {tolerance:g}"] = seconds, value
            if not missing(("sklearn",)):
                from sklearn.svm import LinearSVC

                warnings.simplefilter("ignore")
                peer = LinearSVC(C=1.0, loss="hinge", max_iter=100 if m > 50_000 else 1000)
                seconds, peer = once(lambda peer=peer, X=X, y=y: peer.fit(X, y))
                value = linear_objective(X, y, 1.0, peer.coef_[0], peer.intercept_[0])
                found[f"LIBLINEAR, {peer.max_iter} rounds"] = seconds, value
            best = min(value for _, value in found.values())
            rows += [[str(m), name, f"{t:.3f}", f"{v:.4f}", f"{v / best - 1:.0e}"] for name, (t, v) in found.items()]
    return rows


# ----------------------------------------------------------------------------- kernels


def one_kernel_machine(m: int, solver: str, tolerance: float, repeats: int = 1) -> str:
    """A line of the table of kernels: for a process of its own, whose memory is that of the fit."""
    X, y = kernel_data(m)
    if solver == "convexjax":
        import jax
        import jax.numpy as jnp

        from convexjax import learn

        with jax.enable_x64(True):
            data = jnp.asarray(X)
            kernel = learn.kernels.RBF(1 / 20)
            seconds, model = timed(lambda: learn.svm.fit(data, y, C=1.0, kernel=kernel, tolerance=tolerance), repeats)
            memory = peak_memory()
            f = np.asarray(learn.svm.decision_function(model, data)) - float(model.intercept)
            beta = np.asarray(model.beta)
    else:
        from sklearn.svm import SVC

        calls = [once(lambda: SVC(C=1.0, gamma=1 / 20, tol=tolerance).fit(X, y)) for _ in range(repeats)]
        seconds, peer = min(seconds for seconds, _ in calls), calls[-1][1]
        memory = peak_memory()
        beta = np.zeros(m)
        beta[peer.support_] = peer.dual_coef_[0]
        f = peer.decision_function(X) - peer.intercept_
    return f"{seconds:.3f} {memory:.2f} {dual_objective(f, y, beta):.12g}"


def kernel(sizes: tuple = (5_000, 20_000), solvers: tuple = (), repeats: int = 1) -> Rows:
    """Seconds, memory of the process, and how far the dual objective is from the best that was found."""
    solvers = solvers or (("convexjax", 1e-4), ("convexjax", 1e-6), ("LIBSVM", 1e-3), ("LIBSVM", 1e-5))
    rows = [["rows", "solver", "tolerance", "seconds", "GiB", "dual objective", "above the best"]]
    for m in sizes:
        found = []
        for solver, tolerance in solvers:
            if solver != "convexjax" and missing(("sklearn",)):
                continue
            code = f"from benchmarks import svm; print(svm.one_kernel_machine({m}, {solver!r}, {tolerance}, {repeats}))"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            found.append([str(m), solver, f"{tolerance:g}", *done.stdout.split()])
        best = min(float(row[-1]) for row in found)
        rows += [[*row, f"{float(row[-1]) / best - 1:+.0e}"] for row in found]
    return rows


# ----------------------------------------------------------------------------- grids


def grid(m: int = 1000, count: int = 10, folds: int = 5, repeats: int = 1) -> Rows:
    """Seconds of a grid of strengths and widths with folds, and the scores."""
    import jax
    import jax.numpy as jnp

    from convexjax import learn

    X, y = kernel_data(m)
    strengths, widths = np.geomspace(0.1, 100, count), np.geomspace(1e-3, 1, count)
    own = np.asarray(learn.validation.k_fold(m, folds))
    rows = [["solver", "seconds", "best mean score", "furthest from the exact one"]]
    with jax.enable_x64(True):
        data, found = (jnp.asarray(X), jnp.asarray(y)), {}
        for tolerance in (1e-3, 1e-4):
            scores = partial(learn.svm.grid_scores, *data, strengths, widths, own, tolerance=tolerance)
            seconds, mean = timed(scores, repeats)
            found[tolerance] = mean = np.asarray(mean)
            rows.append([f"convexjax, gap {tolerance:g}", f"{seconds:.2f}", f"{mean.max():.4f}"])
        jitted = jax.jit(lambda X, y: learn.svm.grid_scores(X, y, strengths, widths, own))
        seconds, mean = timed(lambda: jitted(*data), repeats)
        rows.append(["convexjax under jit, gap 0.001", f"{seconds:.2f}", f"{mean.max():.4f}"])
    if not missing(("sklearn",)):
        from sklearn.model_selection import GridSearchCV
        from sklearn.svm import SVC

        splits = [(np.flatnonzero(own != k), np.flatnonzero(own == k)) for k in range(folds)]
        search = GridSearchCV(SVC(), {"C": strengths, "gamma": widths}, cv=splits, n_jobs=2, refit=False)
        seconds, search = min((once(lambda: search.fit(X, y)) for _ in range(repeats + 1)), key=lambda pair: pair[0])
        theirs = search.cv_results_["mean_test_score"].reshape(count, count)
        rows.append(["GridSearchCV", f"{seconds:.2f}", f"{theirs.max():.4f}"])
        # the same with exact machines
        search = GridSearchCV(SVC(tol=1e-6), {"C": strengths, "gamma": widths}, cv=splits, n_jobs=2, refit=False)
        exact = search.fit(X, y).cv_results_["mean_test_score"].reshape(count, count)
        answers = [*found.values(), mean, theirs]
        for row, answer in zip(rows[1:], answers, strict=True):
            row += [f"{np.abs(np.asarray(answer) - exact).max():.4f}"]
    return [row + [""] * (4 - len(row)) for row in rows]


# ----------------------------------------------------------------------------- gradients


def relevance(steps: int = 30) -> Rows:
    """Twenty RBF widths learnt by the gradient of a validation loss, beside the best common width of a grid: the error
    on test data that neither has seen. 5 of 20 columns of the data carry the classes."""
    import jax
    import jax.numpy as jnp
    import optax

    from convexjax import learn

    rng = np.random.default_rng(0)
    X = rng.normal(size=(2400, 20))
    y = np.where(X[:, 0] * X[:, 1] + np.sin(2 * X[:, 2]) + X[:, 3] - X[:, 4] ** 2 + 0.7 > 0, 1.0, -1.0)
    parts = slice(0, 200), slice(200, 400), slice(400, None)
    (Xt, yt), (Xv, yv), (Xe, ye) = ((X[part], y[part]) for part in parts)

    with jax.enable_x64(True):

        def machine(log_C, log_scale):
            kernel = learn.kernels.RBF(jnp.exp(log_scale))
            return learn.svm.fit(Xt, yt, C=jnp.exp(log_C), kernel=kernel, tolerance=1e-6)

        def loss(parameters):
            scores = learn.svm.decision_function(machine(*parameters), jnp.asarray(Xv))
            return jnp.mean(jax.nn.softplus(-2 * jnp.asarray(yv) * scores))

        def wrong(parameters, X, y):
            scores = learn.svm.decision_function(machine(*parameters), jnp.asarray(X))
            return jnp.mean(jnp.where(jnp.asarray(y) * scores > 0, 0.0, 1.0))

        points = [(c, s) for c in np.log(np.geomspace(0.1, 100, 7)) for s in np.log(np.geomspace(1e-3, 1, 10))]
        of_point = jax.jit(lambda c, s: (wrong((c, s), Xv, yv), wrong((c, s), Xe, ye), loss((c, s))))
        table = np.array([[float(v) for v in of_point(*point)] for point in points])
        best = int(np.argmin(table[:, 0]))
        start = (
            jnp.asarray(points[int(np.argmin(table[:, 2]))][0]),
            jnp.full(20, points[int(np.argmin(table[:, 2]))][1]),
        )
        begin = time.perf_counter()
        tuned, losses = jax.jit(
            lambda start: learn.validation.tune(loss, start, optimizer=optax.adam(0.2), steps=steps)
        )(start)
        seconds = time.perf_counter() - begin
        learnt = float(jax.jit(lambda p: wrong(p, Xe, ye))(tuned))
        least = float(jnp.min(losses))
    return [
        ["widths", "validation loss", "test error", "seconds"],
        ["best of a grid of 7 x 10", f"{table[best, 2]:.3f}", f"{table[best, 1]:.4f}", ""],
        [f"20 learnt in {steps} steps", f"{least:.3f}", f"{learnt:.4f}", f"{seconds:.1f}"],
    ]


# ----------------------------------------------------------------------------- a network


def head(steps: int = 60, width: int = 8) -> Rows:
    """A machine as the last layer of a network: features tanh(W x + c) learnt by the gradient of a validation loss
    through the solution of the machine. The classes are the inside and the outside of a disc."""
    import jax
    import jax.numpy as jnp
    import optax

    from convexjax import learn

    rng = np.random.default_rng(0)
    X = rng.normal(size=(2400, 2))
    y = np.where((X**2).sum(1) < 1.4, 1.0, -1.0)
    train, other, rest = slice(0, 200), slice(200, 400), slice(400, None)

    with jax.enable_x64(True):
        features = lambda weights, X: jnp.tanh(X @ weights["W"] + weights["c"])
        machine = lambda weights: learn.svm.fit(features(weights, X[train]), y[train], C=1.0)
        scores = lambda weights, part: learn.svm.decision_function(machine(weights), features(weights, X[part]))

        def loss(weights):
            return jnp.mean(jax.nn.softplus(-2 * jnp.asarray(y[other]) * scores(weights, other)))

        wrong = lambda scores: f"{np.mean(np.asarray(scores) * y[rest] <= 0):.4f}"
        start = {"W": jnp.asarray(rng.normal(size=(2, width))), "c": jnp.asarray(0.1 * rng.normal(size=width))}
        tune = jax.jit(lambda start: learn.validation.tune(loss, start, optimizer=optax.adam(0.1), steps=steps))
        seconds, (learnt, _) = timed(lambda: tune(start), 1)
        plain = learn.svm.fit(X[train], y[train], C=1.0)
        return [
            ["features", "test error", "seconds"],
            ["the two columns", wrong(learn.svm.decision_function(plain, X[rest])), ""],
            [f"{width} random ones", wrong(scores(start, rest)), ""],
            [f"{width} learnt in {steps} steps", wrong(scores(learnt, rest)), f"{seconds:.2f}"],
        ]


# ----------------------------------------------------------------------------- scaling


def scaling(plot: str | None = None, largest: int = 20_000) -> Rows:
    """Seconds by number of rows, linear and with a kernel; with a file a picture."""
    sizes = [m for m in (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000) if m <= largest]
    rows = kernel(tuple(sizes), (("convexjax", 1e-4), ("LIBSVM", 1e-3)))
    of_linear = linear(tuple(sizes), 1)
    if plot:
        from matplotlib import pyplot as plt

        figure, axes = plt.subplots(1, 3, figsize=(13, 4))
        for axis, table, column, title in (
            (axes[0], rows, 3, "RBF kernel: seconds"),
            (axes[1], rows, 4, "RBF kernel: GiB of the process"),
            (axes[2], of_linear, 2, "linear: seconds"),
        ):
            for name in dict.fromkeys(row[1] for row in table[1:]):
                own = [row for row in table[1:] if row[1] == name]
                axis.loglog([int(row[0]) for row in own], [float(row[column]) for row in own], "o-", label=name)
            axis.set(xlabel="rows", title=title)
            axis.legend()
        figure.tight_layout()
        figure.savefig(plot, dpi=150)
        plt.close(figure)
    return [*rows, *([*row, "", ""] for row in of_linear)]
