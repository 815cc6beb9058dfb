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
# # Inside one interior-point step
#
# What happens between a call of `solve_qp` and its answer: the central path, one step of the method by hand, what the
# residuals and the scaling do on the way, and what derivatives have to do with it. At the end a cone of one's own, in
# forty lines, which the solver takes like those it knows.
#
# Wants `convexjax[notebooks]`; half a minute on two cores, most of it compilation.

# %%
import sys

if "google.colab" in sys.modules:
    # !pip install -q "convexjax[notebooks]"
    pass

# %%
from dataclasses import dataclass

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import convexjax as cj
from convexjax import plot
from convexjax.cones import Cone, pytree, static
from convexjax.plot import COLOURS

SCALE = 1  # 4 for a finer fan of paths
BLUE, RED, GREEN, ORANGE = COLOURS[:4]
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## The central path
#
# A linear program over a polygon $Gx \le h$ has its solution in a corner. The *central path* leads there from the
# middle: for $\mu > 0$ let $x(\mu)$ be the point where the objective and a barrier at the edges are in balance,
#
# $$x(\mu) = \arg\min_x\; q^\top x - \mu \sum_i \log(h_i - g_i^\top x).$$
#
# With $s = h - Gx$ and $z_i = \mu / s_i$ this is the same as the optimality conditions with $s_i z_i = \mu$ in the
# place of $s_i z_i = 0$. It is a convex function of $x$ written in JAX, hence `cj.minimize`, and `vmap` draws
# the paths to all corners at once.

# %%
angles = np.array([0.2, 1.0, 2.1, 2.9, 4.0, 4.7, 5.6])
G = np.stack([np.cos(angles), np.sin(angles)], 1)
h = np.array([1.0, 0.8, 0.9, 1.1, 0.8, 0.7, 1.0])
q = np.array([-1.0, -0.35])


def centre(mu, q):
    balance = lambda x, params: params[1] @ x / params[0] - jnp.sum(jnp.log(h - G @ x))
    return cj.minimize(balance, jnp.zeros(2), params=(mu, q))


mus = jnp.geomspace(100.0, 1e-4, 31)
aims = np.linspace(0, 2 * np.pi, 24 * SCALE, endpoint=False)
aims = jnp.asarray(np.vstack([q / np.linalg.norm(q), np.stack([np.cos(aims), np.sin(aims)], 1)]))
paths = jax.jit(jax.vmap(jax.vmap(centre, (0, None)), (None, 0)))(mus, aims)

# %% [markdown]
# The solver does not walk along the path to its end; it aims at points of it and takes long steps. `max_iters` is
# data, so that one `vmap` gives the iterates of a solve: the answers after 0, 1, 2, ... iterations.

# %%
solve = lambda limit: cj.solve_lp(
    q, G, h, options=cj.Options(max_iters=limit, method="interior_point")
)
most = int(solve(50).require_solved().info.num_iters)
iterates = jax.jit(jax.vmap(solve))(jnp.arange(most + 1))

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
plot.central_path(G, h, paths.x[1], axes=left)
for path in paths.x[2:]:
    left.plot(*path.T, color=BLUE, lw=1)
left.set_title("Central paths of 24 objectives")
left.lines[0].set(marker="", lw=1)
plot.central_path(G, h, paths.x[0], axes=right)
right.lines[0].set(marker="", lw=2)
right.plot(*iterates.x.T, "o--", color=RED, ms=5, lw=1)
right.set_title(f"Blue: the path; red: {most} iterations")
plt.show()

# %% [markdown]
# ## One step, by hand
#
# At a point $(x, s, z)$ with $s, z > 0$ the residuals are $r_x = q + G^\top z$ and $r_z = Gx + s - h$, and
# $\mu = s^\top z / m$. The solver's one relation between the steps of $s$ and $z$ is
#
# $$ ds + H\,dz = -(s + \text{correction}), \qquad H = \mathrm{diag}(s/z), $$
#
# the linearised $s_i z_i = \sigma\mu$; with the linearised residuals it makes one symmetric system,
#
# $$\begin{pmatrix} 0 & G^\top \\ G & -H \end{pmatrix}\begin{pmatrix} dx \\ dz\end{pmatrix} =
# \begin{pmatrix} -(1-\sigma)\,r_x \\ s + \text{correction} - (1-\sigma)\,r_z \end{pmatrix}.$$
#
# Mehrotra's method solves it twice with the same factor: a *predictor* aims at $\sigma = 0$ to see how far one gets,
# then a *corrector* aims at $\sigma = (1-\alpha)^2$ and makes up for the product $ds\,dz$ that the linearisation
# left out.


# %%
def direction(x, s, z, sigma, correction):
    """(dx, ds, dz), and the step to the boundary."""
    r_x, r_z = q + G.T @ z, G @ x + s - h
    K = jnp.block([[jnp.zeros((2, 2)), G.T], [jnp.asarray(G), -jnp.diag(s / z)]])
    right = jnp.concatenate([-(1 - sigma) * r_x, s + correction - (1 - sigma) * r_z])
    d = jnp.linalg.solve(K, right)
    dx, dz = d[:2], d[2:]
    ds = -(s + correction) - s / z * dz
    alpha = 1 / jnp.maximum(1, jnp.max(jnp.concatenate([-ds / s, -dz / z])))
    return (dx, ds, dz), alpha


def step(point, _):
    """One predictor and corrector step, and what it looked like."""
    x, s, z = point
    mu = s @ z / len(h)
    (dx0, ds0, dz0), alpha0 = direction(x, s, z, 0.0, jnp.zeros(len(h)))
    sigma = (1 - alpha0) ** 2
    (dx, ds, dz), alpha = direction(x, s, z, sigma, (ds0 * dz0 - sigma * mu) / z)
    alpha = 0.99 * alpha
    new = x + alpha * dx, s + alpha * ds, z + alpha * dz
    return new, {"x": x, "predictor": alpha0 * dx0, "step": alpha * dx, "mu": mu, "scaling": s / z}


start = jnp.array([-0.55, 0.45])
begin = (start, h - G @ start, jnp.ones(len(h)))
end, trace = jax.jit(lambda begin: jax.lax.scan(step, begin, length=12))(begin)
print("by hand     ", end[0], "\nsolve_lp    ", solve(50).x)

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8), layout="constrained")
plot.central_path(G, h, paths.x[0], axes=left)
left.lines[0].set(marker="", lw=1.5, alpha=0.6)
for k in range(2):
    x, along, whole = (np.asarray(trace[name][k]) for name in ("x", "predictor", "step"))
    left.annotate("", x + along, x, arrowprops={"arrowstyle": "->", "color": ORANGE, "lw": 2})
    left.annotate("", x + whole, x, arrowprops={"arrowstyle": "->", "color": RED, "lw": 2})
    left.plot(*x, "o", color="black", ms=5)
left.set_title(
    "The first two steps: predictor (orange),\nand with the correction (red)", fontsize=11
)
binding = np.asarray(h - G @ end[0]) < 1e-6
for i in range(len(h)):
    right.semilogy(trace["scaling"][:, i], color=RED if binding[i] else "0.6", lw=2)
right.semilogy(trace["mu"], color=BLUE, ls="--", lw=2)
right.text(6.2, float(trace["mu"][6]) * 3, r"$\mu$", color=BLUE, fontsize=12)
right.text(0.3, 1e10, "edges that do not bind", color="0.4")
right.text(0.3, 1e-11, "edges that bind", color=RED)
right.set(xlabel="iteration", ylabel="$s_i / z_i$", title="The scaling $H$ tells them apart")
plt.show()

# %% [markdown]
# Entries of $H$ run to $0$ for the constraints that bind and to infinity for the others: that is how the method finds
# out which is which, and why its linear systems are hard near the end. The solver regularises a little, refines its
# solutions against the true matrix, and judges itself by residuals of the data as they were given. It also scales the
# data, solves a *homogeneous embedding* that ends in certificates where there is no solution, and has an $H$ for every
# cone: that of Nesterov and Todd for the symmetric ones, a primal-dual one for exponential and power cones.
# `Options(history=...)` keeps what happened:

# %%
rng = np.random.default_rng(0)
n, options = 12, cj.Options(history=40)
F, spread = rng.normal(size=(20, n)), rng.uniform(0.5, 1.5, n)
linear = cj.solve_lp(spread, F, F @ np.ones(n) + 0.5, lb=0.0, ub=3.0, options=options)
# exponentials and squares, exp(f_i x) <= u_i as (f_i x, 1, u_i) in the exponential cone
rows, offset = np.zeros((60, n + 20)), np.zeros(60)
rows[0::3, :n], rows[np.arange(20) * 3 + 2, n + np.arange(20)] = -F, -1
offset[1::3] = 1
P = np.diag(np.append(spread, np.zeros(20)))
curved = cj.solve_conic(
    P, np.append(np.zeros(n), np.ones(20)), rows, offset, [cj.Exponential(20)], options=options
)

figure, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True, layout="constrained")
titles = "a linear program", "20 exponential cones"
for axis, solution, title in zip(axes, (linear, curved), titles, strict=True):
    plot.convergence(solution.require_solved(), axes=axis)
    axis.axhline(1e-8, color="0.6", ls="--", lw=1)
    axis.set_title(f"{title}: {int(solution.info.num_iters)} iterations")
axes[0].text(0, 2e-9, "tolerance", color="0.4", va="top")
axes[1].set_ylabel("")
axes[1].get_legend().remove()
plt.show()

# %% [markdown]
# ## The path and derivatives
#
# The solution of $\min \tfrac12(x - t)^2,\; x \ge 0$ is $\max(t, 0)$: its slope in $t$ jumps from 0 to 1, and for
# $t < 0$ no gradient tells that $t$ should grow. The point of the central path at $\mu$ moves smoothly. With
# `Options(derivative="smoothed", smoothing=mu)` values are those of the solution, and slopes those of this point, here
# $\tfrac12\big(1 + t/\sqrt{t^2 + 4\mu}\big)$. $\mu$ is data, too: one call for all curves.


# %%
def solution_at(t, mu):
    options = cj.Options(derivative="smoothed", smoothing=mu)
    return cj.solve_qp(jnp.eye(1), -t[None], lb=0.0, options=options).x[0]


t, smoothings = jnp.linspace(-1.5, 1.5, 61), jnp.array([1e-1, 1e-2, 1e-3])
slopes = jax.jit(jax.vmap(jax.vmap(jax.grad(solution_at), (0, None)), (None, 0)))(t, smoothings)
closed_form = (1 + t / jnp.sqrt(t**2 + 4 * smoothings[:, None])) / 2

figure, axis = plt.subplots(figsize=(8, 2.8), layout="constrained")
axis.plot(t, t > 0, color="0.6", lw=1.5, ls="--", label="exact")
for own, mu, colour in zip(slopes, smoothings, COLOURS, strict=False):
    axis.plot(t, own, color=colour, lw=2, label=f"smoothed, $\\mu = {float(mu):g}$")
axis.set(
    xlabel="$t$",
    ylabel="slope of $x$ in $t$",
    title="What a gradient sees of a constraint that does not bind yet",
)
axis.legend(frameon=False)
plt.show()

# %% [markdown]
# ## A cone of one's own
#
# All that the method asks of a cone is in `convexjax.cones.Cone`: a start, the scaling $H$ and its spectrum, the
# correction, the step to the boundary, and the projection with its derivative. The **rotated second-order cone**
#
# $$\{(u, v, w):\; \|w\|^2 \le 2uv,\; u, v \ge 0\}$$
#
# is the second-order cone turned by 45 degrees, so each of its methods turns, calls, and turns back. (A cone with a
# geometry of its own writes formulas there, as the files in `convexjax/cones` do.)


# %%
@pytree
@dataclass(frozen=True)
class Rotated(Cone):
    """`count` copies of {(u, v, w): |w|^2 <= 2 u v, u, v >= 0} in `dim` rows each."""

    dim: int = static()
    count: int = static(default=1)

    @property
    def inner(self):
        return cj.SecondOrder(self.dim, self.count)

    @property
    def degree(self):
        return self.inner.degree

    def turn(self, v):
        """Its own inverse and transpose."""
        u, t, w = jnp.split(self.copies(v), [1, 2], 1)
        return jnp.concatenate([(u + t) / np.sqrt(2), (u - t) / np.sqrt(2), w], 1).reshape(v.shape)

    def start(self, dtype):
        return self.turn(self.inner.start(dtype))

    def scaling(self, s, z):
        return self.inner.scaling(self.turn(s), self.turn(z))

    def hessian(self, scaling, v):
        return self.turn(self.inner.hessian(scaling, self.turn(v)))

    def correction(self, scaling, s, z, ds, dz, sigma_mu):
        return self.turn(self.inner.correction(scaling, *map(self.turn, (s, z, ds, dz)), sigma_mu))

    def max_step(self, scaling, s, z, ds, dz):
        return self.inner.max_step(scaling, *map(self.turn, (s, z, ds, dz)))

    def projection(self, v, mu):
        return self.turn(self.inner.projection(self.turn(v), mu))

    def spectrum(self, v, mu):
        return self.inner.spectrum(self.turn(v), mu)

    def spectral(self, spectrum, function, v):
        return self.turn(self.inner.spectral(spectrum, function, self.turn(v)))

    def near_kink(self, v, distance):
        return self.inner.near_kink(self.turn(v), distance)


# %% [markdown]
# What a cone has to fulfil is quickly checked: $Hz = s$, and a projection whose derivative agrees with differences.

# %%
cone = Rotated(4)
inside = lambda w, u: jnp.concatenate([jnp.array([u, (w @ w + 0.3) / (2 * u)]), w])
s, z = inside(jnp.array([0.3, -0.8]), 0.7), inside(jnp.array([1.0, 0.2]), 1.3)
maps_z_to_s = float(jnp.abs(cone.hessian(cone.scaling(s, z), z) - s).max())
v, dv = jnp.array([0.4, -0.2, 0.9, 0.5]), jnp.array([0.3, 0.5, -0.4, 0.2])
slope = jax.jvp(cone.project, (v,), (dv,))[1]
difference = (cone.project(v + 1e-6 * dv) - cone.project(v - 1e-6 * dv)) / 2e-6
agrees = float(jnp.abs(slope - difference).max())
print(f"H z - s: {maps_z_to_s:.0e},  derivative - differences: {agrees:.0e}")

# %% [markdown]
# A use: $n$ jobs share a machine; with the share $x_i$ job $i$ takes $c_i / x_i$. The least total time is a program
# with $1/x_i \le u_i$, that is $(u_i, x_i, \sqrt2) \in K$, and its solution is known: $x_i \propto \sqrt{c_i}$. The new
# cone works under `jit`, `vmap` and `grad`, as it is.

# %%
jobs = 5
zero, eye = np.zeros((jobs, jobs)), np.eye(jobs)
of_cone = np.stack(
    [np.hstack([-eye, zero]), np.hstack([zero, -eye]), np.zeros((jobs, 2 * jobs))], 1
)
rows = np.vstack([of_cone.reshape(3 * jobs, -1), np.append(np.zeros(jobs), np.ones(jobs))])
sides = np.append(np.tile([0.0, 0.0, np.sqrt(2)], jobs), 1.0)


def shares(work):
    objective = jnp.concatenate([work, jnp.zeros(jobs)])
    cones, options = [Rotated(3, jobs), cj.Zero(1)], cj.Options(polish=True)
    return cj.solve_conic(None, objective, rows, sides, cones, options=options)


work = jnp.asarray(np.random.default_rng(1).uniform(0.5, 5, (100, jobs)))
batch = jax.jit(jax.vmap(shares))(work).require_solved()
roots = jnp.sqrt(work)
known = roots / roots.sum(1, keepdims=True)
error = float(jnp.abs(batch.x[:, jobs:] - known).max())
jacobian = jax.jit(jax.jacobian(lambda work: shares(work).x[jobs:]))(work[0])
exact = jax.jacobian(lambda work: jnp.sqrt(work) / jnp.sqrt(work).sum())(work[0])
jacobian_error = float(jnp.abs(jacobian - exact).max())
print(f"100 programs solved; shares right to {error:.0e}, their Jacobian to {jacobian_error:.0e}")

# %% [markdown]
# The last cell checks what was claimed.

# %%
assert np.all(np.asarray(paths.status) == cj.Status.SOLVED)
assert float(jnp.abs(paths.x[0, -1] - solve(50).x).max()) < 1e-3
assert float(jnp.abs(end[0] - solve(50).x).max()) < 1e-7 and binding.sum() == 2
assert float(jnp.abs(slopes - closed_form).max()) < 1e-5
assert maps_z_to_s < 1e-10 and agrees < 1e-7
assert error < 1e-8 and jacobian_error < 1e-6
