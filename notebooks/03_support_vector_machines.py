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
# # Support vector machines
#
# Margins you can see, kernels, five hundred machines in one call, and then what a solver that JAX differentiates
# makes possible: learning the kernel by gradient, and asking which samples a machine would be better off without.
#
# Wants `convexjax[notebooks]`; a minute on two cores. The data are generated here, or are the wines that come with
# scikit-learn.

# %%
import sys

if "google.colab" in sys.modules:
    # !pip install -q "convexjax[notebooks]"
    pass

# %%
import time

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from sklearn.datasets import load_wine, make_circles, make_moons

import convexjax as cj
from convexjax import learn, plot
from convexjax.learn import svm
from convexjax.learn.kernels import RBF, Polynomial

SCALE = 1  # 4 for grids over four times as many samples
BLUE, VERMILION, GREEN = plot.COLOURS[:3]
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## Margins
#
# $$\text{minimise}\quad \tfrac12\|w\|^2 + C \sum_i u_i \qquad\text{subject to}\quad y_i (w^\top x_i + b) \ge 1 - u_i,
# \quad u_i \ge 0$$
#
# Between the dashed lines, where the score is $-1$ and $1$, is the margin, $2 / \|w\|$ wide. Rings mark the support
# vectors: all other samples could be taken away and the machine would stay. `C = inf` is the hard margin.

# %%
rng = np.random.default_rng(3)
y = np.repeat([-1, 1], 30)
X = rng.normal(size=(60, 2)) * 0.8 + 1.55 * y[:, None] * np.array([1.0, 0.6])
fitted = {C: svm.fit(X, y, C=C) for C in (0.02, 1.0, np.inf)}

figure, panels = plt.subplots(1, 3, figsize=(8, 3), layout="constrained", sharey=True)
for axes, (C, model) in zip(panels, fitted.items(), strict=True):
    plot.decision_regions(model, X, y, axes=axes).get_legend().remove()
    axes.set_title(f"C = {C},  {int(model.support.sum())} support vectors", fontsize=9)
    print(f"C = {C:<5} {cj.Status(int(model.status)).name}, duality gap {model.gap:.0e}")
plt.show()

# %% [markdown]
# Turn the label of one sample amid the others, and no line separates the classes any more. The hard margin then is
# `PRIMAL_INFEASIBLE`, with a proof: weights of a point that lies in the convex hulls of both.

# %%
turned = y.copy()
turned[np.argmin(np.linalg.norm(X[:30] - X[:30].mean(0), axis=1))] = 1
none = svm.fit(X, turned, C=np.inf)
common = [none.dual[turned == label] @ X[turned == label] for label in (-1, 1)]
print(
    cj.Status(int(none.status)).name,
    "- one point, as a mean of either class:",
    *np.round(common, 6),
)

# %% [markdown]
# ## Kernels
#
# A kernel $k(x, x')$ in the place of $x^\top x'$ bends the line. `Polynomial`, `RBF`, `Laplacian`, sums, products and
# any function of your own will do.

# %%
moons, side = make_moons(160, noise=0.22, random_state=0)
machines = {
    "linear": svm.fit(moons, side, C=10.0),
    "polynomial, degree 3": svm.fit(moons, side, C=10.0, kernel=Polynomial(3)),
    "RBF, scale 1": svm.fit(moons, side, C=10.0, kernel=RBF(1.0)),
    "RBF, scale 60": svm.fit(moons, side, C=10.0, kernel=RBF(60.0)),
}
figure, panels = plt.subplots(
    2, 2, figsize=(8, 4.5), layout="constrained", sharex=True, sharey=True
)
for axes, (name, model) in zip(panels.flat, machines.items(), strict=True):
    plot.decision_regions(model, moons, side, axes=axes).get_legend().remove()
    share = np.mean(svm.predict(model, moons) == side)
    axes.set_title(f"{name}: {100 * share:.0f} % of the samples right", fontsize=9)
plt.show()

# %% [markdown]
# The last one knows its samples by heart. What is a good scale, and a good $C$? `grid_scores` cross-validates all
# pairs, here 500 machines, in one compiled program.

# %%
many, sides = make_moons(500 * SCALE, noise=0.25, random_state=1)
strengths, scales = np.logspace(-2, 4, 10), np.logspace(-2, 2.5, 10)
folds = learn.validation.stratified_k_fold(sides, 5, jax.random.key(0))
scores = svm.grid_scores(many, sides, strengths, scales, folds)
start = time.perf_counter()
scores = jax.block_until_ready(svm.grid_scores(many, sides, strengths, scales, folds))
print(f"500 machines on {len(many)} samples: {time.perf_counter() - start:.2f} s")
i, j = np.unravel_index(np.argmax(scores), scores.shape)
print(f"best: C = {strengths[i]:.2g}, scale {scales[j]:.2g}, {100 * scores[i, j]:.1f} % right")

figure, axes = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
shown = axes.pcolormesh(scales, strengths, 100 * scores, cmap="cividis", shading="nearest")
axes.plot(scales[j], strengths[i], "*", color="white", markersize=14, markeredgecolor="black")
axes.set(xscale="log", yscale="log", xlabel="scale of the kernel", ylabel="C")
figure.colorbar(shown, label="% right, left out")
plt.show()

# %% [markdown]
# ## Several classes
#
# Three vineyards, told apart by two of the measurements of a wine: one machine for each pair of classes, all in one
# `vmap`, and votes.

# %%
wine = load_wine()
columns = [wine.feature_names.index(name) for name in ("color_intensity", "flavanoids")]
drops = (wine.data[:, columns] - wine.data[:, columns].mean(0)) / wine.data[:, columns].std(0)
three = svm.fit_multiclass(drops, wine.target, C=5.0, kernel=RBF(0.5))
print(f"{100 * np.mean(svm.predict_multiclass(three, drops) == wine.target):.0f} % right")
axes = plot.decision_regions(three, drops, wine.target)
axes.figure.set_size_inches(6, 3.6)
axes.set(xlabel="colour intensity, standardised", ylabel="flavonoids, standardised")
plt.show()

# %% [markdown]
# ## Learning the kernel
#
# Two columns that matter, one class inside the other, and four of noise. One scale for all columns drowns in the noise,
# and a grid over six scales has $10^6$ points. But the loss of left-out samples is a function of the scales, *through
# the solution of the machine*, and `jax.grad` differentiates it.

# %%
noise = np.random.default_rng(5)
circles, label = make_circles(1250, noise=0.12, factor=0.5, random_state=2)
wide = np.hstack([circles, 0.6 * noise.normal(size=(1250, 4))])
train, left_out, test = np.split(np.arange(1250), [100, 250])
sign = np.where(label == 1, 1.0, -1.0)


def machine(logs):
    """One scale for each column, and C."""
    return svm.fit(wide[train], label[train], C=jnp.exp(logs[-1]), kernel=RBF(jnp.exp(logs[:-1])))


def left_out_loss(logs):
    """Smooth: the logistic loss of the scores."""
    scores = svm.decision_function(machine(logs), wide[left_out])
    return jnp.mean(jnp.logaddexp(0, -sign[left_out] * scores))


def right(logs):
    return float(np.mean(svm.predict(machine(logs), wide[test]) == label[test]))


ones = jnp.zeros(7)  # logarithms
tuned, history = learn.validation.tune(left_out_loss, ones, optimizer=optax.adam(0.2), steps=50)
before, after = right(ones), right(tuned)
print(f"1,000 new samples right: {100 * before:.1f} % before, {100 * after:.1f} % after")

# %%
figure, (left, middle) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.plot(history, color=BLUE)
left.set(xlabel="gradient step", ylabel="logistic loss, left out")
names = ["circles 1", "circles 2", "noise 1", "noise 2", "noise 3", "noise 4"]
middle.barh(names, jnp.exp(tuned[:-1]), color=[VERMILION] * 2 + [BLUE] * 4, log=True)
middle.invert_yaxis()
middle.set(xlabel="scale of the column (before: 1)")
plt.show()

# %% [markdown]
# ## Which samples do harm?
#
# A fifth of 150 labels is wrong. The loss of *trusted* samples is a function of the weight of each training sample, and
# its derivative tells what a little more weight would do: where it is positive, the sample does harm. One gradient
# judges all of them.

# %%
points, kind = make_moons(400, noise=0.2, random_state=2)
given, trusted = points[:150], points[150:]
labels = kind[:150].copy()
wrong = np.random.default_rng(6).choice(150, 30, replace=False)
labels[wrong] = 1 - labels[wrong]


@jax.jit
def trusted_loss(weights):
    model = svm.fit(given, labels, C=0.3, kernel=RBF(1.0), sample_weight=weights)
    scores = svm.decision_function(model, trusted)
    return jnp.mean(jnp.logaddexp(0, np.where(kind[150:] == 1, -1.0, 1.0) * scores))


harm = jax.grad(trusted_loss)(jnp.ones(150))
suspects = np.argsort(-harm)[:15]
hits = np.isin(suspects, wrong).sum()
print(f"of the 15 most harmful samples {hits} have the wrong label; by chance it were 3")

# %%
figure, axes = plt.subplots(figsize=(7, 3.4), layout="constrained")
size = 16 + 220 * np.maximum(harm, 0) / harm.max()
for value, colour, marker in ((0, BLUE, "o"), (1, VERMILION, "s")):
    rows = labels == value
    style = {"color": colour, "marker": marker, "alpha": 0.7, "lw": 0}
    axes.scatter(*given[rows].T, s=size[rows], **style)
    axes.scatter([], [], s=40, label=f"labelled {value}", **style)
axes.scatter(*given[wrong].T, marker="x", color="black", s=18, lw=1, label="wrong label")
axes.set(xlabel="$x_1$", ylabel="$x_2$")
axes.set_title("area: harm of a sample", fontsize=10)
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()

# %% [markdown]
# The last cell checks what was claimed.

# %%
solved = cj.Status.SOLVED
assert all(int(model.status) == solved for model in [*fitted.values(), *machines.values()])
hard = fitted[np.inf]
nearest = np.min(y * svm.decision_function(hard, X))  # is on the margin
assert abs(nearest - 1) < 1e-5
assert int(none.status) == cj.Status.PRIMAL_INFEASIBLE and np.ptp(common, axis=0).max() < 1e-6
assert scores.max() > 0.9 and np.all(np.isfinite(scores))
step = 1e-4  # the gradient of a weight against a difference
k = int(suspects[0])
nudged = [trusted_loss(jnp.ones(150).at[k].add(d)) for d in (step, -step)]
assert abs((nudged[0] - nudged[1]) / (2 * step) - harm[k]) < 1e-4 * abs(harm[k])
assert after > before + 0.05 and np.exp(tuned[:2]).min() > 2 * np.exp(tuned[2:6]).max()
assert hits >= 8
