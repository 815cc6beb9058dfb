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
# # Regression
#
# One real set, 442 patients with diabetes, ten measurements, and how far the disease went in a year, seen through every
# kind of linear model: lines and quantiles, several outputs, constraints, sparse paths, cross-validation, and
# penalties that are learnt by gradient. Each fit is a JAX function, so grids, folds and levels are lanes of one
# `vmap`.
#
# Wants `convexjax[notebooks]`; a minute on two cores. The data come with scikit-learn (Efron, Hastie, Johnstone and
# Tibshirani, "Least angle regression", 2004).

# %%
import sys

if "google.colab" in sys.modules:
    # !pip install -q "convexjax[notebooks]"
    pass

# %%
import time
from functools import partial

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_diabetes, load_linnerud

import convexjax as cj
from convexjax import learn, plot
from convexjax.learn import constraints

SCALE = 1  # 10 for grids and paths with ten times as many values
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = plot.COLOURS[:6]
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %%
diabetes = load_diabetes(scaled=False)
raw, y = diabetes.data, diabetes.target
names = ["age", "sex", "BMI", "pressure", "TC", "LDL", "HDL", "TC / HDL", "log TG", "glucose"]
X = (raw - raw.mean(0)) / raw.std(0)  # so that coefficients can be compared
print(X.shape, "progression from", y.min(), "to", y.max())

# %% [markdown]
# ## A line, and the quantiles around it
#
# Least squares draws a line through the mean. With the loss $\rho_\tau(r) = \max(\tau r, (\tau - 1) r)$ of the residual
# $r$ the fit is the $\tau$ quantile instead, a linear program. `vmap` over $\tau$ gives all of them in one call.

# %%
bmi = raw[:, 2:3]
line = learn.linear.fit(bmi, y)


@jax.jit
@jax.vmap
def quantile_line(level):
    return learn.regression.fit(bmi, y, learn.regression.Quantile(level))


levels = jnp.array([0.1, 0.25, 0.5, 0.75, 0.9])
quantiles = quantile_line(levels)
ends = np.array([[17.0], [43.0]])
below = [
    np.mean(y < bmi[:, 0] * b[0] + b0)
    for b, b0 in zip(quantiles.coefficients, quantiles.intercept, strict=True)
]
print("share of patients below each line:", np.round(below, 3))

# %%
figure, axes = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
axes.scatter(bmi, y, s=9, color="0.7")
for i, level in enumerate(levels):
    heights = ends[:, 0] * quantiles.coefficients[i, 0] + quantiles.intercept[i]
    axes.plot(ends, heights, color=BLUE, lw=1 + (level == 0.5))
    axes.annotate(f"{100 * level:.0f} %", (43.3, heights[1]), color=BLUE, va="center", fontsize=9)
axes.plot(ends, learn.linear.predict(line, ends), color=VERMILION, lw=2, label="least squares")
axes.plot([], [], color=BLUE, label="quantiles")
axes.set(xlabel="body mass index [kg/m²]", ylabel="progression after a year", xlim=(17, 45.5))
axes.legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# The lines fan out: for heavier patients not only the typical course is worse, its spread is wider, too, which least
# squares does not tell.
#
# ## Several outputs
#
# Twenty men in a fitness club: weight, waist and pulse from chin-ups, sit-ups and jumps. `y` may have a column for each
# output. `ridge.leave_one_out` has the errors of all twenty fits without one man, for all penalties, in closed form.

# %%
men = load_linnerud()
Z = (men.data - men.data.mean(0)) / men.data.std(0)
body = (men.target - men.target.mean(0)) / men.target.std(0)
penalties = np.logspace(-1, 3, 60 * SCALE)
left_out = learn.ridge.leave_one_out(Z, body, penalties)  # (penalties, men, outputs)
errors = np.mean(left_out**2, 1)
by_hand = []
for i in range(20):
    others = np.arange(20) != i
    model = learn.ridge.fit(Z[others], body[others], penalties[0])
    by_hand.append(body[i] - learn.ridge.predict(model, Z[i : i + 1])[0])
print(f"closed form and twenty fits differ by {np.abs(np.array(by_hand) - left_out[0]).max():.0e}")

# %%
figure, axes = plt.subplots(figsize=(6.5, 3.2), layout="constrained")
for output, colour, style in zip(
    range(3), (BLUE, VERMILION, GREEN), ("-", "--", "-."), strict=True
):
    best = np.argmin(errors[:, output])
    axes.plot(
        penalties,
        errors[:, output],
        style,
        color=colour,
        label=["weight", "waist", "pulse"][output],
    )
    axes.plot(penalties[best], errors[best, output], "o", color=colour)
axes.axhline((20 / 19) ** 2, color="0.5", lw=0.8)
axes.annotate("the mean of the others", (0.1, 1.115), color="0.4", fontsize=9)
axes.set(xscale="log", xlabel="penalty of ridge", ylabel="squared error, left out")
axes.legend(frameon=False, loc="upper right")
plt.show()

# %% [markdown]
# Waist and weight can be told from exercise, the pulse cannot: its best model is the mean.
#
# ## Constraints
#
# Back to the patients. The serum measurements TC, LDL, HDL and their quotient say nearly the same, so least squares
# gives them large coefficients of opposite signs. What is known beforehand goes in as a constraint, any convex one.
# Here each coefficient gets the sign of its own correlation with the progression, or the sum of their squares at most
# 1,000.

# %%
correlation = np.sign(X.T @ (y - y.mean()))
signs = constraints.Bounds(
    np.where(correlation > 0, 0, -np.inf), np.where(correlation > 0, np.inf, 0)
)
short = constraints.Norm(np.eye(10), d=np.sqrt(1000.0))
fits = {
    "least squares": learn.linear.fit(X, y),
    "signs of the correlations": learn.regression.fit(X, y, constraints=signs),
    "squares at most 1,000": learn.regression.fit(X, y, constraints=short),
}
mse = {
    name: float(np.mean((y - learn.linear.predict(model, X)) ** 2)) for name, model in fits.items()
}
for name, model in fits.items():
    print(
        f"{name:26} {cj.Status(int(model.status)).name:7} mean square of residuals {mse[name]:.0f}"
    )

# %%
figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
for i, (name, colour) in enumerate(zip(fits, (BLUE, VERMILION, GREEN), strict=True)):
    axes.bar(
        np.arange(10) + 0.27 * (i - 1), fits[name].coefficients, 0.25, color=colour, label=name
    )
axes.axhline(0, color="black", lw=0.8)
axes.set_xticks(range(10), names, fontsize=9)
axes.set_ylabel("coefficient")
axes.legend(frameon=False, loc="lower right")
plt.show()

# %% [markdown]
# The signs cost 5 % of accuracy on the data and buy a model that a doctor can read.
#
# Shapes are constraints, too. Below, the progression is a step function of body mass index, free or increasing
# (isotonic regression): coefficients of 25 steps with $\beta_1 \le \dots \le \beta_{25}$.

# %%
edges = np.quantile(bmi, np.linspace(0, 1, 26))
steps = np.eye(25)[np.clip(np.searchsorted(edges, bmi[:, 0], side="right") - 1, 0, 24)]
free = learn.linear.fit(steps, y, intercept=False)
rising = learn.regression.fit(steps, y, constraints=constraints.increasing(25), intercept=False)
figure, axes = plt.subplots(figsize=(7.5, 3.2), layout="constrained")
axes.scatter(bmi, y, s=9, color="0.8")
axes.stairs(free.coefficients, edges, color=ORANGE, lw=1.5, baseline=None, label="free steps")
axes.stairs(rising.coefficients, edges, color=BLUE, lw=2.5, baseline=None, label="increasing steps")
axes.set(xlabel="body mass index [kg/m²]", ylabel="progression after a year")
axes.legend(frameon=False, loc="upper left")
plt.show()

# %% [markdown]
# ## The path of the lasso, and where to stop
#
# $$\text{minimise}\quad \tfrac{1}{2n} \|y - X\beta - \beta_0\|^2 + \lambda \|\beta\|_1$$
#
# A large $\lambda$ leaves no coefficient; as it falls they enter one by one. `path` fits all values together, each with
# its duality gap, a proof of how good it is. `cross_validate` makes the folds lanes of the same program.

# %%
n = 100 * SCALE
largest = np.abs(X.T @ (y - y.mean())).max() / len(y)  # no coefficient from here on
grid = largest * np.logspace(0, -3.5, n)
path = learn.elastic_net.path(X, y, grid)
folds = learn.validation.k_fold(len(y), 10, jax.random.key(0))
loss = partial(learn.validation.squared_error, learn.linear.predict)
validate = partial(learn.validation.cross_validate, learn.elastic_net.path, loss=loss, path=True)
found = jax.block_until_ready(validate(X, y, grid, folds))
start = time.perf_counter()
found = jax.block_until_ready(validate(X, y, grid, folds))
print(f"10 folds x {n} penalties: {1e3 * (time.perf_counter() - start):.0f} ms")
print(f"largest duality gap of the path: {path.gap.max():.0e}")

# The simplest model whose loss is not worse by more than the standard error of the best one.
best = int(found.best)
limit = found.mean[best] + found.deviation[best] / np.sqrt(10)
simple = int(np.argmax(found.mean <= limit))
kept = [name for name, value in zip(names, path.coefficients[simple], strict=True) if value != 0]
print("coefficients that are left:", ", ".join(kept))

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.6), layout="constrained")
plot.validation_curve(grid, found, axes=left)
left.axvline(grid[simple], color="0.4", linestyle="--")
left.set(xlabel=r"penalty $\lambda$", ylabel="squared error, left out")
left.annotate(
    "best", (grid[best], 5600), xytext=(4, 0), textcoords="offset points", fontsize=9, color=BLUE
)
left.annotate(
    "simplest", (grid[simple], 5600), xytext=(4, 0), textcoords="offset points", fontsize=9
)
plot.regularisation_path(grid, path, names, axes=right)
right.axvline(grid[simple], color="0.4", linestyle="--")
right.set_xlabel(r"penalty $\lambda$")
right.get_legend().prop.set_size(8)
plt.show()

# %% [markdown]
# ## Trade-offs
#
# How much accuracy costs how much size? Solving for many weights of the two objectives draws the curve of best
# compromises: nothing lies to the left of and below it. For the size $\|\beta\|_1$ this curve is the lasso's; the
# models of ridge lie above it.

# %%
error = lambda model: jnp.mean((y - learn.linear.predict(model, X)) ** 2)
size = lambda model: jnp.abs(model.coefficients).sum()
curves = {
    "lasso": learn.validation.trade_off(
        partial(learn.elastic_net.fit, X, y), size, error, grid[::2]
    ),
    "ridge": learn.validation.trade_off(
        partial(learn.ridge.fit, X, y), size, error, np.logspace(-1, 5, 50)
    ),
}
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for (name, (sizes, squares, _)), marker in zip(curves.items(), "os", strict=True):
    plot.trade_off(sizes, squares, axes=axes, label=name, marker=marker, markersize=3.5)
axes.set(xlabel=r"size $\|\beta\|_1$", ylabel="mean squared error", xlim=(0, 130))
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Penalties by gradient
#
# A grid over ten penalties, one for each column, is out of reach, and not needed: the leave-one-out error is a
# differentiable function of them. Scaling column $j$ by $e^{s_j}$ is the same as giving it the penalty $e^{-2 s_j}$,
# and `tune` follows the gradient. A third of the patients is kept for the final judgement.

# %%
train, test = learn.validation.train_test_split(jax.random.key(1), len(y), 1 / 3)


def left_out_error(s):
    return jnp.mean(learn.ridge.leave_one_out(X[train] * jnp.exp(s), y[train], jnp.ones(1)) ** 2)


tuned, history = learn.validation.tune(left_out_error, jnp.zeros(10), steps=300)


def test_error(s):
    model = learn.ridge.fit(X[train] * jnp.exp(s), y[train], 1.0)
    return float(np.mean((y[test] - learn.ridge.predict(model, X[test] * jnp.exp(s))) ** 2))


one = np.linspace(-5, 1, 60)  # one penalty for all, the best of a grid
shared = one[np.argmin([left_out_error(s) for s in jnp.asarray(one)])]
rows = {
    "one penalty of 1": jnp.zeros(10),
    "one, tuned": jnp.full(10, shared),
    "one each, tuned": tuned,
}
print("                    left out   test")
for name, s in rows.items():
    print(f"{name:18} {left_out_error(s):9.0f} {test_error(s):7.0f}")

# %%
figure, (left, right) = plt.subplots(
    1, 2, figsize=(8, 3.2), layout="constrained", width_ratios=(1, 1.3)
)
left.plot(history, color=BLUE)
left.set(xlabel="gradient step", ylabel="squared error, left out")
right.barh(names, np.exp(-2 * tuned), color=SKY, log=True)
right.invert_yaxis()
right.set(xlabel="penalty of the column")
plt.show()

# %% [markdown]
# Large penalties are columns that the model is better off without; the gradient found them without a search over
# subsets.
#
# The last cell checks what was claimed.

# %%
solved = cj.Status.SOLVED
assert np.all(quantiles.status == solved) and np.abs(np.array(below) - levels).max() < 0.01
assert np.abs(np.array(by_hand) - left_out[0]).max() < 1e-10
assert all(int(model.status) == solved for model in fits.values())
assert np.all(fits["signs of the correlations"].coefficients * correlation > -1e-5)
assert np.sum(fits["squares at most 1,000"].coefficients ** 2) < 1000 * (1 + 1e-6)
assert 1.03 < mse["signs of the correlations"] / mse["least squares"] < 1.07
assert int(rising.status) == solved and np.diff(rising.coefficients).min() > -1e-5
assert path.gap.max() < 1e-8 and np.abs(path.coefficients[0]).max() < 1e-9
assert found.mean[simple] <= limit and np.count_nonzero(path.coefficients[simple]) < 10
lasso, ridge = (np.array(curves[name][:2]) for name in ("lasso", "ridge"))
order = np.argsort(lasso[0])  # ridge is nowhere below the curve of the lasso
assert np.all(ridge[1] > np.interp(ridge[0], lasso[0][order], lasso[1][order]) * (1 - 1e-3))
assert left_out_error(tuned) < left_out_error(jnp.full(10, shared))
