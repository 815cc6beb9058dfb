"""`solve_sdp`: both forms, against closed forms and against each other, several blocks, certificates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import near, size

import convexjax as cj

pytestmark = pytest.mark.core

Status = cj.Status


def inner(A, X):
    return np.sum(np.asarray(A) * np.asarray(X), (-2, -1))


def psd(X, tolerance):
    X = np.asarray(X)
    assert np.linalg.eigvalsh(X).min(initial=0) >= -tolerance * max(1, size(X))


def tuples(*values):
    return tuple(v if isinstance(v, tuple | list) else (v,) for v in values)


def certify_matrix(C, A, b, solution, tolerance=1e-8, expected=Status.SOLVED):
    """min <C, X>, <A_i, X> = b_i, X psd: the claims of the docstring."""
    assert solution.status == expected, (Status(int(solution.status)), solution.info)
    Cs, As, Xs, Zs = tuples(C, A, solution.x, solution.z)
    b, y = np.asarray(b, float), np.asarray(solution.y)
    AX = sum(inner(A_j, X_j) for A_j, X_j in zip(As, Xs, strict=True))
    value = sum(inner(C_j, X_j) for C_j, X_j in zip(Cs, Xs, strict=True))
    Ay = [np.tensordot(y, np.asarray(A_j), 1) for A_j in As]
    if expected == Status.PRIMAL_INFEASIBLE:
        near(b @ y, -1, tolerance)
        assert solution.objective == np.inf
        for Ay_j, Z_j in zip(Ay, Zs, strict=True):
            near(Z_j, Ay_j, tolerance)
            psd(Ay_j, tolerance)
        return
    for X_j in Xs:
        psd(X_j, tolerance)
    if expected == Status.DUAL_INFEASIBLE:
        near(value, -1, tolerance)
        assert solution.objective == -np.inf
        assert size(AX) <= tolerance * max(1, *(size(np.asarray(X_j)) for X_j in Xs))
        return
    near(AX, b, tolerance)
    near(solution.objective, value, tolerance)
    near(-b @ y, value, tolerance)
    for C_j, Ay_j, Z_j in zip(Cs, Ay, Zs, strict=True):
        psd(Z_j, tolerance)
        near(Z_j, C_j + Ay_j, tolerance)
    near(sum(inner(X_j, Z_j) for X_j, Z_j in zip(Xs, Zs, strict=True)) / max(1, abs(value)), 0, tolerance)


def certify_inequality(c, F, solution, tolerance=1e-8, expected=Status.SOLVED):
    """min c'x, F_0 + sum x_i F_i psd: the claims of the docstring."""
    assert solution.status == expected, (Status(int(solution.status)), solution.info)
    Fs, Ss, Zs = tuples(F, solution.s, solution.z)
    c, x, Fs = np.asarray(c, float), np.asarray(solution.x), [np.asarray(F_j, float) for F_j in Fs]
    FZ = sum(inner(F_j, Z_j) for F_j, Z_j in zip(Fs, Zs, strict=True))
    if expected == Status.PRIMAL_INFEASIBLE:
        near(FZ[0], -1, tolerance)
        assert size(FZ[1:]) <= tolerance * max(1, *(size(np.asarray(Z_j)) for Z_j in Zs))
        for Z_j in Zs:
            psd(Z_j, tolerance)
        assert solution.objective == np.inf
        return
    if expected == Status.DUAL_INFEASIBLE:
        near(c @ x, -1, tolerance)
        for F_j in Fs:
            psd(np.tensordot(x, F_j[1:], 1), tolerance)
        assert solution.objective == -np.inf
        return
    near(FZ[1:], c, tolerance)
    near(solution.objective, c @ x, tolerance)
    near(-FZ[0], c @ x, tolerance)
    for F_j, S_j, Z_j in zip(Fs, Ss, Zs, strict=True):
        near(S_j, F_j[0] + np.tensordot(x, F_j[1:], 1), tolerance)
        psd(S_j, tolerance)
        psd(Z_j, tolerance)


def matrix_form(C, A, b, expected=Status.SOLVED):
    solution = cj.solve_sdp(C, A, b)
    certify_matrix(C, A, b, solution, expected=expected)
    return solution


def inequality_form(c, F, expected=Status.SOLVED):
    solution = cj.solve_sdp(c=c, F=F)
    certify_inequality(c, F, solution, expected=expected)
    return solution


def symmetric(rng, *shape):
    M = rng.normal(size=shape)
    return M + np.swapaxes(M, -1, -2)


def definite(rng, side):
    M = rng.normal(size=(side, side))
    return M @ M.T + 0.1 * np.eye(side)


# ----------------------------------------------------------------------------- known solutions


def test_smallest_eigenvalue():
    C = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 0.5, -1.0]])
    values, vectors = np.linalg.eigh(C)
    solution = matrix_form(C, np.eye(3)[None], [1.0])
    near(solution.objective, values[0])
    near(solution.x, np.outer(vectors[:, 0], vectors[:, 0]), 1e-6)
    near(solution.y, -values[:1])
    near(solution.z, C - values[0] * np.eye(3), 1e-6)
    other = inequality_form([-1.0], np.stack([C, -np.eye(3)]))
    near(-other.objective, values[0])
    near(other.x, values[:1])
    near(other.s, solution.z, 1e-6)
    near(other.z, solution.x, 1e-6)


def test_nearest_correlation_of_a_path():
    """max <J, X>, X_ii = 1: the matrix of ones."""
    k = 4
    solution = matrix_form(-np.ones((k, k)), np.eye(k)[:, :, None] * np.eye(k)[:, None], np.ones(k))
    near(solution.objective, -(k**2))
    near(solution.x, np.ones((k, k)), 1e-6)


def test_lovasz_theta_of_the_pentagon():
    """max <J, X>, trace X = 1, X_ij = 0 on edges: sqrt 5."""
    A = [np.eye(5)]
    for i in range(5):
        E = np.zeros((5, 5))
        E[i, (i + 1) % 5] = E[(i + 1) % 5, i] = 1
        A.append(E)
    solution = matrix_form(-np.ones((5, 5)), np.stack(A), np.eye(6)[0])
    near(solution.objective, -np.sqrt(5))


def test_side_one_is_a_linear_program():
    # min x1 + 2 x2 subject to x1 + x2 = 1, x >= 0
    one = lambda v: np.reshape(v, (-1, 1, 1))
    solution = matrix_form((np.eye(1), 2 * np.eye(1)), (one([1.0]), one([1.0])), [1.0])
    near([X[0, 0] for X in solution.x], [1, 0])
    near([Z[0, 0] for Z in solution.z], [0, 1])
    near(solution.y, [-1])


def test_only_symmetric_parts_of_traced_matrices_count():
    rng = np.random.default_rng(0)
    C, A = definite(rng, 3), symmetric(rng, 2, 3, 3)
    b = inner(A, definite(rng, 3))
    skew = rng.normal(size=(3, 3, 3))
    skew = skew - np.swapaxes(skew, 1, 2)
    plain, skewed = matrix_form(C, A, b), jax.jit(cj.solve_sdp)(C + skew[0], A + skew[1:], b)
    near(skewed.objective, plain.objective)
    F = np.concatenate([definite(rng, 3)[None], A])
    c = inner(A, definite(rng, 3))
    skewed = jax.jit(lambda c, F: cj.solve_sdp(c=c, F=F))(c, F + skew)
    near(skewed.objective, inequality_form(c, F).objective)


def test_known_matrices_that_are_not_symmetric_are_refused():
    A = np.eye(2)[None]
    tilted = np.array([[2.0, 1.0], [0.75, 2.0]])
    message = "is not symmetric: its largest asymmetry is 0.25"
    with pytest.raises(ValueError, match=f"C {message}"):
        cj.solve_sdp(tilted, A, [1.0])
    with pytest.raises(ValueError, match=f"A {message}"):
        cj.solve_sdp(np.eye(2), tilted[None], [1.0])
    with pytest.raises(ValueError, match=rf"F\[1\] {message}"):
        cj.solve_sdp(c=[1.0], F=[np.stack([np.eye(2)] * 2), np.stack([np.eye(2), tilted])])
    with pytest.raises(ValueError, match=rf"F\[0\] {message}"):  # beside a diagonal block
        cj.solve_sdp(c=[1.0], F=[np.stack([np.eye(2), tilted]), np.ones((2, 2))])


# ----------------------------------------------------------------------------- random programs


@pytest.mark.parametrize("seed", range(3))
def test_the_two_forms_are_each_others_dual(seed):
    """min b'y, C + sum y_i A_i psd has the optimal value minus that of min <C, X>, <A_i, X> = b_i."""
    rng = np.random.default_rng(seed)
    C, A = definite(rng, 4), symmetric(rng, 3, 4, 4)
    b = inner(A, definite(rng, 4))
    primal = matrix_form(C, A, b)
    dual = inequality_form(b, np.concatenate([C[None], A]))
    near(primal.objective, -dual.objective)
    near(primal.y, dual.x, 1e-5)
    near(primal.x, dual.z, 1e-5)
    near(primal.z, dual.s, 1e-5)


@pytest.mark.parametrize("m", [3, 5])
@pytest.mark.parametrize("seed", range(3))
def test_known_complementary_pair(seed, m):
    """X and Z with common eigenvectors and complementary eigenvalues, so the value is known."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    X, Z = Q * [2, 1, 0, 0] @ Q.T, Q * [0, 0, 3, 0.5] @ Q.T
    A, y = symmetric(rng, m, 4, 4), rng.normal(size=m)
    C, b = Z - np.tensordot(y, A, 1), inner(A, X)
    solution = matrix_form(C, A, b)
    near(solution.objective, inner(C, X))
    if m > 3:  # three equations only just determine the three unknowns of a matrix of rank two
        near(solution.x, X, 2e-4)  # the equations determine X with a condition of about 1e4
        near(solution.y, y, 1e-5)
        near(solution.z, Z, 1e-5)


def blocks(rng, sides=(3, 2, 3), m=3):
    """A program of several blocks (two of one size) with strictly feasible sides, and the program of one block."""
    Cs = tuple(definite(rng, k) for k in sides)
    As = tuple(symmetric(rng, m, k, k) for k in sides)
    b = sum(inner(A, definite(rng, k)) for A, k in zip(As, sides, strict=True))
    return Cs, As, b


def diagonal(blocks):
    """Blocks as one matrix."""
    total = sum(block.shape[-1] for block in blocks)
    whole, first = np.zeros((*blocks[0].shape[:-2], total, total)), 0
    for block in blocks:
        own = slice(first, first + block.shape[-1])
        whole[..., own, own] = block
        first = own.stop
    return whole


@pytest.mark.parametrize("kind", [tuple, list])
def test_several_blocks(kind):
    Cs, As, b = blocks(np.random.default_rng(1))
    several = matrix_form(kind(Cs), kind(As), b)
    one = matrix_form(diagonal(Cs), diagonal(As), b)
    assert [X.shape for X in several.x] == [Z.shape for Z in several.z] == [(3, 3), (2, 2), (3, 3)]
    near(several.objective, one.objective)
    near(several.y, one.y, 1e-5)
    near(diagonal([np.asarray(Z) for Z in several.z]), one.z, 1e-5)

    Fs = kind(np.concatenate([C[None], A]) for C, A in zip(Cs, As, strict=True))
    inequalities = inequality_form(b, Fs)
    assert [S.shape for S in inequalities.s] == [(3, 3), (2, 2), (3, 3)]
    near(inequalities.objective, -several.objective)
    for X, Z in zip(several.x, inequalities.z, strict=True):
        near(X, Z, 1e-5)


def test_a_tuple_of_one_block_gives_tuples():
    Cs, As, b = blocks(np.random.default_rng(2), sides=(3,))
    several, one = matrix_form(Cs, As, b), matrix_form(Cs[0], As[0], b)
    assert isinstance(several.x, tuple)
    near(several.x[0], one.x, 1e-9)


# ----------------------------------------------------------------------------- edges


def test_empty_block():
    Cs, As, b = blocks(np.random.default_rng(3), sides=(3,))
    with_empty = matrix_form((*Cs, np.zeros((0, 0))), (*As, np.zeros((len(b), 0, 0))), b)
    near(with_empty.objective, matrix_form(*(v[0] for v in (Cs, As)), b).objective)
    assert with_empty.x[1].shape == (0, 0)


def test_no_equations():
    """min <C, X>, X psd: zero for a psd C, unbounded for another."""
    C = np.array([[2.0, 1.0], [1.0, 2.0]])
    near(matrix_form(C, np.zeros((0, 2, 2)), np.zeros(0)).x, np.zeros((2, 2)))
    matrix_form(np.diag([1.0, -1.0]), np.zeros((0, 2, 2)), np.zeros(0), expected=Status.DUAL_INFEASIBLE)


def test_redundant_equations():
    C = np.array([[2.0, 1.0], [1.0, 2.0]])
    A = np.stack([np.eye(2), 2 * np.eye(2), np.zeros((2, 2))])
    solution = matrix_form(C, A, [1.0, 2.0, 0.0])
    near(solution.objective, 1)
    matrix_form(C, A, [1.0, 3.0, 0.0], expected=Status.PRIMAL_INFEASIBLE)


def test_lists_and_jax_arrays():
    C, A, b = [[2.0, 1.0], [1.0, 2.0]], [[[1.0, 0.0], [0.0, 1.0]]], [1.0]
    for convert in (np.asarray, jnp.asarray):
        near(cj.solve_sdp(convert(C), convert(A), convert(b)).objective, 1)
    near(cj.solve_sdp(c=[-1], F=[C, [[-1, 0], [0, -1]]]).objective, -1)
    near(cj.solve_sdp(C, A, b).objective, 1)


# ----------------------------------------------------------------------------- infeasible and unbounded, in both forms


def test_infeasible_matrix_form():
    # trace X = -1
    solution = matrix_form(np.eye(2), np.eye(2)[None], [-1.0], expected=Status.PRIMAL_INFEASIBLE)
    near(solution.y, [1])
    near(solution.z, np.eye(2))


def test_unbounded_matrix_form():
    # X_11 = 1 leaves X_22 free
    solution = matrix_form(np.diag([0.0, -1.0]), np.diag([1.0, 0.0])[None], [1.0], expected=Status.DUAL_INFEASIBLE)
    near(solution.x, np.diag([0, 1]), 1e-6)


def test_infeasible_inequality_form():
    F = np.stack([-np.eye(2), np.diag([1.0, -1.0])])
    inequality_form([1.0], F, expected=Status.PRIMAL_INFEASIBLE)


def test_unbounded_inequality_form():
    F = np.stack([np.eye(2), np.diag([1.0, 0.0])])
    near(inequality_form([-2.0], F, expected=Status.DUAL_INFEASIBLE).x, [0.5])


@pytest.mark.parametrize("seed", range(3))
def test_random_certificates_of_several_blocks(seed):
    rng = np.random.default_rng(seed)
    sides, m = (3, 2), 3
    # y with sum y_i A_i positive definite and b'y = -1: infeasible matrix form, unbounded inequality form
    y = rng.normal(size=m)
    As = []
    for k in sides:
        A = symmetric(rng, m, k, k)
        A += y[:, None, None] * (definite(rng, k) - np.tensordot(y, A, 1)) / (y @ y)
        As.append(A)
    b = rng.normal(size=m)
    b -= y * (b @ y + 1) / (y @ y)
    Cs = tuple(definite(rng, k) for k in sides)
    matrix_form(Cs, tuple(As), b, expected=Status.PRIMAL_INFEASIBLE)
    Fs = tuple(np.concatenate([C[None], A]) for C, A in zip(Cs, As, strict=True))
    inequality_form(b, Fs, expected=Status.DUAL_INFEASIBLE)
    # X positive definite with <A_i, X> = 0 and <C, X> = -1: unbounded matrix form, infeasible inequality form
    Xs = [definite(rng, k) for k in sides]
    norm = sum(inner(X, X) for X in Xs)
    away = lambda Ms, value: tuple(
        M - (sum(inner(M_j, X_j) for M_j, X_j in zip(Ms, Xs, strict=True)) - value)[..., None, None] * X / norm
        for M, X in zip(Ms, Xs, strict=True)
    )
    As = away([symmetric(rng, m, k, k) for k in sides], np.zeros(m))
    Cs = away([symmetric(rng, k, k) for k in sides], np.asarray(-1.0))
    b = sum(inner(A, definite(rng, k)) for A, k in zip(As, sides, strict=True))
    matrix_form(Cs, As, b, expected=Status.DUAL_INFEASIBLE)
    Fs = tuple(np.concatenate([C[None], A]) for C, A in zip(Cs, As, strict=True))
    inequality_form(b, Fs, expected=Status.PRIMAL_INFEASIBLE)


HONEST = (Status.ALMOST_SOLVED, Status.NUMERICAL_ERROR, Status.MAX_ITERATIONS)


def test_weakly_infeasible():
    """[[x, 1], [1, 0]] psd has no solution, but points as near to one as you like: no certificate exists."""
    F = np.array([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]])
    solution = cj.solve_sdp(c=[1.0], F=F)
    # to a tolerance, x large is feasible and z a certificate: each claim has to be proved to the tolerance
    if solution.status in HONEST:
        assert np.all(np.isfinite(solution.x))
    else:
        certify_inequality([1.0], F, solution, expected=int(solution.status))


def test_unattained_infimum():
    """min x, [[x, 1], [1, y]] psd: 0, approached as y grows."""
    F = np.array([[[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 1.0]]])
    solution = cj.solve_sdp(c=[1.0, 0.0], F=F)
    if solution.status in HONEST:
        assert np.all(np.isfinite(solution.x))
    else:
        certify_inequality([1.0, 0.0], F, solution)
        assert 0 <= solution.objective <= 1e-3


def test_duality_gap():
    """A program with the values 0 (primal) and -1 (dual), both attained: either is not the other's proof."""
    # min -x2 ... [[1 + x2, 0, 0], [0, x1, x2], [0, x2, 0]] psd forces x2 = 0; the dual value is -1
    F = np.zeros((3, 3, 3))
    F[0, 0, 0] = 1
    F[1, 1, 1] = 1
    F[2, 0, 0] = F[2, 1, 2] = F[2, 2, 1] = 1
    solution = cj.solve_sdp(c=[0.0, 1.0], F=F)
    if solution.status in HONEST:
        assert np.all(np.isfinite(solution.x))
    else:
        certify_inequality([0.0, 1.0], F, solution)


# ----------------------------------------------------------------------------- arguments


def test_both_forms_or_neither_are_refused():
    C, A, b = np.eye(2), np.eye(2)[None], np.ones(1)
    for arguments in ({}, {"C": C}, {"C": C, "A": A, "b": b, "c": b, "F": A}, {"c": b}):
        with pytest.raises(ValueError, match="matrix form"):
            cj.solve_sdp(**arguments)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"^A has shape"):
        cj.solve_sdp(np.eye(2), np.eye(3)[None], np.ones(1))
    with pytest.raises(ValueError, match=r"^A has shape"):
        cj.solve_sdp(np.eye(2), np.eye(2), np.ones(1))
    with pytest.raises(ValueError, match=r"^C has shape"):
        cj.solve_sdp(np.ones((2, 3)), np.ones((1, 2, 3)), np.ones(1))
    with pytest.raises(ValueError, match="blocks"):
        cj.solve_sdp((np.eye(2), np.eye(2)), (np.eye(2)[None],), np.ones(1))
    with pytest.raises(ValueError, match=r"^F has shape"):
        cj.solve_sdp(c=np.ones(2), F=np.ones((2, 3, 3)))
    with pytest.raises(ValueError, match=r"^F\[1\] has shape"):
        cj.solve_sdp(c=np.ones(1), F=(np.ones((2, 3, 3)), np.ones((2, 3, 2))))
