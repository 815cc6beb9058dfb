"""`lstsq` against certified values and NumPy: fallbacks, derivatives at constant rank, equations, rows that arrive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import COMPILED_AS_BY_USERS

import convexjax as cj
from convexjax import recursive_least_squares as rls
from convexjax.double_double import minus_product

pytestmark = pytest.mark.core

Status = cj.Status
rng = np.random.default_rng(0)
TALL = rng.normal(size=(9, 4))
DEFICIENT = TALL @ np.diag([1.0, 1, 1, 0]) @ rng.normal(size=(4, 4))
WIDE = rng.normal(size=(3, 4))
MATRICES = {"tall": TALL, "deficient": DEFICIENT, "wide": WIDE}


def near(got, wanted, tolerance=1e-12):
    assert np.shape(got) == np.shape(wanted)
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * max(1, np.max(np.abs(wanted), initial=0)))


def outputs(A, q=None, seed=1):
    shape = (A.shape[0],) if q is None else (A.shape[0], q)
    return np.random.default_rng(seed).normal(size=shape)


# ----------------------------------------------------------------------------- certified values


def polynomial(x, degree):
    return x[:, None] ** np.arange(degree + 1)


def longley():
    """Longley, "An appraisal of least squares programs", 1967, with the values that NIST certifies."""
    rows = """60323 83.0 234289 2356 1590 107608 1947
    61122 88.5 259426 2325 1456 108632 1948
    60171 88.2 258054 3682 1616 109773 1949
    61187 89.5 284599 3351 1650 110929 1950
    63221 96.2 328975 2099 3099 112075 1951
    63639 98.1 346999 1932 3594 113270 1952
    64989 99.0 365385 1870 3547 115094 1953
    63761 100.0 363112 3578 3350 116219 1954
    66019 101.2 397469 2904 3048 117388 1955
    67857 104.6 419180 2822 2857 118734 1956
    68169 108.4 442769 2936 2798 120445 1957
    66513 110.8 444546 4681 2637 121950 1958
    68655 112.6 482704 3813 2552 123366 1959
    69564 114.2 502601 3931 2514 125368 1960
    69331 115.7 518173 4806 2572 127852 1961
    70551 116.9 554894 4007 2827 130081 1962"""
    table = np.array([line.split() for line in rows.splitlines()], float)
    beta = [-3482258.63459582, 15.0618722713733, -0.358191792925910e-01, -2.02022980381683]
    beta += [-1.03322686717359, -0.511041056535807e-01, 1829.15146461355]
    return np.c_[np.ones(16), table[:, 1:]], table[:, 0], beta


def wampler(noise):
    """Wampler, "A report on the accuracy of some widely used least squares computer programs", 1970: y = sum of the
    powers of x, and noise of that size orthogonal to them."""
    x = np.arange(21.0)
    delta = [759, -2048, 2048, -2048, 2523, -2048, 2048, -2048, 1838, -2048, 2048]
    delta = np.array(delta + delta[:10][::-1], float)
    return polynomial(x, 5), polynomial(x, 5).sum(1) + noise * delta, np.ones(6)


CERTIFIED = {
    "NoInt1": ((np.arange(60.0, 71)[:, None], np.arange(130.0, 141), [2.07438016528926]), 12),
    "NoInt2": ((np.array([[4.0], [5.0], [6.0]]), np.array([3.0, 4.0, 4.0]), [0.727272727272727]), 12),
    "Longley": (longley(), 12),
    "Wampler1": (wampler(0), 10),
    "Wampler3": (wampler(1), 10),
    "Wampler4": (wampler(100), 9),
    "Wampler5": (wampler(10_000), 10),
}


@pytest.mark.parametrize("name", CERTIFIED)
def test_certified_digits(name):
    (A, b, beta), digits = CERTIFIED[name]
    solution = jax.jit(cj.lstsq, compiler_options=COMPILED_AS_BY_USERS)(A, b)
    error = np.abs(np.asarray(solution.x) - beta) / np.abs(beta)
    # the certified values have 15 digits
    assert -np.log10(error.max() + 1e-15) >= min(digits, 14)
    assert solution.rank == A.shape[1]
    assert solution.status == Status.SOLVED


def test_rank_does_not_depend_on_units():
    units = np.array([1, 1e-10, 1e-20, 1e10])
    A, beta = TALL * units, np.arange(1.0, 5)
    solution = cj.lstsq(A, A @ (beta / units))
    assert solution.rank == 4
    near(np.asarray(solution.x) * units, beta, 1e-13)
    assert np.linalg.lstsq(A, A @ (beta / units))[2] < 4


def test_residuals_in_doubled_precision():
    """Against exact rational arithmetic, in both precisions, compiled."""
    from fractions import Fraction

    for dtype in (np.float64, np.float32):
        A = (rng.normal(size=(8, 6)) * 10.0 ** rng.integers(-6, 6, size=(8, 6))).astype(dtype)
        x = rng.normal(size=6).astype(dtype)
        b = (A @ x).astype(dtype)
        exact = [
            float(Fraction(float(b[i])) - sum(Fraction(float(A[i, j])) * Fraction(float(x[j])) for j in range(6)))
            for i in range(8)
        ]
        got = np.asarray(jax.jit(minus_product)((jnp.asarray(b),), jnp.asarray(A), jnp.asarray(x)))
        # the plain residual has no correct digit
        np.testing.assert_allclose(got, exact, rtol=1e3 * np.finfo(dtype).eps)


# ----------------------------------------------------------------------------- values


@pytest.mark.parametrize("q", [None, 2])
@pytest.mark.parametrize("method", ["auto", "qr", "svd"])
@pytest.mark.parametrize("name", MATRICES)
def test_smallest_norm(name, method, q):
    A, b = MATRICES[name], outputs(MATRICES[name], q)
    solution = cj.lstsq(A, b, method=method)
    near(solution.x, np.linalg.pinv(A) @ b, 1e-11)
    near(solution.residual_sum_of_squares, np.sum((b - A @ np.linalg.pinv(A) @ b) ** 2, 0))
    assert int(solution.rank) == np.linalg.matrix_rank(A)
    assert solution.status == Status.SOLVED


def test_smallest_norm_in_the_users_units():
    """Scaling the columns for the decision about the rank must not change which solution is smallest."""
    A = DEFICIENT * np.array([1e3, 1, 1e-3, 1])
    near(cj.lstsq(A, outputs(A)).x, np.linalg.pinv(A, rcond=1e-13) @ outputs(A), 1e-8)


@pytest.mark.parametrize("condition", [1e1, 1e5, 1e9])
def test_falls_back_with_the_condition(condition):
    """Consistent data have their digits lost by at most the condition number, also under vmap beside easy lanes."""
    U, _ = np.linalg.qr(rng.normal(size=(30, 5)))
    V, _ = np.linalg.qr(rng.normal(size=(5, 5)))
    A = U * np.geomspace(1, 1 / condition, 5) @ V.T
    x = rng.normal(size=5)
    easy = rng.normal(size=(30, 5))
    near(cj.lstsq(A, A @ x).x, x, condition * 1e-15)
    batch = jax.vmap(lambda A: cj.lstsq(A, A @ x).x)(jnp.stack([jnp.asarray(easy), jnp.asarray(A)]))
    near(batch[0], x, 1e-13)
    near(batch[1], x, condition * 1e-15)


def test_large_in_blocks():
    """As many rows as are read in blocks, with a rest."""
    A = rng.normal(size=(30_001, 70))
    b, w = outputs(A), rng.uniform(size=30_001)
    root = np.sqrt(w)
    near(cj.lstsq(A, b, weights=w).x, np.linalg.lstsq(A * root[:, None], b * root)[0], 1e-12)


def test_large_in_single_precision_first():
    """Any units, a condition number too large for a factor in float32, a bad row: as a small problem."""
    A = rng.normal(size=(30_001, 70))
    b = (A @ rng.normal(size=(70, 1)) + rng.normal(size=(30_001, 1)))[:, 0]
    wanted = np.linalg.lstsq(A, b)[0]
    near(cj.lstsq(A, b).x, wanted, 1e-13)
    near(cj.lstsq(A, b).residual_sum_of_squares, np.sum((b - A @ wanted) ** 2), 1e-9)
    units = 10 ** rng.uniform(-100, 100, 70)
    near(cj.lstsq(A * units, 1e60 * b).x * units / 1e60, wanted, 1e-13)
    sheared = A.copy()
    sheared[:, 1] = A[:, 0] + 1e-4 * A[:, 1]
    near(cj.lstsq(sheared, b).x, np.linalg.lstsq(sheared, b)[0], 1e-10)
    bad = A.copy()
    bad[17, 3] = np.nan
    assert cj.lstsq(bad, b).status == Status.NUMERICAL_ERROR
    assert np.isnan(cj.lstsq(bad, b).x).all()


def test_weights():
    b, w = outputs(TALL), np.array([1, 2, 0, 4, 0.5, 1, 3, 0, 1.0])
    W = np.diag(w)
    near(cj.lstsq(TALL, b, weights=w).x, np.linalg.solve(TALL.T @ W @ TALL, TALL.T @ W @ b))


def test_float32_and_integers():
    A, b = TALL.astype(np.float32), outputs(TALL).astype(np.float32)
    solution = cj.lstsq(A, b)
    assert solution.x.dtype == np.float32
    near(solution.x, np.linalg.lstsq(A.astype(float), b.astype(float))[0], 3e-7)
    near(cj.lstsq([[1, 0], [0, 2], [0, 0]], [3, 4, 5]).x, np.array([3.0, 2.0]))


# ----------------------------------------------------------------------------- edges


def test_edges():
    near(cj.lstsq(np.zeros((3, 2)), np.ones(3)).x, np.zeros(2))
    assert cj.lstsq(np.zeros((3, 2)), np.ones(3)).rank == 0
    near(cj.lstsq(np.ones((1, 1)), np.full(1, 2.0)).x, [2.0])
    near(cj.lstsq(np.ones((3, 2)), np.full(3, 2.0)).x, [1.0, 1.0])
    assert cj.lstsq(np.zeros((3, 0)), np.ones(3)).x.shape == (0,)
    assert cj.lstsq(np.zeros((0, 2)), np.zeros(0)).status == Status.SOLVED
    near(cj.lstsq(TALL, np.zeros(9)).x, np.zeros(4))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_lane_leaves_the_others(value):
    A = np.stack([TALL, TALL + 0.1])
    A[1, 2, 2] = value
    batch = jax.vmap(cj.lstsq, (0, None))(A, outputs(TALL))
    assert batch.status.tolist() == [Status.SOLVED, Status.NUMERICAL_ERROR]
    near(batch.x[0], np.linalg.lstsq(TALL, outputs(TALL))[0])
    assert np.isnan(batch.x[1]).all()
    slope = jax.grad(lambda A: jnp.sum(jax.vmap(cj.lstsq, (0, None))(A, outputs(TALL)).x[0]))(A)
    assert np.isfinite(slope).all()
    assert np.abs(slope[0]).max() > 0
    assert cj.lstsq(TALL, outputs(TALL), weights=-np.ones(9)).status == Status.NONCONVEX


def test_errors():
    for arguments, words in [
        (dict(A=TALL, b=np.ones(8)), "b has shape"),
        (dict(A=TALL[0], b=np.ones(1)), "A has shape"),
        (dict(A=TALL, b=np.ones(9), weights=np.ones((9, 1))), "weights has shape"),
        (dict(A=TALL, b=np.ones(9), C=TALL), "C given without d"),
        (dict(A=TALL, b=np.ones(9), C=np.ones((1, 3)), d=np.ones(1)), "C has shape"),
        (dict(A=TALL, b=np.ones(9), method="normal"), "method must be one of"),
        (dict(A=TALL, b=np.ones(9), rcond=-1.0), "rcond must be"),
        (dict(A=TALL * 1j, b=np.ones(9)), "real numbers"),
        (dict(A=(np.sum, np.sum), b=np.ones(9), method="qr"), "needs A as a matrix"),
    ]:
        with pytest.raises(ValueError, match=words):
            cj.lstsq(**arguments)


# ----------------------------------------------------------------------------- derivatives


def along(A, direction):
    """A function of t whose matrix A + t direction keeps its rank."""
    U, s, Vt = np.linalg.svd(A)
    k = np.sum(s > 1e-10)
    if k == min(A.shape):
        return lambda t: A + t * direction
    # turn the factors: exact to all orders
    return lambda t: (U[:, :k] * s[:k] + t * direction[:, :k]) @ (Vt[:k] + t * direction[:k, : A.shape[1]])


def oracle(A, b, w):
    root = np.sqrt(w)
    return np.linalg.pinv(A * root[:, None], rcond=1e-11) @ (root * b)


@pytest.fixture(scope="module", params=MATRICES)
def curve(request):
    """x(t) by lstsq and by NumPy for data that move along a curve of constant rank."""
    A = MATRICES[request.param]
    own = np.random.default_rng(5)
    m = A.shape[0]
    path, db, b = along(A, own.normal(size=(max(A.shape),) * 2)[: A.shape[0], : A.shape[1]]), *own.normal(size=(2, m))
    w, dw = own.uniform(0.5, 2, size=m), 0.1 * own.normal(size=m)
    ours = lambda t: cj.lstsq(path(t), b + t * db, weights=w + t * dw).x
    return jax.jit(ours), lambda t: oracle(path(t), b + t * db, w + t * dw)


def test_first_derivatives(curve):
    ours, exact = curve
    h = 1e-5
    wanted = (exact(h) - exact(-h)) / (2 * h)
    near(jax.jvp(ours, (0.0,), (1.0,))[1], wanted, 1e-7)
    near(jax.jacrev(ours)(0.0), wanted, 1e-7)


def test_second_derivatives(curve):
    ours, exact = curve
    h = 1e-4
    wanted = (exact(h) - 2 * exact(0.0) + exact(-h)) / h**2
    near(jax.jacfwd(jax.jacrev(ours))(0.0), wanted, 1e-5)
    near(jax.jacfwd(jax.jacfwd(ours))(0.0), wanted, 1e-5)


def test_derivative_at_weight_zero():
    """The root of a weight has no derivative there; the solution has."""
    b, w = outputs(TALL), np.array([1, 2, 0, 4, 0.5, 1, 3, 0, 1.0])
    slope = jax.jacfwd(lambda w: cj.lstsq(TALL, b, weights=w).x)(w)
    step = lambda t: cj.lstsq(TALL, b, weights=w + t * np.eye(9)[2]).x
    near(slope[:, 2], (step(1e-6) - step(0.0)) / 1e-6, 1e-5)
    near(jax.jacrev(lambda w: cj.lstsq(TALL, b, weights=w).x)(w), slope)


def test_derivative_of_the_residual_sum():
    b = outputs(TALL)
    r = b - TALL @ np.linalg.pinv(TALL) @ b
    near(jax.grad(lambda b: cj.lstsq(TALL, b).residual_sum_of_squares)(b), 2 * r)


def test_inside_scan_and_vmap():
    b = outputs(TALL, 3).T
    batch = jax.vmap(lambda b: cj.lstsq(TALL, b).x)(b)
    _, scanned = jax.lax.scan(lambda c, b: (c, cj.lstsq(TALL, b).x), 0, b)
    near(batch, scanned)


# ----------------------------------------------------------------------------- equations


C = np.array([[1.0, 1, 1, 1], [0, 1, 0, 0]])
D = np.array([1.0, 0.3])


def kkt(A, b, C, d):
    K = np.block([[A.T @ A, C.T], [C, np.zeros((len(C),) * 2)]])
    return (np.linalg.pinv(K, rcond=1e-12) @ np.concatenate([A.T @ b, d]))[:4]


@pytest.mark.parametrize("name", MATRICES)
def test_equations(name):
    A, b = MATRICES[name], outputs(MATRICES[name])
    solution = cj.lstsq(A, b, C=C, d=D)
    near(solution.x, kkt(A, b, C, D), 1e-9)
    near(C @ np.asarray(solution.x), D, 1e-13)
    slope = jax.jacrev(lambda A, b, C, d: cj.lstsq(A, b, C=C, d=d).x, (0, 1, 2, 3))(A, b, C, D)
    if name == "deficient":
        return  # a change of A changes the rank
    own, h = np.random.default_rng(3), 1e-6
    steps = [own.normal(size=v.shape) for v in (A, b, C, D)]
    moved = [kkt(*(v + sign * h * step for v, step in zip((A, b, C, D), steps, strict=True))) for sign in (1, -1)]
    got = sum(np.tensordot(s, step, step.ndim) for s, step in zip(slope, steps, strict=True))
    near(got, (moved[0] - moved[1]) / (2 * h), 1e-6)


def test_redundant_and_contradictory_equations():
    b = outputs(TALL)
    twice, right = np.vstack([C, C[:1]]), np.append(D, D[0])
    near(cj.lstsq(TALL, b, C=twice, d=right).x, kkt(TALL, b, C, D), 1e-9)
    assert cj.lstsq(TALL, b, C=twice, d=right + np.array([0, 0, 1e-3])).status == Status.PRIMAL_INFEASIBLE


# ----------------------------------------------------------------------------- without a matrix, and rows that arrive


@pytest.mark.parametrize("form", ["callables", "operator", "matrix"])
def test_matrix_free(form):
    lineax = pytest.importorskip("lineax")
    b, w = outputs(TALL), rng.uniform(0.5, 2, 9)

    def solve(A):
        operator = {
            "callables": (lambda x: A @ x, lambda y: A.T @ y),
            "operator": lineax.MatrixLinearOperator(A),
            "matrix": A,
        }[form]
        return cj.lstsq(operator, b, weights=w, method="lsmr")

    solution = jax.jit(solve)(jnp.asarray(TALL))
    near(solution.x, cj.lstsq(TALL, b, weights=w).x, 1e-9)
    assert solution.status == Status.SOLVED
    slope = jax.grad(lambda A: jnp.sum(solve(A).x))(jnp.asarray(TALL))
    near(slope, jax.grad(lambda A: jnp.sum(cj.lstsq(A, b, weights=w).x))(TALL), 1e-8)


def test_rows_that_arrive():
    b = outputs(TALL)

    def run(A, b):
        state = rls.update(rls.init(4), A[:3], b[:3])
        early = rls.solve(state)
        state, _ = jax.lax.scan(lambda state, row: (rls.update(state, *row), None), state, (A[3:], b[3:]))
        return early, rls.solve(state)

    early, late = jax.jit(run)(jnp.asarray(TALL), b)
    assert early.status == Status.NUMERICAL_ERROR
    whole = cj.lstsq(TALL, b)
    near(late.x, whole.x)
    near(late.residual_sum_of_squares, whole.residual_sum_of_squares)
    slope = jax.jacrev(lambda A, b: run(A, b)[1].x, (0, 1))(jnp.asarray(TALL), b)
    for got, wanted in zip(slope, jax.jacrev(lambda A, b: cj.lstsq(A, b).x, (0, 1))(TALL, b), strict=True):
        near(got, wanted, 1e-10)


def test_rows_that_arrive_with_weights():
    b, w = outputs(TALL, 2), rng.uniform(0.5, 2, 9)
    state = rls.init(4, 2)
    for i in range(9):
        state = rls.update(state, TALL[i], b[i], weights=w[i], forgetting=0.9)
    near(rls.solve(state).x, cj.lstsq(TALL, b, weights=w * 0.9 ** np.arange(8, -1, -1)).x, 1e-11)
