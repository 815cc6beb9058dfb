"""`solve_conic`: the standard form itself."""

from collections.abc import Sequence

from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.cone_program import ConeProgram
from convexjax.cones.base import Cone, require_pytree
from convexjax.cones.product import ProductCone
from convexjax.linear_algebra import Rows
from convexjax.options import Options
from convexjax.problems.arguments import (
    checked_options,
    floating,
    floating_matrices,
    require_given,
    require_shape,
    symmetric,
)
from convexjax.solution import Solution
from convexjax.solver import solve


def solve_conic(
    P: ArrayLike | None,
    q: ArrayLike,
    A: ArrayLike,
    b: ArrayLike,
    cones: Sequence[Cone],
    *,
    options: Options | None = None,
    warm_start: Solution | tuple | None = None,
) -> Solution:
    """Solve a cone program with a quadratic objective.

        minimise    1/2 x'Px + q'x
        subject to  A x + s = b,   s in K

    Arguments:
        P: (n, n), symmetric positive semidefinite, or None for zero. Only its symmetric part counts.
        q: (n,).
        A: (m, n).
        b: (m,). An entry >= 1e20 in a `Nonnegative` row means that the row has no effect.
        cones: K, a sequence of cones in the order of the rows: `Zero`, `Nonnegative`, `SecondOrder`, `PSD`,
            `Exponential`, `Power`, or a subclass of `convexjax.cones.Cone` of your own. Their sizes add up to m.
        options: see `Options`.
        warm_start: a `Solution` of a similar problem, or arrays (x, s, z), as in `solve_qp`.

    P and A may be sparse, as in `solve_qp`; each copy of a cone is a dense block, so that cones should be small.

    Returns:
        `Solution` with `x` (n,), `s` (m,) in K, the dual `z` (m,) in K*, so that `Px + q + A'z = 0`, `objective`,
        `status` and `info`. PRIMAL_INFEASIBLE: `z` in K* with `b'z = -1`, `A'z = 0`. DUAL_INFEASIBLE: `x` with
        `q'x = -1`, `Px = 0`, `-Ax` in K.

    Raises:
        ValueError: shapes or sizes that do not fit, or sizes of cones that are not static.
        TypeError: data that are not real numbers.

    Source: Goulart and Chen, "Clarabel: an interior-point solver for conic programs with quadratic objectives",
    arXiv:2405.12762; for the exponential and power cones Dahl and Andersen, Mathematical Programming, 2022.

    The point of the unit ball that is smallest in the first coordinate:

    >>> import jax.numpy as jnp
    >>> import convexjax as cj
    >>> A = -jnp.vstack([jnp.zeros(2), jnp.eye(2)])
    >>> solution = cj.solve_conic(None, [1.0, 0.0], A, [1.0, 0.0, 0.0], [cj.SecondOrder(3)])
    >>> print(solution.x.round(3) + 0.0)
    [-1.  0.]
    """
    options = checked_options(options)
    cones = (cones,) if isinstance(cones, Cone) else tuple(cones)
    for i, cone in enumerate(cones):
        if not isinstance(cone, Cone):
            raise ValueError(f"cones[{i}] must be a cone such as convexjax.Nonnegative(3), got {cone!r}.")
        require_pytree(cone, f"cones[{i}]")
    cones = tuple(cone.with_data(f"cones[{i}]", floating) for i, cone in enumerate(cones))
    for i, cone in enumerate(cones):
        cone.validate(f"cones[{i}]")
    require_given(q=q, A=A, b=b)
    P, A, q, b = floating_matrices({"P": P, "A": A}, {"q": q, "b": b})
    require_shape("q", q, (None,))
    n = q.shape[0]
    require_shape("A", A, (None, n), "with one column per entry of q")
    m = A.shape[0]
    require_shape("b", b, (m,), "with one entry per row of A")
    if P is not None:
        require_shape("P", P, (n, n), "with n the length of q")
    total = sum(cone.rows for cone in cones)
    if total != m:
        sizes = " + ".join(f"{type(cone).__name__} {cone.rows}" for cone in cones) or "none"
        raise ValueError(f"cones have {total} rows in total ({sizes}), expected the {m} rows of A.")

    if warm_start is not None:
        warm_start = _guess(warm_start, q, b)
    return _solve_conic(P, q, A, b, cones, options, warm_start)


@quick_jit
def _solve_conic(P, q, A, b, cones, options, guess) -> Solution:
    """The reduction, on checked arrays."""
    cone = ProductCone.build(cones)
    program = ConeProgram(P=symmetric(P), q=q, A=Rows(cone.to_solver(A)), b=cone.to_solver(b), cone=cone)
    if guess is not None:
        x, s, z = guess
        guess = x, cone.to_solver(s), cone.to_solver(z)
    answer = solve(program, options, guess)
    return Solution(
        x=answer.x,
        s=cone.to_user(answer.s),
        z=cone.to_user(answer.z),
        objective=answer.objective,
        status=answer.status,
        info=answer.info,
    )


def _guess(warm_start, q, b) -> tuple:
    """(x, s, z), checked."""
    if isinstance(warm_start, Solution):
        warm_start = (warm_start.x, warm_start.s, warm_start.z)
    if not isinstance(warm_start, tuple | list) or len(warm_start) != 3:
        raise ValueError(f"warm_start must be a Solution or a tuple (x, s, z), got {type(warm_start).__name__}.")
    names = ("warm_start x", "warm_start s", "warm_start z")
    *values, _ = floating(**dict(zip(names, warm_start, strict=True)), q=q)
    for name, value, like in zip(names, values, (q, b, b), strict=True):
        if value is None:
            raise ValueError(f"{name} is None, expected an array of shape {like.shape}.")
        require_shape(name, value, like.shape)
    return tuple(value.astype(q.dtype) for value in values)
