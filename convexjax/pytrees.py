"""Frozen dataclasses as pytrees."""

from dataclasses import field, fields
from operator import attrgetter

from jax.tree_util import GetAttrKey, register_pytree_with_keys


def static(**kwargs):
    """A dataclass field that is part of a pytree's structure, not of its data."""
    return field(metadata={"static": True}, **kwargs)


def pytree(kind):
    """Make a dataclass a pytree of its fields, but for the static ones.

    Not by `jax.tree_util.register_dataclass`: to JAX (0.10 to 0.12 at least) the structures of two such classes with
    as many fields and the same static values are equal, so that once in about a hundred times, when their hashes
    agree in a few bits, a jitted function runs the program made for an instance of the other class.
    """
    data = [f.name for f in fields(kind) if not f.metadata.get("static")]
    rest = [f.name for f in fields(kind) if f.metadata.get("static")]
    keys, data_of, static_of = [GetAttrKey(name) for name in data], _values(data), _values(rest)

    def flatten(instance):
        return data_of(instance), static_of(instance)

    def flatten_with_keys(instance):
        return tuple(zip(keys, data_of(instance), strict=True)), static_of(instance)

    def unflatten(static_values, values):
        instance = object.__new__(kind)  # what was valid when it was taken apart is not checked again
        instance.__dict__.update(zip(data, values, strict=True))
        instance.__dict__.update(zip(rest, static_values, strict=True))
        return instance

    register_pytree_with_keys(kind, flatten_with_keys, unflatten, flatten)
    return kind


def _values(names):
    """The tuple of attributes of these names."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda instance: tuple(getattr(instance, name) for name in names)
