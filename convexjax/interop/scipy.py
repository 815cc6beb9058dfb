"""`linprog` and `nnls` with the arguments and results of scipy.optimize, as JAX functions: under `jit`, `vmap` and
derivatives, with a status per lane where SciPy would raise or warn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.learn import regression
from convexjax.learn.constraints import Bounds
from convexjax.options import Options
from convexjax.problems.arguments import floating, require_given, require_shape
from convexjax.problems.qp import solve_lp
from convexjax.pytrees import pytree
from convexjax.solution import Solution, Status


class Sensitivities(NamedTuple):
    """What is left of constraints, and the derivative of the optimum in their right-hand sides."""

    residual: Any
    marginals: Any


@pytree
@dataclass(frozen=True, kw_only=True)
class OptimizeResult:
    """The fields of SciPy's result of `linprog`; `solution` is ours."""

    x: Any
    fun: Any
    success: Any
    status: Any  # 0 solved, 1 out of iterations, 2 infeasible, 3 unbounded, 4 numerical difficulties
    slack: Any
    con: Any
    nit: Any
    ineqlin: Sensitivities
    eqlin: Sensitivities
    lower: Sensitivities
    upper: Sensitivities
    solution: Solution


# SciPy's numbers, by ours.
STATUSES = {
    Status.SOLVED: 0,
    Status.MAX_ITERATIONS: 1,
    Status.PRIMAL_INFEASIBLE: 2,
    Status.DUAL_INFEASIBLE: 3,
}


def linprog(
    c: ArrayLike,
    A_ub: ArrayLike | None = None,
    b_ub: ArrayLike | None = None,
    A_eq: ArrayLike | None = None,
    b_eq: ArrayLike | None = None,
    bounds: Any = (0, None),
    *,
    options: Options | None = None,
) -> OptimizeResult:
    """Solve a linear program with the arguments of `scipy.optimize.linprog`.

        minimise    c'x
        subject to  A_ub x <= b_ub,   A_eq x = b_eq,   bounds[i, 0] <= x_i <= bounds[i, 1]

    Arguments:
        c: (n,). A_ub, b_ub: (m, n), (m,). A_eq, b_eq: (p, n), (p,).
        bounds: one pair for all variables, a sequence of n pairs, or an array (n, 2); None is no bound. By default
            every variable is nonnegative, as with SciPy.
        options: see `convexjax.Options`.

    Returns:
        `OptimizeResult`, a pytree with SciPy's fields and signs; `solution` is that of `convexjax.solve_lp`.

    Raises:
        ValueError: shapes that do not fit, bounds that are not pairs.

    >>> from convexjax.interop.scipy import linprog
    >>> result = linprog([-1.0, -2.0], A_ub=[[1.0, 1.0], [1.0, 3.0]], b_ub=[4.0, 6.0])
    >>> print([round(float(x), 3) for x in result.x], int(result.status), round(float(result.fun), 3))
    [3.0, 1.0] 0 -5.0
    """
    require_given(c=c)
    c, A_ub, b_ub, A_eq, b_eq = floating(c=c, A_ub=A_ub, b_ub=b_ub, A_eq=A_eq, b_eq=b_eq)
    require_shape("c", c, (None,))
    n, dtype = c.shape[0], c.dtype
    lb, ub = _sides(bounds, n, dtype)
    solution = solve_lp(c, A_ub, b_ub, A_eq, b_eq, lb, ub, options=options)
    x, none = solution.x, jnp.zeros(0, dtype)
    slack = none if b_ub is None else b_ub - A_ub @ x
    con = none if b_eq is None else b_eq - A_eq @ x
    # a number for each status, 4 where there is none
    table = np.full(max(Status) + 1, 4, np.int32)
    for ours, theirs in STATUSES.items():
        table[ours] = theirs
    return OptimizeResult(
        x=x,
        fun=solution.objective,
        success=Status.SOLVED.holds(solution.status),
        status=jnp.asarray(table)[solution.status],
        slack=slack,
        con=con,
        nit=solution.info.num_iters,
        ineqlin=Sensitivities(slack, none if b_ub is None else -solution.z),
        eqlin=Sensitivities(con, none if b_eq is None else -solution.y),
        lower=Sensitivities(x - lb, solution.z_lb),
        upper=Sensitivities(ub - x, -solution.z_ub),
        solution=solution,
    )


def _sides(bounds, n: int, dtype) -> tuple[jax.Array, jax.Array]:
    """(lb, ub) from what SciPy takes as bounds."""
    bounds = (0, None) if bounds is None else bounds
    if isinstance(bounds, Sequence) and not (len(bounds) == 2 and all(_is_side(side) for side in bounds)):
        if not all(isinstance(pair, Sequence | np.ndarray | jax.Array) and len(pair) == 2 for pair in bounds):
            raise ValueError(f"bounds must be a pair, or a sequence of {n} pairs (lower, upper), got {bounds!r}.")
        if len(bounds) != n:
            raise ValueError(f"bounds must have a pair for each of the {n} entries of c, got {len(bounds)} pairs.")
        lower, upper = zip(*bounds, strict=True) if n else ((), ())
    elif isinstance(bounds, Sequence):
        lower, upper = ([side] * n for side in bounds)
    else:
        require_shape("bounds", bounds, (n, 2))
        lower, upper = bounds[:, 0], bounds[:, 1]
    return _side(lower, -np.inf, dtype), _side(upper, np.inf, dtype)


def _is_side(value) -> bool:
    return value is None or np.ndim(value) == 0


def _side(values, none: float, dtype) -> jax.Array:
    if isinstance(values, Sequence):
        values = jnp.stack([jnp.asarray(none if v is None else v, dtype) for v in values] or [jnp.zeros(0, dtype)])
        return values.reshape(-1)
    return jnp.asarray(values, dtype)


def nnls(A: ArrayLike, b: ArrayLike, *, options: Options | None = None) -> tuple[jax.Array, jax.Array]:
    """Solve a nonnegative least squares problem with the arguments of `scipy.optimize.nnls`.

        minimise |A x - b|_2   subject to   x >= 0

    Arguments:
        A, b: (m, n) and (m,).
        options: see `convexjax.Options`.

    Returns:
        x (n,) and the norm of the residual, which is NaN where no solution was proved.

    >>> from convexjax.interop.scipy import nnls
    >>> x, residual = nnls([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [2.0, 1.0, -1.0])
    >>> print([abs(round(float(x), 3)) for x in x], round(float(residual), 3))
    [1.5, 0.0] 1.225
    """
    model = regression.fit(A, b, constraints=Bounds(lower=0.0), intercept=False, options=options)
    (A, b) = floating(A=A, b=b)
    x = model.coefficients
    residual = jnp.linalg.norm(A @ x - b)
    return x, jnp.where(Status.SOLVED.holds(model.status), residual, jnp.nan)
