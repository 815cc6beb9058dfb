"""`minimize`: any convex program whose objective and constraints are JAX functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.barrier import has_barrier
from convexjax.compilation import quick_jit
from convexjax.cones.base import Cone, require_pytree
from convexjax.cones.linear import Nonnegative, Zero
from convexjax.cones.product import ProductCone
from convexjax.cones.psd import PSD
from convexjax.linear_algebra import smat, svec
from convexjax.options import Options
from convexjax.problems.arguments import checked_options, floating, require_given, require_shape
from convexjax.problems.functions import Function, Layout, floating_tree, require_floating, traced
from convexjax.pytrees import pytree
from convexjax.smooth_program import SmoothProgram
from convexjax.smooth_solver import solve
from convexjax.solution import Solution


def minimize(
    f0: Callable,
    x0: Any,
    *,
    inequalities: Callable | None = None,
    equalities: tuple | None = None,
    cones: Sequence[tuple[Callable, Cone]] = (),
    lb: Any = None,
    ub: Any = None,
    params: Any = None,
    hessian: str | Callable = "dense",
    options: Options | None = None,
    warm_start: Solution | None = None,
) -> Solution:
    """Solve a convex program given as JAX functions.

        minimise    f0(x, params)
        subject to  g(x, params) <= 0,   g_i(x, params) in -K_i,   A x = b,   lb <= x <= ub

    Functions are called as `f(x, params)`, or as `f(x)` if `params` is None. They have to be differentiable twice.

    Arguments:
        f0: the objective, a convex function that returns a scalar. Where it is not defined it returns inf or NaN.
        x0: a start, any pytree of arrays; x has its structure. It need not be feasible.
        inequalities: g, a function that returns an array (or pytree of arrays) of convex functions.
        equalities: (A, b), equations: A (p, n) for the n entries of x in the order of `jax.flatten_util.ravel_pytree`,
            or a pytree like x with leaves (p, *shape); b (p,).
        cones: pairs (g_i, K_i), g_i convex in the order of the cone K_i (affine functions always are): a cone such as
            `SecondOrder(4)`, and a function that returns its rows (or an array of them, for a cone with `count`
            copies), for `PSD(side)` symmetric matrices or their `svec`.
        lb, ub: bounds, pytrees like x or scalars; infinite entries are no bounds. Cheaper than in `inequalities`.
        params: any pytree. Differentiate with respect to it, to A, b and the bounds, or to traced values that the
            functions close over.
        hessian: "dense"; "diagonal", if f0 and the constraints are sums of functions of one entry of x each; or a
            function, called like f0, that returns (d, U) with the Hessian diag(d) + U U' of f0, d with the n entries
            of x and U (n, r), for constraints that are such sums or affine. Then no n x n matrix is formed: with few
            rows of constraints a step costs n times the square of their number. Without any constraints also
            "products": then only products of the Hessian with vectors are formed, for any number of variables.
        options: see `Options`.
        warm_start: a `Solution` of a similar problem; its x takes the place of x0.

    Returns:
        `Solution` with `x` like x0; `s = -g(x)` and the duals `z >= 0` like the values of g; `y` (p,); `s_cones` and
        `z_cones`, tuples of arrays like the values of g_i; `z_lb`, `z_ub` like x; so that the gradient of
        `f0 + z'g + sum_i z_i'g_i + y'(Ax - b) + z_ub'(x - ub) + z_lb'(lb - x)` in x is zero; `objective`, `status`,
        `info`. A status says

        - SOLVED: primal residual, dual residual (that gradient) and gap at the tolerance, in the functions as given.
        - PRIMAL_INFEASIBLE: the duals, scaled so that the sum without f0 is 1 at `x`, make its gradient zero there, to
          `tolerance_infeasible` over the size of x. For convex functions the sum is then positive, and no x feasible,
          up to distances so much larger than x. Of a lower bound inf or an upper one -inf the dual is 1.
        - DUAL_INFEASIBLE: `x` is a direction along which f0 falls at a rate of one, and still at half that rate or more
          1e4, 1e8 and 1e12 times farther out than where the method had come, with the constraints holding there.
        - NONCONVEX: the Hessian of the Lagrangian has a negative eigenvalue at an iterate, feasible or not. Convexity
          is the user's claim (see `check_convexity`); it is not proved by SOLVED. A function that is convex on a part
          of the space only should return NaN elsewhere.
        - NUMERICAL_ERROR: among others, no point was found where the functions are finite.

    Raises:
        ValueError: functions or data whose shapes do not fit, bounds that no number satisfies.
        TypeError: functions or data that are not real, or of another precision than x0.

    Functions are compiled with the solver and kept by identity, as `jax.jit` does: pass the same function object again
    with new `params`, not a new lambda. At a kink (`abs`, `max`) that the solution sits on no method of second order is
    accurate: write `max_i f_i(x)` as `t` with constraints `f_i(x) <= t`. A symmetric matrix as variable is `smat(x)` of
    a vector x: as a function of all entries of a matrix `-log det` is not convex.

    Source: Andersen and Ye, "On a homogeneous algorithm for the monotone complementarity problem", Math. Prog. 1999.

    The distribution of largest entropy on 1, 2, 3 with mean at most 1.5:

    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import convexjax as cj
    >>> values = jnp.arange(1.0, 4.0)
    >>> entropy = lambda p, mean: jnp.sum(p * jnp.log(p))
    >>> solution = cj.minimize(
    ...     entropy, jnp.full(3, 1 / 3), inequalities=lambda p, mean: values @ p - mean,
    ...     equalities=(jnp.ones((1, 3)), [1.0]), params=1.5,
    ... )
    >>> print(np.asarray(solution.x).round(3), cj.Status(int(solution.status)).name)
    [0.616 0.268 0.116] SOLVED
    """
    options = checked_options(options)
    x0 = floating_tree("x0", x0)
    leaves = jax.tree.leaves(x0)
    if not leaves:
        raise ValueError("x0 has no arrays.")
    layout, dtype = Layout.of(x0), leaves[0].dtype
    if params is not None:
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype) if isinstance(leaf, float) else leaf, params)
    objective, constants, returned = traced("f0", f0, x0, params)
    if getattr(returned, "shape", None) != ():
        raise ValueError(f"f0 must return a scalar, got {_described(returned)}.")
    require_floating("f0", returned, dtype)
    all_constants, parts = [constants], []
    if inequalities is not None:
        g, constants, returned = traced("inequalities", inequalities, x0, params)
        if not jax.tree.leaves(returned):
            raise ValueError(f"inequalities must return an array or a pytree of arrays, got {returned!r}.")
        require_floating("inequalities", returned, dtype)
        parts.append(_Part(g, Nonnegative(g.output.size)))
        all_constants.append(constants)
    for i, pair in enumerate(cones):
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[1], Cone):
            raise ValueError(f"cones[{i}] must be a pair (function, cone), got {pair!r}.")
        function, cone = pair
        require_pytree(cone, f"cones[{i}]")
        cone = cone.with_data(f"cones[{i}]", floating)
        cone.validate(f"cones[{i}]")
        g, constants, returned = traced(f"cones[{i}]", function, x0, params)
        require_floating(f"cones[{i}]", returned, dtype)
        if not hasattr(returned, "shape"):
            raise ValueError(f"cones[{i}] must return one array, got {_described(returned)}.")
        is_matrix = isinstance(cone, PSD) and returned.shape in (
            (cone.side, cone.side),
            (cone.count, cone.side, cone.side),
        )
        if not is_matrix and g.output.size != cone.rows:
            raise ValueError(f"cones[{i}] returns shape {returned.shape}, expected the {cone.rows} rows of {cone!r}.")
        parts.append(_Part(g, cone, is_matrix))
        all_constants.append(constants)
    if options.method == "barrier":
        unknown = [type(part.cone).__name__ for part in parts if not has_barrier(ProductCone.build([part.cone]))]
        if unknown or hessian != "dense" or warm_start is not None:
            raise ValueError(
                "The barrier method takes cones Nonnegative, SecondOrder and PSD, a dense hessian and no warm_start"
                f"{', got ' + ', '.join(unknown) if unknown else ''}; use another options.method."
            )
    A, b = _equations(equalities, layout, dtype)
    curvature = None if hessian == "dense" else hessian
    if callable(hessian):
        curvature, constants, returned = traced("hessian", hessian, x0, params)
        require_floating("hessian", returned, dtype)
        n = layout.size
        if curvature.output.structure != jax.tree.structure((0, 0)) or not (
            curvature.output.shapes[0] == (n,)
            and curvature.output.shapes[1][:1] == (n,)
            and len(curvature.output.shapes[1]) == 2
        ):
            raise ValueError(
                f"hessian must return (d, U) of shapes ({n},) and ({n}, r), got {curvature.output.shapes}."
            )
        all_constants.append(constants)
    elif hessian not in ("dense", "diagonal", "products"):
        raise ValueError(f"hessian must be 'dense', 'diagonal', 'products' or a function, got {hessian!r}.")
    if hessian == "products":
        given = {"inequalities": inequalities, "equalities": equalities, "cones": cones or None, "lb": lb, "ub": ub}
        if constraints := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"hessian='products' is for problems without constraints, got {', '.join(constraints)}.")
        if options.check_derivative or options.derivative != "exact":
            raise ValueError("hessian='products' has the exact derivative alone, without check_derivative.")
    lower, upper = (_bound(name, side, layout, dtype) for name, side in (("lb", lb), ("ub", ub)))
    problem = _Problem(
        params=params,
        constants=tuple(all_constants),
        cones=tuple(part.cone for part in parts),
        A=A,
        b=b,
        lb=lower,
        ub=upper,
        objective=objective,
        functions=tuple((part.function, part.is_matrix) for part in parts),
        hessian=curvature,
    )
    if warm_start is not None:
        warm_start = _guess(warm_start, problem, inequalities is not None, layout, dtype)
    x, s, z, y, z_lb, z_ub, objective_value, status, info = _minimize(problem, layout.ravel(x0), options, warm_start)
    first = 0 if inequalities is None else 1
    return Solution(
        x=x,
        s=s[0] if first else None,
        y=None if equalities is None else y,
        z=z[0] if first else None,
        z_lb=z_lb,
        z_ub=z_ub,
        s_cones=tuple(s[first:]) if len(parts) > first else None,
        z_cones=tuple(z[first:]) if len(parts) > first else None,
        objective=objective_value,
        status=status,
        info=info,
    )


def barrier_method(f0: Callable, x0: Any, *, options: Options | None = None, **problem) -> Solution:
    """`minimize` by the plain barrier method (`convexjax/barrier.py`): same arguments, same result, same derivatives.

    x0 has to satisfy the inequalities strictly, or the status is NUMERICAL_ERROR. Cones are `Nonnegative`,
    `SecondOrder` and `PSD`; no structured Hessians, no warm start; no certificates: statuses are SOLVED,
    NONCONVEX (a saddle at the end), MAX_ITERATIONS and NUMERICAL_ERROR. `options.history` records the central path.

    Source: Boyd and Vandenberghe, "Convex Optimization", sections 10.3 and 11.3.

    >>> import jax.numpy as jnp
    >>> import convexjax as cj
    >>> solution = cj.barrier_method(lambda x: (x[0] - 3.0) ** 2, jnp.zeros(1), inequalities=lambda x: x - 1.0)
    >>> print(solution.x.round(3), solution.z.round(2))
    [1.] [4.]
    """
    options = replace(checked_options(options), method="barrier")
    return minimize(f0, x0, options=options, **problem)


@dataclass(frozen=True)
class _Part:
    """Constraints of one function and their cone."""

    function: Function
    cone: Cone
    is_matrix: bool = False


@pytree
@dataclass(frozen=True, kw_only=True)
class _Problem:
    """Everything that was given, checked."""

    params: Any
    constants: tuple  # of the objective and of each function
    cones: tuple
    A: Any
    b: Any
    lb: Any
    ub: Any
    objective: Any = field(metadata={"static": True})
    functions: tuple = field(metadata={"static": True})  # pairs (function, whether it returns matrices)
    hessian: Any = field(default=None, metadata={"static": True})  # None for dense, "diagonal", or a function

    def rows(self, i: int, v: jax.Array, data: tuple) -> jax.Array:
        """The values of constraint i as rows of its cone."""
        function, is_matrix = self.functions[i]
        value = function(v, (data[0], data[1][i + 1]))
        if is_matrix:
            value = svec((value + jnp.swapaxes(value, -1, -2)) / 2)
        return function.output.ravel(value).astype(v.dtype)

    def value_of(self, i: int, rows: jax.Array) -> Any:
        """Rows of cone i in the shape of the function's values."""
        function, is_matrix = self.functions[i]
        if is_matrix:
            (shape,) = function.output.shapes
            return smat(rows.reshape(*shape[:-2], -1), shape[-1])
        return function.output.unravel(rows)


@dataclass(frozen=True)
class _Objective:
    """The objective, or its Hessian, with its own constants: static, equal where the functions are."""

    function: Function
    position: int = 0

    def __call__(self, v, data):
        return self.function(v, (data[0], data[1][self.position]))


@dataclass(frozen=True)
class _Constraints:
    """The rows of all constraints: static, equal where the functions are."""

    functions: tuple

    def __call__(self, v, data):
        problem = _Problem(
            params=None,
            constants=(),
            cones=(),
            A=None,
            b=None,
            lb=None,
            ub=None,
            objective=None,
            functions=self.functions,
        )
        rows = [problem.rows(i, v, data) for i in range(len(self.functions))]
        return jnp.concatenate([jnp.zeros(0, v.dtype), *rows])


@quick_jit
def _minimize(problem: _Problem, x0, options: Options, guess) -> tuple:
    """The reduction, on checked data."""
    n, dtype = x0.shape[0], x0.dtype
    sides = [
        (sign, jnp.broadcast_to(sign * bound, n))
        for sign, bound in ((-1, problem.lb), (1, problem.ub))
        if bound is not None
    ]
    A = jnp.zeros((0, n), dtype) if problem.A is None else problem.A
    b = jnp.zeros(0, dtype) if problem.b is None else problem.b
    cones = (Zero(b.shape[0]), *problem.cones)
    cone = ProductCone.build(cones, num_bounds=n * len(sides))
    extended = ProductCone.build(cones, num_bounds=(n + 1) * len(sides))
    program = SmoothProgram(
        params=(problem.params, problem.constants),
        A=A,
        b=b,
        bounds=tuple(side for _, side in sides),
        signs=tuple(sign for sign, _ in sides),
        cone=cone,
        objective=_Objective(problem.objective),
        constraints=_Constraints(problem.functions),
        hessian=_Objective(problem.hessian, -1) if isinstance(problem.hessian, Function) else problem.hessian,
    )
    if guess is not None:
        x0, s, z = guess
        guess = cone.to_solver(s), cone.to_solver(z)
    answer = solve(program, extended, x0, options, guess)

    layout = problem.objective.x
    s, z = cone.to_user(answer.s), cone.to_user(answer.z)
    parts_s, parts_z, first = [], [], b.shape[0]
    for i, part in enumerate(problem.cones):
        own = slice(first, first + part.rows)
        parts_s.append(problem.value_of(i, s[own]))
        parts_z.append(problem.value_of(i, z[own]))
        first += part.rows
    bound_duals = iter(layout.unravel(part) for part in jnp.split(z[first:], max(len(sides), 1)))
    z_lb = None if problem.lb is None else next(bound_duals)
    z_ub = None if problem.ub is None else next(bound_duals)
    x = layout.unravel(answer.x)
    return x, parts_s, parts_z, z[: b.shape[0]], z_lb, z_ub, answer.objective, answer.status, answer.info


def _described(returned) -> str:
    return f"shape {returned.shape}" if hasattr(returned, "shape") else f"a {type(returned).__name__}"


def _equations(equalities, layout: Layout, dtype) -> tuple:
    """(A, b) as arrays, A (p, n)."""
    if equalities is None:
        return None, None
    if not isinstance(equalities, tuple | list) or len(equalities) != 2:
        raise ValueError("equalities must be a pair (A, b) for A x = b.")
    A, b = equalities
    require_given(**{"equalities[0]": A, "equalities[1]": b})
    (b,) = floating(b=b)
    require_shape("b", b, (None,), "with one entry per row of A")
    if jax.tree.structure(A) == layout.structure and layout.structure != jax.tree.structure(0):
        leaves = floating_tree("A", A)
        for leaf, shape in zip(jax.tree.leaves(leaves), layout.shapes, strict=True):
            require_shape("A", leaf, (b.shape[0], *shape), "one row per entry of b for each leaf of x")
        A = jnp.concatenate([leaf.reshape(b.shape[0], -1) for leaf in jax.tree.leaves(leaves)], 1)
    A, b = floating(A=A, b=b)
    if A.ndim > 2 and A.shape[1:] == layout.shapes[0] and len(layout.shapes) == 1:
        A = A.reshape(A.shape[0], -1)
    require_shape("A", A, (None, layout.size), "with one column per entry of x")
    require_shape("b", b, (A.shape[0],), "with one entry per row of A")
    return A.astype(dtype), b.astype(dtype)


def _bound(name: str, bound, layout: Layout, dtype):
    """A bound as a vector, or a scalar."""
    if bound is None:
        return None
    wrong = {"lb": np.inf, "ub": -np.inf}[name]
    if any(not isinstance(v, jax.core.Tracer) and np.any(np.asarray(v) == wrong) for v in jax.tree.leaves(bound)):
        raise ValueError(f"{name} has entries {wrong}, which no x satisfies; {-wrong} stands for no bound.")
    if jax.tree.structure(bound) == layout.structure and layout.structure != jax.tree.structure(0):
        bound = floating_tree(name, bound)
        parts = []
        for leaf, shape in zip(jax.tree.leaves(bound), layout.shapes, strict=True):
            if leaf.shape != ():
                require_shape(name, leaf, shape, "like x, or a scalar")
            parts.append(jnp.broadcast_to(leaf, shape).reshape(-1))
        return jnp.concatenate(parts).astype(dtype)
    (bound,) = floating(**{name: bound})
    if bound.shape != ():
        if len(layout.shapes) != 1:
            raise ValueError(f"{name} must be a scalar or a pytree like x, got an array of shape {bound.shape}.")
        require_shape(name, bound, layout.shapes[0], "like x, or a scalar")
    return bound.astype(dtype).reshape(-1) if bound.shape else bound.astype(dtype)


def _guess(warm_start, problem: _Problem, has_inequalities: bool, layout: Layout, dtype) -> tuple:
    """(x, s, z) of a solution, rows in the user's order, checked."""
    if not isinstance(warm_start, Solution):
        raise ValueError(f"warm_start must be a Solution, got {type(warm_start).__name__}.")

    def flat(name, value, like: Layout):
        if jax.tree.structure(value) != like.structure:
            raise ValueError(f"warm_start.{name} is not like the {name} of this problem.")
        value = floating_tree(f"warm_start.{name}", value)
        for leaf, shape in zip(jax.tree.leaves(value), like.shapes, strict=True):
            require_shape(f"warm_start.{name}", leaf, shape)
        return value

    vectors = []
    for letter in "sz":
        single, several = getattr(warm_start, letter), getattr(warm_start, f"{letter}_cones")
        values = [*([single] if has_inequalities else []), *(several or ())]
        if len(values) != len(problem.functions):
            raise ValueError(f"warm_start.{letter}_cones has not as many entries as this problem has cones.")
        rows = []
        for value, (function, is_matrix) in zip(values, problem.functions, strict=True):
            value = flat(letter, value, function.output)
            rows.append(function.output.ravel(svec(value) if is_matrix else value).astype(dtype))
        vectors.append(rows)
    x = layout.ravel(flat("x", warm_start.x, layout)).astype(dtype)
    y = jnp.zeros(0, dtype) if problem.b is None else warm_start.y
    if y is None or jnp.shape(y) != (0 if problem.b is None else problem.b.shape[0],):
        raise ValueError("warm_start.y has not one entry per row of A.")
    for sign, name in ((-1, "lb"), (1, "ub")):
        bound = getattr(problem, name)
        if bound is None:
            continue
        dual = getattr(warm_start, f"z_{name}")
        vectors[0].append(sign * (jnp.broadcast_to(bound, x.shape) - x))
        vectors[1].append(layout.ravel(flat(f"z_{name}", dual, layout)).astype(dtype))
    s, z = (jnp.concatenate([start, *rows]) for start, rows in zip((jnp.zeros_like(y), y), vectors, strict=True))
    return x, s, z
