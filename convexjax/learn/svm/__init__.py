"""Support vector machines: classification, regression and one class, linear or with a kernel."""

from convexjax.learn.svm.grid import grid_scores
from convexjax.learn.svm.machines import fit, fit_nu, fit_one_class, fit_regression
from convexjax.learn.svm.model import SVMModel, decision_function, predict
from convexjax.learn.svm.multiclass import MulticlassModel, fit_multiclass, predict_multiclass
from convexjax.learn.svm.probability import calibrate, predict_probability

__all__ = [
    "MulticlassModel",
    "SVMModel",
    "calibrate",
    "decision_function",
    "fit",
    "fit_multiclass",
    "fit_nu",
    "fit_one_class",
    "fit_regression",
    "grid_scores",
    "predict",
    "predict_multiclass",
    "predict_probability",
]
