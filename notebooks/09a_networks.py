# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Networks
#
# Back-propagation beside the chain rule by hand; overfitting, and what dropout and early stopping do about it, over
# several seeds at once; images, sequences, and a table of medical rules, each learnt by a network of its own. A
# network here is a pytree of parameters and a function, and a whole training is one compiled, pure function.
#
# Wants `convexjax[notebooks]`; about a minute on two cores.

# %%
import sys

if "google.colab" in sys.modules:
    # !pip install -q "convexjax[notebooks]"
    pass

# %%
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_digits

from convexjax import learn
from convexjax.learn import losses, networks, rules, training
from convexjax.plot import COLOURS

SCALE = 1  # 4 for four times as many seeds and epochs
BLUE, RED, GREEN, ORANGE = COLOURS[:4]
GREY = "0.6"
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## Back-propagation is the chain rule
#
# A perceptron computes $z_l = W_l a_{l-1} + b_l$ and $a_l = \tanh z_l$, from $a_0 = x$ to the output $f = z_L$. For the
# loss $\frac1n\sum_i (f_i - y_i)^2$ the chain rule, read from the last layer back, says
#
# $$\delta_L = \tfrac2n (f - y), \qquad \delta_l = (W_{l+1}^\top \delta_{l+1}) \circ (1 - a_l^2), \qquad
# \frac{\partial}{\partial W_l} = \delta_l\, a_{l-1}^\top, \qquad
# \frac{\partial}{\partial b_l} = \textstyle\sum_i \delta_l .$$
#
# By hand, on the parameters of a network of the library:

# %%
network = networks.mlp(jax.random.key(0), 3, 1, width=16, depth=2, activation="tanh")
X = jax.random.normal(jax.random.key(1), (50, 3))
y = jnp.sin(X.sum(1, keepdims=True))


def by_hand(layers, X, y):
    """Slopes for [W_1, b_1, W_2, b_2, ...], samples in rows."""
    activations = [X]
    for W, b in layers[:-1]:
        activations.append(jnp.tanh(activations[-1] @ W.T + b))
    W, b = layers[-1]
    delta = 2 / len(X) * (activations[-1] @ W.T + b - y)
    slopes = []
    for (W, _), a in zip(reversed(layers), reversed(activations), strict=True):
        slopes = [delta.T @ a, delta.sum(0), *slopes]
        delta = (delta @ W) * (1 - a**2)
    return slopes


leaves = jax.tree.leaves(network.params)  # W_1, b_1, W_2, ...
own = by_hand(list(zip(leaves[::2], leaves[1::2], strict=True)), X, y)
risk = losses.empirical_risk(network.apply, losses.squared)
automatic = jax.tree.leaves(jax.grad(risk)(network.params, X, y))
difference = max(float(jnp.abs(a - b).max()) for a, b in zip(own, automatic, strict=True))
print(
    f"{sum(leaf.size for leaf in leaves)} parameters, largest difference {difference:.0e} (float32)"
)

# %% [markdown]
# ## Overfitting, and two cures
#
# 300 of scikit-learn's 8 x 8 images of digits to train with, a sixth of them with a wrong label, and 600 others to
# watch. The network can learn the 300 by heart, mistakes included; its loss on the others then rises. **Dropout**
# leaves out each hidden value with probability one half while training. **Early stopping** keeps the parameters of the
# epoch with the least validation loss. Each curve below is a `vmap` of the training over its random key.

# %%
images, classes = load_digits(return_X_y=True)
images = (images / 16).reshape(-1, 1, 8, 8).astype(np.float32)
order = np.random.default_rng(0).permutation(len(images))
images, classes = images[order], classes[order].astype(np.int32)
flat = images.reshape(len(images), -1)
few, watch, test = slice(0, 300), slice(300, 900), slice(900, None)
spoilt = classes[few].copy()
spoilt[:50] = (spoilt[:50] + 1) % 10
seeds, epochs = 4 * SCALE, 60


def train(dropout):
    def of_key(key):
        network = networks.mlp(key, 64, 10, width=256, depth=2, dropout=dropout)
        return training.fit(
            *(network.apply, network.params, flat[few], spoilt, key),
            loss=losses.cross_entropy,
            optimizer=adam,
            epochs=epochs,
            batch_size=50,
            validation=(flat[watch], classes[watch]),
            metric=losses.accuracy,
        )

    return jax.jit(jax.vmap(of_key))(jax.random.split(jax.random.key(2), seeds))


adam = optax.adam(3e-3)
plain, dropped = train(0.0), train(0.5)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for found, colour, name in ((plain, GREY, "no dropout"), (dropped, BLUE, "dropout 0.5")):
    of_train, of_watch = found.history.loss, found.history.validation_loss
    left.plot(of_train.mean(0), color=colour, ls="--", lw=1.5, label=f"{name}, training")
    left.plot(of_watch.mean(0), color=colour, lw=2, label=f"{name}, validation")
    left.fill_between(
        range(epochs), of_watch.min(0), of_watch.max(0), color=colour, alpha=0.2, lw=0
    )
    best = int(jnp.argmin(of_watch.mean(0)))
    left.plot(best, of_watch.mean(0)[best], "v", color=RED, ms=8, zorder=3)
    metric = 100 * found.history.validation_metric
    right.plot(metric.mean(0), color=colour, lw=2, label=name)
    right.fill_between(range(epochs), metric.min(0), metric.max(0), color=colour, alpha=0.2, lw=0)
left.set(
    xlabel="epoch",
    ylabel="cross entropy",
    yscale="log",
    ylim=(1e-2, 5),
    title="Red: where early stopping stops",
)
left.legend(frameon=False, fontsize=8, loc="lower left")
right.set(
    xlabel="epoch",
    ylabel="right, % of 600 images",
    ylim=(60, 95),
    title=f"Mean and range of {seeds} seeds",
)
right.legend(frameon=False)
plt.show()

# %% [markdown]
# `patience` ends a training when there is nothing more to be had, and `report()` says so:

# %%
network = networks.mlp(jax.random.key(3), 64, 10, width=256, depth=2, dropout=0.5)
stopped = training.fit(
    *(network.apply, network.params, flat[few], spoilt, jax.random.key(3)),
    loss=losses.cross_entropy,
    optimizer=adam,
    epochs=300,
    batch_size=50,
    validation=(flat[watch], classes[watch]),
    patience=10,
)
print(stopped.report())

# %% [markdown]
# ## A convolutional network, and what it gets wrong
#
# All of the first 900 images, with their true labels, and 897 new ones to be judged by. A linear classifier
# (`learn.logistic`, a convex problem) is the one to beat.

# %%
known = slice(0, 900)
cnn = networks.cnn(jax.random.key(4), (1, 8, 8), 10, channels=(16, 32), width=64, dropout=0.3)
steps = 20 * SCALE * (900 // 50)
trained = training.fit(
    *(cnn.apply, cnn.params, images[known], classes[known], jax.random.key(4)),
    loss=losses.cross_entropy,
    optimizer=optax.adamw(optax.cosine_decay_schedule(5e-3, steps), weight_decay=1e-3),
    epochs=20 * SCALE,
    batch_size=50,
).require_finite()
scores = training.predict(cnn.apply, trained.params, images[test])
predicted = np.asarray(jnp.argmax(scores, 1))
right = float(losses.accuracy(scores, jnp.asarray(classes[test])).mean())
linear = learn.logistic.fit(flat[known], classes[known], penalty=1.0, classes=10)
of_linear = float(np.mean(np.asarray(learn.logistic.predict(linear, flat[test])) == classes[test]))
print(f"convolutional network {100 * right:.1f} %, linear classifier {100 * of_linear:.1f} %")

# %%
confusion = np.zeros((10, 10), int)
np.add.at(confusion, (classes[test], predicted), 1)
wrong = np.flatnonzero(predicted != classes[test])[:10]
figure = plt.figure(figsize=(8, 3.3), layout="constrained")
left, rest = figure.subfigures(1, 2, width_ratios=(1, 1.35))
axis = left.subplots()
axis.imshow(np.log1p(confusion), cmap="Blues")
for i, j in np.argwhere(confusion):
    axis.text(
        j,
        i,
        confusion[i, j],
        ha="center",
        va="center",
        fontsize=7,
        color="white" if i == j else "black",
    )
axis.set(
    xticks=range(10), yticks=range(10), xlabel="network", ylabel="truth", title="897 new images"
)
axis.spines[:].set_visible(False)
rest.suptitle("Images that it gets wrong: truth, and what the network says", fontsize=10)
for axis, i in zip(rest.subplots(2, 5).flat, wrong, strict=False):
    axis.imshow(images[test][i, 0], cmap="gray_r")
    axis.set_title(f"{classes[test][i]}, {predicted[i]}", fontsize=9)
for axis in rest.axes:
    axis.axis("off")
plt.show()

# %% [markdown]
# ## A recurrent network, and chaos
#
# The Hénon map $x_{t+1} = 1 - 1.4\,x_t^2 + 0.3\,x_{t-1}$ is seen through a little noise, and the next value is to be
# told from the last twelve. What comes next hangs on a square, which no linear predictor follows; a GRU has to find it.

# %%
rng = np.random.default_rng(0)
series = np.zeros(3200)
for t in range(2, len(series)):
    series[t] = 1 - 1.4 * series[t - 1] ** 2 + 0.3 * series[t - 2]
series = (series + 0.02 * rng.normal(size=series.size))[100:].astype(np.float32)
windows = np.lib.stride_tricks.sliding_window_view(series, 13)
past, following = windows[:, :-1, None], windows[:, -1]
learnt, new = slice(0, 2400), slice(2420, None)

gru = networks.recurrent(jax.random.key(5), 1, "scalar", hidden=24, cell="gru")
epochs_of_gru = 30 * SCALE
fitted = training.fit(
    *(gru.apply, gru.params, past[learnt], following[learnt], jax.random.key(5)),
    loss=losses.squared,
    optimizer=optax.adam(optax.cosine_decay_schedule(1e-2, epochs_of_gru * 48)),
    epochs=epochs_of_gru,
    batch_size=50,
).require_finite()
guessed = np.asarray(training.predict(gru.apply, fitted.params, past[new]))
line = learn.linear.fit(past[learnt, :, 0], following[learnt])
straight = np.asarray(learn.linear.predict(line, past[new, :, 0]))
error = lambda values: float(np.mean((values - following[new]) ** 2))
print(f"mean squared error: GRU {error(guessed):.4f}, linear {error(straight):.4f}")

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 2.9), sharex=True, sharey=True, layout="constrained")
for axis, values, colour, name in zip(
    axes,
    (following[new], straight, guessed),
    ("0.2", GREY, BLUE),
    ("what came", "linear predictor", "GRU"),
    strict=True,
):
    axis.plot(past[new, -1, 0], values, ".", color=colour, ms=4)
    axis.set(title=name, xlabel="$x_t$")
axes[0].set_ylabel("$x_{t+1}$")
plt.show()

# %% [markdown]
# ## Learning from rules
#
# Blood pressure is graded by a table (European Society of Hypertension, 2018): the higher of the two grades of the
# systolic and the diastolic value counts. `rules.label` has such a program label as many samples as wanted, so that the
# agreement is measured, not guessed.

# %%
grades = ["optimal", "normal", "high normal", "grade 1", "grade 2", "grade 3"]


def grade(row):
    systolic, diastolic = row
    of = lambda value, limits: jnp.searchsorted(jnp.array(limits), value, side="right")
    return jnp.maximum(
        of(systolic, [120.0, 130.0, 140.0, 160.0, 180.0]),
        of(diastolic, [80.0, 85.0, 90.0, 100.0, 110.0]),
    ).astype(jnp.int32)


low, high = jnp.array([90.0, 50.0]), jnp.array([200.0, 125.0])
sampler = lambda key: jax.random.uniform(key, (2,), minval=low, maxval=high)
P, grade_of = rules.label(grade, sampler, jax.random.key(6), 20_000)
judge = networks.mlp(jax.random.key(7), 2, 6, width=64, depth=2)
scaled = lambda params, x, key=None: judge.apply(
    params, (x - (low + high) / 2) / (high - low) * 4, key
)
epochs_of_judge = 20 * SCALE
pupil = training.fit(
    *(scaled, judge.params, P, grade_of, jax.random.key(7)),
    loss=losses.cross_entropy,
    optimizer=optax.adam(optax.cosine_decay_schedule(1e-2, epochs_of_judge * 40)),
    epochs=epochs_of_judge,
    batch_size=500,
).require_finite()
P_new, grade_new = rules.label(grade, sampler, jax.random.key(8), 20_000)
scores = training.predict(scaled, pupil.params, P_new)
agreed = rules.agreement(scores, grade_new)
surer = rules.agreement(scores / rules.temperature(scores, grade_new), grade_new)
print(
    f"agreement {100 * float(agreed.rate):.2f} %, mean confidence {100 * float(agreed.confidence):.2f} %,"
)
print(f"with the scores divided by their temperature {100 * float(surer.confidence):.2f} %")
by_grade = zip(grades, agreed.by_class, strict=True)
print("by grade:", ", ".join(f"{name} {100 * float(share):.1f} %" for name, share in by_grade))

# %%
across, up = np.meshgrid(np.linspace(90, 200, 221), np.linspace(50, 125, 151))
grid = jnp.asarray(np.stack([across, up], -1).reshape(-1, 2), jnp.float32)
pictures = [jax.vmap(grade)(grid), jnp.argmax(training.predict(scaled, pupil.params, grid), 1)]
pictures = [np.asarray(p).reshape(across.shape) for p in pictures]
figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True, layout="constrained")
for axis, picture, title in zip(
    axes, pictures, ("the table", "the network; red: where it disagrees"), strict=True
):
    mesh = axis.pcolormesh(
        across, up, picture, cmap=plt.get_cmap("cividis", 6), vmin=-0.5, vmax=5.5
    )
    axis.set(title=title, xlabel="systolic (mmHg)")
odd = pictures[0] != pictures[1]
axes[1].plot(across[odd], up[odd], ".", color=RED, ms=2)
axes[0].set_ylabel("diastolic (mmHg)")
bar = figure.colorbar(mesh, ax=axes, ticks=range(6))
bar.ax.set_yticklabels(grades)
plt.show()

# %% [markdown]
# What it gets wrong lies along the edges of the table. It was less sure of itself than it could be; the temperature,
# a convex problem in one number, mends that. The last cell checks what was claimed.

# %%
assert difference < 1e-6
rise = plain.history.validation_loss[:, -1] - plain.history.validation_loss.min(1)
assert float(rise.mean()) > 0.2  # without dropout the validation loss has risen again
assert float(dropped.history.validation_loss.min(1).mean()) < float(
    plain.history.validation_loss.min(1).mean()
)
assert int(stopped.ending) == training.Ending.EARLY_STOPPED
assert right > 0.96 and right > of_linear
assert error(guessed) < 0.02 * error(straight)
assert float(agreed.rate) > 0.98 and abs(float(surer.rate - surer.confidence)) < 0.01
