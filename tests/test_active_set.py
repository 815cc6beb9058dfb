"""Batches of small quadratic programs by the active set: every lane right, whatever its data."""

from functools import partial

import chex
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import certify_qp, lane, near, stack
from hypothesis import given, settings
from hypothesis import strategies as st

import convexjax as cj
from convexjax import Status, active_set, solver
from convexjax.batches import in_chunks

N, M, P = 5, 8, 2
LANES = 24
NAMES = ("P", "q", "G", "h", "A", "b", "lb", "ub")


def random_qp(rng):
    """Positive definite, with a strictly feasible point."""
    L, G, A, inside = (rng.normal(size=shape) for shape in ((N, N), (M, N), (P, N), N))
    return {
        "P": L @ L.T / N + 0.1 * np.eye(N),
        "q": rng.normal(size=N),
        "G": G,
        "h": G @ inside + rng.uniform(0.1, 1, M),
        "A": A,
        "b": A @ inside,
        "lb": inside - rng.uniform(0.1, 2, N),
        "ub": inside + rng.uniform(0.1, 2, N),
    }


def duplicate_rows(rng, d):
    G, h = d["G"].copy(), d["h"].copy()
    G[4:], h[4:] = G[:4], h[:4]
    return d | {"G": G, "h": h}


def redundant_equations(rng, d):
    A, b = d["A"].copy(), d["b"].copy()
    A[1], b[1] = 3 * A[0], 3 * b[0]
    return d | {"A": A, "b": b}


def contradicting_equations(rng, d):
    d = redundant_equations(rng, d)
    return d | {"b": d["b"] + [0.0, 1.0]}


def degenerate_vertex(rng, d):
    """Integers: most rows meet in one point."""
    G = rng.integers(-1, 2, (M, N)).astype(float)
    return d | {
        "G": G,
        "h": np.abs(G).sum(1),
        "A": np.zeros((P, N)),
        "b": np.zeros(P),
        "lb": -np.ones(N),
        "ub": np.ones(N),
    }


def badly_scaled(rng, d):
    rows, columns = 10.0 ** rng.integers(-5, 6, M), 10.0 ** rng.integers(-3, 4, N)
    return {
        "P": d["P"] * columns[:, None] * columns,
        "q": d["q"] * columns,
        "G": rows[:, None] * d["G"] * columns,
        "h": rows * d["h"],
        "A": d["A"] * columns,
        "b": d["b"],
        "lb": d["lb"] / columns,
        "ub": d["ub"] / columns,
    }


def singular(rng, d):
    L = rng.normal(size=(N, 2))
    return d | {"P": L @ L.T}


def infeasible(rng, d):
    G, h = d["G"].copy(), d["h"].copy()
    G[-1], h[-1] = -G[0], -h[0] - 1
    return d | {"G": G, "h": h}


def crossed_bounds(rng, d):
    return d | {"lb": d["ub"] + 1}


def fixed_variables(rng, d):
    x = np.linalg.lstsq(d["A"], d["b"], rcond=None)[0]
    return d | {
        "lb": np.where(np.arange(N) < 2, x, -np.inf),
        "ub": np.where(np.arange(N) < 2, x, np.inf),
        "h": d["h"] + 100,
    }


def nothing_binds(rng, d):
    return d | {"h": np.full(M, np.inf), "lb": np.full(N, -np.inf), "ub": np.full(N, 1e20)}


def zero_rows(rng, d):
    G, h = d["G"].copy(), d["h"].copy()
    G[2:4], h[2:4] = 0, [0.0, 1.0]
    return d | {"G": G, "h": h}


FAMILIES = [
    lambda rng, d: d,
    duplicate_rows,
    redundant_equations,
    contradicting_equations,
    degenerate_vertex,
    badly_scaled,
    singular,
    infeasible,
    crossed_bounds,
    fixed_variables,
    nothing_binds,
    zero_rows,
]
INFEASIBLE = {contradicting_equations, infeasible, crossed_bounds}


def batch_of(seed):
    rng = np.random.default_rng(seed)
    families = [FAMILIES[i % len(FAMILIES)] for i in range(LANES)]
    return families, [family(rng, random_qp(rng)) for family in families]


def stacked(problems):
    return dict(zip(NAMES, stack([tuple(d[name] for name in NAMES) for d in problems]), strict=True))


@partial(jax.jit, static_argnames="method")
def solve_batch(problems, method="auto"):
    return jax.vmap(lambda d: cj.solve_qp(**d, options=cj.Options(method=method)))(problems)


@pytest.mark.core
@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_every_lane_of_hard_families(seed):
    families, problems = batch_of(seed)
    got, alone = solve_batch(stacked(problems)), solve_batch(stacked(problems), "interior_point")
    for i, (family, d) in enumerate(zip(families, problems, strict=True)):
        if family in INFEASIBLE:
            certify_qp(**d, solution=lane(got, i), expected=Status.PRIMAL_INFEASIBLE)
        elif family is badly_scaled:  # the certificate of the helpers knows no units
            assert got.status[i] == alone.status[i] == Status.SOLVED
            near(got.objective[i], alone.objective[i])
        else:
            certify_qp(**d, solution=lane(got, i), tolerance=3e-8)
            if family is not singular:
                near(got.x[i], alone.x[i], 1e-5)


def test_lanes_do_not_depend_on_the_company():
    families, problems = batch_of(0)
    whole = solve_batch(stacked(problems))
    spoiled = [d | {"q": np.full(N, np.nan)} if i % 3 == 1 else d for i, d in enumerate(problems)]
    got = solve_batch(stacked(spoiled))
    assert (got.status[1::3] == Status.NUMERICAL_ERROR).all() and np.isnan(got.x[1::3]).all()
    kept = np.arange(LANES) % 3 != 1
    chex.assert_trees_all_equal(lane(got, kept), lane(whole, kept))


@pytest.mark.core
def test_alone_by_option():
    _, problems = batch_of(1)
    run = jax.jit(lambda d: cj.solve_qp(**d, options=cj.Options(method="active_set")))
    batch = solve_batch(stacked(problems))
    for i in range(len(FAMILIES)):
        alone = run(problems[i])
        assert alone.status == batch.status[i]
        if alone.status == Status.SOLVED:
            near(alone.x, batch.x[i], 1e-7)


@pytest.mark.parametrize("lanes", [0, 1, 3, 64, 130])
def test_batches_of_any_size(lanes):
    d = random_qp(np.random.default_rng(2))
    q = np.random.default_rng(3).normal(size=(lanes, N))
    got = jax.jit(jax.vmap(lambda q: cj.solve_qp(**d | {"q": q})))(q)
    assert got.x.shape == (lanes, N) and (got.status == Status.SOLVED).all()
    for i in range(0, lanes, 13):
        certify_qp(**d | {"q": q[i]}, solution=lane(got, i))


def test_more_steps_than_allowed_is_the_interior_point():
    _, problems = batch_of(4)
    solve = lambda most: jax.vmap(lambda d: cj.solve_qp(**d, options=cj.Options(max_iters=most)))(stacked(problems))
    few = solve(1).status
    # a lane's own limit holds whatever the others may do
    each = jax.vmap(lambda d, most: cj.solve_qp(**d, options=cj.Options(max_iters=most)))
    got = each(stacked(problems), np.where(np.arange(LANES) % 2, 1, 200))
    np.testing.assert_array_equal(got.status[1::2], few[1::2])
    np.testing.assert_array_equal(got.status[::2], solve(200).status[::2])
    assert np.isin(few, [Status.SOLVED, Status.PRIMAL_INFEASIBLE, Status.MAX_ITERATIONS]).all()
    assert (few == Status.MAX_ITERATIONS).any()


def few_iterations(**problem):
    """A batch over q; ten iterations are enough for the walk alone."""
    options = cj.Options(max_iters=10)
    n = problem["P"].shape[0]
    q = np.random.default_rng(0).normal(size=(3, n)).astype(problem["P"].dtype)
    return jax.vmap(lambda q: cj.solve_qp(q=q, **problem, options=options))(q)


def test_some_infinite_bounds(monkeypatch):
    """Rows without effect do not spoil the proof."""
    monkeypatch.setattr(solver, "_interior_point", _unproved)
    jax.clear_caches()
    lb, ub = np.array([-7.0, -np.inf, -np.inf]), np.array([np.inf, 1e20, 5.0])
    got = few_iterations(P=np.eye(3), G=np.ones((2, 3)), h=np.array([np.inf, 30.0]), lb=lb, ub=ub)
    jax.clear_caches()
    assert (got.status == Status.SOLVED).all()


def _unproved(program, options, guess, needed=True):
    nothing = jnp.zeros((), program.q.dtype)
    info = cj.Info(num_iters=jnp.int32(0), primal_residual=nothing, dual_residual=nothing, gap=nothing)
    return solver.ConeSolution(program.q, program.b, program.b, nothing, jnp.int32(Status.UNSOLVED), info)


@pytest.mark.parametrize(("dtype", "angle"), [(np.float64, 2e-6), (np.float32, 3e-3)])
def test_feasible_far_away_is_not_infeasible(dtype, angle):
    """x = (-1000, -2000 / angle): rows that nearly contradict each other."""
    P, G, h = np.eye(2), np.array([[1.0, 0.0], [-1.0, angle]]), np.array([-1000.0, -1000.0])
    got = few_iterations(P=P.astype(dtype), G=G.astype(dtype), h=h.astype(dtype))
    assert not (got.status == Status.PRIMAL_INFEASIBLE).any()


def test_export_for_any_number_of_lanes():
    (number,) = jax.export.symbolic_shape("b")
    solve = jax.jit(jax.vmap(lambda q: cj.solve_qp(np.eye(2), q, [[1.0, 1.0]], [1.0]).x))
    exported = jax.export.export(solve)(jax.ShapeDtypeStruct((number, 2), np.float64))
    for lanes in (2, 70):
        q = np.random.default_rng(0).normal(size=(lanes, 2))
        near(exported.call(q), solve(q), 1e-9)


def test_without_jit():
    with jax.disable_jit():
        got = jax.vmap(lambda q: cj.solve_qp(np.eye(2), q, lb=0.0).x)(np.array([[1.0, -2.0], [3.0, -1.0]]))
    near(got, [[0.0, 2.0], [0.0, 1.0]])


def test_derivatives_of_lanes():
    """The active set and the interior point have the same derivatives."""
    rng = np.random.default_rng(5)
    problems = stacked([random_qp(rng) for _ in range(4)])
    weights = [jnp.asarray(rng.normal(size=size)) for size in (N, M, P)]

    def loss(d, method):
        s = cj.solve_qp(**d, options=cj.Options(method=method, tolerance=1e-11, polish=True))
        return sum(w @ v for w, v in zip(weights, (s.x, s.z, s.y), strict=True)) + s.objective

    run = jax.jit(lambda d, method: jax.vmap(jax.grad(lambda d: loss(d, method)))(d), static_argnames="method")
    chex.assert_trees_all_close(run(problems, "auto"), run(problems, "interior_point"), rtol=1e-7, atol=1e-7)


def test_float32():
    _, problems = batch_of(6)
    plain = [d for i, d in enumerate(problems) if FAMILIES[i % len(FAMILIES)] not in (badly_scaled, singular)]
    batch = jax.tree.map(lambda v: v.astype(np.float32), stacked(plain))
    got, exact = solve_batch(batch), solve_batch(stacked(plain))
    assert got.x.dtype == np.float32
    np.testing.assert_array_equal(got.status, exact.status)
    good = exact.status == Status.SOLVED
    for g, e in zip(got.x[good], exact.x[good], strict=True):
        near(g, e, 1e-3)


def test_large_or_linear_programs_are_for_the_interior_point(monkeypatch):
    def forbidden(*_):
        raise AssertionError("active_set.solve was called")

    monkeypatch.setattr(active_set, "solve", forbidden)
    jax.clear_caches()
    d = random_qp(np.random.default_rng(7))
    q = np.ones((3, N))
    assert (jax.vmap(lambda q: cj.solve_qp(**d | {"P": None, "q": q}))(q).status == Status.SOLVED).all()
    assert (
        jax.vmap(lambda q: cj.solve_socp(q, [(np.eye(N), np.zeros(N), None, 1.0)]))(q).status == Status.SOLVED
    ).all()
    big = np.zeros((active_set.MAX_ROWS + 1, N))
    assert (jax.vmap(lambda q: cj.solve_qp(d["P"], q, big, big[:, 0] + 1))(q).status == Status.SOLVED).all()
    with pytest.raises(AssertionError, match="was called"):
        jax.vmap(lambda q: cj.solve_qp(**d | {"q": q}))(q)


def test_chunks():
    values, offset = np.arange(22.0).reshape(11, 2), np.array(3.0)
    seen = []

    def function(arguments, lanes):
        v, offset = arguments
        seen.append((v.shape, lanes))
        return {"sum": v.sum(1) + offset, "twice": 2 * v}

    for chunk, expected in ((16, 11), (11, 11), (4, 4), (6, 6), (1, 1)):
        got = in_chunks(function, (jnp.asarray(values), jnp.asarray(offset)), (True, False), 11, chunk)
        assert seen[-1] == ((expected, 2), expected)
        np.testing.assert_array_equal(got["sum"], values.sum(1) + 3)
        np.testing.assert_array_equal(got["twice"], 2 * values)


def test_one_trace_for_new_data():
    traces = []

    @jax.jit
    def run(d):
        traces.append(0)
        return jax.vmap(lambda d: cj.solve_qp(**d))(d)

    for seed in (8, 9):
        run(stacked(batch_of(seed)[1]))
    assert len(traces) == 1
