"""Regression and classification by convex optimisation: `learn.<family>.fit(X, y, ...)` returns a model, a pytree, and
`learn.<family>.predict(model, X)` its predictions. Both are differentiable in data, weights and hyperparameters."""

from convexjax.learn import (
    constraints,
    elastic_net,
    graphical_lasso,
    group_lasso,
    kernels,
    linear,
    logistic,
    plot,
    poisson,
    regression,
    ridge,
    svm,
    validation,
)

__all__ = [
    "constraints",
    "elastic_net",
    "graphical_lasso",
    "group_lasso",
    "kernels",
    "linear",
    "logistic",
    "plot",
    "poisson",
    "regression",
    "ridge",
    "svm",
    "validation",
]
