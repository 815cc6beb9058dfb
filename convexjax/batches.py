"""Batches in chunks, and in slots."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.linear_algebra import vary_like

# Most lanes of a chunk; and the bytes that the matrices of a chunk may take, which is what fits into a cache.
LARGEST_CHUNK, CHUNK_BYTES = 64, 400_000


def chunk_of(bytes_per_lane: int, lanes):
    """How many lanes to solve together."""
    on_cpu = jax.default_backend() == "cpu"
    return max(1, min(CHUNK_BYTES // (bytes_per_lane + 1), LARGEST_CHUNK)) if on_cpu else lanes


def vmap_in_chunks(function, data: tuple, batched: tuple, lanes: int, bytes_per_lane: int):
    """`function(*data)` of each lane, in chunks: the rule for a batch of a `custom_vmap`."""
    axes = jax.tree.map(lambda flag: 0 if flag else None, tuple(batched))
    of_lanes = lambda data, lanes: jax.vmap(function, axes, axis_size=lanes)(*data)
    answers = in_chunks(of_lanes, data, tuple(batched), lanes, chunk_of(bytes_per_lane, lanes))
    return answers, jax.tree.map(lambda _: True, answers)


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


def in_slots(step, unfinished, data, states, slots: int):
    """The states of all lanes, each after as many rounds of `state = step(data, state)` as it takes until it is not
    `unfinished`; `data` and `states` have a leading axis of lanes, `step` and `unfinished` know one.

    `slots` lanes are stepped together. Those that have finished make room for others, so that none waits for the
    slowest of its chunk.
    """
    lanes = jax.tree.leaves(states)[0].shape[0]
    given, unpack_data = _packed(data)
    begin, unpack = _packed(states)
    steps, live = jax.vmap(step), jax.vmap(unfinished)
    take = lambda arrays, lane: [array.at[lane].get(mode="clip") for array in arrays]

    def run_and_refill(carry):
        lane, waiting, everything = carry
        own, present = unpack_data(take(given, lane)), lane < lanes
        # an exchange costs far less than a step; but let a few finish first
        most_left = jnp.where(waiting < lanes, np.int32(slots - 1 - slots // 8), 0)
        unsolved = lambda state: live(state) & present

        def advance(state):
            new, going = steps(own, state), unsolved(state)
            choose = lambda a, b: jnp.where(going.reshape(-1, *[1] * (a.ndim - 1)), a, b)
            return jax.tree.map(choose, new, state)

        count = lambda state: jnp.sum(unsolved(state), dtype=np.int32)
        state = jax.lax.while_loop(lambda state: count(state) > most_left, advance, unpack(take(everything, lane)))
        everything = [
            array.at[lane].set(new, mode="drop") for array, new in zip(everything, _packed(state)[0], strict=True)
        ]
        free = ~unsolved(state)
        following = waiting + jnp.cumsum(free, dtype=np.int32) - 1
        lane = jnp.minimum(jnp.where(free, following, lane), lanes)
        return lane, jnp.minimum(following[-1] + 1, lanes), everything

    start = jnp.arange(slots, dtype=np.int32), np.int32(slots), begin
    start = vary_like((data, states), start)
    *_, everything = jax.lax.while_loop(lambda carry: jnp.any(carry[0] < lanes), run_and_refill, start)
    return unpack(everything)


def _packed(tree):
    """The leaves, all with one leading axis, as one matrix per type; and the way back, for any number of rows."""
    leaves, structure = jax.tree.flatten(tree)
    types = list(dict.fromkeys(leaf.dtype for leaf in leaves))
    members = [[i for i, leaf in enumerate(leaves) if leaf.dtype == dtype] for dtype in types]
    flat = [leaf.reshape(leaf.shape[0], -1) for leaf in leaves]
    shapes, widths = [leaf.shape[1:] for leaf in leaves], [part.shape[1] for part in flat]

    def unpack(matrices):
        parts: dict[int, jax.Array] = {}
        for own, matrix in zip(members, matrices, strict=True):
            ends = np.cumsum([widths[i] for i in own])[:-1]
            parts.update(zip(own, jnp.split(matrix, ends, axis=1), strict=True))
        ordered = [parts[i].reshape(matrices[0].shape[0], *shape) for i, shape in enumerate(shapes)]
        return jax.tree.unflatten(structure, ordered)

    return [jnp.concatenate([flat[i] for i in own], axis=1) for own in members], unpack
