"""`solve_socp`: second-order cone programs."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.cone_program import ConeProgram
from convexjax.cones.linear import Nonnegative, Zero
from convexjax.cones.product import ProductCone
from convexjax.cones.second_order import SecondOrder
from convexjax.linear_algebra import Rows
from convexjax.options import Options
from convexjax.problems.arguments import (
    checked_guess,
    checked_options,
    floating,
    require_given,
    require_shape,
    require_together,
    rows_or_empty,
    symmetric,
)
from convexjax.solution import Solution
from convexjax.solver import solve


def solve_socp(
    q: ArrayLike,
    norms: Sequence[tuple],
    G: ArrayLike | None = None,
    h: ArrayLike | None = None,
    A: ArrayLike | None = None,
    b: ArrayLike | None = None,
    *,
    P: ArrayLike | None = None,
    options: Options | None = None,
    warm_start: Solution | None = None,
) -> Solution:
    """Solve a second-order cone program.

        minimise    1/2 x'Px + q'x
        subject to  |M_i x + r_i|_2 <= c_i'x + d_i   for each i,   G x <= h,   A x = b

    Arguments:
        q: (n,).
        norms: tuples (M_i, r_i, c_i, d_i) of shapes (k_i, n), (k_i,), (n,) and (); None in the place of r_i, c_i or d_i
            stands for zero. Tuples with a leading axis, (count, k, n), (count, k), (count, n), (count,), are `count`
            constraints at once.
        G, h, A, b: as in `solve_qp`.
        P: (n, n), symmetric positive semidefinite, or None for zero.
        options: see `Options`.
        warm_start: a `Solution` of a similar problem, as in `solve_qp`.

    Returns:
        `Solution` with `x` (n,); `s`, `z` (m,) slack and dual of G; `y` (p,) dual of A; and for the norms tuples
        `s_cones` and `z_cones` with one array (k_i + 1,) (or (count, k + 1)) each: slack `(c_i'x + d_i, M_i x + r_i)`
        and dual `(lambda_i, u_i)` with `|u_i| <= lambda_i`, so that
        `Px + q + A'y + G'z - sum_i (lambda_i c_i + M_i'u_i) = 0`; `objective`, `status`, `info`. Certificates as in
        `solve_qp`, with `sum_i (lambda_i d_i + u_i'r_i)` joining the constant term.

    Raises:
        ValueError: shapes that do not fit.
        TypeError: data that are not real numbers.

    Source: Lobo, Vandenberghe, Boyd and Lebret, "Applications of second-order cone programming", 1998.

    The point nearest to (3, 4) in the unit disk, by `min t` subject to `|x - (3, 4)| <= t`, `|x| <= 1`:

    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import convexjax as cj
    >>> M = jnp.eye(2, 3)
    >>> norms = [(M, [-3.0, -4.0], [0.0, 0.0, 1.0], None), (M, None, None, 1.0)]
    >>> print(np.asarray(cj.solve_socp([0.0, 0.0, 1.0], norms).x).round(3))
    [0.6 0.8 4. ]
    """
    options = checked_options(options)
    require_together(G=G, h=h)
    require_together(A=A, b=b)
    named = {"P": P, "q": q, "G": G, "h": h, "A": A, "b": b}
    for i, norm in enumerate(norms):
        if not isinstance(norm, tuple | list) or len(norm) != 4:
            raise ValueError(f"norms[{i}] must be a tuple (M, r, c, d) for |M x + r| <= c'x + d, got {norm!r}.")
        named.update({f"norms[{i}][{j}]": value for j, value in enumerate(norm)})
    require_given(q=q)
    P, q, G, h, A, b, *parts = floating(**named)
    require_shape("q", q, (None,))
    n, dtype = q.shape[0], q.dtype
    if P is not None:
        require_shape("P", P, (n, n), "with n the length of q")
    for matrix_name, matrix, vector_name, vector in (("G", G, "h", h), ("A", A, "b", b)):
        if matrix is not None:
            require_shape(matrix_name, matrix, (None, n), "with one column per entry of q")
            require_shape(vector_name, vector, (matrix.shape[0],), f"with one entry per row of {matrix_name}")

    checked = tuple(_norm(f"norms[{i}]", parts[4 * i : 4 * i + 4], n, dtype) for i in range(len(parts) // 4))
    guess = None
    if warm_start is not None:
        duals = tuple(jnp.empty((*r.shape[:-1], r.shape[-1] + 1), dtype) for _, r, _, _ in checked)
        guess = checked_guess(warm_start, x=q, y=b, z=h, z_cones=duals)
    return _solve_socp(P, q, checked, G, h, A, b, options, guess)


@quick_jit
def _solve_socp(P, q, norms, G, h, A, b, options, guess) -> Solution:
    """The reduction, on checked arrays."""
    n, dtype = q.shape[0], q.dtype
    (A_rows, b_rows), (G_rows, h_rows) = rows_or_empty(A, b, n, dtype), rows_or_empty(G, h, n, dtype)
    p, m = A_rows.shape[0], G_rows.shape[0]
    rows, right, cones, shapes = [A_rows, G_rows], [b_rows, h_rows], [Zero(p), Nonnegative(m)], []
    for M, r, c, d in norms:
        # s = (c'x + d, M x + r), that is -(c, M) x + s = (d, r)
        shape = (*r.shape[:-1], r.shape[-1] + 1)
        rows.append(-jnp.concatenate([c[..., None, :], M], -2).reshape(-1, n))
        right.append(jnp.concatenate([d[..., None], r], -1).reshape(-1))
        cones.append(SecondOrder(shape[-1], math.prod(shape[:-1])))
        shapes.append(shape)
    cone = ProductCone.build(cones)
    program = ConeProgram(
        P=symmetric(P),
        q=q,
        A=Rows(cone.to_solver(jnp.concatenate(rows))),
        b=cone.to_solver(jnp.concatenate(right)),
        cone=cone,
    )
    if guess is not None:
        x, *duals = jax.tree.leaves(guess)
        z = cone.to_solver(jnp.concatenate([jnp.zeros(0, dtype), *(dual.reshape(-1) for dual in duals)]))
        guess = x, program.b - program.A.matvec(x), z
    answer = solve(program, options, guess)

    s, z = cone.to_user(answer.s), cone.to_user(answer.z)
    ends = np.cumsum([r.shape[0] for r in right])[1:-1]
    split = lambda v: tuple(part.reshape(shape) for part, shape in zip(jnp.split(v, ends)[1:], shapes, strict=True))
    return Solution(
        x=answer.x,
        s=None if G is None else s[p : p + m],
        y=None if A is None else z[:p],
        z=None if G is None else z[p : p + m],
        s_cones=split(s) if norms else (),
        z_cones=split(z) if norms else (),
        objective=answer.objective,
        status=answer.status,
        info=answer.info,
    )


def _norm(name, parts, n, dtype):
    """(M, r, c, d), checked, zeros in the place of None."""
    M, r, c, d = parts
    if M is None:
        raise ValueError(f"{name}[0] is None; the matrix M of |M x + r| <= c'x + d is needed.")
    if M.ndim not in (2, 3) or M.shape[-1] != n:
        raise ValueError(f"{name}[0] has shape {M.shape}, expected (any, {n}) or (count, any, {n}).")
    batch, k = M.shape[:-2], M.shape[-2]
    shapes = ((*batch, k), (*batch, n), batch)
    for j, (value, shape) in enumerate(zip((r, c, d), shapes, strict=True), start=1):
        if value is not None:
            require_shape(f"{name}[{j}]", value, shape, f"to go with {name}[0] of shape {M.shape}")
    filled = (jnp.zeros(shape, dtype) if v is None else v for v, shape in zip((r, c, d), shapes, strict=True))
    return M, *filled
