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
# # Control that optimises as it goes
#
# A model predictive controller solves an optimisation problem at every step: a plan for the next eight seconds, of
# which only the first input is used. Here it drives cranes, one or a batch of them, in one compiled program with
# `lax.scan` and `vmap`; and because plans can be differentiated, an expert's aims are read off its actions.
#
# Wants `convexjax[notebooks]`; about a minute on two cores, most of it compilation.

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

import convexjax as cj
from convexjax import learn
from convexjax.plot import COLOURS

SCALE = 1  # 4 for as many times the cranes
BLUE, RED = COLOURS[:2]
GREY = "0.6"
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## The plant
#
# A trolley moves along a beam with acceleration $u$, a load hangs from it on a rope of length $\ell$. With the
# position $p$ of the trolley relative to its target and the angle $\theta$ of the rope,
#
# $$\ddot p = u, \qquad \ell\,\ddot\theta = -g\sin\theta - u\cos\theta - 0.02\,\ell\,\dot\theta .$$
#
# The plant below is this one, by Runge-Kutta steps of 0.2 s. The controller plans with the linear model
# $x_{t+1} = Ax_t + Bu_t$, the derivative of such a step at rest.

# %%
STEP = 0.2
PUSH, SPEED, SWAY, WALL = 1.0, 2.0, np.deg2rad(4.0), 0.1  # limits: m/s², m/s, radian, metre


def rate(state, push, rope):
    _, angle, speed, spin = state
    swing = -(9.81 * jnp.sin(angle) + push * jnp.cos(angle)) / rope - 0.02 * spin
    return jnp.array([speed, spin, push, swing])


def move(state, push, rope):
    """The state (position, angle, speed, spin) after one time step."""
    k1 = rate(state, push, rope)
    k2 = rate(state + STEP / 2 * k1, push, rope)
    k3 = rate(state + STEP / 2 * k2, push, rope)
    k4 = rate(state + STEP * k3, push, rope)
    return state + STEP / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def linear_model(rope):
    A, B = jax.jacfwd(move, (0, 1))(jnp.zeros(4), jnp.zeros(()), rope)
    return A, B[:, None]


Q, R = jnp.diag(jnp.array([1.0, 20.0, 0.5, 20.0])), jnp.array([[1.0]])
ropes = jnp.linspace(4.0, 12.0, 24 * SCALE)  # metres

# %% [markdown]
# ## The linear regulator, by differentiation
#
# Without limits the best input is $u = -Kx$ and the cost of all that follows $\tfrac12 x^\top P x$. Textbooks solve a
# Riccati equation for both. Here $K$ and $P$ are derivatives of a plan with respect to the state: $K$ of its first
# input, $P$ of its first costate, which is the slope of the cost. `vmap` makes them for all cranes.


# %%
@jax.jit
@jax.vmap
def regulator(rope):
    A, B = linear_model(rope)
    plan = lambda x: cj.solve_mpc(A, B, Q, R, x, horizon=200)
    first = lambda plan: (-plan.x.inputs[0], plan.y[0])
    return jax.jacfwd(lambda x: first(plan(x)))(jnp.zeros(4))


K, P = regulator(ropes)
A, B = linear_model(ropes[6])
AK = A - B @ K[6]
riccati = float(
    jnp.abs(Q + K[6].T @ R @ K[6] + AK.T @ P[6] @ AK - P[6]).max() / jnp.abs(P[6]).max()
)
print("K =", np.asarray(K[6, 0]).round(2), f"   residual of the Riccati equation: {riccati:.0e}")

# %% [markdown]
# ## Planning with limits
#
# The same cost over 40 steps, with $P$ for what comes after, and with limits: how hard the trolley may push, how fast
# it may go, how far the load may swing, and a wall 10 cm behind the target that the load must not touch,
# $p + \ell\theta \le 0.1$.


# %%
def plan(state, rope, P, warm_start=None):
    A, B = linear_model(rope)
    limits = jnp.array([jnp.inf, SWAY, SPEED, jnp.inf])
    return cj.solve_mpc(
        *(A, B, Q, R, state),
        horizon=40,
        Q_terminal=P,
        x_lb=-limits,
        x_ub=limits,
        u_lb=-PUSH,
        u_ub=PUSH,
        G_x=jnp.stack([1.0, rope, 0.0, 0.0])[None],
        h=jnp.array([WALL]),
        warm_start=warm_start,
    )


at_rest = jax.jit(plan)(jnp.zeros(4), ropes[0], P[0]).require_solved()

# %% [markdown]
# ## The loop in a `scan`, the cranes in a `vmap`
#
# Plan, push, let the nonlinear plant move, plan again from the last plan shifted by one step. Where the limits cannot
# be kept the status of that lane says so; it goes on with what is left of its last plan, and the other lanes never
# notice.


# %%
def drive(start, rope, P, steps=90):
    """States, inputs and statuses of a run under predictive control."""

    def step(carry, _):
        state, previous = carry
        rest = cj.shift_horizon(previous)
        solution = plan(state, rope, P, warm_start=rest)
        solved = cj.Status.SOLVED.holds(solution.status)
        best = jax.tree.map(lambda new, old: jnp.where(solved, new, old), solution, rest)
        push = jnp.clip(best.x.inputs[0, 0], -PUSH, PUSH)
        return (move(state, push, rope), best), (state, push, solution.status)

    return jax.lax.scan(step, (start, at_rest), length=steps)[1]


def drive_regulator(start, rope, K, steps=90):
    """The same under the linear regulator, cut off at the largest push."""

    def step(state, _):
        push = jnp.clip(-(K @ state)[0], -PUSH, PUSH)
        return move(state, push, rope), (state, push)

    return jax.lax.scan(step, start, length=steps)[1]


start = jnp.array([-10.0, 0.0, 0.0, 0.0])
run = jax.jit(jax.vmap(drive, (None, 0, 0))).lower(start, ropes, P).compile()
begin = time.perf_counter()
states, pushes, statuses = jax.block_until_ready(run(start, ropes, P))
seconds = time.perf_counter() - begin
cut_states, _ = jax.jit(jax.vmap(drive_regulator, (None, 0, 0)))(start, ropes, K)

solved = np.asarray(statuses) == cj.Status.SOLVED
print(f"{statuses.size} plans of {40 * 5} variables in {seconds:.1f} s")
status, counts = np.unique(np.asarray(statuses), return_counts=True)
print({cj.Status(value).name: int(count) for value, count in zip(status, counts, strict=True)})

# %%
clock = STEP * np.arange(states.shape[1])
loads = lambda states: states[:, :, 0] + ropes[:, None] * jnp.sin(states[:, :, 1])
shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(ropes)))
figure, axes = plt.subplots(2, 2, figsize=(8, 4.5), sharex=True, sharey="row", layout="constrained")
for (top, bottom), own, title in zip(
    axes.T, (cut_states, states), ("regulator, cut off", "predictive control"), strict=True
):
    for load, angle, shade in zip(loads(own), np.rad2deg(own[:, :, 1]), shades, strict=True):
        top.plot(clock, load, color=shade, lw=1)
        bottom.plot(clock, angle, color=shade, lw=1)
    top.axhline(WALL, color=RED, ls="--", lw=1.2)
    for side in (-SWAY, SWAY):
        bottom.axhline(np.rad2deg(side), color=RED, ls="--", lw=1.2)
    top.set_title(title)
    bottom.set_xlabel("time (s)")
axes[0, 0].set(ylabel="load to target (m)", ylim=(-10.5, 3.5))
axes[0, 0].text(17.5, WALL + 0.5, "wall", color=RED, ha="right")
axes[1, 0].set_ylabel("angle of the rope (°)")
scale = plt.cm.ScalarMappable(plt.Normalize(4, 12), plt.matplotlib.colors.ListedColormap(shades))
figure.colorbar(scale, ax=axes, label="length of the rope (m)", shrink=0.8)
plt.show()

# %% [markdown]
# One of them, every 0.6 seconds:

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
which = 6
for axis, own, title in zip(
    axes, (cut_states, states), ("regulator, cut off", "predictive control"), strict=True
):
    moments = np.asarray(own[which, :60:3])
    colours = plt.get_cmap("viridis")(np.linspace(0, 0.95, len(moments)))
    for (position, angle, _, _), colour in zip(moments, colours, strict=True):
        end = position + ropes[which] * np.sin(angle), -ropes[which] * np.cos(angle)
        axis.plot([position, end[0]], [0, end[1]], color=colour, lw=1)
        axis.plot(position, 0, "s", color=colour, ms=5)
        axis.plot(*end, "o", color=colour, ms=8)
    axis.axvspan(WALL, 2, color="0.85", lw=0)
    axis.axhline(0, color="0.3", lw=1, zorder=0)
    axis.set(title=title, xlabel="position (m)", xlim=(-11, 1.8), aspect="equal")
axes[0].set_ylabel("height (m)")
plt.show()

# %% [markdown]
# ## What does the expert want?
#
# Somebody drives the same crane with other aims, and we see only states and inputs. The first input of a plan is a
# differentiable function of the weights $Q = \mathrm{diag}(q)$, so the weights are found by least squares,
#
# $$\text{minimise}_{\;q}\quad \tfrac12 \sum_k \big(u_0(x_k, q) - u_k\big)^2,$$
#
# with `learn.gauss_newton`, whose Jacobian goes through 48 optimal control problems in forward mode. (Only the ratio of
# $Q$ and $R$ counts, so $R$ is known.) Where the expert pushes as hard as it can, its input tells nothing about
# the weights, and the derivative there is zero.

# %%
rng = np.random.default_rng(1)
seen = jnp.asarray(rng.normal(size=(48, 4)) * np.array([1.0, 0.05, 0.5, 0.05]))


def first_push(logarithms, state):
    weights = jnp.diag(jnp.exp(logarithms))
    plan = cj.solve_mpc(A, B, weights, R, state, horizon=20, u_lb=-PUSH, u_ub=PUSH)
    return plan.x.inputs[0, 0]


pushes_of = jax.jit(jax.vmap(first_push, (None, 0)))
truth, guess = jnp.log(jnp.array([4.0, 80.0, 1.0, 30.0])), jnp.log(jnp.ones(4))
expert = pushes_of(truth, seen)

misfit = lambda logarithms: pushes_of(logarithms, seen) - expert
found = jax.jit(lambda start: learn.gauss_newton.minimise(misfit, start, tolerance=1e-10))(guess)
weights = np.exp(np.stack([truth, guess, found.params]))
at_limit = float(jnp.mean(jnp.abs(expert) > PUSH - 1e-3))
for name, row in zip(("expert", "guess", "learnt"), weights, strict=True):
    print(f"{name:8}", "  ".join(f"{value:9.5f}" for value in row))
print(
    f"{int(found.num_iters)} steps; the expert is at its limit in {100 * at_limit:.0f} % of the states"
)

# %%
figure, axes = plt.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
titles = ("the guess: all weights 1", f"after {int(found.num_iters)} steps")
for axis, q, title in zip(axes, (guess, found.params), titles, strict=True):
    axis.axline((0, 0), slope=1, color=GREY, lw=1)
    axis.plot(expert, pushes_of(q, seen), "o", color=BLUE, ms=5, alpha=0.7)
    axis.set(xlabel="input of the expert (m/s²)", title=title)
axes[0].set_ylabel("input of the learner (m/s²)")
plt.show()

# %% [markdown]
# The last cell checks what was claimed.

# %%
assert riccati < 1e-8
assert solved.mean() > 0.98 and set(status) <= {cj.Status.SOLVED, cj.Status.PRIMAL_INFEASIBLE}
assert (
    float(loads(states).max()) < WALL + 0.01 and float(jnp.abs(states[:, :, 1]).max()) < 1.02 * SWAY
)
assert float(jnp.abs(states[:, :, 2]).max()) < SPEED + 1e-3
assert float(jnp.abs(loads(states)[:, -1]).max()) < 0.2  # all have arrived
assert float(loads(cut_states).max()) > WALL and float(jnp.abs(cut_states[:, :, 1]).max()) > SWAY
assert np.abs(weights[2] / weights[0] - 1).max() < 1e-5
