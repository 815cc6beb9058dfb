"""Makes the pictures of the front page and of the page on pictures: `python docs/figures.py`."""

from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np

import convexjax as cj
from convexjax import learn, plot

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import MultipleLocator, PercentFormatter

FOLDER = Path(__file__).parent / "images"


def central_path(axes):
    """A linear program: the points of the central path at falling values of mu."""
    G = jnp.array(
        [[-1.0, 0.0], [0.0, -1.0], [1.0, 1.6], [1.0, -0.4], [-0.5, 1.0]]
    )
    h, q = jnp.array([0.0, 0.0, 2.0, 1.0, 0.8]), jnp.array([-1.0, -0.9])
    barrier = lambda x, mu: q @ x / mu - jnp.sum(jnp.log(h - G @ x))
    point = jax.jit(
        lambda mu: cj.minimize(barrier, jnp.array([0.4, 0.4]), params=mu).x
    )
    points = jnp.stack([point(mu) for mu in jnp.geomspace(10.0, 1e-3, 18)])
    plot.central_path(G, h, points, q, axes=axes)
    axes.set_title("Solve")


def frontier(axes):
    """Mean against deviation of 200 portfolios of five assets, in one call for each kind."""
    rng = np.random.default_rng(2)
    factors = rng.normal(size=(5, 5))
    covariance = jnp.asarray(
        factors @ factors.T / 100 + np.diag([0.002, 0.01, 0.02, 0.03, 0.05])
    )
    mean = jnp.array([0.02, 0.05, 0.08, 0.10, 0.13])

    def portfolio(wanted, lb):
        A, b = jnp.stack([jnp.ones(5), mean]), jnp.stack([1.0, wanted])
        return cj.solve_qp(covariance, jnp.zeros(5), A=A, b=b, lb=lb)

    wanted = jnp.linspace(0.04, 0.125, 100)
    for lb, label, line in (
        (0.0, "long only", "-"),
        (-1.0, "short sales allowed", "--"),
    ):
        solutions = jax.jit(jax.vmap(portfolio, (0, None)))(
            wanted, lb
        ).require_solved()
        deviation = jnp.sqrt(2 * solutions.objective)
        labels = ("standard deviation", "expected return")
        plot.trade_off(
            deviation,
            wanted,
            labels,
            axes=axes,
            label=label,
            marker=None,
            linestyle=line,
        )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_locator(MultipleLocator(0.04))
    axes.legend(loc="lower right", frameon=False)
    axes.set_title("Batch")


def machine(axes):
    """Two moons, and a kernel machine whose width was learnt by gradient from samples left out."""
    rng = np.random.default_rng(0)
    angle = np.pi * rng.uniform(size=(2, 60))
    upper = np.stack([np.cos(angle[0]), np.sin(angle[0])], 1)
    lower = np.stack([1 - np.cos(angle[1]), 0.5 - np.sin(angle[1])], 1)
    X = jnp.asarray(
        np.concatenate([upper, lower]) + 0.18 * rng.normal(size=(120, 2))
    )
    y = jnp.repeat(jnp.array([0, 1]), 60)
    train = np.arange(120) % 3 > 0

    def held_out(log_width):
        model = learn.svm.fit(
            X[train],
            y[train],
            C=3.0,
            kernel=learn.kernels.RBF(jnp.exp(log_width)),
        )
        signs = 2.0 * y[~train] - 1
        return jnp.mean(
            jax.nn.softplus(
                -2 * signs * learn.svm.decision_function(model, X[~train])
            )
        )

    log_width, _ = learn.validation.tune(held_out, jnp.array(0.0), steps=30)
    model = learn.svm.fit(
        X[train], y[train], C=3.0, kernel=learn.kernels.RBF(jnp.exp(log_width))
    )
    plot.decision_regions(model, X[train], y[train], axes=axes)
    axes.get_legend().remove()
    axes.set(
        title="Differentiate",
        xlabel=f"kernel width learnt by gradient: {jnp.exp(log_width):.2f}",
    )


def four_kinds(axes):
    """Convergence, path, validation curve, regions of three classes."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(60, 8))
    y = X[:, :3] @ np.array([3.0, -2.0, 1.0]) + 0.5 * rng.normal(size=60)

    bounded = cj.solve_qp(
        X.T @ X, -X.T @ y, lb=0.0, ub=2.0, options=cj.Options(history=30)
    )
    plot.convergence(bounded, axes=axes[0])
    axes[0].set_title("convergence")

    penalties = np.geomspace(1e-2, 3, 50)
    path = learn.elastic_net.path(X, y, penalties)
    plot.regularisation_path(
        penalties, path, [f"$x_{i}$" for i in range(8)], axes=axes[1]
    )
    axes[1].set_title("regularisation_path")

    noisy, grid = y + 5 * rng.normal(size=60), np.geomspace(1e-1, 1e4, 40)
    error = lambda model, X, y: (learn.ridge.predict(model, X) - y) ** 2
    folds = learn.validation.k_fold(60, 5)
    found = learn.validation.cross_validate(
        learn.ridge.path, X, noisy, grid, folds, loss=error, path=True
    )
    plot.validation_curve(grid, found, axes=axes[2])
    axes[2].set_title("validation_curve")

    centres = np.array([[0.0, 0.0], [3.0, 0.5], [1.0, 3.0]])
    samples = np.concatenate(
        [rng.normal(size=(30, 2)) + centre for centre in centres]
    )
    labels = np.repeat([0, 1, 2], 30)
    model = learn.svm.fit_multiclass(
        samples, labels, C=1.0, kernel=learn.kernels.RBF(0.3)
    )
    plot.decision_regions(model, samples, labels, axes=axes[3])
    axes[3].set_title("decision_regions")


def save(figure, name: str) -> None:
    figure.savefig(
        FOLDER / name,
        dpi=110,
        pil_kwargs={"optimize": True},
        metadata={"Software": None},
    )
    plt.close(figure)


def main() -> None:
    jax.config.update("jax_enable_x64", True)
    FOLDER.mkdir(exist_ok=True)
    with plt.rc_context({"font.size": 9, "axes.titleweight": "bold"}):
        figure, axes = plt.subplots(
            1, 3, figsize=(10, 3.2), layout="constrained"
        )
        central_path(axes[0])
        frontier(axes[1])
        machine(axes[2])
        save(figure, "overview.png")
        figure, axes = plt.subplots(2, 2, figsize=(9, 6), layout="constrained")
        four_kinds(axes.ravel())
        save(figure, "pictures.png")


if __name__ == "__main__":
    main()
