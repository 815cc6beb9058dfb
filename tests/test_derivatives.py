"""Derivatives of every solver: against finite differences, under transforms, at degenerate points, for failed lanes."""

from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import COMPILED_AS_BY_USERS, solved_program
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.flatten_util import ravel_pytree

import convexjax as cj
from convexjax import Status

INF, NAN = np.inf, np.nan
# Points that are exact to rounding errors: then differences of order four are, too, to 1e-9 or so.
EXACT = cj.Options(tolerance=1e-11, polish=True)
CHECKED = cj.Options(tolerance=1e-11, polish=True, check_derivative=True)
STENCIL = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
WEIGHTS = np.array([1.0, -8.0, 0.0, 8.0, -1.0]) / 12
WEIGHTS_2 = np.array([-1.0, 16.0, -30.0, 16.0, -1.0]) / 12


def assert_close(got, expected, tolerance=1e-6):
    """Equal relative to the largest entry, or to one; NaN is equal to nothing."""
    got, expected = np.asarray(got), np.asarray(expected)
    assert got.shape == expected.shape
    error, size = np.abs(got - expected).max(initial=0), max(1, np.abs(expected).max(initial=0))
    assert error <= tolerance * size, f"off by {error} of {size}"


def outputs(solution):
    """Every value that has a derivative, as one vector."""
    names = ("x", "s", "y", "z", "z_lb", "z_ub", "s_cones", "z_cones", "objective")
    return ravel_pytree({name: getattr(solution, name) for name in names})[0]


# ----------------------------------------------------------------------------- one program of each kind


def positive(rng, n):
    root = rng.normal(size=(n, n))
    return root @ root.T / n + 0.5 * np.eye(n)


def qp_data(seed, n=4, m=4, p=1):
    """A generic program with some of its rows and bounds active, and some not."""
    rng = np.random.default_rng(seed)
    G, A, x = rng.normal(size=(m, n)), rng.normal(size=(p, n)), rng.uniform(-1, 1, n)
    return {"P": positive(rng, n), "q": 3 * rng.normal(size=n), "G": G, "h": G @ x + rng.uniform(0.1, 1, m),
            "A": A, "b": A @ x, "lb": x - rng.uniform(0.1, 1, n), "ub": x + rng.uniform(0.1, 1, n)}  # fmt: skip


def lp_data(seed):
    data = qp_data(seed)
    return {"c": data["q"]} | {name: data[name] for name in ("G", "h", "A", "b", "lb", "ub")}


def socp_data(seed):
    rng = np.random.default_rng(seed)
    n, x = 4, rng.normal(size=4)
    M, r, c = rng.normal(size=(2, 2, n)), rng.normal(size=(2, 2)), rng.normal(size=(2, n))
    d = np.linalg.norm(M @ x + r, axis=1) - c @ x + rng.uniform(0.1, 0.5, 2)
    N, radius = rng.normal(size=(3, n)), 10.0
    G, A = rng.normal(size=(2, n)), rng.normal(size=(1, n))
    return {"P": positive(rng, n), "q": 5 * rng.normal(size=n), "M": M, "r": r, "c": c, "d": d, "N": N,
            "radius": np.array(radius), "G": G, "h": G @ x + 0.2, "A": A, "b": A @ x}  # fmt: skip


def solve_socp(d, options):
    norms = [(d["M"], d["r"], d["c"], d["d"]), (d["N"], None, None, d["radius"])]
    return cj.solve_socp(d["q"], norms, d["G"], d["h"], d["A"], d["b"], P=d["P"], options=options)


def sdp_data(seed):
    """Two blocks, with an interior point on both sides."""
    rng = np.random.default_rng(seed)
    A1, A2 = rng.normal(size=(3, 3, 3)), rng.normal(size=(3, 2, 2))
    X1, X2, y = positive(rng, 3), positive(rng, 2), rng.normal(size=3)
    symmetric = lambda A: (A + A.transpose(0, 2, 1)) / 2
    S1, S2 = symmetric(A1), symmetric(A2)
    return {"C1": positive(rng, 3) - np.tensordot(y, S1, 1), "C2": positive(rng, 2) - np.tensordot(y, S2, 1),
            "A1": A1, "A2": A2, "b": np.tensordot(S1, X1, 2) + np.tensordot(S2, X2, 2)}  # fmt: skip


def solve_sdp(d, options):
    return cj.solve_sdp([d["C1"], d["C2"]], [d["A1"], d["A2"]], d["b"], options=options)


def lmi_data(seed):
    """The dual of the same programs: F_0 + sum x_i F_i."""
    d = sdp_data(seed)
    return {"c": d["b"], "F1": np.concatenate([d["C1"][None], d["A1"]]), "F2": np.concatenate([d["C2"][None], d["A2"]])}


def solve_lmi(d, options):
    return cj.solve_sdp(c=d["c"], F=[d["F1"], d["F2"]], options=options)


CONES = {
    "exponential and power": lambda alpha: (cj.Exponential(2), cj.Zero(1), cj.Power(alpha)),
    "mix": lambda alpha: (
        cj.Zero(1), cj.Exponential(1), cj.Nonnegative(2), cj.Power(alpha), cj.PSD(2), cj.SecondOrder(3)
    ),
}  # fmt: skip
ALPHA = {"exponential and power": np.array([0.3, 0.6]), "mix": np.array([0.4])}
SEEDS = {"exponential and power": 8, "mix": 2}


def conic_data(name, seed, n=5):
    program, _ = solved_program(np.random.default_rng(seed), n, CONES[name](ALPHA[name]), rank=n)
    P, q, A, b = program
    return {"P": P + 0.2 * np.eye(n), "q": q, "A": A, "b": b, "alpha": ALPHA[name]}


def solve_conic(name):
    return lambda d, options: cj.solve_conic(d["P"], d["q"], d["A"], d["b"], CONES[name](d["alpha"]), options=options)


CASES = {
    "lp": (lambda d, options: cj.solve_lp(**d, options=options), lp_data(3)),
    "qp": (lambda d, options: cj.solve_qp(**d, options=options), qp_data(0)),
    "socp": (solve_socp, socp_data(0)),
    "sdp": (solve_sdp, sdp_data(0)),
    "lmi": (solve_lmi, lmi_data(0)),
    **{name: (solve_conic(name), conic_data(name, SEEDS[name])) for name in CONES},
}


@lru_cache
def case(name):
    """The outputs as a function of all data, both flat vectors; the data; and the function of a batch."""
    solve, data = CASES[name]
    flat, unravel = ravel_pytree(jax.tree.map(jnp.asarray, data))
    f = lambda v: outputs(solve(unravel(v), EXACT))
    return f, flat, jax.jit(jax.vmap(f))


LANES = 256  # one size of batch for all differences, for one compilation


def differenced(name, directions, order=1, step=1e-4):
    """Derivatives of order one or two along directions (k, n): (k, outputs)."""
    _, flat, batch = case(name)
    weights = WEIGHTS if order == 1 else WEIGHTS_2
    moved = (np.asarray(flat) + step * STENCIL[:, None, None] * directions).reshape(-1, flat.size)
    padded = np.resize(moved, (-(-len(moved) // LANES) * LANES, flat.size))
    values = np.concatenate([batch(part) for part in padded.reshape(-1, LANES, flat.size)])[: len(moved)]
    return np.tensordot(weights / step**order, values.reshape(len(STENCIL), len(directions), -1), 1)


@pytest.mark.core
@pytest.mark.parametrize("name", CASES)
def test_jacobians_in_all_data_of_all_outputs(name):
    f, flat, _ = case(name)

    @jax.jit
    def run(v):
        _, along = jax.linearize(f, v)
        back = jax.linear_transpose(along, v)
        forward = jax.vmap(along, out_axes=1)(jnp.eye(v.size))
        return forward, jax.vmap(lambda w: back(w)[0])(jnp.eye(forward.shape[0]))

    forward, reverse = run(flat)
    assert_close(forward, differenced(name, np.eye(flat.size)).T)
    assert_close(reverse, forward, 1e-8)


@pytest.mark.core
@pytest.mark.parametrize("name", ["qp", "socp", "lmi", "exponential and power"])
def test_second_derivatives(name):
    f, flat, _ = case(name)
    rng = np.random.default_rng(5)
    directions = rng.normal(size=(3, flat.size)) / np.sqrt(flat.size)
    weights = rng.normal(size=jax.eval_shape(f, flat).shape[0])
    hessian = jax.jit(jax.hessian(lambda t: weights @ f(flat + t @ directions)))(np.zeros(3))
    assert_close(hessian, hessian.T, 1e-8)
    pairs = np.concatenate([np.eye(3), np.eye(3) + np.roll(np.eye(3), 1, 1)])
    expected = differenced(name, pairs @ directions, order=2, step=1e-3) @ weights
    assert_close(np.einsum("ki,ij,kj->k", pairs, hessian, pairs), expected, 1e-5)


# ----------------------------------------------------------------------------- transforms

FEW = cj.Options(tolerance=1e-10)


def small(t, options=FEW):
    """x(t) of the generic QP with its costs, right-hand sides and bounds moved by t (4,)."""
    d = CASES["qp"][1]
    return cj.solve_qp(**d | {"q": d["q"] + t, "h": d["h"] + 0.3 * t, "lb": d["lb"] - 0.1 * t}, options=options)


def loss(t):
    x = small(t).x
    return jnp.sum(jnp.sin(x)) + x @ x


POINTS = np.random.default_rng(0).normal(size=(3, 4)) / 10


@pytest.mark.core
def test_transforms_of_derivatives_agree_with_differences():
    @jax.jit
    def run(points):
        tangent = jnp.arange(1.0, 5.0)
        scanned = jax.lax.scan(lambda carry, t: (carry, jax.grad(loss)(t)), 0.0, points)[1]
        each = lambda f: jax.vmap(f)(points)
        gradients = {
            "grad": each(jax.grad(loss)),
            "scan": scanned,
            "jacfwd": each(jax.jacfwd(loss)),
            "of the sum": jax.grad(lambda points: jnp.sum(jax.vmap(loss)(points)))(points),
        }
        along = each(lambda t: jax.jvp(loss, (t,), (tangent,))[1])
        values = jax.vmap(jax.vmap(loss))(points[:, None] + 1e-4 * jnp.asarray(MOVES))
        return gradients, along, values

    gradients, along, values = run(POINTS)
    expected = np.einsum("s,pse->pe", WEIGHTS / 1e-4, np.asarray(values).reshape(3, 5, 4))
    for got in gradients.values():
        assert_close(got, expected, 1e-7)
    assert_close(along, expected @ np.arange(1.0, 5.0), 1e-7)


MOVES = (STENCIL[:, None, None] * np.eye(4)).reshape(-1, 4)


def test_two_solves_in_one_gradient_and_data_caught_in_a_closure():
    def both(t):
        first = small(t).x
        return small(0.1 * first).x @ (first + 1)

    gradient = jax.jit(jax.grad(both))(POINTS[0])
    values = jax.jit(jax.vmap(both))(POINTS[0] + 1e-4 * MOVES)
    assert_close(gradient, WEIGHTS / 1e-4 @ np.asarray(values).reshape(5, 4), 1e-7)


@pytest.mark.core
def test_a_rollout_of_twenty_steps():
    """A controller that solves a QP in each step."""
    dynamics, gain = np.array([[1.0, 0.1], [0.0, 1.0]]), np.array([0.005, 0.1])

    def rollout(theta):
        def step(state, _):
            P = jnp.exp(theta[0]) * jnp.eye(1) + jnp.outer(gain, gain).sum() * jnp.eye(1)
            q = (gain @ (dynamics @ state) * theta[1])[None]
            u = cj.solve_qp(P, q, lb=-jnp.exp(theta[2]), ub=jnp.exp(theta[2]), options=FEW).x[0]
            state = dynamics @ state + gain * u
            return state, state @ state + 0.1 * u * u

        return jnp.sum(jax.lax.scan(step, jnp.array([1.0, 0.0]), None, length=20)[1])

    theta = np.array([-3.0, 1.3, -0.5])
    gradient = jax.jit(jax.grad(rollout))(theta)
    moves = (STENCIL[:, None, None] * np.eye(3)).reshape(-1, 3)
    values = jax.jit(jax.vmap(rollout))(theta + 1e-4 * moves)
    assert_close(gradient, WEIGHTS / 1e-4 @ np.asarray(values).reshape(5, 3), 1e-6)


# ----------------------------------------------------------------------------- failed lanes

DATA = {name: CASES["qp"][1][name] for name in ("P", "q", "A", "b", "lb", "ub")}


def weighted(d, options, weight=1.0):
    solution = cj.solve_qp(**d, options=options)
    values = (solution.x, solution.y, solution.z_lb, solution.objective)
    return weight * sum(jnp.sum(v * v) for v in values), solution


@lru_cache
def gradients(failed):
    options = cj.Options(failed_derivative=failed)
    run = lambda d, weight: jax.grad(lambda d: weighted(d, options, weight), has_aux=True)(d)
    return jax.jit(jax.vmap(run))


def failing():
    low, high = DATA["lb"], DATA["ub"]
    free = {"lb": np.full(4, -INF), "ub": np.full(4, INF)}
    return [
        (DATA, Status.SOLVED),
        (DATA | {"b": DATA["A"] @ low + np.abs(DATA["A"]) @ (high - low) + 5}, Status.PRIMAL_INFEASIBLE),
        (DATA | free | {"P": np.zeros((4, 4))}, Status.DUAL_INFEASIBLE),
        (DATA | {"q": np.array([0, NAN, 0, 0])}, Status.NUMERICAL_ERROR),
        (DATA | {"A": np.full((1, 4), INF)}, Status.NUMERICAL_ERROR),
        (DATA | {"P": -DATA["P"]}, Status.NONCONVEX),
        (DATA | {"q": 2 * DATA["q"]}, Status.SOLVED),
    ]


def batched(problems):
    return jax.tree.map(lambda *values: np.stack(values), *problems)


@pytest.mark.core
@pytest.mark.parametrize("failed", ["zero", "nan"])
def test_failed_lanes(failed):
    lanes = failing()
    wanted, run = np.array([status for _, status in lanes]), gradients(failed)
    good = wanted == Status.SOLVED
    got, solution = run(batched([problem for problem, _ in lanes]), np.ones(7))
    np.testing.assert_array_equal(solution.status, wanted)
    clean, same = run(
        batched([problem if ok else DATA for (problem, _), ok in zip(lanes, good, strict=True)]), np.ones(7)
    )
    for name, gradient in got.items():
        bad = np.asarray(gradient)[~good]
        assert (np.isnan(bad) if failed == "nan" else bad == 0).all(), name
        assert np.isfinite(gradient[good]).all()
        np.testing.assert_array_equal(gradient[good], clean[name][good])
    np.testing.assert_array_equal(solution.x[good], same.x[good])


@pytest.mark.core
def test_a_failed_lane_that_the_loss_masks_has_gradient_zero():
    """The cotangent of its values is zero, as it is behind `jnp.where(solved, loss, 0)`."""
    options = cj.Options()

    def masked(d):
        value, solution = weighted(d, options)
        return jnp.where(Status.SOLVED.holds(solution.status), value, 0)

    got = jax.jit(jax.vmap(jax.grad(masked)))(batched([problem for problem, _ in failing()]))
    for gradient in got.values():
        assert (np.asarray(gradient)[1:6] == 0).all() and np.isfinite(gradient).all()


# ----------------------------------------------------------------------------- degenerate points


@pytest.mark.core
def test_rows_that_repeat_and_solutions_that_are_not_unique():
    """min 1/2 (x1 - t1)^2 + 1/2 (x2 - t2)^2 + t3 x3, x1 + x2 = b (twice), x1 <= h (twice), |x4| <= 1 free."""
    G = np.array([[1.0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, -1]])
    A = np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0]])

    def solve(t):
        P, q = np.diag([1.0, 1, 0, 0]), jnp.stack([-t[0], -t[1], jnp.ones(()), jnp.zeros(())])
        solution = cj.solve_qp(P, q, G, t[jnp.array([2, 2, 4, 4])], A, t[jnp.array([3, 3, 3])], options=CHECKED)
        return (solution.x, solution.y, solution.z), solution

    # (t1, t2, h, b, size): x1 free, and x1 = h
    points = np.array([[1.0, 0.5, 3, 2, 1], [4.0, 0.5, 1, 2, 1]])
    (x, y, z), solution = jax.jit(jax.vmap(jax.jacrev(solve, has_aux=True)))(points)
    assert (solution.status == Status.SOLVED).all() and not solution.info.derivative_unique.any()
    for v in (x, y, z):
        assert np.isfinite(v).all()
    assert_close(x[0, :3], [[0.5, -0.5, 0, 0.5, 0], [-0.5, 0.5, 0, 0.5, 0], [0, 0, 0, 1, 0]], 1e-6)
    assert_close(x[1, :3], [[0, 0, 1, 0, 0], [0, 0, -1, 1, 0], [0, 0, 0, 1, 0]], 1e-6)
    assert_close(x[:, 3], np.zeros((2, 5)), 1e-6)  # nothing moves x4: smallest norm
    assert_close(y[:, 0], y[:, 1], 1e-6)  # and the duals of equal rows share their sum


# ----------------------------------------------------------------------------- what users may do


@pytest.mark.core
def test_infinite_bounds_have_gradient_zero():
    d = {"P": np.eye(3), "q": np.array([-1.0, -2, 3]), "G": np.array([[1.0, 1, 1], [1, 0, 0]]), "h": np.array([1.0, 0]),
         "lb": np.array([0.0, -INF, 0]), "ub": np.array([INF, 1.0, INF])}  # fmt: skip
    value = lambda s: jnp.sum(s.x**2) + s.objective + jnp.sum(s.z)
    run = jax.jit(jax.grad(lambda d: value(cj.solve_qp(**d))))
    for infinite in (INF, 1e20, 1e30):
        got = run(d | {"h": np.array([1.0, infinite])})
        for name, gradient in got.items():
            assert np.isfinite(gradient).all(), name
        assert (got["G"][1] == 0).all() and got["h"][1] == 0
        assert got["lb"][1] == 0 and got["ub"][0] == got["ub"][2] == 0
        assert abs(got["ub"][1]) + abs(got["h"][0]) > 0


def test_integers_symbolic_zeros_and_outputs_without_derivative():
    with pytest.raises(TypeError, match="int"):
        jax.grad(lambda q: cj.solve_qp(np.eye(2), q).x.sum())(np.array([1, 2]))
    solve = lambda q: cj.solve_qp(np.eye(2), q, lb=0.0)
    q = jnp.array([-1.0, -2.0])
    for name in ("primal_residual", "dual_residual", "gap"):
        np.testing.assert_array_equal(jax.grad(lambda q, name=name: getattr(solve(q).info, name))(q), [0, 0])
    np.testing.assert_array_equal(jax.grad(lambda q: jnp.sum(q**2) + 0 * solve(q).status.astype(float))(q), 2 * q)
    np.testing.assert_array_equal(jax.grad(lambda q: [solve(q), jnp.sum(q)][1])(q), [1, 1])
    tangent = jax.jvp(solve, (q,), (q,))[1]
    assert tangent.status.dtype == tangent.info.num_iters.dtype == jax.dtypes.float0
    np.testing.assert_allclose(tangent.x, [1, 2], atol=1e-9)


# ----------------------------------------------------------------------------- float32


@pytest.mark.parametrize("name", ["qp", "socp", "lmi", "exponential and power"])
def test_float32(name):
    solve, data = CASES[name]

    def loss(d):
        solution = solve(d, None)
        x = solution.x
        return jnp.sum(x * x) + solution.objective, solution.status

    run = jax.jit(jax.grad(loss, has_aux=True))
    single, status = run(jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), data))
    assert status in (Status.SOLVED, Status.ALMOST_SOLVED)
    double, _ = run(data)
    for key in data:
        assert single[key].dtype == jnp.float32
        assert_close(single[key].astype(float), double[key], 1e-3)


# ----------------------------------------------------------------------------- many programs at once


def random_program(seed):
    """Small QPs and LPs of one shape: generic, with integer data, rows that repeat, rows of zeros, large scales."""
    rng = np.random.default_rng(seed)
    kind = seed % 6
    d = qp_data(seed, n=3, m=3, p=1)
    if kind == 1:
        d = {name: np.round(2 * value) for name, value in d.items()}
        d |= {
            "P": np.diag(np.abs(d["q"])),
            "h": np.abs(d["h"]),
            "b": 0 * d["b"],
            "lb": -np.ones(3),
            "ub": 2 * np.ones(3),
        }
    if kind == 2:
        d["G"][1], d["h"][1] = d["G"][0], d["h"][0]
    if kind == 3:
        d["A"], d["b"] = 0 * d["A"], 0 * d["b"]
    if kind == 4:
        d["P"] = 0 * d["P"]
    if kind == 5:
        scale = 10.0 ** rng.integers(-3, 4)
        d |= {"P": scale * d["P"], "q": scale * d["q"]}
    return d


@pytest.mark.core
def test_random_programs_have_finite_gradients_and_right_ones_where_unique():
    def run(d, direction):
        def f(d):
            solution = cj.solve_qp(**d, options=CHECKED)
            weights = jnp.sin(jnp.arange(1.0, 4.0))
            return weights @ solution.x, solution

        gradient, solution = jax.grad(f, has_aux=True)(d)
        moved = lambda t: f(jax.tree.map(lambda v, e: v + t * e, d, direction))

        def answer(t):
            value, solution = moved(t)
            return value, (solution.status, solution.s, solution.z)

        values, others = jax.vmap(answer)(jnp.asarray(1e-6 * STENCIL))
        along = sum(jnp.sum(gradient[name] * direction[name]) for name in d)
        return gradient, along, values @ WEIGHTS / 1e-6, solution, others[0]

    problems = batched([random_program(seed) for seed in range(240)])
    rng = np.random.default_rng(0)
    directions = {name: rng.normal(size=v.shape) for name, v in problems.items()}
    directions["P"] = (
        (directions["P"] + directions["P"].transpose(0, 2, 1)) / 2 * (np.arange(240) % 6 != 4)[:, None, None]
    )
    gradient, along, expected, solution, statuses = jax.jit(jax.vmap(run))(problems, directions)
    for name, value in gradient.items():
        assert np.isfinite(value).all(), name
    good = np.asarray(solution.info.derivative_unique & (statuses == Status.SOLVED).all(1))
    assert good.sum() >= 100
    error = np.abs(along - expected)[good] / np.maximum(1, np.abs(expected[good]))
    assert error.max() < 1e-4, (np.flatnonzero(good)[error > 1e-4], error[error > 1e-4])


SIX_CONES = CONES["mix"]
LANES_OF_SIX = 100


def random_cone_program(rng, kind):
    """A program over six cones from a known solution, with as many conditions as variables, more or fewer; integer
    data, rows that repeat and columns of zeros among them."""
    n = 6
    program, _ = solved_program(rng, n, SIX_CONES(ALPHA["mix"]), rank=(n, n, n // 2, 0)[kind % 4])
    P, q, A, b = program
    if kind % 5 == 1:
        A, b = np.round(A), np.round(b)
    if kind % 5 == 2:
        A[5], b[5] = A[4], b[4]  # the two rows of inequalities
    if kind % 5 == 3:
        A[:, 0] = 0
    return {"P": P, "q": q, "A": A, "b": b, "alpha": rng.uniform(0.2, 0.8, 1)}


@lru_cache
def derivatives_over_six_cones():
    """For a batch of programs and directions: gradients, derivatives along the directions, values at moved data,
    status and uniqueness."""
    weights = np.random.default_rng(1).normal(size=6)

    def f(d):
        solution = cj.solve_conic(d["P"], d["q"], d["A"], d["b"], SIX_CONES(d["alpha"]), options=CHECKED)
        return weights @ solution.x, (solution.status, solution.info.derivative_unique)

    def run(d, direction):
        gradient, (status, unique) = jax.grad(f, has_aux=True)(d)
        along = sum(jnp.sum(gradient[name] * direction[name]) for name in d)
        return gradient, along, status, unique

    def moved(d, direction, steps):
        return jax.vmap(lambda t: f(jax.tree.map(lambda v, e: v + t * e, d, direction)))(steps)

    compiled = partial(jax.jit, compiler_options=COMPILED_AS_BY_USERS)  # most of the time is running
    return compiled(jax.vmap(run)), compiled(jax.vmap(moved, (0, 0, None)))


@settings(max_examples=5)
@given(seed=st.integers(0, 2**32 - 1), size=st.sampled_from([1.0, 10.0, 0.1]))
def test_random_programs_over_six_cones(seed, size):
    run, moved = derivatives_over_six_cones()
    rng = np.random.default_rng(seed)
    problems = [random_cone_program(rng, kind) for kind in range(LANES_OF_SIX)]
    problems = batched([p | {"b": size * p["b"], "P": p["P"] / size} for p in problems])
    directions = {name: rng.normal(size=v.shape) / np.sqrt(v[0].size) for name, v in problems.items()}
    # stays in the range of P, so that P stays positive semidefinite
    directions["P"] = problems["P"] @ (directions["P"] + directions["P"].transpose(0, 2, 1)) @ problems["P"] / 10
    directions["alpha"] = 0.1 * directions["alpha"]
    gradient, along, status, unique = run(problems, directions)
    for name, value in gradient.items():
        assert np.isfinite(value).all(), name
    # Differences judge where those of two steps agree: else a kink is near, or only noise is left.
    usable, expected = [], []
    for step in (1e-4, 1e-5, 1e-6, 1e-7):
        values, (statuses, _) = moved(problems, directions, jnp.asarray(step * STENCIL))
        usable.append(np.asarray((statuses == Status.SOLVED).all(1)))
        expected.append(np.asarray(values) @ WEIGHTS / step)
    usable, expected = np.array(usable), np.array(expected)
    size = np.maximum(1, np.abs(expected[1:]))
    agree = usable[1:] & usable[:-1] & (np.abs(np.diff(expected, axis=0)) < 2e-5 * size)
    error = np.where(agree, np.abs(along - expected[1:]) / size, np.inf).min(0)
    judged = np.asarray(unique & (status == Status.SOLVED)) & agree.any(0)
    assert judged.sum() >= 20
    wrong = judged & (error > 1e-4)
    assert not wrong.any(), (np.flatnonzero(wrong), error[wrong], expected[:, wrong], along[wrong])


def test_second_derivatives_of_a_whole_batch():
    """A hessian of the sum over lanes holds those of the lanes on its diagonal."""
    q = np.random.default_rng(0).normal(size=(3, 2))
    options = cj.Options(method="interior_point", polish=True)

    def loss(q):
        s = cj.solve_qp(np.diag([1.0, 2.0]), q, [[1.0, -1.0]], [0.2], [[1.0, 1.0]], [1.0], options=options)
        return jnp.sum(s.x**2) + s.objective**2

    whole = jax.jit(jax.hessian(lambda q: jnp.sum(jax.vmap(loss)(q))))(q)
    each = jax.jit(jax.vmap(jax.hessian(loss)))(q)
    for i in range(3):
        for j in range(3):
            assert_close(whole[i, :, j], each[i] if i == j else np.zeros((2, 2)), 1e-9)
