"""The user's functions, as functions of flat vectors: traced once to see what they return, and what they close over."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.problems.arguments import DataTypeError, floating


@dataclass(frozen=True)
class Layout:
    """How a pytree of arrays lies in a vector: static and hashable."""

    structure: Any
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, tree) -> "Layout":
        leaves, structure = jax.tree.flatten(tree)
        return cls(structure, tuple(tuple(jnp.shape(leaf)) for leaf in leaves))

    @property
    def size(self) -> int:
        """Number of entries."""
        return sum(math.prod(shape) for shape in self.shapes)

    def ravel(self, tree) -> jax.Array:
        """The vector of a pytree."""
        leaves = jax.tree.leaves(tree)
        return jnp.concatenate([jnp.ravel(leaf) for leaf in leaves]) if leaves else jnp.zeros(0)

    def unravel(self, v: jax.Array) -> Any:
        """The pytree of a vector; any leading axes before the last stay."""
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1]
        parts = jnp.split(v, ends.tolist(), axis=-1)
        leaves = [part.reshape(*v.shape[:-1], *shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return jax.tree.unflatten(self.structure, leaves)


@dataclass(frozen=True)
class Function:
    """A user's function of the pytree x (and of params, unless there are none) as one of (vector, data): static.

    `data` is (params, constants): values of an outer trace that the function closes over are constants, so that
    derivatives and batches see them. Then `jaxpr` stands for the function."""

    function: Callable
    x: Layout
    has_params: bool
    output: Layout
    jaxpr: Any = None

    def __call__(self, v: jax.Array, data: tuple) -> Any:
        params, constants = data
        arguments = (self.x.unravel(v), params) if self.has_params else (self.x.unravel(v),)
        if self.jaxpr is None:
            return self.function(*arguments)
        leaves = jax.core.eval_jaxpr(self.jaxpr, constants, *jax.tree.leaves(arguments))
        return jax.tree.unflatten(self.output.structure, leaves)


def traced(name: str, function: Any, x: Any, params: Any) -> tuple[Function, tuple, Any]:
    """The function, its constants, and the shapes and types that it returns."""
    if not callable(function):
        raise ValueError(
            f"{name} must be a function of x{' and params' if params is not None else ''}, got {function!r}."
        )
    arguments = (x,) if params is None else (x, params)
    try:
        jaxpr, returned = jax.make_jaxpr(function, return_shape=True)(*arguments)
    except TypeError as error:
        if isinstance(error, jax.errors.JAXTypeError) or "argument" not in str(error):
            raise
        takes = "x alone, as params is None" if params is None else "x and params"
        raise ValueError(f"{name} is called with {takes}: {error}") from None
    closes_over_traced = any(isinstance(constant, jax.core.Tracer) for constant in jaxpr.consts)
    made = Function(
        function, Layout.of(x), params is not None, Layout.of(returned), jaxpr.jaxpr if closes_over_traced else None
    )
    return made, tuple(jaxpr.consts) if closes_over_traced else (), returned


def require_floating(name: str, returned: Any, dtype) -> None:
    """Raise unless every array that a function returns has the type of x."""
    for leaf in jax.tree.leaves(returned):
        if leaf.dtype == dtype:
            continue
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            raise DataTypeError(
                f"{name} returns {leaf.dtype} for x of {dtype}. Give x0, params and data that it closes over one type, "
                f"or convert: jnp.asarray(..., {dtype})."
            )
        raise DataTypeError(f"{name} must return real numbers of type {dtype}, got {leaf.dtype}.")


def floating_tree(name: str, tree: Any, dtype=None) -> Any:
    """The pytree with leaves of one floating type, and no `None`."""
    leaves, structure = jax.tree.flatten(tree)
    number = len(leaves)
    if dtype is not None:
        leaves = [*leaves, jnp.zeros(0, dtype)]
    arrays = floating(**{f"{name}[{i}]" if len(leaves) > 1 else name: leaf for i, leaf in enumerate(leaves)})
    return jax.tree.unflatten(structure, arrays[:number])
