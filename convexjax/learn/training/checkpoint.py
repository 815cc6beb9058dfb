"""Trainings on disk, by Orbax, and a bar of their progress, by tqdm (both in the extra `nn`)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Folder:
    """The checkpoints of one training. Writing is atomic: a process that is killed leaves the last whole one."""

    def __init__(self, path: Any, plan: Any, data: dict, run: Any):
        try:
            import orbax.checkpoint as orbax
        except ImportError as error:
            raise ImportError("checkpoints are written by Orbax: pip install 'convexjax[nn]'.") from error
        self._orbax = orbax
        options = orbax.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = orbax.CheckpointManager(Path(path).absolute(), options=options)
        self._facts = _facts(plan, data, run)

    def latest(self, run: Any) -> Any:
        """Where the training in the folder stands; `run`, if there is none."""
        step = self._manager.latest_step()
        if step is None:
            return run
        args = self._orbax.args
        facts = self._manager.restore(step, args=args.Composite(facts=args.JsonRestore()))["facts"]
        for name, value in self._facts.items():
            if facts.get(name) != value:
                raise ValueError(
                    f"the checkpoint in {self._manager.directory} is of another training: {name} was "
                    f"{facts.get(name)!r} there and is {value!r} here. Use another folder, or remove it."
                )
        leaves, structure = jax.tree.flatten(run)
        shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
        found = self._manager.restore(step, args=args.Composite(run=args.StandardRestore(shapes)))["run"]
        return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in found])

    def write(self, run: Any) -> None:
        """Keep where the training stands."""
        args = self._orbax.args
        leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(run)]
        parts = args.Composite(run=args.StandardSave(leaves), facts=args.JsonSave(self._facts))
        self._manager.save(int(run.epoch), args=parts, force=True)
        self._manager.wait_until_finished()

    def close(self) -> None:
        """End Orbax's threads."""
        self._manager.close()


def _facts(plan: Any, data: dict, run: Any) -> dict:
    """What two parts of one training have in common, in words and numbers."""
    named = lambda tree: [
        f"{jax.tree_util.keystr(path)} {leaf.dtype}{list(leaf.shape)}" for path, leaf in jax.tree.leaves_with_path(tree)
    ]
    return {
        "params": named(run.params),
        "state": named(run.state),
        "optimizer": named(run.moments),
        "data": named((data["train"], data["validation"])),
        "key": np.asarray(jax.random.key_data(data["key"])).tolist(),
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
    }


@contextmanager
def bar(shown: bool, epochs: int, done: int) -> Iterator[Callable]:
    """A function of a `Run` that moves a bar, or does nothing."""
    if not shown:
        yield lambda run: None
        return
    try:
        from tqdm.auto import tqdm
    except ImportError as error:
        raise ImportError("progress is shown by tqdm: pip install 'convexjax[nn]'.") from error
    with tqdm(total=epochs, initial=done, unit="epoch") as line:

        def show(run):
            last = int(run.epoch) - 1
            figures = {"loss": float(run.history.loss[last]), "validation": float(run.history.validation_loss[last])}
            line.set_postfix({name: f"{value:.4g}" for name, value in figures.items() if not np.isnan(value)})
            line.update(int(run.epoch) - line.n)

        yield show
