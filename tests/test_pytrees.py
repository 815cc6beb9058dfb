"""Dataclasses as pytrees: taken apart and put together, and never taken for one another."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from convexjax.learn import kernels
from convexjax.pytrees import pytree, static

pytestmark = pytest.mark.core


def kind():
    @pytree
    @dataclass(frozen=True)
    class Pair:
        first: Any
        name: str = static(default="")
        second: Any = None

    return Pair


Pair, Other = kind(), kind()


def test_round_trip():
    pair = Pair(1.0, "one", (2.0, None))
    leaves, structure = jax.tree.flatten(pair)
    assert leaves == [1.0, 2.0]
    assert jax.tree.unflatten(structure, leaves) == pair
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(pair)[0]]
    assert paths == [".first", ".second[0]"]
    assert jax.tree.structure(Pair(3.0, "one", (4, None))) == structure
    assert jax.tree.structure(Pair(1.0, "two", (2.0, None))) != structure


def test_classes_are_different_structures():
    assert jax.tree.structure(Pair(1.0)) != jax.tree.structure(Other(1.0))
    of_one_number = [kernels.RBF(1.0), kernels.Laplacian(1.0), kernels.Constant(1.0)]
    for first, second in combinations(of_one_number, 2):
        assert jax.tree.structure(first) != jax.tree.structure(second)
    a, b = kernels.RBF(1.0), kernels.Linear()
    assert jax.tree.structure(a + b) != jax.tree.structure(a * b)


def test_a_jitted_function_runs_the_program_of_the_class():
    # caches compare structures only where a few bits of their hashes agree: many classes make that likely
    name = jax.jit(lambda value: jnp.asarray(float(value.number)))
    for number in range(300):

        @pytree
        @dataclass(frozen=True)
        class Kind:
            value: Any

        Kind.number = number
        assert np.asarray(name(Kind(1.0))) == number
