"""The compiled program of a training: epochs are a loop, the steps of an epoch a `lax.scan`."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from convexjax.learn.training.convolutions import canonical
from convexjax.learn.training.result import Ending, History
from convexjax.pytrees import pytree

# Rows of which predictions are computed together.
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Plan:
    """What is compiled in. Equal plans share a program."""

    apply: Callable
    loss: Callable
    optimizer: optax.GradientTransformation
    regulariser: Callable | None
    metric: Callable | None
    epochs: int
    batch_size: int
    patience: int | None
    stateful: bool
    precision: Any
    mesh: Any

    def outputs(self, params, x, key, state):
        """(outputs, new state) of a batch, computed in `precision`, returned in that of the parameters."""
        like = jax.tree.leaves(params)[0].dtype
        if self.precision is not None:
            params, x, state = (_cast(tree, self.precision) for tree in (params, x, state))
        if self.stateful:
            outputs, new = self.apply(params, x, key, state)
        else:
            outputs, new = self.apply(params, x, key), state
        return _cast((outputs, new), like) if self.precision is not None else (outputs, new)

    def risk(self, params, state, batch, key, gamma):
        """(loss of a batch with the regulariser, new state)."""
        x, y = batch
        outputs, state = self.outputs(params, x, key, state)
        value = jnp.mean(self.loss(outputs, y))
        return (value if self.regulariser is None else value + gamma * self.regulariser(params)), state


def _cast(tree, dtype):
    """The floating arrays of a pytree in another precision."""
    floating = lambda leaf: hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.floating)
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if floating(leaf) else leaf, tree)


@pytree
@dataclass(frozen=True, kw_only=True)
class Run:
    """Where a training stands: all that it needs to go on."""

    params: Any
    state: Any
    moments: Any  # of the optimizer
    best: Any  # (params, state)
    best_loss: Any
    best_epoch: Any
    epoch: Any
    ending: Any
    failed_step: Any
    history: History


def start(plan: Plan, params, state) -> Run:
    dtype = jax.tree.leaves(params)[0].dtype
    unknown = jnp.full(plan.epochs, jnp.nan, dtype)
    return Run(
        params=params,
        state=state,
        moments=plan.optimizer.init(params),
        best=(params, state),
        best_loss=jnp.array(jnp.inf, dtype),
        best_epoch=jnp.int32(-1),
        epoch=jnp.int32(0),
        ending=jnp.int32(Ending.RUNNING),
        failed_step=jnp.int32(-1),
        history=History(loss=unknown, validation_loss=unknown, validation_metric=unknown),
    )


@partial(jax.jit, static_argnums=0)
def advance(plan: Plan, data: dict, run: Run, end: jax.Array) -> Run:
    """Epochs until `end`, or until the training ends. A resumed training runs the same program, so that it has the
    same bits."""
    going = lambda run: (run.epoch < end) & (run.ending == np.int32(Ending.RUNNING))
    return jax.lax.while_loop(going, partial(_epoch, plan, data), run)


def _epoch(plan: Plan, data: dict, run: Run) -> Run:
    X, y = data["train"]
    key = jax.random.fold_in(data["key"], run.epoch)
    steps = X.shape[0] // plan.batch_size
    order = jax.random.permutation(key, X.shape[0])[: steps * plan.batch_size].reshape(steps, plan.batch_size)

    def step(carry, inputs):
        number, rows = inputs
        params, moments, state, failed = carry
        batch = _distributed(plan.mesh, (X[rows], y[rows]))
        new, loss = _step(plan, (params, moments, state), batch, jax.random.fold_in(key, number + 1), data["gamma"])
        fine = (failed < 0) & jnp.isfinite(loss) & _finite(new[0])
        kept = jax.tree.map(lambda new, old: jnp.where(fine, new, old), new, (params, moments, state))
        return (*kept, jnp.where((failed < 0) & ~fine, number, failed)), loss

    start = run.params, run.moments, run.state, run.failed_step
    numbers = jnp.arange(steps, dtype=jnp.int32)
    (params, moments, state, failed), losses = jax.lax.scan(step, start, (numbers, order))

    run = replace(run, params=params, moments=moments, state=state, failed_step=failed)
    return _judged(plan, data, run, jnp.mean(losses))


def _step(plan: Plan, old: tuple, batch: tuple, key, gamma) -> tuple:
    """((params, moments, state), loss) after one step of the optimizer."""
    params, moments, state = old
    function = lambda params: plan.risk(params, state, batch, key, gamma)
    (loss, state), slope = canonical(jax.value_and_grad(function, has_aux=True))(params)
    updates, moments = optax.with_extra_args_support(plan.optimizer).update(
        slope, moments, params, value=loss, grad=slope, value_fn=lambda params: function(params)[0]
    )
    return (optax.apply_updates(params, updates), moments, state), loss


def _finite(tree) -> jax.Array:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def _distributed(mesh, batch):
    """The batch with its rows shared out over the devices; the compiler adds the sums over devices."""
    if mesh is None:
        return batch
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(mesh.axis_names))
    return jax.lax.with_sharding_constraint(batch, rows)


def _judged(plan: Plan, data: dict, run: Run, loss) -> Run:
    """After an epoch: the history, the best parameters, and whether to end."""
    validation = metric = jnp.full_like(loss, jnp.nan)
    if data["validation"] is not None:
        X, y = data["validation"]
        outputs = predictions(plan, run.params, run.state, X)
        validation = jnp.mean(plan.loss(outputs, y))
        if plan.metric is not None:
            metric = jnp.mean(plan.metric(outputs, y))
    history = run.history
    history = History(
        loss=history.loss.at[run.epoch].set(loss),
        validation_loss=history.validation_loss.at[run.epoch].set(validation),
        validation_metric=history.validation_metric.at[run.epoch].set(metric.astype(loss.dtype)),
    )
    better = validation < run.best_loss
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), (run.params, run.state), run.best)
    best_epoch = jnp.where(better, run.epoch, run.best_epoch)
    epoch = run.epoch + 1
    ending = jnp.where(epoch == plan.epochs, jnp.int32(Ending.FINISHED), run.ending)
    if plan.patience is not None:
        late = run.epoch - best_epoch >= plan.patience
        ending = jnp.where(late & (epoch < plan.epochs), jnp.int32(Ending.EARLY_STOPPED), ending)
    ending = jnp.where(run.failed_step >= 0, jnp.int32(Ending.NOT_FINITE), ending)
    best_loss = jnp.where(better, validation, run.best_loss)
    return replace(
        run, history=history, best=best, best_loss=best_loss, best_epoch=best_epoch, epoch=epoch, ending=ending
    )


def predictions(plan: Plan, params, state, X):
    """Outputs for all rows of X, some at a time."""
    of_rows = canonical(lambda params, state, x: plan.outputs(params, x, None, state)[0])
    whole = X.shape[0] // ROWS_AT_ONCE * ROWS_AT_ONCE
    if not whole:
        return of_rows(params, state, X)
    blocks = X[:whole].reshape(-1, ROWS_AT_ONCE, *X.shape[1:])
    outputs = jax.lax.map(lambda x: of_rows(params, state, x), blocks)
    outputs = outputs.reshape(whole, *outputs.shape[2:])
    return jnp.concatenate([outputs, of_rows(params, state, X[whole:])]) if whole < X.shape[0] else outputs
