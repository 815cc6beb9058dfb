"""The cone form of CVXPY and of problem files, solved by what suits its cones.

    minimise 1/2 x'Px + q'x   subject to   A x + s = b,   s in K

Its rows come in the order zero, nonnegative, second-order, semidefinite, exponential, power, and each of its cones is
written as ours is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np

from convexjax.compilation import quick_jit
from convexjax.cones import PSD, Exponential, Nonnegative, Power, SecondOrder, Zero
from convexjax.cones.base import Cone
from convexjax.options import Options
from convexjax.problems.conic import solve_conic
from convexjax.problems.qp import solve_qp
from convexjax.pytrees import pytree, static
from convexjax.solution import Info, Solution


@pytree
@dataclass(frozen=True, kw_only=True)
class ConeForm:
    """What is static of a problem: its cones, and which of its rows are bounds.

    A bound is a nonnegative row `scale x[variable] <= b[row]` in a problem without other cones; it costs one number
    where a row costs n. At most one for each variable and sign of `scale`.
    """

    zero: int = static()
    nonnegative: int = static()
    second_order: tuple[int, ...] = static()
    semidefinite: tuple[int, ...] = static()
    exponential: int = static()
    power: tuple[float, ...] = static()
    bounds: tuple[tuple[int, int, float], ...] = static(default=())  # row, variable, scale

    @classmethod
    def build(cls, *, zero, nonnegative, second_order, semidefinite, exponential, power, entries) -> "ConeForm":
        """From the cones, and (rows, columns, values) of the entries of A; NaN where a value is not known yet."""
        form = cls(
            zero=int(zero),
            nonnegative=int(nonnegative),
            second_order=tuple(int(size) for size in second_order),
            semidefinite=tuple(int(side) for side in semidefinite),
            exponential=int(exponential),
            power=tuple(float(alpha) for alpha in power),
        )
        return form if form.cones else replace(form, bounds=_bounds(form, *entries))

    @property
    def cones(self) -> tuple:
        """Those below the linear rows."""
        cones: list[Cone] = [SecondOrder(size) for size in self.second_order]
        cones += [PSD(side) for side in self.semidefinite]
        cones += [Exponential(self.exponential)] if self.exponential else []
        return (*cones, Power(jnp.array(self.power))) if self.power else tuple(cones)

    @property
    def num_rows(self) -> int:
        return self.zero + self.nonnegative + sum(cone.rows for cone in self.cones)

    @property
    def kept(self) -> np.ndarray:
        """The rows that are no bounds."""
        return np.setdiff1d(np.arange(self.num_rows), [row for row, _, _ in self.bounds]).astype(np.int32)

    def sides(self, dtype) -> Iterator[tuple]:
        """(rows, variables, scales) of the lower bounds, and of the upper ones."""
        for sign in (-1, 1):
            chosen = [bound for bound in self.bounds if sign * bound[2] > 0]
            rows, variables, scales = zip(*chosen, strict=True) if chosen else ((), (), ())
            yield np.array(rows, np.int32), np.array(variables, np.int32), np.array(scales, dtype)


def _bounds(form: ConeForm, rows, columns, values) -> tuple:
    """The nonnegative rows with one entry, a known one; of several that bound the same side, the first."""
    alone = np.bincount(rows, minlength=form.num_rows)[rows] == 1
    chosen = alone & (rows >= form.zero) & np.isfinite(values) & (values != 0)
    found: dict = {}
    for row, column, value in sorted(zip(*(v[chosen].tolist() for v in (rows, columns, values)), strict=True)):
        found.setdefault((column, value > 0), (row, column, value))
    return tuple(sorted(found.values()))


@quick_jit
def solve_cone_form(form: ConeForm, P, q, A, b, options: Options, guess: tuple | None = None) -> Solution:
    """`x` (n,), and the slack `s` and dual `z` of all m rows, in the order of rows.

    `A` has the rows `form.kept` only, `b` (m,) all. `guess`: (x, s, z) of a similar problem."""
    if form.cones:
        cones = (Zero(form.zero), Nonnegative(form.nonnegative), *form.cones)
        return solve_conic(P, q, A, b, cones, options=options, warm_start=guess)
    return _solve_linear_rows(form, P, q, A, b, options, guess)


def _solve_linear_rows(form: ConeForm, P, q, A, b, options: Options, guess) -> Solution:
    """Without other cones the program is a quadratic one."""
    n, p = q.shape[0], form.zero
    general = form.kept[p:]
    lower, upper = form.sides(q.dtype)
    side = lambda sign, rows, variables, scales: (
        jnp.full(n, sign * jnp.inf, q.dtype).at[variables].set(b[rows] / scales) if rows.size else None
    )
    warm_start = None
    if guess is not None:
        x, _, z = guess
        dual = lambda rows, variables, scales: jnp.zeros(n, z.dtype).at[variables].set(z[rows] * np.abs(scales))
        warm_start = Solution(
            x=x,
            y=z[:p],
            z=z[general],
            z_lb=dual(*lower),
            z_ub=dual(*upper),
            objective=None,
            status=None,
            info=Info(num_iters=None, primal_residual=None, dual_residual=None, gap=None),
        )
    solution = solve_qp(
        P, q, A[p:], b[general], A[:p], b[:p], side(-1, *lower), side(1, *upper), options=options, warm_start=warm_start
    )
    z = jnp.zeros_like(b).at[:p].set(solution.y).at[general].set(solution.z)
    for (rows, variables, scales), duals in ((lower, solution.z_lb), (upper, solution.z_ub)):
        if rows.size:
            z = z.at[rows].set(duals[variables] / np.abs(scales))
    s = jnp.zeros_like(b).at[form.kept].set(b[form.kept] - A @ solution.x)
    for rows, variables, scales in (lower, upper):
        if rows.size:
            s = s.at[rows].set(b[rows] - scales * solution.x[variables])
    return replace(solution, s=s, z=z, y=None, z_lb=None, z_ub=None)
