"""Warm starts of every named problem: the same answers, in fewer iterations, never in more than two more."""

from dataclasses import replace

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convexjax as cj
from convexjax import Status

LANES = 24
CONES = (cj.Nonnegative(2), cj.Exponential(1))


def random_qp(rng):
    n, m, p = 8, 14, 2
    M, G, A, x = (rng.normal(size=shape) for shape in ((n, n), (m, n), (p, n), n))
    q, h = 3 * rng.normal(size=n), G @ x + rng.uniform(size=m)
    return {"P": M @ M.T / n + 0.1 * np.eye(n), "q": q, "G": G, "h": h, "A": A, "b": A @ x, "lb": x - 1, "ub": x + 1}


def random_socp(rng):
    n, count, k = 6, 4, 3
    M, r, c, x = (rng.normal(size=shape) for shape in ((count, k, n), (count, k), (count, n), n))
    d = np.linalg.norm(M @ x + r, axis=1) - c @ x + rng.uniform(size=count)
    return {
        "q": rng.normal(size=n),
        "P": np.eye(n),
        "norms": ((M, r, c, d),),
        "G": np.ones((1, n)),
        "h": np.ones(1) * 9,
    }


def random_lmi(rng):
    F = rng.normal(size=(5, 4, 4))
    F = F + F.transpose(0, 2, 1)
    F[0] = np.eye(4)
    Z = np.eye(4) + 0.1 * F[1]
    return {"c": np.einsum("ijk,jk->i", F[1:], Z), "F": F}


def random_matrix_sdp(rng):
    A = rng.normal(size=(3, 4, 4))
    A, C = A + A.transpose(0, 2, 1), np.diag(rng.uniform(1, 2, 4))
    return {"C": C, "A": A, "b": np.einsum("ijk,jk->i", A, np.eye(4) + 0.3 * C)}


def random_conic(rng):
    (P, q, A, b), _ = helpers.solved_program(rng, 5, CONES)
    return {"P": P, "q": q, "A": A, "b": b}


PROBLEMS = {
    "qp": (random_qp, cj.solve_qp, ("q", "h", "b")),
    "socp": (random_socp, cj.solve_socp, ("q", "h")),
    "lmi": (random_lmi, cj.solve_sdp, ("c",)),
    "matrix sdp": (random_matrix_sdp, cj.solve_sdp, ("b",)),
    "conic": (random_conic, lambda **d: cj.solve_conic(**d, cones=CONES), ("q",)),
}
# QPs in batches are else solved by the active set, whose steps are not those of the interior point
OPTIONS = cj.Options(method="interior_point")


@pytest.fixture(scope="module", params=PROBLEMS)
def problem(request):
    """(solve cold, solve warm, a batch of data, its solutions, the names to change)"""
    generate, solve, names = PROBLEMS[request.param]
    rng = np.random.default_rng(5)
    data = jax.tree.map(lambda *leaves: np.stack(leaves), *(generate(rng) for _ in range(LANES)))
    cold = jax.jit(jax.vmap(lambda data: solve(**data, options=OPTIONS)))
    warm = jax.jit(jax.vmap(lambda data, guess: solve(**data, options=OPTIONS, warm_start=guess)))
    return cold, warm, data, cold(data), names


def changed(data, names, size):
    rng = np.random.default_rng(6)
    return data | {name: data[name] + size * rng.normal(size=data[name].shape) for name in names}


@pytest.mark.parametrize("size", [0.0, 1e-5, 1e-2, 0.3])
def test_the_same_answer_in_fewer_iterations(problem, size):
    solve_cold, solve_warm, data, previous, names = problem
    data = changed(data, names, size)
    cold, warm = solve_cold(data), solve_warm(data, previous)
    # what is proved from a cold start is proved from a warm one; a start may prove what another does not
    proved = np.isin(cold.status, [Status.SOLVED, Status.PRIMAL_INFEASIBLE, Status.DUAL_INFEASIBLE])
    np.testing.assert_array_equal(warm.status[proved], cold.status[proved])
    solved = np.asarray(cold.status) == Status.SOLVED
    assert solved.sum() >= 0.7 * LANES
    np.testing.assert_allclose(warm.objective[solved], cold.objective[solved], rtol=1e-6, atol=1e-6)
    more = np.asarray(warm.info.num_iters) - np.asarray(cold.info.num_iters)
    assert more[solved].max() <= 2
    if size <= 1e-5:
        # where strict complementarity fails no Newton step arrives
        assert np.median(warm.info.num_iters[solved]) <= 0.35 * np.median(cold.info.num_iters[solved])


def test_a_guess_of_another_problem(problem):
    solve_cold, solve_warm, data, previous, _ = problem
    warm = solve_warm(data, jax.tree.map(lambda leaf: jnp.roll(leaf, 1, 0), previous))
    np.testing.assert_array_equal(warm.status, previous.status)
    np.testing.assert_allclose(warm.objective, previous.objective, rtol=1e-6, atol=1e-6)
    assert (warm.info.num_iters - previous.info.num_iters).max() <= 2


def test_nan_in_a_guess_stays_in_its_lane_and_is_ignored(problem):
    _, solve_warm, data, previous, _ = problem
    clean = solve_warm(data, previous)
    bad = jax.tree.map(
        lambda leaf: leaf.at[3].set(jnp.nan) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, previous
    )
    got = solve_warm(data, bad)
    assert (got.status == previous.status).all()
    np.testing.assert_allclose(got.objective[3], previous.objective[3], rtol=1e-6, atol=1e-6)
    others = np.delete(np.arange(LANES), 3)
    jax.tree.map(
        np.testing.assert_array_equal,
        *(jax.tree.map(lambda leaf: leaf[others], (s.x, s.z, s.status)) for s in (got, clean)),
    )


def test_infeasible_and_unbounded_are_told_from_a_warm_start():
    data = random_qp(np.random.default_rng(1))
    previous = cj.solve_qp(**data)
    impossible = data | {"lb": data["ub"] + 1, "ub": data["ub"]}
    assert cj.solve_qp(**impossible, warm_start=previous).status == Status.PRIMAL_INFEASIBLE
    linear = cj.solve_lp([1.0, 1.0], lb=0.0)
    assert cj.solve_lp([-1.0, 1.0], lb=0.0, warm_start=linear).status == Status.DUAL_INFEASIBLE
    indefinite = data | {"P": -data["P"]}
    assert cj.solve_qp(**indefinite, warm_start=previous).status == Status.NONCONVEX


def test_a_receding_horizon_in_scan_takes_a_step_or_two_each():
    data = random_qp(np.random.default_rng(2))
    direction = np.random.default_rng(3).normal(size=8)

    def step(previous, t):
        solution = cj.solve_qp(**data | {"q": data["q"] + t * direction}, warm_start=previous)
        return solution, (solution.status, solution.info.num_iters, solution.objective)

    times = np.linspace(0, 0.2, 20)
    first = cj.solve_qp(**data)
    _, (status, iterations, objective) = jax.jit(lambda first: jax.lax.scan(step, first, times))(first)
    assert (status == Status.SOLVED).all()
    assert np.median(iterations) <= 1
    for t in (0, 19):
        cold = cj.solve_qp(**data | {"q": data["q"] + times[t] * direction})
        np.testing.assert_allclose(objective[t], cold.objective, rtol=1e-7)


def test_derivatives_do_not_depend_on_the_guess():
    data = random_qp(np.random.default_rng(4))
    previous = cj.solve_qp(**data)
    value = lambda q, guess: jnp.sum(jnp.sin(cj.solve_qp(**data | {"q": q}, warm_start=guess).x))
    cold = jax.grad(lambda q: jnp.sum(jnp.sin(cj.solve_qp(**data | {"q": q}).x)))(data["q"])
    warm, by_guess = jax.grad(value, (0, 1), allow_int=True)(data["q"], previous)
    np.testing.assert_allclose(warm, cold, atol=1e-8)
    np.testing.assert_array_equal(by_guess.x, 0)


def test_float32():
    data = {name: np.asarray(value, np.float32) for name, value in random_qp(np.random.default_rng(7)).items()}
    solution = cj.solve_qp(**data, warm_start=cj.solve_qp(**data))
    assert solution.status == Status.SOLVED and solution.x.dtype == np.float32
    assert solution.info.num_iters <= 2


WRONG = {
    "socp without cones": (random_socp, cj.solve_socp, {"z_cones": None}, "warm_start.z_cones is None"),
    "socp with too many cones": (random_socp, cj.solve_socp, {"z_cones": (1, 2)}, "tuple of 1 arrays"),
    "socp with a wrong cone": (
        random_socp,
        cj.solve_socp,
        {"z_cones": (jnp.ones(3),)},
        r"z_cones\[0\] has shape \(3,\)",
    ),
    "lmi with a vector": (random_lmi, cj.solve_sdp, {"z": jnp.ones(4)}, r"warm_start.z has shape \(4,\)"),
    "sdp without y": (random_matrix_sdp, cj.solve_sdp, {"y": None}, "warm_start.y is None"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_guesses_are_named(case):
    generate, solve, change, message = WRONG[case]
    data = generate(np.random.default_rng(0))
    solution = cj.Solution(
        x=jnp.zeros(data["q"].shape if "q" in data else data.get("C", data.get("c")).shape),
        y=jnp.zeros(3),
        z=jnp.zeros((4, 4)) if "q" not in data else jnp.zeros(1),
        z_cones=(jnp.zeros((4, 4)),),
        objective=0.0,
        status=0,
        info=None,
    )
    with pytest.raises(ValueError, match=message):
        solve(**data, warm_start=replace(solution, **change))
