"""Large semidefinite programs in the cone form, as linear matrix inequalities and as their duals."""

import cvxpy as cp
import numpy as np
import pytest
import scipy.sparse as sp
from helpers import certify_conic, complementary, infeasible_program, interior, solved_program, svec, unbounded_program

import convexjax as cj
from convexjax.interop.cone_form import ConeForm
from convexjax.interop.cvxpy import CONVEXJAX
from convexjax.interop.semidefinite_form import is_large_semidefinite, solve_semidefinite_form

SOLVED, INFEASIBLE, UNBOUNDED = cj.Status.SOLVED, cj.Status.PRIMAL_INFEASIBLE, cj.Status.DUAL_INFEASIBLE


def form_of(cones) -> ConeForm:
    zero, nonnegative, *rest = cones
    sides = tuple(cone.side for cone in rest)
    return ConeForm(
        zero=zero.rows, nonnegative=nonnegative.rows, second_order=(), semidefinite=sides, exponential=0, power=()
    )


def check(q, A, b, cones, expected):
    solution = solve_semidefinite_form(form_of(cones), q, sp.csr_array(A), b, cj.Options())
    certify_conic(None, q, A, b, cones, solution, tolerance=1e-6, expected=expected)


@pytest.mark.parametrize("expected", [SOLVED, INFEASIBLE, UNBOUNDED], ids=lambda status: status.name)
def test_inequality(expected):
    """Every row has entries of all variables."""
    cones = [cj.Zero(2), cj.Nonnegative(3), cj.PSD(3), cj.PSD(2)]
    rng, n = np.random.default_rng(0), 6
    if expected == SOLVED:
        (_, q, A, b), _ = solved_program(rng, n, cones, rank=0)
    else:
        _, q, A, b = (infeasible_program if expected == INFEASIBLE else unbounded_program)(rng, n, cones)
    check(q, A, b, cones, expected)


@pytest.mark.parametrize("expected", [SOLVED, INFEASIBLE, UNBOUNDED], ids=lambda status: status.name)
def test_dual(expected):
    """The blocks and two of three inequalities are variables, and two variables are free."""
    cones = [cj.Zero(4), cj.Nonnegative(3), cj.PSD(3), cj.PSD(2)]
    rng, n, p = np.random.default_rng(1), 13, 4
    scale, order = rng.uniform(0.5, 2, 11), rng.permutation(11)
    A = rng.normal(size=(p + 3 + 6 + 3, n))
    variables = np.r_[p, p + 2 : len(A)]  # the row between is an inequality like any other
    A[variables] = 0
    A[variables, order] = -scale
    b, q = rng.normal(size=len(A)), rng.normal(size=n)
    if expected == SOLVED:
        pairs = [complementary(rng, cone) for cone in cones]
        s, z = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
        x = rng.normal(size=n)
        x[order] = (s - b)[variables] / scale
        b, q = A @ x + s, -A.T @ z
    elif expected == INFEASIBLE:
        z = np.concatenate([interior(rng, cone, dual=True) for cone in cones])
        A[0] -= A.T @ z / z[0]
        b[0] -= (b @ z + 1) / z[0]
    else:
        x = np.zeros(n)
        inside = np.concatenate([[1.0, 1.0], svec(np.eye(3)), svec(np.eye(2))])
        x[order], x[-1] = inside / scale, 1.0
        others = np.setdiff1d(np.arange(len(A)), variables)
        A[others, -1] -= A[others] @ x
        q[-1] -= q @ x + 1
    check(q, A, b, cones, expected)


def test_when():
    A = sp.csr_array((300, 200))
    blocks = dict(zero=0, nonnegative=0, exponential=0, power=(), second_order=())
    assert is_large_semidefinite(ConeForm(semidefinite=(24,), **blocks), A, cj.Options())
    assert not is_large_semidefinite(ConeForm(semidefinite=(24,), **blocks), A[:100], cj.Options())
    assert not is_large_semidefinite(ConeForm(semidefinite=(24,), **blocks), A, cj.Options(polish=True))
    assert not is_large_semidefinite(ConeForm(semidefinite=(24,), **blocks | {"exponential": 1}), A, cj.Options())


def test_max_cut_in_cvxpy():
    """Both of the pair of duals, written in CVXPY, against each other, with their dual values."""
    n = 20
    rng = np.random.default_rng(2)
    weights = np.triu(rng.uniform(size=(n, n)) < 0.3, 1).astype(float)
    L = np.diag((weights + weights.T).sum(1)) - weights - weights.T
    X = cp.Variable((n, n), symmetric=True)
    primal = cp.Problem(cp.Maximize(cp.trace(L @ X) / 4), [X >> 0, cp.diag(X) == 1])
    primal.solve(solver=CONVEXJAX())
    y = primal.constraints[1].dual_value
    Z = primal.constraints[0].dual_value
    assert primal.status == "optimal" and primal.value == pytest.approx(y.sum(), rel=1e-7)
    np.testing.assert_allclose(Z, np.diag(y) - L / 4, atol=1e-6)
    assert np.linalg.eigvalsh(X.value).min() > -1e-8 and np.linalg.eigvalsh(Z).min() > -1e-7
    assert abs(np.sum(Z * X.value)) < 1e-5
