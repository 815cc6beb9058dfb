"""What regression finds, against references: optima of a set, functions against cones, hypergradients, real data."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import regression_data
from benchmarks.worker import missing

Rows = list[list[str]]

# ----------------------------------------------------------------------------- sets


def sets(folder: Path) -> Rows:
    """Least squares, lasso and Huber optima of the problems in a folder: errors of the values, which NumPy computes
    from the coefficients, relative to the references (or 1e-3, if that is larger); and proofs: the lasso's duality gap,
    and the gradient of Huber's loss relative to its terms."""
    import jax

    import convexjax as cj
    from convexjax import learn

    rows = [["problem", "size", "least squares", "lasso", "gap", "Huber", "gradient"]]
    with jax.enable_x64(True):
        for path in sorted(folder.glob("*.npz")):
            with np.load(path) as data:
                A, b, lam = dense(data), data["b"], float(data["lasso_lam"])
                wanted = [float(data[key]) for key in ("f_opt", "lasso_f", "huber_f")]
            m = len(b)
            x = np.asarray(cj.lstsq(A, b).x)
            lasso = learn.elastic_net.fit(A, b, lam / (2 * m), intercept=False, tolerance=1e-12)
            huber = learn.regression.fit(A, b, learn.regression.Huber(1.0), intercept=False)
            sparse, robust = np.asarray(lasso.coefficients), np.asarray(huber.coefficients)
            r, t = b - A @ sparse, b - A @ robust
            found = [
                np.sum((b - A @ x) ** 2),
                r @ r + lam * np.abs(sparse).sum(),
                np.sum(np.where(np.abs(t) <= 1, t * t, 2 * np.abs(t) - 1)),
            ]
            errors = [(f - w) / max(1e-3, abs(w)) for f, w in zip(found, wanted, strict=True)]
            u = r * min(1.0, lam / np.max(np.abs(2 * A.T @ r)))
            gap = (found[1] - (b @ b - (b - u) @ (b - u))) / found[1]
            slope = np.clip(t, -1, 1)
            gradient = np.max(np.abs(A.T @ slope)) / np.max(np.abs(A).T @ np.minimum(np.abs(b), 1))
            signs = [f"{error:+.0e}" for error in errors]
            row = [path.stem, f"{m} x {A.shape[1]}", signs[0], signs[1], f"{gap:.0e}", signs[2], f"{gradient:.0e}"]
            rows.append(row)
    return rows


def dense(data) -> np.ndarray:
    """The matrix A of a problem file."""
    rows, columns = map(int, data["A_shape"])
    A = np.zeros((rows, columns))
    own = np.repeat(np.arange(columns), np.diff(data["A_indptr"]))
    A[data["A_indices"], own] = data["A_data"]
    return A


# ----------------------------------------------------------------------------- constraints


def constraints(size: tuple[int, int] = (200, 10)) -> Rows:
    """Constrained fits as functions, which `minimize` solves, and as cone programs: relative difference of the optimal
    values, and difference of the coefficients."""
    import jax
    import jax.numpy as jnp

    import convexjax as cj
    from convexjax import learn

    n, d = size
    rng = np.random.default_rng(0)
    X, c = rng.normal(size=size), learn.constraints
    y = X @ rng.normal(size=d) + rng.normal(size=n)
    G, h = rng.normal(size=(40, d)), rng.uniform(0.1, 1, 40)
    centres = rng.normal(size=(10, d)) / 4
    # [1, b'; b, I] positive semidefinite is |b| <= 1
    F = np.zeros((d, d + 1, d + 1))
    for j in range(d):
        F[j, 0, j + 1] = F[j, j + 1, 0] = 1
    ball, semidefinite = c.Norm(np.eye(d), d=1.0), c.Semidefinite(F, np.eye(d + 1))
    balls = c.smooth(lambda beta: jnp.sum((beta - centres) ** 2, 1) - 1)
    huber, squares = learn.regression.Huber(0.5), lambda prediction, y: (y - prediction) ** 2
    as_function = c.smooth(lambda beta: beta @ beta - 1)
    distances = [c.Norm(np.eye(d), -centre, d=1.0) for centre in centres]
    cases = {
        "one constraint": ((None, as_function), (None, ball)),
        "one constraint, Huber": ((huber, as_function), (huber, ball)),
        "40 linear, 10 quadratic": (
            (None, [balls, c.smooth(lambda beta: G @ beta - h)]),
            (None, [*distances, c.AtMost(G, h)]),
        ),
        "second-order cone": ((squares, ball), (None, ball)),
        "semidefinite": ((squares, semidefinite), (None, semidefinite)),
        "semidefinite, as a norm": ((squares, semidefinite), (None, ball)),
    }
    rows = [["case", "value by functions", "by cones", "difference", "of coefficients", "status"]]
    with jax.enable_x64(True):
        for name, both in cases.items():
            fits = [learn.regression.fit(X, y, *how, options=cj.Options(tolerance=1e-9)) for how in both]
            values = [float(fit.objective) for fit in fits]
            difference = abs(values[0] / values[1] - 1)
            apart = np.max(np.abs(np.asarray(fits[0].coefficients) - np.asarray(fits[1].coefficients)))
            names = ", ".join(cj.Status(int(fit.status)).name for fit in fits)
            rows.append([name, *(f"{v:.10g}" for v in values), f"{difference:.0e}", f"{apart:.0e}", names])
    return rows


# ----------------------------------------------------------------------------- hypergradients


def hypergradients() -> Rows:
    """Derivatives of a validation loss in hyperparameters through the fit, against differences of fourth order."""
    import jax
    import jax.numpy as jnp

    import convexjax as cj
    from convexjax import learn

    rng = np.random.default_rng(0)
    n, d = 60, 8
    X, new_X = rng.normal(size=(n, d)), rng.normal(size=(40, d))
    beta = rng.normal(size=d)
    y, new_y = X @ beta + rng.normal(size=n), new_X @ beta + rng.normal(size=40)
    label, new_label = (y > 0).astype(float), (new_y > 0).astype(float)
    c, tight = learn.constraints, cj.Options(tolerance=1e-11, polish=True)
    held_out = lambda model: jnp.mean((new_X @ model.coefficients + model.intercept - new_y) ** 2)

    def constrained(v, *kinds):
        return held_out(learn.regression.fit(X, y, constraints=list(kinds), penalty=v[-1], options=tight))

    cases: dict[str, tuple[Callable, tuple]] = {
        "ridge: penalty": (lambda v: held_out(learn.ridge.fit(X, y, v[0])), (3.0,)),
        "elastic net: penalty, ratio": (
            lambda v: held_out(learn.elastic_net.fit(X, y, v[0], v[1], tolerance=1e-15)),
            (0.3, 0.6),
        ),
        "logistic: penalty": (
            lambda v: jnp.mean(learn.logistic.log_loss(learn.logistic.fit(X, label, v[0]), new_X, new_label)),
            (2.0,),
        ),
        "squares, bounds: upper, penalty": (lambda v: constrained(v, c.Bounds(upper=v[0])), (0.4, 0.5)),
        "squares, simplex: total, penalty": (lambda v: constrained(v, *c.simplex(d, v[0])), (1.5, 0.5)),
        "squares, norm: radius, penalty": (lambda v: constrained(v, c.Norm(np.eye(d), d=v[0])), (1.2, 0.5)),
        "squares, function: radius, penalty": (
            lambda v: constrained(v, c.smooth(lambda beta, r: beta @ beta - r**2, v[0])),
            (1.2, 0.5),
        ),
    }
    rows = [["fit", "gradient", "differences", "relative error"]]
    with jax.enable_x64(True):
        for name, (loss, at) in cases.items():
            got = np.asarray(jax.jit(jax.grad(loss))(jnp.array(at)))
            wanted = _differences(jax.jit(loss), np.array(at))
            error = np.max(np.abs(got - wanted)) / np.max(np.abs(wanted))
            show = lambda values: " ".join(f"{value:.8f}" for value in values)
            rows.append([name, show(got), show(wanted), f"{error:.0e}"])
    return rows


def _differences(function: Callable, at: np.ndarray, h: float = 1e-3) -> np.ndarray:
    """The gradient by differences of fourth order."""
    import jax.numpy as jnp

    steps = h * np.eye(len(at))
    moved = [[float(function(jnp.asarray(at + k * step))) for k in (-2, -1, 1, 2)] for step in steps]
    return np.array([(a - 8 * b + 8 * c - d) / (12 * h) for a, b, c, d in moved])


# ----------------------------------------------------------------------------- real data


def real_data() -> Rows:
    """Longley's digits, then for each set the share of y that constrained fits leave unexplained, beside that of least
    squares, and how far it is from CVXPY's with Clarabel."""
    import jax

    import convexjax as cj

    with jax.enable_x64(True):
        X, y = regression_data.longley()
        exact = np.array(regression_data.LONGLEY_BETA)
        error = np.max(np.abs(np.asarray(cj.lstsq(np.c_[np.ones(len(y)), X], y).x) / exact - 1))
        rows = [["set", "fit", "residual", "times least squares", "Clarabel's differs by", "binding", "status"]]
        for name, (X, y, feature) in regression_data.real().items():
            rows += _constrained(name, X, y, feature)
        return [*rows, ["Longley", f"raw data: {-np.log10(error):.1f} digits", "", "", "", "", ""]]


def _constrained(name: str, X: np.ndarray, y: np.ndarray, feature: int, levels: int = 5) -> Rows:
    import jax.numpy as jnp

    import convexjax as cj
    from convexjax import learn

    c, d = learn.constraints, X.shape[1]
    # y rises with a feature in steps: one column for each level of it but the first, whose value is zero
    cuts = np.quantile(X[:, feature], np.linspace(0, 1, levels + 1)[1:-1])
    level = np.searchsorted(cuts, X[:, feature], side="right")
    stepped = np.c_[np.delete(X, feature, 1), level[:, None] == np.arange(1, levels)].astype(float)
    rising = c.increasing(levels - 1)
    rising = c.AtMost(np.c_[np.zeros((levels - 2, d - 1)), rising.G], rising.h)
    first = c.AtMost(-np.eye(1, d - 2 + levels, d - 1), np.zeros(1))
    least = np.asarray(learn.linear.fit(X, y).coefficients)
    limit = np.linalg.norm(least) / 2
    towards = np.sign(X.T @ y)
    fits: dict[str, tuple[np.ndarray, list]] = {
        "least squares": (X, []),
        "signs of the correlations": (X, [c.AtMost(-np.diag(towards), np.zeros(d))]),
        "nonnegative, sum one (signs turned)": (X * towards, [c.simplex(d)]),
        f"{levels} levels of feature {feature}": (stepped, []),
        f"{levels} levels, rising": (stepped, [rising, first]),
        "half the Lipschitz constant": (X, [c.Norm(np.eye(d), d=limit)]),
        "the same as a function": (X, [c.smooth(lambda beta: beta @ beta - limit**2)]),
    }
    rows, free = [], 1.0
    for what, (columns, parts) in fits.items():
        model = learn.regression.fit(columns, y, constraints=parts)
        residual = float(jnp.mean((learn.regression.predict(model, columns) - y) ** 2))
        free = residual if not parts else free
        other = _by_cvxpy(columns, y, parts, limit)
        apart = "" if other is None else f"{abs(residual - other) / other:.0e}"
        binding = str(_binding(parts, np.asarray(model.coefficients), limit)) if parts else ""
        status = cj.Status(int(model.status)).name
        rows.append([name, what, f"{residual:.6f}", f"{residual / free:.4f}", apart, binding, status])
    return rows


def _rows_of(parts, beta):
    """For each constraint: values that are at most zero, or nothing where it is not linear."""
    from convexjax import learn

    c = learn.constraints
    for part in parts:
        for item in part if isinstance(part, tuple) else [part]:
            if isinstance(item, c.AtMost):
                yield np.asarray(item.G) @ beta - np.asarray(item.h), False
            elif isinstance(item, c.Bounds):
                yield item.lower - beta, False
            elif isinstance(item, c.Equal):
                yield np.asarray(item.A) @ beta - np.asarray(item.b), True
            else:
                yield None, False


def _binding(parts: list, beta: np.ndarray, limit: float) -> int:
    """How many inequalities hold with equality."""
    curved = int(abs(np.linalg.norm(beta) - limit) < 1e-6)
    return sum(
        curved if values is None else int(np.sum(np.abs(values) < 1e-6))
        for values, is_equation in _rows_of(parts, beta)
        if not is_equation
    )


def _by_cvxpy(X: np.ndarray, y: np.ndarray, parts: list, limit: float) -> float | None:
    """The mean square of CVXPY's residuals."""
    if missing(("cvxpy", "clarabel")):
        return None
    import cvxpy

    beta, offset = cvxpy.Variable(X.shape[1]), cvxpy.Variable()
    wanted = []
    for values, is_equation in _rows_of(parts, beta):
        if values is None:
            wanted.append(cvxpy.norm(beta) <= limit)
        else:
            wanted.append(values == 0 if is_equation else values <= 0)
    tight = {"tol_gap_abs": 1e-11, "tol_gap_rel": 1e-11, "tol_feas": 1e-11}
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.sum_squares(X @ beta + offset - y)), wanted)
    return problem.solve(solver=cvxpy.CLARABEL, **tight) / len(y)


# ----------------------------------------------------------------------------- paths of cross-validation


def real_paths(folds: int = 4) -> Rows:
    """Cross-validated paths on the real data beside scikit-learn's: the largest relative difference of a mean loss, and
    whether the best penalty is the same."""
    import jax

    from convexjax import learn

    rows = [["set", "path", "penalties", "largest difference", "best penalty", "scikit-learn's"]]
    if missing(("sklearn",)):
        return rows
    from sklearn.linear_model import ElasticNetCV, Ridge
    from sklearn.model_selection import GridSearchCV, KFold

    v = learn.validation
    with jax.enable_x64(True):
        for name, (X, y, _) in regression_data.real().items():
            own = v.k_fold(len(y), folds)
            split = KFold(folds)
            for ratio in (1.0, 0.5):
                penalties = np.asarray(learn.elastic_net.penalties(X, y, 30, l1_ratio=ratio, ratio=1e-2))
                fit = partial(learn.elastic_net.path, l1_ratio=ratio, tolerance=1e-13)
                loss = partial(v.squared_error, learn.elastic_net.predict)
                found = v.cross_validate(fit, X, y, penalties, own, loss=loss, path=True)
                peer = ElasticNetCV(l1_ratio=ratio, alphas=penalties, cv=split, tol=1e-13, max_iter=1_000_000)
                theirs = np.mean(peer.fit(X, y).mse_path_, 1)
                rows.append([name, f"elastic net, ratio {ratio:g}", *_compared(penalties, found, theirs)])
            penalties = np.geomspace(1e3, 1e-3, 30)
            loss = partial(v.squared_error, learn.ridge.predict)
            found = v.cross_validate(learn.ridge.path, X, y, penalties, own, loss=loss, path=True)
            how = {"cv": split, "scoring": "neg_mean_squared_error"}
            search = GridSearchCV(Ridge(solver="svd"), {"alpha": penalties}, **how).fit(X, y)
            rows.append([name, "ridge", *_compared(penalties, found, -search.cv_results_["mean_test_score"])])
    return rows


def _compared(penalties, found, theirs) -> list[str]:
    ours = np.asarray(found.mean)
    difference = np.max(np.abs(ours / theirs - 1))
    best = [f"{penalties[np.argmin(losses)]:.4g}" for losses in (ours, theirs)]
    return [str(len(penalties)), f"{difference:.0e}", *best]
