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
# # Semidefinite programs and determinants
#
# Matrices as variables: a cut of a graph that is proved to be nearly the best, a network of dependencies found in
# samples, the smallest ellipse around points and what pulls at it, and a controller whose worst case is as small as
# possible. Four classics, each a call or a few lines, each with its proof.
#
# Wants `convexjax[notebooks]`; a minute on two cores. The data are generated here.

# %%
import sys

if "google.colab" in sys.modules:
    # !pip install -q "convexjax[notebooks]"
    pass

# %%
import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.collections import LineCollection

import convexjax as cj
from convexjax import learn, plot

SCALE = 1  # 4 for graphs of four times as many nodes
BLUE, VERMILION, GREEN, ORANGE = plot.COLOURS[:4]
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## Maximum cut
#
# Divide the nodes of a graph in two so that as many edges as possible run between the sides: for 60 nodes $2^{59}$
# ways. With $x_i = \pm 1$ for the sides, $X = xx^\top$ has ones on its diagonal and is positive semidefinite. Forget
# that its rank is one, and
#
# $$\text{maximise}\quad \tfrac14 \sum_{ij} W_{ij} (1 - X_{ij}) \qquad\text{subject to}\quad X_{ii} = 1,\quad
# X \succeq 0$$
#
# is convex and bounds every cut. Random hyperplanes through its solution make cuts, the best of which is returned
# (Goemans and Williamson, 1995).

# %%
rng = np.random.default_rng(2)
nodes = 60 * SCALE
place = rng.uniform(size=(nodes, 2)) * [1.8, 1]
far = np.linalg.norm(place[:, None] - place[None], axis=2)
W = ((far < 0.27 / np.sqrt(SCALE)) & (far > 0)).astype(float)
cut = cj.relaxations.max_cut(W, jax.random.key(0))
print(f"edges {W.sum() / 2:.0f}, cut {cut.value:.0f}, no cut has more than {cut.bound:.2f}")

# %%
i, j = np.nonzero(np.triu(W))
between = np.array(cut.side[i] != cut.side[j])
segments = np.stack([place[i], place[j]], 1)
figure, axes = plt.subplots(figsize=(7.5, 4), layout="constrained")
axes.add_collection(LineCollection(segments[between], color="0.75", lw=1, label="cut"))
axes.add_collection(LineCollection(segments[~between], color="black", lw=1.8, label="not cut"))
for side, colour, marker in ((1, BLUE, "o"), (-1, ORANGE, "s")):
    axes.scatter(
        *place[cut.side == side].T, color=colour, marker=marker, s=50, zorder=3, edgecolors="white"
    )
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
axes.set(aspect="equal")
axes.axis("off")
plt.show()

# %% [markdown]
# ## Sparse inverse covariance
#
# In a Gaussian vector a zero of the inverse covariance $X = \Sigma^{-1}$ means: given all others, these two are
# independent. The inverse of a sample covariance $S$ has no zeros. The graphical lasso asks for them,
#
# $$\text{minimise}\quad \operatorname{trace}(SX) - \log\det X + \lambda \sum_{i \ne j} |X_{ij}| .$$
#
# The truth here is a ring of 30 variables with a few chords; 120 samples are given.

# %%
p, samples = 30, 120
truth = np.eye(p) * 1.6
pairs = [(k, (k + 1) % p) for k in range(p)] + [(0, 15), (5, 20), (8, 27)]
for a, b in pairs:
    truth[a, b] = truth[b, a] = -0.6
data = rng.multivariate_normal(np.zeros(p), np.linalg.inv(truth), size=samples)
S = np.cov(data.T)

penalties = jnp.logspace(-2, 0, 40)
fits = jax.jit(jax.vmap(lambda penalty: learn.graphical_lasso.fit(S, penalty)))(penalties)
edges, strict = truth != 0, np.triu_indices(p, 1)
found = np.abs(np.array(fits.precision)) > 1e-9
hit = (found & edges)[:, *strict].sum(1) / edges[strict].sum()
false = (found & ~edges)[:, *strict].sum(1) / (~edges)[strict].sum()
best = int(np.argmax(hit - false))
print(f"penalty {penalties[best]:.2f}: {100 * hit[best]:.0f} % of the edges found,", end=" ")
print(f"{100 * false[best]:.1f} % of the others wrongly; largest duality gap {fits.gap.max():.0e}")

# %%
figure, panels = plt.subplots(1, 4, figsize=(8, 2.5), layout="constrained")
shown = {"truth": truth, "inverse of S": np.linalg.inv(S), "graphical lasso": fits.precision[best]}
for axes, (name, matrix) in zip(panels[:3], shown.items(), strict=True):
    axes.imshow(matrix - np.diag(np.diag(matrix)), cmap="PuOr", vmin=-0.8, vmax=0.8)
    axes.set(xticks=[], yticks=[])
    axes.set_title(name, fontsize=9)
    axes.spines[:].set_visible(True)
panels[3].plot(100 * false, 100 * hit, color=BLUE, marker=".")
panels[3].plot(100 * false[best], 100 * hit[best], "*", color=VERMILION, ms=13)
panels[3].set(xlabel="wrong edges [%]", ylabel="right edges [%]")
panels[3].set_title("40 penalties, one call", fontsize=9)
plt.show()

# %% [markdown]
# ## The smallest ellipse
#
# Around points $p_i$ the ellipsoid of least volume is a max-det program. Its dual weighs the points, and only those on
# the boundary count. The area is a differentiable function of all points: its gradient says how each of them pulls.

# %%
points = jnp.asarray(rng.normal(size=(40, 2)) @ np.array([[1.5, 0.6], [0.0, 0.7]]))


def area(points):
    shape = cj.relaxations.minimum_volume_ellipsoid(points).shape
    return jnp.pi / jnp.sqrt(jnp.linalg.det(shape))


ellipse = cj.relaxations.minimum_volume_ellipsoid(points)
value, pull = jax.jit(jax.value_and_grad(area))(points)
inside = jnp.einsum("ni,ij,nj->n", points - ellipse.centre, ellipse.shape, points - ellipse.centre)
print(f"area {value:.3f}, {int((inside > 1 - 1e-5).sum())} points on the boundary,", end=" ")
print(f"status {cj.Status(int(ellipse.solution.status)).name}")

# %%
angle = np.linspace(0, 2 * np.pi, 200)
circle = np.stack([np.cos(angle), np.sin(angle)])
around = ellipse.centre[:, None] + np.linalg.solve(np.linalg.cholesky(ellipse.shape).T, circle)
figure, axes = plt.subplots(figsize=(6.5, 3.8), layout="constrained")
axes.fill(*around, color=BLUE, alpha=0.12, lw=0)
axes.plot(*around, color=BLUE)
axes.scatter(*points.T, color="0.45", s=16)
touching = np.asarray(inside > 1 - 1e-5)
axes.scatter(*points[touching].T, color=VERMILION, s=36, zorder=3, label="on the boundary")
axes.quiver(
    *points[touching].T,
    *pull[touching].T,
    color=VERMILION,
    width=0.005,
    label="derivative of the area",
)
axes.plot(*ellipse.centre, "+", color="black", ms=10, label="centre")
axes.set(aspect="equal", xlabel="$x_1$", ylabel="$x_2$")
axes.margins(0.1, 0.25)  # room for the arrows
axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
plt.show()

# %% [markdown]
# ## A controller for the worst case
#
# Two masses of 1 kg on a springy shaft (1 N/m, hardly damped) and weak springs to the wall; a force $u$ acts on the
# first, a disturbance $w$ on the second, positions $q$ and velocities $\dot q$ are known. What is felt is the second
# position and the effort, $z = (q_2, \rho u)$. Which feedback $u = Kx$ makes the largest gain from $w$ to $z$, over all
# frequencies, as small as possible, with no pole of the closed loop faster than 3 rad/s? With $Y = KX$ this $H_\infty$
# problem is a pair of linear matrix inequalities:
#
# $$\text{minimise}\quad \gamma \qquad\text{subject to}\quad
# \begin{pmatrix} AX + XA^\top + BY + Y^\top B^\top & B_w & (CX + DY)^\top \\ B_w^\top & -\gamma & 0 \\
# CX + DY & 0 & -\gamma I \end{pmatrix} \preceq 0, \quad
# \begin{pmatrix} 3X & AX + BY \\ (AX + BY)^\top & 3X \end{pmatrix} \succeq 0 .$$
#
# They need not be taken apart by hand: written as functions of the variables, `jax.jacfwd` has the matrices $F_i$.

# %%
springs, damping = jnp.array([[1.1, -1], [-1, 1.1]]), jnp.array([[0.07, -0.05], [-0.05, 0.07]])
A = jnp.block([[jnp.zeros((2, 2)), jnp.eye(2)], [-springs, -damping]])
B, B_w = jnp.array([[0.0], [0], [1], [0]]), jnp.array([[0.0], [0], [0], [1]])
C = jnp.array([[0.0, 1, 0, 0], [0, 0, 0, 0]])


def design(rho):
    """The least worst gain, and the feedback that has it."""
    D = jnp.array([[0.0], [1]]) * rho

    def parts(v):
        return v[0], cj.smat(v[1:11]), v[11:].reshape(1, 4)  # gamma, X, Y

    def gain(v):
        gamma, X, Y = parts(v)
        flow, out, zero = A @ X + B @ Y, C @ X + D @ Y, jnp.zeros((1, 2))
        rows = [
            [flow + flow.T, B_w, out.T],
            [B_w.T, -gamma * jnp.eye(1), zero],
            [out, zero.T, -gamma * jnp.eye(2)],
        ]
        return -jnp.block(rows)

    def poles(v):
        _, X, Y = parts(v)
        flow = A @ X + B @ Y
        return jnp.block([[3 * X, flow], [flow.T, 3 * X]])

    def matrices(function):
        """F_0, F_1, ... of an affine function of 15 variables."""
        slopes = jnp.moveaxis(jax.jacfwd(function)(jnp.zeros(15)), -1, 0)
        return jnp.concatenate([function(jnp.zeros(15))[None], slopes])

    c = jnp.zeros(15).at[0].set(1)
    solution = cj.solve_sdp(c=c, F=[matrices(gain), matrices(poles)])
    gamma, X, Y = parts(solution.x)
    return gamma, jnp.linalg.solve(X, Y.T).T, solution.status


gamma, K, status = design(1.0)
worst = jax.jit(lambda A, C: jnp.sqrt(cj.relaxations.h_infinity_norm(A, B_w, C).objective))
closed = worst(A + B @ K, C + jnp.array([[0.0], [1]]) @ K)
print(cj.Status(int(status)).name, "K =", K.round(3))
print(
    f"gain promised {gamma:.4f}, of the closed loop {closed:.4f}, of the free plant {worst(A, C):.1f}"
)
print("poles", jnp.linalg.eigvals(A + B @ K).round(3))

# %%
frequency = jnp.logspace(-1.5, 1, 400)


def gains(A, C):
    """|C (iw - A)^-1 B_w| for all frequencies w."""
    response = lambda w: C @ jnp.linalg.solve(1j * w * jnp.eye(4) - A, B_w.astype(complex))
    return jnp.linalg.norm(jax.vmap(response)(frequency)[..., 0], axis=1)


free, controlled = gains(A, C), gains(A + B @ K, C + jnp.array([[0.0], [1]]) @ K)
rhos = jnp.logspace(-1, 1, 30)
curve, _, statuses = jax.jit(jax.vmap(design))(rhos)
slope = jax.grad(lambda rho: design(rho)[0])(1.0)

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.3), layout="constrained")
left.loglog(frequency, free, "--", color="0.5", label="free")
left.loglog(frequency, controlled, color=BLUE, label="controlled")
left.axhline(gamma, color=VERMILION, lw=1, label=rf"$\gamma$ = {gamma:.2f}")
left.set(xlabel="frequency [rad/s]", ylabel="gain from $w$ to $z$")
left.legend(frameon=False)
right.semilogx(rhos, curve, color=BLUE)
tangent = jnp.linspace(0.4, 2.2, 50)
right.plot(tangent, gamma + slope * (tangent - 1), color=VERMILION, lw=1.5, label="derivative at 1")
right.plot(1, gamma, "o", color=VERMILION)
right.set(xlabel=r"price of effort $\rho$", ylabel=r"worst gain $\gamma$")
right.set_title("30 designs, one call", fontsize=10)
right.legend(frameon=False)
plt.show()

# %% [markdown]
# No frequency has a larger gain than promised, and the peaks of the free plant are gone. The last cell checks what was
# claimed.

# %%
solved = cj.Status.SOLVED
assert int(cut.solution.status) == solved and between.sum() == round(float(cut.value))
assert 0.95 * cut.bound < cut.value < cut.bound + 1e-6
assert np.all(fits.status == solved) and hit[best] > 0.9 and false[best] < 0.1
assert inside.max() < 1 + 1e-6 and int(ellipse.solution.status) == solved
nudge = 1e-5 * jnp.zeros((40, 2)).at[int(jnp.argmax(inside)), 0].set(1)
difference = (area(points + nudge) - area(points - nudge)) / 2e-5
assert abs(difference - pull[int(jnp.argmax(inside)), 0]) < 1e-3 * jnp.abs(pull).max()
assert int(status) == solved and np.all(statuses == solved)
assert 0.98 * gamma < closed < gamma * (1 + 1e-4) and controlled.max() < gamma * (1 + 1e-6)
assert jnp.abs(jnp.linalg.eigvals(A + B @ K)).max() < 3
assert abs((design(1.001)[0] - design(0.999)[0]) / 0.002 - slope) < 1e-3
