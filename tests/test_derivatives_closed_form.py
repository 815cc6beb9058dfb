"""Derivatives that are known: projections, envelope theorem, central paths, active sets that change."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import interior, smat, svec

import convexjax as cj
from convexjax import Status

EXACT = cj.Options(tolerance=1e-11, polish=True, check_derivative=True)


def near(got, expected, tolerance=1e-7):
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max(initial=0) <= tolerance * max(1, np.abs(expected).max(initial=0)), (got, expected)


def with_jacobian(function):
    """(value, Jacobian, status, unique) of a function of one array that returns (value, solution), for a batch."""

    def both(t):
        def twice(t):
            value, solution = function(t)
            return value, (value, solution)

        jacobian, (value, solution) = jax.jacrev(twice, has_aux=True)(t)
        return value, jacobian, solution.status, solution.info.derivative_unique

    return jax.jit(jax.vmap(both))


# ----------------------------------------------------------------------------- projections


@pytest.mark.core
def test_projection_onto_the_simplex():
    def project(t):
        solution = cj.solve_qp(np.eye(5), -t, A=np.ones((1, 5)), b=np.ones(1), lb=0.0, options=EXACT)
        return solution.x, solution

    t = np.random.default_rng(0).normal(size=(8, 5))
    x, jacobian, status, unique = with_jacobian(project)(t)
    assert (status == Status.SOLVED).all() and unique.all()
    for k in range(8):
        order = -np.sort(-t[k])
        shifts = (1 - np.cumsum(order)) / np.arange(1, 6)
        shift = shifts[np.flatnonzero(order + shifts > 0)[-1]]
        near(x[k], np.maximum(t[k] + shift, 0), 1e-8)
        support = (t[k] + shift > 0).astype(float)
        near(jacobian[k], np.diag(support) - np.outer(support, support) / support.sum())


@pytest.mark.core
def test_projection_onto_a_ball():
    def project(data):
        solution = cj.solve_socp(-data[1:], [(np.eye(3), None, None, data[0])], P=np.eye(3), options=EXACT)
        return solution.x, solution

    data = np.array([[1.5, 3.0, -1.0, 2.0], [2.0, 0.1, 0.5, 0.3], [0.5, -0.4, 0.4, 0.1]])
    x, jacobian, status, unique = with_jacobian(project)(data)
    assert (status == Status.SOLVED).all() and unique.all()
    for k, (radius, *t) in enumerate(data):
        norm = np.linalg.norm(t)
        u = np.array(t) / norm
        if norm < radius:
            expected = np.eye(3, 4, 1)
        else:
            expected = np.concatenate([u[:, None], radius / norm * (np.eye(3) - np.outer(u, u))], 1)
        near(x[k], u * min(norm, radius), 1e-8)
        near(jacobian[k], expected)


def rotation(seed, side=3):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(side, side)))[0]


def project_psd(t):
    solution = cj.solve_conic(np.eye(6), -t, -np.eye(6), np.zeros(6), [cj.PSD(3)], options=EXACT)
    return solution.x, solution


SPECTRA = [(2.0, 1.0, -1.0), (2.0, 2.0, -1.0), (1.0, -2.0, -2.0), (1.0, 1.0, 1.0), (-1.0, -1.0, -1.0), (3.0, 1.0, 0.5),
           (1.0, 0.0, -1.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)]  # fmt: skip


@pytest.mark.core
def test_projection_onto_positive_semidefinite_matrices():
    """D = Q (W o Q'dT Q) Q', W the divided differences of max(., 0); W is free where both eigenvalues are zero."""
    frames = [rotation(k) for k in range(len(SPECTRA))]
    t = np.stack([svec((Q * np.array(d)) @ Q.T) for Q, d in zip(frames, SPECTRA, strict=True)])
    x, jacobian, status, unique = with_jacobian(project_psd)(t)
    assert (status == Status.SOLVED).all()
    basis = smat(np.eye(6), 3)
    for k, (Q, d) in enumerate(zip(frames, np.array(SPECTRA), strict=True)):
        near(smat(np.asarray(x[k]), 3), (Q * np.maximum(d, 0)) @ Q.T, 1e-6 if 0 in d else 1e-8)
        assert unique[k] == (0 not in d), SPECTRA[k]
        scale = np.abs(d)[:, None] + np.abs(d)
        W = np.where(scale > 0, (np.maximum(d, 0)[:, None] + np.maximum(d, 0)) / np.where(scale > 0, scale, 1), np.nan)
        in_frame = svec(Q.T @ smat(np.asarray(jacobian[k]).T, 3) @ Q)  # images of the basis
        expected = svec(W * (Q.T @ basis @ Q))
        known = ~np.isnan(svec(W))
        # a point next to a kink is known to the square root of its tolerance
        near(in_frame[:, known], expected[:, known], 1e-4 if 0 in d else 1e-7)
        symmetric = np.asarray(jacobian[k] + jacobian[k].T) / 2
        assert np.isfinite(symmetric).all() and -1e-6 <= np.linalg.eigvalsh(symmetric)[0]
        assert np.linalg.eigvalsh(symmetric)[-1] <= 1 + 1e-6


@pytest.mark.core
def test_projection_onto_the_exponential_cone():
    def project(t):
        solution = cj.solve_conic(np.eye(3), -t, -np.eye(3), np.zeros(3), [cj.Exponential()], options=EXACT)
        return solution.x, solution

    curved = np.array([[1.0, 1.0, 1.0], [0.5, -1.0, 1.0], [2.0, 0.5, 0.5], [-1.0, 0.5, -0.5], [0.3, 2.0, 0.1]])
    flat = np.array([[-1.0, -2.0, 1.5], [-1.0, -0.5, -2.0], [0.5, 1.0, 4.0], [1.0, -1.0, -2.0]])
    known = [np.diag([1.0, 0, 1]), np.diag([1.0, 0, 0]), np.eye(3), np.zeros((3, 3))]
    x, jacobian, status, unique = with_jacobian(project)(np.concatenate([curved, flat]))
    assert (status == Status.SOLVED).all() and unique.all()
    for k, t in enumerate(curved):
        # min |s - t|^2/2 over g(s) = w - v exp(u/v) = 0, differentiated: [I - l hess g, -grad g; grad g', 0]
        u, v, w = np.asarray(x[k])
        e = np.exp(u / v)
        gradient = np.array([-e, -e * (1 - u / v), 1.0])
        hessian = -e / v * np.outer([1, -u / v, 0], [1, -u / v, 0])
        multiplier = w - t[2]
        near(x[k] - t, multiplier * gradient, 1e-7)
        assert abs(w - v * e) < 1e-7 and multiplier > 0
        system = np.block([[np.eye(3) - multiplier * hessian, -gradient[:, None]], [gradient[None], np.zeros((1, 1))]])
        near(jacobian[k], np.linalg.inv(system)[:3, :3], 1e-6)
    near(jacobian[5:], np.stack(known), 1e-6)


# ----------------------------------------------------------------------------- known solutions


@pytest.mark.core
def test_ridge_regression():
    rng = np.random.default_rng(0)
    X, y, penalty = rng.normal(size=(7, 4)), rng.normal(size=7), 0.3

    def normal(X, y, penalty):
        return X.T @ X + penalty * jnp.eye(4), X.T @ y

    def by_qp(*data):
        P, right = normal(*data)
        return cj.solve_qp(P, -right).x

    got = jax.jit(jax.jacrev(by_qp, (0, 1, 2)))(X, y, penalty)
    expected = jax.jacrev(lambda *data: jnp.linalg.solve(*normal(*data)), (0, 1, 2))(X, y, penalty)
    for one, other in zip(got, expected, strict=True):
        near(one, other, 1e-9)


@pytest.mark.core
def test_portfolio_without_bounds():
    rng = np.random.default_rng(1)
    root, mean = rng.normal(size=(4, 4)), rng.normal(size=4)

    def by_qp(root, mean, total):
        solution = cj.solve_qp(root @ root.T, -mean, A=np.ones((1, 4)), b=total[None])
        return solution.x, solution.y[0], solution.objective

    def known(root, mean, total):
        both = jnp.linalg.solve(root @ root.T, jnp.stack([mean, jnp.ones(4)], 1))
        y = (both[:, 0].sum() - total) / both[:, 1].sum()
        x = both[:, 0] - y * both[:, 1]
        return x, y, x @ root @ root.T @ x / 2 - mean @ x

    data = root, mean, np.array(1.5)
    got = jax.jit(jax.jacrev(by_qp, (0, 1, 2)))(*data)
    jax.tree.map(lambda a, b: near(a, b, 1e-8), got, jax.jacrev(known, (0, 1, 2))(*data))


@pytest.mark.core
def test_water_filling():
    """max sum log(a_i + p_i), sum p = total, p >= 0: p = max(level - a, 0)."""
    A, b = np.zeros((13, 6)), np.zeros(13)
    A[0, :3], A[1:4, :3] = 1, -np.eye(3)
    for i in range(3):
        A[4 + 3 * i, 3 + i], b[5 + 3 * i], A[6 + 3 * i, i] = -1, 1, -1
    cones = [cj.Zero(1), cj.Nonnegative(3), cj.Exponential(3)]
    where = jnp.asarray(np.eye(13)[[6, 9, 12, 0]])

    def powers(data):
        solution = cj.solve_conic(None, np.r_[0, 0, 0, -1.0, -1, -1], A, b + data @ where, cones, options=EXACT)
        return solution.x[:3], solution

    a = np.array([[0.5, 0.8, 3.0], [0.2, 0.3, 0.25]])
    totals = np.array([1.0, 0.8])
    p, jacobian, status, unique = with_jacobian(powers)(np.concatenate([a, totals[:, None]], 1))
    assert (status == Status.SOLVED).all() and unique.all()
    for k, support in enumerate(np.array([[1.0, 1, 0], [1, 1, 1]])):
        level = (totals[k] + support @ a[k]) / support.sum()
        near(p[k], np.maximum(level - a[k], 0), 1e-7)
        expected = np.outer(support, np.r_[support, 1]) / support.sum() - np.eye(3, 4) * support[:, None]
        near(jacobian[k], expected, 1e-6)


# ----------------------------------------------------------------------------- active sets


@pytest.mark.core
def test_a_degenerate_vertex():
    """min -x1 - x2 over x1 <= h1, x2 <= h2, x1 + x2 <= h3 at h = (1, 1, 2), and with h3 = 3 and 1.5."""

    def vertex(h):
        solution = cj.solve_lp([-1.0, -2.0], G=[[1.0, 0], [0, 1], [1, 1]], h=h, options=EXACT)
        return solution.x, solution

    x, jacobian, status, unique = with_jacobian(vertex)(np.array([[1.0, 1, 2], [1, 1, 3], [1, 1, 1.5]]))
    assert (status == Status.SOLVED).all()
    assert unique.tolist() == [False, True, True]
    assert np.isfinite(jacobian).all() and np.abs(jacobian[0]).max() <= 2
    near(jacobian[1], np.eye(2, 3), 1e-9)
    near(jacobian[2], np.array([[0, -1, 1], [0, 1, 0]]), 1e-9)


@pytest.mark.core
def test_an_active_set_that_changes_along_a_line():
    """The projection of (t, 1/2) onto 0 <= x <= 1, x1 + x2 <= 1.2: the slopes between the kinks, and at them."""

    def nearest(t):
        q = -jnp.stack([t, jnp.asarray(0.5)])
        solution = cj.solve_qp(np.eye(2), q, G=[[1.0, 1]], h=[1.2], lb=0.0, ub=1.0, options=EXACT)
        return solution.x, solution

    slopes = np.array([[0.0, 0], [1, 0], [0.5, -0.5], [0, 0]])
    kinks = np.array([0.0, 0.7, 1.3])
    beside = np.stack([kinks - 1e-4, kinks + 1e-4], 1)
    run = with_jacobian(nearest)
    x, slope, status, unique = run(np.r_[beside.ravel(), kinks])
    assert (status == Status.SOLVED).all()
    near(slope[:6].reshape(3, 2, 2), np.stack([slopes[:-1], slopes[1:]], 1), 1e-7)
    assert unique[:6].all() and not unique[6:].any()
    for k in range(3):
        left, right, got = slopes[k], slopes[k + 1], np.asarray(slope[6 + k])
        part = (got - left) @ (right - left) / ((right - left) @ (right - left))
        assert -1e-6 <= part <= 1 + 1e-6
        near(got, left + part * (right - left), 1e-6)


# ----------------------------------------------------------------------------- the optimal value


def value_and_gradient(solve):
    def objective(data):
        solution = solve(data)
        return solution.objective, solution

    return jax.jit(jax.grad(objective, has_aux=True))


@pytest.mark.core
def test_the_gradient_of_the_optimal_value_of_a_qp_is_that_of_the_lagrangian():
    """Also where x is not unique: P singular with x4 free in its bounds, and a face of optima."""
    rng = np.random.default_rng(0)
    solve = value_and_gradient(lambda d: cj.solve_qp(**d, options=EXACT))
    G, A, x = rng.normal(size=(3, 4)), rng.normal(size=(1, 4)), rng.uniform(-0.5, 0.5, 4)
    root = rng.normal(size=(4, 4))
    unique = {"P": root @ root.T, "q": rng.normal(size=4), "G": G, "h": G @ x + 0.2, "A": A, "b": A @ x,
              "lb": -np.ones(4), "ub": np.ones(4)}  # fmt: skip
    flat = {"G": G * [1, 1, 1, 0.0], "A": np.array([[1.0, 1, 1, 0]]), "b": np.array([0.3])}
    free = unique | flat | {"P": np.diag([1.0, 2, 1, 0]), "q": np.array([1.0, -1, 0.5, 0])}
    face = unique | flat | {"P": np.zeros((4, 4)), "q": np.array([1.0, 1, 1, 0])}
    for problem, is_unique in ((unique, True), (free, False), (face, False)):
        problem = problem | ({} if is_unique else {"h": np.ones(3)})
        g, s = solve(problem)
        assert s.status == Status.SOLVED and s.info.derivative_unique == is_unique
        x, y, z = s.x, s.y, s.z
        expected = {"P": np.outer(x, x) / 2, "q": x, "G": np.outer(z, x), "h": -z, "A": np.outer(y, x), "b": -y,
                    "lb": s.z_lb, "ub": -s.z_ub}  # fmt: skip
        for name, value in expected.items():
            near(g[name], value, 1e-7)


@pytest.mark.core
def test_the_gradient_of_the_optimal_value_of_an_sdp_is_that_of_the_lagrangian():
    rng = np.random.default_rng(0)
    F = rng.normal(size=(3, 3, 3))
    F = (F + F.transpose(0, 2, 1)) / 2 + np.eye(3) * np.array([3.0, 0, 0])[:, None, None]
    c = np.array([np.trace(F[1]), np.trace(F[2])])  # Z = I is feasible
    g, s = value_and_gradient(lambda d: cj.solve_sdp(c=d["c"], F=d["F"]))({"c": c, "F": F})
    assert s.status == Status.SOLVED
    near(g["c"], s.x)
    near(g["F"], -np.r_[1, s.x][:, None, None] * np.asarray(s.z))
    data = {"C": F[0], "A": F[1:], "b": c}
    g, s = value_and_gradient(lambda d: cj.solve_sdp(d["C"], d["A"], d["b"]))(data)
    assert s.status == Status.SOLVED
    near(g["C"], s.x)
    near(g["b"], -s.y)
    near(g["A"], np.asarray(s.y)[:, None, None] * np.asarray(s.x))


# ----------------------------------------------------------------------------- smoothed derivatives


@pytest.mark.core
def test_the_central_path_of_a_bound():
    """min 1/2 (x - t)^2, x >= 0: x = (t + sqrt(t^2 + 4 mu))/2, whatever the units of the data."""

    def x(t, mu, unit):
        options = cj.Options(tolerance=1e-11, derivative="smoothed", smoothing=mu * unit)
        return cj.solve_qp(unit * jnp.eye(1), -unit * t[None], G=-unit * jnp.eye(1), h=jnp.zeros(1), options=options).x[
            0
        ]

    t, mu, unit = (v.ravel() for v in np.meshgrid([-2.0, -0.1, 0.3, 2.0], [1e-1, 1e-3, 1e-6], [1.0, 1e3, 1e-3]))
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(x)))(t, mu, unit)
    near(value, np.maximum(t, 0), 1e-6)
    near(slope, (1 + t / np.sqrt(t**2 + 4 * mu)) / 2, 1e-8)


@pytest.mark.core
def test_the_central_path_of_a_linear_program():
    """min c'x, sum x = 1, x >= 0: x_i = mu/(c_i + y)."""

    def x(c, mu):
        options = cj.Options(derivative="smoothed", smoothing=mu)
        return cj.solve_lp(c, A=np.ones((1, 3)), b=np.ones(1), lb=0.0, options=options).x

    c = np.array([1.0, 1.5, 3.0])
    for mu in (0.5, 0.05):
        low, high = -c.min() + 1e-12, -c.min() + 10 * mu
        for _ in range(200):
            y = (low + high) / 2
            low, high = (y, high) if (mu / (c + y)).sum() > 1 else (low, y)
        w = mu / (c + y) ** 2  # dx_i = -w_i (dc_i + dy), sum dx = 0
        expected = np.outer(w, w) / w.sum() - np.diag(w)
        near(central_lp(x)(c, mu), expected, 1e-7)


def central_lp(x, cache={}):  # noqa: B006
    return cache.setdefault("run", jax.jit(jax.jacrev(x)))


SMOOTH_CONES = (cj.Nonnegative(2), cj.SecondOrder(3), cj.PSD(2), cj.Exponential())


def central_x(P, q, A, b, mu):
    """x of the central path, by damped Newton steps on 1/2 (q + A'z)'P^-1(q + A'z) + b'z + mu f*(z)."""
    ends = np.cumsum([0, *(cone.rows for cone in SMOOTH_CONES)])
    parts = lambda z: [z[i:j] for i, j in itertools.pairwise(ends)]
    barrier = lambda z: sum(cone.dual_barrier(part) for cone, part in zip(SMOOTH_CONES, parts(z), strict=True))

    def dual(z, mu):
        right = q + A.T @ z
        return (right @ jnp.linalg.solve(P, right) / 2 + b @ z) / mu + barrier(z)

    def newton(k, z):  # along the path, down to mu
        now = jnp.maximum(mu, 0.8**k)
        gradient = jax.grad(dual)(z, now)
        step = jnp.linalg.solve(jax.hessian(dual)(z, now), gradient)
        decrement = jnp.sqrt(jnp.abs(gradient @ step))
        return z - step / (1 + jnp.where(decrement > 0.1, decrement, 0))

    z = jnp.concatenate([cone.start(q.dtype) for cone in SMOOTH_CONES])
    z = jax.lax.fori_loop(0, 150, newton, z)
    return -jnp.linalg.solve(P, q + A.T @ z)


@pytest.mark.core
def test_the_central_path_of_several_cones():
    rng = np.random.default_rng(0)
    n, rows = 3, sum(cone.rows for cone in SMOOTH_CONES)
    root, A, x = rng.normal(size=(n, n)), rng.normal(size=(rows, n)), rng.normal(size=n)
    b = A @ x + 0.3 * np.concatenate([interior(rng, cone) for cone in SMOOTH_CONES])
    data = (root @ root.T / n + np.eye(n), 3 * rng.normal(size=n), A, b)
    direction = tuple(rng.normal(size=v.shape) for v in data)
    direction = ((direction[0] + direction[0].T) / 2, *direction[1:])
    mus = np.array([1.0, 1e-2, 1e-4])

    def gradients(mu):
        options = cj.Options(tolerance=1e-11, derivative="smoothed", smoothing=mu)
        solve = lambda *data: cj.solve_conic(*data, SMOOTH_CONES, options=options).x
        return jax.jacrev(solve, (0, 1, 2, 3))(*data)

    jacobians = jax.jit(jax.vmap(gradients))(mus)
    got = sum(np.tensordot(J, d, d.ndim) for J, d in zip(jacobians, direction, strict=True))
    moved = lambda t, mu: central_x(*(v + t * d for v, d in zip(data, direction, strict=True)), mu)
    steps = 1e-4 * np.array([-2.0, -1, 1, 2])
    values = jax.jit(jax.vmap(jax.vmap(moved, (0, None)), (None, 0)))(steps, mus)
    expected = np.einsum("s,ksn->kn", np.array([1.0, -8, 8, -1]) / 12e-4, values)
    near(got, expected, 1e-5)
