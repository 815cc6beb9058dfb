"""The estimators pass scikit-learn's own checks, all of them, and find what scikit-learn's estimators find."""

import pickle
import warnings

import jax
import numpy as np
import pytest

pytest.importorskip("sklearn", reason="the extra `sklearn` is not installed")

import sklearn.linear_model as theirs
import sklearn.svm as their_svm
from scipy.optimize import nnls
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

import convexjax as cj
from convexjax import learn
from convexjax.interop import sklearn as ours
from convexjax.interop.sklearn.data import filled, filled_columns

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 5))
Y = X @ [2.0, -1.0, 0.0, 0.5, 0.0] + 1 + 0.3 * RNG.normal(size=60)
Y[:4] += 20
LABELS = np.array(["low", "middle", "high"])[np.digitize(X @ [1.0, 1, 0, 0, -1] + RNG.normal(size=60), [-1, 1])]
TWO = np.where(LABELS == "low", "a", "b")
WEIGHTS = RNG.integers(0, 4, 60).astype(float)
NEW = RNG.normal(size=(20, 5))


# ----------------------------------------------------------------------------- scikit-learn's checks

ESTIMATORS = [
    ours.LinearRegression(),
    ours.Ridge(),
    ours.Lasso(),
    ours.ElasticNet(),
    ours.HuberRegressor(),
    ours.QuantileRegressor(),
    ours.LogisticRegression(),
    ours.ConstrainedRegression(),
    ours.ConstrainedRegression(learn.constraints.nonnegative()),
    ours.SVC(),
    # one of the checks has so small a class that the default, 0.5, is infeasible
    ours.NuSVC(nu=0.35),
    ours.SVR(),
    ours.OneClassSVM(),
    ours.SVC(kernel="precomputed"),
    ours.LinearSVC(),
    ours.LinearSVR(),
    ours.NetworkClassifier(),
    ours.NetworkRegressor(),
]


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: repr(estimator)[:40])
def test_checks_of_scikit_learn(estimator, monkeypatch):
    # one of the checks wants to see this variable
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    with warnings.catch_warnings():
        if get_tags(estimator).input_tags.pairwise:
            # one of the checks passes values of no kernel, which are not positive semidefinite
            warnings.simplefilter("ignore", ConvergenceWarning)
        results = check_estimator(estimator, on_skip=None, on_fail=None)
    # the programs of an estimator take a hundred megabytes
    jax.clear_caches()
    not_passed = {result["check_name"]: str(result["exception"]) for result in results if result["status"] != "passed"}
    assert len(results) > 45
    if not_passed == {"check_sample_weights_pandas_series": not_passed.get("check_sample_weights_pandas_series")}:
        pytest.importorskip("pandas", reason="one of the checks needs pandas; all others passed")
    assert not_passed == {}
    tags = get_tags(estimator)
    assert not (tags.non_deterministic or tags.no_validation or tags._skip_test)
    assert not any(part is not None and part.poor_score for part in (tags.classifier_tags, tags.regressor_tags))


# ----------------------------------------------------------------------------- the same optima

REGRESSORS = [
    (ours.LinearRegression(), theirs.LinearRegression()),
    (ours.LinearRegression(fit_intercept=False), theirs.LinearRegression(fit_intercept=False)),
    (ours.Ridge(3.0), theirs.Ridge(3.0, tol=1e-12)),
    (ours.Lasso(0.2), theirs.Lasso(0.2, tol=1e-12)),
    (ours.ElasticNet(0.2, l1_ratio=0.3), theirs.ElasticNet(0.2, l1_ratio=0.3, tol=1e-12)),
    (ours.HuberRegressor(), theirs.HuberRegressor(tol=1e-12, max_iter=10_000)),
    (ours.HuberRegressor(epsilon=2.0, alpha=1.0), theirs.HuberRegressor(epsilon=2.0, alpha=1.0, tol=1e-12)),
    (ours.QuantileRegressor(quantile=0.3, alpha=0.05), theirs.QuantileRegressor(quantile=0.3, alpha=0.05)),
    (ours.SVR(C=2.0), their_svm.SVR(C=2.0, tol=1e-10)),
    (ours.SVR(kernel="linear", epsilon=0.3), their_svm.SVR(kernel="linear", epsilon=0.3, tol=1e-10)),
    (
        ours.LinearSVR(C=0.5, epsilon=0.2, fit_intercept=False, loss="squared_epsilon_insensitive"),
        their_svm.LinearSVR(
            C=0.5, epsilon=0.2, fit_intercept=False, loss="squared_epsilon_insensitive", tol=1e-12, max_iter=100_000
        ),
    ),
]


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
@pytest.mark.parametrize("pair", REGRESSORS, ids=lambda pair: repr(pair[0]))
def test_regression(pair, weights):
    mine, other = (clone(estimator) for estimator in pair)
    if weights is not None and getattr(other, "gamma", None) == "scale":
        # ours takes the weights into account, too
        mine, other = (estimator.set_params(gamma=0.2) for estimator in (mine, other))
    mine.fit(X, Y, sample_weight=weights), other.fit(X, Y, sample_weight=weights)
    assert mine.status_ == cj.Status.SOLVED
    # theirs are less accurate where their method is one of first order
    atol = 1e-4 if isinstance(other, theirs.HuberRegressor) else 1e-5 if isinstance(other, their_svm.SVR) else 1e-6
    np.testing.assert_allclose(mine.predict(NEW), other.predict(NEW), rtol=0, atol=atol)
    assert mine.score(X, Y) == pytest.approx(other.score(X, Y), abs=1e-4)


def test_huber_fits_the_scale():
    mine, other = ours.HuberRegressor().fit(X, Y), theirs.HuberRegressor(tol=1e-12, max_iter=10_000).fit(X, Y)
    assert mine.scale_ == pytest.approx(other.scale_, rel=1e-4)
    np.testing.assert_array_equal(mine.outliers_, other.outliers_)
    # the slopes in the scale and in the coefficients, from the definition
    r, s, w = Y - mine.predict(X), mine.scale_, mine.coef_
    z = r / s
    assert np.sum(1 - np.minimum(z**2, 1.35**2)) == pytest.approx(0, abs=1e-8)
    slope = -2 * X.T @ np.clip(z, -1.35, 1.35) + 2e-4 * w
    np.testing.assert_allclose(slope, 0, atol=1e-6)
    # data on a line have no scale but the least one
    line = X @ np.arange(5.0) + 1
    exact = ours.HuberRegressor(alpha=0.0).fit(X, line)
    np.testing.assert_allclose(exact.coef_, np.arange(5.0), atol=1e-8)
    assert exact.scale_ == pytest.approx(1e-6 * line.std(), rel=1e-2)


CLASSIFIERS = [
    (ours.LogisticRegression(C=0.7), theirs.LogisticRegression(C=0.7, tol=1e-10, max_iter=10_000)),
    (ours.SVC(C=2.0), their_svm.SVC(C=2.0, tol=1e-10)),
    (ours.SVC(kernel="poly", coef0=1.0, degree=2), their_svm.SVC(kernel="poly", coef0=1.0, degree=2, tol=1e-10)),
    (
        ours.SVC(kernel="linear", class_weight="balanced", decision_function_shape="ovo"),
        their_svm.SVC(kernel="linear", class_weight="balanced", decision_function_shape="ovo", tol=1e-10),
    ),
    (ours.NuSVC(nu=0.3), their_svm.NuSVC(nu=0.3, tol=1e-10)),
    (
        ours.LinearSVC(fit_intercept=False),
        their_svm.LinearSVC(fit_intercept=False, tol=1e-12, max_iter=100_000),
    ),
]


@pytest.mark.parametrize("labels", [TWO, LABELS], ids=["two", "three"])
@pytest.mark.parametrize("pair", CLASSIFIERS, ids=lambda pair: repr(pair[0])[:40])
def test_classification(pair, labels):
    mine, other = (clone(estimator) for estimator in pair)
    mine.fit(X, labels), other.fit(X, labels)
    assert mine.status_ == cj.Status.SOLVED
    np.testing.assert_array_equal(mine.classes_, other.classes_)
    np.testing.assert_allclose(mine.decision_function(NEW), other.decision_function(NEW), atol=1e-5)
    assert np.mean(mine.predict(NEW) == other.predict(NEW)) == 1
    if hasattr(mine, "predict_proba"):
        np.testing.assert_allclose(mine.predict_proba(NEW), other.predict_proba(NEW), atol=1e-6)
        np.testing.assert_allclose(np.exp(mine.predict_log_proba(NEW)).sum(1), 1)
    assert mine.score(X, labels) == pytest.approx(other.score(X, labels), abs=1e-12)


def test_weights_of_classes():
    """A label of weight 2 is the same as two samples."""
    twice = np.where(TWO == "a", 2.0, 1.0)
    for estimator in (ours.LogisticRegression(), ours.LinearSVC(), ours.SVC(gamma=0.2)):
        by_sample = clone(estimator).fit(X, TWO, sample_weight=twice).decision_function(NEW)
        by_class = clone(estimator).set_params(class_weight={"a": 2.0}).fit(X, TWO).decision_function(NEW)
        np.testing.assert_allclose(by_class, by_sample, atol=1e-9)


def test_one_class():
    mine, other = ours.OneClassSVM(nu=0.2).fit(X), their_svm.OneClassSVM(nu=0.2, tol=1e-10).fit(X)
    # another scale of the weights
    scale = other.offset_[0] / mine.offset_[0]
    np.testing.assert_allclose(scale * mine.decision_function(NEW), other.decision_function(NEW), atol=1e-6)
    np.testing.assert_allclose(scale * mine.score_samples(NEW), other.score_samples(NEW), atol=1e-6)
    np.testing.assert_array_equal(mine.predict(NEW), other.predict(NEW))
    assert np.mean(mine.predict(X) == -1) <= 0.2


def test_kernels():
    """The same by name, as a kernel of ours, as a function, and by its values."""
    gamma = 0.3
    wanted = ours.SVC(gamma=gamma).fit(X, LABELS).decision_function(NEW)
    for kernel in (learn.kernels.RBF(gamma), lambda A, B: rbf_kernel(A, B, gamma)):
        found = ours.SVC(kernel=kernel).fit(X, LABELS).decision_function(NEW)
        np.testing.assert_allclose(found, wanted, atol=1e-8)
    model = ours.SVC(kernel="precomputed").fit(rbf_kernel(X, X, gamma), LABELS)
    np.testing.assert_allclose(model.decision_function(rbf_kernel(NEW, X, gamma)), wanted, atol=1e-8)
    # samples without weight have no row and no column
    some = (WEIGHTS > 0).astype(float)
    by_values = (
        ours.SVC(kernel="precomputed").fit(rbf_kernel(X, X, gamma), TWO, some).predict(rbf_kernel(NEW, X, gamma))
    )
    np.testing.assert_array_equal(by_values, ours.SVC(gamma=gamma).fit(X[some > 0], TWO[some > 0]).predict(NEW))
    linear = ours.SVC(kernel="linear").fit(X, TWO)
    np.testing.assert_allclose(NEW @ linear.coef_[0] + linear.intercept_, linear.decision_function(NEW), atol=1e-10)
    assert not hasattr(model, "coef_")


# ----------------------------------------------------------------------------- constraints


def test_constrained_regression():
    signs = ours.ConstrainedRegression(learn.constraints.nonnegative(), fit_intercept=False).fit(X, Y)
    np.testing.assert_allclose(signs.coef_, nnls(X, Y)[0], atol=1e-6)
    # the largest correlation of the residual with a column of the hull of the simplex is that of those that count
    shares = ours.ConstrainedRegression(learn.constraints.simplex(5), loss="squared").fit(X, Y)
    assert shares.coef_.sum() == pytest.approx(1) and shares.coef_.min() > -1e-9
    slope = (X - X.mean(0)).T @ (Y - shares.predict(X))
    np.testing.assert_allclose(slope[shares.coef_ > 1e-6], slope.max(), rtol=1e-5)
    # a function; and several together
    ball = ours.ConstrainedRegression(lambda beta: beta @ beta - 1.0).fit(X, Y)
    assert np.linalg.norm(ball.coef_) == pytest.approx(1, abs=1e-6)
    slope = (X - X.mean(0)).T @ (Y - ball.predict(X))
    np.testing.assert_allclose(slope / np.linalg.norm(slope), ball.coef_, atol=1e-5)
    least = ours.ConstrainedRegression(loss="absolute").fit(X, Y)
    quantile = ours.QuantileRegressor(alpha=0.0).fit(X, Y)
    np.testing.assert_allclose(least.coef_, quantile.coef_, atol=1e-4)


# ----------------------------------------------------------------------------- types, statuses, errors


@pytest.mark.parametrize("estimator", [ours.Ridge(), ours.LogisticRegression(), ours.SVC(), ours.NetworkClassifier()])
def test_types(estimator):
    """The type of a fit is that of the data, whatever the x64 flag says, which stays as it is."""
    y = Y if isinstance(estimator, ours.Ridge) else TWO
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)
    found = {}
    for flag in (True, False):
        with jax.enable_x64(flag):
            for dtype in (np.float64, np.float32):
                model = clone(estimator).fit(X.astype(dtype), y)
                assert jax.config.jax_enable_x64 is flag
                parameters = [vars(model)[name] for name in ("coef_", "dual_coef_", "coefs_") if name in vars(model)]
                assert parameters and all(np.asarray(leaf).dtype == dtype for leaf in jax.tree.leaves(parameters))
                found[flag, dtype] = getattr(model, "predict_proba", model.predict)(X.astype(dtype))
    if found[True, np.float64].dtype.kind == "f":
        np.testing.assert_allclose(found[False, np.float64], found[True, np.float64], rtol=1e-10)
        np.testing.assert_allclose(found[True, np.float32], found[True, np.float64], rtol=1e-2)


@pytest.mark.parametrize(
    "estimator, y, status",
    [
        (ours.LogisticRegression(C=np.inf), X[:, 0] > 0, cj.Status.DUAL_INFEASIBLE),
        (ours.SVC(kernel="sigmoid", gamma=5.0), TWO, cj.Status.NONCONVEX),
        (
            ours.ConstrainedRegression([learn.constraints.Bounds(lower=1.0), learn.constraints.Bounds(upper=0.0)]),
            Y,
            cj.Status.PRIMAL_INFEASIBLE,
        ),
    ],
    ids=["separable", "nonconvex kernel", "contradiction"],
)
def test_statuses(estimator, y, status):
    with pytest.warns(ConvergenceWarning, match=status.name):
        estimator.fit(X, y)
    assert estimator.status_ == status


@pytest.mark.parametrize(
    "estimator, message",
    [
        (ours.Ridge(-1.0), "alpha must be at least 0"),
        (ours.Lasso(0.0), "alpha must be above 0"),
        (ours.ElasticNet(l1_ratio=0.0), "l1_ratio must be above 0 and at most 1"),
        (ours.HuberRegressor(epsilon=0.5), "epsilon must be above 1"),
        (ours.Lasso(tol=0.0), "tol must be above 0"),
        (ours.ConstrainedRegression(loss="cubed"), "loss must be 'squared', 'absolute', or of learn.regression"),
        (ours.SVR(kernel="none"), "kernel must be 'linear', 'poly'"),
        (ours.SVR(gamma="large"), 'gamma must be "scale", "auto" or a number'),
        (ours.LinearSVR(loss="none"), "loss must be one of 'epsilon_insensitive'"),
        (ours.NetworkRegressor((0,)), "hidden_layer_sizes must be positive integers"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_wrong_parameters(estimator, message):
    with pytest.raises(ValueError, match=message):
        estimator.fit(X, Y)


def test_wrong_data():
    with pytest.raises(ValueError, match="sample_weight holds negative weights"):
        ours.Ridge().fit(X, Y, sample_weight=-WEIGHTS)
    with pytest.raises(ValueError, match="one class only"):
        ours.SVC().fit(X, LABELS, sample_weight=(LABELS == "low").astype(float))
    with pytest.raises(ValueError, match="more than twice the share of the smaller"):
        ours.NuSVC(nu=0.9).fit(X, TWO)
    with pytest.raises(TypeError, match="alpha must be a number"):
        ours.Ridge("one").fit(X, Y)


# ----------------------------------------------------------------------------- scikit-learn around them


def test_search_pickle_and_names():
    search = GridSearchCV(
        make_pipeline(StandardScaler(), ours.SVC()), {"svc__C": [1.0, 10.0], "svc__gamma": [0.1, 1.0]}, cv=KFold(3)
    )
    other = GridSearchCV(
        make_pipeline(StandardScaler(), their_svm.SVC(break_ties=True)),
        {"svc__C": [1.0, 10.0], "svc__gamma": [0.1, 1.0]},
        cv=KFold(3),
    )
    search.fit(X, LABELS), other.fit(X, LABELS)
    np.testing.assert_allclose(search.cv_results_["mean_test_score"], other.cv_results_["mean_test_score"], atol=1e-12)
    again = pickle.loads(pickle.dumps(search))
    np.testing.assert_array_equal(again.predict(NEW), search.predict(NEW))
    # a kernel by its values is cut in both directions
    values = GridSearchCV(ours.SVC(kernel="precomputed"), {"C": [0.1, 1.0]}, cv=KFold(3)).fit(X @ X.T, LABELS)
    linear = GridSearchCV(ours.SVC(kernel="linear"), {"C": [0.1, 1.0]}, cv=KFold(3)).fit(X, LABELS)
    np.testing.assert_allclose(values.cv_results_["mean_test_score"], linear.cv_results_["mean_test_score"])


def test_feature_names():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcde"))
    model = ours.Lasso(0.1).fit(frame, Y)
    assert list(model.feature_names_in_) == list("abcde")
    with pytest.raises(ValueError, match="feature names"):
        model.predict(frame[list("edcba")])


def test_folds_share_a_program():
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **about: compiled.append(name) if name.endswith("backend_compile_duration") else None
    )
    for estimator, y in ((ours.Ridge(), Y), (ours.LogisticRegression(), TWO), (ours.SVC(), TWO)):
        estimator.fit(X, y).predict(X)
        compiled.clear()
        for rows in (40, 41, 55):
            estimator.set_params(**{"alpha" if y is Y else "C": 1.0 + rows}).fit(X[:rows], y[:rows]).predict(X[rows:])
        assert compiled == []


def test_sizes():
    assert [filled(size) for size in (1, 32, 33, 256, 257, 300, 512, 513, 1000, 1025)] == [
        32, 32, 64, 256, 288, 320, 512, 576, 1024, 1152,
    ]  # fmt: skip
    assert [filled_columns(size) for size in (1, 4, 5, 31, 33, 100)] == [4, 4, 8, 32, 33, 100]


# ----------------------------------------------------------------------------- networks


def test_networks():
    model = ours.NetworkRegressor((16,), learning_rate_init=0.05, random_state=0)
    curve = NEW[:, :1]
    model.fit(curve, np.sin(2 * curve[:, 0]))
    assert model.score(curve, np.sin(2 * curve[:, 0])) > 0.95
    assert model.n_iter_ == 200 and model.loss_curve_[-1] < model.loss_curve_[0] / 10
    assert [part.shape for part in model.coefs_] == [(1, 16), (16, 1)]
    # as the layers are written
    hidden = np.maximum(curve @ model.coefs_[0] + model.intercepts_[0], 0)
    np.testing.assert_allclose((hidden @ model.coefs_[1] + model.intercepts_[1])[:, 0], model.predict(curve), rtol=1e-8)
    same = ours.NetworkRegressor((16,), learning_rate_init=0.05, random_state=0).fit(curve, np.sin(2 * curve[:, 0]))
    np.testing.assert_array_equal(same.predict(curve), model.predict(curve))


def test_networks_stop():
    stopping = dict(early_stopping=True, n_iter_no_change=3, validation_fraction=0.3, random_state=0, batch_size=16)
    model = ours.NetworkClassifier((8, 4), learning_rate_init=0.1, dropout=0.1, **stopping).fit(X, LABELS)
    assert model.ending_ == learn.training.Ending.EARLY_STOPPED and model.n_iter_ < 200
    np.testing.assert_allclose(model.predict_proba(NEW).sum(1), 1)
    with pytest.warns(ConvergenceWarning, match="not finite"):
        ours.NetworkRegressor((8,), learning_rate_init=1e300, random_state=0, max_iter=20).fit(X, Y)
