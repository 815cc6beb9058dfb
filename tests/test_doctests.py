"""The examples in the docstrings print what they say, under JAX's default configuration, as a reader runs them."""

import doctest
import importlib
import pkgutil

import jax
import pytest

import convexjax

MODULES = [module.name for module in pkgutil.walk_packages(convexjax.__path__, "convexjax.")]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples(name):
    if name.startswith("convexjax.interop.sklearn"):
        pytest.importorskip("sklearn", reason="the extra `sklearn` is not installed")
    module = importlib.import_module(name)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        assert doctest.testmod(module, optionflags=FLAGS).failed == 0
