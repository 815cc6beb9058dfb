"""Geometric programs written in Python: documented examples with their published optima, refusals, compiled models."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convexjax as cj
from convexjax import gp


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


def test_simple_flight():
    # gpkit's documentation: 303.1 N
    D, A, S, V, W, Re, C_D, C_L, C_f, W_w = gp.variables("D A S V W Re C_D C_L C_f W_w")
    k, e, mu, rho, tau, N_ult, V_min, C_Lmax = 1.2, 0.95, 1.78e-5, 1.23, 0.12, 3.8, 22, 1.5
    wetted, structure, surface, CDA0, W_0 = 2.05, 8.71e-5, 45.24, 0.031, 4940
    model = gp.minimize(
        D,
        [
            C_D >= CDA0 / S + k * C_f * wetted + C_L**2 / (np.pi * A * e),
            W_w >= structure * N_ult * A**1.5 * (W_0 * W * S) ** 0.5 / tau + surface * S,
            D >= 0.5 * rho * S * C_D * V**2,
            Re <= rho / mu * V * (S / A) ** 0.5,
            C_f >= 0.074 / Re**0.2,
            W <= 0.5 * rho * S * C_L * V**2,
            W <= 0.5 * rho * S * C_Lmax * V_min**2,
            W >= W_0 + W_w,
        ],
    )
    result = model.solve().require_solved()
    np.testing.assert_allclose(result.objective, 303.074772586, rtol=1e-8)


def test_water_tank_with_arrays_and_equations():
    # gpkit's documentation: 1.293 m^2
    d, A, V = gp.variable("d", 3, units="m"), gp.variable("A", units="m^2"), gp.variable("V", units="m^3")
    model = gp.minimize(A, [A >= 2 * (d * np.roll(d, 1)).sum(), V == d.prod(), 1000 * V == 100])
    result = model.solve().require_solved()
    np.testing.assert_allclose(result.objective, 6 * 0.1 ** (2 / 3), rtol=1e-8)
    np.testing.assert_allclose(result["d"], 0.1 ** (1 / 3), rtol=1e-6)


def test_power_control():
    # the least power with which three links have signals three times as strong as their noise: all constraints bind
    G = np.array([[1.0, 0.1, 0.05], [0.08, 0.9, 0.1], [0.1, 0.02, 1.1]])
    p, noise, ratio = gp.variable("p", 3, units="W"), 0.5, 3.0
    off = G - np.diag(np.diag(G))
    result = gp.minimize(p.sum(), [ratio * (off @ p + noise) <= np.diag(G) * p]).solve().require_solved()
    np.testing.assert_allclose(
        result["p"], np.linalg.solve(np.diag(np.diag(G)) - ratio * off, np.full(3, 1.5)), rtol=1e-7
    )


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
    (lambda: gp.variable(""), "must be a string"),
    (lambda: box_model().solve(walls=1.0), "floor missing"),
    (lambda: box_model().solve(walls=1.0, floor=1.0, roof=2.0), "roof unknown"),
    (lambda: box_model().solve(walls=-1.0, floor=1.0), "walls must be positive"),
    (lambda: box_model().solve(walls=np.ones(2), floor=1.0), "walls has shape"),
]


@pytest.mark.parametrize(("write", "words"), REFUSED, ids=range(len(REFUSED)))
def test_refused(write, words):
    with pytest.raises(ValueError, match=words):
        write()


def test_names_that_do_not_exist(box):
    with pytest.raises(KeyError, match="no variable 'q'"):
        box(walls=100.0, floor=10.0)["q"]
