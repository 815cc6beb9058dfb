"""`learn.svm`: machines certified in NumPy, bad input, statuses, transforms, derivatives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_learn_regression import check_gradient, near

import convexjax as cj
from convexjax import learn

Status = cj.Status
svm, kernels = learn.svm, learn.kernels
rng = np.random.default_rng(5)
M, P = 40, 3
X = rng.normal(size=(M, P)) + 1
SCORE = X @ [1.0, -1, 0.5] - 0.5 + 0.7 * rng.normal(size=M)
Y = np.where(SCORE > 0, 1.0, -1.0)
W = rng.uniform(0.5, 2, size=M)
RBF = kernels.RBF(0.3)


def rbf(X, Z, scale=0.3):
    return np.exp(-scale * ((X[:, None] - Z) ** 2).sum(-1))


def certify(model, K, y, C, tolerance=1e-9, squared=False):
    """Primal and dual objective of a classification from its dual alone, in NumPy, and their agreement."""
    a = np.asarray(model.dual)
    beta = y * a
    assert a.min() >= 0
    assert abs(beta.sum()) <= tolerance * max(1, a.sum())
    slack = np.maximum(0, 1 - y * (K @ beta + float(model.intercept)))
    quadratic = beta @ K @ beta / 2
    if squared:
        primal, dual = quadratic + C @ slack**2, a.sum() - quadratic - (a**2 / (4 * C)).sum()
    else:
        assert (a <= C * (1 + 1e-12)).all()
        primal, dual = quadratic + C @ slack, a.sum() - quadratic
    assert primal - dual <= tolerance * primal
    near(model.objective, primal, tolerance)
    assert model.status == Status.SOLVED
    near(model.margin, 1 / np.sqrt(beta @ K @ beta), 1e-8)
    assert (np.asarray(model.support) == (a > 0)).all()


# ----------------------------------------------------------------------------- classification


@pytest.mark.parametrize("C", [0.02, 1.0, 50.0])
def test_linear_hinge(C):
    model = svm.fit(X, Y, C=C, sample_weight=W)
    certify(model, X @ X.T, Y, C * W)
    near(model.coef, X.T @ (Y * model.dual), 1e-10)
    near(svm.decision_function(model, X), X @ np.asarray(model.coef) + float(model.intercept))


def test_squared_hinge():
    certify(svm.fit(X, Y, C=2.0, sample_weight=W, loss="squared_hinge"), X @ X.T, Y, 2 * W, squared=True)


def test_gamma_is_twice_C():
    by_gamma, by_C = svm.fit(X, Y, gamma=2.0), svm.fit(X, Y, C=1.0)
    near(by_gamma.coef, by_C.coef)
    near(by_gamma.objective, 2 * by_C.objective)
    slack = np.maximum(0, 1 - Y * np.asarray(svm.decision_function(by_gamma, X)))
    near(by_gamma.objective, np.sum(np.asarray(by_gamma.coef) ** 2) + 2 * slack.sum(), 1e-8)


def test_without_intercept():
    model = svm.fit(X, Y, C=1.0, intercept=False)
    a, f = np.asarray(model.dual), X @ np.asarray(model.coef)
    assert model.intercept == 0
    primal = f @ (Y * a) / 2 + np.maximum(0, 1 - Y * f).sum()
    assert primal - (a.sum() - f @ (Y * a) / 2) <= 1e-9 * primal


def test_more_columns_than_rows():
    wide = rng.normal(size=(12, 30))
    model = svm.fit(wide, Y[:12], C=1.0)
    certify(model, wide @ wide.T, Y[:12], np.ones(12))
    near(model.coef, wide.T @ (Y[:12] * model.dual), 1e-10)


def test_labels_are_kept():
    names = np.where(Y > 0, 7, 3)
    model = svm.fit(X, names, C=1.0)
    near(model.coef, svm.fit(X, Y, C=1.0).coef)
    predicted = np.asarray(svm.predict(model, X))
    assert set(predicted) == {3, 7}
    assert ((predicted == 7) == (np.asarray(svm.decision_function(model, X)) > 0)).all()
    traced = jax.jit(lambda y: svm.fit(X, y, C=1.0))(jnp.asarray(names))
    assert traced.classes.tolist() == [3, 7]
    near(traced.coef, model.coef)


def test_class_weights_and_left_out():
    weights = np.where(Y > 0, 3.0, 0.5)
    near(svm.fit(X, Y, C=1.0, class_weight=[0.5, 3.0]).coef, svm.fit(X, Y, C=1.0, sample_weight=weights).coef)
    balanced = M / 2 / np.where(Y > 0, (Y > 0).sum(), (Y < 0).sum())
    near(svm.fit(X, Y, C=1.0, class_weight="balanced").coef, svm.fit(X, Y, C=1.0, sample_weight=balanced).coef)
    keep = np.arange(M) % 3 > 0
    near(svm.fit(X, Y, C=1.0, sample_weight=keep.astype(float)).coef, svm.fit(X[keep], Y[keep], C=1.0).coef, 1e-9)


# ----------------------------------------------------------------------------- kernels

WIDTHS = np.sqrt([0.1, 0.3, 1.0])
KERNELS = {
    "rbf": (RBF, rbf(X, X)),
    "widths": (
        kernels.RBF(jnp.array([0.1, 0.3, 1.0])),
        rbf(X * np.sqrt([0.1, 0.3, 1.0]), X * np.sqrt([0.1, 0.3, 1.0]), 1),
    ),
    "polynomial": (kernels.Polynomial(2, 0.5, 1.0), (0.5 * X @ X.T + 1) ** 2),
    "laplacian": (kernels.Laplacian(0.2), np.exp(-0.2 * np.abs(X[:, None] - X).sum(-1))),
    "sum": (2.0 * RBF + kernels.Linear() * kernels.Linear(), 2 * rbf(X, X) + (X @ X.T) ** 2),
    "function": (kernels.Function(lambda x, z, c: 1 / (1 + c * jnp.sum((x - z) ** 2)), (0.5,)), None),
}


@pytest.mark.parametrize("name", KERNELS)
def test_kernels(name):
    kernel, K = KERNELS[name]
    if K is None:
        K = 1 / (1 + 0.5 * ((X[:, None] - X) ** 2).sum(-1))
    near(kernel(jnp.asarray(X), jnp.asarray(X)), K, 1e-12)
    near(kernel.diagonal(jnp.asarray(X)), np.diag(K), 1e-12)
    model = svm.fit(X, Y, C=1.0, kernel=kernel)
    certify(model, K, Y, np.ones(M))
    new = X[:5] + 0.1
    near(svm.decision_function(model, X), K @ (Y * model.dual) + float(model.intercept))
    assert svm.predict(model, new).shape == (5,)


def test_precomputed():
    model = svm.fit(rbf(X, X), Y, C=1.0, kernel=kernels.Precomputed())
    same = svm.fit(X, Y, C=1.0, kernel=RBF)
    near(model.dual, same.dual)
    near(svm.decision_function(model, rbf(X[:4], X)), svm.decision_function(same, X[:4]))


def test_low_rank_is_the_kernel_on_all_landmarks():
    features = kernels.nystrom(RBF, jnp.asarray(X), jnp.asarray(X))
    near(features @ features.T, rbf(X, X), 1e-9)
    near(svm.fit(features, Y, C=1.0).objective, svm.fit(X, Y, C=1.0, kernel=RBF).objective, 1e-8)
    random = kernels.random_features(jax.random.key(0), jnp.asarray(X), 0.3, 4000)
    near(random @ random.T, rbf(X, X), 0.1)


# ----------------------------------------------------------------------------- other machines


@pytest.mark.parametrize("kernel", [None, RBF])
@pytest.mark.parametrize("loss", ["absolute", "squared"])
def test_regression(kernel, loss):
    K, C, epsilon = (X @ X.T if kernel is None else rbf(X, X)), 2.0 * W, 0.2
    model = svm.fit_regression(X, SCORE, C=2.0, epsilon=epsilon, sample_weight=W, kernel=kernel, loss=loss)
    beta = np.asarray(model.dual)
    f = K @ beta
    excess = np.maximum(0, np.abs(f + float(model.intercept) - SCORE) - epsilon)
    dual = SCORE @ beta - epsilon * np.abs(beta).sum() - beta @ f / 2
    if loss == "absolute":
        assert (np.abs(beta) <= C * (1 + 1e-12)).all()
        primal = beta @ f / 2 + C @ excess
    else:
        primal, dual = beta @ f / 2 + C @ excess**2, dual - (beta**2 / (4 * C)).sum()
    assert abs(beta.sum()) <= 1e-9
    assert primal - dual <= 1e-9 * primal
    near(model.objective, primal, 1e-9)
    near(svm.predict(model, X), f + float(model.intercept))


def test_nu():
    model = svm.fit_nu(X, Y, nu=0.4, kernel=RBF)
    assert model.status == Status.SOLVED
    score = Y * np.asarray(svm.decision_function(model, X))
    assert (score < 1 - 1e-9).mean() <= 0.4 <= np.asarray(model.support).mean()
    # the same machine with C = 1 / rho, the largest dual
    same = svm.fit(X, Y, C=np.max(model.dual), kernel=RBF)
    near(model.dual, same.dual, 1e-7)
    near(model.intercept, same.intercept, 1e-7)
    few = np.where(np.arange(M) < 3, 1, -1)
    assert svm.fit_nu(X, few, nu=0.4).status == Status.PRIMAL_INFEASIBLE


def test_one_class():
    model = svm.fit_one_class(X, nu=0.3, kernel=RBF)
    K, a = rbf(X, X), np.asarray(model.dual)
    f, rho = K @ a, -float(model.intercept)
    near(a.sum(), 0.3 * M)
    assert a.min() >= 0 and a.max() <= 1 + 1e-12
    primal = a @ f / 2 - 0.3 * M * rho + np.maximum(0, rho - f).sum()
    assert primal + a @ f / 2 <= 1e-9 * abs(primal)
    assert (f < rho - 1e-9).mean() <= 0.3 <= (a > 0).mean()
    assert set(np.asarray(svm.predict(model, X)).tolist()) == {-1, 1}


SEPARABLE = np.where(X[:, 0] - X[:, 1] > 0.2, 1.0, -1.0)


@pytest.mark.parametrize("kernel", [None, RBF])
def test_hard_margin(kernel):
    """The machine and its dual have one objective, and the machine of a large C is the same."""
    K, y = (X @ X.T if kernel is None else rbf(X, X)), SEPARABLE
    model = svm.fit(X, y, C=np.inf, kernel=kernel)
    a = np.asarray(model.dual)
    assert model.status == Status.SOLVED
    assert a.min() >= 0 and abs(y @ a) <= 1e-9 * a.sum()
    size = (y * a) @ K @ (y * a)
    score = y * (K @ (y * a) + float(model.intercept))
    assert score.min() >= 1 - 1e-9
    near(size / 2, a.sum() - size / 2, 1e-9)
    near(model.objective, size / 2, 1e-9)
    near(model.margin, size**-0.5, 1e-9)
    near(svm.fit(X, y, C=1e6, kernel=kernel).objective, size / 2, 1e-6)
    near(svm.fit(X, y, gamma=np.inf, kernel=kernel).objective, size, 1e-9)


def test_no_hard_margin():
    model = svm.fit(X, Y, C=np.inf)
    assert model.status == Status.PRIMAL_INFEASIBLE
    # a point of both hulls
    a = np.asarray(model.dual)
    assert a.min() >= 0
    near([a[Y > 0].sum(), a[Y < 0].sum()], [1, 1], 1e-9)
    near(X.T @ (Y * a), np.zeros(P), 1e-6)
    weights = (Y == SEPARABLE).astype(float)
    assert svm.fit(X, Y, C=np.inf, sample_weight=weights).status == Status.SOLVED


# ----------------------------------------------------------------------------- bad input


def test_errors():
    cases = [
        (lambda: svm.fit(X, np.ones(M), C=1.0), "1 different labels"),
        (lambda: svm.fit(X, np.arange(M) % 3, C=1.0), "3 different labels"),
        (lambda: svm.fit(X, Y), "one of gamma and C"),
        (lambda: svm.fit(X, Y, gamma=0.0), "gamma must be positive"),
        (lambda: svm.fit(X, Y, C=-1.0), "C must be positive"),
        (lambda: svm.fit(X, Y, C=np.nan), "C must be positive and finite"),
        (lambda: svm.fit_regression(X, SCORE, C=np.inf), "C must be positive and finite"),
        (lambda: svm.fit(X, Y, C=1.0, kernel=RBF, intercept=False, method="working_set"), "intercept=True"),
        (lambda: svm.fit(X, Y[1:], C=1.0), "y has shape"),
        (lambda: svm.fit(X, Y, C=1.0, loss="logistic"), "loss must be"),
        (lambda: svm.fit(X, Y, C=1.0, kernel="rbf"), "learn.kernels"),
        (lambda: svm.fit(X, Y, C=1.0, class_weight="even"), "class_weight"),
        (lambda: svm.fit(X, Y, C=1.0, kernel=kernels.Precomputed()), "precomputed"),
        (lambda: svm.fit_nu(X, Y, nu=1.5), "nu must be"),
        (lambda: svm.fit_regression(X, SCORE, C=1.0, epsilon=-1.0), "epsilon"),
        (lambda: svm.decision_function(svm.fit(X, Y, C=1.0), X[:, :2]), "X has shape"),
        (lambda: svm.fit(X, Y, C=1.0, kernel=2.0 * kernels.RBF(-0.1)), "scale of RBF must be nonnegative"),
        (lambda: svm.fit(X, Y, C=1.0, kernel=kernels.Laplacian(np.ones(2))), "one for each of 3 columns"),
        (lambda: svm.fit(X[:1], Y[:1], C=1.0), "1 different labels"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="expected numbers"):
        svm.fit(X, np.where(Y > 0, "yes", "no"), C=1.0)


def test_statuses():
    bad = X.copy()
    bad[2, 1] = np.nan
    assert svm.fit(bad, Y, C=1.0).status == Status.NUMERICAL_ERROR
    dropped = svm.fit(bad, Y, C=1.0, missing="drop")
    near(dropped.coef, svm.fit(np.delete(X, 2, 0), np.delete(Y, 2), C=1.0).coef, 1e-9)
    assert svm.fit(X, Y, C=1.0, sample_weight=-W).status == Status.NUMERICAL_ERROR
    of_traced = jax.jit(lambda y: svm.fit(X, y, C=1.0).status)
    assert of_traced(jnp.ones(M)) == of_traced(jnp.arange(float(M))) == Status.NUMERICAL_ERROR
    assert svm.fit(X, Y, C=1.0, kernel=kernels.Sigmoid(1.0, -1.0)).status == Status.NONCONVEX
    of_scale = jax.jit(lambda scale: svm.fit(X, Y, C=1.0, kernel=kernels.RBF(scale)).status)
    assert of_scale(0.3) == Status.SOLVED
    assert of_scale(-0.3) == Status.NUMERICAL_ERROR


def test_hard_data():
    """Two samples, duplicates with opposite labels, constant and huge features, separable data."""
    two = svm.fit([[0.0, 1.0], [2.0, 1.0]], [0, 1], C=10.0)
    near(two.coef, [1.0, 0.0], 1e-8)
    near(two.intercept, -1.0, 1e-8)
    twice, labels = np.r_[X, X], np.r_[Y, -Y]
    same = svm.fit(twice, labels, C=1.0)
    assert same.status == Status.SOLVED
    near(same.objective, 2 * M, 1e-7)
    near(same.coef, np.zeros(P), 1e-3)
    constant = np.c_[X, np.full(M, 1e6)]
    near(svm.fit(constant, Y, C=1.0).coef[:P], svm.fit(X, Y, C=1.0).coef, 1e-6)
    separable = np.where(X[:, 0] > 1, 1.0, -1.0)
    certify(svm.fit(X, separable, C=1e4), X @ X.T, separable, np.full(M, 1e4), 1e-8)


# ----------------------------------------------------------------------------- transforms


def test_lanes():
    """A lane that fails leaves the others as they are."""
    ys = jnp.stack([jnp.asarray(Y), jnp.ones(M)])
    batch = jax.vmap(lambda y: svm.fit(X, y, C=1.0, kernel=RBF))(ys)
    assert batch.status.tolist() == [Status.SOLVED, Status.NUMERICAL_ERROR]
    near(batch.dual[0], svm.fit(X, Y, C=1.0, kernel=RBF).dual)


def test_float32():
    for kernel in (None, kernels.RBF(jnp.float32(0.3))):
        model = svm.fit(X.astype(np.float32), Y.astype(np.float32), C=1.0, kernel=kernel)
        exact = svm.fit(X, Y, C=1.0, kernel=kernel and RBF)
        assert model.status == Status.SOLVED
        assert model.dual.dtype == model.objective.dtype == jnp.float32
        near(model.objective, exact.objective, 1e-5)
        near(model.dual, exact.dual, 1e-3)


def loss(model):
    new = jnp.asarray(X[:7] + 0.3)
    return jnp.sum(jnp.sin(svm.decision_function(model, new)))


def test_linear_gradients():
    check_gradient(lambda X, C, w: loss(svm.fit(X, Y, C=C, sample_weight=w)), (X, 0.3, W), 1e-6)
    check_gradient(lambda C, e: loss(svm.fit_regression(X, SCORE, C=C, epsilon=e)), (0.3, 0.2), 1e-6)


def test_hard_margin_gradients():
    check_gradient(lambda X: loss(svm.fit(X, SEPARABLE, C=np.inf)), (X,), 1e-6)


def test_kernel_gradients():
    fit = lambda X, C, scale: svm.fit(X, Y, C=C, kernel=kernels.RBF(scale))
    both = lambda model: loss(model) + model.objective + model.margin
    check_gradient(lambda X, C, s: both(fit(X, C, s)), (X, 0.8, np.array([0.1, 0.3, 1.0])), 1e-6)
    check_gradient(lambda s: loss(svm.fit_nu(X, Y, nu=0.5, kernel=kernels.RBF(s))), (0.4,), 1e-6)


def test_forward_and_batched_derivatives():
    value = lambda s: loss(svm.fit(X, Y, C=1.0, kernel=kernels.RBF(s)))
    scales = jnp.array([0.2, 0.5])
    forward = jax.jit(jax.vmap(lambda s: jax.jvp(value, (s,), (1.0,))[1]))(scales)
    backward = jax.jit(jax.vmap(jax.grad(value)))(scales)
    near(forward, backward, 1e-9)
    h = 1e-3
    slopes = jax.jit(jax.vmap(jax.grad(value)))(jnp.array([0.2 - h, 0.2 + h]))
    near(jax.jit(jax.hessian(value))(0.2), (slopes[1] - slopes[0]) / (2 * h), 1e-3)
