"""What can be told to be wrong with the arguments of a training before its first step."""

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.learn.losses import Loss
from convexjax.learn.training.epochs import Plan
from convexjax.problems.arguments import require_key


def check_numbers(patience, **counts) -> None:
    for name, value in (*counts.items(), ("patience", 1 if patience is None else patience)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a Python int >= 1 (it is static), got {value!r}.")


def check_kinds(apply, loss, optimizer, key, validation) -> None:
    for name, value in (("apply", apply), ("loss", loss)):
        if not callable(value):
            raise ValueError(f"{name} must be a function, such as those of `learn.losses`, got {value!r}.")
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ValueError(f"optimizer must be one of optax, such as optax.adam(1e-3), got {optimizer!r}.")
    require_key(key)
    if validation is not None and not (isinstance(validation, tuple | list) and len(validation) == 2):
        raise ValueError(f"validation must be a pair (X, y), got {type(validation).__name__}.")


def checked_data(name_X, X, name_y, y, dtype) -> tuple[jax.Array, jax.Array]:
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


def check_model(plan: Plan, params, state, key, X, y) -> None:
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
