"""The data on the axes are those of the solution; the settings of matplotlib are left alone."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convexjax as cj
from convexjax import learn, plot

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
plt = pytest.importorskip("matplotlib.pyplot")

SQUARE = np.array([[1.0, 0], [0, 1], [-1, 0], [0, -1]]), np.array([2.0, 1, 0, 0])


@pytest.fixture(autouse=True)
def settings_stay():
    before = matplotlib.rcParams.copy()
    yield
    assert matplotlib.rcParams == before
    plt.close("all")


@pytest.fixture(scope="module")
def solution():
    return cj.solve_qp(jnp.eye(2), jnp.array([-2.0, -5]), *SQUARE, options=cj.Options(history=30))


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(size=(10, 2)), rng.normal(size=(10, 2)) + 4]), np.repeat([0, 1], 10)


def test_convergence(solution):
    axes = plot.convergence(solution)
    assert axes.get_yscale() == "log"
    assert [line.get_label() for line in axes.lines] == ["primal residual", "dual residual", "gap"]
    assert len({line.get_color() for line in axes.lines}) == len({line.get_marker() for line in axes.lines}) == 3
    num_iters = int(solution.info.num_iters)
    for line, name in zip(axes.lines, ("primal_residual", "dual_residual", "gap"), strict=True):
        np.testing.assert_array_equal(line.get_xdata(), np.arange(num_iters + 1))
        np.testing.assert_array_equal(line.get_ydata(), getattr(solution.info.history, name)[: num_iters + 1])
    figure, given = plt.subplots()
    assert plot.convergence(solution, given) is given


def test_convergence_wants_the_history_of_one_solve(solution):
    with pytest.raises(ValueError, match="Options\\(history=50\\)"):
        plot.convergence(replace(solution, info=replace(solution.info, history=None)))
    with pytest.raises(ValueError, match="take lane i"):
        plot.convergence(jax.tree.map(lambda v: v[None], solution))


def test_without_matplotlib(solution, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"convexjax\[plot\]"):
        plot.convergence(solution)


def test_regularisation_path():
    penalties = np.geomspace(1e-2, 1, 5)
    coefficients = np.arange(50.0).reshape(5, 10)
    axes = plot.regularisation_path(penalties, SimpleNamespace(coefficients=coefficients), list("abcdefghij"))
    lines = axes.lines[:10]
    np.testing.assert_array_equal([line.get_ydata() for line in lines], coefficients.T)
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 10
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list("abcdefghij")
    # two outputs of five columns
    several = plot.regularisation_path(penalties, SimpleNamespace(coefficients=coefficients.reshape(5, 5, 2)))
    np.testing.assert_array_equal([line.get_ydata() for line in several.lines[:10]], coefficients.T)
    assert several.get_xscale() == "log" and several.get_legend() is None


def test_validation_curve():
    values, mean, deviation = np.array([0.1, 1, 10]), np.array([3.0, 2, 4]), np.array([0.5, 0.25, 1])
    found = learn.validation.CrossValidation(losses=None, mean=mean, deviation=deviation, best=1, status=None)
    axes = plot.validation_curve(values, found)
    curve, best = axes.lines
    np.testing.assert_array_equal(curve.get_ydata(), mean)
    np.testing.assert_array_equal(best.get_xdata(), [1, 1])
    (band,) = axes.collections
    heights = band.get_paths()[0].vertices
    assert heights[:, 1].min() == 1.75 and heights[:, 1].max() == 5


def test_trade_off():
    axes = plot.trade_off([1, 2, 3], [3, 2, 2.5], labels=("risk", "return"), label="long only")
    plot.trade_off([1, 2, 3], [4, 3, 2], axes=axes, marker="s")
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[1, 3], [2, 2], [3, 2.5]])
    assert axes.lines[0].get_label() == "long only" and axes.lines[1].get_marker() == "s"
    assert [line.get_color() for line in axes.lines] == list(plot.COLOURS[:2])


def test_decision_regions_of_a_machine(points):
    X, y = points
    model = learn.svm.fit(X, y, C=1.0)
    axes = plot.decision_regions(model, X, y)
    assert axes.get_legend_handles_labels()[1] == ["0", "1", "support vectors"]
    first, second, rings = (np.asarray(c.get_offsets()) for c in axes.collections[-3:])
    np.testing.assert_array_equal(rings, X[np.asarray(model.support)])
    np.testing.assert_array_equal(first, X[:10])
    np.testing.assert_array_equal(second, X[10:])
    margins = axes.collections[2]
    for level, path in zip(margins.levels, margins.get_paths(), strict=True):
        np.testing.assert_allclose(path.vertices @ model.coef + model.intercept, level, atol=1e-6)


def test_decision_regions_of_a_function(points):
    X, y = points
    names = np.array(["low", "middle", "high"])
    axes = plot.decision_regions(lambda rows: names[(rows[:, 0] > 1).astype(int) + (rows[:, 0] > 3)], X, names[2 * y])
    assert axes.get_legend_handles_labels()[1] == ["high", "low", "middle"]
    high, low, middle = (region.get_paths()[0].vertices[:, 0] for region in axes.collections[:3])
    np.testing.assert_allclose([low.max(), middle.min(), middle.max(), high.min()], [1, 1, 3, 3], atol=0.05)
    with pytest.raises(ValueError, match=r"\(m, 2\)"):
        plot.decision_regions(None, np.ones((3, 3)), np.ones(3))
    with pytest.raises(TypeError, match=r"a classifier of .* or a function, got NoneType"):
        plot.decision_regions(None, X, y)
    with pytest.raises(ValueError, match="labels"):
        plot.decision_regions(lambda rows: rows[:, 0], X, y)


def test_central_path():
    G, h = SQUARE
    centre = lambda mu: jnp.array([1.0, 0.5]) / (1 + jnp.exp(-jnp.log(mu)))
    axes = plot.central_path(G, h, centre, q=[1.0, 1.0])
    (polygon,), (line,) = axes.patches, axes.lines
    assert {tuple(corner) for corner in polygon.get_xy()} == {(0, 0), (2, 0), (2, 1), (0, 1)}
    np.testing.assert_allclose(line.get_xydata()[-1], [0, 0], atol=1e-5)
    np.testing.assert_allclose(line.get_xydata()[0], [1, 0.5], rtol=1e-2)
    plot.central_path(G, h, np.array([[1.0, 0.5], [0, 0]]), axes=axes)
    assert axes.lines[1].get_color() != line.get_color()


@pytest.mark.parametrize(
    ("G", "h", "points", "words"),
    [
        (SQUARE[0][:3], SQUARE[1][:3], np.ones((1, 2)), "unbounded"),
        (SQUARE[0], -SQUARE[1] - 1, np.ones((1, 2)), "empty"),
        (SQUARE[0], np.array([2.0, 0, 0, 0]), np.ones((1, 2)), "no interior"),
        (SQUARE[0], SQUARE[1][:3], np.ones((1, 2)), "shapes"),
        (*SQUARE, np.ones(2), r"\(k, 2\)"),
    ],
)
def test_central_path_wants_a_polygon(G, h, points, words):
    with pytest.raises(ValueError, match=words):
        plot.central_path(G, h, points)


def test_central_path_without_the_rows_that_do_nothing():
    G, h = np.concatenate([SQUARE[0], [[0.0, 0], [1, 1]]]), np.concatenate([SQUARE[1], [1.0, 3]])
    corners = plot.central_path(G, h, np.ones((1, 2))).patches[0].get_xy()
    assert {tuple(corner.round(12)) for corner in corners} == {(0, 0), (2, 0), (2, 1), (0, 1)}
