"""`linprog` and `nnls` give SciPy's results, and are JAX functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from convexjax.interop.scipy import linprog, nnls

RNG = np.random.default_rng(0)
C, A_UB, B_UB = np.array([-1.0, -2.0, 0.5, 1.0]), RNG.normal(size=(3, 4)), np.array([1.0, 2.0, 1.5])
A_EQ, B_EQ = np.array([[1.0, 1.0, 1.0, 1.0]]), np.array([1.0])


@pytest.mark.parametrize(
    "bounds",
    [(0, None), None, (-1.0, 2.0), [(0, 1), (None, 3), (-1, None), (0.5, 0.75)], np.tile([-1.0, 1.0], (4, 1))],
    ids=["default", "none", "pair", "pairs", "array"],
)
def test_linprog(bounds):
    ours = linprog(C, A_UB, B_UB, A_EQ, B_EQ, bounds)
    theirs = scipy.optimize.linprog(C, A_UB, B_UB, A_EQ, B_EQ, bounds, method="highs")
    assert bool(ours.success) and int(ours.status) == theirs.status == 0
    for name in ("x", "fun", "slack", "con"):
        np.testing.assert_allclose(getattr(ours, name), getattr(theirs, name), atol=1e-6)
    for name in ("ineqlin", "eqlin", "lower", "upper"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        np.testing.assert_allclose(mine.residual, other.residual, atol=1e-6)
        np.testing.assert_allclose(mine.marginals, other.marginals, atol=1e-6)


@pytest.mark.parametrize("c, b, status", [([1.0, 1.0], [-1.0], 2), ([-1.0, 0.0], [1.0], 3)])
def test_statuses(c, b, status):
    A = [[1.0, 1.0]] if status == 2 else [[-1.0, 1.0]]
    ours, theirs = linprog(c, A, b), scipy.optimize.linprog(c, A, b)
    assert int(ours.status) == theirs.status == status and not bool(ours.success)


def test_linprog_is_a_function():
    batch = jnp.stack([B_EQ, 2 * B_EQ])
    solve = jax.jit(jax.vmap(lambda b: linprog(C, A_UB, B_UB, A_EQ, b, (0, 1.5))))
    results = solve(batch)
    for i in range(2):
        theirs = scipy.optimize.linprog(C, A_UB, B_UB, A_EQ, batch[i], (0, 1.5))
        np.testing.assert_allclose(results.fun[i], theirs.fun, atol=1e-7)
    gradient = jax.grad(lambda b: linprog(C, A_UB, B_UB, A_EQ, b, (0, 1.5)).fun)(jnp.asarray(B_EQ))
    np.testing.assert_allclose(gradient, results.eqlin.marginals[0], atol=1e-6)


def test_wrong_bounds():
    with pytest.raises(ValueError, match=r"bounds must be a pair, or a sequence of 4 pairs"):
        linprog(C, bounds=[0, 1, 2])
    with pytest.raises(ValueError, match=r"a pair for each of the 4 entries of c, got 3 pairs"):
        linprog(C, bounds=[(0, 1)] * 3)
    with pytest.raises(ValueError, match=r"bounds has shape \(2, 4\)|bounds must have shape"):
        linprog(C, bounds=np.zeros((2, 4)))


def test_nnls():
    A, b = RNG.normal(size=(8, 4)), RNG.normal(size=8)
    x, residual = nnls(A, b)
    wanted, norm = scipy.optimize.nnls(A, b)
    np.testing.assert_allclose(x, wanted, atol=1e-7)
    np.testing.assert_allclose(residual, norm, rtol=1e-8)
    gradient = jax.grad(lambda b: nnls(A, b)[1])(jnp.asarray(b))
    np.testing.assert_allclose(gradient, (b - A @ wanted) / norm, atol=1e-6)
