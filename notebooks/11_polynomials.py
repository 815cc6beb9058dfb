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
# # What you cannot solve, and what you can
#
# Local search from 400 starts, and no way of knowing whether the best of them is the best of all: that is life without
# convexity. A polynomial of degree 10 has a way out, a semidefinite program whose answer is a lower bound with a proof,
# often with the global minimiser in it. And where there is no way out, the library says so.
#
# Wants `convexjax[notebooks]`; about half a minute on two cores, most of it compilation.

# %%
import sys

if "google.colab" in sys.modules:
    # !pip install -q "convexjax[notebooks]"
    pass

# %%
import time
from math import comb

import jax

jax.config.update("jax_enable_x64", True)

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from numpy.polynomial import chebyshev

import convexjax as cj
from convexjax import learn
from convexjax.plot import COLOURS

SCALE = 1  # 4 for four times as many starts
BLUE, RED, GREEN, ORANGE = COLOURS[:4]
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## A landscape of degree 10
#
# With the Chebyshev polynomials $T_k$, which go up and down between $-1$ and $1$,
#
# $$p(x, y) = T_{10}(x) + T_{10}(y) + \tfrac25\, T_3(x)\,T_3(y) + \tfrac15\, xy + \tfrac14\, x - \tfrac{3}{20}\, y .$$
#
# It has 25 valleys; the last four terms make them differ. A polynomial is a dictionary from exponents to coefficients.

# %%
T3, T10 = (chebyshev.cheb2poly([0] * k + [1]) for k in (3, 10))
table = np.zeros((11, 11))  # of x^i y^j
table[:, 0] += T10
table[0, :] += T10
table[:4, :4] += 0.4 * np.outer(T3, T3)
table[1, 1] += 0.2
table[1, 0] += 0.25
table[0, 1] -= 0.15
polynomial = {(int(i), int(j)): float(table[i, j]) for i, j in np.argwhere(table)}


def p(point):
    powers = jnp.cumprod(jnp.concatenate([jnp.ones((1, 2)), jnp.tile(point, (10, 1))]), 0)
    return powers[:, 0] @ table @ powers[:, 1]


print(f"degree {max(map(sum, polynomial))}, {len(polynomial)} monomials")

# %% [markdown]
# ## Local search
#
# `learn.lbfgs` finds a valley from any start, and `vmap` runs 400 of them at once. Each ends in *some* valley, with a
# gradient of zero to prove that it is one, and nothing more.

# %%
starts = jax.random.uniform(jax.random.key(0), (400 * SCALE, 2), minval=-1.0, maxval=1.0)
descend = jax.jit(
    jax.vmap(lambda start: learn.lbfgs.minimise(p, start, tolerance=1e-8, max_iters=100))
)
jax.block_until_ready(descend(starts))
begin = time.perf_counter()
ends = jax.block_until_ready(descend(starts))
seconds = time.perf_counter() - begin
lowest = float(ends.value.min())
share = float(jnp.mean(ends.value < lowest + 1e-6))
valleys = len(np.unique(np.asarray(ends.params).round(3), axis=0))
print(f"{len(starts)} searches in {1e3 * seconds:.0f} ms end in {valleys} valleys;")
print(f"the lowest has {lowest:.6f}, and {100 * share:.0f} % of the starts lead there")

# %% [markdown]
# ## A sum of squares
#
# $p$ is nowhere below $\gamma$ if $p - \gamma$ is a sum of squares. With all monomials $m(x, y)$ up to degree 5 this is
#
# $$p(x, y) - \gamma = m(x, y)^\top Q\, m(x, y), \qquad Q \succeq 0,$$
#
# linear equations for the coefficients and a matrix that is positive semidefinite: the largest such $\gamma$ is a
# *convex* problem, though $p$ is as far from convex as can be. Its dual holds the moments of a measure, from which
# minimisers are read off (Lasserre, 2001).

# %%
found = cj.relaxations.minimize_polynomial(polynomial)
smallest = float(np.linalg.eigvalsh(found.gram)[0] / np.linalg.eigvalsh(found.gram)[-1])
print(f"{cj.Status(int(found.status)).name}: p is nowhere below {float(found.bound):.9f}")
print(f"the minimiser {found.minimisers[0].round(6)} has   {float(p(found.minimisers[0])):.9f}")
print(f"both sides of the equation differ by {float(found.residual):.0e} at most, relative to")
print(
    f"coefficients of up to {max(map(abs, polynomial.values())):.0f}; smallest eigenvalue {smallest:.0e}"
)

# %%
grid = np.linspace(-1.03, 1.03, 201)
surface = jax.jit(jax.vmap(p))(jnp.asarray(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)))
surface = np.asarray(surface).reshape(201, 201)

figure, (left, right) = plt.subplots(
    1, 2, figsize=(8, 3.9), layout="constrained", width_ratios=(1.15, 1)
)
mesh = left.contourf(grid, grid, np.clip(surface, None, 3), levels=24, cmap="cividis")
left.plot(*np.asarray(ends.params).T, ".", color="white", ms=8, mec="black", mew=0.5)
left.plot(*found.minimisers.T, "*", color=RED, ms=20, mec="white")
left.set(
    aspect="equal",
    xlabel="$x$",
    ylabel="$y$",
    title="White: ends of 400 searches.\nStar: the global minimiser",
)
figure.colorbar(mesh, ax=left, label="$p$", shrink=0.8)
right.plot(np.sort(ends.value), np.linspace(0, 100, len(starts)), color=BLUE, lw=2)
right.axvline(float(found.bound), color=RED, lw=2, ls="--")
right.text(float(found.bound) + 0.03, 60, "proved:\nnothing is\nleft of this", color=RED)
right.set(xlabel="value at the end", ylabel="% of the searches", title="What local search finds")
plt.show()

# %% [markdown]
# The two belong together: local search finds good points and proves nothing, the bound proves, and here its dual finds
# the point as well. A proof can be tried on anything:

# %%
anything = 1.2 * jax.random.normal(jax.random.key(1), (100_000, 2))
least = float(jax.jit(jax.vmap(p))(anything).min() - found.bound)
Q, monomials = np.asarray(found.gram), found.monomials
point = np.array([0.3, -0.7])
m = np.prod(point**monomials, axis=1)
squares = np.linalg.eigh(Q)
as_squares = float(np.sum(np.maximum(squares[0], 0) * (squares[1].T @ m) ** 2))
print(f"100,000 random points: the lowest is {least:.3f} above the bound")
print(
    f"at (0.3, -0.7): p - bound = {float(p(point) - found.bound):.9f}, the squares add up to {as_squares:.9f}"
)

# %% [markdown]
# ## Where squares do not suffice
#
# Motzkin's polynomial $x^4y^2 + x^2y^4 - 3x^2y^2 + 1$ is nonnegative and not a sum of squares, whatever is subtracted.
# There is no bound to be found, and the status says that nothing was proved. Times $1 + x^2 + y^2$ it is one:
# `multiplier=1`.

# %%
motzkin = {(4, 2): 1.0, (2, 4): 1.0, (2, 2): -3.0, (0, 0): 1.0}
tries = [cj.relaxations.minimize_polynomial(motzkin, multiplier=r) for r in (0, 1)]
for r, own in enumerate(tries):
    name = cj.Status(int(own.status)).name
    print(
        f"multiplier {r}: {name:15} bound {float(own.bound):+.1e}, residual {float(own.residual):.0e}"
    )

# %% [markdown]
# ## How far it goes
#
# The matrix $Q$ has a row for each monomial up to half the degree, $\binom{n + d}{d}$ of them. On a laptop some hundred
# are fine, a thousand are not:

# %%
print("variables   " + "".join(f"degree {2 * d:<5}" for d in (2, 3, 4, 5)))
for n in (1, 2, 4, 8, 16):
    print(f"{n:9}   " + "".join(f"{comb(n + d, d):<12,}" for d in (2, 3, 4, 5)))

# %% [markdown]
# ## What it says when it cannot
#
# A solver for convex problems meets others every day. Nothing that is solved wrongly may look solved; each status below
# is a claim that the returned numbers prove.

# %%
box = dict(lb=-1.0, ub=1.0)
cases = {
    "a quadratic program with an indefinite P": cj.solve_qp(
        np.diag([1.0, -1.0]), np.zeros(2), **box
    ),
    "the polynomial above, to `minimize`": cj.minimize(p, jnp.array([0.1, 0.2])),
    "x <= -1 and x >= 1": cj.solve_lp([1.0], [[1.0]], [-1.0], lb=1.0),
    "min -x, x >= 0": cj.solve_lp([-1.0], lb=0.0),
    "a NaN in the data": cj.solve_lp([jnp.nan], **box),
    "a problem that it can solve": cj.solve_lp([1.0], **box),
}
for name, solution in cases.items():
    status = cj.Status(int(solution.status))
    print(f"{name}: {status.name}\n    {status.message}")

# %% [markdown]
# Before all this one may ask for a pair of points that shows that a function is not convex:

# %%
pair = cj.check_convexity(
    p, lambda key: jax.random.uniform(key, (2,), minval=-1.0), jax.random.key(2)
)
line = jnp.linspace(0, 1, 200)[:, None]
segment = pair.x + line * (pair.y - pair.x)
figure, axis = plt.subplots(figsize=(8, 2.6), layout="constrained")
axis.plot(
    line, jax.vmap(p)(segment), color=BLUE, lw=2, label="$p$ on the way from one point to the other"
)
axis.plot(
    [0, 1],
    [p(pair.x), p(pair.y)],
    color=RED,
    ls="--",
    lw=2,
    label="the chord, above it if $p$ were convex",
)
axis.set(
    xlabel="share of the way", ylabel="$p$", title="A counterexample that check_convexity found"
)
axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
plt.show()

# %% [markdown]
# Not for this library: integers (use HiGHS or SCIP), one huge sparse program (HiGHS, Clarabel), and nonconvex problems
# without structure, where many local searches, as above, are all one has.
#
# The last cell checks what was claimed.

# %%
assert cj.Status(int(found.status)) == cj.Status.SOLVED and len(found.minimisers) == 1
assert abs(float(p(found.minimisers[0]) - found.bound)) < 1e-7
assert float(found.residual) < 1e-6 and smallest > -1e-9
assert lowest > float(found.bound) - 1e-7 and least > 0 and valleys >= 20
assert abs(as_squares - float(p(point) - found.bound)) < 1e-6
assert int(tries[0].status) != cj.Status.SOLVED and int(tries[1].status) == cj.Status.SOLVED
assert abs(float(tries[1].bound)) < 1e-6
names = [cj.Status(int(solution.status)).name for solution in cases.values()]
assert names[:4] == ["NONCONVEX", "NONCONVEX", "PRIMAL_INFEASIBLE", "DUAL_INFEASIBLE"]
assert names[4:] == ["NUMERICAL_ERROR", "SOLVED"] and bool(pair.found)
