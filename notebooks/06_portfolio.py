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
# # Portfolios
#
# Markowitz' frontier with constraints by one `vmap`, portfolios of equal risk, portfolios for a worst case and for the
# worst days, and a trading rule whose parameters are learnt from what it earned, by gradients through a chain of 250
# optimisations.
#
# Wants `convexjax[notebooks]`; a minute on two cores. The market is generated here, with a fixed seed.

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

import convexjax as cj
from convexjax import learn, plot

SCALE = 1  # 4 for four times as many days
BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE = plot.COLOURS[:6]
plt.rcParams.update({"figure.dpi": 90, "axes.spines.top": False, "axes.spines.right": False})

# %% [markdown]
# ## A market
#
# Twelve assets in three sectors, daily returns in percent: a factor of the market, one of each sector, and noise of
# each asset. Assets 4, 8 and 12 also crash now and then, and pay for it on all other days. The mean $\mu$ and
# covariance $\Sigma$ are those of 500 days.

# %%
rng = np.random.default_rng(13)
n, days = 12, 500 * SCALE
sector, crashes = np.repeat(np.arange(3), 4), np.arange(n) % 4 == 3
beta = rng.uniform(0.4, 1.4, n)
spread = rng.uniform(0.4, 1.2, n)
expected = 0.015 + 0.03 * beta + 0.02 * spread + rng.normal(size=n) * 0.008
spread[crashes] = 0.3


def market(days):
    """Factor of the market, factors of the sectors, noise, crashes (with the mean of zero that they are paid for)."""
    returns = beta * rng.normal(size=(days, 1)) * 0.7 + 0.4 * rng.normal(size=(days, 3))[:, sector]
    returns += spread * rng.normal(size=(days, n))
    crash = (rng.uniform(size=(days, n)) < 0.02) * crashes
    return expected + returns - 7 * (crash - 0.02 * crashes)


R = market(days)
mu, Sigma = jnp.asarray(R.mean(0)), jnp.asarray(np.cov(R.T))
risk = lambda w: jnp.sqrt(jnp.einsum("...i,ij,...j->...", w, Sigma, w))

# %% [markdown]
# ## The efficient frontier
#
# $$\text{minimise}\quad \tfrac12 w^\top \Sigma w \qquad\text{subject to}\quad \mu^\top w = r,\quad
# \mathbf 1^\top w = 1,\quad 0 \le w \le w_{\max},\quad \text{each sector at most } \tfrac12$$
#
# for 200 returns $r$ at once. Returns that no portfolio reaches are lanes with the status `PRIMAL_INFEASIBLE`; they
# leave the others alone.

# %%
sectors = (sector == np.arange(3)[:, None]).astype(float)
A = jnp.stack([mu, jnp.ones(n)])


def markowitz(r, highest):
    b = jnp.stack([r, 1.0])
    return cj.solve_qp(Sigma, jnp.zeros(n), sectors, jnp.full(3, 0.5), A, b, lb=0.0, ub=highest)


wanted = jnp.linspace(mu.min(), mu.max(), 200)
frontier = jax.jit(jax.vmap(jax.vmap(markowitz, (0, None)), (None, 0)))
found = frontier(wanted, jnp.array([1.0, 0.2]))  # any weight, and at most a fifth in each asset
solved = np.asarray(found.status == cj.Status.SOLVED)
for names, lanes in zip(
    ("sectors at most half", "and assets at most a fifth"), found.status, strict=True
):
    kinds, counts = np.unique(lanes, return_counts=True)
    print(
        f"{names:27}", {cj.Status(int(k)).name: int(c) for k, c in zip(kinds, counts, strict=True)}
    )

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.7), layout="constrained")
for k, (label, colour, style) in enumerate(
    (("sectors at most ½", BLUE, "-"), ("assets at most ⅕, too", VERMILION, "--"))
):
    lanes = solved[k]
    left.plot(risk(found.x[k])[lanes], wanted[lanes], style, color=colour, label=label)
left.scatter(jnp.sqrt(jnp.diag(Sigma)), mu, color="0.4", s=18, label="assets")
left.set(xlabel="standard deviation of a day [%]", ylabel="mean return of a day [%]")
left.legend(
    frameon=False, fontsize=8, ncols=3, columnspacing=1, loc="lower center", bbox_to_anchor=(0.5, 1)
)

best = int(jnp.argmin(jnp.where(solved[0], risk(found.x[0]), jnp.inf)))
upper = solved[0] & (np.arange(200) >= best)  # the efficient half
shades = [
    plt.get_cmap(name)(s) for name in ("Blues", "Oranges", "Greens") for s in (0.4, 0.55, 0.7, 0.85)
]
right.stackplot(wanted[upper], 100 * found.x[0][upper].T, colors=shades, lw=0)
right.set(
    xlabel="mean return [%]",
    ylabel="weights [%]",
    ylim=(0, 100),
    xlim=wanted[upper][jnp.array([0, -1])],
)
right.set_title("a colour for each sector", fontsize=10)
plt.show()

# %% [markdown]
# ## Equal risk
#
# The risk $\sqrt{w^\top \Sigma w}$ is a sum of shares $w_i (\Sigma w)_i / \sqrt{w^\top \Sigma w}$. All shares are equal
# where
#
# $$\tfrac12 x^\top \Sigma x - \sum_i \log x_i$$
#
# is least, with $w = x / \sum_i x_i$: its gradient says $x_i (\Sigma x)_i = 1$. It is a convex function, so give it to
# `minimize` as it is.

# %%
unequal = lambda x: 0.5 * x @ Sigma @ x - jnp.sum(jnp.log(x))
parity = cj.minimize(unequal, jnp.ones(n)).require_solved()
portfolios = {
    "equal weights": jnp.full(n, 1 / n),
    "least variance": found.x[0][best],
    "equal risk": parity.x / parity.x.sum(),
}
shares = {name: w * (Sigma @ w) / (w @ Sigma @ w) for name, w in portfolios.items()}
figure, axes = plt.subplots(figsize=(8, 2.9), layout="constrained")
for k, ((name, share), colour) in enumerate(
    zip(shares.items(), (SKY, BLUE, VERMILION), strict=True)
):
    axes.bar(np.arange(1, n + 1) + 0.27 * (k - 1), 100 * share, 0.25, color=colour, label=name)
axes.set(xlabel="asset", ylabel="share of the risk [%]", xticks=range(1, n + 1))
axes.legend(frameon=False, ncols=3, loc="upper right")
axes.set_ylim(0, 1.25 * axes.get_ylim()[1])
plt.show()

# %% [markdown]
# ## Robust
#
# The mean is an estimate, with the covariance $\Sigma / T$. If the true one is anywhere in the ellipsoid of radius
# $\kappa$ around it, the worst mean of a portfolio is $\mu^\top w - \kappa \|\Sigma^{1/2} w\| / \sqrt T$. To maximise
# that minus a price of variance is a second-order cone program; $\kappa$ may be a lane.

# %%
root = jnp.linalg.cholesky(Sigma).T / np.sqrt(days)
ones = jnp.ones(n)


@jax.jit
@jax.vmap
def robust(kappa):
    """max mu'w - kappa t - 0.05/2 w'Sigma w subject to |root w| <= t, w >= 0, sum w = 1; variables (w, t)."""
    norm = (jnp.hstack([root, jnp.zeros((n, 1))]), None, jnp.eye(n + 1)[n], None)
    P = jnp.zeros((n + 1, n + 1)).at[:n, :n].set(0.05 * Sigma)
    nonnegative = -jnp.eye(n, n + 1), jnp.zeros(n)
    total = jnp.append(ones, 0.0)[None], jnp.ones(1)
    return cj.solve_socp(jnp.append(-mu, kappa), [norm], *nonnegative, *total, P=P)


kappas = jnp.linspace(0, 3, 61)
guarded = robust(kappas)
weights = guarded.x[:, :n]

# %% [markdown]
# How good is that on the *true* mean, which is known here?

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.stackplot(kappas, 100 * weights.T, colors=shades, lw=0)
left.set(xlabel=r"doubt $\kappa$", ylabel="weights [%]", ylim=(0, 100), xlim=(0, 3))
right.plot(kappas, weights @ mu, color=BLUE, label="as estimated")
right.plot(kappas, weights @ expected, "--", color=GREEN, label="true")
right.plot(
    kappas,
    weights @ mu - kappas * jnp.linalg.norm(weights @ root.T, axis=1),
    color=VERMILION,
    label="worst case",
)
right.set(xlabel=r"doubt $\kappa$", ylabel="mean return [%]")
right.legend(frameon=False)
plt.show()

# %% [markdown]
# The estimate flatters the portfolio that trusts it: more than twice the true return. Doubt spreads the weights, and
# from $\kappa = 2$ on the worst case is a promise that is kept.
#
# ## The worst days
#
# Variance cannot tell a crash from a boom. The conditional value at risk, the mean loss of the worst 5 % of the days,
# can, and over the days of the past it is a linear program (Rockafellar and Uryasev, 2000): with
# $\ell_t = -R_t^\top w$,
#
# $$\text{minimise}\quad a + \frac{1}{0.05\, T} \sum_t u_t \qquad\text{subject to}\quad u_t \ge \ell_t - a,\quad
# u \ge 0, \quad \mu^\top w \ge r .$$

# %%
T, tail = days, 0.05
target = float(portfolios["equal weights"] @ mu)
past = jnp.asarray(R)
c = jnp.concatenate([jnp.zeros(n), jnp.ones(1), jnp.full(T, 1 / (tail * T))])
G = jnp.block([[-past, -jnp.ones((T, 1)), -jnp.eye(T)], [-mu[None], jnp.zeros((1, T + 1))]])
h = jnp.zeros(T + 1).at[T].set(-target)
lb = jnp.zeros(n + 1 + T).at[n].set(-jnp.inf)
budget = jnp.zeros((1, n + 1 + T)).at[0, :n].set(1)
careful = cj.solve_lp(c, G, h, budget, jnp.ones(1), lb=lb).require_solved()
calm = cj.solve_qp(
    Sigma, jnp.zeros(n), -mu[None], jnp.array([-target]), ones[None], jnp.ones(1), lb=0.0
).require_solved()

fresh = market(20_000)  # days that neither has seen


def worst(w, days):
    loss = np.sort(-days @ w)[::-1]
    return loss[: int(tail * len(loss))].mean()


both = {"least variance": np.asarray(calm.x), "least CVaR": np.asarray(careful.x[:n])}
for name, w in both.items():
    print(f"{name:14} standard deviation {np.std(fresh @ w):.2f} %,", end=" ")
    print(f"worst 5 % of new days {worst(w, fresh):.2f} %")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for (name, w), colour, place in zip(both.items(), (BLUE, VERMILION), (-0.2, 0.2), strict=True):
    left.bar(np.arange(1, n + 1) + place, 100 * w, 0.38, color=colour, label=name)
    ordered = np.sort(-fresh @ w)
    right.semilogy(
        ordered, 100 * np.arange(len(ordered), 0, -1) / len(ordered), color=colour, label=name
    )
left.set(xlabel="asset (4, 8 and 12 crash)", ylabel="weight [%]", xticks=range(1, n + 1))
left.legend(frameon=False)
right.set(
    xlabel="loss of a day [%]", ylabel="days that are worse [%]", xlim=(0, None), ylim=(5e-3, 60)
)
right.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Learning to trade
#
# Signals $s_t$ predict tomorrow's returns of eight assets and fade in ten days; trading costs. Each day's long and
# short positions are a quadratic program, which starts from those of the day before,
#
# $$w_t = \operatorname*{argmax}_{\mathbf 1^\top w = 0,\ -1 \le w \le 1}\ \theta\, s_t^\top w
# - \tfrac{\gamma}{2}\|w\|^2 - \tfrac{\lambda}{2} \|w - w_{t-1}\|^2 .$$
#
# How strongly to follow the signal ($\theta$), and how slowly to trade ($\lambda$)? The myopic answer takes both from
# the model of one day. Better ask what was earned: 250 programs in a `scan`, the realised return minus costs at its
# end, and its gradient with respect to $\theta$ and $\lambda$ back through all of them.

# %%
k, horizon, cost, gamma = 8, 250, 5.0, 0.5


def signals_and_returns(key):
    first, second, third = jax.random.split(key, 3)
    shocks = jax.random.normal(first, (horizon, k))
    _, s = jax.lax.scan(
        lambda s, e: (0.9 * s + 0.436 * e,) * 2, jax.random.normal(second, (k,)), shocks
    )
    return s, 0.1 * s + jax.random.normal(third, (horizon, k))  # percent


def earned(logs, history):
    """Daily return, after risk and costs, of the rule with these log theta and log lambda."""
    theta, slowness = jnp.exp(logs)

    def day(w, today):
        s, r = today
        P, q = (gamma + slowness) * jnp.eye(k), -(theta * s + slowness * w)
        new = cj.solve_qp(P, q, A=jnp.ones((1, k)), b=jnp.zeros(1), lb=-1.0, ub=1.0).x
        return new, r @ new - gamma / 2 * new @ new - cost / 2 * jnp.sum((new - w) ** 2)

    return jnp.mean(jax.lax.scan(day, jnp.zeros(k), history)[1])


past_days, future_days = (
    jax.vmap(signals_and_returns)(jax.random.split(jax.random.key(seed), 8)) for seed in (0, 1)
)
mean_earned = jax.jit(lambda logs, years: jnp.mean(jax.vmap(earned, (None, 0))(logs, years)))
myopic = jnp.log(jnp.array([0.1, cost]))
learnt, history = learn.validation.tune(
    lambda logs: -mean_earned(logs, past_days), myopic, steps=30
)
print("              theta  lambda   eight years past   eight years to come")
for name, logs in {"myopic": myopic, "learnt": learnt}.items():
    theta, slowness = jnp.exp(logs)
    gains = [mean_earned(logs, years) for years in (past_days, future_days)]
    print(f"{name:12} {theta:6.2f} {slowness:7.2f} {gains[0]:17.4f} {gains[1]:21.4f}")

# %%
figure, axes = plt.subplots(figsize=(6, 2.8), layout="constrained")
axes.plot(-history, color=BLUE)
axes.set(xlabel="gradient step", ylabel="earned a day [%]")
axes.set_title("2,000 quadratic programs a step", fontsize=10)
plt.show()

# %% [markdown]
# The myopic rule weighs the cost of a trade against the return of one day. But a position earns for as long as its
# signal lives, so the gradient makes the trades much cheaper than they are; and because the signal will have faded by
# then, it follows it with less strength.
#
# The last cell checks what was claimed.

# %%
ok = cj.Status.SOLVED
assert set(np.unique(found.status).tolist()) == {ok, cj.Status.PRIMAL_INFEASIBLE}
on = found.x[solved]
assert (
    np.abs(on.sum(1) - 1).max() < 1e-7 and on.min() > -1e-7 and (on @ sectors.T).max() < 0.5 + 1e-7
)
assert np.ptp(shares["equal risk"]) < 1e-6
assert np.all(guarded.status == ok) and np.diff(weights @ mu).max() < 1e-5
kept = weights @ mu - kappas * jnp.linalg.norm(weights @ root.T, axis=1) < weights @ expected
assert weights[0] @ mu > 2 * weights[0] @ expected and np.all(kept[kappas >= 2])
empirical = worst(both["least CVaR"], np.asarray(past))
assert abs(empirical - careful.objective) < 0.05 * abs(careful.objective)
assert worst(both["least CVaR"], fresh) < worst(both["least variance"], fresh)
step = jnp.array([1e-4, 0])
slope = jax.grad(mean_earned)(myopic, past_days)[0]
difference = (mean_earned(myopic + step, past_days) - mean_earned(myopic - step, past_days)) / 2e-4
assert abs(slope - difference) < 1e-3 * abs(slope)
assert mean_earned(learnt, future_days) > mean_earned(myopic, future_days)
