"""Log det programs for the command `maxdet`: graphical lasso beside scikit-learn, designs and ellipsoids beside cvxpy.

Every answer is judged by numbers computed here: the duality gap of the graphical lasso, the objective of the others.
"""

import argparse
import time
from statistics import median

import numpy as np
import scipy.sparse as sparse

from benchmarks.certificates import certify
from benchmarks.conic_peers import prepare_clarabel
from benchmarks.programs import Cones, ConicProgram
from benchmarks.semidefinite import small_program

# Seconds of a peer's call after which no tighter tolerance is tried.
LONG = 5.0


def seconds(run, repeats: int):
    """The answer, and the median time of later calls."""
    found, times = run(), []
    for _ in range(repeats):
        start = time.perf_counter()
        found = run()
        times.append(time.perf_counter() - start)
    return found, median(times)


def table(arguments: argparse.Namespace) -> list[list[str]]:
    """One row per problem and solver."""
    import jax

    jax.config.update("jax_enable_x64", True)
    rows = [["problem", "solver", "seconds", "objective", "duality gap"]]
    for p in map(int, filter(None, arguments.variables.split(","))):
        rows += graphical_lasso(p, arguments.repeats)
    return rows + design(100, 6, arguments.repeats) + ellipsoid(100, 3, arguments.repeats)


def lasso_gap(S: np.ndarray, X: np.ndarray, rho: float) -> tuple[float, float]:
    """The objective, and its distance to the dual value of X^-1 moved into the box |W - S| <= rho."""
    off = ~np.eye(len(S), dtype=bool)
    value = np.sum(S * X) - np.linalg.slogdet(X)[1] + rho * np.abs(X[off]).sum()
    W = S + np.where(off, np.clip(np.linalg.inv(X) - S, -rho, rho), 0)
    return float(value), float(value - np.linalg.slogdet(W)[1] - len(S))


def graphical_lasso(p: int, repeats: int) -> list[list[str]]:
    """Ours, and scikit-learn with the loosest tolerance whose duality gap is not above ours, if it gets there."""
    from convexjax.learn import graphical_lasso

    rng = np.random.default_rng(p)
    S = np.cov(rng.normal(size=(3 * p, p)).T)
    rho = 0.1
    found, taken = seconds(lambda: np.asarray(graphical_lasso.fit(S, rho).precision), repeats)
    value, gap = lasso_gap(S, found, rho)
    rows = [[f"graphical lasso {p}", "convexjax", f"{taken:.4f}", f"{value:.9f}", f"{gap:.1e}"]]
    try:
        from sklearn.covariance import graphical_lasso as peer
    except ImportError:
        return rows
    for tolerance in 0.1 ** np.arange(2, 9):
        run = lambda tolerance=tolerance: peer(S, rho, tol=tolerance, enet_tol=min(1e-4, tolerance), max_iter=200)
        start = time.perf_counter()
        value, theirs = lasso_gap(S, run()[1], rho)
        if theirs <= gap or time.perf_counter() - start > LONG:
            break
    _, taken = seconds(run, repeats)
    return [*rows, [f"graphical lasso {p}", "scikit-learn", f"{taken:.4f}", f"{value:.9f}", f"{theirs:.1e}"]]


def as_conic(c: np.ndarray, F: np.ndarray) -> ConicProgram:
    """The program in conic form, as cvxpy writes it: min c'x - sum t, t_i <= log L_ii for the lower triangle L with
    [F(x), L; L', diag(L)] psd."""
    n, k = len(c), F.shape[-1]
    rows, columns = np.tril_indices(k)
    few = rows.size
    upper, right = np.tril_indices(2 * k)

    def slack(v):
        L = np.zeros((k, k))
        L[rows, columns] = v[n : n + few]
        M = np.block([[F[0] + np.tensordot(v[:n], F[1:], 1), L], [L.T, np.diag(np.diag(L))]])
        exponential = np.stack([v[n + few :], np.ones(k), np.diag(L)], 1)
        return np.concatenate([M[upper, right] * np.where(upper == right, 1, np.sqrt(2)), exponential.ravel()])

    size = n + few + k
    b = slack(np.zeros(size))
    A = np.stack([b - slack(unit) for unit in np.eye(size)], 1)
    q = np.concatenate([c, np.zeros(few), -np.ones(k)])
    cones = Cones(psd=(2 * k,), exponential=k)
    return ConicProgram(name="max-det", P=None, q=q, A=sparse.csc_array(A), b=b, cones=cones)


def batch(lanes: int, repeats: int) -> list[list[str]]:
    """Seconds of `vmap` and of a loop over Clarabel, and how many answers of each are certified."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import convexjax as cj

    data = [small_program(seed, side=6, n=10) for seed in range(lanes)]
    c, F = (np.stack(v) for v in zip(*data, strict=True))
    conic = [as_conic(*lane) for lane in data]
    solve = jax.jit(jax.vmap(lambda c, F: cj.solve_maxdet(c, F)))
    device = jax.device_put((c, F))
    found, taken = seconds(lambda: jax.block_until_ready(solve(*device)), repeats)
    x, W = np.asarray(found.x), np.asarray(found.z_cones[0])
    S = F[:, 0] + np.einsum("ln,lnij->lij", x, F[:, 1:])
    log_det = lambda M: np.linalg.slogdet(M)[1]
    value = np.sum(c * x, 1) - log_det(S)
    gap = value - log_det(W) - S.shape[-1] + np.sum(F[:, 0] * W, (1, 2))
    stationary = np.abs(c - np.einsum("lnij,lij->ln", F[:, 1:], W)).max(1) / np.abs(c).max(1)
    definite = (np.linalg.eigvalsh(S)[:, 0] > 0) & (np.linalg.eigvalsh(W)[:, 0] > 0)
    good = definite & (np.abs(gap) <= 1e-8 * np.maximum(1, np.abs(value))) & (stationary <= 1e-8)
    good &= np.asarray(found.status) == cj.Status.SOLVED
    rows = [["solver", "seconds", "certified"], ["convexjax", f"{taken:.4f}", f"{good.sum()} of {lanes}"]]
    prepared = [prepare_clarabel(program, 1e-8) for program in conic]
    answers, taken = seconds(lambda: [solve() for solve in prepared], repeats)
    good = sum(certify(p, a).worst <= 1e-8 for p, a in zip(conic, answers, strict=True))
    return [*rows, ["clarabel", f"{taken:.4f}", f"{good} of {lanes}"]]


def design(n: int, k: int, repeats: int) -> list[list[str]]:
    """min -log det sum u_i v_i v_i', u >= 0, sum u = 1."""
    import cvxpy as cp

    import convexjax as cj

    V = np.random.default_rng(0).normal(size=(n, k))
    F = np.concatenate([np.zeros((1, k, k)), V[:, :, None] * V[:, None]])
    G, one = np.concatenate([np.zeros((1, n)), np.eye(n)]), np.ones((1, n))
    value = lambda u: -np.linalg.slogdet((V.T * u) @ V)[1]
    dual_gap = lambda u: k * np.log(np.einsum("ni,ij,nj->n", V, np.linalg.inv((V.T * u) @ V), V).max() / k)
    found, taken = seconds(lambda: np.asarray(cj.solve_maxdet(np.zeros(n), F, G, one, [1.0]).x), repeats)
    rows = [["D-optimal design", "convexjax", f"{taken:.4f}", f"{value(found):.9f}", f"{dual_gap(found):.1e}"]]
    for name in ("CLARABEL", "SCS"):
        u = cp.Variable(n)
        problem = cp.Problem(cp.Minimize(-cp.log_det(V.T @ cp.diag(u) @ V)), [u >= 0, cp.sum(u) == 1])
        _, taken = seconds(lambda problem=problem, name=name: problem.solve(solver=name), repeats)
        w = np.maximum(u.value, 0) / np.maximum(u.value, 0).sum()
        rows.append(["D-optimal design", f"cvxpy {name}", f"{taken:.4f}", f"{value(w):.9f}", f"{dual_gap(w):.1e}"])
    return rows


def ellipsoid(m: int, d: int, repeats: int) -> list[list[str]]:
    """The volume of the smallest ellipsoid around points, as -log det B of |B p + b| <= 1."""
    import cvxpy as cp

    import convexjax as cj

    points = np.random.default_rng(1).normal(size=(m, d))

    def value(centre, shape):  # after growing the ellipsoid until it holds all points
        largest = np.einsum("ni,ij,nj->n", points - centre, shape, points - centre).max()
        return -0.5 * np.linalg.slogdet(shape / largest)[1]

    ours, taken = seconds(lambda: cj.relaxations.minimum_volume_ellipsoid(points), repeats)
    result = value(np.asarray(ours.centre), np.asarray(ours.shape))
    rows = [["ellipsoid", "convexjax", f"{taken:.4f}", f"{result:.9f}", ""]]
    for name in ("CLARABEL", "SCS"):
        B, b = cp.Variable((d, d), PSD=True), cp.Variable(d)
        problem = cp.Problem(cp.Minimize(-cp.log_det(B)), [cp.norm(points @ B + b[None, :], axis=1) <= 1])
        _, taken = seconds(lambda problem=problem, name=name: problem.solve(solver=name), repeats)
        result = value(-np.linalg.solve(B.value, b.value), B.value @ B.value)
        rows.append(["ellipsoid", f"cvxpy {name}", f"{taken:.4f}", f"{result:.9f}", ""])
    return rows
