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
# # Five-minute start: solve, batch, differentiate
#
# `convexjax` solves convex problems by functions that behave like any other JAX function. Here one small problem, the
# nearest point of a polygon, is solved, then ten thousand times at once, then differentiated, then learnt from
# examples. Every picture is a few lines, and every number is proved by the solution that it comes with.
#
# Wants `convexjax[notebooks]`; half a minute on two cores.

# %%
import sys

if "google.colab" in sys.modules:
    # !pip install -q "convexjax[notebooks]"
    pass

# %%
import time

import jax

jax.config.update("jax_enable_x64", True)  # the precision is that of your data; float32 works, too

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax

import convexjax as cj
from convexjax.plot import COLOURS

SCALE = 1  # 10 for 100,000 problems at once
BLUE, VERMILION, GREEN = COLOURS[:3]
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## Solve
#
# A polygon is $\{x : Gx \le h\}$: row $g_i$ of $G$ is the direction of wall $i$, $h_i$ its distance from the origin.
# The point of it that is nearest to $p$ is a quadratic program,
#
# $$\text{minimise}\quad \tfrac12 \|x - p\|^2 = \tfrac12 x^\top x - p^\top x + \text{constant}
# \qquad\text{subject to}\quad Gx \le h.$$

# %%
angles = jnp.deg2rad(jnp.array([10.0, 75.0, 150.0, 220.0, 290.0]))
G = jnp.stack([jnp.cos(angles), jnp.sin(angles)], 1)
h = jnp.array([1.0, 0.7, 0.9, 1.0, 0.8])


def nearest(point, h):
    """min 1/2 x'x - point'x subject to Gx <= h."""
    return cj.solve_qp(jnp.eye(2), -point, G, h)


p = jnp.array([1.6, 1.5])
solution = nearest(p, h)
print("x         ", solution.x.round(4))
print("status    ", cj.Status(int(solution.status)).name)
print("duals z   ", abs(solution.z.round(4)))
print(
    "residuals ",
    f"primal {solution.info.primal_residual:.0e}, dual {solution.info.dual_residual:.0e}",
)

# %% [markdown]
# The status is a claim and comes with its proof: slacks, duals and residuals. The duals mean something, too. Optimality
# reads $p - x = \sum_i z_i g_i$, so $z_i \ge 0$ is the force with which wall $i$ holds the point back; walls that do
# not touch it have none. Here two walls do.

# %%
print("p - x = ", (p - solution.x).round(6))
print("G'z   = ", (G.T @ solution.z).round(6))

# %% [markdown]
# ## Batch
#
# `jax.vmap` makes one program of many. Each lane has its own solution, duals and status.

# %%
points = jax.random.uniform(jax.random.key(0), (10_000 * SCALE, 2), minval=-2.0, maxval=2.0)
all_nearest = jax.jit(jax.vmap(nearest, in_axes=(0, None)))
batch = jax.block_until_ready(all_nearest(points, h))  # the first call compiles
seconds = []
for _ in range(5):
    start = time.perf_counter()
    batch = jax.block_until_ready(all_nearest(points, h))
    seconds.append(time.perf_counter() - start)
print(f"{int((batch.status == cj.Status.SOLVED).sum())} of {len(points)} solved,", end=" ")
print(f"{1e6 * min(seconds) / len(points):.1f} microseconds each")

# %% [markdown]
# ## Differentiate
#
# The solution is a function of the data, and JAX differentiates it: `jacfwd` of the nearest point with respect to $p$
# is the projection onto the directions in which the solution can still move. Its trace counts them: 2 inside the
# polygon (the solution moves with the point), 1 beside a wall (it slides), 0 beyond a corner (it stays). No rule for
# this was written anywhere: it is the derivative of the optimality conditions, taken at 22,500 solutions in one call.

# %%
side = np.linspace(-2, 2, 150)
grid = jnp.asarray(np.stack(np.meshgrid(side, side), -1).reshape(-1, 2))
jacobian = jax.jacfwd(lambda point: nearest(point, h).x)
freedom = jax.jit(lambda grid: jnp.trace(jax.vmap(jacobian)(grid), axis1=1, axis2=2))(grid)


def corners(h):
    """Of the polygon, in order: where a wall meets the next one."""
    walls = jnp.stack([G, jnp.roll(G, -1, 0)], 1)
    around = np.linalg.solve(walls, jnp.stack([h, jnp.roll(h, -1)], 1)[..., None])[..., 0]
    return np.vstack([around, around[:1]])


figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.9), layout="constrained", sharey=True)
lines = np.stack([points[:400], batch.x[:400]], 1)
left.plot(*lines.transpose(2, 1, 0), color=BLUE, lw=0.5)
left.plot(*points[:400].T, ".", color=BLUE, ms=4)
left.plot(*corners(h).T, color="black", lw=2)
left.set_title("points and the nearest of the polygon", fontsize=10)
shown = right.imshow(
    freedom.reshape(150, 150), extent=(-2, 2, -2, 2), origin="lower", cmap="cividis", vmin=0, vmax=2
)
right.plot(*corners(h).T, color="white", lw=2)
right.set_title("trace of the derivative of the solution", fontsize=10)
figure.colorbar(shown, ax=right, ticks=[0, 1, 2], shrink=0.9)
for axes in (left, right):
    axes.set(xlabel="$p_1$", ylabel="$p_2$", aspect="equal", xlim=(-2, 2), ylim=(-2, 2))

# %% [markdown]
# Gradients go through any output. That of the optimal value is what the constraints cost: by the theory of duality
# $\partial\,\text{optimum} / \partial h_i = -z_i$, and by JAX

# %%
price = jax.grad(lambda h: nearest(p, h).objective)(h)
print("gradient", price.round(6) + 0.0)
print("-z      ", -solution.z.round(6) + 0.0)

# %% [markdown]
# ## Learn
#
# Turn the question around: 200 points and the nearest ones of *some* polygon are known, the polygon is not. The loss is
# a function of the solutions, its gradient with respect to $h$ goes back through all of them, and any optimizer of
# `optax` does the rest, in one `scan` that is compiled once.

# %%
given, seen = points[:200], batch.x[:200]
optimizer = optax.adam(0.05)


def loss(h):
    return jnp.mean((jax.vmap(nearest, in_axes=(0, None))(given, h).x - seen) ** 2)


def step(carry, _):
    h, state = carry
    value, gradient = jax.value_and_grad(loss)(h)
    change, state = optimizer.update(gradient, state)
    return (optax.apply_updates(h, change), state), (h, value)


@jax.jit
def learn(h):
    (h, _), (path, losses) = jax.lax.scan(step, (h, optimizer.init(h)), length=200)
    return h, path, losses


learnt, path, losses = learn(jnp.full(5, 1.8))
print("learnt", learnt.round(4))
print("true  ", h)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for number, share in zip((0, 5, 10, 20), (0.25, 0.45, 0.65, 0.85), strict=True):
    left.plot(*corners(path[number]).T, color=plt.cm.Blues(share), label=f"after {number} steps")
left.plot(*corners(learnt).T, color=VERMILION, lw=3, label="after 200 steps")
left.plot(*corners(h).T, "--", color="black", label="true")
left.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
left.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9)
right.semilogy(losses, color=GREEN)
right.set(xlabel="step", ylabel="mean squared error")
right.set_title("200 quadratic programs a step", fontsize=10)
plt.show()

# %% [markdown]
# ## What if there is no solution?
#
# Push the walls inwards, and the polygon shrinks to nothing. In a batch each such lane says so, and leaves the others
# as they are. It is a proof: nonnegative weights $z$ with $G^\top z = 0$ and $h^\top z = -1$ add the constraints up to
# $0 \le -1$.

# %%
shrunk = jax.vmap(lambda shift: nearest(p, h - shift))(jnp.array([0.0, 0.4, 0.8, 1.2]))
for status, z in zip(shrunk.status, shrunk.z, strict=True):
    print(f"{cj.Status(int(status)).name:18}", "z =", abs(z).round(3))
certificate = shrunk.z[-1]
try:
    shrunk.require_solved()  # for programs that would rather stop
except RuntimeError as error:
    print("\nrequire_solved():", error)

# %% [markdown]
# ## Where next
#
# All solvers have this shape: arrays in, a `Solution` out, `jit`, `vmap` and derivatives as you like.
#
# | you have | function | notebook |
# |---|---|---|
# | a regression, a classifier | `learn.regression.fit`, `learn.elastic_net.fit`, `learn.svm.fit`, ... | 2, 3 |
# | matrices that are to be positive semidefinite, volumes, designs | `solve_sdp`, `solve_maxdet`, `relaxations` | 4 |
# | products and powers of positive sizes | `gp` | 5 |
# | a portfolio; norms, risks | `solve_qp`, `solve_socp`, `minimize` | 6 |
# | flows, routes, prices | `solve_lp` | 7 |
# | a plant to control | `solve_mpc` | 8 |
# | a network, perhaps with a convex problem inside | `learn.networks`, `learn.training`, `layers` | 9 |
# | curiosity about the method, a cone of your own | `solve_conic` | 10 |
# | a polynomial that is not convex | `relaxations.minimize_polynomial` | 11 |
#
# The last cell checks what was claimed.

# %%
assert np.all(batch.status == cj.Status.SOLVED)
assert np.abs(p - solution.x - G.T @ solution.z).max() < 1e-7
assert np.abs(price + solution.z).max() < 1e-7
assert np.max(batch.x @ G.T - h) < 1e-7
outside = np.sum(np.abs(points - batch.x) > 1e-9, 1) > 0
assert np.all(np.max(batch.x[outside] @ G.T - h, 1) > -1e-7)  # on a wall
assert np.mean(np.abs(freedom - freedom.round()) < 1e-6) > 0.999
assert set(freedom.round().tolist()) == {0, 1, 2}
assert np.abs(learnt - h).max() < 1e-3
assert [cj.Status(int(s)).name for s in shrunk.status] == ["SOLVED"] * 2 + ["PRIMAL_INFEASIBLE"] * 2
assert np.abs(G.T @ certificate).max() < 1e-7 and abs((h - 1.2) @ certificate + 1) < 1e-7
