"""Regression and classification by convex optimisation: `learn.<family>.fit(X, y, ...)` returns a model, a pytree, and
`learn.<family>.predict(model, X)` its predictions. Both are differentiable in data, weights and hyperparameters."""

from convexjax.learn import (
    constraints,
    elastic_net,
    group_lasso,
    kernels,
    lbfgs,
    likelihood,
    linear,
    logistic,
    losses,
    networks,
    plot,
    poisson,
    regression,
    ridge,
    svm,
    training,
    validation,
)

__all__ = [
    "constraints",
    "elastic_net",
    "group_lasso",
    "kernels",
    "lbfgs",
    "likelihood",
    "linear",
    "logistic",
    "losses",
    "networks",
    "plot",
    "poisson",
    "regression",
    "ridge",
    "svm",
    "training",
    "validation",
]
