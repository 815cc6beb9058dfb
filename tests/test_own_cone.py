"""A cone that a user writes: the rotated second-order cone, from the public names of `convexjax.cones` alone."""

from dataclasses import dataclass

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convexjax as cj
from convexjax.cones import Cone, pytree, static


@pytree
@dataclass(frozen=True)
class Rotated(Cone):
    """`count` copies of {(u, v, w): |w|^2 <= 2 u v, u, v >= 0}: the second-order cone turned by 45 degrees."""

    dim: int = static()
    count: int = static(default=1)

    @property
    def inner(self):
        return cj.SecondOrder(self.dim, self.count)

    @property
    def degree(self):
        return self.inner.degree

    def turn(self, v):
        u, t, w = jnp.split(self.copies(v), [1, 2], 1)
        return jnp.concatenate([(u + t) / np.sqrt(2), (u - t) / np.sqrt(2), w], 1).reshape(v.shape)

    def start(self, dtype):
        return self.turn(self.inner.start(dtype))

    def scaling(self, s, z):
        return self.inner.scaling(self.turn(s), self.turn(z))

    def spectral(self, spectrum, function, v):
        return self.turn(self.inner.spectral(spectrum, function, self.turn(v)))

    def hessian(self, scaling, v):
        return self.turn(self.inner.hessian(scaling, self.turn(v)))

    def correction(self, scaling, s, z, ds, dz, sigma_mu):
        return self.turn(self.inner.correction(scaling, *map(self.turn, (s, z, ds, dz)), sigma_mu))

    def max_step(self, scaling, s, z, ds, dz):
        return self.inner.max_step(scaling, *map(self.turn, (s, z, ds, dz)))

    def projection(self, v, mu):
        return self.turn(self.inner.projection(self.turn(v), mu))

    def spectrum(self, v, mu):
        return self.inner.spectrum(self.turn(v), mu)

    def near_kink(self, v, distance):
        return self.inner.near_kink(self.turn(v), distance)


N = 3
POLISHED = cj.Options(polish=True)


def shares(cost, total):
    """min sum cost_i / x_i, sum x = total: cost_i u_i with 2 u_i x_i >= 2, that is (u_i, x_i, sqrt 2) in the cone."""
    zero, eye = jnp.zeros((N, N)), jnp.eye(N)
    rows = jnp.stack([jnp.hstack([-eye, zero]), jnp.hstack([zero, -eye]), jnp.zeros((N, 2 * N))], 1).reshape(3 * N, -1)
    A = jnp.concatenate([rows, jnp.concatenate([jnp.zeros((1, N)), jnp.ones((1, N))], 1)])
    b = jnp.append(jnp.tile(jnp.array([0.0, 0.0, jnp.sqrt(2.0)]), N), total)
    return cj.solve_conic(
        None, jnp.concatenate([cost, jnp.zeros(N)]), A, b, [Rotated(3, N), cj.Zero(1)], options=POLISHED
    )


@pytest.fixture(scope="module")
def solve():
    return jax.jit(shares)


@pytest.mark.parametrize("total", [1.0, 2.5])
def test_closed_form(solve, total):
    cost = jnp.array([1.0, 4.0, 0.5])
    solution = solve(cost, total).require_solved()
    root = np.sqrt(np.asarray(cost))
    np.testing.assert_allclose(solution.x[N:], total * root / root.sum(), rtol=1e-8)
    np.testing.assert_allclose(solution.objective, root.sum() ** 2 / total, rtol=1e-7)
    u, v, w = np.asarray(solution.z[: 3 * N]).reshape(N, 3).T
    assert np.all(w**2 <= 2 * u * v + 1e-6) and np.all(u > 0)
    np.testing.assert_allclose(u, cost, rtol=1e-6)  # the dual equation of u_i


def test_without_room_it_is_infeasible(solve):
    solution = solve(jnp.ones(N), -1.0)
    assert int(solution.status) == cj.Status.PRIMAL_INFEASIBLE


def test_derivatives_and_batches(solve):
    cost, total = jnp.array([1.0, 4.0, 0.5]), 2.0
    x = jax.jit(lambda cost: shares(cost, total).x[N:])
    exact = lambda cost: total * jnp.sqrt(cost) / jnp.sum(jnp.sqrt(cost))
    expected = jax.jacfwd(exact)(cost)
    np.testing.assert_allclose(jax.jacfwd(x)(cost), expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(jax.jacrev(x)(cost), expected, rtol=1e-7, atol=1e-9)
    batch = jax.jit(jax.vmap(shares, (0, None)))(jnp.stack([cost, 2 * cost, jnp.ones(N)]), total).require_solved()
    chex.assert_trees_all_close(batch.x[:, N:], jnp.stack([exact(c) for c in (cost, 2 * cost, jnp.ones(N))]), rtol=1e-5)


def test_minimize_takes_it():
    """The point of a line with the largest geometric mean of two numbers."""
    cone = Rotated(3)
    rows = lambda x: -jnp.array([x[0], x[1], jnp.sqrt(2.0) * x[2]])
    solution = cj.minimize(
        lambda x: -x[2],
        jnp.array([0.5, 1.0, 0.1]),
        cones=[(rows, cone)],
        equalities=(jnp.array([[1.0, 3.0, 0.0]]), jnp.array([6.0])),
    ).require_solved()
    np.testing.assert_allclose(solution.x, [3.0, 1.0, np.sqrt(3.0)], rtol=1e-5)


def test_a_class_that_jax_does_not_know_is_refused():
    @dataclass(frozen=True)
    class Plain(cj.SecondOrder):
        pass

    with pytest.raises(ValueError, match=r"cones\[0\]: the class Plain is no pytree. Write @convexjax.cones.pytree"):
        cj.solve_conic(None, [1.0], [[-1.0]], [0.0], [Plain(1)])
    with pytest.raises(ValueError, match=r"cones\[0\]: the class Plain is no pytree"):
        cj.minimize(lambda x: x[0], jnp.ones(1), cones=[(lambda x: -x, Plain(1))])
