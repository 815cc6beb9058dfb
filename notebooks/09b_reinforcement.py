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
# # Learning by trial
#
# A pole on a cart, twice. Deep Q-learning finds out how to keep it up, from nothing but being told when it has fallen;
# a genetic search finds a small network that swings it up from hanging. Plant, exploration, memory, training and
# judgement are JAX functions, so that each experiment, over several seeds, is one compiled program.
#
# Wants `convexjax[notebooks]`; about half a minute on two cores.

# %%
import sys

if "google.colab" in sys.modules:
    # !pip install -q "convexjax[notebooks]"
    pass

# %%
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from convexjax.learn import losses, networks
from convexjax.plot import COLOURS

SCALE = 1  # 4 for four times as many seeds
BLUE, RED, GREEN, ORANGE = COLOURS[:4]
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## The plant
#
# The cart and pole of Barto, Sutton and Anderson (1983): a cart of 1 kg on a track, a pole of 0.1 kg and 1 m, a force
# of at most 10 N, 50 steps a second. The state is position, angle from upright, speed, spin.

# %%
STEP, FORCE, TRACK, FALLEN, LONGEST = 0.02, 10.0, 2.4, np.deg2rad(12), 500


def move(state, force):
    x, angle, v, spin = state
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    w = (force + 0.05 * spin**2 * sine) / 1.1
    of_spin = (9.8 * sine - cosine * w) / (0.5 * (4 / 3 - 0.1 * cosine**2 / 1.1))
    v, spin = v + STEP * (w - 0.05 * of_spin * cosine / 1.1), spin + STEP * of_spin
    return jnp.stack([x + STEP * v, angle + STEP * spin, v, spin])


def over(state):
    return (jnp.abs(state[0]) > TRACK) | (jnp.abs(state[1]) > FALLEN)


within = lambda key, limits: jax.random.uniform(key, (4,), minval=-1.0) * jnp.asarray(limits)
begin_near = lambda key: within(key, [0.05, 0.05, 0.05, 0.05])
begin_anywhere = lambda key: within(key, [2.0, 0.15, 1.0, 1.0])

# %% [markdown]
# ## Deep Q-learning
#
# $Q(s, a)$ says how long the pole will stay up after doing $a$ in the state $s$: the sum of $(1-\gamma)\gamma^t$ over
# all steps until it falls, which is at most 1. A network learns it from its own experience, by regression on
#
# $$ y = (1-\gamma) + \gamma\, Q_-\big(s', \arg\max_{a} Q(s', a)\big)\qquad (1-\gamma\;\text{alone if it has fallen}),$$
#
# where $Q_-$ is a slow copy of the network (van Hasselt, Guez and Silver, "Deep reinforcement learning with double
# Q-learning", 2016). Sixteen carts gather experience from starts all over the track, pushed to the left or to the
# right, at random with a chance that falls to 5 %; a memory keeps the last steps, from which batches are drawn.

# %%
CARTS, MEMORY, BATCH, GAMMA = 16, 16_384, 128, 0.99
ROUNDS, STEPS = 28, 250  # judged after each round
network = networks.mlp(jax.random.key(0), 4, 2, width=64, depth=2)
optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, ROUNDS * STEPS))
values = lambda params, states: network.apply(params, states * jnp.array([0.5, 5.0, 0.5, 0.5]))
huber = losses.huber(1.0)


def bellman(params, slow, batch):
    states, actions, after, ended = batch
    best = jnp.argmax(values(params, after), 1)
    future = jnp.take_along_axis(values(slow, after), best[:, None], 1)[:, 0]
    target = jax.lax.stop_gradient(1 - GAMMA + GAMMA * jnp.where(ended, 0.0, future))
    return huber(
        jnp.take_along_axis(values(params, states), actions[:, None], 1)[:, 0], target
    ).mean()


def step(carry, number):
    params, slow, moments, carts, ages, memory, key = carry
    key, of_chance, of_action, of_start, of_batch = jax.random.split(key, 5)

    # act
    chance = jnp.clip(1 - number / 1000, 0.05, 1.0)
    at_random = jax.random.bernoulli(of_chance, chance, (CARTS,))
    any_action = jax.random.randint(of_action, (CARTS,), 0, 2)
    actions = jnp.where(
        at_random, any_action, jnp.argmax(values(params, carts), 1).astype(jnp.int32)
    )
    after = jax.vmap(move)(carts, FORCE * (2.0 * actions - 1))
    ended = jax.vmap(over)(after)

    # remember
    place = (number * CARTS) % MEMORY
    new = (carts, actions, after, ended)
    memory = jax.tree.map(
        lambda m, n: jax.lax.dynamic_update_slice_in_dim(m, n, place, 0), memory, new
    )
    ages = ages + 1
    again = ended | (ages >= LONGEST)
    fresh = jax.vmap(begin_anywhere)(jax.random.split(of_start, CARTS))
    carts, ages = jnp.where(again[:, None], fresh, after), jnp.where(again, 0, ages)

    # learn
    known = jnp.minimum((number + 1) * CARTS, MEMORY)
    rows = jax.random.randint(of_batch, (BATCH,), 0, known)
    slope = jax.grad(bellman)(params, slow, jax.tree.map(lambda m: m[rows], memory))
    updates, moments = optimizer.update(slope, moments, params)
    params = optax.apply_updates(params, updates)
    slow = optax.incremental_update(params, slow, 0.01)
    return (params, slow, moments, carts, ages, memory, key), None


def judge(params, key, count=16):
    """Lengths of episodes without any chance."""

    def greedy(carry, _):
        state, length, alive = carry
        state = move(state, FORCE * (2.0 * jnp.argmax(values(params, state[None])[0]) - 1))
        alive = alive & ~over(state)
        return (state, length + alive, alive), state

    start = lambda key: (begin_near(key), jnp.int32(0), jnp.array(True))
    run = lambda key: jax.lax.scan(greedy, start(key), length=LONGEST)
    (_, lengths, _), states = jax.vmap(run)(jax.random.split(key, count))
    return lengths, states


def experiment(key):
    """The mean length of episodes after each round, the parameters after the best round, and how long they last."""
    of_network, of_carts, of_run, of_judge = jax.random.split(key, 4)
    params = networks.mlp(of_network, 4, 2, width=64, depth=2).params
    carts = jax.vmap(begin_anywhere)(jax.random.split(of_carts, CARTS))
    memory = (
        jnp.zeros((MEMORY, 4)),
        jnp.zeros(MEMORY, jnp.int32),
        jnp.zeros((MEMORY, 4)),
        jnp.zeros(MEMORY, bool),
    )
    carry = (
        params,
        params,
        optimizer.init(params),
        carts,
        jnp.zeros(CARTS, jnp.int32),
        memory,
        of_run,
    )

    def round_(state, number):
        carry, best, most = state
        carry, _ = jax.lax.scan(step, carry, number * STEPS + jnp.arange(STEPS))
        mean = judge(carry[0], jax.random.fold_in(of_judge, number))[0].mean()
        best = jax.tree.map(lambda new, old: jnp.where(mean > most, new, old), carry[0], best)
        return (carry, best, jnp.maximum(mean, most)), mean

    (_, best, _), means = jax.lax.scan(round_, (carry, params, -1.0), jnp.arange(ROUNDS))
    lengths, states = judge(best, jax.random.fold_in(of_judge, ROUNDS), 64)
    return means, lengths, states


seeds = 3 * SCALE
compiled = jax.jit(jax.vmap(experiment)).lower(jax.random.split(jax.random.key(1), seeds)).compile()
begin = time.perf_counter()
means, lengths, states = jax.block_until_ready(compiled(jax.random.split(jax.random.key(1), seeds)))
seconds = time.perf_counter() - begin
pushes = seeds * ROUNDS * STEPS * CARTS
print(
    f"{seeds} seeds, {pushes:,} pushes and {pushes // CARTS:,} steps of training: {seconds:.1f} s"
)
print("steps upright in 64 new episodes (mean):", np.asarray(lengths.mean(1)).round().tolist())

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
experience = np.arange(1, ROUNDS + 1) * STEPS * CARTS / 1000
for i, curve in enumerate(means):
    left.plot(experience, curve, color=COLOURS[i % 8], marker="o", ms=3, label=f"seed {i}")
left.axhline(LONGEST, color="0.6", ls="--", lw=1)
left.set(
    xlabel="pushes so far, in thousands",
    ylabel="steps upright",
    ylim=(0, 540),
    title="Judged without chance",
)
left.legend(frameon=False, ncols=3, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, -0.45))
best = int(lengths.mean(1).argmax())
right.plot(
    STEP * np.arange(LONGEST), np.rad2deg(states[best, :16, :, 1]).T, color=BLUE, lw=0.6, alpha=0.7
)
for side in (-12, 12):
    right.axhline(side, color=RED, ls="--", lw=1)
right.set(xlabel="time (s)", ylabel="angle (°)", title=f"16 episodes of seed {best}; red: fallen")
plt.show()

# %% [markdown]
# The curves jump, as those of Q-learning do: each round the network is judged on states that its last changes have
# led to. What counts is the network of the best round, judged once more on new episodes.
#
# ## A genetic search for a swing-up
#
# Now the pole hangs, and there is no gradient: 256 small networks each control the cart for five seconds and are
# judged by the mean height of the pole, less for a cart far from the middle. The next generation has for parents the
# winners of small tournaments, each weight from either of two, with a mutation; the eight best live on. Episodes of a
# generation are a `vmap`, generations a `scan`.

# %%
POPULATION, GENERATIONS, LENGTH, ELITE = 256, 80, 250, 8
small = networks.mlp(jax.random.key(2), 5, "scalar", width=12, depth=1, activation="tanh")
flat, back = ravel_pytree(small.params)


def swing(genes, start):
    """States and heights of an episode."""
    params = back(genes)

    def act(state, _):
        x, angle, v, spin = state
        seen = jnp.stack([x / TRACK, jnp.cos(angle), jnp.sin(angle), v / 3, spin / 6])
        state = move(state, FORCE * jnp.tanh(small.apply(params, seen[None])[0]))
        return state, state

    states = jax.lax.scan(act, start, length=LENGTH)[1]
    heights = jnp.cos(states[:, 1])
    return states, jnp.mean(
        heights - 0.2 * states[:, 0] ** 2 - 0.02 * states[:, 3] ** 2 * (heights > 0.8)
    )


hanging = jnp.array([0.0, np.pi, 0.0, 0.0])


def generation(carry, number):
    genes, key = carry
    key, of_parents, of_mix, of_mutation = jax.random.split(key, 4)
    fitness = jax.vmap(lambda g: swing(g, hanging)[1])(genes)
    order = jnp.argsort(-fitness)
    # the index of the best of four, drawn from the order: the smallest of four numbers
    entrants = jax.random.randint(of_parents, (2, POPULATION, 4), 0, POPULATION)
    mother, father = genes[order[entrants.min(2)]]
    children = jnp.where(jax.random.bernoulli(of_mix, 0.5, genes.shape), mother, father)
    strength = 0.4 * 0.05 ** (number / GENERATIONS)
    children = children + strength * jax.random.normal(of_mutation, genes.shape)
    return (children.at[:ELITE].set(genes[order[:ELITE]]), key), (fitness, genes[order[0]])


def search(key):
    of_first, of_run = jax.random.split(key)
    first = jax.random.normal(of_first, (POPULATION, flat.size))
    _, (fitness, best) = jax.lax.scan(generation, (first, of_run), jnp.arange(GENERATIONS))
    return fitness, best[-1]


searched = jax.jit(jax.vmap(search)).lower(jax.random.split(jax.random.key(3), seeds)).compile()
begin = time.perf_counter()
fitness, winners = jax.block_until_ready(searched(jax.random.split(jax.random.key(3), seeds)))
seconds = time.perf_counter() - begin
episodes = seeds * POPULATION * GENERATIONS
print(f"{episodes:,} episodes of {LENGTH} steps in {seconds:.1f} s; {flat.size} weights")
champion = winners[fitness[:, -1].max(1).argmax()]
path, score = jax.jit(swing)(champion, hanging)
upright = float(jnp.mean(jnp.cos(path[-50:, 1])))
print(f"the best: mean height {score:.2f}, in the last second {upright:.3f} (1 is upright)")

# %%
figure = plt.figure(figsize=(8, 4.5), layout="constrained")
grid = figure.add_gridspec(2, 2, height_ratios=(1, 1.1))
left, right, below = (
    figure.add_subplot(grid[0, 0]),
    figure.add_subplot(grid[0, 1]),
    figure.add_subplot(grid[1, :]),
)
for i, own in enumerate(fitness):
    left.plot(own.max(1), color=COLOURS[i % 8], lw=2, label=f"seed {i}: best")
    left.plot(jnp.median(own, 1), color=COLOURS[i % 8], lw=1, ls="--")
left.set(xlabel="generation", ylabel="fitness", title="Best, and median (dashed)", ylim=(-2.5, 1))
left.legend(frameon=False, fontsize=8, loc="lower right")
clock = STEP * np.arange(LENGTH)
right.plot(clock, np.cos(path[:, 1]), color=BLUE, lw=2)
right.set(xlabel="time (s)", ylabel="height of the pole", title="The champion")
shown = np.asarray(path[::5])
colours = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(shown)))
for (x, angle, _, _), colour in zip(shown, colours, strict=True):
    below.plot([x, x + np.sin(angle)], [0, np.cos(angle)], color=colour, lw=1)
    below.plot(x + np.sin(angle), np.cos(angle), "o", color=colour, ms=5)
    below.plot(x, 0, "s", color=colour, ms=4)
below.set(aspect="equal", xlim=(-3.5, 3.5), ylim=(-1.2, 1.2))
below.set_xlabel("position (m); from dark (the start) to light, ten pictures a second")
plt.show()

# %% [markdown]
# It was judged by five seconds alone: nothing says that it goes on well after them. The last cell checks what was
# claimed.

# %%
assert float(lengths.mean(1).max()) > 450  # of 500
assert float(means[:, 0].max()) < 300  # it had to be learnt
assert float(fitness[:, -1].max()) > float(fitness[:, 0].max()) + 0.5
assert upright > 0.95 and float(jnp.abs(path[:, 0]).max()) < TRACK
