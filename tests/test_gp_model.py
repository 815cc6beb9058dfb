"""Geometric programs written in Python: documented examples with their published optima, refusals, compiled models."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convexjax as cj
from convexjax import gp
from convexjax.gp.result import Names


def box_model():
    """The box of CVXPY's documentation."""
    h, w, d = gp.variables("h w d", units="m")
    walls, floor = gp.parameters("walls floor", units="m^2")
    shape = [h / w >= 0.5, h / w <= 2, d / w >= 0.5, d / w <= 2]
    return gp.maximize(h * w * d, [2 * (h * w + h * d) <= walls, (w * d <= floor).named("floor area"), *shape])


@pytest.fixture(scope="module")
def box():
    return gp.compile(box_model())


def test_box(box):
    result = box(walls=100.0, floor=10.0).require_solved()
    np.testing.assert_allclose(result.objective, 77.459666924, rtol=1e-8)  # published: 77.45966630736292
    text = str(result)
    assert "maximum: 77.4597" in text and "floor area" in text and " m" in text and "SOLVED" in text
    assert result.sensitivities["floor area"] > 0.4


def test_summary_lists_arrays_in_order(box):
    result = box(walls=100.0, floor=10.0)
    columns = (("x[1]", "x", (2,), 1, ""), ("y", "y", (), 0, ""), ("x[0]", "x", (2,), 0, ""))
    solution = dataclasses.replace(result.solution, x=jnp.array([2.0, 3.0, 1.0]), z=jnp.zeros(0))
    lines = str(dataclasses.replace(result, solution=solution, names=Names(columns, (), False))).splitlines()
    assert [line.split() for line in lines if line.startswith("    ")] == [["x[0]", "1"], ["x[1]", "2"], ["y", "3"]]


def test_compiled_model_is_a_function(box):
    volume = lambda walls: box(walls=walls, floor=10.0).objective
    areas, step = jnp.linspace(72.0, 100.0, 4), 1e-3
    curve, slopes = jax.vmap(volume)(areas), jax.vmap(jax.grad(volume))(areas)
    differences = (jax.vmap(volume)(areas + step) - jax.vmap(volume)(areas - step)) / (2 * step)
    assert np.all(np.diff(curve) > 0)
    np.testing.assert_allclose(slopes, differences, rtol=1e-6)
    # the sensitivity of a constraint is the elasticity of the optimum
    result = box(walls=100.0, floor=10.0)
    elasticity = jax.grad(volume)(100.0) * 100 / result.objective
    np.testing.assert_allclose(next(iter(result.sensitivities.values())), elasticity, rtol=1e-7)


@pytest.mark.parametrize("name", ["water tank", "aircraft", "power control", "truss", "floor plan", "7 gates"])
def test_documented_examples(name):
    # the benchmarks stand beside the package in the repository and are not shipped with it
    example = pytest.importorskip("benchmarks.gp_examples").EXAMPLES[name]
    result = example.model().solve().require_solved()
    digits = 1e-4 if name == "7 gates" else 1e-8  # published to so many
    np.testing.assert_allclose(result.objective, example.optimum, rtol=digits)


def test_network_of_gates():
    # 60 gates, 121 variables: sparse exponents; the arrival time of the slowest output is that of the slowest path
    examples = pytest.importorskip("benchmarks.gp_examples")
    fanout, powers = examples.random_network(60)
    result = examples.circuit(180.0, 240.0, fanout, powers).solve().require_solved()
    x, arrival = np.asarray(result["x"]), np.zeros(60)
    delay = [(sum(1 + x[h] for h in outputs) if outputs else 10) / x[g] for g, outputs in enumerate(fanout)]
    for g, outputs in enumerate(fanout):  # in the order of the layers
        arrival[g] += delay[g]
        for h in outputs:
            arrival[h] = max(arrival[h], arrival[g])
    np.testing.assert_allclose(np.max(arrival), result.objective, rtol=1e-7)
    assert x.sum() <= 180 * (1 + 1e-7) and powers @ x <= 240 * (1 + 1e-7) and np.min(x) >= 1 - 1e-7
    assert result.sensitivities["area"] > 0.1 or result.sensitivities["power"] > 0.1


def test_generalised_posynomials():
    # max(1/x, 4 y)^(1/2) + (x + y)^1.5 against a fine search
    x, y = gp.variables("x y")
    model = gp.minimize(gp.max(1 / x, 4 / y) ** 0.5 + (x + y) ** 1.5)
    result = model.solve().require_solved()
    u = np.exp(np.linspace(-4, 3, 20001))  # x, and y = 4 x, where both terms of the maximum agree
    np.testing.assert_allclose(result.objective, np.min(u**-0.5 + (5 * u) ** 1.5), rtol=1e-6)


def test_a_sum_that_is_written_twice():
    x, y = gp.variables("x y")
    model = gp.minimize(gp.max(x, 1 / x) + (x + y) ** 1.5, [x * y >= 1, (x + y) ** 0.5 <= 10])
    np.testing.assert_allclose(gp.compile(model)().objective, 1 + 2**1.5, rtol=1e-7)


def test_exponents_may_be_traced():
    x = gp.variable("x")
    f = gp.compile(lambda a, c: gp.minimize(c * x**a + 1 / x**2, [x >= 0.1]))
    optimum = lambda a, c: f(a=a, c=c).objective
    gradient, step = jax.grad(optimum, (0, 1))(1.5, 2.0), 1e-5
    np.testing.assert_allclose(
        gradient,
        [
            (optimum(1.5 + step, 2.0) - optimum(1.5 - step, 2.0)) / (2 * step),
            (optimum(1.5, 2.0 + step) - optimum(1.5, 2.0 - step)) / (2 * step),
        ],
        rtol=1e-6,
    )


def test_infeasible_and_unbounded_are_told_in_words():
    x, y = gp.variables("x y")
    infeasible = gp.minimize(x, [(x >= 2).named("at least"), (x <= 1).named("at most")]).solve()
    assert int(infeasible.status) == cj.Status.PRIMAL_INFEASIBLE
    assert "cannot hold together" in str(infeasible) and "at most" in str(infeasible)
    unbounded = gp.minimize(x * y, [x <= y, y <= 10 * x]).solve()
    assert int(unbounded.status) == cj.Status.DUAL_INFEASIBLE
    assert "x goes to 0" in str(unbounded) and "y goes to 0" in str(unbounded)


X, Y = gp.variables("x y")
ARRAY = gp.variable("z", (2,))
REFUSED = [
    (lambda: X - Y, r"no minus: the term -\(y\)"),
    (lambda: -X, "no minus"),
    (lambda: -2 * X, "coefficient -2 is not positive"),
    (lambda: 1 / (X + Y), "further term y"),
    (lambda: (X + Y) ** -1, "powers that are not positive"),
    (lambda: X**Y, "exponent must be a number"),
    (lambda: X <= X + 2 * Y, "larger side must be a monomial, and this has the further term 2 y"),
    (lambda: X <= gp.max(X, Y), "larger side must be a monomial"),
    (lambda: X + Y == 1, "only monomials may be equal"),
    (lambda: X <= 0, "cannot be at most 0"),
    (lambda: 0 * X <= 1, "always holds"),
    (lambda: X < 1, "write <="),
    (lambda: 1 <= X <= 2, "not true or false"),
    (lambda: gp.maximize(X + Y), "Cannot maximize"),
    (lambda: gp.minimize(X, [X <= 2]), "variable x can go to 0"),
    (lambda: gp.minimize(1 / X), "variable x can go to infinity"),
    (lambda: gp.minimize(X, [True]), "Constraint 0 is True"),
    (lambda: gp.minimize(X + gp.variable("x"), [X >= 1]), "have the name 'x'"),
    (lambda: X + "a", "is no number"),
    (lambda: ARRAY - 1, "no minus"),
    (lambda: X == 0, "cannot be 0"),
    (lambda: (X**1e200) ** 1e200, "exponent of x overflows"),
    (lambda: 10**400 * X, "too large"),
    (lambda: X * "2", "is no number"),
    (lambda: jnp.ones(2) * ARRAY, "to the right"),
    (lambda: gp.variable("a", -1), "none negative"),
    (lambda: gp.variable("a", 2.5), "must be an integer"),
    (lambda: gp.variables(""), "separated by spaces"),
    (lambda: gp.variable(""), "must be a string"),
    (lambda: gp.compile(3), "must be a Model"),
    (lambda: gp.compile(lambda a: a * X)(a=1.0), "must make a Model"),
    (lambda: box_model().solve(walls=np.inf, floor=1.0), "positive and finite"),
    (lambda: box_model().solve(walls=1.0, floor=1.0, warm_start=3), "must be a Result"),
    (lambda: box_model().solve(walls=1.0), "floor missing"),
    (lambda: box_model().solve(walls=1.0, floor=1.0, roof=2.0), "roof unknown"),
    (lambda: box_model().solve(walls=-1.0, floor=1.0), "walls must be positive"),
    (lambda: box_model().solve(walls=np.ones(2), floor=1.0), "walls has shape"),
]


@pytest.mark.parametrize(("write", "words"), REFUSED, ids=range(len(REFUSED)))
def test_refused(write, words):
    with pytest.raises(ValueError, match=words):
        write()


def test_a_model_is_shown():
    assert str(gp.maximize(X * Y, [(X + Y <= 2).named("sum")])) == "maximize x y\nsubject to\n    sum"


def test_coefficients_may_be_arrays_of_jax():
    f = gp.compile(lambda c: gp.minimize((ARRAY * c * c[0] + 1 / ARRAY).sum()))
    np.testing.assert_allclose(f(c=jnp.asarray([1.0, 4.0]))["z"], [1, 0.5], rtol=1e-6)


def test_names_that_do_not_exist(box):
    with pytest.raises(KeyError, match="no variable 'q'"):
        box(walls=100.0, floor=10.0)["q"]
