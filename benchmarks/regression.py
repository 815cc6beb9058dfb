"""Least squares, lasso paths and cross-validation beside NumPy, SciPy, scikit-learn and celer, in one process.

Every time is the least of some repeats, taken in turns; first calls (compilation) are not counted. Peers that are not
installed are left out.
"""

import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.worker import missing

Rows = list[list[str]]


def least_of(functions: dict[str, Callable], repeats: int) -> dict[str, tuple[float, object]]:
    """For each function the least seconds of the repeats, in turns, and its last answer."""
    import jax

    best: dict[str, tuple[float, object]] = {}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            answer = jax.block_until_ready(function())
            seconds = time.perf_counter() - start
            if turn:
                best[name] = (min(seconds, best.get(name, (np.inf,))[0]), answer)
    return best


# ----------------------------------------------------------------------------- digits


def digits(folder: Path) -> Rows:
    """Correct digits of the worst coefficient on the NIST problems in a folder, from the raw data."""
    import jax
    import scipy.linalg

    import convexjax as cj

    fits = {
        "convexjax": lambda X, y: np.asarray(cj.lstsq(X, y).x),
        "numpy": lambda X, y: np.linalg.lstsq(X, y)[0],
        "scipy": lambda X, y: scipy.linalg.lstsq(X, y)[0],
    }
    if not missing(("sklearn",)):
        from sklearn.linear_model import LinearRegression

        fits["scikit-learn"] = lambda X, y: LinearRegression(fit_intercept=False).fit(X, y).coef_
    rows = [["problem", *fits]]
    with jax.enable_x64(True):
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as data:
                X, y, beta = data["X"], data["y"], data["beta"]
            errors = [np.max(np.abs(fit(X, y) - beta) / np.abs(beta)) for fit in fits.values()]
            rows.append([path.stem, *(f"{min(15.0, -np.log10(error + 1e-300)):.1f}" for error in errors)])
    return rows


# ----------------------------------------------------------------------------- speed of least squares

SIZES = ((1_000_000, 100), (20_000, 2_000))
TIMED = ("lstsq", "A'A, Cholesky (numpy)", "A'A, Cholesky (jax)", "scipy.linalg.lstsq")


def least_squares(sizes: tuple = SIZES, repeats: int = 3) -> Rows:
    """Seconds of tall problems; the yardstick is one A'A and a Cholesky factorisation, in NumPy and in JAX."""
    import jax

    rows = [["size", *TIMED, "largest difference"]]
    with jax.enable_x64(True):
        return rows + [_times_of_size(m, n, repeats) for m, n in sizes]


def _times_of_size(m: int, n: int, repeats: int) -> list[str]:
    import jax
    import jax.numpy as jnp
    import scipy.linalg

    import convexjax as cj

    rng = np.random.default_rng(0)
    A = rng.normal(size=(m, n))
    b = A @ rng.normal(size=n) + rng.normal(size=m)
    A_jax, b_jax = jnp.asarray(A), jnp.asarray(b)
    plain = jax.jit(lambda A: jnp.linalg.cholesky(A.T @ A))
    calls = (
        lambda: cj.lstsq(A_jax, b_jax).x,
        lambda: np.linalg.cholesky(A.T @ A),
        lambda: plain(A_jax),
    )
    best = least_of(dict(zip(TIMED, calls, strict=False)), repeats)
    start = time.perf_counter()
    exact = scipy.linalg.lstsq(A, b, check_finite=False)[0]
    best[TIMED[3]] = (time.perf_counter() - start, exact)
    difference = np.max(np.abs(np.asarray(best[TIMED[0]][1]) - exact)) / np.max(np.abs(exact))
    return [f"{m} x {n}", *(f"{best[name][0]:.3f}" for name in TIMED), f"{difference:.0e}"]


# ----------------------------------------------------------------------------- lasso paths


def lasso_gap(X: np.ndarray, y: np.ndarray, penalties: np.ndarray, B: np.ndarray) -> float:
    """The largest duality gap of a path, relative to |y|^2 / 2."""
    gaps = []
    for penalty, beta in zip(penalties, B, strict=True):
        r = y - X @ beta
        theta = r * min(1.0, penalty * len(y) / np.max(np.abs(X.T @ r)))
        gaps.append(r @ r / 2 + penalty * len(y) * np.abs(beta).sum() - (y @ theta - theta @ theta / 2))
    return max(gaps) / (y @ y / 2)


def lasso(size: tuple[int, int] = (10_000, 1_000), tolerance: float = 1e-6, repeats: int = 3) -> Rows:
    """Seconds and proved gap of a path of 100 penalties. A peer's tolerance is lowered until its gap is reached."""
    import jax
    import jax.numpy as jnp

    from convexjax import learn

    n, d = size
    rng = np.random.default_rng(0)
    X, beta = rng.normal(size=size), np.zeros(d)
    beta[: d // 10] = rng.normal(size=d // 10)
    y = X @ beta + 3 * rng.normal(size=n)
    X, y = X - X.mean(0), y - y.mean()
    with jax.enable_x64(True):
        X_jax, y_jax = jnp.asarray(X), jnp.asarray(y)
        penalties = np.asarray(learn.elastic_net.penalties(X, y, 100))

        def own():
            return learn.elastic_net.path(X_jax, y_jax, penalties, tolerance=tolerance, intercept=False).coefficients

        functions: dict[str, Callable] = {"convexjax": own}
        gap = partial(lasso_gap, X, y, penalties)
        warnings.simplefilter("ignore")
        if not missing(("sklearn",)):
            from sklearn.linear_model import lasso_path

            call = lambda tol: lasso_path(X, y, alphas=penalties, tol=tol, max_iter=100_000)[1].T
            functions["scikit-learn"] = _tight_enough(call, gap, tolerance)
        if not missing(("celer",)):
            from celer import celer_path

            columns = np.asfortranarray(X)
            call = lambda tol: celer_path(columns, y, "lasso", alphas=penalties, tol=tol)[1].T
            functions["celer"] = _tight_enough(call, gap, tolerance)
        best = least_of(functions, repeats)
        rows = [["solver", "seconds", "largest gap"]]
        return rows + [[name, f"{t:.3f}", f"{gap(np.asarray(B)):.1e}"] for name, (t, B) in best.items()]


def _tight_enough(call: Callable, gap: Callable, tolerance: float) -> Callable:
    tol = tolerance
    while gap(call(tol)) > tolerance and tol > 1e-14:
        tol /= 2
    return partial(call, tol)


# ----------------------------------------------------------------------------- cross-validation


def cross_validation(repeats: int = 3) -> Rows:
    """Seconds of ten folds and 50 penalties, and how far the mean losses differ from scikit-learn's."""
    import jax
    import jax.numpy as jnp

    from convexjax import learn

    v, rows = learn.validation, [["problem", "convexjax", "scikit-learn", "largest difference"]]
    if missing(("sklearn",)):
        return rows
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegressionCV, Ridge
    from sklearn.model_selection import GridSearchCV, KFold

    warnings.simplefilter("ignore")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(5000, 100))
    y = X @ rng.normal(size=100) + 10 * rng.normal(size=5000)
    penalties = np.geomspace(1e-2, 1e5, 50)
    loss = partial(v.squared_error, learn.ridge.predict)
    with jax.enable_x64(True):
        folds = v.k_fold(len(y), 10)
        ours = jax.jit(
            lambda X, y: v.cross_validate(learn.ridge.path, X, y, penalties, folds, loss=loss, path=True).mean
        )
        search = GridSearchCV(
            Ridge(), {"alpha": penalties}, cv=KFold(10), scoring="neg_mean_squared_error", refit=False
        )
        theirs = lambda: -search.fit(X, y).cv_results_["mean_test_score"]
        rows.append(_pair("ridge, 5000 x 100", partial(ours, X, y), theirs, repeats))

        data, label = load_breast_cancer(return_X_y=True)
        data = (data - data.mean(0)) / data.std(0)
        penalties_of_classes = np.geomspace(1e3, 1e-2, 50)
        own = np.asarray(v.stratified_k_fold(label, 10))
        splits = [(np.flatnonzero(own != k), np.flatnonzero(own == k)) for k in range(10)]
        grid, score = jnp.asarray(penalties_of_classes), learn.logistic.log_loss
        logistic = jax.jit(
            lambda X, y: v.cross_validate(learn.logistic.path, X, y, grid, own, loss=score, path=True).mean
        )
        for tol in (1e-4, 1e-8):
            how = {"cv": splits, "scoring": "neg_log_loss", "tol": tol, "max_iter": 100_000, "refit": False}
            peer = LogisticRegressionCV(Cs=1 / penalties_of_classes, **how)
            theirs = lambda peer=peer: -np.asarray(peer.fit(data, label).scores_[1]).mean(0)
            name = f"logistic, 569 x 30 (scikit-learn tol {tol:g})"
            rows.append(_pair(name, partial(logistic, data, label.astype(float)), theirs, repeats))
    return rows


def _pair(name: str, ours: Callable, theirs: Callable, repeats: int) -> list[str]:
    best = least_of({"ours": ours, "theirs": theirs}, repeats)
    (t, a), (s, b) = best["ours"], best["theirs"]
    return [name, f"{t:.3f}", f"{s:.3f}", f"{np.max(np.abs(np.asarray(a) / np.asarray(b) - 1)):.0e}"]
