"""Estimators of scikit-learn over `convexjax.learn` (extra `sklearn`): for pipelines, grid searches and the rest of it.

Parameters have scikit-learn's names where they mean the same; the docstrings state the objective, and where it differs
from that of scikit-learn's estimator of the same name. float32 data are fitted in float32, all others in float64,
whatever JAX's x64 flag says (it is on while a fit runs, in this thread only). A fit that is not proved to be the
optimum raises scikit-learn's ConvergenceWarning; `status_` is its `convexjax.Status`. Samples of weight zero count as
absent.

The first fit of a shape compiles. Rows and columns are filled up (`data.py`), so that a grid search compiles once and
not for each fold. What is fitted are NumPy arrays, so that estimators pickle and copy; derivatives are those of
`convexjax.learn`.
"""

from convexjax.interop.sklearn.linear import (
    ConstrainedRegression,
    ElasticNet,
    HuberRegressor,
    Lasso,
    LinearRegression,
    QuantileRegressor,
    Ridge,
)
from convexjax.interop.sklearn.linear_svm import LinearSVC, LinearSVR
from convexjax.interop.sklearn.logistic import LogisticRegression
from convexjax.interop.sklearn.networks import NetworkClassifier, NetworkRegressor
from convexjax.interop.sklearn.svm import SVC, SVR, NuSVC, OneClassSVM

__all__ = [
    "SVC",
    "SVR",
    "ConstrainedRegression",
    "ElasticNet",
    "HuberRegressor",
    "Lasso",
    "LinearRegression",
    "LinearSVC",
    "LinearSVR",
    "LogisticRegression",
    "NetworkClassifier",
    "NetworkRegressor",
    "NuSVC",
    "OneClassSVM",
    "QuantileRegressor",
    "Ridge",
]
