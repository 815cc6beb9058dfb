"""Semidefinite programs of real size: the Schur matrix, sparse and diagonal blocks, claims, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sparse
from helpers import COMPILED_AS_BY_USERS, near
from jax.experimental.sparse import BCOO
from test_sdp import certify_inequality, certify_matrix, definite, inner, symmetric

import convexjax as cj
from convexjax import semidefinite_interior_point as interior_point
from convexjax import semidefinite_solver
from convexjax.block_matrices import smallest_eigenvalue
from convexjax.problems import matrix_inequality, sdp
from convexjax.semidefinite_program import MatrixBlocks, partition

Status = cj.Status


def sparse_matrices(rng, m, k, entries):
    """Symmetric matrices, (m, k, k), each with a few nonzeros."""
    A = np.zeros((m, k, k))
    for A_i, number in zip(A, entries, strict=True):
        i, j = rng.integers(0, k, (2, number))
        A_i[i, j] = rng.normal(size=number)
    return A + np.swapaxes(A, 1, 2)


def known_program(rng, k, m, entries):
    """(C, A, b) and the optimal value, from X and Z with common eigenvectors and complementary eigenvalues."""
    Q = np.linalg.qr(rng.normal(size=(k, k)))[0]
    rank = max(1, int(np.sqrt(m)) - 1)
    X = Q * np.r_[rng.uniform(1, 2, rank), np.zeros(k - rank)] @ Q.T
    Z = Q * np.r_[np.zeros(rank), rng.uniform(1, 2, k - rank)] @ Q.T
    A = sparse_matrices(rng, m, k, entries)
    C = Z - np.tensordot(rng.normal(size=m), A, 1)
    return C, A, inner(A, X), inner(C, X)


# ----------------------------------------------------------------------------- pieces


@pytest.mark.parametrize("split, narrow", [(0, 0), (3, 0), (8, 0), (8, 0.6), (5, 1), (8, 1)])
@pytest.mark.parametrize("sides", [(6,), (6, 6, 6)])
def test_schur_matrix(monkeypatch, split, narrow, sides):
    """M_ij = tr(F_i V F_j Z) by the formulas for dense, narrow, sparse and mixed pairs."""
    monkeypatch.setattr("convexjax.semidefinite_program.NARROW", narrow)
    monkeypatch.setattr("convexjax.semidefinite_program.GATHER", 0)
    monkeypatch.setattr("convexjax.semidefinite_program.partition", lambda counts, side: min(split, counts.size))
    rng = np.random.default_rng(0)
    n = 8
    F = [np.concatenate([definite(rng, k)[None], sparse_matrices(rng, n, k, [9, 7, 5, 3, 2, 1, 1, 0])]) for k in sides]
    blocks = [matrix_inequality.read_block("F", F_j, n, jnp.float64) for F_j in F]
    program, places = matrix_inequality.program_of(jnp.zeros(n), blocks)
    (part,) = program.parts
    assert isinstance(part, MatrixBlocks)
    V, Z = (np.stack([definite(rng, k) for k in sides]) for _ in range(2))
    expected = sum(np.einsum("ipq,qr,jrs,sp->ij", F_j[1:], v, F_j[1:], z) for F_j, v, z in zip(F, V, Z, strict=True))
    assert (part.cores.shape[1] > 0) == (narrow > 0 and len(sides) == 1)
    near(part.schur(jnp.asarray(V), jnp.asarray(Z)), expected, 1e-12)
    near(part.inner(jnp.asarray(Z)), sum(inner(F_j[1:], z) for F_j, z in zip(F, Z, strict=True)), 1e-12)
    x = rng.normal(size=n)
    near(part.combine(jnp.asarray(x)), np.stack([np.tensordot(x, F_j[1:], 1) for F_j in F]), 1e-12)
    near(part.squares(), sum(np.sum(F_j[1:] ** 2, (1, 2)) for F_j in F), 1e-12)


def test_partition_by_counts():
    assert partition(np.ones(500, int), 500) == 0  # max-cut: a few entries each
    assert partition(np.full(50, 400), 30) == 50  # dense ones
    assert partition(np.r_[10_000, np.ones(200, int)], 200) == 1  # one that is dense


def test_smallest_eigenvalue_is_a_lower_bound():
    rng = np.random.default_rng(0)
    for _ in range(5):
        W = symmetric(rng, 80, 80)
        exact = np.linalg.eigvalsh(W)[0]
        found = float(smallest_eigenvalue(jnp.asarray(W)))
        assert exact * 1.1 <= found <= exact + 1e-9


# ----------------------------------------------------------------------------- known solutions


@pytest.fixture(scope="module")
def large():
    rng = np.random.default_rng(1)
    entries = np.r_[rng.integers(1, 4, 36), 400, 400, 400]
    return known_program(rng, 70, 39, entries)


def test_program_of_real_size(large):
    """A side beyond the one whose eigenvalues are all computed; dense and sparse constraint matrices."""
    C, A, b, value = large
    solution = cj.solve_sdp(C, A, b)
    certify_matrix(C, A, b, solution)
    near(solution.objective, value)


def test_sparse_matrices(large):
    C, A, b, value = large
    solution = cj.solve_sdp(C, [sparse.csr_array(A_i) for A_i in A], b)
    certify_matrix(C, A, b, solution)
    near(solution.objective, value)
    near(cj.solve_sdp(C, BCOO.fromdense(A), b).objective, value)
    F = np.concatenate([C[None], A])
    solution = cj.solve_sdp(c=b, F=[sparse.coo_array(F_i) for F_i in F])
    certify_inequality(b, F, solution)
    near(solution.objective, -value)


def blocks_with_diagonal(rng, n=4, k=4, size=3):
    """c, F of a matrix block and of a diagonal one, strictly feasible on both sides."""
    F = np.concatenate([definite(rng, k)[None], symmetric(rng, n, k, k)])
    d = np.concatenate([rng.uniform(1, 2, (1, size)), rng.normal(size=(n, size))])
    c = inner(F[1:], definite(rng, k)) + d[1:] @ rng.uniform(1, 2, size)
    return c, F, d


def as_matrices(d):
    return d[:, :, None] * np.eye(d.shape[1])


def test_diagonal_block():
    c, F, d = blocks_with_diagonal(np.random.default_rng(2))
    solution = cj.solve_sdp(c=c, F=[F, d])
    assert [S.shape for S in solution.s] == [(4, 4), (3,)]
    matrices = cj.solve_sdp(c=c, F=[F, as_matrices(d)])
    near(solution.objective, matrices.objective)
    near(solution.x, matrices.x, 1e-5)
    primal = cj.solve_sdp([F[0], d[0]], [F[1:], d[1:]], c)
    near(primal.objective, -matrices.objective)
    near(primal.x[1], solution.z[1], 1e-5)


# ----------------------------------------------------------------------------- claims


@pytest.mark.parametrize("seed", range(2))
def test_certificates(seed):
    """Infeasible and unbounded, in both forms."""
    rng = np.random.default_rng(seed)
    y, k, m = rng.normal(size=3), 4, 3
    A = symmetric(rng, m, k, k)
    A += y[:, None, None] * (definite(rng, k) - np.tensordot(y, A, 1)) / (y @ y)
    b = rng.normal(size=m)
    b -= y * (b @ y + 1) / (y @ y)
    C = definite(rng, k)
    listed = [sparse.coo_array(A_i) for A_i in A]
    certify_matrix(C, A, b, cj.solve_sdp(C, listed, b), expected=Status.PRIMAL_INFEASIBLE)
    F = np.concatenate([C[None], A])
    certify_inequality(b, F, cj.solve_sdp(c=b, F=[C, *listed]), expected=Status.DUAL_INFEASIBLE)
    X = definite(rng, k)
    away = lambda M, value: M - (inner(M, X) - value)[..., None, None] * X / inner(X, X)
    A, C = away(symmetric(rng, m, k, k), np.zeros(m)), away(symmetric(rng, k, k), np.asarray(-1.0))
    b, listed = inner(A, definite(rng, k)), [sparse.coo_array(A_i) for A_i in A]
    certify_matrix(C, A, b, cj.solve_sdp(C, listed, b), expected=Status.DUAL_INFEASIBLE)
    F = np.concatenate([C[None], A])
    certify_inequality(b, F, cj.solve_sdp(c=b, F=[C, *listed]), expected=Status.PRIMAL_INFEASIBLE)


def test_dependent_constraints():
    C = np.array([[2.0, 1.0], [1.0, 2.0]])
    A = np.stack([np.eye(2), 2 * np.eye(2), np.zeros((2, 2))])
    solution = cj.solve_sdp(C, [sparse.coo_array(A_i) for A_i in A], [1.0, 2.0, 0.0])
    certify_matrix(C, A, [1.0, 2.0, 0.0], solution)


def test_no_interior_is_never_labelled_wrongly():
    """[[x, 1], [1, 0]] psd has no solution, and no certificate."""
    F = np.array([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    solution = cj.solve_sdp(c=[1.0], F=[sparse.coo_array(F_i) for F_i in F])
    assert np.all(np.isfinite(solution.x))
    if solution.status in (Status.SOLVED, Status.PRIMAL_INFEASIBLE, Status.DUAL_INFEASIBLE):
        certify_inequality([1.0], F, solution, expected=int(solution.status))


def test_an_attempt_that_gets_stuck_is_followed_by_another(monkeypatch):
    """The first start is next to the boundary, so that its steps have no length."""
    rng = np.random.default_rng(2)
    c, F, d = blocks_with_diagonal(rng)
    begin = interior_point.start
    starts = []

    def hopeless_first(program, factor=1.0, factor_of_S=1.0):
        starts.append(factor_of_S)
        point = begin(program, factor, factor_of_S)
        if len(starts) > 1:
            return point
        corner = lambda X: X * 1e-14 if X.ndim == 1 else X.at[:, 0, 0].multiply(1e-14)
        return point._replace(S=tuple(map(corner, point.S)), Z=tuple(map(corner, point.Z)))

    monkeypatch.setattr(interior_point, "start", hopeless_first)
    blocks = [matrix_inequality.read_block(f"F[{j}]", F_j, len(c), jnp.float64) for j, F_j in enumerate((F, d))]
    program, _ = matrix_inequality.program_of(jnp.asarray(c), blocks)
    solved = lambda: jax.jit(lambda: semidefinite_solver.solve(program, cj.Options(max_iters=100)))()
    many = solved()
    starts_of_many = list(starts)
    starts.clear()
    monkeypatch.setattr(interior_point, "ATTEMPTS", np.ones(1))
    few = solved()
    assert few.status != Status.SOLVED and many.status == Status.SOLVED
    assert len(starts_of_many) == 2 and starts == [1]
    near(many.objective, cj.solve_sdp(c=c, F=[F, d]).objective)


def test_projection_on_the_equations_of_the_dual_matrix():
    rng = np.random.default_rng(3)
    c, F, d = blocks_with_diagonal(rng)
    n = len(c)
    blocks = [matrix_inequality.read_block(f"F[{j}]", F_j, n, jnp.float64) for j, F_j in enumerate((F, d))]
    program, _ = matrix_inequality.program_of(jnp.asarray(c), blocks)
    program = program.__class__(
        c=program.c, parts=program.parts, A=jnp.ones((1, n)), b=jnp.zeros(1), weights=program.weights
    )
    Z = tuple(jnp.asarray(symmetric(rng, *part.F0.shape) if part.F0.ndim > 1 else d[0]) for part in program.parts)
    point = interior_point.Point(jnp.zeros(n), jnp.zeros(1), Z, Z)
    found = jax.jit(interior_point.projected)(program, point)
    flat = lambda tree: np.concatenate([np.ravel(v) for v in tree])
    rows = np.stack([flat([*program.combine(unit), -program.A @ unit]) for unit in jnp.eye(n)])
    start = flat([*Z, point.y])
    near(flat([*found.Z, found.y]), start - np.linalg.pinv(rows) @ (rows @ start - c), 1e-9)


def test_nan_is_a_status_of_its_lane_alone():
    c, F, d = blocks_with_diagonal(np.random.default_rng(2))
    solve = jax.jit(jax.vmap(lambda c: cj.solve_sdp(c=c, F=[jnp.asarray(F), jnp.asarray(d)])))
    batch = solve(jnp.stack([jnp.asarray(c), jnp.full(4, jnp.nan), 2 * c]))
    assert batch.status.tolist() == [Status.SOLVED, Status.NUMERICAL_ERROR, Status.SOLVED]
    near(batch.objective[2], 2 * batch.objective[0])
    near(batch.objective[0], cj.solve_sdp(c=c, F=[F, d]).objective)


def test_batch_of_small_programs():
    """Every lane proved; one infeasible, one unbounded, one without numbers, which the others do not notice."""
    rng = np.random.default_rng(6)
    n, k = 3, 4
    F = np.concatenate([definite(rng, k)[None], symmetric(rng, n, k, k)])
    c = inner(F[1:], definite(rng, k))
    # F_i orthogonal to a definite Z with <F_0, Z> = -1
    Z = definite(rng, k)
    apart = F - (inner(F, Z) + np.r_[1, np.zeros(n)])[:, None, None] * Z / inner(Z, Z)
    descent = F.copy()
    descent[1] = definite(rng, k)
    data = [(c, F), (c, apart), (np.r_[-1.0, 0, 0], descent), (np.full(n, np.nan), F), (2 * c, F)]
    solve = jax.jit(jax.vmap(lambda c, F: cj.solve_sdp(c=c, F=F)))
    batch = solve(*(np.stack(v) for v in zip(*data, strict=True)))
    expected = [
        Status.SOLVED,
        Status.PRIMAL_INFEASIBLE,
        Status.DUAL_INFEASIBLE,
        Status.NUMERICAL_ERROR,
        Status.SOLVED,
    ]
    assert batch.status.tolist() == expected
    for i in (0, 1, 2, 4):
        certify_inequality(*data[i], jax.tree.map(lambda v, i=i: v[i], batch), expected=int(batch.status[i]))


def test_float32():
    c, F, d = (v.astype(np.float32) for v in blocks_with_diagonal(np.random.default_rng(2)))
    solution = cj.solve_sdp(c=c, F=[F, d])
    assert solution.status == Status.SOLVED and solution.x.dtype == np.float32
    exact = cj.solve_sdp(c=c.astype(float), F=[F.astype(float), d.astype(float)])
    near(solution.objective, exact.objective, 1e-4)


# ----------------------------------------------------------------------------- derivatives


def checked_derivatives(function, data, tolerance=1e-5, step=2e-2, compiler_options=None):
    """Gradients in all data against differences of fourth order along random directions: the step is large, for the
    points have errors of their own."""
    rng = np.random.default_rng(9)
    directions = [rng.normal(size=v.shape) for v in data]
    directions = [v + np.swapaxes(v, -1, -2) if v.ndim == 3 else v for v in directions]
    gradient_of = jax.grad(function, tuple(range(len(data))))
    gradients = jax.jit(gradient_of, compiler_options=compiler_options)(*data)
    value = jax.jit(function, compiler_options=compiler_options)
    for i, (gradient, direction) in enumerate(zip(gradients, directions, strict=True)):
        direction = direction / np.linalg.norm(direction)
        at = lambda t, i=i, direction=direction: value(
            *(v + t * direction if j == i else v for j, v in enumerate(data))
        )
        difference = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step)
        near(np.sum(gradient * direction), difference, tolerance * max(1, abs(float(difference))))


def objective_and_point(c, F, d):
    solution = cj.solve_sdp(c=c, F=[F, d], options=cj.Options(tolerance=1e-12))
    parts = jax.tree.map(lambda v: jnp.sum(jnp.sin(v)), (solution.x, solution.s, solution.z))
    return solution.objective + sum(jax.tree.leaves(parts))


def test_derivatives_with_respect_to_all_data():
    checked_derivatives(objective_and_point, [jnp.asarray(v) for v in blocks_with_diagonal(np.random.default_rng(3))])


def test_derivatives_at_repeated_eigenvalues():
    """S and Z with eigenvalues of multiplicity two and three, the solution unique."""
    rng = np.random.default_rng(5)
    k, n = 5, 5
    Q = np.linalg.qr(rng.normal(size=(k, k)))[0]
    Z, S = Q * [2, 2, 0, 0, 0] @ Q.T, Q * [0, 0, 3, 3, 3] @ Q.T
    F, x = symmetric(rng, n, k, k), 0.3 * rng.normal(size=n)
    d = np.concatenate([np.full((1, 2), 5.0), 0.1 * rng.normal(size=(n, 2))])
    data = inner(F, Z), np.concatenate([(S - np.tensordot(x, F, 1))[None], F]), d
    data = [jnp.asarray(v) for v in data]
    checked_derivatives(objective_and_point, data, compiler_options=COMPILED_AS_BY_USERS)


def test_same_derivative_as_of_small_programs(monkeypatch):
    rng = np.random.default_rng(4)
    C, A = definite(rng, 4), symmetric(rng, 3, 4, 4)
    b = inner(A, definite(rng, 4))
    function = lambda C, A, b: jnp.sum(jnp.cos(cj.solve_sdp(C, A, b).y))
    small = jax.grad(function, (0, 1, 2))(C, A, b)
    monkeypatch.setattr(sdp, "REAL_SIZE", 0)
    for ours, theirs in zip(jax.grad(function, (0, 1, 2))(C, A, b), small, strict=True):
        near(ours, theirs, 1e-5)


# ----------------------------------------------------------------------------- bad input


def test_asymmetric_sparse_matrices_are_refused():
    A = [sparse.coo_array(np.array([[0.0, 1.0], [0.5, 0.0]]))]
    with pytest.raises(ValueError, match=r"A is not symmetric: its largest asymmetry is 0\.5"):
        cj.solve_sdp(np.eye(2), A, [1.0])


def test_wrong_numbers_of_sparse_matrices_are_refused():
    with pytest.raises(ValueError, match="2 matrices, expected 3"):
        cj.solve_sdp(np.eye(2), [sparse.eye_array(2)], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"F\[1\] has shape"):
        cj.solve_sdp(c=[1.0], F=[sparse.eye_array(2), sparse.eye_array(3)])
