"""Variables and parameters, by name."""

from typing import Any

import numpy as np

from convexjax.gp.arrays import Array
from convexjax.gp.posynomials import Posynomial
from convexjax.gp.terms import Symbol, Term


def variable(name: str, shape: int | tuple = (), units: str = "") -> Any:
    """A positive variable, or an array of them."""
    return _symbols(name, shape, units, False)


def parameter(name: str, shape: int | tuple = (), units: str = "") -> Any:
    """A positive number, or array, that `compile` makes an argument."""
    return _symbols(name, shape, units, True)


def variables(names: str, units: str = "") -> list:
    """Several scalar variables, names separated by spaces."""
    return [variable(name, units=units) for name in _separate(names)]


def parameters(names: str, units: str = "") -> list:
    """Several scalar parameters, names separated by spaces."""
    return [parameter(name, units=units) for name in _separate(names)]


def _separate(names: str) -> list:
    if not isinstance(names, str) or not names.split():
        raise ValueError(f"names must be a string of names separated by spaces, got {names!r}.")
    return names.split()


def _symbols(name: str, shape, units: str, is_parameter: bool):
    if not isinstance(name, str) or not name:
        raise ValueError(f"A name must be a string that is not empty, got {name!r}.")
    shape = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    if not all(isinstance(size, int | np.integer) and size >= 0 for size in shape):
        raise ValueError(f"The shape of {name} must be an integer or a tuple of them, none negative, got {shape}.")
    array = np.empty(shape, object)
    for position, index in enumerate(np.ndindex(shape)):
        label = f"{name}[{','.join(map(str, index))}]" if shape else name
        array[index] = Posynomial([Term(0.0, {Symbol(label, units, is_parameter, name, shape, position): 1.0})])
    return array.view(Array) if shape else array[()]
