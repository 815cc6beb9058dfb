"""Training by minibatches, as one compiled program: epochs are a loop, the steps of an epoch a `lax.scan`.

`fit` is a pure function of its arrays, so that `jax.vmap` trains many networks at once. With a progress bar or a
checkpoint the same program runs some epochs at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import ArrayLike

from convexjax.learn.convolutions import canonical
from convexjax.learn.losses import Loss
from convexjax.pytrees import pytree

# Rows of which predictions are computed together.
ROWS_AT_ONCE = 1024


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
            Ending.FINISHED: "ran all epochs",
            Ending.EARLY_STOPPED: "stopped early: the validation loss did not fall any more",
        }
        best = f"; params are those of epoch {int(self.best_epoch)}" if int(self.best_epoch) >= 0 else ""
        return f"{words[ending]}, {epochs} of them{best}."

    def require_finite(self) -> "Training":
        """Return self unless a training was stopped by numbers that are not finite; then raise `RuntimeError`. For
        host code."""
        bad = np.argwhere(np.atleast_1d(np.asarray(self.ending)) == Ending.NOT_FINITE)
        if bad.size:
            many = np.ndim(self.ending) > 0
            raise RuntimeError(f"{len(bad)} trainings were not finite, first {bad[0]}." if many else self.report())
        return self


# ----------------------------------------------------------------------------- what a run is made of


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


def _start(plan: Plan, params, state) -> Run:
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
def _advance(plan: Plan, data: dict, run: Run, end: jax.Array) -> Run:
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
        outputs = _predictions(plan, run.params, run.state, X)
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


def _predictions(plan: Plan, params, state, X):
    """Outputs for all rows of X, some at a time."""
    of_rows = canonical(lambda params, state, x: plan.outputs(params, x, None, state)[0])
    whole = X.shape[0] // ROWS_AT_ONCE * ROWS_AT_ONCE
    if not whole:
        return of_rows(params, state, X)
    blocks = X[:whole].reshape(-1, ROWS_AT_ONCE, *X.shape[1:])
    outputs = jax.lax.map(lambda x: of_rows(params, state, x), blocks)
    outputs = outputs.reshape(whole, *outputs.shape[2:])
    return jnp.concatenate([outputs, of_rows(params, state, X[whole:])]) if whole < X.shape[0] else outputs


# ----------------------------------------------------------------------------- what users call


def fit(
    apply: Callable,
    params: Any,
    X: ArrayLike,
    y: ArrayLike,
    key: jax.Array,
    *,
    loss: Loss | Callable,
    optimizer: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    regulariser: Callable | None = None,
    gamma: float | jax.Array = 0.0,
    state: Any = None,
    validation: tuple[ArrayLike, ArrayLike] | None = None,
    metric: Callable | None = None,
    patience: int | None = None,
    precision: Any = None,
    mesh: jax.sharding.Mesh | None = None,
    progress: bool = False,
    checkpoint: Any = None,
    checkpoint_every: int = 1,
) -> Training:
    """Train a model by minibatches.

        minimise    1/n sum_i loss(apply(params, x_i), y_i) + gamma regulariser(params)

    Arguments:
        apply: `apply(params, x, key)` gives the outputs of a batch x; the key is None for predictions. With a `state`,
            such as that of batch norm, `apply(params, x, key, state)` gives (outputs, new state). See `networks`.
        params: to begin with, any pytree of floating arrays. The data are computed with in their precision.
        X, y: (n, ...), inputs and targets.
        key: of the order of the samples and of dropout. The same key gives the same training.
        loss: a `losses.Loss`, or any function of (outputs, y) with one number per sample.
        optimizer: of optax, with its schedules, weight decay and clipping:
            `optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.cosine_decay_schedule(1e-3, steps)))`.
            Those that search along a line (`optax.lbfgs`) work, too, best with all data in one batch. Pass the same
            object again, not a new one of the same kind: it is compiled in.
        epochs: passes over the data. Each is in a new order; the samples that fill no batch are left out of it.
        batch_size: at most n.
        regulariser, gamma: see above; None for none.
        validation: (X, y) of other samples: after each epoch their loss tells which parameters are the best.
        metric: a function of (outputs, y) like the loss, such as `losses.accuracy`, for the history.
        patience: stop after so many epochs without a lower validation loss.
        precision: such as `jnp.bfloat16`, in which the model is evaluated; the parameters, their gradients and the loss
            keep theirs.
        mesh: devices among which each batch is shared out (`jax.make_mesh((4,), ("batch",))`).
        progress: show a bar (needs tqdm).
        checkpoint: a folder: after every `checkpoint_every` epochs all that the training needs to go on is written
            there (needs Orbax). If the folder holds a training, it is gone on with, to the same bits.

    Returns:
        `Training`. A loss or parameters that are not finite end it with the parameters before that step: `ending` is
        NOT_FINITE, `report()` says where.

    Raises:
        ValueError: no data, more samples in a batch than in the data, NaN in the data, labels out of range, outputs
            whose shape does not fit the loss, a checkpoint of another model or run: before the first step.
        ImportError: tqdm or Orbax are asked for and not installed (the extra `nn`).

    Pure but for the bar and the checkpoint: `jax.vmap` over keys, params, gamma, or numbers in the optimizer trains
    many models at once.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import optax
    >>> from convexjax import learn
    >>> line = lambda params, x, key: x @ params
    >>> X = jax.random.normal(jax.random.key(0), (64, 2))
    >>> trained = learn.training.fit(
    ...     line, jnp.zeros(2), X, X @ jnp.array([1.0, -2.0]), jax.random.key(1),
    ...     loss=learn.losses.squared, optimizer=optax.sgd(0.2), epochs=20, batch_size=16,
    ... )
    >>> print(trained.params.round(2), trained.report())
    [ 1. -2.] ran all epochs, 20 of them.
    """
    _check_numbers(epochs=epochs, batch_size=batch_size, patience=patience, checkpoint_every=checkpoint_every)
    _check_kinds(apply, loss, optimizer, key, validation)
    if patience is not None and validation is None:
        raise ValueError("patience needs validation data, got None.")
    params = jax.tree.map(jnp.asarray, params)
    dtype = _dtype(params)
    X, y = _data("X", X, "y", y, dtype)
    if batch_size > X.shape[0]:
        raise ValueError(f"batch_size is {batch_size}, but X has {X.shape[0]} rows.")
    if mesh is not None:
        if batch_size % mesh.size:
            raise ValueError(f"batch_size is {batch_size}, expected a multiple of the {mesh.size} devices of the mesh.")
        mesh = jax.sharding.Mesh(mesh.devices, mesh.axis_names)  # of axes that the compiler cares for
    if validation is not None:
        validation = _data("validation X", validation[0], "validation y", validation[1], dtype)
    plan = Plan(
        apply=apply,
        loss=loss,
        optimizer=optimizer,
        regulariser=regulariser,
        metric=metric,
        epochs=epochs,
        batch_size=batch_size,
        patience=patience,
        stateful=state is not None,
        precision=precision,
        mesh=mesh,
    )
    _check_model(plan, params, state, key, X, y)
    if validation is not None:
        _check_model(plan, params, state, None, *validation)

    gamma = jnp.asarray(gamma, dtype)
    data = {"train": (X, y), "validation": validation, "key": key, "gamma": gamma}
    run = _start(plan, params, state)
    if progress or checkpoint is not None:
        run = _watched(plan, data, run, progress, checkpoint, checkpoint_every)
    else:
        run = _advance(plan, data, run, jnp.int32(epochs))
    best = (run.params, run.state)
    if validation is not None:  # the start counts as the best until an epoch has ended
        met = run.best_epoch >= 0
        best = jax.tree.map(lambda best, last: jnp.where(met, best, last), run.best, best)
    return Training(
        params=best[0],
        state=best[1],
        last_params=run.params,
        last_state=run.state,
        history=run.history,
        best_epoch=run.best_epoch,
        num_epochs=run.epoch,
        ending=run.ending,
        failed_step=run.failed_step,
    )


def predict(apply: Callable, params: Any, X: ArrayLike, state: Any = None) -> jax.Array:
    """Outputs (n, ...) of a model for all rows of X, some at a time."""
    X = jnp.asarray(X)
    plan = Plan(apply, None, None, None, None, 0, 0, None, state is not None, None, None)  # type: ignore[arg-type]
    dtype = _dtype(params)
    return _predict(plan, params, state, X.astype(dtype) if jnp.issubdtype(X.dtype, jnp.floating) else X)


_predict = partial(jax.jit, static_argnums=0)(_predictions)


# ----------------------------------------------------------------------------- on the host


def _watched(plan, data, run, progress, folder, every) -> Run:
    """The training in parts, with a bar or checkpoints between them."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((data, run))):
        raise ValueError("progress and checkpoint work on the host only, not inside of jit or vmap.")
    from convexjax.learn import checkpoint

    saved = None if folder is None else checkpoint.Folder(folder, plan, data, run)
    try:
        if saved is not None:
            run = saved.latest(run)
        with checkpoint.bar(progress, plan.epochs, int(run.epoch)) as show:
            while int(run.ending) == Ending.RUNNING:
                # to the next checkpoint, by single epochs if they are shown
                end = int(run.epoch) + 1 if progress else (int(run.epoch) // every + 1) * every
                run = _advance(plan, data, run, jnp.int32(min(end, plan.epochs)))
                ended = int(run.ending) != Ending.RUNNING
                if saved is not None and (ended or int(run.epoch) % every == 0):
                    saved.write(run)
                show(run)
    finally:
        if saved is not None:
            saved.close()
    return run


def _check_numbers(patience, **counts) -> None:
    for name, value in (*counts.items(), ("patience", 1 if patience is None else patience)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a Python int >= 1 (it is static), got {value!r}.")


def _check_kinds(apply, loss, optimizer, key, validation) -> None:
    for name, value in (("apply", apply), ("loss", loss)):
        if not callable(value):
            raise ValueError(f"{name} must be a function, such as those of `learn.losses`, got {value!r}.")
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ValueError(f"optimizer must be one of optax, such as optax.adam(1e-3), got {optimizer!r}.")
    if not hasattr(key, "dtype"):
        raise ValueError(f"key must be a random key, such as jax.random.key(0), got {key!r}.")
    if validation is not None and not (isinstance(validation, tuple | list) and len(validation) == 2):
        raise ValueError(f"validation must be a pair (X, y), got {type(validation).__name__}.")


def _dtype(params):
    leaves = jax.tree.leaves(params)
    if not leaves or not all(jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves):
        types = sorted({str(jnp.result_type(leaf)) for leaf in leaves})
        raise ValueError(f"params must be a pytree of floating arrays, got {', '.join(types) or 'no arrays'}.")
    return leaves[0].dtype


def _data(name_X, X, name_y, y, dtype) -> tuple[jax.Array, jax.Array]:
    """Inputs and targets as arrays with equally many rows, floating ones finite and in the precision of the model."""
    arrays = []
    for name, array in ((name_X, X), (name_y, y)):
        array = array if isinstance(array, jax.Array) else np.asarray(array)
        if array.ndim == 0 or array.shape[0] == 0:
            raise ValueError(f"{name} has shape {array.shape}, expected at least one row.")
        if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
            raise ValueError(f"{name} must hold numbers, got dtype {array.dtype}.")
        if jnp.issubdtype(array.dtype, jnp.floating):
            if not isinstance(array, jax.core.Tracer):
                bad = np.argwhere(~np.isfinite(np.asarray(array)).reshape(array.shape[0], -1).all(1))
                if bad.size:
                    raise ValueError(
                        f"{name} has NaN or infinite numbers in {len(bad)} rows, first in row {bad[0, 0]}."
                    )
            array = jnp.asarray(array).astype(dtype)
        arrays.append(jnp.asarray(array))
    if arrays[0].shape[0] != arrays[1].shape[0]:
        raise ValueError(f"{name_y} has {arrays[1].shape[0]} rows, expected the {arrays[0].shape[0]} of {name_X}.")
    return arrays[0], arrays[1]


def _check_model(plan: Plan, params, state, key, X, y) -> None:
    """That a batch goes through model and loss, by shapes alone."""
    rows = min(plan.batch_size, X.shape[0])
    shape_of = lambda array: jax.ShapeDtypeStruct((rows, *array.shape[1:]), array.dtype)
    try:
        outputs = jax.eval_shape(lambda x: plan.outputs(params, x, key, state)[0], shape_of(X))
    except (TypeError, ValueError) as error:
        raise ValueError(f"apply does not take a batch of X, of shape {shape_of(X).shape}: {error}") from error
    if not hasattr(outputs, "shape") or not outputs.shape or outputs.shape[0] != rows:
        got = getattr(outputs, "shape", jax.tree.structure(outputs))
        raise ValueError(f"apply gives outputs of shape {got} for a batch of {rows}, expected one row per sample.")
    if isinstance(plan.loss, Loss):
        whole = jax.ShapeDtypeStruct((y.shape[0], *outputs.shape[1:]), outputs.dtype)
        try:
            plan.loss.check(whole, y)
        except ValueError as error:
            raise ValueError(f"loss {plan.loss.name}: {error}") from None
    value = jax.eval_shape(plan.loss, outputs, shape_of(y))
    if value.shape != (rows,):
        raise ValueError(f"loss gives shape {value.shape} for a batch of {rows}, expected ({rows},): one per sample.")
