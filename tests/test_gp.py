"""`solve_gp`: solutions certified by independent NumPy code, statuses, derivatives against differences, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from jax.experimental import sparse

import convexjax as cj

# A box, and two bounds on its shape of which one binds.
EXPONENTS = np.array([[-1.0, -1, -1], [1, 1, 0], [1, 0, 1], [0, 1, 1], [1, -1, 0], [-1, 1, 0]])
LOG_COEFFICIENTS = np.log([1, 2 / 200, 2 / 200, 1 / 50, 1.3, 0.4])
SEGMENTS = [0, 1, 1, 2, 3, 4]


def posynomials(exponents, log_coefficients, segments, log_x):
    """Logarithms of all posynomials, and the share of each term in its own."""
    t, segments = exponents @ log_x + log_coefficients, np.asarray(segments)
    parts = [t[segments == i] for i in range(max(segments) + 1)]
    F = np.array([np.max(part) + np.log(np.sum(np.exp(part - np.max(part)))) for part in parts])
    return F, np.exp(t - F[segments])


def certify(exponents, log_coefficients, segments, solution, equalities=(), tolerance=1e-8):
    """Assert that the solution satisfies the optimality conditions in log space."""
    exponents = exponents.toarray() if scipy.sparse.issparse(exponents) else np.asarray(exponents)
    assert cj.Status(int(solution.status)) == cj.Status.SOLVED, solution.info
    F, share = posynomials(exponents, log_coefficients, segments, np.asarray(solution.log_x))
    z, is_equation = np.asarray(solution.z), np.isin(np.arange(1, len(F)), equalities)
    assert np.max(F[1:], initial=0) <= tolerance and np.max(np.abs(F[1:][is_equation]), initial=0) <= tolerance
    assert np.min(z[~is_equation], initial=0) >= 0
    weights = np.concatenate([[1], z])[np.asarray(segments)] * share
    size = np.max(np.abs(exponents).T @ np.abs(weights))
    assert np.max(np.abs(exponents.T @ weights)) <= tolerance * size
    assert abs(z @ F[1:]) <= tolerance * max(1, abs(F[0]))
    assert abs(float(solution.log_objective) - F[0]) <= 1e-12 * max(1, abs(F[0]))
    np.testing.assert_allclose(solution.term_sensitivities, weights, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(solution.s, -F[1:], rtol=1e-9, atol=1e-9)


def certify_infeasible(exponents, log_coefficients, segments, solution, equalities=(), tolerance=1e-7):
    """Assert that the weights of the terms prove that sum_i z_i F_i >= 1 everywhere."""
    assert cj.Status(int(solution.status)) == cj.Status.PRIMAL_INFEASIBLE, solution.info
    d, segments = np.asarray(solution.term_sensitivities), np.asarray(segments)
    assert np.all(d[segments == 0] == 0)
    total, is_equation = np.bincount(segments, d)[segments], np.isin(segments, equalities)
    assert np.min(d[~is_equation]) >= 0
    own = (segments > 0) & ~is_equation & (d > 0)
    value = d @ log_coefficients - d[own] @ np.log(d[own] / total[own])
    assert abs(value - 1) <= 1e-6 and np.max(np.abs(np.asarray(exponents).T @ d)) <= tolerance
    assert solution.objective == np.inf


def box(exponents=EXPONENTS, log_coefficients=LOG_COEFFICIENTS, **more):
    return cj.solve_gp(exponents, log_coefficients, SEGMENTS, **more)


@pytest.mark.core
def test_box():
    solution = box()
    certify(EXPONENTS, LOG_COEFFICIENTS, SEGMENTS, solution)
    np.testing.assert_allclose(solution.x[0] / solution.x[1], 1 / 1.3, rtol=1e-8)
    np.testing.assert_allclose(solution.objective, 1 / np.prod(solution.x), rtol=1e-10)


def test_warm_start_takes_fewer_steps():
    near = box(log_coefficients=LOG_COEFFICIENTS + 1e-3, warm_start=box())
    certify(EXPONENTS, LOG_COEFFICIENTS + 1e-3, SEGMENTS, near)
    bad = box(warm_start=jax.tree.map(lambda leaf: leaf * jnp.nan if leaf.dtype == float else leaf, box()))
    certify(EXPONENTS, LOG_COEFFICIENTS, SEGMENTS, bad)
    assert int(near.info.num_iters) < int(bad.info.num_iters)


def test_float32():
    solution = box(EXPONENTS.astype(np.float32), LOG_COEFFICIENTS.astype(np.float32))
    assert solution.x.dtype == np.float32 and solution.status == int(cj.Status.SOLVED)
    np.testing.assert_allclose(solution.log_x, box().log_x, atol=1e-4)


@pytest.fixture(scope="module")
def random_program():
    """Sparse, with a term and its inverse for each variable in the objective, constraints and equations."""
    rng = np.random.default_rng(3)
    n, m, p = 70, 25, 3
    normal = lambda size: rng.normal(size=size)
    rows = scipy.sparse.random(3 * m, n, 0.05, "csr", random_state=rng, data_rvs=normal)
    equations = scipy.sparse.random(p, n, 0.1, "csr", random_state=rng, data_rvs=normal)
    eye = scipy.sparse.eye(n)
    exponents = scipy.sparse.vstack([eye, -eye, rows, equations]).tocsr()
    y = rng.normal(size=n)
    log_coefficients = np.concatenate([np.zeros(2 * n), np.log(0.3) - rows @ y, -(equations @ y)])
    segments = np.concatenate([np.zeros(2 * n, int), np.repeat(np.arange(1, m + 1), 3), m + 1 + np.arange(p)])
    order = rng.permutation(segments.size)
    return exponents[order], log_coefficients[order], segments[order], [m + 1 + i for i in range(p)]


def test_sparse_equals_dense(random_program):
    exponents, log_coefficients, segments, equalities = random_program
    of_scipy = cj.solve_gp(exponents, log_coefficients, segments, equalities=equalities)
    certify(exponents, log_coefficients, segments, of_scipy, equalities)
    dense = cj.solve_gp(exponents.toarray(), log_coefficients, segments, equalities=equalities)
    certify(exponents, log_coefficients, segments, dense, equalities)
    of_bcoo = cj.solve_gp(sparse.BCOO.from_scipy_sparse(exponents), log_coefficients, segments, equalities=equalities)
    np.testing.assert_allclose(of_bcoo.log_x, dense.log_x, atol=1e-7)


def test_sparse_derivatives_equal_dense(random_program):
    exponents, log_coefficients, segments, equalities = random_program
    weights = np.linspace(-1, 1, exponents.shape[1])
    bcoo = sparse.BCOO.from_scipy_sparse(exponents)

    def of_sparse(values, b):
        A = sparse.BCOO((values, bcoo.indices), shape=bcoo.shape)
        return cj.solve_gp(A, b, segments, equalities=equalities).log_x @ weights

    def of_dense(A, b):
        return cj.solve_gp(A, b, segments, equalities=equalities).log_x @ weights

    values, b = jax.grad(of_sparse, (0, 1))(bcoo.data, log_coefficients)
    dense, b_dense = jax.grad(of_dense, (0, 1))(exponents.toarray(), log_coefficients)
    np.testing.assert_allclose(b, b_dense, atol=1e-6)
    np.testing.assert_allclose(values, np.asarray(dense)[tuple(np.asarray(bcoo.indices).T)], atol=1e-6)


# ----------------------------------------------------------------------------- derivatives


def outputs(exponents, log_coefficients):
    solution = box(exponents, log_coefficients)
    return jnp.concatenate([solution.log_objective[None], solution.log_x, solution.z, solution.term_sensitivities])


def test_derivatives_and_sensitivities():
    jacobians = jax.jacfwd(outputs, (0, 1))(EXPONENTS, LOG_COEFFICIENTS)
    reverse = jax.jacrev(outputs, (0, 1))(EXPONENTS, LOG_COEFFICIENTS)
    step = 1e-5
    for which, (data, found, other) in enumerate(zip((EXPONENTS, LOG_COEFFICIENTS), jacobians, reverse, strict=True)):
        moves = step * np.eye(data.size).reshape(-1, *data.shape)
        at = lambda moved: outputs(moved, LOG_COEFFICIENTS) if which == 0 else outputs(EXPONENTS, moved)  # noqa: B023
        differences = (jax.vmap(at)(data + moves) - jax.vmap(at)(data - moves)).T / (2 * step)
        np.testing.assert_allclose(found.reshape(found.shape[0], -1), differences, atol=1e-6)
        np.testing.assert_allclose(other, found, atol=1e-10)
    solution = box()
    np.testing.assert_allclose(jacobians[1][0], solution.term_sensitivities, atol=1e-9)
    np.testing.assert_allclose(
        np.asarray(jacobians[1][0])[[1, 3, 4, 5]] + np.array([np.asarray(jacobians[1][0])[2], 0, 0, 0]),
        solution.z,
        atol=1e-9,
    )


def test_hessian_of_the_optimum():
    # two costs against each other: log(c0 x + c1 / x) is log(2) + (b0 + b1) / 2; with weights 1 and 2 it is curved
    optimum = lambda b: cj.solve_gp([[1.0], [-2.0], [0.0]], b, [0, 0, 0]).log_objective
    b, step = jnp.asarray([0.1, -0.2, 0.3]), 1e-5
    hessian = jax.hessian(optimum)(b)
    differences = np.stack([jax.grad(optimum)(b + e) - jax.grad(optimum)(b - e) for e in step * np.eye(3)]) / (2 * step)
    assert np.max(np.abs(hessian)) > 0.1
    np.testing.assert_allclose(hessian, differences, atol=1e-6)


def test_a_failed_lane_leaves_the_others_alone():
    lanes = np.stack([LOG_COEFFICIENTS, LOG_COEFFICIENTS * np.nan, LOG_COEFFICIENTS + 0.1])
    optimum = lambda b: box(log_coefficients=b).log_objective
    status = jax.vmap(lambda b: box(log_coefficients=b).status)(lanes)
    assert status.tolist() == [cj.Status.SOLVED, cj.Status.NUMERICAL_ERROR, cj.Status.SOLVED]
    gradients = jax.vmap(jax.grad(optimum))(lanes)
    assert np.all(gradients[1] == 0)
    np.testing.assert_allclose(gradients[2], box(log_coefficients=lanes[2]).term_sensitivities, atol=1e-9)


# ----------------------------------------------------------------------------- statuses


def test_nearly_degenerate():
    # gates whose sizes end at corners: multipliers and their slacks both go to 0, and the gap must not run ahead
    examples = pytest.importorskip("benchmarks.gp_examples")
    E, b, segments, equalities = examples.circuit(16.0, 51.29032258064516, *examples.random_network(8, 1)).arrays()
    solution = cj.solve_gp(E, b, segments, equalities=equalities)
    certify(E.todense(), b, segments, solution, equalities)
    assert int(solution.info.num_iters) <= 20


def test_infeasible():
    exponents, b, segments = [[1.0], [-1], [1]], np.log([1, 2, 0.6]), [0, 1, 2]
    certify_infeasible(exponents, b, segments, cj.solve_gp(exponents, b, segments))


def test_contradictory_equations():
    exponents, b, segments = [[1.0], [1], [1]], np.log([1, 0.5, 0.4]), [0, 1, 2]
    solution = cj.solve_gp(exponents, b, segments, equalities=[1, 2])
    certify_infeasible(exponents, b, segments, solution, [1, 2])


def test_redundant_equations():
    exponents, b = [[1.0, 0], [0, 1], [1, 1], [2, 2]], np.log([1, 1, 0.25, 0.0625])
    solution = cj.solve_gp(exponents, b, [0, 0, 1, 2], equalities=[1, 2])
    certify(np.array(exponents), b, [0, 0, 1, 2], solution, [1, 2])
    np.testing.assert_allclose(solution.x, [2, 2], rtol=1e-7)


def test_unbounded_names_the_variable():
    # x y may fall without end while x / y <= 1: both go to zero
    solution = cj.solve_gp([[1.0, 1], [1, -1]], np.zeros(2), [0, 1])
    assert cj.Status(int(solution.status)) == cj.Status.DUAL_INFEASIBLE and solution.objective == 0
    x, y = np.asarray(solution.log_x)
    assert x + y <= -1 + 1e-9 and x - y <= 1e-8 and x < 0 and y < 0


def test_terms_that_overflow():
    # x = e^-900, the terms e^800 x and e^-850 / x
    exponents, b = np.array([[1.0, 0], [-1, -1], [0, 1]]), np.array([800.0, 900, -3])
    solution = cj.solve_gp(exponents, b, [0, 0, 1])
    certify(exponents, b, [0, 0, 1], solution)
    assert solution.objective == np.inf and np.isfinite(solution.log_objective)


def test_edges():
    assert int(cj.solve_gp(np.zeros((1, 2)), [1.0], [0]).status) == cj.Status.SOLVED
    stopped = box(options=cj.Options(max_iters=1))
    assert int(stopped.status) == cj.Status.MAX_ITERATIONS and np.all(np.isfinite(stopped.x))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"segment_ids": [1, 1, 1, 2, 3, 4]}, "must start at 0"),
        ({"segment_ids": [0, 1, 1, 2, 2, 4]}, "no term of posynomial 3"),
        ({"segment_ids": [0, 1]}, "segment_ids has shape"),
        ({"segment_ids": [0.0] * 6}, "must hold integers"),
        ({"log_coefficients": np.zeros(5)}, "log_coefficients has shape"),
        ({"exponents": EXPONENTS[0]}, "exponents has shape"),
        ({"equalities": [1]}, "2 terms: only a monomial"),
        ({"equalities": [9]}, "the constraints are 1 to 4"),
        ({"equalities": [1.5]}, "sequence of integers"),
        ({"equalities": 3}, "sequence of integers"),
        ({"warm_start": 1}, "warm_start must be"),
    ],
)
def test_bad_input(change, words):
    given = {"exponents": EXPONENTS, "log_coefficients": LOG_COEFFICIENTS, "segment_ids": SEGMENTS} | change
    exponents, b, segments = (given.pop(name) for name in ("exponents", "log_coefficients", "segment_ids"))
    with pytest.raises(ValueError, match=words):
        cj.solve_gp(exponents, b, segments, **given)
