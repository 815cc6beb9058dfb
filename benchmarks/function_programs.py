"""Convex programs written as functions, from the textbooks: 2 to 1,000 variables.

A program is minimise f(x) subject to g(x) <= 0, A x = b, lb <= x <= ub, with x a vector and x0 a start in the domain of
f. Data are drawn with a fixed seed. Numbers in comments are sections of Boyd and Vandenberghe, "Convex Optimization".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class FunctionProgram:
    """Functions, data and a start."""

    name: str
    f: Callable
    x0: np.ndarray
    g: Callable | None = None
    A: Any = None
    b: Any = None
    lb: Any = None
    ub: Any = None


PROGRAMS: dict[str, Callable[[], FunctionProgram]] = {}


def program(build):
    """Register a program by its name."""
    PROGRAMS[build.__name__] = build
    return build


def _rng(seed):
    return np.random.default_rng(seed)


def _polytope(rng, m, n):
    """G x <= h with the origin inside."""
    return rng.normal(size=(m, n)), rng.uniform(1, 2, size=m)


# ----------------------------------------------------------------------------- entropy and logarithms


def _entropy(name, seed, p, n):
    rng = _rng(seed)
    A = np.concatenate([np.ones((1, n)), rng.normal(size=(p, n))])
    inner = rng.uniform(0.2, 1, n)
    b = A @ (inner / inner.sum())
    return FunctionProgram(name, lambda x: jnp.sum(x * jnp.log(x)), np.full(n, 1 / n), A=A, b=b)


@program
def entropy_small():
    return _entropy("entropy_small", 0, 2, 10)


@program
def entropy_medium():
    return _entropy("entropy_medium", 1, 20, 200)


@program
def entropy_large():
    return _entropy("entropy_large", 2, 30, 1000)


@program
def entropy_inequalities():
    rng = _rng(3)
    n, m = 60, 30
    G, inner = rng.normal(size=(m, n)), rng.uniform(0.2, 1, n)
    inner /= inner.sum()
    h = G @ inner + rng.uniform(0, 0.05, m)
    return FunctionProgram(
        "entropy_inequalities",
        lambda x: jnp.sum(x * jnp.log(x)),
        np.full(n, 1 / n),
        g=lambda x: G @ x - h,
        A=np.ones((1, n)),
        b=np.ones(1),
    )


@program
def relative_entropy_projection():
    rng = _rng(4)
    n = 100
    q = rng.uniform(0.1, 1, n)
    q /= q.sum()
    values = np.linspace(-1, 1, n)
    g = lambda x: jnp.stack([values**2 @ x - 0.2, 0.1 - values @ x])  # a moment bounded above, one below
    return FunctionProgram(
        "relative_entropy_projection",
        lambda x: jnp.sum(x * jnp.log(x / q)),
        np.full(n, 1 / n),
        g=g,
        A=np.ones((1, n)),
        b=np.ones(1),
    )


def _centre(name, seed, m, n):
    G, h = _polytope(_rng(seed), m, n)
    return FunctionProgram(name, lambda x: -jnp.sum(jnp.log(h - G @ x)), np.zeros(n))


@program
def analytic_centre_small():
    return _centre("analytic_centre_small", 5, 20, 4)


@program
def analytic_centre_large():
    return _centre("analytic_centre_large", 6, 600, 200)


@program
def analytic_centre_equations():
    rng = _rng(7)
    n, p = 100, 30
    A = np.concatenate([np.ones((1, n)), rng.normal(size=(p, n))])
    return FunctionProgram(
        "analytic_centre_equations", lambda x: -jnp.sum(jnp.log(x)), np.ones(n), A=A, b=A @ rng.uniform(0.5, 2, n)
    )


@program
def water_filling():  # 5.5.3, as given in example 5.2
    noise = _rng(8).uniform(0.1, 2, 50)
    return FunctionProgram(
        "water_filling",
        lambda x: -jnp.sum(jnp.log(noise + x)),
        np.full(50, 0.1),
        A=np.ones((1, 50)),
        b=np.array([5.0]),
        lb=0.0,
    )


@program
def geometric_mean():
    G, h = np.abs(_rng(9).normal(size=(15, 20))), np.ones(15)
    return FunctionProgram(
        "geometric_mean",
        lambda x: -jnp.exp(jnp.mean(jnp.log(x))),
        np.full(20, 0.01),
        g=lambda x: G @ x - h,
        lb=1e-6,
    )


@program
def log_utility_network():
    rng = _rng(10)
    routes = (rng.uniform(size=(20, 60)) < 0.2).astype(float)
    routes[0] += routes.sum(0) == 0
    return FunctionProgram(
        "log_utility_network",
        lambda x: -jnp.sum(jnp.log(x)),
        np.full(60, 0.1),
        g=lambda x: routes @ x - 10,
    )


@program
def kelly_gambling():
    rng = _rng(11)
    returns = rng.lognormal(0.02, 0.4, (200, 12))
    p = np.full(200, 1 / 200)
    return FunctionProgram(
        "kelly_gambling",
        lambda x: -jnp.sum(p * jnp.log(returns @ x)),
        np.full(12, 1 / 12),
        A=np.ones((1, 12)),
        b=np.ones(1),
        lb=0.0,
    )


# ----------------------------------------------------------------------------- matrices


@program
def covariance_selection():
    """-log det X + tr(S X) over the entries of a banded X (chain graph)."""
    rng = _rng(12)
    side = 8
    M = rng.normal(size=(40, side))
    S = M.T @ M / 40
    rows, columns = (np.concatenate([np.arange(side), np.arange(k, side)]) for k in (0, 1))
    rows, columns = (
        np.concatenate([np.arange(side), np.arange(side - 1)]),
        np.concatenate([np.arange(side), np.arange(1, side)]),
    )

    def f(x):
        X = jnp.zeros((side, side)).at[rows, columns].set(x)
        X = X + X.T - jnp.diag(jnp.diagonal(X))
        L = jnp.linalg.cholesky(X)
        return -2 * jnp.sum(jnp.log(jnp.diagonal(L))) + jnp.sum(S * X)

    return FunctionProgram("covariance_selection", f, (rows == columns).astype(float))


@program
def d_optimal_design():  # 7.5.2
    V = _rng(13).normal(size=(40, 5))
    return FunctionProgram(
        "d_optimal_design",
        lambda x: -jnp.linalg.slogdet((V.T * x) @ V)[1],
        np.full(40, 1 / 40),
        A=np.ones((1, 40)),
        b=np.ones(1),
        lb=0.0,
    )


@program
def a_optimal_design():
    V = _rng(14).normal(size=(30, 4))
    return FunctionProgram(
        "a_optimal_design",
        lambda x: jnp.trace(jnp.linalg.inv((V.T * x) @ V)),
        np.full(30, 1 / 30),
        A=np.ones((1, 30)),
        b=np.ones(1),
        lb=0.0,
    )


@program
def inscribed_ellipsoid():  # 8.4.2
    G, h = _polytope(_rng(15), 12, 3)
    lower = np.tril_indices(3)

    def parts(x):
        return jnp.zeros((3, 3)).at[lower].set(x[:6]), x[6:]

    def f(x):
        L, _ = parts(x)
        return -jnp.sum(jnp.log(jnp.diagonal(L)))

    def g(x):
        L, d = parts(x)
        return jnp.sqrt(jnp.sum((G @ L) ** 2, 1)) + G @ d - h

    x0 = np.zeros(9)
    x0[[0, 2, 5]] = 0.1
    return FunctionProgram("inscribed_ellipsoid", f, x0, g=g)


# ----------------------------------------------------------------------------- likelihoods


def _labels(rng, m, n):
    X = rng.normal(size=(m, n))
    w = rng.normal(size=n)
    return X, np.where(X @ w + rng.normal(size=m) > 0, 1.0, -1.0)


@program
def logistic_ball():
    X, y = _labels(_rng(16), 200, 20)
    return FunctionProgram(
        "logistic_ball",
        lambda w: jnp.mean(jnp.logaddexp(0, -y * (X @ w))),
        np.zeros(20),
        g=lambda w: (w @ w - 1)[None],
    )


@program
def logistic_monotone():
    X, y = _labels(_rng(17), 300, 30)
    return FunctionProgram(
        "logistic_monotone",
        lambda w: jnp.mean(jnp.logaddexp(0, -y * (X @ w))) + 1e-3 * w @ w,
        np.zeros(30),
        g=lambda w: w[:-1] - w[1:],
        lb=-1.0,
        ub=1.0,
    )


@program
def logistic_unconstrained():
    X, y = _labels(_rng(18), 500, 50)
    return FunctionProgram(
        "logistic_unconstrained", lambda w: jnp.mean(jnp.logaddexp(0, -y * (X @ w))) + 1e-3 * w @ w, np.zeros(50)
    )


@program
def multinomial_fair():
    rng = _rng(19)
    X, labels = rng.normal(size=(150, 6)), rng.integers(0, 4, 150)
    one_hot = np.eye(4)[labels]

    def f(w):
        scores = X @ w.reshape(6, 4)
        return jnp.mean(jax.nn.logsumexp(scores, 1) - jnp.sum(one_hot * scores, 1)) + 1e-3 * w @ w

    def fair(w):
        means = X.mean(0) @ w.reshape(6, 4)
        return jnp.concatenate([means - 1e-2, -means - 1e-2])

    return FunctionProgram("multinomial_fair", f, np.zeros(24), g=fair)


@program
def poisson_nonnegative():
    rng = _rng(20)
    X = rng.uniform(0, 1, (100, 15))
    counts = rng.poisson(X @ rng.uniform(0, 3, 15)).astype(float)
    return FunctionProgram(
        "poisson_nonnegative",
        lambda w: jnp.sum(X @ w - counts * jnp.log(X @ w)),
        np.ones(15),
        lb=0.0,
    )


@program
def poisson_ordered():
    """Maximum likelihood with an order of the rates."""
    rng = _rng(21)
    counts = rng.poisson(np.linspace(1, 10, 40)).astype(float)
    return FunctionProgram(
        "poisson_ordered",
        lambda rate: jnp.sum(rate - counts * jnp.log(rate)),
        np.full(40, 5.0),
        g=lambda rate: rate[:-1] - rate[1:],
        lb=1e-3,
    )


@program
def multinomial_ordered():
    rng = _rng(22)
    counts = rng.multinomial(500, np.sort(rng.dirichlet(np.ones(30)))).astype(float) + 1
    return FunctionProgram(
        "multinomial_ordered",
        lambda p: -counts @ jnp.log(p) / 500,
        np.full(30, 1 / 30),
        g=lambda p: p[:-1] - p[1:],
        A=np.ones((1, 30)),
        b=np.ones(1),
    )


@program
def log_concave_density():
    """Maximum likelihood of a log-concave density on a grid, in its logarithm."""
    rng = _rng(23)
    n = 60
    grid = np.linspace(-3, 3, n)
    counts = np.histogram(rng.normal(size=300), np.append(grid, 3.1))[0] / 300
    width = grid[1] - grid[0]
    return FunctionProgram(
        "log_concave_density",
        lambda v: -counts @ v + width * jnp.sum(jnp.exp(v)),
        np.full(n, -2.0),
        g=lambda v: v[2:] - 2 * v[1:-1] + v[:-2],
    )


# ----------------------------------------------------------------------------- norms, regression, fitting


@program
def huber_regression():
    rng = _rng(24)
    X = rng.normal(size=(120, 15))
    y = X @ rng.normal(size=15) + rng.standard_t(1.5, 120)

    def f(w):
        r = jnp.abs(X @ w - y)
        return jnp.sum(jnp.where(r <= 1, r**2 / 2, r - 0.5))

    return FunctionProgram("huber_regression", f, np.zeros(15), g=lambda w: (jnp.sum(w**2) - 10)[None])


@program
def log_cosh_regression():
    rng = _rng(25)
    X = rng.normal(size=(200, 40))
    y = X @ rng.normal(size=40) + rng.standard_t(2, 200)
    f = lambda w: jnp.sum(jnp.logaddexp(X @ w - y, y - X @ w))
    return FunctionProgram("log_cosh_regression", f, np.zeros(40), lb=-0.5, ub=1.5)


@program
def lp_norm_approximation():
    rng = _rng(26)
    X, y = rng.normal(size=(80, 20)), rng.normal(size=80)
    return FunctionProgram("lp_norm_approximation", lambda w: jnp.sum((X @ w - y) ** 4), np.zeros(20))


@program
def chebyshev_approximation():
    rng = _rng(27)
    X, y = rng.normal(size=(60, 10)), rng.normal(size=60)

    def g(v):
        r = X @ v[:-1] - y
        return jnp.concatenate([r - v[-1], -r - v[-1]])

    return FunctionProgram("chebyshev_approximation", lambda v: v[-1], np.append(np.zeros(10), 10.0), g=g)


@program
def penalty_log_barrier():  # 6.1.2, the logarithmic barrier penalty
    rng = _rng(28)
    X, y = rng.normal(size=(100, 30)), 0.2 * rng.normal(size=100)
    return FunctionProgram("penalty_log_barrier", lambda w: -jnp.sum(jnp.log(1 - (X @ w - y) ** 2)), np.zeros(30))


@program
def quantile_smoothed_isotonic():
    rng = _rng(29)
    y = np.linspace(0, 1, 100) ** 2 + 0.2 * rng.normal(size=100)
    f = lambda v: jnp.sum(0.02 * jnp.logaddexp(0, (y - v) / 0.02) - 0.7 * (y - v))
    return FunctionProgram("quantile_smoothed_isotonic", f, np.zeros(100), g=lambda v: v[:-1] - v[1:])


@program
def convex_regression():
    y = np.linspace(-1, 1, 50) ** 2 + 0.1 * _rng(30).normal(size=50)
    return FunctionProgram(
        "convex_regression",
        lambda v: jnp.sum((v - y) ** 2),
        np.zeros(50),
        g=lambda v: -(v[2:] - 2 * v[1:-1] + v[:-2]),
    )


@program
def lasso_constrained():
    rng = _rng(31)
    X = rng.normal(size=(60, 40))
    y = X @ np.where(rng.uniform(size=40) < 0.2, rng.normal(size=40), 0) + 0.1 * rng.normal(size=60)
    # w = u - v with u, v >= 0
    return FunctionProgram(
        "lasso_constrained",
        lambda v: jnp.sum((X @ (v[:40] - v[40:]) - y) ** 2),
        np.full(80, 0.01),
        g=lambda v: (jnp.sum(v) - 3.0)[None],
        lb=0.0,
    )


# ----------------------------------------------------------------------------- geometry and design


@program
def chebyshev_centre():
    G, h = _polytope(_rng(32), 50, 10)
    norms = np.linalg.norm(G, axis=1)
    return FunctionProgram(
        "chebyshev_centre", lambda v: -v[-1], np.zeros(11), g=lambda v: G @ v[:-1] + norms * v[-1] - h
    )


@program
def smallest_ball():
    points = _rng(33).normal(size=(60, 6))
    return FunctionProgram(
        "smallest_ball",
        lambda v: v[-1],
        np.append(np.zeros(6), 50.0),
        g=lambda v: jnp.sum((points - v[:-1]) ** 2, 1) - v[-1],
    )


@program
def ball_intersection():
    rng = _rng(34)
    centres, target = 0.3 * rng.normal(size=(20, 8)), 3 * rng.normal(size=8)
    return FunctionProgram(
        "ball_intersection",
        lambda x: jnp.sum((x - target) ** 2),
        np.zeros(8),
        g=lambda x: jnp.sum((x - centres) ** 2, 1) - 2.0,
    )


@program
def floor_planning():  # 8.8.2: cells of given areas in a row and column arrangement, smallest half perimeter
    areas = np.array([1.0, 2.0, 3.0, 1.5, 2.5])

    def parts(v):  # corners x, y, sizes w, h, box W, H
        return v[:5], v[5:10], v[10:15], v[15:20], v[20], v[21]

    def g(v):
        x, y, w, h, W, H = parts(v)
        left = jnp.stack([x[0] + w[0] - x[2], x[1] + w[1] - x[2], x[2] + w[2] - x[4], x[3] + w[3] - x[4]])
        below = jnp.stack([y[1] + h[1] - y[0], y[3] + h[3] - y[1]])
        inside = jnp.concatenate([x + w - W, y + h - H, -x, -y])
        shape = jnp.concatenate([areas / w - h, w - 3 * h, h - 3 * w])
        return jnp.concatenate([left, below, inside, shape])

    x0 = np.concatenate([np.arange(5.0), np.arange(5.0), np.full(10, 2.0), [10.0, 10.0]])
    return FunctionProgram("floor_planning", lambda v: 2 * (v[20] + v[21]), x0, g=g, lb=None)


@program
def filter_design():
    """Low-pass filter by autocorrelation coefficients: least peak in the stop band, ripple bounded."""
    n = 20
    angles = np.linspace(0, np.pi, 15 * n)
    C = np.concatenate([np.ones((len(angles), 1)), 2 * np.cos(np.outer(angles, np.arange(1, n)))], 1)
    passing, stopping = C[angles <= 0.35 * np.pi], C[angles >= 0.5 * np.pi]

    def g(v):
        r, t = v[:-1], v[-1]
        return jnp.concatenate([passing @ r - 1.2, 0.85 - passing @ r, stopping @ r - t, -C @ r])

    x0 = np.zeros(n + 1)
    x0[0] = x0[-1] = 1.0
    return FunctionProgram("filter_design", lambda v: v[-1], x0, g=g)


@program
def fir_log_ripple():
    n = 12
    angles = np.linspace(0, np.pi, 100)
    C = np.cos(np.outer(angles, np.arange(n)))
    desired = np.exp(-angles)

    def g(v):
        response = C @ v[:-1]
        return jnp.concatenate(
            [response / desired - v[-1], desired / jnp.where(response > 0, response, jnp.nan) - v[-1]]
        )

    x0 = np.zeros(n + 1)
    x0[0], x0[-1] = 0.5, 20.0
    return FunctionProgram("fir_log_ripple", lambda v: v[-1], x0, g=g)


@program
def optimal_transport_entropic():
    rng = _rng(35)
    k = 20
    cost = (rng.uniform(size=(k, 1)) - rng.uniform(size=(1, k))) ** 2
    a, b = rng.dirichlet(np.full(k, 5.0)), rng.dirichlet(np.full(k, 5.0))
    A = np.concatenate([np.kron(np.eye(k), np.ones(k)), np.kron(np.ones(k), np.eye(k))])[:-1]
    return FunctionProgram(
        "optimal_transport_entropic",
        lambda P: cost.ravel() @ P + 0.05 * jnp.sum(P * jnp.log(P)),
        np.full(k * k, 1 / k**2),
        A=A,
        b=np.concatenate([a, b])[:-1],
    )


@program
def markowitz_risk():
    rng = _rng(36)
    F, mean = rng.normal(size=(30, 5)), rng.uniform(0, 0.1, 30)
    risk = lambda x: jnp.sum((F.T @ x) ** 2) + 0.1 * jnp.sum(x**2)
    return FunctionProgram(
        "markowitz_risk",
        lambda x: -mean @ x,
        np.full(30, 1 / 30),
        g=lambda x: (risk(x) - 0.02)[None],
        A=np.ones((1, 30)),
        b=np.ones(1),
        lb=0.0,
    )


@program
def risk_parity():
    rng = _rng(37)
    F = rng.normal(size=(40, 40)) / 6
    S = F @ F.T + 0.1 * np.eye(40)
    return FunctionProgram("risk_parity", lambda x: x @ S @ x / 2 - jnp.mean(jnp.log(x)), np.ones(40))


@program
def portfolio_cvar_smoothed():
    returns = _rng(38).normal(0.01, 0.1, (300, 20))

    def f(v):
        loss = -returns @ v[:-1] - v[-1]
        return v[-1] + jnp.mean(0.01 * jnp.logaddexp(0, loss / 0.01)) / 0.05

    return FunctionProgram(
        "portfolio_cvar_smoothed",
        f,
        np.append(np.full(20, 1 / 20), 0.0),
        A=np.append(np.ones((1, 20)), np.zeros((1, 1)), 1),
        b=np.ones(1),
        lb=np.append(np.zeros(20), -np.inf),
    )


@program
def geometric_program_box():
    """Largest box with bounded surface and shape, in logarithms of the sides."""
    lse = jax.nn.logsumexp

    def g(v):
        h, w, d = v
        wall = lse(jnp.stack([h + w, h + d])) + jnp.log(2.0) - jnp.log(200.0)
        return jnp.stack(
            [wall, w + d - jnp.log(50.0), h - w - jnp.log(2.0), jnp.log(0.5) - h + w, d - w - jnp.log(2.0)]
        )

    return FunctionProgram("geometric_program_box", lambda v: -jnp.sum(v), np.zeros(3), g=g)


@program
def geometric_program_random():
    rng = _rng(39)
    E, c = rng.normal(size=(10, 5, 12)), rng.normal(size=(10, 5)) - 3
    e0, c0 = np.concatenate([rng.normal(size=(8, 12)), np.eye(12), -np.eye(12)]), rng.normal(size=32)
    return FunctionProgram(
        "geometric_program_random",
        lambda v: jax.nn.logsumexp(e0 @ v + c0),
        np.zeros(12),
        g=lambda v: jax.nn.logsumexp(E @ v + c, axis=1),
    )


@program
def power_control():
    rng = _rng(40)
    n = 10
    gain = rng.uniform(0.01, 0.05, (n, n))
    np.fill_diagonal(gain, 0)
    # log of interference over signal, x = log power
    g = lambda x: (
        jax.nn.logsumexp(
            jnp.concatenate([jnp.log(gain + 1e-12) + x[None, :], jnp.full((n, 1), jnp.log(0.1))], 1), axis=1
        )
        - x
        - jnp.log(0.8)
    )
    return FunctionProgram("power_control", lambda x: jnp.sum(jnp.exp(x)), np.zeros(n), g=g)


@program
def resource_allocation_large():
    rng = _rng(41)
    n = 1000
    weights, G = rng.uniform(0.5, 2, n), rng.uniform(0, 1, (20, n))
    return FunctionProgram(
        "resource_allocation_large",
        lambda x: -weights @ jnp.log1p(x),
        np.full(n, 0.01),
        g=lambda x: G @ x - 50.0,
        lb=0.0,
    )


@program
def quadratic_over_linear():
    rng = _rng(42)
    M, c = rng.normal(size=(15, 10)), rng.uniform(0.1, 1, 10)
    f = lambda x: jnp.sum((M @ x + 1) ** 2) / (c @ x + 0.1)
    return FunctionProgram("quadratic_over_linear", f, np.ones(10), lb=0.0, ub=2.0)


@program
def catenary():
    """A hanging chain of stiff springs over a floor."""
    n = 40

    def f(v):
        x, y = v[:n], v[n:]
        x = jnp.concatenate([jnp.zeros(1), x, jnp.ones(1)])
        y = jnp.concatenate([jnp.zeros(1), y, jnp.zeros(1)])
        length = jnp.sqrt(jnp.diff(x) ** 2 + jnp.diff(y) ** 2 + 1e-8)
        stretch = jnp.maximum(length - 1.3 / (n + 1), 0)
        return 500 * jnp.sum(stretch**2) + jnp.sum(y) / n

    return FunctionProgram(
        "catenary", f, np.concatenate([np.linspace(0.02, 0.98, n), np.full(n, -0.1)]), g=lambda v: -0.3 - v[n:]
    )


@program
def exponential_utility_plan():
    rng = _rng(43)
    R = rng.normal(0.05, 0.2, (100, 8))
    return FunctionProgram(
        "exponential_utility_plan",
        lambda x: jax.nn.logsumexp(-3 * (R @ x)),
        np.zeros(8),
        g=lambda x: jnp.stack([jnp.sum(jnp.sqrt(x**2 + 1e-4)) - 2.0]),
        A=np.ones((1, 8)),
        b=np.ones(1),
    )


@program
def two_variables():
    """Boyd and Vandenberghe's unconstrained example (9.20), cut by a half plane."""
    f = lambda x: jnp.exp(x[0] + 3 * x[1] - 0.1) + jnp.exp(x[0] - 3 * x[1] - 0.1) + jnp.exp(-x[0] - 0.1)
    return FunctionProgram("two_variables", f, np.array([-1.0, 0.7]), g=lambda x: jnp.stack([x[0] + x[1] + 0.5]))
