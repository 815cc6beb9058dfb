"""Convex problems as layers: optimality by NumPy, derivatives by differences, transforms, failed lanes."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

import convexjax as cj
from convexjax import layers

RNG = np.random.default_rng(3)
V = jnp.asarray(RNG.normal(size=6))
# a weighted sum reads every output
READ = jnp.asarray(RNG.normal(size=6))

LAYERS = {
    "simplex": lambda v: layers.simplex(2 * v, 1.5),
    "sparsemax": layers.sparsemax,
    "entmax": layers.entmax,
    "entmax 1.2": lambda v: layers.entmax(v, 1.2),
    "isotonic": layers.isotonic,
    "isotonic falling, weights": lambda v: layers.isotonic(v, jnp.arange(1, 7, dtype=v.dtype), increasing=False),
    "soft_sort": lambda v: layers.soft_sort(v, 0.7),
    "soft_rank": lambda v: layers.soft_rank(v, 0.4),
    "soft_top_k": lambda v: layers.soft_top_k(v, 3, 0.8),
    "permutahedron": lambda v: layers.permutahedron(v, jnp.cos(v)),
}


STEP = 1e-5


def differences(values):
    """Central differences of fourth order, from the values at the points of `nearby`."""
    at = np.asarray(values)[1:].reshape(4, 6, *values.shape[1:])
    return np.moveaxis((8 * (at[0] - at[1]) - (at[2] - at[3])) / (12 * STEP), 0, -1)


def nearby(v):
    """v, and v moved along each axis by 1, -1, 2 and -2 steps."""
    return jnp.concatenate([v[None], *(v + t * STEP * jnp.eye(6) for t in (1, -1, 2, -2))])


@pytest.mark.parametrize("name", LAYERS)
def test_derivatives_and_transforms(name):
    layer = LAYERS[name]

    def everything(v):
        return layer(v), jax.jacrev(layer)(v), jax.jacfwd(layer)(v), jax.hessian(lambda v: layer(v) @ READ)(v)

    x, reverse, forward, second = jax.jit(jax.vmap(everything))(nearby(V))
    np.testing.assert_allclose(reverse[0], differences(x), atol=1e-7)
    np.testing.assert_allclose(forward, reverse, atol=1e-10)
    np.testing.assert_allclose(second[0], differences(READ @ reverse), atol=1e-6)
    small = jax.jit(layer)(V.astype(jnp.float32))
    assert small.dtype == jnp.float32
    np.testing.assert_allclose(small, x[0], atol=3e-5)


# ----------------------------------------------------------------------------- values


def test_simplex_is_the_projection():
    for scale in (0.1, 1.0, 10.0):
        v = scale * RNG.normal(size=(4, 7))
        x = np.asarray(layers.simplex(v, 2.0))
        assert x.min() >= 0
        np.testing.assert_allclose(x.sum(1), 2.0, rtol=1e-12)
        # x - v is one number where x > 0 and no less elsewhere
        shift = np.array([(row - own)[row > 0].mean() for row, own in zip(x, v, strict=True)])
        np.testing.assert_allclose(np.where(x > 0, x - v - shift[:, None], 0), 0, atol=1e-12)
        assert (x - v >= shift[:, None] - 1e-12).all()


@pytest.mark.parametrize("alpha", [1.0001, 1.2, 1.5, 1.9, 2.0])
def test_entmax_satisfies_its_optimality_conditions(alpha):
    v = 3 * RNG.normal(size=(5, 8))
    p = np.asarray(layers.entmax(v, alpha))
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-9)
    # v_j - p_j^(alpha-1) / (alpha - 1) is one number where p > 0, and v_j is no larger elsewhere
    level = v - p ** (alpha - 1) / (alpha - 1)
    most = np.where(p > 0, level, -np.inf).max(1, keepdims=True)
    np.testing.assert_allclose(np.where(p > 1e-12, level - most, 0), 0, atol=1e-7)
    assert (v <= most + 1e-7)[p == 0].all()
    if alpha == 2.0:
        np.testing.assert_allclose(p, layers.sparsemax(v), atol=1e-9)
    if alpha < 1.01:
        np.testing.assert_allclose(p, jax.nn.softmax(v), atol=2e-3)


def test_isotonic_is_what_a_quadratic_program_finds():
    for n in (1, 9):
        y, w = RNG.normal(size=n), RNG.uniform(0.5, 2, n)
        G = np.eye(n - 1, n) - np.eye(n - 1, n, 1)
        expected = cj.solve_qp(np.diag(w), -w * y, G=G, h=np.zeros(n - 1)).x if n > 1 else y
        np.testing.assert_allclose(layers.isotonic(y, w), expected, atol=1e-7)
    ordered = np.sort(RNG.normal(size=50))
    np.testing.assert_array_equal(layers.isotonic(ordered), ordered)
    np.testing.assert_allclose(layers.isotonic(ordered[::-1].copy()), np.full(50, ordered.mean()), rtol=1e-12)


def test_permutahedron_is_the_projection():
    """z - x makes no larger product with any rearrangement of w than with x."""
    w, z = RNG.normal(size=5), 2 * RNG.normal(size=5)
    x = np.asarray(layers.permutahedron(z, w))
    corners = np.array([w[list(order)] for order in permutations(range(5))])
    assert (corners @ (z - x)).max() <= x @ (z - x) + 1e-10
    # within the hull: sums of the largest k are at most those of w
    assert (np.cumsum(np.sort(x)[::-1]) <= np.cumsum(np.sort(w)[::-1]) + 1e-10).all()
    np.testing.assert_allclose(x.sum(), w.sum(), rtol=1e-10)


def test_sorting_ranking_and_choosing_are_exact_for_small_strengths():
    v = np.asarray(V)
    np.testing.assert_allclose(layers.soft_sort(v, 1e-3), np.sort(v), atol=1e-12)
    np.testing.assert_allclose(layers.soft_rank(v, 1e-3), np.argsort(np.argsort(v)) + 1, atol=1e-12)
    largest = np.zeros(6)
    largest[np.argsort(v)[-2:]] = 1
    np.testing.assert_allclose(layers.soft_top_k(v, 2, 1e-3), largest, atol=1e-12)
    np.testing.assert_allclose(layers.soft_rank(v, 1e6), np.full(6, 3.5), atol=1e-5)
    np.testing.assert_allclose(layers.soft_top_k(v, 0), 0, atol=1e-15)


def test_transport_is_the_linear_program():
    cost, a, b = jnp.asarray(RNG.uniform(size=(3, 4))), np.array([0.2, 0.5, 0.3]), np.full(4, 0.25)

    def value(cost, b):
        moved = layers.optimal_transport(cost, a, b)
        return moved.objective, moved

    solve = jax.jit(jax.value_and_grad(value, has_aux=True))
    (_, moved), slope = solve(cost, b)
    sums = np.concatenate([np.kron(np.eye(3), np.ones(4)), np.kron(np.ones(3), np.eye(4))])
    best = linprog(cost.ravel(), A_eq=sums, b_eq=np.concatenate([a, b]))
    np.testing.assert_allclose(moved.objective, best.fun, atol=1e-7)
    np.testing.assert_allclose(moved.x.sum(1), a, atol=1e-7)
    np.testing.assert_allclose(slope, moved.x, atol=1e-6)
    smooth = jax.jit(jax.value_and_grad(lambda cost: layers.optimal_transport(cost, a, b, smoothing=0.5).x[0, 1]))
    # a direction is enough
    D = RNG.normal(size=(3, 4))
    quotient = (smooth(cost + 1e-4 * D)[0] - smooth(cost - 1e-4 * D)[0]) / 2e-4
    np.testing.assert_allclose(jnp.sum(smooth(cost)[1] * D), quotient, atol=1e-5)
    assert solve(cost, 2 * b)[0][1].status == cj.Status.PRIMAL_INFEASIBLE


@pytest.mark.parametrize("shape", [(9,), (3, 4)])
def test_total_variation_is_optimal_and_its_weights_learnable(shape):
    y = RNG.normal(size=shape)
    D = np.asarray(layers.total_variation.__globals__["_differences"](shape))
    w = RNG.uniform(0.1, 0.5, len(D))

    def energy(w):
        found = layers.total_variation(y, w)
        return jnp.sum(found.x**2), found

    solve = jax.jit(jax.value_and_grad(energy, has_aux=True))
    (_, found), slope = solve(jnp.asarray(w))
    x, u = np.asarray(found.x).ravel(), np.asarray(found.z)
    assert found.status == cj.Status.SOLVED
    # x + D'u = y with u in w times the subdifferential of |Dx|
    np.testing.assert_allclose(x + D.T @ u, y.ravel(), atol=1e-7)
    assert (abs(u) <= w + 1e-7).all()
    np.testing.assert_allclose(w @ abs(D @ x), u @ D @ x, atol=1e-6)
    step = RNG.normal(size=len(w))
    quotient = (solve(w + 1e-4 * step)[0][0] - solve(w - 1e-4 * step)[0][0]) / 2e-4
    np.testing.assert_allclose(slope @ step, quotient, rtol=1e-3, atol=1e-5)


# ----------------------------------------------------------------------------- decisions and failed lanes


def shortest(c):
    """The cheapest of three ways."""
    return cj.solve_lp(c, A=jnp.ones((1, 3)), b=jnp.ones(1), lb=0.0)


def test_decision_loss_bounds_the_regret_and_is_convex():
    costs = jnp.asarray(RNG.uniform(1, 2, (6, 3)))
    cost = jnp.array([1.0, 1.2, 1.5])
    loss = jax.jit(jax.vmap(lambda p: layers.decision_loss(shortest, p, cost)))
    lost = jax.jit(jax.vmap(lambda p: layers.regret(shortest, p, cost)))
    middle = (costs[:3] + costs[3:]) / 2
    values = loss(jnp.concatenate([costs, middle]))
    assert bool(jnp.all(values[:6] >= lost(costs) - 1e-6))
    assert bool(jnp.all(values[6:] <= (values[:3] + values[3:6]) / 2 + 1e-6))
    np.testing.assert_allclose(lost(costs), cost[jnp.argmin(costs, 1)] - 1.0, atol=1e-6)
    # the derivative is twice the difference of the decisions for c and for 2p - c
    predicted = jnp.array([2.0, 1.0, 3.0])
    slope = jax.grad(lambda p: layers.decision_loss(shortest, p, cost))(predicted)
    np.testing.assert_allclose(slope, [2.0, -2.0, 0.0], atol=1e-5)


def test_lanes_without_a_solution_do_not_reach_the_parameters():
    data = jnp.array([[1.0, 2.0], [1.0, -1.0], [1.0, jnp.nan]])  # fine, infeasible, NaN

    def loss(theta, data):
        solve = jax.vmap(lambda d: cj.solve_qp(jnp.eye(2), theta * d[0] * jnp.ones(2), lb=jnp.zeros(2), ub=d[1]))
        x, solved = layers.masked(solve(data))
        return layers.mean_of_solved(jnp.sum((x - 0.5) ** 2, 1), solved)

    together, alone = (jax.value_and_grad(loss)(jnp.array(-1.0), rows) for rows in (data, data[:1]))
    np.testing.assert_allclose(together, alone, rtol=1e-9)
    np.testing.assert_allclose(together, [0.5, -2.0], atol=1e-6)
    none = jax.value_and_grad(loss)(jnp.array(-1.0), data[1:2])
    assert none == (0.0, 0.0)


# ----------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layers.simplex(1.0), "v has shape"),
        (lambda: layers.entmax(V, 2.5), "alpha"),
        (lambda: layers.isotonic(jnp.ones((2, 2))), "y has shape"),
        (lambda: layers.isotonic(V, jnp.ones(2)), "weights has shape"),
        (lambda: layers.isotonic(jnp.zeros(0)), "empty"),
        (lambda: layers.soft_rank(V, 0.0), "strength"),
        (lambda: layers.soft_top_k(V, 7), "k must be"),
        (lambda: layers.permutahedron(V, V[:3]), "w has shape"),
        (lambda: layers.optimal_transport(jnp.ones((2, 3)), jnp.ones(3), jnp.ones(3)), "a has shape"),
        (lambda: layers.optimal_transport(jnp.ones((1, 1)), [1.0], [1.0], smoothing=-1.0), "smoothing"),
        (lambda: layers.total_variation(jnp.ones((2, 2, 2)), 1.0), "y has shape"),
        (lambda: layers.total_variation(V, jnp.ones(6)), "weights has shape"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
