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
# # Networks of flow
#
# Routes, bottlenecks, markets: much of what flows is a linear program, and its dual variables are the answer to the
# next question: how far is it from here, where is the bottleneck, what is one more unit worth. Here such programs
# are solved alone, by the hundred in one call, and inside a model that learns to predict what matters to a decision.
#
# Wants `convexjax[notebooks]`; about half a minute on two cores.

# %%
import sys

if "google.colab" in sys.modules:
    # !pip install -q "convexjax[notebooks]"
    pass

# %%
import heapq
import time

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from matplotlib.collections import LineCollection

import convexjax as cj
from convexjax import learn
from convexjax.learn import losses, training

SCALE = 1  # 4 for a town of four times as many streets
BLUE, ORANGE, GREEN, RED, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#999999",
)  # Okabe and Ito's colours
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## A town
#
# Crossings on a bent grid, streets between neighbours, one arc for each direction. The network is its *incidence
# matrix* $N$: the column of the arc from $i$ to $j$ has $+1$ in row $i$ and $-1$ in row $j$, so that $Nx$ is what
# leaves each crossing minus what enters it.

# %%
rng = np.random.default_rng(7)
columns, rows = 9, round(6 * SCALE)
place = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), -1).reshape(-1, 2) + rng.uniform(
    -0.3, 0.3, (columns * rows, 2)
)
number = np.arange(columns * rows).reshape(rows, columns)
streets = [
    *zip(number[:, :-1].ravel(), number[:, 1:].ravel(), strict=True),
    *zip(number[:-1].ravel(), number[1:].ravel(), strict=True),
    *zip(number[:-1, :-1].ravel(), number[1:, 1:].ravel(), strict=True),
]
start, goal = number[0, 0], number[-1, -1]
streets = np.array([s for s in streets if rng.uniform() < 0.8 or {start, goal} & set(s)])
arcs = np.concatenate([streets, streets[:, ::-1]])
speed = np.tile(rng.choice([0.5, 1.0, 1.5], len(streets)), 2)  # km a minute
minutes = np.linalg.norm(place[arcs[:, 0]] - place[arcs[:, 1]], axis=1) / speed

N = np.zeros((len(place), len(arcs)))
N[arcs[:, 0], np.arange(len(arcs))] = 1
N[arcs[:, 1], np.arange(len(arcs))] = -1
print(f"{len(place)} crossings, {len(arcs)} arcs")

# %% [markdown]
# ## The shortest path
#
# One unit leaves the start and arrives at the goal, at the least cost:
#
# $$\text{minimise}\; c^\top x \quad\text{subject to}\quad Nx = e_\text{start} - e_\text{goal},\; x \ge 0 .$$
#
# Nothing says that $x$ has to be 0 or 1; linear programs on networks have such solutions by themselves. The duals $y$
# of the equations are potentials: $-y_i$ is the distance of $i$ from the goal, for all crossings that somebody leaves
# from. So there are two programs below, one trip from the start and one from everywhere. (One row of $N$, that of the
# goal, follows from the others and is left out.)

# %%
keep = np.arange(len(place)) != goal
supply = np.zeros(len(place))
supply[start] = 1
route = cj.solve_lp(minutes, A=N[keep], b=supply[keep], lb=0.0).require_solved()
everybody = cj.solve_lp(minutes, A=N[keep], b=np.ones(keep.sum()), lb=0.0).require_solved()
distance = np.zeros(len(place))
distance[keep] = -everybody.y


def dijkstra():
    """Distances to the goal, the classical way."""
    found, queue = {}, [(0.0, goal)]
    while queue:
        d, node = heapq.heappop(queue)
        if node not in found:
            found[node] = d
            for arc in np.flatnonzero(arcs[:, 1] == node):
                heapq.heappush(queue, (d + minutes[arc], arcs[arc, 0]))
    return np.array([found.get(i, np.inf) for i in range(len(place))])


reference = dijkstra()
on_path = np.asarray(route.x) > 0.5
print(f"{float(route.objective):.6f} minutes by the linear program")
print(f"{reference[start]:.6f} minutes by Dijkstra's algorithm")


# %%
def draw(axes, widths, colours, nodes=None, **kwargs):
    """Arcs as lines of the given widths and colours, crossings as points."""
    ends = place[arcs]
    side = ends[:, 1] - ends[:, 0]
    side = (
        0.05 * np.stack([side[:, 1], -side[:, 0]], 1) / np.linalg.norm(side, axis=1)[:, None]
    )  # keep to the right
    axes.add_collection(LineCollection(place[streets], colors="#dddddd", linewidths=1))
    axes.add_collection(
        LineCollection(ends + side[:, None], colors=colours, linewidths=widths, capstyle="round")
    )
    dots = axes.scatter(
        *place.T,
        c="white" if nodes is None else nodes,
        s=45,
        edgecolors="black",
        zorder=3,
        **kwargs,
    )
    axes.set(aspect="equal", xlabel="km", ylabel="km", xlim=(-1.6, 9.6))
    for node, word in ((start, "start"), (goal, "goal")):
        offset = (-10, -4) if node == start else (10, -4)
        axes.annotate(
            word,
            place[node],
            offset,
            textcoords="offset points",
            ha="right" if node == start else "left",
        )
    return dots


figure, axes = plt.subplots(figsize=(8, 4.5))
dots = draw(axes, np.where(on_path, 5, 0), ORANGE, distance, cmap="viridis_r")
fastest = float(route.objective)
axes.set_title(f"The fastest way takes {fastest:.1f} minutes; the duals are everybody's distances")
figure.colorbar(dots, label="minutes to the goal", shrink=0.85)
figure.tight_layout()

# %% [markdown]
# The time of the trip is a function of all speeds, and `jax.grad` of it is the path itself (the envelope theorem): a
# minute more on a street of the path is a minute more of travel, elsewhere it costs nothing.

# %%
trip = lambda minutes: cj.solve_lp(minutes, A=N[keep], b=supply[keep], lb=0.0).objective
slope = np.asarray(jax.grad(trip)(jnp.asarray(minutes)))
print(f"largest difference of gradient and path: {np.abs(slope - route.x).max():.1e}")

# %% [markdown]
# ## The largest flow, and what limits it
#
# Now each arc carries at most $u$ cars, and as many as possible want to get from start to goal: maximise $F$ subject to
# $Nx = F\,(e_\text{start} - e_\text{goal})$, $0 \le x \le u$. The duals of the capacities are 1 on the arcs of a
# *minimum cut* and 0 elsewhere: streets whose capacities add up to the flow, a proof that no more can pass.

# %%
capacity = np.tile(rng.uniform(5, 20, len(streets)).round(), 2) * np.where(speed > 1, 2, 1)
capacity[np.isin(arcs, (start, goal)).any(1)] = 40  # cars a minute
equations = np.column_stack([N, -supply])[keep]  # the last variable is F
cost = np.append(1e-4 * minutes, -1.0)  # among the largest flows that with the least driving


def largest_flow(capacity):
    return cj.solve_lp(
        cost, A=equations, b=np.zeros(keep.sum()), lb=0.0, ub=jnp.append(capacity, jnp.inf)
    )


flow = jax.jit(largest_flow)(jnp.asarray(capacity)).require_solved()
flows, cut = np.asarray(flow.x[:-1]), np.asarray(flow.z_ub[:-1]) > 0.5
largest = float(flow.x[-1])
print(f"flow {largest:.4f} cars a minute, capacity of the cut {capacity[cut].sum():.4f}")

# %% [markdown]
# Which street would be missed the most? Close each one (both directions), all in one call with `vmap`: as many linear
# programs as there are streets.

# %%
closed = np.ones((len(streets), len(arcs)))
closed[np.arange(len(streets)), np.arange(len(streets))] = 0
closed[np.arange(len(streets)), np.arange(len(streets)) + len(streets)] = 0
close_each = jax.jit(jax.vmap(largest_flow))
jax.block_until_ready(close_each(closed * capacity))
begin = time.perf_counter()
without = jax.block_until_ready(close_each(closed * capacity)).require_solved()
seconds = time.perf_counter() - begin
lost = largest - np.asarray(without.x[:, -1])
print(f"{len(streets)} linear programs of {len(arcs) + 1} variables: {seconds:.2f} s, all solved")

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.3), sharey=True)
draw(left, flows / 5, np.where(cut, RED, BLUE))
left.set_title(f"Largest flow: {largest:.0f} cars a minute.\nRed: the minimum cut", fontsize=10)
draw(right, np.tile(np.clip(lost, 0, None), 2) / 2.5, GREEN)
right.set_title("Width: what is lost when\nthe street is closed", fontsize=10)
right.set_ylabel("")
figure.tight_layout()

# %% [markdown]
# ## A market: transport, and prices
#
# Six regions trade electricity over eleven lines. Each hour a program chooses what each plant produces and each line
# carries at the least cost,
#
# $$\text{minimise}\; c^\top g \quad\text{subject to}\quad Mg - Nf = d,\; 0 \le g \le \bar g,\; |f| \le \bar f,$$
#
# and the dual of a region's balance is the price there. The 24 hours of a day, with their own demand, wind and sun, are
# one batch.

# %%
regions = ["North", "Coast", "West", "Centre", "East", "South"]
# region, kind, capacity in GW, cost in € a MWh
plants = [
    (0, "wind", 9, 0),
    (1, "wind", 7, 0),
    (5, "sun", 12, 0),
    (4, "sun", 5, 0),
    (2, "nuclear", 6, 12),
    (3, "coal", 6, 62),
    (4, "coal", 5, 58),
    (1, "gas", 4, 85),
    (3, "gas", 6, 92),
    (5, "gas", 6, 97),
]
plants += [(i, "demand not met", 50, 400) for i in range(6)]
lines = np.array(
    [[0, 1], [0, 3], [1, 2], [1, 3], [2, 3], [2, 5], [3, 4], [3, 5], [4, 5], [0, 4], [1, 4]]
)
limit = np.array([1.5, 2.5, 1.0, 1.5, 2.0, 1.0, 2.0, 2.0, 1.0, 0.5, 0.5])  # GW
home, kinds = np.array([p[0] for p in plants]), np.array([p[1] for p in plants])
rated, price_of = np.array([p[2] for p in plants], float), np.array([p[3] for p in plants], float)

hours = np.arange(24)
sun = np.clip(np.sin((hours - 6) / 12 * np.pi), 0, None) ** 1.5
wind = 0.55 + 0.35 * np.cos((hours - 3) / 24 * 2 * np.pi)
available = (
    np.where(kinds == "sun", sun[:, None], np.where(kinds == "wind", wind[:, None], 1.0)) * rated
)
daily = (
    0.75 + 0.2 * np.exp(-(((hours - 8.5) / 2.5) ** 2)) + 0.3 * np.exp(-(((hours - 19) / 2.5) ** 2))
)
demand = daily[:, None] * np.array([3.0, 5.0, 5.0, 8.0, 6.0, 8.0])

of_plants = (home == np.arange(6)[:, None]).astype(float)
of_lines = np.zeros((6, len(lines)))
of_lines[lines[:, 0], np.arange(len(lines))] = -1
of_lines[lines[:, 1], np.arange(len(lines))] = 1
balance = np.hstack([of_plants, of_lines])
costs = np.concatenate([price_of, np.zeros(len(lines))])


def dispatch(demand, available, limit):
    lower, upper = (
        jnp.concatenate([jnp.zeros(len(plants)), -limit]),
        jnp.concatenate([available, limit]),
    )
    return cj.solve_lp(costs, A=balance, b=demand, lb=lower, ub=upper)


day = jax.jit(jax.vmap(dispatch, (0, 0, None)))(demand, available, limit).require_solved()
prices = -np.asarray(day.y)  # f + y'(Ax - b): one more unit of demand b costs -y
produced = np.asarray(day.x[:, : len(plants)])

figure, (top, bottom) = plt.subplots(2, 1, figsize=(8, 4.5), sharex=True, height_ratios=(1.2, 1))
order = ["nuclear", "wind", "sun", "coal", "gas"]
stack = [produced[:, kinds == kind].sum(1) for kind in order]
top.stackplot(hours, stack, labels=order, colors=["#CC79A7", BLUE, "#F0E442", GREY, RED], alpha=0.9)
top.plot(hours, demand.sum(1), "k--", lw=1.5, label="demand")
top.set(
    ylabel="GW",
    title="24 linear programs in one call: production, and the prices that the duals tell",
)
top.legend(loc="center left", bbox_to_anchor=(1.005, 0.5), frameon=False, fontsize=8, reverse=True)
mesh = bottom.pcolormesh(hours, np.arange(6), prices.T, cmap="cividis", shading="nearest")
bottom.set(yticks=range(6), yticklabels=regions, xlabel="hour of the day")
bottom.invert_yaxis()
figure.tight_layout()
bar = bottom.inset_axes([1.015, 0.0, 0.02, 1.0])
figure.colorbar(mesh, cax=bar, label="€ a MWh")
plt.show()

# %% [markdown]
# Prices split where a line is full. What would a stronger line save? That is `jax.grad` of the day's cost with respect
# to the limits; building the best line a little larger and solving the day again agrees.

# %%
cost_of_day = jax.jit(
    lambda limit: jnp.sum(jax.vmap(dispatch, (0, 0, None))(demand, available, limit).objective)
)
worth = -np.asarray(jax.grad(cost_of_day)(jnp.asarray(limit)))
best = int(worth.argmax())
more = 0.01 * (np.arange(len(lines)) == best)
saved = float(cost_of_day(limit) - cost_of_day(limit + more)) / 0.01
for k in np.argsort(-worth)[:3]:
    between = " - ".join(regions[i] for i in lines[k])
    print(f"{between:16} {worth[k]:4.0f} thousand € a GW and day")
print(f"the first one, by solving again: {saved:.0f}")

# %% [markdown]
# ## Learning to decide
#
# Mostly the costs of a network are not known but predicted. A model that fits them best in the mean is not the one
# whose *decisions* are best. Below, five features tell something about the times on the 40 streets of a 5 x 5 grid
# (Elmachtoub and Grigas, "Smart predict, then optimize", 2022: costs are polynomials of degree 6, the model is linear).
# `layers.decision_loss` measures a prediction by the path it leads to; its derivative comes from one more path.

# %%
side, features, degree = 5, 5, 6
number = np.arange(side**2).reshape(side, side)
tails = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
heads = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
grid = np.zeros((side**2, len(tails)))
grid[tails, np.arange(len(tails))], grid[heads, np.arange(len(tails))] = 1, -1
A, b = grid[:-1], np.eye(1, side**2 - 1)[0]
path = lambda cost: cj.solve_lp(cost, A=A, b=b, lb=0.0, ub=1.0)
paths = jax.jit(jax.vmap(path))

rng = np.random.default_rng(0)
of_features = (rng.uniform(size=(len(tails), features)) < 0.5).astype(float)
X = rng.normal(size=(1200, features))
clean = ((X @ of_features.T / np.sqrt(features) + 3) ** degree + 1) / 3.5**degree
times = clean * rng.uniform(0.5, 1.5, clean.shape)
train, test = slice(0, 200), slice(200, None)

shortest = paths(times).require_solved()
least = float(jnp.sum(shortest.objective[test]))
regret = lambda predicted: float(jnp.sum(paths(predicted[test]).x * times[test])) / least - 1

fitted = learn.linear.fit(X[train], times[train])
line = {"W": fitted.coefficients, "b": fitted.intercept}
predict = lambda params, x, key=None: x @ params["W"] + params["b"]


@jax.jit
def decided(predicted, target):
    """Loss of each row: the target holds the true times, and the path that is best for them."""
    time, own = target[:, : len(tails)], target[:, len(tails) :]
    return jax.vmap(lambda p, c, x: cj.layers.decision_loss(path, p, c, x))(predicted, time, own)


epochs = 20
focused = training.fit(
    predict,
    line,
    X[train],
    jnp.concatenate([times[train], shortest.x[train]], 1),
    jax.random.key(0),
    loss=losses.Loss("decisions", decided),
    optimizer=optax.adam(optax.cosine_decay_schedule(0.03, epochs * 8)),
    epochs=epochs,
    batch_size=25,
).require_finite()
regrets = [regret(predict(params, X)) for params in (line, focused.params)]
errors = [
    float(jnp.mean((predict(params, X[test]) - times[test]) ** 2))
    for params in (line, focused.params)
]
print(f"least squares:  error {errors[0]:5.2f}, decisions {100 * regrets[0]:.1f} % above the best")
print(f"by decisions:   error {errors[1]:5.2f}, decisions {100 * regrets[1]:.1f} % above the best")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), width_ratios=(1.3, 1))
left.plot(np.arange(1, epochs + 1), focused.history.loss, color=BLUE, marker="o", ms=4)
left.set(xlabel="epoch", ylabel="decision loss", ylim=(0, None))
left.set_title("Training through 200 linear programs an epoch", fontsize=10)
names = ["fitted to\nthe times", "fitted to\nthe decisions"]
bars = right.bar(names, 100 * np.array(regrets), color=[GREY, ORANGE])
right.bar_label(bars, fmt="%.1f %%", padding=2)
right.set(ylabel="% above the shortest path", ylim=(0, 120 * max(regrets)))
right.set_title("1,000 new trips", fontsize=10)
figure.tight_layout()

# %% [markdown]
# The second model is the worse predictor of times and the better guide. Where the derivative of a decision itself is
# wanted, `cj.perturbed` averages a linear program over noise, and `Options(derivative="smoothed")` differentiates a
# point inside the feasible set.
#
# The last cell checks what was claimed.

# %%
assert abs(fastest - reference[start]) < 1e-6 and np.abs(distance - reference).max() < 1e-6
assert np.abs(slope - on_path).max() < 1e-6
assert abs(largest - capacity[cut].sum()) < 1e-5  # flow = cut: both are optimal
assert lost.min() > -1e-5 and np.all(lost <= capacity.reshape(2, -1).max(0) + 1e-5)
assert abs(saved - worth[best]) < 1e-3 * worth[best]
assert prices.min() > -1e-5 and prices.max() < 400.1
assert regrets[1] < regrets[0] and errors[1] > errors[0]
