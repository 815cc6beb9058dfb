"""`solve_mpc`: the same answers as the dense program, certificates, derivatives, transforms, warm starts, bad input."""

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import certify_qp, near

import convexjax as cj

pytestmark = pytest.mark.core

Status = cj.Status
INF = np.inf
T, n, m, p = 6, 3, 2, 2
INTERIOR_POINT = cj.Options(method="interior_point")


def quick(function):
    return jax.jit(function, compiler_options=cj.QUICK_COMPILATION)


def plant(rng, radius):
    """(A, B) with a spectral radius of A."""
    A, B = rng.normal(size=(n, n)), rng.normal(size=(n, m))
    return A * radius / np.abs(np.linalg.eigvals(A)).max(), B


def positive(rng, side, count=None, rank=None):
    M = rng.normal(size=(*([] if count is None else [count]), side, rank or side))
    return M @ M.swapaxes(-1, -2) / side


def problem(seed, radius=1.0, width=1.0):
    """Every kind of data, some for each stage and some for all; feasible, for a trajectory within all constraints."""
    rng = np.random.default_rng(seed)
    A, B = np.stack([plant(rng, radius)[0] for _ in range(T)]), plant(rng, 1)[1]
    costs = positive(rng, n + m, T)
    c = 0.1 * rng.normal(size=(T, n))
    x, u = [rng.normal(size=n)], rng.normal(size=(T, m)) / 3
    for t in range(T):
        x.append(A[t] @ x[t] + B @ u[t] + c[t])
    x = np.stack(x)
    G_x, G_u = rng.normal(size=(p, n)), rng.normal(size=(T, p, m))
    slack = width * rng.uniform(0, 0.5, (T + 1, p))
    h = x @ G_x.T + np.concatenate([np.einsum("tij,tj->ti", G_u, u), np.zeros((1, p))]) + slack
    h[1, 0] = INF
    return dict(
        A=A,
        B=B,
        Q=costs[:, :n, :n],
        R=costs[:, n:, n:] + 0.1 * np.eye(m),
        S=costs[:, n:, :n],
        initial_state=x[0],
        q=rng.normal(size=(T, n)),
        r=rng.normal(size=m),
        c=c,
        Q_terminal=positive(rng, n),
        q_terminal=rng.normal(size=n),
        x_lb=x - width * rng.uniform(0, 0.5, (T + 1, n)),
        x_ub=np.where(rng.uniform(size=(T + 1, n)) < 0.3, INF, x + width * rng.uniform(0, 0.5, (T + 1, n))),
        u_lb=u - width * rng.uniform(0, 0.3, (T, m)),
        u_ub=np.array([u[:, 0].max() + 0.1, INF]),
        G_x=G_x,
        G_u=G_u,
        h=h,
    )


def dense(data, T):
    """(P, q, G, h, A, b, lb, ub) of a problem, variables [x_0 .. x_T, u_0 .. u_{T-1}], in plain loops."""
    n, m = data["A"].shape[-1], data["B"].shape[-1]
    at = lambda name, t, rank: (
        None if data.get(name) is None else (v if (v := np.asarray(data[name])).ndim == rank else v[t])
    )
    N = (T + 1) * n + T * m
    X, U = (lambda t: slice(t * n, (t + 1) * n)), (lambda t: slice((T + 1) * n + t * m, (T + 1) * n + (t + 1) * m))
    P, q = np.zeros((N, N)), np.zeros(N)
    A, b = np.zeros(((T + 1) * n, N)), np.zeros((T + 1) * n)
    A[:n, :n], b[:n] = -np.eye(n), -data["initial_state"]
    lb, ub = np.full(N, -INF), np.full(N, INF)
    rows, right = [], []
    for t in range(T + 1):
        last = t == T
        Q = at("Q_terminal" if last and data.get("Q_terminal") is not None else "Q", min(t, T - 1), 2)
        P[X(t), X(t)] = (Q + Q.T) / 2
        linear = at("q_terminal" if last and data.get("q_terminal") is not None else "q", min(t, T - 1), 1)
        q[X(t)] = 0 if linear is None else linear
        if not last:
            R = at("R", t, 2)
            P[U(t), U(t)] = (R + R.T) / 2
            if data.get("S") is not None:
                P[U(t), X(t)], P[X(t), U(t)] = at("S", t, 2), at("S", t, 2).T
            q[U(t)] = 0 if data.get("r") is None else at("r", t, 1)
            own = slice((t + 1) * n, (t + 2) * n)
            A[own, X(t)], A[own, U(t)], A[own, X(t + 1)] = at("A", t, 2), at("B", t, 2), -np.eye(n)
            b[own] = 0 if data.get("c") is None else -at("c", t, 1)
        for name, bound in (("lb", lb), ("ub", ub)):
            for letter, where in (("x", X), ("u", U)):
                value = data.get(f"{letter}_{name}")
                if value is not None and not (letter == "x" and t == 0) and not (letter == "u" and last):
                    value = np.asarray(value)
                    bound[where(t)] = value[t] if value.ndim == 2 else value
        if data.get("h") is not None and (not last or np.asarray(data["h"]).shape[0] == T + 1):
            row = np.zeros((np.asarray(data["h"]).shape[-1], N))
            if data.get("G_x") is not None:
                row[:, X(t)] = at("G_x", t, 2)
            if not last and data.get("G_u") is not None:
                row[:, U(t)] = at("G_u", t, 2)
            rows.append(row), right.append(at("h", t, 1))
    return P, q, np.concatenate(rows) if rows else None, np.concatenate(right) if rows else None, A, b, lb, ub


def flat(trajectory, data, T):
    """States and inputs as one vector; zeros for what is absent."""
    n, m = data["A"].shape[-1], data["B"].shape[-1]
    parts = [(None if trajectory is None else getattr(trajectory, name)) for name in ("states", "inputs")]
    sizes = [(T + 1, n), (T, m)]
    return np.concatenate(
        [np.zeros(s).ravel() if v is None else np.asarray(v, float).ravel() for v, s in zip(parts, sizes, strict=True)]
    )


def certify(data, solution, T=T, tolerance=1e-8, expected=Status.SOLVED):
    """Assert that the solution proves its status, as one of the dense program."""
    program = dense(data, T)
    P, q, G, h, A, b, lb, ub = program
    whole = cj.Solution(
        x=flat(solution.x, data, T),
        y=np.asarray(solution.y).ravel(),
        s=None if G is None else np.asarray(solution.s).ravel(),
        z=None if G is None else np.asarray(solution.z).ravel(),
        z_lb=flat(solution.z_lb, data, T),
        z_ub=flat(solution.z_ub, data, T),
        objective=solution.objective,
        status=solution.status,
        info=solution.info,
    )
    # certify_qp wants upper bounds of absent sides to be infinite, which the dual of zero satisfies
    none = (whole.z_lb[np.isinf(lb)] == 0).all() and (whole.z_ub[np.isinf(ub)] == 0).all()
    assert none, "a dual of a bound without effect"
    certify_qp(*program, solution=whole, tolerance=tolerance, expected=expected)


# ----------------------------------------------------------------------------- values


@pytest.fixture(scope="module")
def general():
    """All kinds of data at once, compiled once."""
    return quick(lambda data: cj.solve_mpc(**data))


@pytest.mark.parametrize(("seed", "radius"), [(0, 0.7), (1, 1.0), (2, 1.3), (3, 1.0), (4, 1.0)])
def test_random_plants(general, seed, radius):
    data = problem(seed, radius)
    solution = general(data)
    certify(data, solution)
    P, q, G, h, A, b, lb, ub = dense(data, T)
    same = cj.solve_qp(P, q, G, h, A, b, lb, ub, options=cj.Options(polish=True))
    near(flat(solution.x, data, T), same.x, 1e-7)
    near(solution.objective, same.objective, 1e-7)
    near(solution.y.reshape(-1), same.y, 1e-6)


def test_both_methods_agree(general):
    data = problem(5)
    interior_point = quick(lambda data: cj.solve_mpc(**data, options=INTERIOR_POINT))
    other = interior_point(data)
    certify(data, other)
    near(flat(general(data).x, data, T), flat(other.x, data, T), 1e-6)


def test_infeasible_states(general):
    data = problem(6)
    # the first state cannot be moved that far within the bounds of the inputs
    data["x_lb"] = np.where(np.arange(T + 1)[:, None] == 2, 50.0, -INF) * np.ones(n)
    solution = general(data)
    certify(data, solution, expected=Status.PRIMAL_INFEASIBLE)
    # an inequality of the first state alone, which is given
    data = problem(6)
    data["G_u"] = np.where(np.arange(T)[:, None, None] == 0, 0.0, data["G_u"])
    data["h"][0] = data["G_x"] @ data["initial_state"] - 1
    certify(data, general(data), expected=Status.PRIMAL_INFEASIBLE)


def test_time_invariant_and_few_arguments():
    """One set of matrices for all stages, bounds on the inputs alone."""
    rng = np.random.default_rng(7)
    A, B = plant(rng, 1.1)
    data = dict(A=A, B=B, Q=np.eye(n), R=np.eye(m), initial_state=3 * rng.normal(size=n), u_lb=-0.3, u_ub=0.3)
    solution = cj.solve_mpc(**data, horizon=40)
    certify(data, solution, 40)
    assert (solution.z, solution.s, solution.z_lb.states) == (None,) * 3
    assert solution.x.states.shape == (41, n)
    assert solution.x.inputs.shape == (40, m)


def test_costates_are_the_gradient(general):
    """y_0 is the derivative of the objective with respect to the initial state."""
    data = problem(8)
    solution, step = general(data), 1e-5
    for i in range(n):
        values = []
        for sign in (1, -1):
            moved = data | {"initial_state": data["initial_state"] + sign * step * np.eye(n)[i]}
            values.append(float(general(moved).objective))
        near(solution.y[0, i], (values[0] - values[1]) / (2 * step), 1e-5)


def test_costs_that_are_not_definite(general):
    """R and Q singular: solved; a stage cost that is not convex: said, although the first-order conditions hold."""
    rng = np.random.default_rng(9)
    data = problem(9)
    data |= dict(Q=positive(rng, n, T, rank=1), R=np.zeros((T, m, m)), S=np.zeros((T, m, n)), r=np.zeros(m))
    certify(data, general(data), tolerance=1e-7)
    data["R"] = np.stack([np.diag([1.0, -0.1])] * T)
    assert Status(int(general(data).status)) == Status.NONCONVEX


def test_unbounded():
    solution = cj.solve_mpc(np.eye(2), np.eye(2), np.zeros((2, 2)), np.zeros((2, 2)), np.ones(2), r=[1.0, 0], horizon=3)
    assert Status(int(solution.status)) == Status.DUAL_INFEASIBLE
    near(np.sum(solution.x.inputs[:, 0]), -1)


def test_single_precision(general):
    data = {name: np.asarray(value, np.float32) for name, value in problem(10).items()}
    solution = general(data)
    assert solution.x.states.dtype == solution.objective.dtype == solution.z.dtype == np.float32
    certify({name: np.asarray(value, float) for name, value in data.items()}, solution, tolerance=1e-5)


# ----------------------------------------------------------------------------- derivatives


def differentiable():
    """A problem whose data are all differentiated, and a loss of every output."""
    data = problem(11)
    data["h"][1, 0] = 50  # a slack of infinity has no sine
    smooth = {name: value for name, value in data.items() if name not in ("x_ub", "u_ub", "h")}
    fixed = {name: value for name, value in data.items() if name not in smooth}
    rng = np.random.default_rng(12)

    def loss(data):
        solution = cj.solve_mpc(**data, **fixed)
        outputs = jax.tree.leaves((solution.x, solution.y, solution.z, solution.s, solution.z_lb, solution.objective))
        return sum(jnp.sum(jnp.sin(out + i)) for i, out in enumerate(outputs))

    direction = {name: 0.3 * rng.normal(size=value.shape) for name, value in smooth.items()}
    return smooth, direction, loss


def test_derivatives():
    data, direction, loss = differentiable()
    along = lambda step, data, direction: loss(jax.tree.map(lambda v, d: v + step * d, data, direction))

    def everything(data, direction):
        gradient = jax.grad(loss)(data)
        reverse = sum(jnp.sum(g * direction[name]) for name, g in gradient.items())
        forward = jax.jvp(lambda step: along(step, data, direction), (0.0,), (1.0,))[1]
        return reverse, forward

    value = quick(along)
    step = 1e-4
    values = {k: float(value(k * step, data, direction)) for k in (-2, -1, 1, 2)}
    slope = (8 * (values[1] - values[-1]) - (values[2] - values[-2])) / (12 * step)
    reverse, forward = quick(everything)(data, direction)
    near(reverse, slope, 1e-6)
    near(forward, slope, 1e-6)


def test_second_derivatives_and_gradient_of_the_objective():
    """In the initial state: the hessian is symmetric and that of differences of the gradient; the objective's gradient
    is y_0."""
    data = problem(13)
    others = {name: value for name, value in data.items() if name != "initial_state"}
    value = lambda x: cj.solve_mpc(initial_state=x, **others).objective
    loss = lambda x: jnp.sum(jnp.sin(cj.solve_mpc(initial_state=x, **others).x.inputs))
    gradients = quick(lambda x: (jax.grad(value)(x), cj.solve_mpc(initial_state=x, **others).y[0], jax.grad(loss)(x)))
    x, step = data["initial_state"], 1e-5
    of_value, costate, _ = gradients(x)
    near(of_value, costate, 1e-7)
    hessian = quick(jax.hessian(loss))(x)
    differences = [
        (np.asarray(gradients(x + step * e)[2]) - np.asarray(gradients(x - step * e)[2])) / (2 * step)
        for e in np.eye(n)
    ]
    near(hessian, np.stack(differences), 1e-5)


# ----------------------------------------------------------------------------- batches, rollouts, warm starts


def small(x, warm_start=None, **changes):
    """A double integrator with bounds on speed and input."""
    A, B = jnp.array([[1.0, 1.0], [0.0, 1.0]], x.dtype), jnp.array([[0.5], [1.0]], x.dtype)
    arguments = dict(horizon=8, u_lb=-0.5, u_ub=0.5, x_lb=[-INF, -1], x_ub=[INF, 1], warm_start=warm_start) | changes
    return cj.solve_mpc(A, B, np.eye(2, dtype=x.dtype), np.eye(1, dtype=x.dtype), x, **arguments)


@pytest.fixture(scope="module")
def cold():
    return quick(small)


@pytest.fixture(scope="module")
def warm():
    return quick(lambda x, solution, shifted: small(x, cj.shift_horizon(solution) if shifted is None else solution))


def test_batch_with_bad_lanes(cold):
    """A lane of NaN and an infeasible one leave the others as they are."""
    starts = np.array([[3.0, 0.5], [np.nan, 0], [-5, 0], [0, 4.0]])
    batch = quick(jax.vmap(lambda x: (small(x), jax.grad(lambda x: jnp.sum(small(x).x.inputs ** 2))(x))))
    solutions, gradients = batch(starts)
    wanted = [Status.SOLVED, Status.NUMERICAL_ERROR, Status.SOLVED, Status.PRIMAL_INFEASIBLE]
    assert [Status(s) for s in solutions.status.tolist()] == wanted
    for i in (0, 2):
        near(solutions.x.inputs[i], cold(starts[i]).x.inputs, 1e-9)
    assert np.isfinite(np.asarray(gradients)).all()
    assert np.all(np.asarray(gradients)[[1, 3]] == 0)
    good, of_good = batch(np.where(np.isnan(starts) | (starts == 4), 1.0, starts))
    assert np.array_equal(good.x.inputs[0], solutions.x.inputs[0])
    assert np.array_equal(of_good[0], gradients[0])


def test_warm_start(cold, warm):
    x = jnp.array([-6.0, 0.3])
    solution = cold(x)
    assert solution.info.num_iters > 2
    again = warm(x, solution, False)
    assert again.info.num_iters == 1
    near(again.x.inputs, solution.x.inputs, 1e-9)
    # guesses that help nothing: the optimum all the same, with at most two more iterations
    rng = np.random.default_rng(0)
    for _ in range(3):
        scrambled = jax.tree.map(lambda v: rng.normal(size=v.shape), solution)
        found = warm(x, scrambled, False)
        assert found.info.num_iters <= solution.info.num_iters + 2
        near(found.x.inputs, solution.x.inputs, 1e-9)
    nothing = warm(x, jax.tree.map(lambda v: np.full(v.shape, np.nan), solution), False)
    assert nothing.info.num_iters == solution.info.num_iters


def test_rollout():
    """Twenty steps in closed loop, warm-started, differentiated with respect to where they start and to the cost."""

    def rollout(x, weight, warm_start):
        def step(carry, _):
            x, previous = carry
            guess = cj.shift_horizon(previous) if warm_start else None
            solution = small(x, guess, u_lb=-weight, u_ub=weight)
            u = solution.x.inputs[0]
            after = jnp.stack([x[0] + x[1] + 0.5 * u[0], x[1] + u[0]])
            return (after, solution if warm_start else previous), (x, solution.status, solution.info.num_iters)

        first = small(x, u_lb=-weight, u_ub=weight) if warm_start else None
        _, (path, status, iterations) = jax.lax.scan(step, (x, first), None, length=20)
        return jnp.sum(path**2), (path, status, iterations)

    x, weight = jnp.array([-6.0, 0.3]), jnp.array(0.5)
    both = quick(
        lambda x, weight: (
            jax.value_and_grad(rollout, argnums=(0, 1), has_aux=True)(x, weight, True),
            rollout(x, weight, False),
        )
    )
    ((value, (path, status, iterations)), gradient), (same, (_, _, cold_iterations)) = both(x, weight)
    assert np.all(status == Status.SOLVED)
    near(value, same, 1e-8)
    assert iterations.sum() < cold_iterations.sum()
    assert np.all(iterations <= cold_iterations + 2)
    step = 1e-5
    for i in range(2):
        values = [float(both(x + sign * step * np.eye(2)[i], weight)[1][0]) for sign in (1, -1)]
        near(gradient[0][i], (values[0] - values[1]) / (2 * step), 1e-6)
    values = [float(both(x, weight + sign * step)[1][0]) for sign in (1, -1)]
    near(gradient[1], (values[0] - values[1]) / (2 * step), 1e-6)


# ----------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (dict(horizon=None), "horizon"),
        (dict(horizon=0), "horizon must be a Python int >= 1"),
        (dict(A=np.eye(3)[:2]), "A has shape (2, 3)"),
        (dict(B=np.ones(2)), "B has shape (2,)"),
        (dict(Q=np.eye(3)), "Q has shape (3, 3), expected (2, 2)"),
        (dict(R=np.ones((5, 1, 1))), "R has shape (5, 1, 1), that is 5 stages"),
        (dict(x_lb=np.ones((4, 2))), "x_lb has shape (4, 2), that is 3 stages"),
        (dict(u_ub=np.ones(3)), "u_ub has shape (3,)"),
        (dict(h=np.ones(3)), "h given without G_x or G_u"),
        (dict(G_x=np.ones((3, 2))), "G_x or G_u given without h"),
        (dict(G_x=np.ones((3, 2)), h=np.ones(2)), "G_x has shape (3, 2), expected (2, 2)"),
        (dict(G_x=np.ones((6, 3, 2)), h=np.ones(3)), "G_x has shape (6, 3, 2), expected 4 entries"),
        (dict(initial_state=np.ones((1, 2))), "initial_state has shape (1, 2)"),
        (dict(warm_start=3), "warm_start must be a Solution of solve_mpc"),
        (dict(Q=None), "Q is None"),
    ],
)
def test_bad_shapes(changes, words):
    arguments = dict(A=np.eye(2), B=np.ones((2, 1)), Q=np.eye(2), R=np.eye(1), initial_state=np.ones(2), horizon=4)
    with pytest.raises(ValueError) as error:
        cj.solve_mpc(**(arguments | changes))
    assert words in str(error.value)


def test_memory_is_linear_in_the_horizon():
    """No array of the program, nor of its gradient, grows faster than the horizon."""
    x = jnp.array([1.0, 0.0])
    largest = []
    for horizon in (64, 128):
        jaxpr = jax.make_jaxpr(jax.grad(lambda x, horizon=horizon: small(x, horizon=horizon).objective))(x)
        sizes = [0]

        def visit(jaxpr, sizes=sizes):
            for equation in jaxpr.eqns:
                sizes += [int(np.prod(v.aval.shape)) for v in equation.outvars]
                for inner in jax.extend.core.jaxprs_in_params(equation.params):
                    visit(inner)

        visit(jaxpr.jaxpr)
        largest.append(max(sizes))
    assert largest[1] <= 2.1 * largest[0]
