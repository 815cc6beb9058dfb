"""Sparse matrices in linear and quadratic programs: the same answers, derivatives and statuses as with dense ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sparse
from helpers import COMPILED_AS_BY_USERS, certify_conic, solved_program
from jax.experimental.sparse import BCOO, BCSR

import convexjax as cj
from convexjax import Status, sparse_factor

pytest.importorskip("qdldl")

N, M, K = 12, 9, 4
rng = np.random.default_rng(0)
G = sparse.random(M, N, 0.3, random_state=1, format="csr")
A = sparse.random(K, N, 0.4, random_state=2, format="csc")
_F = sparse.random(N, N, 0.1, random_state=3)
P = (_F @ _F.T + 0.1 * sparse.eye(N)).tocsr()
Q = rng.normal(size=N)
INSIDE = rng.uniform(0.1, 0.9, N)
H, B = G @ INSIDE + 0.1, A @ INSIDE
FIELDS = ("x", "s", "y", "z", "z_lb", "z_ub", "objective")


def solve(P=P, q=Q, G=G, h=H, A=A, b=B, **options):
    return cj.solve_qp(P, q, G, h, A, b, lb=0.0, ub=1.0, options=cj.Options(**options))


def dense(matrix):
    return matrix.toarray()


def bcoo(matrix):
    return BCOO.from_scipy_sparse(matrix)


def bcoo_of(matrix):
    return BCOO.fromdense(jnp.asarray(matrix))


@pytest.fixture(scope="module")
def reference():
    return solve(dense(P), G=dense(G), A=dense(A), polish=True)


def same(found, reference, tolerance):
    for name in FIELDS:
        np.testing.assert_allclose(getattr(found, name), getattr(reference, name), rtol=0, atol=tolerance, err_msg=name)


def shuffled(matrix):
    """The same with unsorted entries, one of them in two parts, and an entry that is zero."""
    matrix = matrix.tocoo()
    order = rng.permutation(matrix.nnz)
    data, row, col = matrix.data[order], matrix.row[order], matrix.col[order]
    data[0] /= 2
    again = lambda v: np.concatenate([v, v[:1], [0]])
    data, row, col = again(data), again(row), again(col)
    return sparse.coo_array((data, (row.astype(np.int64), col.astype(np.int64))), shape=matrix.shape)


FORMS = {
    "csr": lambda M: M.tocsr(),
    "csc array": lambda M: sparse.csc_array(M),
    "unsorted with duplicates and zeros": shuffled,
    "BCOO": bcoo,
    "BCOO with duplicates": lambda M: bcoo(shuffled(M)),
    "BCOO padded": lambda M: bcoo(M).sum_duplicates(nse=M.nnz + 3),
    "BCSR": lambda M: BCSR.from_scipy_sparse(M.tocsr()),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_dense_answer(form, reference):
    of = FORMS[form]
    found = solve(of(P), G=of(G), A=of(A), polish=True)
    assert found.status == Status.SOLVED
    same(found, reference, 1e-11)


@pytest.mark.parametrize("which", ["P", "G", "A"])
def test_one_sparse_matrix_is_enough(which, reference):
    matrices = {name: (bcoo if name == which else dense)(matrix) for name, matrix in dict(P=P, G=G, A=A).items()}
    same(solve(**matrices, polish=True), reference, 1e-11)


def test_conditions_hold():
    """Those of Karush, Kuhn and Tucker, in NumPy."""
    found = jax.device_get(solve())
    x, y, z, lower, upper = found.x, found.y, found.z, found.z_lb, found.z_ub
    np.testing.assert_allclose(P @ x + Q + A.T @ y + G.T @ z + upper - lower, 0, atol=1e-7)
    np.testing.assert_allclose(A @ x, B, atol=1e-7)
    assert (H - G @ x).min() > -1e-7 and x.min() > -1e-7 and x.max() < 1 + 1e-7
    assert min(z.min(), lower.min(), upper.min()) >= 0
    np.testing.assert_allclose([z @ (H - G @ x), lower @ x, upper @ (1 - x)], 0, atol=1e-6)


def test_linear_programs_with_few_parts():
    found = cj.solve_lp(Q, G, H, lb=0.0, ub=1.0, options=cj.Options(polish=True))
    reference = cj.solve_lp(Q, dense(G), H, lb=0.0, ub=1.0, options=cj.Options(polish=True))
    assert found.status == reference.status == Status.SOLVED
    np.testing.assert_allclose(found.x, reference.x, atol=1e-8)
    alone = cj.solve_qp(P, Q)
    np.testing.assert_allclose(P @ alone.x, -Q, atol=1e-6)


# ----------------------------------------------------------------------------- statuses


def test_statuses():
    assert solve(b=B + 100).status == Status.PRIMAL_INFEASIBLE
    assert solve(P=-P).status == Status.NONCONVEX
    assert solve(h=H * np.nan).status == Status.NUMERICAL_ERROR
    assert solve(h=np.where(np.arange(M) < 3, 1e30, H)).status == Status.SOLVED
    unbounded = cj.solve_lp(-np.ones(N), -abs(G), H)
    assert unbounded.status == Status.DUAL_INFEASIBLE
    np.testing.assert_allclose(-jnp.sum(unbounded.x), -1, rtol=1e-9)
    assert (-abs(G) @ np.asarray(unbounded.x)).max() < 1e-7


def test_certificate():
    found = jax.device_get(solve(b=B + 100))
    ray = A.T @ found.y + G.T @ found.z + found.z_ub - found.z_lb
    np.testing.assert_allclose(ray, 0, atol=1e-8)
    np.testing.assert_allclose((B + 100) @ found.y + H @ found.z + found.z_ub.sum(), -1, atol=1e-8)


def test_dense_rows_and_columns():
    """A row and a column without zeros, and a row and a column of nothing else."""
    full = np.zeros((M, N))
    full[0], full[:, 1], full[2], full[:, 3] = 1.0, 0.5, 0.0, 0.0
    found = solve(G=sparse.csr_array(full), h=full @ INSIDE + 0.1, polish=True)
    reference = solve(dense(P), G=full, h=full @ INSIDE + 0.1, A=dense(A), polish=True)
    same(found, reference, 1e-10)


# ----------------------------------------------------------------------------- transforms


def of_values(values_P, values_G, q, b):
    """A number that depends on all entries of the solution."""
    with_values = lambda matrix, values: BCOO((values, bcoo(matrix).indices), shape=matrix.shape)
    found = solve(with_values(P, values_P), q, with_values(G, values_G), H, A, b, polish=True)
    return found.x @ jnp.arange(1.0, N + 1) + found.z @ jnp.arange(1.0, M + 1) + found.objective


VALUES = jnp.asarray(bcoo(P).data), jnp.asarray(bcoo(G).data), jnp.asarray(Q), jnp.asarray(B)


@pytest.fixture(scope="module")
def gradient():
    return jax.grad(of_values, (0, 1, 2, 3))(*VALUES)


def test_gradients_against_differences(gradient):
    value = jax.jit(of_values, compiler_options=COMPILED_AS_BY_USERS)
    step = 1e-5
    for i, slope in enumerate(gradient):
        d = np.random.default_rng(i).normal(size=slope.shape)
        if i == 0:  # P stays symmetric
            D = sparse.csr_array((d, P.indices, P.indptr), shape=P.shape)
            d = bcoo(((D + D.T) / 2).tocsr()).data
        ahead, behind = (
            value(*(v + sign * d if j == i else v for j, v in enumerate(VALUES))) for sign in (step, -step)
        )
        np.testing.assert_allclose(slope @ d, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-6)


def test_forward_mode_and_second_derivatives(gradient):
    of_q = lambda q: of_values(*VALUES[:2], q, VALUES[3])
    d, step = jnp.asarray(np.random.default_rng(9).normal(size=N)), 1e-5
    slope, change = jax.jvp(jax.grad(of_q), (VALUES[2],), (d,))
    np.testing.assert_allclose(slope, gradient[2], atol=1e-9)
    ahead, behind = (jax.grad(of_values, 2)(*VALUES[:2], VALUES[2] + sign * d, VALUES[3]) for sign in (step, -step))
    np.testing.assert_allclose(change, (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-5)


def test_vmap_over_values_with_a_bad_lane():
    indices = bcoo(G).indices
    scale = jnp.array([1.0, 0.9, jnp.nan, 1.1, -50.0])
    matrix = lambda scale: BCOO((bcoo(G).data * scale, indices), shape=G.shape)
    one = lambda scale: solve(G=matrix(scale), h=H - jnp.where(scale < 0, 1e3, 0.0))
    batch = jax.jit(jax.vmap(one))(scale)
    assert batch.status.tolist() == [1, 1, 6, 1, 3]
    for lane in (0, 1, 3):
        same(jax.tree.map(lambda leaf, lane=lane: leaf[lane], batch), one(scale[lane]), 1e-6)
    slopes = jax.vmap(jax.grad(lambda scale: jnp.sum(one(scale).x)))(scale)
    assert np.isfinite(slopes).all()
    assert slopes[2] == slopes[4] == 0


def test_scan_with_warm_starts():
    def step(previous, q):
        found = cj.solve_qp(P, q, G, H, A, B, lb=0.0, ub=1.0, warm_start=previous)
        return found, (found.status, found.info.num_iters)

    first = solve()
    _, (status, iterations) = jax.lax.scan(step, first, Q * (1 + 0.001 * jnp.arange(4.0)[:, None]))
    assert status.tolist() == [1] * 4
    assert iterations.max() < first.info.num_iters


def test_single_precision(reference):
    data = [matrix.astype(np.float32) for matrix in (P, G, A)]
    vectors = [v.astype(np.float32) for v in (Q, H, B)]
    found = solve(data[0], vectors[0], data[1], vectors[1], data[2], vectors[2])
    assert found.x.dtype == jnp.float32
    assert found.status == Status.SOLVED
    np.testing.assert_allclose(found.x, reference.x, atol=1e-3)


def test_factors_are_made_again():
    """When more of them are asked for than are kept."""
    M = cj.sparse_matrix.SparseMatrix(jnp.ones(1), jnp.zeros(1, jnp.int32), jnp.zeros(1, jnp.int32), (1, 1))
    right, one = jnp.array([1.0, 0.0]), jnp.ones(1)
    numbers = [
        sparse_factor.factor(None, M, one * (k + 1), [one[:, None, None]]) for k in range(3 * sparse_factor.FACTORS)
    ]
    for k, number in enumerate(numbers):
        inverse = np.linalg.inv([[k + 1, 1.0], [1.0, -1.0]])
        np.testing.assert_allclose(sparse_factor.solve(number, right), inverse @ right, atol=1e-12)
    for k in range(2 * sparse_factor.PATTERNS):  # the host forgets the oldest patterns, and what it knew of them
        other = cj.sparse_matrix.SparseMatrix(
            jnp.ones(1), jnp.zeros(1, jnp.int32), jnp.full(1, k, jnp.int32), (1, k + 2)
        )
        number = sparse_factor.factor(None, other, jnp.ones(k + 2), [one[:, None, None]])
        assert np.isfinite(sparse_factor.solve(number, jnp.ones(k + 3))).all()
    assert len(sparse_factor._patterns) == sparse_factor.PATTERNS
    assert {id(known) for known in sparse_factor._pattern_of.values()} <= set(sparse_factor._patterns)
    unknown = sparse_factor.solve(jnp.int32(2**30), right)
    assert np.isnan(unknown).all()


# ----------------------------------------------------------------------------- other cones

CONES = {
    "second order": [cj.SecondOrder(4, count=2), cj.Nonnegative(3), cj.SecondOrder(3)],
    "semidefinite": [cj.PSD(3, count=2)],
    "six": [
        cj.Zero(2),
        cj.Exponential(2),
        cj.SecondOrder(4),
        cj.Nonnegative(3),
        cj.PSD(3),
        cj.Power(np.array([0.3, 0.6])),
    ],
}


@pytest.mark.parametrize("name", CONES)
def test_conic_programs(name):
    cones = CONES[name]
    (P, q, A, b), *_ = solved_program(np.random.default_rng(1), 8, cones)
    A = np.where(np.abs(A) > 0.3, A, 0)
    found = cj.solve_conic(sparse.csr_array(P), q, sparse.csr_array(A), b, cones)
    reference = cj.solve_conic(P, q, A, b, cones)
    assert found.status == reference.status
    if found.status == Status.SOLVED:
        certify_conic(P, q, A, b, cones, found)
        np.testing.assert_allclose(found.objective, reference.objective, rtol=1e-7, atol=1e-7)

    def value(data, of_P, of_A):
        q, b = data
        found = cj.solve_conic(of_P(P), q, of_A(A), b, cones, options=cj.Options(polish=True))
        return found.x @ jnp.arange(1.0, 9.0) + found.objective

    data = jnp.asarray(q), jnp.asarray(b)
    slopes = jax.grad(value)(data, bcoo_of, bcoo_of)
    expected = jax.grad(value)(data, jnp.asarray, jnp.asarray)
    for slope, other in zip(slopes, expected, strict=True):
        np.testing.assert_allclose(slope, other, rtol=1e-6, atol=1e-6 * np.abs(other).max())


# ----------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: solve(G=G[:, :-1]), "G has shape"),
        (lambda: solve(h=H[:-1]), "h has shape"),
        (lambda: solve(P=P[:-1]), "P has shape"),
        (lambda: solve(G=G.astype(complex)), "G must hold real numbers"),
        (lambda: solve(G=BCOO.fromdense(jnp.ones((2, M, N)), n_batch=1)), "jax.vmap"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
