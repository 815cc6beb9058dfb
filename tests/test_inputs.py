"""What a call accepts, and the errors for what cannot be a problem."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import convexjax as cj
from convexjax import Status

# min x1^2 + x2^2 - 2 x1 - 5 x2 subject to x1 + 2 x2 <= 3 (active), two rows without effect, x1 = x2 - 0.9, 0 <= x <= 5
QP = {
    "P": np.array([[2.0, 0.0], [0.0, 2.0]]),
    "q": np.array([-2.0, -5.0]),
    "G": np.array([[1.0, 2.0], [1.0, 0.0], [0.0, 1.0]]),
    "h": np.array([3.0, 4.0, 4.0]),
    "A": np.array([[1.0, -1.0]]),
    "b": np.array([-0.9]),
    "lb": np.array([0.0, 0.0]),
    "ub": np.array([5.0, 5.0]),
}
# without the equation the optimum is (0.4, 1.3), which satisfies it
OPTIMUM = np.array([0.4, 1.3])
BALL = {
    "P": np.eye(2),
    "q": np.array([-3.0, 0.0]),
    "A": np.array([[0.0, 0.0], [-1.0, 0.0], [0.0, -1.0]]),
    "b": np.array([1.0, 0.0, 0.0]),
}


def qp(**changes):
    return {name: value for name, value in (QP | changes).items() if value is not None}


def ones(*shape):
    return np.ones(shape)


def conic(**data):
    return cj.solve_conic(cones=[cj.SecondOrder(3)], **data)


def socp(q, M, r, c, d):
    return cj.solve_socp(q, [(M, r, c, d)])


def matrix_sdp(C, A, b):
    return cj.solve_sdp(C, A, b)


def inequality_sdp(c, F):
    return cj.solve_sdp(c=c, F=F)


SOCP = {"q": ones(2), "M": np.eye(2), "r": ones(2), "c": ones(2), "d": np.array(1.0)}
MATRIX = {"C": np.eye(2), "A": np.eye(2)[None], "b": ones(1)}
INEQUALITY = {"c": ones(1), "F": np.stack([np.eye(2), np.eye(2)])}

# function, arguments, what the message has to say: name, got, expected, fix
WRONG_SHAPES = {
    "G without h": (cj.solve_qp, qp(h=None), ["G", "h", "without"]),
    "h without G": (cj.solve_qp, qp(G=None), ["G", "h", "without"]),
    "A without b": (cj.solve_qp, qp(b=None), ["A", "b", "without"]),
    "b without A": (cj.solve_qp, qp(A=None), ["A", "b", "without"]),
    "h a column": (cj.solve_qp, qp(h=ones(3, 1)), ["h has shape (3, 1)", "(3,)", "h.ravel()"]),
    "b a column": (cj.solve_qp, qp(b=ones(1, 1)), ["b has shape (1, 1)", "(1,)", "b.ravel()"]),
    "A a vector": (cj.solve_qp, qp(A=ones(2)), ["A has shape (2,)", "(any, 2)", "A[None, :]"]),
    "G a vector": (cj.solve_qp, qp(G=ones(2), h=ones(1)), ["G has shape (2,)", "(any, 2)", "G[None, :]"]),
    "q a column": (cj.solve_qp, qp(q=ones(2, 1)), ["q has shape (2, 1)", "q.ravel()"]),
    "q a number": (cj.solve_qp, qp(q=np.array(1.0)), ["q has shape ()", "(any,)"]),
    "G too wide": (cj.solve_qp, qp(G=ones(3, 3)), ["G has shape (3, 3)", "(any, 2)"]),
    "A too wide": (cj.solve_qp, qp(A=ones(1, 3)), ["A has shape (1, 3)", "(any, 2)"]),
    "h too short": (cj.solve_qp, qp(h=ones(2)), ["h has shape (2,)", "(3,)", "G"]),
    "b too long": (cj.solve_qp, qp(b=ones(2)), ["b has shape (2,)", "(1,)", "A"]),
    "P too large": (cj.solve_qp, qp(P=np.eye(3)), ["P has shape (3, 3)", "(2, 2)"]),
    "P a diagonal": (cj.solve_qp, qp(P=ones(2)), ["P has shape (2,)", "(2, 2)"]),
    "P a batch": (cj.solve_qp, qp(P=ones(4, 2, 2)), ["P has shape (4, 2, 2)", "(2, 2)", "vmap"]),
    "lb too long": (cj.solve_qp, qp(lb=ones(3)), ["lb has shape (3,)", "(2,)", "scalar"]),
    "ub a column": (cj.solve_qp, qp(ub=ones(2, 1)), ["ub has shape (2, 1)", "(2,)", "ub.ravel()"]),
    "lp: c a column": (cj.solve_lp, {"c": ones(2, 1), "lb": np.array(0.0)}, ["c has shape (2, 1)", "c.ravel()"]),
    "lp: G too wide": (cj.solve_lp, {"c": ones(2), "G": ones(1, 3), "h": ones(1)}, ["G has shape (1, 3)", "(any, 2)"]),
    "lp: G without h": (cj.solve_lp, {"c": ones(2), "G": ones(1, 2)}, ["G", "h", "without"]),
    "conic: sizes": (conic, BALL | {"A": ones(4, 2), "b": ones(4)}, ["cones", "3", "4"]),
    "conic: b short": (conic, BALL | {"b": ones(2)}, ["b has shape (2,)", "(3,)"]),
    "conic: b a column": (conic, BALL | {"b": ones(3, 1)}, ["b has shape (3, 1)", "(3,)", "b.ravel()"]),
    "conic: A a vector": (conic, BALL | {"A": ones(2)}, ["A has shape (2,)", "(any, 2)", "A[None, :]"]),
    "conic: P": (conic, BALL | {"P": ones(3, 3)}, ["P has shape (3, 3)", "(2, 2)"]),
    "conic: q": (conic, BALL | {"q": ones(1, 2)}, ["q has shape (1, 2)", "q.ravel()"]),
    "socp: M": (socp, SOCP | {"M": ones(2, 3)}, ["norms[0][0]", "(2, 3)", "2"]),
    "socp: r": (socp, SOCP | {"r": ones(3)}, ["norms[0][1]", "(3,)", "(2,)"]),
    "socp: c": (socp, SOCP | {"c": ones(3)}, ["norms[0][2]", "(3,)", "(2,)"]),
    "socp: d": (socp, SOCP | {"d": ones(2)}, ["norms[0][3]", "(2,)", "()"]),
    "socp: q": (socp, SOCP | {"q": ones(2, 1)}, ["q has shape (2, 1)", "q.ravel()"]),
    "sdp: C not square": (matrix_sdp, MATRIX | {"C": ones(2, 3)}, ["C has shape (2, 3)"]),
    "sdp: C a number": (matrix_sdp, MATRIX | {"C": np.array(1.0)}, ["C has shape ()"]),
    "sdp: A one matrix": (matrix_sdp, MATRIX | {"A": np.eye(2)}, ["A has shape (2, 2)", "(1, 2, 2)"]),
    "sdp: A side": (matrix_sdp, MATRIX | {"A": ones(1, 3, 3)}, ["A has shape (1, 3, 3)", "(1, 2, 2)"]),
    "sdp: b": (matrix_sdp, MATRIX | {"b": ones(2)}, ["A", "(1, 2, 2)", "(2, 2, 2)"]),
    "sdp: b a column": (matrix_sdp, MATRIX | {"b": ones(1, 1)}, ["b has shape (1, 1)", "b.ravel()"]),
    "lmi: F": (inequality_sdp, INEQUALITY | {"F": ones(3, 2, 2)}, ["F has shape (3, 2, 2)", "(2, 2, 2)"]),
    "lmi: F not square": (inequality_sdp, INEQUALITY | {"F": ones(2, 2, 3)}, ["F has shape (2, 2, 3)"]),
    "lmi: c a column": (inequality_sdp, INEQUALITY | {"c": ones(1, 1)}, ["c has shape (1, 1)", "c.ravel()"]),
}


@pytest.mark.core
@pytest.mark.parametrize("case", WRONG_SHAPES)
def test_wrong_shapes_are_named_alike_eagerly_and_under_transforms(case):
    solve, data, said = WRONG_SHAPES[case]

    def message(call):
        with pytest.raises(ValueError) as error:
            call()
        return str(error.value)

    eager = message(lambda: solve(**data))
    for part in said:
        # a name is a word of its own
        pattern = rf"\b{part}\b" if part.isalnum() else re.escape(part)
        assert re.search(pattern, eager), (part, eager)
    assert message(lambda: jax.jit(lambda d: solve(**d))(data)) == eager
    batch = {name: np.stack([value, value]) for name, value in data.items()}
    assert message(lambda: jax.vmap(lambda d: solve(**d))(batch)) == eager


MISSING = {
    "qp": (lambda: cj.solve_qp(np.eye(2), None), "q"),
    "lp": (lambda: cj.solve_lp(None, lb=0.0), "c"),
    "conic q": (lambda: cj.solve_conic(np.eye(2), None, ones(3, 2), ones(3), [cj.SecondOrder(3)]), "q"),
    "conic A": (lambda: cj.solve_conic(np.eye(2), ones(2), None, ones(3), [cj.SecondOrder(3)]), "A"),
    "conic b": (lambda: cj.solve_conic(np.eye(2), ones(2), ones(3, 2), None, [cj.SecondOrder(3)]), "b"),
    "socp q": (lambda: cj.solve_socp(None, [(np.eye(2), None, None, 1.0)]), "q"),
    "socp M": (lambda: cj.solve_socp(ones(2), [(None, None, None, 1.0)]), "M"),
    "sdp b": (lambda: cj.solve_sdp(np.eye(2), np.eye(2)[None]), "C, A"),
    "lmi F": (lambda: cj.solve_sdp(c=ones(1)), "c"),
}


@pytest.mark.parametrize("case", MISSING)
def test_none_in_the_place_of_needed_data_is_an_error_with_its_name(case):
    call, name = MISSING[case]
    with pytest.raises((ValueError, TypeError), match=rf"\b{name}\b"):
        call()


def test_sdp_takes_one_form():
    with pytest.raises(ValueError, match="matrix form"):
        cj.solve_sdp(**MATRIX, **INEQUALITY)
    with pytest.raises(ValueError, match="neither"):
        cj.solve_sdp()
    with pytest.raises(ValueError, match=r"2 blocks.* 1"):
        cj.solve_sdp((np.eye(2), np.eye(2)), (np.eye(2)[None],), ones(1))


def test_norms_that_are_not_tuples_of_four():
    with pytest.raises(ValueError, match=r"norms\[1\].*\(M, r, c, d\)"):
        cj.solve_socp(ones(2), [(np.eye(2), None, None, 1.0), (np.eye(2), ones(2))])


# ----------------------------------------------------------------------------- cones

WRONG_CONES = {
    "second-order of size 0": (cj.SecondOrder(0), ["SecondOrder.dim", "0", "1"]),
    "second-order, negative count": (cj.SecondOrder(3, -1), ["SecondOrder.count", "-1"]),
    "negative side": (cj.PSD(-1), ["PSD.side", "-1"]),
    "negative rows": (cj.Nonnegative(-2), ["Nonnegative.count", "-2"]),
    "negative equations": (cj.Zero(-2), ["Zero.count", "-2"]),
    "negative exponentials": (cj.Exponential(-1), ["Exponential.count", "-1"]),
    "half a row": (cj.Nonnegative(1.5), ["Nonnegative.count", "1.5"]),
    "size as a string": (cj.Zero("3"), ["Zero.count", "'3'"]),
    "exponent 0": (cj.Power([0.0]), ["Power.alpha", "0"]),
    "exponent 1": (cj.Power(np.array([0.5, 1.0])), ["Power.alpha", "1"]),
    "exponent negative": (cj.Power([-0.5]), ["Power.alpha", "-0.5"]),
    "exponent above 1": (cj.Power([1.5]), ["Power.alpha", "1.5"]),
    "exponent NaN": (cj.Power([np.nan]), ["Power.alpha", "nan"]),
    "exponents as a matrix": (cj.Power(ones(2, 2) / 2), ["Power.alpha", "(2, 2)"]),
    "exponent complex": (cj.Power(np.array([0.5j])), ["Power.alpha"]),
    "exponent a string": (cj.Power(["half"]), ["Power.alpha"]),
    "a number": (3, ["cones[0]", "3"]),
}


@pytest.mark.parametrize("case", WRONG_CONES)
def test_wrong_cones(case):
    cone, said = WRONG_CONES[case]
    with pytest.raises((ValueError, TypeError)) as error:
        cj.solve_conic(None, ones(2), ones(3, 2), ones(3), [cone])
    for part in ["cones[0]", *said]:
        assert part in str(error.value)


@pytest.mark.core
@pytest.mark.parametrize("sizes", [[3, 2], [3, 1, 1], [], [6]])
def test_cones_that_do_not_add_up_name_both_numbers(sizes):
    with pytest.raises(ValueError, match=rf"cones.*\b{sum(sizes)}\b.*\b4\b"):
        cj.solve_conic(None, ones(2), ones(4, 2), ones(4), [cj.Nonnegative(k) for k in sizes])


@pytest.mark.core
@pytest.mark.parametrize(
    "build",
    [cj.Zero, cj.Nonnegative, cj.SecondOrder, lambda k: cj.SecondOrder(3, k), cj.PSD, cj.Exponential],
    ids=["Zero", "Nonnegative", "SecondOrder.dim", "SecondOrder.count", "PSD", "Exponential"],
)
def test_traced_cone_sizes_are_an_error_about_static_sizes(build):
    def solve(k):
        return cj.solve_conic(None, ones(2), ones(3, 2), ones(3), [build(k)]).x

    for call in (lambda: jax.jit(solve)(3), lambda: jax.vmap(solve)(jnp.arange(3))):
        with pytest.raises(ValueError, match=r"cones\[0\].*static"):
            call()


def test_a_single_cone_needs_no_list():
    one = cj.solve_conic(**BALL, cones=cj.SecondOrder(3))
    np.testing.assert_array_equal(one.x, conic(**BALL).x)
    np.testing.assert_allclose(one.x, [1, 0], atol=1e-7)


# ----------------------------------------------------------------------------- types of data


def to_tuples(value):
    return tuple(map(to_tuples, value)) if isinstance(value, list) else value


CONTAINERS = {
    "lists": lambda v: v.tolist(),
    "tuples": lambda v: to_tuples(v.tolist()),
    "jax": jnp.asarray,
    "lists of jax scalars": lambda v: jax.tree.map(jnp.asarray, v.tolist()),
    "read-only": lambda v: np.broadcast_to(v, v.shape),
    "column-major": lambda v: np.asarray(v, order="F"),
}


@pytest.mark.core
@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_container_gives_the_same_answer(kind):
    expected = cj.solve_qp(**QP)
    assert expected.status == Status.SOLVED
    np.testing.assert_allclose(expected.x, OPTIMUM, atol=1e-7)
    got = cj.solve_qp(**{name: CONTAINERS[kind](value) for name, value in QP.items()})
    jax.tree.map(np.testing.assert_array_equal, got, expected)
    got = conic(**{name: CONTAINERS[kind](value) for name, value in BALL.items()})
    jax.tree.map(np.testing.assert_array_equal, got, conic(**BALL))


@pytest.mark.parametrize("kind", CONTAINERS)
def test_every_container_gives_the_same_sdp(kind):
    change = CONTAINERS[kind]
    for solve, data in ((matrix_sdp, MATRIX), (inequality_sdp, INEQUALITY), (socp, SOCP)):
        data = data | ({"b": np.array([2.0])} if solve is matrix_sdp else {})
        got = solve(**{name: change(value) for name, value in data.items()})
        jax.tree.map(np.testing.assert_array_equal, got, solve(**data))


def test_scalar_bounds_of_every_type():
    expected = cj.solve_qp(**QP).x
    for scalar in (float, int, np.float64, jnp.asarray, np.asarray, bool):
        got = cj.solve_qp(**qp(lb=scalar(0), ub=5.0))
        np.testing.assert_array_equal(got.x, expected)


@pytest.mark.core
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint8])
def test_integers_are_promoted(dtype):
    data = {"P": [[2, 1], [1, 2]], "q": [1, 0], "G": [[1, 2]], "h": [3], "lb": [0, 1]}
    got = cj.solve_qp(**{name: np.array(value, dtype) for name, value in data.items()})
    expected = cj.solve_qp(**{name: np.array(value, float) for name, value in data.items()})
    assert got.x.dtype == jnp.float64
    jax.tree.map(np.testing.assert_array_equal, got, expected)


def test_booleans_are_promoted():
    data = {"P": np.eye(2, dtype=bool), "q": np.array([True, False]), "G": np.eye(2, dtype=bool)[:1], "h": [False]}
    got = cj.solve_qp(**data, lb=[False, True])
    assert got.x.dtype == jnp.float64 and got.status == Status.SOLVED
    np.testing.assert_allclose(got.x, [0, 1], atol=1e-7)


WRONG_TYPES = {
    "complex": lambda v: v + 0j,
    "object": lambda v: v.astype(object),
    "strings": lambda v: v.astype(str),
    "a string": lambda v: "data",
    "dates": lambda v: v.astype("datetime64[s]"),
    "a dictionary": lambda v: {"value": v},
    "a ragged list": lambda v: [[1.0, 2.0], [3.0]],
    "None inside": lambda v: [None, 1.0],
}


@pytest.mark.parametrize("kind", WRONG_TYPES)
@pytest.mark.parametrize("name", QP)
def test_data_that_are_not_real_numbers_are_a_type_error_with_the_name(name, kind):
    with pytest.raises(TypeError, match=rf"\b{name}\b"):
        cj.solve_qp(**qp(**{name: WRONG_TYPES[kind](QP[name])}))


@pytest.mark.core
@pytest.mark.parametrize("solve, data", [(cj.solve_qp, QP), (conic, BALL), (matrix_sdp, MATRIX)])
def test_complex_data_are_a_type_error_under_transforms(solve, data):
    for name, value in data.items():
        wrong = data | {name: value + 0j}
        batch = {key: np.stack([v, v]) for key, v in wrong.items()}
        for call in (lambda: jax.jit(lambda d: solve(**d))(wrong), lambda: jax.vmap(lambda d: solve(**d))(batch)):  # noqa: B023
            with pytest.raises(TypeError, match=rf"\b{name}\b"):
                call()


def floats_of(tree):
    return [leaf.dtype for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


@pytest.mark.core
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_float32_and_less_are_solved_in_float32(dtype):
    # the numbers are exact in half precision, but for b = -0.9
    data = {name: jnp.asarray(value, dtype) for name, value in QP.items()}
    solution = cj.solve_qp(**data)
    assert set(floats_of(solution)) == {jnp.dtype(jnp.float32)}
    assert solution.status == Status.SOLVED
    assert max(solution.info.primal_residual, solution.info.dual_residual, solution.info.gap) <= 1e-5
    exact = cj.solve_qp(**{name: np.asarray(value, float) for name, value in data.items()})
    np.testing.assert_allclose(solution.x, exact.x, atol=1e-4)


def test_float32_reaches_every_problem():
    small = lambda data: {name: jnp.asarray(value, jnp.float32) for name, value in data.items()}
    lp = {"c": [1.0, 2.0], "G": [[-1.0, -1.0]], "h": [-1.0], "lb": [0.0, 0.0]}
    for solve, data in (
        (cj.solve_lp, lp),
        (conic, BALL),
        (socp, SOCP | {"q": np.array([1.0, 0.0]), "c": np.zeros(2), "d": np.array(3.0)}),
        (matrix_sdp, MATRIX),
        (inequality_sdp, INEQUALITY),
    ):
        solution = solve(**small(data))
        assert set(floats_of(solution)) == {jnp.dtype(jnp.float32)}, solve
        assert solution.status == Status.SOLVED, solve


def test_python_numbers_and_lists_follow_the_arrays():
    data = {name: jnp.asarray(value, jnp.float32) for name, value in QP.items()}
    data |= {"lb": 0.0, "ub": [5.0, 5.0], "P": [[2, 0], [0, 2]]}
    assert set(floats_of(cj.solve_qp(**data))) == {jnp.dtype(jnp.float32)}


def test_one_float64_array_makes_it_float64():
    data = {name: jnp.asarray(value, jnp.float32) for name, value in QP.items()}
    solution = cj.solve_qp(**data | {"h": QP["h"]})
    assert set(floats_of(solution)) == {jnp.dtype(jnp.float64)}
    assert solution.status == Status.SOLVED


def test_the_tolerance_of_float32_can_be_set():
    data = {name: jnp.asarray(value, jnp.float32) for name, value in QP.items()}
    solution = cj.solve_qp(**data, options=cj.Options(tolerance=1e-3))
    assert solution.status == Status.SOLVED and solution.x.dtype == jnp.float32


# ----------------------------------------------------------------------------- options

NAMES = ["tolerance", "tolerance_almost", "tolerance_infeasible", "max_iters", "equilibrate", "refinement_steps"]
DERIVATIVE_NAMES = ["smoothing", "derivative", "failed_derivative", "check_derivative", "polish"]


def test_an_unknown_option_lists_the_options():
    with pytest.raises((ValueError, TypeError), match="tolerence") as error:
        cj.Options(tolerence=1e-3)
    for name in [*NAMES, "history", "verbose", *DERIVATIVE_NAMES]:
        assert name in str(error.value)


@pytest.mark.parametrize("name", NAMES[:3])
@pytest.mark.parametrize("value", [0, 0.0, -1e-8, np.nan, np.zeros(2), "small", 1j])
def test_tolerances_that_cannot_be_met(name, value):
    with pytest.raises((ValueError, TypeError), match=name):
        cj.solve_qp(**QP, options=cj.Options(**{name: value}))


@pytest.mark.parametrize(
    "name, value",
    [
        ("max_iters", -1),
        ("max_iters", 2.5),
        ("max_iters", np.nan),
        ("max_iters", np.inf),
        ("max_iters", None),
        ("max_iters", "many"),
        ("refinement_steps", -1),
        ("refinement_steps", 1.5),
        ("history", -1),
        ("history", True),
        ("equilibrate", 1),
        ("verbose", "yes"),
        ("smoothing", 0),
        ("smoothing", -1e-3),
        ("smoothing", np.nan),
        ("smoothing", None),
        ("smoothing", np.ones(2)),
        ("smoothing", "small"),
        ("derivative", "smooth"),
        ("derivative", None),
        ("derivative", True),
        ("failed_derivative", "inf"),
        ("failed_derivative", 0),
        ("check_derivative", 1),
        ("check_derivative", "yes"),
        ("polish", 1),
        ("polish", None),
    ],
)
def test_options_that_make_no_sense(name, value):
    for call in (cj.solve_qp, jax.jit(cj.solve_qp, static_argnames="options")):
        with pytest.raises((ValueError, TypeError), match=name):
            call(**QP, options=cj.Options(**{name: value}))


@pytest.mark.parametrize("options", [{"tolerance": 1e-3}, 1e-3, "fast"])
@pytest.mark.parametrize("solve, data", [(cj.solve_qp, QP), (conic, BALL), (matrix_sdp, MATRIX), (socp, SOCP)])
def test_options_of_another_type(solve, data, options):
    if solve in (matrix_sdp, socp):
        solve = {matrix_sdp: cj.solve_sdp, socp: lambda q, M, r, c, d, options: cj.solve_socp(q, [], options=options)}[
            solve
        ]
    with pytest.raises((ValueError, TypeError), match="options must be"):
        solve(**data, options=options)


def test_static_options_under_trace_are_an_error_with_the_name():
    with pytest.raises((ValueError, TypeError), match="history"):
        jax.jit(lambda k: cj.solve_qp(**QP, options=cj.Options(history=k)).x)(3)


def test_options_are_data_where_they_say_so():
    solve = jax.jit(lambda tolerance, most: cj.solve_qp(**QP, options=cj.Options(tolerance=tolerance, max_iters=most)))
    assert solve(1e-8, 200).status == Status.SOLVED
    assert solve(1e-8, 2).status == Status.MAX_ITERATIONS
    assert solve(1e-2, 200).info.num_iters < solve(1e-8, 200).info.num_iters
    assert solve._cache_size() == 1


# ----------------------------------------------------------------------------- asymmetric P


@pytest.mark.core
def test_only_the_symmetric_part_of_P_counts():
    P, skew = np.array([[3.0, 1.0], [1.0, 2.0]]), np.array([[0.0, 5.0], [-5.0, 0.0]])
    expected = cj.solve_qp(**qp(P=P))
    np.testing.assert_array_equal(cj.solve_qp(**qp(P=P + skew)).x, expected.x)
    np.testing.assert_array_equal(cj.solve_qp(**qp(P=np.array([[3.0, 2.0], [0.0, 2.0]]))).x, expected.x)
    expected = conic(**BALL | {"P": P})
    np.testing.assert_array_equal(conic(**BALL | {"P": P + skew}).x, expected.x)


# ----------------------------------------------------------------------------- warm start


@pytest.fixture(scope="module")
def qp_solution():
    return cj.solve_qp(**QP)


@pytest.mark.parametrize("field", ["x", "y", "z", "z_lb", "z_ub"])
def test_a_warm_start_of_the_wrong_shape(qp_solution, field):
    from dataclasses import replace

    for wrong in (jnp.ones(7), jnp.ones((2, 2))):
        with pytest.raises(ValueError, match=rf"warm_start.{field} has shape .*expected"):
            cj.solve_qp(**QP, warm_start=replace(qp_solution, **{field: wrong}))
    if field != "x":
        with pytest.raises(ValueError, match=rf"warm_start.{field}"):
            cj.solve_qp(**QP, warm_start=replace(qp_solution, **{field: None}))


def test_a_conic_warm_start_of_the_wrong_shape():
    good = conic(**BALL)
    for i, name in enumerate("xsz"):
        parts = [good.x, good.s, good.z]
        parts[i] = jnp.ones(5)
        with pytest.raises(ValueError, match=rf"warm_start.{name} has shape \(5,\)"):
            conic(**BALL, warm_start=tuple(parts))
    for wrong in ((good.x, good.s), 3, "previous", good.x):
        with pytest.raises((ValueError, TypeError), match="warm_start"):
            conic(**BALL, warm_start=wrong)


def test_a_qp_warm_start_of_another_type():
    with pytest.raises((ValueError, TypeError), match="warm_start must be a Solution"):
        cj.solve_qp(**QP, warm_start=np.zeros(2))


@pytest.mark.core
@pytest.mark.parametrize("change", [0.0, 1e8, -1e8, np.nan, np.inf, "one NaN"])
def test_any_warm_start_ends_at_the_same_optimum(qp_solution, change):
    if change == "one NaN":
        guess = jax.tree.map(lambda v: v.at[0].set(jnp.nan) if v.ndim else v, qp_solution)
    else:
        guess = jax.tree.map(lambda v: v + jnp.asarray(change, v.dtype) if v.dtype == float else v, qp_solution)
    solution = cj.solve_qp(**QP, warm_start=guess)
    assert solution.status == Status.SOLVED
    np.testing.assert_allclose(solution.x, OPTIMUM, atol=1e-7)
    np.testing.assert_allclose(solution.z, [1.2, 0, 0], atol=1e-6)


@pytest.mark.parametrize("change", [0.0, 1e8, np.nan])
def test_any_conic_warm_start_ends_at_the_same_optimum(change):
    cold = conic(**BALL)
    for guess in (cold, (cold.x, cold.s, cold.z), [np.asarray(v).tolist() for v in (cold.x, cold.s, cold.z)]):
        guess = jax.tree.map(lambda v: v + change if jnp.asarray(v).dtype == float else v, guess)
        solution = conic(**BALL, warm_start=guess)
        assert solution.status == Status.SOLVED
        np.testing.assert_allclose(solution.x, [1, 0], atol=1e-7)
