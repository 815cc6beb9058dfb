"""Networks and their training: gradients by hand, exact repetition, resumption, endings, transforms, bad input."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from convexjax import layers
from convexjax.learn import losses, networks, training
from convexjax.learn.training.convolutions import canonical

KEY = jax.random.key(0)
F32 = jnp.float32
X = jax.random.normal(jax.random.key(1), (96, 4), F32)
Y = jnp.sin(X[:, 0]) + X[:, 1] * X[:, 2]
ADAM = optax.adam(1e-2)
HOW = dict(loss=losses.squared, optimizer=ADAM, epochs=6, batch_size=16)


@pytest.fixture(scope="module", autouse=True)
def _promotion():
    """Optax mixes types as JAX does by default."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="module")
def network():
    return networks.mlp(KEY, 4, "scalar", width=8, depth=2, activation="tanh", dtype=F32)


@pytest.fixture(scope="module")
def trained(network):
    return training.fit(network.apply, network.params, X, Y, KEY, **HOW)


def equal(a, b):
    """The same numbers, to the last bit."""
    return all(bool(jnp.array_equal(u, v, equal_nan=True)) for u, v in zip(*map(jax.tree.leaves, (a, b)), strict=True))


# ----------------------------------------------------------------------------- networks


@pytest.mark.parametrize("depth", [1, 8])
def test_gradient_of_a_perceptron_is_the_product_of_its_layers(depth):
    """dL/dW_k = delta_k h_(k-1)' with delta_k = diag(phi'(a_k)) W_(k+1)' delta_(k+1), layer by layer in NumPy."""
    network = networks.mlp(jax.random.key(depth), 3, 2, width=7, depth=depth, activation="tanh", dtype=jnp.float64)
    x = jax.random.normal(jax.random.key(9), (3,), jnp.float64)
    target = jnp.array([0.3, -0.4])
    slope = jax.jit(jax.grad(lambda p: jnp.sum((network.apply(p, x[None])[0] - target) ** 2)))(network.params)
    linear = lambda tree: [layer for layer in tree.layers if hasattr(layer, "weight")]
    W = [np.asarray(layer.weight) for layer in linear(network.params)]
    b = [np.asarray(layer.bias) for layer in linear(network.params)]
    h, a = [np.asarray(x)], []
    for k in range(depth + 1):
        a.append(W[k] @ h[-1] + b[k])
        h.append(np.tanh(a[-1]) if k < depth else a[-1])
    delta = 2 * (h[-1] - np.asarray(target))
    for k in reversed(range(depth + 1)):
        layer = linear(slope)[k]
        np.testing.assert_allclose(layer.weight, np.outer(delta, h[k]), rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(layer.bias, delta, rtol=1e-12, atol=1e-14)
        if k:
            delta = (1 - np.tanh(a[k - 1]) ** 2) * (W[k].T @ delta)


def test_dropout_only_in_training_and_norm_of_rows():
    network = networks.mlp(KEY, 4, 3, width=[8, 8], dropout=0.5, norm="layer", initialisation="he", dtype=F32)
    assert jnp.array_equal(network(X), network(X))
    train = jax.jit(network.apply)
    first, second = (train(network.params, X, jax.random.key(k)) for k in (1, 2))
    assert not jnp.allclose(first, second)
    assert first.shape == (96, 3) and first.dtype == F32
    # dropout keeps the expectation
    one = networks.mlp(KEY, 4, 3, width=[8], dropout=0.5, activation="identity", dtype=F32)
    outputs = jax.jit(jax.vmap(one.apply, (None, None, 0)))(one.params, X[:2], jax.random.split(KEY, 400))
    np.testing.assert_allclose(np.mean(outputs, 0), one(X[:2]), atol=0.2)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_networks_read_the_whole_sequence(cell):
    x = jax.random.normal(KEY, (3, 5, 2), F32)
    every = networks.recurrent(KEY, 2, 4, hidden=6, cell=cell, every_step=True, dtype=F32)
    last = networks.recurrent(KEY, 2, 4, hidden=6, cell=cell, dtype=F32)
    outputs = every(x)
    assert outputs.shape == (3, 5, 4)
    np.testing.assert_allclose(outputs[:, -1], last(x), rtol=1e-5)
    # the outputs of a step depend on the steps before it and not on those after
    slope = jax.jit(jax.jacobian(lambda x: jnp.sum(every(x[None])[0], 1)))(x[0])
    size = np.abs(slope).sum(2)
    assert np.all(np.triu(size, 1) == 0) and np.all(size[2, :3] > 0)


def test_convolutions_in_canonical_order_are_the_same_convolutions():
    x, w = jax.random.normal(KEY, (3, 2, 6, 5), F32), jax.random.normal(KEY, (4, 2, 3, 3), F32)
    convolve = jax.jit(lambda x, w: jax.lax.conv_general_dilated(x, w, (2, 1), [(1, 1), (0, 1)]))
    slopes = jax.grad(lambda x, w: jnp.sum(jax.nn.relu(convolve(x, w)) ** 3), (0, 1))
    for a, b in zip(jax.jit(slopes)(x, w), jax.jit(canonical(slopes))(x, w), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-4)
    # inside of a loop, where it matters
    loop = jax.jit(lambda x, w: jax.lax.scan(lambda c, _: (canonical(slopes)(*c), None), (x, w), length=2)[0])
    lowered = loop.lower(x, w).as_text()
    orders = {line.split("dim_numbers = ")[1].split("->")[0] for line in lowered.splitlines() if "dim_numbers" in line}
    assert orders == {"[b, 0, 1, f]x[0, 1, i, o]"}
    network = networks.cnn(KEY, (2, 8, 6), 3, channels=(4,), initialisation="he", dtype=F32)
    assert network(jnp.ones((7, 2, 8, 6), F32)).shape == (7, 3)


# ----------------------------------------------------------------------------- training


def test_training_learns_and_repeats_to_the_bit(network, trained):
    assert trained.ending == training.Ending.FINISHED and trained.num_epochs == 6
    assert trained.history.loss[-1] < 0.8 * trained.history.loss[0]
    assert "ran all epochs, 6" in trained.report()
    assert equal(trained, training.fit(network.apply, network.params, X, Y, KEY, **HOW))
    other = training.fit(network.apply, network.params, X, Y, jax.random.key(5), **HOW)
    assert not equal(trained.params, other.params)


def test_steps_are_those_of_a_plain_loop(network, trained):
    """The same order of samples, gradients and updates, written by hand."""
    params, moments = network.params, ADAM.init(network.params)

    @jax.jit
    def step(params, moments, x, y):
        slope = jax.grad(lambda p: jnp.mean((network.apply(p, x) - y) ** 2))(params)
        updates, moments = ADAM.update(slope, moments, params)
        return optax.apply_updates(params, updates), moments

    for epoch in range(6):
        order = jax.random.permutation(jax.random.fold_in(KEY, jnp.int32(epoch)), 96).reshape(6, 16)
        for rows in order:
            params, moments = step(params, moments, X[rows], Y[rows])
    for a, b in zip(*map(jax.tree.leaves, (params, trained.params)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_best_parameters_and_early_stopping(network):
    schedule = optax.cosine_decay_schedule(2e-2, 360)
    optimizer = optax.chain(optax.clip_by_global_norm(0.5), optax.adamw(schedule, weight_decay=1e-3))
    how = HOW | dict(epochs=60, optimizer=optimizer, validation=(X[:20], -Y[:20]), metric=losses.absolute)
    run = training.fit(network.apply, network.params, X, Y, KEY, patience=4, **how)
    assert run.ending == training.Ending.EARLY_STOPPED and run.num_epochs < 60
    best = int(run.best_epoch)
    assert best == int(jnp.nanargmin(run.history.validation_loss)) and run.num_epochs == best + 5
    risk = jnp.mean((network.apply(run.params, X[:20]) + Y[:20]) ** 2)
    np.testing.assert_allclose(risk, run.history.validation_loss[best], rtol=1e-5)
    assert bool(jnp.isnan(run.history.loss[int(run.num_epochs)]))
    assert bool(jnp.isfinite(run.history.validation_metric[best]))
    assert f"stopped early, after {int(run.num_epochs)} epochs:" in run.report()


def test_numbers_that_are_not_finite_stop_it_with_the_last_good_parameters(network):
    bad = lambda params, x, key: network.apply(params, x) + jnp.where(jnp.any(x > 50), jnp.nan, 0.0)
    late = X.at[40, 0].set(100.0)
    run = training.fit(bad, network.params, late, Y, KEY, **HOW)
    assert run.ending == training.Ending.NOT_FINITE and run.num_epochs == 1
    order = jax.random.permutation(jax.random.fold_in(KEY, jnp.int32(0)), 96).reshape(6, 16)
    assert run.failed_step == int(jnp.argwhere(order == 40)[0, 0])
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(run.last_params))
    assert f"epoch 0, step {int(run.failed_step)}" in run.report()
    with pytest.raises(RuntimeError, match="not finite"):
        run.require_finite()


def test_lanes_of_seeds_rates_and_gammas_and_one_that_fails(network):
    """vmap over seeds, over the weight of a regulariser, and over a number inside the optimizer."""

    def one(key, rate, gamma):
        how = HOW | dict(optimizer=optax.sgd(rate), regulariser=losses.squares, gamma=gamma, epochs=2)
        return training.fit(network.apply, network.params, X, Y, key, **how)

    keys = jax.random.split(KEY, 3)
    rates, gammas = jnp.array([1e30, 0.1, 0.01], F32), jnp.array([0.0, 1.0, 0.5], F32)
    many = jax.vmap(one)(keys, rates, gammas)
    assert many.history.loss.shape == (3, 2) and many.ending.tolist() == [3, 1, 1]
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(many.last_params))
    alone = one(keys[1], 0.1, 1.0)
    for a, b in zip(*map(jax.tree.leaves, (alone.params, many.params)), strict=True):
        np.testing.assert_allclose(a, b[1], rtol=1e-3, atol=1e-5)
    with pytest.raises(RuntimeError, match="1 trainings were not finite, first"):
        many.require_finite()


def test_batch_norm_keeps_its_averages():
    network = networks.mlp(KEY, 4, "scalar", width=8, depth=1, norm="batch", dtype=F32)
    shifted = X + 3.0
    run = training.fit(
        network.apply, network.params, shifted, Y, KEY, state=network.state, validation=(shifted, Y), **HOW
    )
    assert run.history.loss[-1] < run.history.loss[0]
    assert not equal(run.state, network.state)
    predicted = training.predict(network.apply, run.params, shifted, run.state)
    risk = jnp.mean((predicted - Y) ** 2)
    np.testing.assert_allclose(risk, run.history.validation_loss[int(run.best_epoch)], rtol=1e-4)


def test_precision_of_the_parameters_and_mixed():
    network = networks.mlp(KEY, 4, "scalar", width=8, depth=1, dropout=0.1, dtype=jnp.float64)
    seen = []

    def apply(params, x, key):
        outputs = network.apply(params, x, key)
        seen.append(outputs.dtype)
        return outputs

    run = training.fit(apply, network.params, X, Y, KEY, **(HOW | dict(epochs=3)))
    mixed = training.fit(apply, network.params, X, Y, KEY, precision=jnp.bfloat16, **(HOW | dict(epochs=3)))
    assert {leaf.dtype for leaf in jax.tree.leaves((run.params, mixed.params))} == {jnp.dtype(jnp.float64)}
    assert set(seen) == {jnp.dtype(jnp.float64), jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(run.history.loss, mixed.history.loss, rtol=0.1)


def test_optimizers_that_search_along_a_line(network):
    how = HOW | dict(optimizer=optax.lbfgs(), epochs=15, batch_size=96)
    run = training.fit(network.apply, network.params, X, Y, KEY, **how)
    assert run.history.loss[-1] < 0.5 * run.history.loss[0]
    assert bool(jnp.all(jnp.diff(run.history.loss) <= 1e-6))


def test_predictions_in_parts(network):
    many = jnp.tile(X, (23, 1))
    np.testing.assert_allclose(training.predict(network.apply, network.params, many), network(many), atol=1e-6)


def test_a_quadratic_program_learns_its_equation():
    """Shares of goods that always add up to three, from scores: the rule is found in the examples."""
    scores = jax.random.normal(KEY, (60, 3), F32)
    shares = jax.vmap(lambda v: layers.simplex(v / 0.5, 3.0))(scores)
    network = networks.quadratic_program(KEY, 3, 1, strength=0.5, dtype=F32)
    how = HOW | dict(optimizer=optax.adam(0.05), epochs=40, batch_size=20)
    run = training.fit(network.apply, network.params, scores, shares, KEY, **how).require_finite()
    assert run.history.loss[-1] < 1e-3 * run.history.loss[0]
    a = run.params["A"][0]
    np.testing.assert_allclose(a / jnp.mean(a), 1, atol=0.05)
    np.testing.assert_allclose(jnp.sum(network.apply(run.params, scores[:20]), 1), 3, atol=0.1)


# ----------------------------------------------------------------------------- on disk


def test_interrupted_training_goes_on_to_the_same_bits(network, trained, tmp_path, capsys):
    pytest.importorskip("orbax.checkpoint")
    pytest.importorskip("tqdm")
    from convexjax.learn.training import checkpoint

    class Killed(Exception):
        pass

    write, count = checkpoint.Folder.write, []

    def write_twice(self, run):
        write(self, run)
        count.append(int(run.epoch))
        if len(count) == 2:
            raise Killed

    checkpoint.Folder.write = write_twice
    try:
        with pytest.raises(Killed):
            training.fit(network.apply, network.params, X, Y, KEY, checkpoint=tmp_path / "run", **HOW)
    finally:
        checkpoint.Folder.write = write
    assert count == [1, 2]
    how = HOW | dict(checkpoint=tmp_path / "run", checkpoint_every=3)
    resumed = training.fit(network.apply, network.params, X, Y, KEY, progress=True, **how)
    assert equal(resumed, trained)
    assert "6/6" in capsys.readouterr().err
    # a training that has ended is read, not run
    assert equal(training.fit(network.apply, network.params, X, Y, KEY, **how), trained)

    other = networks.mlp(KEY, 4, "scalar", width=9, depth=2, activation="tanh", dtype=F32)
    with pytest.raises(ValueError, match="another training: params"):
        training.fit(other.apply, other.params, X, Y, KEY, **how)
    with pytest.raises(ValueError, match="another training: key"):
        training.fit(network.apply, network.params, X, Y, jax.random.key(8), **how)


DEVICES = """
import jax, jax.numpy as jnp, numpy as np, optax
from convexjax.learn import losses, training
assert jax.device_count() == 4
X = jax.random.normal(jax.random.key(0), (64, 3))
y = jnp.sin(X[:, 0])
params = {"W": jax.random.normal(jax.random.key(1), (3, 5)), "v": jnp.ones(5)}
apply = lambda p, x, key: jnp.tanh(x @ p["W"]) @ p["v"]
how = dict(loss=losses.squared, optimizer=optax.adam(0.05), epochs=4, batch_size=16)
key = jax.random.key(2)
alone = training.fit(apply, params, X, y, key, **how)
mesh = jax.make_mesh((4,), ("batch",))
shared = training.fit(apply, params, X, y, key, mesh=mesh, **how)
for a, b in zip(jax.tree.leaves(alone.params), jax.tree.leaves(shared.params)):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-4, atol=1e-5)
from convexjax.learn.training import epochs
mesh = jax.sharding.Mesh(mesh.devices, mesh.axis_names)
plan = epochs.Plan(apply, losses.squared, how["optimizer"], None, None, 4, 16, None, False, None, mesh)
data = {"train": (X, y), "validation": None, "key": key, "gamma": jnp.float32(0)}
started = epochs.start(plan, params, None)
text = epochs.advance.lower(plan, data, started, jnp.int32(4)).compile().as_text()
assert "all-reduce" in text  # the gradients of the devices are added up
try:
    training.fit(apply, params, X, y, key, mesh=mesh, **(how | dict(batch_size=10)))
except ValueError as error:
    print(error)
"""


def test_batches_are_shared_among_devices(tmp_path):
    import os

    around = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    run = subprocess.run([sys.executable, "-c", DEVICES], capture_output=True, text=True, env=around, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    assert "multiple of the 4 devices" in run.stdout


# ----------------------------------------------------------------------------- bad input

LINE = lambda params, x, key: x @ params
WEIGHTS = jnp.zeros(4, F32)
CLASSES = (X[:, 0] > 0).astype(jnp.int32)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (dict(batch_size=97), "batch_size is 97, but X has 96 rows"),
        (dict(batch_size=0), "batch_size must be"),
        (dict(epochs=0), "epochs must be"),
        (dict(patience=3), "patience needs validation"),
        (dict(X=X[:0]), "X has shape"),
        (dict(X=X.at[7, 1].set(jnp.nan)), "X has NaN or infinite numbers in 1 rows, first in row 7"),
        (dict(y=Y.at[3].set(jnp.inf)), "y has NaN"),
        (dict(y=Y[:50]), "y has 50 rows"),
        (dict(y=np.array(["a"] * 96)), "y must hold numbers"),
        (dict(apply=lambda params, x, key: (x @ params)[:, None]), 'outputs="scalar"'),
        (dict(apply=lambda params, x, key: jnp.sum(x @ params)), "one row per sample"),
        (dict(loss=lambda f, y: jnp.mean((f - y) ** 2)), "one per sample"),
        (dict(loss=losses.hinge), "labels -1, 1"),
        (dict(loss=losses.cross_entropy), "one score per class"),
        (dict(params=jnp.zeros(4, jnp.int32)), "floating"),
        (dict(params={}), "no arrays"),
        (dict(validation=(X[:5], Y[:4])), "validation y has 4 rows"),
        (dict(validation=X), "validation must be a pair"),
        (dict(X=X[:, :3]), "apply does not take a batch of X, of shape"),
        (dict(loss="mse"), "loss must be a function"),
        (dict(optimizer=0.1), "optimizer must be one of optax"),
        (dict(key=0), "key must be a random key"),
    ],
)
def test_bad_input(changed, message):
    given = dict(apply=LINE, params=WEIGHTS, X=X, y=Y, key=KEY) | HOW | changed
    with pytest.raises(ValueError, match=message):
        training.fit(**given)


def test_bad_labels_are_named():
    wide = jnp.zeros((4, 2), F32)
    how = HOW | dict(loss=losses.cross_entropy)
    with pytest.raises(ValueError, match="got 3"):
        training.fit(LINE, wide, X, CLASSES.at[5].set(3), KEY, **how)
    with pytest.raises(ValueError, match="integer classes"):
        training.fit(LINE, wide, X, Y, KEY, **how)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: networks.mlp(KEY, 4, 2, activation="swoosh"), "activation"),
        (lambda: networks.mlp(KEY, 4, 2, norm="group"), "norm"),
        (lambda: networks.mlp(KEY, 0, 2), "inputs"),
        (lambda: networks.mlp(KEY, 4, 2, dropout=1.0), "dropout"),
        (lambda: networks.mlp(KEY, 4, 2, initialisation="zero"), "initialisation"),
        (lambda: networks.cnn(KEY, (1, 8), 2), "shape"),
        (lambda: networks.cnn(KEY, (1, 2, 2), 2), "pixels"),
        (lambda: networks.cnn(KEY, (1, 8, 8), 2, kernel=4), "kernel"),
        (lambda: networks.recurrent(KEY, 2, 2, cell="rnn"), "cell"),
        (lambda: networks.quadratic_program(KEY, 3, 4), "equations"),
        (lambda: networks.mlp(3, 4, 2), "key must be a random key"),
        (lambda: networks.mlp(KEY, 4, 2)(jnp.ones((3, 5))), r"does not take x of shape \(3, 5\)"),
    ],
)
def test_bad_networks(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_bars_do_not_work_inside_of_transforms(network):
    with pytest.raises(ValueError, match="host"):
        jax.vmap(lambda key: training.fit(network.apply, network.params, X, Y, key, progress=True, **HOW))(
            jax.random.split(KEY, 2)
        )
