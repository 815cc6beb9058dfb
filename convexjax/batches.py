"""Batches in chunks."""

import math

import jax
import jax.numpy as jnp


def in_chunks(function, arguments, batched, lanes: int, chunk: int):
    """`function(arguments, lanes)` of a batch of `lanes`, at most `chunk` lanes at a time, one chunk after the other.

    A chunk whose data fit into the cache of a CPU runs faster, and does not wait for the slowest lane of all. `batched`
    has the structure of `arguments` and says which leaves have lanes; all leaves of the result have.

    Lane i goes to place i // number of its chunk, number the number of chunks, and not to chunk i // chunk: where the
    lanes are sharded over devices every chunk is, too.
    """
    if not isinstance(lanes, int) or lanes <= chunk:  # a number not known yet is that of an export for any
        return function(arguments, lanes)
    number = math.ceil(lanes / chunk)
    chunk = math.ceil(lanes / number)
    missing = number * chunk - lanes
    leaves, structure = jax.tree.flatten(arguments)
    flags = jax.tree.leaves(batched)

    def split(leaf):
        padded = jnp.concatenate([leaf, jnp.broadcast_to(leaf[-1:], (missing, *leaf.shape[1:]))]) if missing else leaf
        return padded.reshape(chunk, number, *leaf.shape[1:])

    def join(leaf):
        return jnp.moveaxis(leaf, 0, 1).reshape(number * chunk, *leaf.shape[2:])[:lanes]

    parts = [split(leaf) if flag else leaf for leaf, flag in zip(leaves, flags, strict=True)]

    def of_chunk(k):
        # taken out of place one by one: a scan over the parts would first copy all of them into its own order
        take = lambda part: jax.lax.dynamic_index_in_dim(part, k, 1, keepdims=False)
        own = [take(part) if flag else part for part, flag in zip(parts, flags, strict=True)]
        return function(jax.tree.unflatten(structure, own), chunk)

    return jax.tree.map(join, jax.lax.map(of_chunk, jnp.arange(number)))
