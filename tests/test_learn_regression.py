"""`learn`: linear, ridge, lasso, elastic net, group lasso and constrained regression, certified in NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convexjax as cj
from convexjax import learn

Status = cj.Status
rng = np.random.default_rng(0)
N, D = 30, 5
X = rng.normal(size=(N, D)) + 1
Y = X @ [1.0, -2, 0, 0.5, 0] + 3 + 0.3 * rng.normal(size=N)
W = rng.uniform(0.5, 2, size=N)
GROUPS = (0, 0, 1, 1, 2)


def near(got, wanted, tolerance=1e-10):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=tolerance * max(1, np.max(np.abs(wanted), initial=0)))


def centred(weights):
    return X - weights @ X / weights.sum(), Y - weights @ Y / weights.sum()


def differences(function, arguments, seed=0, h=1e-5):
    """(derivative along a random direction by central differences, that direction)."""
    own = np.random.default_rng(seed)
    steps = [own.normal(size=np.shape(v)) for v in arguments]
    move = lambda t: function(*(v + t * step for v, step in zip(arguments, steps, strict=True)))
    return (np.asarray(move(h)) - np.asarray(move(-h))) / (2 * h), steps


def check_gradient(function, arguments, tolerance=1e-6):
    """Reverse and forward mode against differences."""
    function = jax.jit(function)
    arguments = tuple(jnp.asarray(v, float) for v in arguments)
    wanted, steps = differences(function, arguments)
    assert abs(wanted) > 1e-6
    slopes = jax.grad(function, tuple(range(len(arguments))))(*arguments)
    near(sum(np.sum(a * b) for a, b in zip(slopes, steps, strict=True)), wanted, tolerance)


def held_out(model):
    """A loss of a model for gradients."""
    return jnp.sum(jnp.sin(model.coefficients) + model.intercept**2)


# ----------------------------------------------------------------------------- linear


def test_linear():
    A = np.c_[X, np.ones(N)]
    beta = np.linalg.solve(A.T @ (W[:, None] * A), A.T @ (W * Y))
    model = learn.linear.fit(X, Y, weights=W)
    near(np.r_[model.coefficients, model.intercept], beta)
    near(learn.linear.predict(model, X), A @ beta)
    near(model.objective, np.sum(W * (Y - A @ beta) ** 2))
    near(learn.linear.fit(X, Y, intercept=False).coefficients, np.linalg.lstsq(X, Y)[0])
    two = learn.linear.fit(X, np.c_[Y, 2 * Y], weights=W)
    near(two.coefficients[:, 1], 2 * beta[:D])
    near(two.intercept, [beta[D], 2 * beta[D]])


def test_linear_edges():
    assert learn.linear.fit(X[:1], Y[:1]).status == Status.SOLVED
    near(learn.linear.fit(X[:1], Y[:1]).intercept, Y[0])
    # constant and duplicate columns, fewer rows than columns
    model = learn.linear.fit(np.c_[X, np.ones(N), X[:, 0]], Y)
    assert abs(model.coefficients[D]) < 1e-10
    near(model.coefficients[0], model.coefficients[D + 1])
    near(learn.linear.predict(learn.linear.fit(X[:3], Y[:3]), X[:3]), Y[:3])


@pytest.mark.parametrize(
    "fit", [learn.linear.fit, learn.ridge.fit, lambda *a, **k: learn.elastic_net.fit(*a, 0.1, **k)]
)
def test_missing_rows(fit):
    bad_X, bad_Y = X.copy(), Y.copy()
    bad_X[3, 1], bad_Y[5] = np.nan, np.nan
    keep = np.delete(np.arange(N), [3, 5])
    model = fit(bad_X, bad_Y)
    assert model.status == Status.NUMERICAL_ERROR
    assert np.isnan(model.coefficients).all()
    near(fit(bad_X, bad_Y, missing="drop").coefficients, fit(X[keep], Y[keep]).coefficients, 1e-7)
    # a row of weight zero may hold anything
    weights = np.isin(np.arange(N), keep).astype(float)
    near(fit(bad_X, bad_Y, weights=weights).coefficients, fit(X[keep], Y[keep]).coefficients, 1e-7)


def test_bad_input():
    for call, words in [
        (lambda: learn.linear.fit(X, Y[1:]), "y has shape"),
        (lambda: learn.linear.fit(X[:0], Y[:0]), "no rows"),
        (lambda: learn.linear.fit(X, Y, missing="ignore"), "missing must be"),
        (lambda: learn.ridge.fit(X, Y, -1.0), "nonnegative"),
        (lambda: learn.ridge.fit(X, Y, 1.0, intercept=2), "intercept must be"),
        (lambda: learn.elastic_net.fit(X, Y, 0.0), "positive"),
        (lambda: learn.elastic_net.fit(X, Y, 1.0, 1.5), "l1_ratio"),
        (lambda: learn.group_lasso.fit(X, Y, [0, 0, 2, 2, 2], 1.0), "without gaps"),
        (lambda: learn.regression.fit(X, Y, "huber"), "loss must be"),
        (lambda: learn.regression.fit(X, Y, constraints=[3]), "constraints must be"),
        (lambda: learn.regression.fit(X, Y, constraints=learn.constraints.simplex(3)), "constraints"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


# ----------------------------------------------------------------------------- ridge


def test_ridge_path():
    penalties = np.array([0.0, 0.5, 10.0])
    Xc, Yc = centred(W)
    path = learn.ridge.path(X, Y, penalties, weights=W)
    for i, penalty in enumerate(penalties):
        beta = np.linalg.solve(Xc.T @ (W[:, None] * Xc) + penalty * np.eye(D), Xc.T @ (W * Yc))
        near(path.coefficients[i], beta)
        near(path.intercept[i], W @ (Y - X @ beta) / W.sum())
        near(path.objective[i], np.sum(W * (Yc - Xc @ beta) ** 2) + penalty * beta @ beta)


def test_ridge_wide_and_standardised():
    wide = rng.normal(size=(4, 9))
    y = rng.normal(size=4)
    near(
        learn.ridge.fit(wide, y, 0.3, intercept=False).coefficients,
        wide.T @ np.linalg.solve(wide @ wide.T + 0.3 * np.eye(4), y),
    )
    scale = X.std(0)
    near(
        learn.ridge.fit(X, Y, 2.0, standardise=True).coefficients,
        np.asarray(learn.ridge.fit(X / scale, Y, 2.0).coefficients) / scale,
    )


def test_ridge_leave_one_out():
    errors = learn.ridge.leave_one_out(X, Y, np.array([0.1, 3.0]), weights=W)
    for i, (k, penalty) in itertools.product((0, 7), enumerate((0.1, 3.0))):
        keep = np.arange(N) != i
        model = learn.ridge.fit(X[keep], Y[keep], penalty, weights=W[keep])
        near(errors[k, i], Y[i] - learn.ridge.predict(model, X[i : i + 1])[0])


def test_ridge_gradients():
    function = lambda X, y, penalty, w: held_out(learn.ridge.fit(X, y, penalty, weights=w))
    check_gradient(function, (X, Y, 0.7, W))
    check_gradient(lambda penalty: jnp.sum(learn.ridge.leave_one_out(X, Y, penalty[None]) ** 2), (0.7,))


# ----------------------------------------------------------------------------- lasso and its kin


def penalised(beta, penalty, ratio=1.0, groups=None):
    norm = (
        np.abs(beta).sum()
        if groups is None
        else sum(np.sqrt(groups.count(g)) * np.linalg.norm(beta[np.array(groups) == g]) for g in set(groups))
    )
    return penalty * (ratio * norm + (1 - ratio) / 2 * beta @ beta)


@pytest.mark.parametrize("ratio", [1.0, 0.6])
def test_elastic_net_path(ratio):
    """Optimality conditions: the correlation with the residual is penalty times sign, and no larger elsewhere."""
    penalties = np.asarray(learn.elastic_net.penalties(X, Y, 20, l1_ratio=ratio, weights=W))
    path = learn.elastic_net.path(X, Y, penalties, ratio, weights=W, tolerance=1e-14)
    assert (path.status == Status.SOLVED).all()
    assert not np.asarray(path.coefficients[0]).any()
    Xc, Yc = centred(W)
    for penalty, beta, value in zip(penalties, *map(np.asarray, (path.coefficients, path.objective)), strict=True):
        correlation = Xc.T @ (W * (Yc - Xc @ beta)) / W.sum() - penalty * (1 - ratio) * beta
        on = beta != 0
        near(correlation[on], penalty * ratio * np.sign(beta[on]), 1e-6)
        assert np.abs(correlation).max() <= penalty * ratio * (1 + 1e-6)
        near(value, np.sum(W * (Yc - Xc @ beta) ** 2) / 2 / W.sum() + penalised(beta, penalty, ratio))
    assert 1 <= np.count_nonzero(path.coefficients[10]) <= D


def test_lasso_of_dependent_columns():
    """Where proximal steps alone are slow: the gap is still proved."""
    base = rng.normal(size=(40, 1))
    A = base + 1e-3 * rng.normal(size=(40, 12))
    y = A @ rng.normal(size=12) + 0.01 * rng.normal(size=40)
    path = learn.elastic_net.path(A, y, np.asarray(learn.elastic_net.penalties(A, y, 8, 1e-4)))
    assert (path.status == Status.SOLVED).all()
    assert np.max(path.gap) <= 1e-8


def test_group_lasso():
    largest = learn.group_lasso.largest_penalty(X, Y, GROUPS)
    penalties = np.asarray(largest) * np.array([1.001, 0.5, 0.05])
    path = learn.group_lasso.path(X, Y, GROUPS, penalties, tolerance=1e-13)
    assert (path.status == Status.SOLVED).all()
    assert not np.asarray(path.coefficients[0]).any()
    Xc, Yc = centred(np.ones(N))
    for penalty, beta in zip(penalties, np.asarray(path.coefficients), strict=True):
        correlation = Xc.T @ (Yc - Xc @ beta) / N
        for g in set(GROUPS):
            own = np.array(GROUPS) == g
            limit = penalty * np.sqrt(own.sum())
            if beta[own].any():
                near(correlation[own], limit * beta[own] / np.linalg.norm(beta[own]), 1e-5)
            else:
                assert np.linalg.norm(correlation[own]) <= limit * (1 + 1e-6)


def test_elastic_net_gradients():
    def function(X, y, penalty, ratio, w):
        return held_out(learn.elastic_net.fit(X, y, penalty, ratio, weights=w, tolerance=1e-15))

    check_gradient(function, (X, Y, 0.2, 0.7, W), 1e-5)


def test_group_lasso_gradients():
    check_gradient(lambda y, p: held_out(learn.group_lasso.fit(X, y, GROUPS, p, tolerance=1e-15)), (Y, 0.3), 1e-5)


def test_elastic_net_float32():
    model = learn.elastic_net.fit(X.astype(np.float32), Y.astype(np.float32), 0.1)
    assert model.coefficients.dtype == np.float32
    assert model.status == Status.SOLVED
    near(model.coefficients, learn.elastic_net.fit(X, Y, 0.1).coefficients, 2e-3)


# ----------------------------------------------------------------------------- losses and constraints


def loss_value(loss, beta, offset):
    r = Y - X @ beta - offset
    size = np.abs(r)
    return {
        "Squared": lambda: np.sum(W * r**2),
        "Huber": lambda: np.sum(W * np.where(size <= 0.2, r**2, 0.2 * (2 * size - 0.2))),
        "Quantile": lambda: np.sum(W * np.maximum(0.3 * r, -0.7 * r)),
        "Absolute": lambda: np.sum(W * size),
        "Chebyshev": lambda: np.max(W * size),
    }[type(loss).__name__]()


LOSSES = [
    learn.regression.Squared(),
    learn.regression.Huber(0.2),
    learn.regression.Quantile(0.3),
    learn.regression.Absolute(),
    learn.regression.Chebyshev(),
]


@pytest.mark.parametrize("constrained", [False, True], ids=["free", "constrained"])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_losses(loss, constrained):
    """No step in any of many directions lowers a convex loss; and the objective is what it says."""
    constraints = learn.constraints.nonnegative() if constrained else ()
    model = learn.regression.fit(X, Y, loss, constraints, weights=W)
    assert model.status == Status.SOLVED
    beta, offset = np.asarray(model.coefficients), float(model.intercept)
    value = loss_value(loss, beta, offset)
    near(model.objective, value, 1e-7)
    if constrained:
        assert beta.min() > -1e-8
    own = np.random.default_rng(3)
    for size in (1e-3, 1e-1):
        for _ in range(200):
            step = size * own.normal(size=D + 1)
            moved = beta + step[:D]
            assert loss_value(loss, np.maximum(moved, 0) if constrained else moved, offset + step[D]) > value - 1e-7


def test_constraints_hold_and_bind():
    c = learn.constraints
    fit = lambda *constraints, **options: np.asarray(
        learn.regression.fit(X, Y, constraints=constraints, options=cj.Options(**options)).coefficients
    )
    simplex = fit(c.simplex(D))
    near(simplex.sum(), 1, 1e-8)
    assert simplex.min() > -1e-8
    assert (np.diff(fit(c.increasing(D))) > -1e-8).all()
    assert (np.diff(fit(c.decreasing(D))) < 1e-8).all()
    box = fit(c.Bounds(-1.0, 0.4))
    near([box.min(), box.max()], [-1, 0.4], 1e-7)
    ball = fit(c.Norm(np.eye(D), d=1.0))
    near(np.linalg.norm(ball), 1, 1e-7)
    # [1, b'; b, I] positive semidefinite is |b| <= 1
    F = np.zeros((D, D + 1, D + 1))
    for j in range(D):
        F[j, 0, j + 1] = F[j, j + 1, 0] = 1
    # where the cone is curved a gap of 1e-8 leaves the point uncertain by its root
    semidefinite = fit(c.Semidefinite(F, np.eye(D + 1)), polish=True)
    near(semidefinite, fit(c.Norm(np.eye(D), d=1.0), polish=True), 1e-8)
    value = lambda beta: np.sum((centred(np.ones(N))[1] - centred(np.ones(N))[0] @ beta) ** 2)
    near(value(semidefinite), value(ball), 1e-7)
    many = fit(c.Bounds(-1.0, 1.0), c.Equal(np.ones((1, D)), np.zeros(1)), c.AtMost(np.eye(2, D), np.full(2, 0.5)))
    near(many.sum(), 0, 1e-8)
    assert many[:2].max() < 0.5 + 1e-8


def squares(prediction, y):
    return (y - prediction) ** 2


def in_ball(beta, radius):
    return beta @ beta - radius**2


def as_functions_and_cones(case):
    """The same fit with functions, which `minimize` solves, and as a cone program."""
    c, own = learn.constraints, np.random.default_rng(6)
    G, h = own.normal(size=(12, D)), own.uniform(0.1, 1, 12)
    ball, ball_function = c.Norm(np.eye(D), d=0.8), c.smooth(in_ball, 0.8)
    if case == "one":
        return (learn.regression.Huber(0.2), ball_function), (learn.regression.Huber(0.2), ball)
    if case == "many":
        halves = c.smooth(lambda beta: G[:6] @ beta - h[:6])
        return (squares, [ball_function, halves, c.AtMost(G[6:], h[6:])]), (None, [c.AtMost(G, h), ball])
    # the second-order cone keeps a distance, [1, b'; b, I] positive semidefinite is |b| <= 1
    F = np.zeros((D, D + 1, D + 1))
    for j in range(D):
        F[j, 0, j + 1] = F[j, j + 1, 0] = 1
    cones = [c.Norm(np.eye(D), -np.full(D, 0.4), d=0.9), c.Semidefinite(F, np.eye(D + 1)), c.Equal(np.eye(1, D), [0.6])]
    return (squares, cones), (None, cones)


@pytest.mark.parametrize("case", ["one", "many", "cones"])
def test_functions_are_the_cone_program(case):
    # where the boundary is curved a gap of 1e-8 leaves the point uncertain by its root
    fits = [
        learn.regression.fit(X, Y, *how, weights=W, options=cj.Options(tolerance=1e-9))
        for how in as_functions_and_cones(case)
    ]
    assert all(fit.status == Status.SOLVED for fit in fits)
    near(fits[0].objective, fits[1].objective, 1e-9)
    near(fits[0].coefficients, fits[1].coefficients, 1e-5)


def test_loss_as_a_function():
    """Rows without weight may hold what the loss has no value for; zero predictions, too."""
    y, weights = np.abs(Y), W.copy()
    y[4], weights[4] = np.nan, 0
    loss = lambda prediction, y: prediction - y * jnp.log(prediction)
    model = learn.regression.fit(X, y, loss, weights=weights)
    assert model.status == Status.SOLVED
    slope = np.where(weights > 0, weights * (1 - np.nan_to_num(y) / learn.regression.predict(model, X)), 0)
    near(np.c_[X, np.ones(N)].T @ slope, np.zeros(D + 1), 1e-6)
    with pytest.raises(ValueError, match="one loss per row"):
        learn.regression.fit(X, Y, lambda prediction, y: jnp.sum(prediction - y))


def test_gradients_of_functions():
    def function(X, y, radius, upper):
        constraints = [learn.constraints.smooth(in_ball, radius), learn.constraints.Bounds(upper=upper)]
        return held_out(learn.regression.fit(X, y, squares, constraints, options=cj.Options(tolerance=1e-10)))

    check_gradient(function, (X, Y, 1.0, 0.3), 1e-5)


def test_infeasible_constraints():
    c = learn.constraints
    model = learn.regression.fit(X, Y, constraints=[c.nonnegative(), c.Bounds(upper=-1.0)])
    assert model.status == Status.PRIMAL_INFEASIBLE


def test_constrained_gradients():
    def function(X, y, upper, w):
        constraints = [learn.constraints.Bounds(upper=upper)]
        return held_out(
            learn.regression.fit(X, y, constraints=constraints, weights=w, options=cj.Options(tolerance=1e-11))
        )

    check_gradient(function, (X, Y, 0.3, W), 1e-5)


def test_huber_gradients():
    function = lambda y, threshold: held_out(learn.regression.fit(X, y, learn.regression.Huber(threshold)))
    check_gradient(function, (Y, 0.2), 1e-5)
