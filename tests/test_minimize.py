"""`minimize`: certified against independent KKT code, closed forms, the conic core; derivatives, batches, bad input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import near, size

import convexjax as cj
from convexjax import Status

X = np.random.default_rng(0).normal(size=(30, 4))
LABELS = np.where(X @ [1.0, -1.0, 0.5, 0.0] + np.random.default_rng(1).normal(size=30) > 0, 1.0, -1.0)
ONES = np.ones((1, 4))


def entropy(p, params):
    return jnp.sum(p * jnp.log(p / params["prior"]))


def moments(p, params):
    return jnp.stack([params["values"] @ p - params["mean"], -p[0] + params["least"]])


PARAMS = {"prior": jnp.array([0.4, 0.3, 0.2, 0.1]), "values": jnp.arange(4.0), "mean": 0.6, "least": 0.55}


def solve_entropy(params, **options):
    return cj.minimize(
        entropy,
        jnp.full(4, 0.25),
        inequalities=moments,
        equalities=(ONES, jnp.ones(1)),
        lb=0.0,
        params=params,
        **options,
    )


def certify(solution, f, g=None, A=None, b=None, lb=None, ub=None, cones=(), tolerance=1e-8):
    """KKT residuals by derivatives of the functions, relative to the largest term of each."""
    assert solution.status == Status.SOLVED, (Status(int(solution.status)).name, solution.info)
    x = np.asarray(solution.x)
    terms, slack = [np.asarray(jax.grad(f)(solution.x)).ravel()], []

    def add(values, gradient, dual):
        terms.append(gradient)
        slack.append(values * dual)

    if g is not None:
        values, dual = np.asarray(g(solution.x)), np.asarray(solution.z)
        jacobian = np.asarray(jax.jacrev(g)(solution.x)).reshape(values.size, x.size)
        assert values.max() <= tolerance * max(1, size(x)) and dual.min() >= -tolerance
        near(solution.s, -values, tolerance)
        add(values.ravel(), dual.ravel() @ jacobian, dual.ravel())
    for (function, cone), s, z in zip(cones, solution.s_cones or (), solution.z_cones or (), strict=True):
        values = np.asarray(function(solution.x))
        jacobian = np.asarray(jax.jacrev(function)(solution.x)).reshape(values.size, x.size)
        near(s, -values, tolerance)
        if isinstance(cone, cj.PSD):
            assert np.linalg.eigvalsh(s).min() >= -tolerance and np.linalg.eigvalsh(z).min() >= -tolerance
        else:
            assert s[0] - np.linalg.norm(s[1:]) >= -tolerance and z[0] - np.linalg.norm(z[1:]) >= -tolerance
        add(np.sum(values * z), np.ravel(z) @ jacobian, 1.0)
    if A is not None:
        assert size(A @ x.ravel() - b) <= tolerance * max(1, size(b))
        add(np.zeros(1), np.asarray(solution.y) @ A, 0.0)
    for bound, dual, sign in ((lb, solution.z_lb, -1), (ub, solution.z_ub, 1)):
        if bound is not None:
            off = sign * (x - bound)
            assert off.max() <= tolerance and dual.min() >= -tolerance
            add(off.ravel(), sign * np.asarray(dual).ravel(), np.asarray(dual).ravel())
    assert size(sum(terms)) <= tolerance * max(1, size(*terms))
    value = float(f(solution.x))
    assert abs(sum(np.sum(part) for part in slack)) <= tolerance * max(1, abs(value))
    near(solution.objective, value, tolerance)


# ----------------------------------------------------------------------------- solutions


def test_entropy():
    solution = solve_entropy(PARAMS)
    f, g = lambda p: entropy(p, PARAMS), lambda p: moments(p, PARAMS)
    certify(solution, f, g, A=ONES, b=np.ones(1), lb=0.0)


def logistic(w):
    return jnp.mean(jnp.logaddexp(0, -LABELS * (X @ w)))


def test_ball_and_bounds():
    g = lambda w: w @ w - 0.25
    solution = cj.minimize(logistic, jnp.zeros(4), inequalities=g, lb=-0.2, ub=0.3)
    assert solution.s.shape == solution.z.shape == () and solution.z_lb.shape == (4,)
    certify(solution, logistic, g, lb=-0.2, ub=0.3)


def test_unconstrained():
    f = lambda w: logistic(w) + 0.01 * w @ w
    solution = cj.minimize(f, jnp.zeros(4))
    certify(solution, f)
    assert (solution.s, solution.y, solution.z, solution.s_cones) == (None,) * 4
    # far away, where the functions are nearly linear
    near(cj.minimize(f, jnp.full(4, 30.0)).x, solution.x)


def test_equations_only():
    A, b = np.array([[1.0, 1, 1, 1], [1, -1, 0, 2]]), np.array([1.0, 0.2])
    f = lambda x: jnp.sum(jnp.exp(x) + x**2)
    certify(cj.minimize(f, jnp.zeros(4), equalities=(A, b)), f, A=A, b=b)


def test_pytrees():
    f = lambda v: jnp.sum((v["a"] - 1) ** 2) + (v["b"] + jnp.sum(v["a"])) ** 2
    g = lambda v: {"left": v["a"] - 0.5, "right": -v["b"]}
    x0 = {"a": jnp.zeros((2, 2)), "b": jnp.zeros(())}
    A = {"a": jnp.ones((1, 2, 2)), "b": jnp.zeros(1)}
    solution = cj.minimize(f, x0, inequalities=g, equalities=(A, [1.2]), lb={"a": -1.0, "b": -jnp.inf})
    near(solution.x["a"], np.full((2, 2), 0.3))
    near(solution.x["b"], 0)
    assert solution.s["left"].shape == (2, 2) and solution.z["right"].shape == ()
    assert solution.z_lb["a"].shape == (2, 2)


def test_cones_against_the_conic_core():
    c = np.array([1.0, 2.0, -0.5])
    M = np.random.default_rng(3).normal(size=(3, 3))
    norm = lambda x: -jnp.concatenate([1 + 0.1 * x[:1], M @ x])
    solution = cj.minimize(lambda x: c @ x, jnp.zeros(3), cones=[(norm, cj.SecondOrder(4))])
    known = cj.solve_socp(c, [(M, None, [0.1, 0, 0], 1.0)])
    near(solution.x, known.x)
    near(solution.z_cones[0], known.z_cones[0], 1e-6)
    certify(solution, lambda x: c @ x, cones=[(norm, cj.SecondOrder(4))])


def test_matrix_constraint():
    # least trace above two matrices: X >= A, X >= B
    rng = np.random.default_rng(4)
    A, B = (M + M.T for M in rng.normal(size=(2, 3, 3)))
    above = lambda x: jnp.asarray(A) - cj.smat(x, 3)
    also = lambda x: jnp.asarray(B) - cj.smat(x, 3)
    f = lambda x: jnp.trace(cj.smat(x, 3))
    cones = [(above, cj.PSD(3)), (also, cj.PSD(3))]
    solution = cj.minimize(f, jnp.zeros(6), cones=cones)
    certify(solution, f, cones=cones)
    values, U = np.linalg.eigh(A - B)
    near(solution.objective, np.trace(B) + np.maximum(values, 0).sum())


def test_float32():
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), PARAMS)
    solution = cj.minimize(
        entropy,
        jnp.full(4, 0.25, jnp.float32),
        inequalities=moments,
        equalities=(ONES.astype(np.float32), jnp.ones(1, jnp.float32)),
        params=params,
    )
    assert solution.x.dtype == jnp.float32 and solution.status == Status.SOLVED
    near(solution.x, solve_entropy(PARAMS).x, 1e-4)


# ----------------------------------------------------------------------------- statuses


def test_infeasible():
    g = lambda x: jnp.stack([x @ x - 4, 3 - x[0]])
    solution = cj.minimize(lambda x: jnp.sum(x**2), jnp.zeros(3), inequalities=g)
    assert solution.status == Status.PRIMAL_INFEASIBLE and solution.objective == np.inf
    # z'g is convex, 1 at x, with a gradient of zero there: no x has g(x) <= 0
    z = np.asarray(solution.z)
    assert z.min() >= 0
    near(z @ np.asarray(g(solution.x)), 1)
    assert size(np.asarray(jax.grad(lambda x: z @ g(x))(solution.x))) <= 1e-8


def test_contradictory_equations():
    A, b = np.array([[1.0, 1], [1, 1]]), np.array([0.0, 1])
    solution = cj.minimize(lambda x: jnp.sum(jnp.exp(x)), jnp.zeros(2), equalities=(A, b))
    assert solution.status == Status.PRIMAL_INFEASIBLE
    y = np.asarray(solution.y)
    near(y @ (A @ np.asarray(solution.x) - b), 1)
    assert size(y @ A) <= 1e-8


def test_unbounded():
    f = lambda x: x[0] + jnp.exp(x[1])
    solution = cj.minimize(f, jnp.zeros(2), inequalities=lambda x: x[0] - 1)
    assert solution.status == Status.DUAL_INFEASIBLE and solution.objective == -np.inf
    near(solution.x[0], -1)
    # no ray: -log falls for ever, but ever more slowly; 1/x has no minimum. Neither is called solved
    for f in (lambda x: -jnp.log(x[0]), lambda x: -jnp.sqrt(x[0])):
        assert cj.minimize(f, jnp.ones(1)).status not in (Status.SOLVED, Status.PRIMAL_INFEASIBLE)


@pytest.mark.parametrize(
    "f", [lambda x: -x @ x, lambda x: jnp.sum(x**3 - x), lambda x: x[0] * x[1]], ids=["concave", "cubic", "saddle"]
)
def test_nonconvex(f):
    assert cj.minimize(f, jnp.array([-0.5, 0.3]), lb=-1.0, ub=2.0).status == Status.NONCONVEX


def test_start_outside_of_the_domain():
    f = lambda x: -jnp.sum(jnp.log(x))
    solution = cj.minimize(f, jnp.full(2, -1.0), inequalities=lambda x: x - 3.0)
    near(solution.x, [3, 3])
    # nowhere finite
    solution = cj.minimize(lambda x: jnp.log(-1 - x @ x), jnp.zeros(2), inequalities=lambda x: x - 3.0)
    assert solution.status == Status.NUMERICAL_ERROR


def test_kinks_do_not_hang():
    solution = cj.minimize(lambda x: jnp.sum(jnp.abs(x - 0.3)), jnp.array([1.0, -2.0]), ub=0.2)
    assert solution.info.num_iters <= 200
    if solution.status == Status.SOLVED:
        near(solution.x, [0.2, 0.2])
    t = cj.minimize(lambda v: v[1], jnp.zeros(2), inequalities=lambda v: jnp.stack([v[0] - v[1], 1 - v[0] - v[1]]))
    near(t.x, [0.5, 0.5])


def test_redundant_and_constant_constraints():
    g = lambda x: jnp.stack([x[0] - 1, x[0] - 1, jnp.asarray(-1.0), 2 * x[0] - 2])
    solution = cj.minimize(lambda x: jnp.exp(-x[0]), jnp.zeros(1), inequalities=g, equalities=([[0.0]], [0.0]))
    near(solution.x, [1], 1e-6)
    assert solution.status == Status.SOLVED
    assert (
        cj.minimize(
            lambda x: jnp.exp(-x[0]), jnp.zeros(1), inequalities=lambda x: jnp.stack([x[0] - 1, 1 + 0 * x[0]])
        ).status
        == Status.PRIMAL_INFEASIBLE
    )


def test_limits():
    for most in (0, 1):
        solution = solve_entropy(PARAMS, options=cj.Options(max_iters=most))
        assert solution.status == Status.MAX_ITERATIONS and np.all(np.isfinite(solution.x))


def test_history(capsys):
    solution = solve_entropy(PARAMS, options=cj.Options(history=30, verbose=True))
    jax.effects_barrier()
    assert "objective" in capsys.readouterr().out
    mu = np.asarray(solution.info.history.mu)
    steps = int(solution.info.num_iters) + 1
    assert np.all(np.isfinite(mu[:steps])) and np.all(np.isnan(mu[steps:])) and mu[steps - 1] < 1e-8


def test_warm_start():
    cold = solve_entropy(PARAMS)
    other = PARAMS | {"mean": 0.601}
    warm = solve_entropy(other, warm_start=cold)
    near(warm.x, solve_entropy(other).x)
    assert warm.info.num_iters < cold.info.num_iters
    bad = cj.Solution(**{**vars(cold), "z": jnp.full(2, jnp.nan)})
    near(solve_entropy(PARAMS, warm_start=bad).x, cold.x)


# ----------------------------------------------------------------------------- derivatives and batches


def of_vector(v):
    params = {"prior": v[:4], "values": v[4:8], "mean": v[8], "least": v[9]}
    solution = solve_entropy(params)
    return jnp.concatenate([solution.x, solution.z, solution.y, solution.objective[None]])


VECTOR = jnp.concatenate([PARAMS["prior"], PARAMS["values"], jnp.array([0.6, 0.55])])


@pytest.fixture(scope="module")
def differences():
    step = 1e-5
    f = jax.jit(jax.vmap(of_vector))
    shift = step * np.eye(10)
    return (np.asarray(f(VECTOR + shift)) - np.asarray(f(VECTOR - shift))).T / (2 * step)


def test_first_derivatives(differences):
    near(jax.jit(jax.jacfwd(of_vector))(VECTOR), differences, 1e-5)
    backwards = jax.jit(jax.jacrev(of_vector))
    near(backwards(VECTOR), differences, 1e-5)
    near(jax.jit(jax.vmap(jax.jacrev(of_vector)))(VECTOR[None])[0], differences, 1e-5)


def test_second_derivatives():
    x = lambda v: of_vector(VECTOR.at[8].set(v[0]).at[0].set(v[1]))[:4]
    at = jnp.array([0.6, 0.4])
    step = 1e-4
    slopes = jax.jit(jax.vmap(jax.jacfwd(x)))(at + step * jnp.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]]))
    known = np.stack([slopes[0] - slopes[1], slopes[2] - slopes[3]], -1) / (2 * step)
    near(jax.jit(jax.hessian(x))(at), known, 1e-3)


def test_closures_over_traced_values():
    def x(mean):
        return cj.minimize(
            lambda p: jnp.sum(p * jnp.log(p)),
            jnp.full(3, 1 / 3),
            inequalities=lambda p: jnp.arange(3.0) @ p - mean,
            equalities=(jnp.ones((1, 3)), jnp.ones(1)),
        ).x[0]

    # every function above is new in each call, and so compiled in each
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(x)))(jnp.array([0.6, 0.6 + 1e-5, 0.6 - 1e-5]))
    near(slopes[0], (values[1] - values[2]) / 2e-5, 1e-5)


def test_a_bad_lane_leaves_the_others_alone():
    means = jnp.array([0.6, jnp.nan, 0.7, -1.0])

    def found(mean):
        solution = solve_entropy(PARAMS | {"mean": mean})
        return solution.x[1], (solution.x, solution.status)

    f = jax.jit(jax.vmap(jax.grad(found, has_aux=True)))
    slopes, (x, status) = f(means)
    assert status.tolist() == [1, Status.NUMERICAL_ERROR, 1, Status.PRIMAL_INFEASIBLE]
    _, (good, _) = f(jnp.array([0.6, 0.65, 0.7, 0.6]))
    assert np.array_equal(x[::2], good[::2])
    assert np.all(np.isfinite(slopes)) and slopes[1] == slopes[3] == 0


def test_scan():
    def step(mean, _):
        x = solve_entropy(PARAMS | {"mean": mean}).x
        return mean + 0.01 * x[0], x

    _, xs = jax.lax.scan(step, 0.6, None, length=2)
    near(xs[0], solve_entropy(PARAMS).x)


# ----------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"f0": lambda x: x}, "scalar"),
        ({"f0": 3.0}, "f0 must be a function"),
        ({"f0": lambda x, params: x @ x}, "x alone"),
        ({"f0": lambda x: jnp.asarray(x @ x, jnp.float32)}, "float32"),
        ({"f0": lambda x: jnp.argmax(x)}, "real numbers"),
        ({"inequalities": lambda x: x > 0}, "inequalities"),
        ({"equalities": (np.ones((1, 3)), [1.0])}, "A has shape"),
        ({"equalities": np.ones((1, 2))}, "pair"),
        ({"equalities": (np.ones((1, 2)), [1.0, 2.0])}, "b has shape"),
        ({"cones": [(lambda x: x, cj.SecondOrder(3))]}, "3 rows"),
        ({"cones": [cj.SecondOrder(2)]}, "pair"),
        ({"lb": np.zeros(3)}, "lb has shape"),
        ({"x0": []}, "x0"),
        ({"x0": "a"}, "x0"),
        ({"warm_start": 3}, "warm_start"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        cj.minimize(**({"f0": lambda x: x @ x, "x0": jnp.zeros(2)} | arguments))
