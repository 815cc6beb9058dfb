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
# # Geometric programs: sizing circuits
#
# Delays, areas and powers of circuits are sums of products of powers of sizes, *posynomials*, and so are costs and
# limits all over engineering. In logarithms such problems are convex: the optimum is global, and comes with the
# sensitivity of every limit. Here a chain of gates and a tree of wires are sized, a thousand designs in one call, and a
# program with 3,000 variables and 1,000 constraints is solved while you wait.
#
# Wants `convexjax[notebooks]`; a minute on two cores. The models follow Boyd, Kim, Vandenberghe and Hassibi, "A
# tutorial on geometric programming" (2007).

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
import scipy.sparse as sparse
from matplotlib.colors import BoundaryNorm

import convexjax as cj
from convexjax import gp, plot

SCALE = 1  # 2 for a program of 6,000 variables and 2,000 constraints at the end
BLUE, VERMILION = plot.COLOURS[:2]
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## A chain of gates
#
# Eight inverters drive a load two hundred times the input of the first one. Gate $i$ has size $x_i \ge 1$: its delay is
# $1 + x_{i+1} / x_i$ (its own capacitance, and that of the next one over its strength), its area grows with $x_i$, and
# so does its power, times how often it switches. Write it down with Python's operators:

# %%
gates, load = 8, 200.0
activity = np.geomspace(1.0, 0.1, gates)  # glitches die out along the chain

x = gp.variable("x", gates)
area, power = gp.parameters("area power")
delay = gates + sum(x[i + 1] / x[i] for i in range(gates - 1)) + load / x[gates - 1]
chain = gp.minimize(
    delay,
    [
        x[0] == 1,
        x[1:] >= 1,
        (x.sum() <= area).named("area"),
        ((activity * x).sum() <= power).named("power"),
    ],
)
size = gp.compile(chain)  # a JAX function of the parameters
print(size(area=100.0, power=16.0))

# %% [markdown]
# The summary ends with the prices: one percent more power makes the chain faster by so many percent; what is not listed
# is not tight. With more than enough of both, theory knows the answer: every gate has the same effort, $x_i =
# 200^{i/8}$.

# %%
free = size(area=1e4, power=1e4)
print("sizes ", free["x"].round(3))
print("theory", (load ** (np.arange(gates) / gates)).round(3))

# %% [markdown]
# Now all compromises between area, power and delay: a thousand designs, one `vmap`. Where the lines are upright, power
# is plentiful, where they are level, area is.

# %%
areas, powers = jnp.geomspace(12, 300, 40), jnp.geomspace(4, 40, 25)
designs = jax.jit(jax.vmap(jax.vmap(lambda a, p: size(area=a, power=p), (0, None)), (None, 0)))
surface = jax.block_until_ready(designs(areas, powers))
start = time.perf_counter()
surface = jax.block_until_ready(designs(areas, powers))
print(surface, f"in {1e3 * (time.perf_counter() - start):.0f} ms")

figure, (left, right) = plt.subplots(
    1, 2, figsize=(8, 3.5), layout="constrained", width_ratios=(1.25, 1)
)
levels = [24, 25, 27, 30, 35, 42, 55, 80]
style = {"cmap": "cividis_r", "norm": BoundaryNorm(levels, 256, extend="both"), "extend": "both"}
shown = left.contourf(areas, powers, surface.objective, levels, **style)
left.contour(areas, powers, surface.objective, levels, colors="white", linewidths=0.6)
left.set(xscale="log", yscale="log", xlabel="area", ylabel="power")
left.set_xticks([20, 50, 100, 200], ["20", "50", "100", "200"])
left.set_yticks([5, 10, 20, 40], ["5", "10", "20", "40"])
left.minorticks_off()
figure.colorbar(shown, ax=left, label="delay", ticks=levels)
for limit, share in ((25.0, 0.35), (50.0, 0.55), (100.0, 0.75), (1e4, 1.0)):
    right.semilogy(
        range(1, 9),
        size(area=limit, power=1e4)["x"],
        marker="o",
        ms=4,
        color=plt.cm.Blues(share),
        label="no limit" if limit == 1e4 else f"area {limit:.0f}",
    )
right.set(xlabel="gate", ylabel="size", xticks=range(1, 9))
right.legend(frameon=False, fontsize=9)
plt.show()

# %% [markdown]
# Sensitivities are derivatives in logarithms, and JAX agrees:

# %%
logs = jax.jit(jax.grad(lambda v: jnp.log(size(area=jnp.exp(v[0]), power=jnp.exp(v[1])).objective)))
tight = size(area=60.0, power=10.0)
gradient = logs(jnp.log(jnp.array([60.0, 10.0])))
print("sensitivities", [round(float(tight.sensitivities[name]), 6) for name in ("area", "power")])
print("-gradient    ", (-gradient).round(6))

# %% [markdown]
# ## A tree of wires
#
# A clock signal runs through a tree of 15 segments to eight loads. A segment of length $l$ and width $w$ has the
# resistance $l / w$ and the capacitance $l (w + 0.2)$: wide wires carry well, but are a burden for those before them.
# The Elmore delay of a load sums, along its path, each resistance times all capacitances behind it, a posynomial of all
# widths. The signal is as slow as its slowest load.

# %%
parent = [-1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]
leaves = range(7, 15)
length = np.array([1.0, 1.2, 1.2, 0.8, 0.8, 0.8, 0.8, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
driver = 0.3  # its resistance

w, D = gp.variable("w", 15), gp.variable("D")
metal, loads = gp.parameter("metal"), gp.parameter("loads", 8)
capacitance = [length[i] * (w[i] + 0.2) for i in range(15)]
behind = [0.5 * capacitance[i] + (loads[i - 7] if i in leaves else 0) for i in range(15)]
for i in reversed(range(1, 15)):  # what comes after segment i hangs on its parent, too
    behind[parent[i]] = behind[parent[i]] + behind[i] + 0.5 * capacitance[i]
arrival = []
for i in range(15):
    before = arrival[parent[i]] if i else driver * (behind[0] + 0.5 * capacitance[0])
    arrival.append(before + length[i] / w[i] * behind[i])
tree = gp.compile(
    gp.minimize(
        D,
        [arrival[i] <= D for i in leaves]
        + [w >= 0.1, w <= 10, ((length * w).sum() <= metal).named("metal")],
    )
)

heavy = jnp.full(8, 0.5).at[2].set(2.0)  # the third load is four times the others
cheap, rich = (tree(metal=m, loads=heavy).require_solved() for m in (4.0, 14.0))

# %%
place = np.zeros((15, 2, 2))  # start and end of each segment
place[0] = [(0, 1.6), (0, 1)]
for i in range(1, 15):
    depth = int(np.log2(i + 1))
    foot = place[parent[i], 1]
    across, down = 0.5 ** (depth - 1) * (-1 if i % 2 else 1) * 1.9, length[i] if depth > 1 else 0
    place[i] = [foot, (foot[0] + across, foot[1] - down)]

figure, panels = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained", sharey=True)
for axes, result, amount in zip(panels, (cheap, rich), (4, 14), strict=True):
    for i in range(15):
        axes.plot(*place[i].T, color=BLUE, lw=2.5 * result["w"][i], solid_capstyle="round")
    for i in leaves:
        axes.plot(*place[i, 1], "o", color=VERMILION, ms=6 * np.sqrt(heavy[i - 7] / 0.5), zorder=3)
    axes.set_title(f"metal {amount}: delay {result['D']:.2f}", fontsize=10)
    axes.axis("off")
plt.show()

# %% [markdown]
# Widths taper towards the loads, and the way to the heavy one is built wide. All of the curve of delay against metal
# takes one call.

# %%
amounts = jnp.geomspace(2.5, 40, 100)
along = jax.jit(jax.vmap(lambda m: tree(metal=m, loads=heavy)))
curve = jax.block_until_ready(along(amounts))
start = time.perf_counter()
curve = jax.block_until_ready(along(amounts))
print(curve, f"in {1e3 * (time.perf_counter() - start):.0f} ms")

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.semilogx(amounts, curve.objective, color=BLUE)
for amount, result in ((4, cheap), (14, rich)):
    left.plot(amount, result["D"], "o", color=VERMILION)
left.set(xlabel="metal", ylabel="delay")
to_heavy, to_last = (0, 1, 4, 9), (2, 6, 14)
for path, colour, style in ((to_heavy, VERMILION, "-"), (to_last, BLUE, "--")):
    right.loglog(amounts, curve["w"][:, path], style, color=colour)
    right.plot(
        [], [], style, color=colour, label="to the " + ("heavy" if 9 in path else "last") + " load"
    )
right.set(xlabel="metal", ylabel="widths along the way")
right.legend(frameon=False, fontsize=9)
for axes in (left, right):
    axes.set_xticks([3, 5, 10, 20, 40], ["3", "5", "10", "20", "40"])
    axes.minorticks_off()
plt.show()

# %% [markdown]
# More metal than 18 does not help: wider wires would only be a heavier burden. And what does a load cost at its place?
# The derivative of the optimal delay with respect to each of them says: nearly the same everywhere, because the best
# widths already make up for the way.

# %%
price = jax.jit(jax.grad(lambda loads: tree(metal=8.0, loads=loads).objective))(heavy)
print(price.round(3))

# %% [markdown]
# ## 3,000 variables, 1,000 constraints
#
# Larger programs are given as arrays: a row of exponents for each term, sparse if you like, the logarithms of the
# coefficients, and to which posynomial each term belongs. The program below minimises $\sum_j (x_j + 1/x_j)$ subject to
# 1,000 random posynomials of five terms, each a product of powers of three variables, made such that a feasible
# point is known.

# %%
rng = np.random.default_rng(0)
n, m = 3000 * SCALE, 1000 * SCALE
columns = np.concatenate([rng.choice(n, 3, replace=False) for _ in range(5 * m)])
E = sparse.csr_matrix(
    (rng.normal(size=15 * m), (np.repeat(np.arange(5 * m), 3), columns)), (5 * m, n)
)
feasible = rng.normal(size=n)  # of log x: each constraint has there a value between exp(-1/2) and 1
shares = rng.dirichlet(np.ones(5), m).ravel()
b = np.log(shares) - np.repeat(rng.uniform(0, 0.5, m), 5) - E @ feasible
exponents = sparse.vstack([sparse.eye(n), -sparse.eye(n), E]).tocsr()
coefficients = np.concatenate([np.zeros(2 * n), b])
posynomial = np.concatenate([np.zeros(2 * n, int), np.repeat(np.arange(1, m + 1), 5)])

start = time.perf_counter()
first = cj.Options(max_iters=1)  # new numbers, the same program: only to compile
jax.block_until_ready(cj.solve_gp(exponents, coefficients, posynomial, options=first))
print(f"compiled in {time.perf_counter() - start:.1f} s")
start = time.perf_counter()
large = jax.block_until_ready(cj.solve_gp(exponents, coefficients, posynomial))
print(f"solved in {time.perf_counter() - start:.1f} s,", end=" ")
print(f"{cj.Status(int(large.status)).name} after {int(large.info.num_iters)} iterations")

# %% [markdown]
# Do not take the status on trust: the optimality conditions in plain NumPy. With $F_i(y) = \log p_i(e^y)$ they are
# $\nabla F_0 + \sum_i z_i \nabla F_i = 0$, $z \ge 0$, $F \le 0$ and $z_i F_i = 0$.

# %%
terms = np.exp(exponents @ np.asarray(large.log_x) + coefficients)
values = np.bincount(posynomial, terms)
multipliers = np.concatenate([[1.0], large.z])
balance = exponents.T @ (multipliers[posynomial] * terms / values[posynomial])
F = np.log(values[1:])
print(f"violation {max(F.max(), 0):.0e}, gradient {np.abs(balance).max():.0e},", end=" ")
print(f"complementarity {np.abs(large.z * F).max():.0e}, smallest multiplier {large.z.min():.0e}")
print(f"{int((large.z > 1e-6).sum())} of {m} constraints are tight")

# %% [markdown]
# The last cell checks what was claimed.

# %%
solved = cj.Status.SOLVED
assert np.abs(free["x"] / load ** (np.arange(gates) / gates) - 1).max() < 1e-5
assert np.all(surface.status == solved) and np.all(curve.status == solved)
assert (
    np.diff(surface.objective, axis=0).max() < 1e-5
    and np.diff(surface.objective, axis=1).max() < 1e-5
)
assert (
    np.abs(gradient + jnp.array([tight.sensitivities["area"], tight.sensitivities["power"]])).max()
    < 1e-6
)
assert np.diff(curve.objective).max() < 1e-5 and price.min() > 0
assert np.ptp(price) < 0.05 * price.mean()
assert int(large.status) == solved
assert max(F.max(), np.abs(balance).max(), np.abs(large.z * F).max(), -large.z.min()) < 1e-6
