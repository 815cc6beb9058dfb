"""Networks of Equinox layers (the extra `nn`) as pytrees of parameters and functions `apply(params, x, key)`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp

from convexjax.layers import masked
from convexjax.problems.arguments import require_key
from convexjax.problems.qp import solve_qp
from convexjax.pytrees import pytree

ACTIVATIONS = {
    "relu": jax.nn.relu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "identity": lambda x: x,
}
INITIALISATIONS = {
    "he": jax.nn.initializers.he_normal,
    "glorot": jax.nn.initializers.glorot_normal,
    "lecun": jax.nn.initializers.lecun_normal,
}


@pytree
@dataclass(frozen=True, kw_only=True)
class Network:
    """A network: a pytree.

    `apply(params, x, key=None)` gives the outputs of a batch x, one row per sample. With a key the network is being
    trained: dropout draws from it and batch norm takes the statistics of the batch. Without one it predicts. Batch norm
    has averages that training updates: such a network has a `state`, and `apply(params, x, key, state)` returns
    (outputs, new state).
    """

    params: Any
    state: Any = None
    apply: Callable = field(metadata={"static": True})

    def __call__(self, x: jax.Array) -> jax.Array:
        """Predictions for a batch x."""
        try:
            return _predict(self.apply, self.params, self.state, x)
        except (TypeError, ValueError) as error:
            got = getattr(x, "shape", type(x).__name__)
            raise ValueError(f"the network does not take x of shape {got}: {error}") from error


@partial(jax.jit, static_argnums=0)
def _predict(apply, params, state, x):
    return apply(params, x) if state is None else apply(params, x, None, state)[0]


def mlp(
    key: jax.Array,
    inputs: int,
    outputs: int | str,
    *,
    width: int | Sequence[int] = 64,
    depth: int = 2,
    activation: str | Callable = "relu",
    dropout: float = 0.0,
    norm: str | None = None,
    initialisation: str | None = None,
    dtype: Any = None,
) -> Network:
    """A multilayer perceptron: `depth` hidden layers, each linear, norm, activation and dropout, and a linear layer.

    Arguments:
        key: a random key for the first parameters.
        inputs: number of inputs; x is (n, inputs).
        outputs: number of outputs; "scalar" for outputs (n,).
        width: of the hidden layers; a list gives each its own, and `depth` does not count.
        activation: one of `networks.ACTIVATIONS`, or a function.
        dropout: the probability with which a hidden value is left out in training.
        norm: None, "layer" or "batch".
        initialisation: of the weights: None (Equinox's: uniform, by the number of inputs), "he", "glorot", "lecun".
        dtype: of the parameters; None for JAX's default.

    Returns:
        `Network`.

    Raises:
        ValueError: sizes, probabilities or words that cannot be.
        ImportError: Equinox is not installed.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from convexjax import learn
    >>> network = learn.networks.mlp(jax.random.key(0), inputs=3, outputs=2, width=16)
    >>> network(jnp.ones((5, 3))).shape
    (5, 2)
    """
    eqx = _equinox()
    require_key(key)
    _check_words(activation, norm, initialisation, dropout)
    widths = [width] * _positive("depth", depth, 0) if isinstance(width, int) else list(width)
    sizes = [_positive("inputs", inputs), *(_positive("width", w) for w in widths)]
    keys = iter(jax.random.split(key, len(sizes)))

    def build():
        layers = []
        for before, after in pairwise(sizes):
            layers.append(eqx.nn.Linear(before, after, key=next(keys), dtype=dtype))
            layers += _after(eqx, (after,), activation, dropout, norm, dtype)
        return eqx.nn.Sequential([*layers, eqx.nn.Linear(sizes[-1], _outputs(outputs), key=next(keys), dtype=dtype)])

    return _network(eqx, build, key, initialisation)


def cnn(
    key: jax.Array,
    shape: tuple[int, int, int],
    outputs: int | str,
    *,
    channels: Sequence[int] = (32, 64),
    kernel: int = 3,
    convolutions: int = 1,
    pool: int = 2,
    width: int | None = None,
    activation: str | Callable = "relu",
    dropout: float = 0.0,
    norm: str | None = None,
    initialisation: str | None = None,
    dtype: Any = None,
) -> Network:
    """A convolutional network for images: per entry of `channels` some convolutions and a maximum over squares, then
    a linear layer, with a hidden one before it if `width` is given.

    Arguments:
        key: a random key for the first parameters.
        shape: (channels, height, width) of an image; x is (n, channels, height, width).
        outputs: number of outputs; "scalar" for outputs (n,).
        channels: of the blocks.
        kernel: side of the convolutions, odd; images keep their size.
        convolutions: per block.
        pool: side of the squares of which a block keeps the maximum; 1 for none.
        width: of the hidden layer.
        activation, norm, initialisation, dtype: as in `mlp`.
        dropout: before the linear layers.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from convexjax import learn
    >>> network = learn.networks.cnn(jax.random.key(0), (1, 8, 8), 10, channels=(4, 8))
    >>> network(jnp.ones((5, 1, 8, 8))).shape
    (5, 10)
    """
    eqx = _equinox()
    if len(shape) != 3:
        raise ValueError(f"shape must be (channels, height, width), got {shape!r}.")
    if not isinstance(kernel, int) or kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel must be an odd Python int, got {kernel!r}.")
    require_key(key)
    _check_words(activation, norm, initialisation, dropout)
    blocks = [_positive("channels", c) for c in channels]
    convolutions, pool = _positive("convolutions", convolutions), _positive("pool", pool)
    if not shape[1] // pool ** len(blocks) * (shape[2] // pool ** len(blocks)):
        raise ValueError(f"an image of shape {shape} has no pixels left after {len(blocks)} blocks of pool {pool}.")
    keys = iter(jax.random.split(key, len(blocks) * convolutions + 2))

    def build():
        layers, (c, h, w) = [], shape
        for own in blocks:
            for _ in range(convolutions):
                layers.append(eqx.nn.Conv2d(c, own, kernel, padding=kernel // 2, key=next(keys), dtype=dtype))
                c = own
                layers += _after(eqx, (c, h, w), activation, 0.0, norm, dtype)
            if pool > 1:
                layers.append(eqx.nn.MaxPool2d(pool, pool))
                h, w = h // pool, w // pool
        size = c * h * w
        layers += [eqx.nn.Lambda(jnp.ravel), eqx.nn.Dropout(_probability(dropout))]
        if width is not None:
            layers.append(eqx.nn.Linear(size, _positive("width", width), key=next(keys), dtype=dtype))
            layers += _after(eqx, (width,), activation, dropout, norm, dtype)
            size = width
        return eqx.nn.Sequential([*layers, eqx.nn.Linear(size, _outputs(outputs), key=next(keys), dtype=dtype)])

    return _network(eqx, build, key, initialisation)


def recurrent(
    key: jax.Array,
    inputs: int,
    outputs: int | str,
    *,
    hidden: int = 64,
    cell: str = "lstm",
    every_step: bool = False,
    dropout: float = 0.0,
    dtype: Any = None,
) -> Network:
    """A recurrent network for sequences: a cell over time, and a linear layer.

    Arguments:
        key: a random key for the first parameters.
        inputs: per step; x is (n, time, inputs).
        outputs: number of outputs; "scalar" for none of the last axis.
        hidden: size of the memory.
        cell: "lstm" or "gru".
        every_step: outputs (n, time, outputs) after every step (many to many), else (n, outputs) after the last one
            (many to one).
        dropout: before the linear layer.
        dtype: as in `mlp`.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from convexjax import learn
    >>> network = learn.networks.recurrent(jax.random.key(0), inputs=3, outputs=2, hidden=8, cell="gru")
    >>> network(jnp.ones((5, 7, 3))).shape
    (5, 2)
    """
    eqx = _equinox()
    from convexjax.learn.recurrent_network import Recurrent

    cells = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}
    if cell not in cells:
        raise ValueError(f'cell must be "lstm" or "gru", got {cell!r}.')
    require_key(key)
    inputs, hidden = _positive("inputs", inputs), _positive("hidden", hidden)
    of_cell, of_head = jax.random.split(key)

    def build():
        return Recurrent(
            cells[cell](inputs, hidden, key=of_cell, dtype=dtype),
            eqx.nn.Dropout(_probability(dropout)),
            eqx.nn.Linear(hidden, _outputs(outputs), key=of_head, dtype=dtype),
            every_step,
        )

    return _network(eqx, build, key, None)


def quadratic_program(
    key: jax.Array, size: int, equations: int, *, strength: float = 0.1, dtype: Any = None
) -> Network:
    """A layer that learns rules as equations: each row x of a batch becomes the solution z of

        minimise    strength/2 |z|^2 - x'z   subject to   A z = A exp(t),   z >= 0

    with A and t learnt. exp(t) is always feasible. A row that is not solved gives zeros, and no derivative.

    Arguments:
        key: a random key for A; t begins at zero.
        size: length of x and z.
        equations: rows of A, at most `size`; more than the rules need leave no freedom to z.
        strength: positive.
        dtype: as in `mlp`.

    Returns:
        `Network` with params {"A": (equations, size), "t": (size,)}; it needs no Equinox.

    Source: Amos and Kolter, "OptNet", 2017.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from convexjax import learn
    >>> network = learn.networks.quadratic_program(jax.random.key(0), 3, 1)
    >>> z = network(jnp.array([[1.0, -2.0, 0.0]]))
    >>> z.shape, bool(jnp.all(z >= -1e-5))
    ((1, 3), True)
    """
    require_key(key)
    size, equations = _positive("size", size), _positive("equations", equations)
    if equations > size:
        raise ValueError(f"equations must be at most size = {size}, got {equations}.")
    if not strength > 0:
        raise ValueError(f"strength must be positive, got {strength!r}.")
    dtype = jnp.result_type(float) if dtype is None else dtype
    start = {"A": jax.random.uniform(key, (equations, size), dtype), "t": jnp.zeros(size, dtype)}

    def solve(params, x):
        P, A = strength * jnp.eye(size, dtype=x.dtype), params["A"]
        return solve_qp(P, -x, A=A, b=A @ jnp.exp(params["t"]), lb=jnp.zeros((), x.dtype))

    def apply(params, x, key=None):
        return masked(jax.vmap(solve, (None, 0))(params, x))[0]

    return Network(params=start, apply=apply)


def from_equinox(model: Any, state: Any = None) -> Network:
    """The network of an Equinox model of one sample, `model(x, key=key)`, or `model(x, state, key=key)` if there is a
    state; its batch norms are named "batch"."""
    eqx = _equinox()
    params, fixed = eqx.partition(model, eqx.is_inexact_array)

    def apply(params, x, key=None, state=None):
        model = eqx.nn.inference_mode(eqx.combine(params, fixed), key is None)
        keys = None if key is None else jax.random.split(key, x.shape[0])
        of_keys = None if key is None else 0
        if state is None:
            return jax.vmap(lambda x, key: model(x, key=key), (0, of_keys), axis_name="batch")(x, keys)
        batched = jax.vmap(
            lambda x, key, state: model(x, state, key=key),
            (0, of_keys, None),
            out_axes=(0, None),
            axis_name="batch",
        )
        return batched(x, keys, state)

    return Network(params=params, state=state, apply=apply)


def _network(eqx, build, key, initialisation) -> Network:
    model, state = eqx.nn.make_with_state(build)()
    if initialisation is not None:
        model = _with_weights(eqx, model, INITIALISATIONS[initialisation](in_axis=1, out_axis=0), key)
    return from_equinox(model, state if jax.tree.leaves(state) else None)


def _with_weights(eqx, model, draw, key):
    """The model with the weights of its linear and convolutional layers drawn by an initializer, and no offsets."""
    weighted = lambda layer: isinstance(layer, eqx.nn.Linear | eqx.nn.Conv)
    layers = lambda model: [layer for layer in jax.tree.leaves(model, is_leaf=weighted) if weighted(layer)]
    old = layers(model)
    keys = jax.random.split(jax.random.fold_in(key, 1), len(old))
    weights = [draw(own, layer.weight.shape, layer.weight.dtype) for own, layer in zip(keys, old, strict=True)]
    model = eqx.tree_at(lambda model: [layer.weight for layer in layers(model)], model, weights)
    biases = lambda model: [layer.bias for layer in layers(model)]
    return eqx.tree_at(biases, model, [jnp.zeros_like(bias) for bias in biases(model)])


def _after(eqx, shape, activation, dropout, norm, dtype) -> list:
    """What follows a linear or convolutional layer with outputs of this shape."""
    norms = {
        None: lambda: [],
        "layer": lambda: [eqx.nn.LayerNorm(shape, dtype=dtype)],
        "batch": lambda: [eqx.nn.BatchNorm(shape[0], axis_name="batch", mode="batch", dtype=dtype)],
    }
    function = ACTIVATIONS[activation] if isinstance(activation, str) else activation
    layers = [*norms[norm](), eqx.nn.Lambda(function)]
    return [*layers, eqx.nn.Dropout(_probability(dropout))] if dropout else layers


def _check_words(activation, norm, initialisation, dropout) -> None:
    if isinstance(activation, str) and activation not in ACTIVATIONS:
        known = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(f"activation must be a function or one of {known}, got {activation!r}.")
    if norm not in (None, "layer", "batch"):
        raise ValueError(f'norm must be None, "layer" or "batch", got {norm!r}.')
    if initialisation is not None and initialisation not in INITIALISATIONS:
        known = ", ".join(map(repr, INITIALISATIONS))
        raise ValueError(f"initialisation must be None or one of {known}, got {initialisation!r}.")
    _probability(dropout)


def _positive(name: str, value: Any, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a Python int >= {least}, got {value!r}.")
    return value


def _outputs(outputs: int | str) -> Any:
    return outputs if outputs == "scalar" else _positive("outputs", outputs)


def _probability(dropout: float) -> float:
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be a probability below 1, got {dropout!r}.")
    return dropout


def _equinox():
    try:
        import equinox
    except ImportError as error:
        raise ImportError("networks are made of Equinox layers: pip install 'convexjax[nn]'.") from error
    return equinox
