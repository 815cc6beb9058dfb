"""What a training returns: parameters, how it went, and how it ended."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from convexjax.pytrees import pytree


class Ending(IntEnum):
    """How a training ended."""

    RUNNING = 0
    FINISHED = 1
    EARLY_STOPPED = 2
    NOT_FINITE = 3


@pytree
@dataclass(frozen=True, kw_only=True)
class History:
    """One entry per epoch, NaN for those that were not run."""

    loss: Any  # mean of the steps of the epoch, with the regulariser
    validation_loss: Any  # NaN without validation data
    validation_metric: Any


@pytree
@dataclass(frozen=True, kw_only=True)
class Training:
    """A trained model: a pytree."""

    params: Any  # those with the least validation loss; without validation data the last ones
    state: Any  # of the model with these params, if it has one
    last_params: Any
    last_state: Any
    history: History
    best_epoch: Any  # of params; counted from 0, as all epochs and steps
    num_epochs: Any
    ending: Any  # int32, an `Ending`
    failed_step: Any  # of the last epoch: the step whose loss or parameters were not finite, -1 for none

    def report(self) -> str:
        """How the training ended, in words. For host code and one training."""
        ending, epochs = Ending(int(self.ending)), int(self.num_epochs)
        if ending == Ending.NOT_FINITE:
            return (
                f"stopped: the loss or the parameters were not finite in epoch {epochs - 1}, step "
                f"{int(self.failed_step)}. last_params are those before that step; lower the learning rate, clip the "
                "gradient, or look at the data of that batch."
            )
        words = {
            Ending.FINISHED: f"ran all epochs, {epochs} of them",
            Ending.EARLY_STOPPED: f"stopped early, after {epochs} epochs: the validation loss did not fall any more",
        }
        best = f"; params are those of epoch {int(self.best_epoch)}" if int(self.best_epoch) >= 0 else ""
        return f"{words[ending]}{best}."

    def require_finite(self) -> "Training":
        """Return self unless a training was stopped by numbers that are not finite; then raise `RuntimeError`. For
        host code."""
        bad = np.argwhere(np.atleast_1d(np.asarray(self.ending)) == Ending.NOT_FINITE)
        if bad.size:
            many = np.ndim(self.ending) > 0
            raise RuntimeError(f"{len(bad)} trainings were not finite, first {bad[0]}." if many else self.report())
        return self
