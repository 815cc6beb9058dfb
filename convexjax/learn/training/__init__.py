"""Training of any model `apply(params, x, key)` by minibatches, with the optimizers of optax."""

from convexjax.learn.training.fitting import fit, predict
from convexjax.learn.training.result import Ending, History, Training

__all__ = ["Ending", "History", "Training", "fit", "predict"]
