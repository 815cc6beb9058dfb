"""Relaxations against values that are known, and against brute force."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import near

import convexjax as cj
from convexjax import relaxations

Status = cj.Status


def cycle(n):
    return np.roll(np.eye(n), 1, 1) + np.roll(np.eye(n), -1, 1)


def test_max_cut():
    rng = np.random.default_rng(0)
    W = np.triu(rng.uniform(size=(9, 9)) * (rng.uniform(size=(9, 9)) < 0.6), 1)
    W = W + W.T
    cut = relaxations.max_cut(W, jax.random.key(0))
    assert cut.solution.status == Status.SOLVED
    signs = np.array(list(product([-1, 1], repeat=9)))
    best = np.max(np.sum(W * (1 - signs[:, :, None] * signs[:, None]), (1, 2)) / 4)
    side = np.asarray(cut.side)
    near(cut.value, np.sum(W * (1 - np.outer(side, side))) / 4)
    assert 0.878 * cut.bound <= cut.value <= best + 1e-9 <= cut.bound + 1e-6
    near(cut.value, best)
    # the bound's derivative is (1 - X_ij) / 2 for an edge
    gradient = jax.grad(lambda W: relaxations.max_cut(W, jax.random.key(0)).bound)(W)
    near(gradient, (1 - cut.solution.x) / 4, 1e-5)


def test_lovasz_theta():
    for n, theta in ((5, 5**0.5), (6, 3.0), (7, 7 * np.cos(np.pi / 7) / (1 + np.cos(np.pi / 7)))):
        near(-relaxations.lovasz_theta(cycle(n)).objective, theta)
    with pytest.raises(ValueError, match="adjacency is traced"):
        jax.jit(relaxations.lovasz_theta)(cycle(5))


def test_nearest_correlation():
    A = np.array([[2.0, -1, 0, 0], [-1, 2, -1, 0], [0, -1, 2, -1], [0, 0, -1, 2]])  # Higham, 2002
    X = np.array([[1, -0.8084, 0.1916, 0.1068], [-0.8084, 1, -0.6562, 0.1916], [0.1916, -0.6562, 1, -0.8084]])
    found = relaxations.nearest_correlation(A)
    near(found.x[:3], X, 1e-4)
    near(found.objective, np.sum((found.x - A) ** 2) / 2)


def test_complete_matrix():
    """A matrix of rank one from most of its entries."""
    rng = np.random.default_rng(0)
    M = np.outer(rng.uniform(1, 2, 4), rng.uniform(1, 2, 5))
    known = np.argwhere((np.arange(20) % 4 != 1).reshape(4, 5))
    found = relaxations.complete_matrix((4, 5), *known.T, M[tuple(known.T)])
    near(found.x, M, 1e-4)
    near(found.objective, np.linalg.norm(M, "nuc"), 1e-6)
    with pytest.raises(ValueError, match="more than once"):
        relaxations.complete_matrix((2, 2), [0, 0], [1, 1], [1.0, 2.0])


def test_minimum_volume_ellipsoid():
    points = np.random.default_rng(0).normal(size=(20, 2)) * [100.0, 0.01] + [5, 7]
    centre, shape, solution = relaxations.minimum_volume_ellipsoid(points)
    assert solution.status == Status.SOLVED
    distance = np.einsum("ni,ij,nj->n", points - centre, shape, points - centre)
    near(distance.max(), 1, 1e-6)
    near(distance[np.asarray(solution.x) > 1e-4], 1, 1e-5)


def test_common_lyapunov():
    rng = np.random.default_rng(0)
    systems = -np.eye(3) + 0.3 * rng.normal(size=(3, 3, 3))
    found = relaxations.common_lyapunov(systems)
    assert found.status == Status.SOLVED
    P = np.asarray(found.x)
    assert np.linalg.eigvalsh(P)[0] > 0
    for A in systems:
        assert np.linalg.eigvalsh(A.T @ P + P @ A)[-1] <= -1 + 1e-6
    unstable = relaxations.common_lyapunov([[[-1.0, 0], [0, 0.5]]])
    assert unstable.status == Status.PRIMAL_INFEASIBLE


def test_h_infinity_norm():
    rng = np.random.default_rng(1)
    A = rng.normal(size=(3, 3)) - 3 * np.eye(3)
    B, C, D = rng.normal(size=(3, 2)), rng.normal(size=(2, 3)), 0.1 * rng.normal(size=(2, 2))
    found = relaxations.h_infinity_norm(A, B, C, D)
    gains = [np.linalg.norm(C @ np.linalg.solve(1j * w * np.eye(3) - A, B) + D, 2) for w in np.linspace(0, 20, 20001)]
    near(float(found.objective) ** 0.5, max(gains), 1e-6)


POLYNOMIALS = {
    "motzkin": ({(4, 2): 1, (2, 4): 1, (2, 2): -3, (0, 0): 1}, 1, 0.0),
    "robinson": (
        {(6, 0): 1, (0, 6): 1, (4, 2): -1, (2, 4): -1, (4, 0): -1, (0, 4): -1, (2, 0): -1, (0, 2): -1, (2, 2): 3}
        | {(0, 0): 1},
        1,
        0.0,
    ),
    "three-hump camel": ({(2, 0): 2, (4, 0): -1.05, (6, 0): 1 / 6, (1, 1): 1, (0, 2): 1}, 0, 0.0),
    "six-hump camel": ({(2, 0): 4, (4, 0): -2.1, (6, 0): 1 / 3, (1, 1): 1, (0, 2): -4, (0, 4): 4}, 0, -1.031628453),
    "styblinski-tang": (
        {(4, 0): 0.5, (2, 0): -8, (1, 0): 2.5, (0, 4): 0.5, (0, 2): -8, (0, 1): 2.5},
        0,
        -78.33233140754282,
    ),
    "degree 10": ({(10, 0): 1, (0, 10): 1, (1, 1): -3, (0, 0): 2}, 0, None),
}


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials(name):
    p, multiplier, minimum = POLYNOMIALS[name]
    found = relaxations.minimize_polynomial(p, multiplier=multiplier)
    assert found.status == Status.SOLVED
    value = lambda x: sum(v * x[0] ** a * x[1] ** b for (a, b), v in p.items())
    grid = np.meshgrid(np.linspace(-3, 3, 301), np.linspace(-3, 3, 301))
    assert found.bound <= value(grid).min() + 1e-6
    if minimum is not None:
        near(found.bound, minimum, 1e-6)
    # w (p - gamma) = m'Qm at random points, Q psd: the certificate
    assert np.linalg.eigvalsh(found.gram)[0] >= -1e-9
    for x in np.random.default_rng(0).normal(size=(5, 2)):
        m = np.prod(x**found.monomials, 1)
        near(m @ found.gram @ m, (1 + x @ x) ** multiplier * (value(x) - found.bound), 1e-6)
    for x in found.minimisers:
        near(value(x), found.bound, 1e-5)
    expected = {"three-hump camel": 1, "six-hump camel": 2, "styblinski-tang": 1, "degree 10": 2}
    assert len(found.minimisers) == expected.get(name, 0)
    assert found.residual <= 1e-6
    if name == "styblinski-tang":  # nothing in the way of a certificate to rounding errors
        near(found.bound, minimum, 1e-14)
        assert found.residual <= 1e-12


def test_goldstein_price():
    """Its forms of degree 8 and 7 vanish along two lines, and so do all certificates of the bound."""
    times = lambda p, q: {
        key: sum(u * v for (a, b), u in p.items() for (c, d), v in q.items() if (a + c, b + d) == key)
        for key in {(a + c, b + d) for a, b in p for c, d in q}
    }
    plus = lambda number, p: p | {(0, 0): number + p[0, 0]}
    first, second = {(0, 0): 1, (1, 0): 1, (0, 1): 1}, {(0, 0): 0, (1, 0): 2, (0, 1): -3}
    left = {(0, 0): 19, (1, 0): -14, (2, 0): 3, (0, 1): -14, (1, 1): 6, (0, 2): 3}
    right = {(0, 0): 18, (1, 0): -32, (2, 0): 12, (0, 1): 48, (1, 1): -36, (0, 2): 27}
    p = times(plus(1, times(times(first, first), left)), plus(30, times(times(second, second), right)))
    found = relaxations.minimize_polynomial(p)
    assert found.status == Status.SOLVED
    near(found.bound, 3, 1e-9)
    near(found.minimisers, [[0, -1]], 1e-6)
    size = max(map(abs, p.values()))
    assert found.residual <= 1e-12 * size
    assert np.linalg.eigvalsh(found.gram)[0] >= -1e-14 * size


def test_polynomial_of_degree_four_in_eight_variables():
    unit = lambda i, power: tuple(power * (j == i) for j in range(8))
    p = {unit(i, power): value for i in range(8) for power, value in ((4, 0.5), (2, -8.0), (1, 2.5))}
    found = relaxations.minimize_polynomial(p)
    near(found.bound, 4 * -78.33233140754282, 1e-9)
    assert np.linalg.eigvalsh(found.gram)[0] >= -1e-9 and found.residual <= 1e-9


def test_polynomials_that_are_refused():
    with pytest.raises(ValueError, match="odd degree"):
        relaxations.minimize_polynomial({(3,): 1.0})
    with pytest.raises(ValueError, match="one length"):
        relaxations.minimize_polynomial({(2,): 1.0, (1, 1): 1.0})
    assert jnp.isfinite(relaxations.minimize_polynomial({(2,): 1.0, (1,): -2.0}).bound)
