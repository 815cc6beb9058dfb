"""Training by minibatches, as one compiled program.

`fit` is a pure function of its arrays, so that `jax.vmap` trains many networks at once. With a progress bar or a
checkpoint the same program runs some epochs at a time.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import ArrayLike

from convexjax.learn.losses import Loss
from convexjax.learn.training.arguments import check_kinds, check_model, check_numbers, checked_data
from convexjax.learn.training.epochs import Plan, Run, advance, predictions, start
from convexjax.learn.training.result import Ending, Training
from convexjax.problems.arguments import floating_tree


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
    check_numbers(epochs=epochs, batch_size=batch_size, patience=patience, checkpoint_every=checkpoint_every)
    check_kinds(apply, loss, optimizer, key, validation)
    if patience is not None and validation is None:
        raise ValueError("patience needs validation data, got None.")
    params = floating_tree("params", params)
    dtype = jax.tree.leaves(params)[0].dtype
    X, y = checked_data("X", X, "y", y, dtype)
    if batch_size > X.shape[0]:
        raise ValueError(f"batch_size is {batch_size}, but X has {X.shape[0]} rows.")
    if mesh is not None:
        if batch_size % mesh.size:
            raise ValueError(f"batch_size is {batch_size}, expected a multiple of the {mesh.size} devices of the mesh.")
        mesh = jax.sharding.Mesh(mesh.devices, mesh.axis_names)  # of axes that the compiler cares for
    if validation is not None:
        validation = checked_data("validation X", validation[0], "validation y", validation[1], dtype)
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
    check_model(plan, params, state, key, X, y)
    if validation is not None:
        check_model(plan, params, state, None, *validation)

    gamma = jnp.asarray(gamma, dtype)
    data = {"train": (X, y), "validation": validation, "key": key, "gamma": gamma}
    run = start(plan, params, state)
    if progress or checkpoint is not None:
        run = _watched(plan, data, run, progress, checkpoint, checkpoint_every)
    else:
        run = advance(plan, data, run, jnp.int32(epochs))
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
    params = floating_tree("params", params)
    dtype = jax.tree.leaves(params)[0].dtype
    return _predict(plan, params, state, X.astype(dtype) if jnp.issubdtype(X.dtype, jnp.floating) else X)


_predict = partial(jax.jit, static_argnums=0)(predictions)


def _watched(plan, data, run, progress, folder, every) -> Run:
    """The training in parts, with a bar or checkpoints between them."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((data, run))):
        raise ValueError("progress and checkpoint work on the host only, not inside of jit or vmap.")
    from convexjax.learn.training import checkpoint

    saved = None if folder is None else checkpoint.Folder(folder, plan, data, run)
    try:
        if saved is not None:
            run = saved.latest(run)
        with checkpoint.bar(progress, plan.epochs, int(run.epoch)) as show:
            while int(run.ending) == Ending.RUNNING:
                # to the next checkpoint, by single epochs if they are shown
                end = int(run.epoch) + 1 if progress else (int(run.epoch) // every + 1) * every
                run = advance(plan, data, run, jnp.int32(min(end, plan.epochs)))
                ended = int(run.ending) != Ending.RUNNING
                if saved is not None and (ended or int(run.epoch) % every == 0):
                    saved.write(run)
                show(run)
    finally:
        if saved is not None:
            saved.close()
    return run
