"""What a problem file holds, and the solver that suits it. Host data: NumPy arrays and matrices of scipy.sparse."""

import importlib.util
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp

from convexjax.interop.cone_form import ConeForm, solve_cone_form
from convexjax.options import Options
from convexjax.problems.gp import solve_gp
from convexjax.problems.qp import solve_qp
from convexjax.problems.sdp import solve_sdp


def sparse_pays(P, A) -> bool:
    """Whether a quadratic program is solved faster with its matrices, of scipy.sparse, sparse than dense."""
    (m, n), known = A.shape, importlib.util.find_spec("qdldl") is not None
    return known and n * (m + n) > 100_000 and P.nnz + A.nnz < 0.05 * n * (m + n)


@dataclass(frozen=True, kw_only=True)
class QuadraticProgram:
    """Minimise (or maximise) 1/2 x'Px + q'x + constant subject to l <= Ax <= u, lb <= x <= ub."""

    name: str
    P: Any
    q: np.ndarray
    A: Any
    l: np.ndarray
    u: np.ndarray
    lb: np.ndarray
    ub: np.ndarray
    constant: float = 0.0
    maximise: bool = False

    def describe(self) -> str:
        """One line for people."""
        kind = "quadratic program" if self.P.nnz else "linear program"
        equations = int(np.sum(self.l == self.u))
        bounds = int(np.isfinite(self.lb).sum() + np.isfinite(self.ub).sum())
        return (
            f"{kind}: {_count(self.q.size, 'variable')}, {_count(equations, 'equation')}, "
            f"{_count(self.l.size - equations, 'inequality')}, {_count(bounds, 'bound')}"
        )

    def solve(self, options: Options):
        """The solution, its objective that of the file. `y`: the dual of all rows, l and u together."""
        sign = -1.0 if self.maximise else 1.0
        equal = self.l == self.u
        above, below = ~equal & np.isfinite(self.u), ~equal & np.isfinite(self.l)
        P, A = (M.tocsr() if sparse_pays(self.P, self.A) else M.toarray() for M in (self.P, self.A))
        stack = sp.vstack if sp.issparse(A) else np.vstack
        G, h = stack([A[above], -A[below]]), np.concatenate([self.u[above], -self.l[below]])
        bound = lambda values: values if np.isfinite(values).any() else None
        solution = solve_qp(
            sign * P if self.P.nnz else None,
            sign * self.q,
            G=G if h.size else None,
            h=h if h.size else None,
            A=A[equal] if equal.any() else None,
            b=self.l[equal] if equal.any() else None,
            lb=bound(self.lb),
            ub=bound(self.ub),
            options=options,
        )
        y = np.zeros(self.l.size)
        if equal.any():
            y[equal] = solution.y
        if h.size:
            z = np.asarray(solution.z)
            y[above] += z[: above.sum()]
            y[below] -= z[above.sum() :]
        return replace(solution, objective=sign * solution.objective + self.constant, y=y, z=None, s=None)


@dataclass(frozen=True, kw_only=True)
class ConicProgram:
    """Minimise (or maximise) q'x + constant subject to Ax + s = b, s in the cones of `form`, in its order of rows."""

    name: str
    q: np.ndarray
    A: Any
    b: np.ndarray
    form: ConeForm
    constant: float = 0.0
    maximise: bool = False

    def describe(self) -> str:
        """One line for people."""
        form = self.form
        parts = [_count(form.zero, "equation"), _count(form.nonnegative, "inequality")]
        for name, sizes in (("second-order cone", form.second_order), ("semidefinite block", form.semidefinite)):
            if sizes:
                widest = f" of {sizes[0]}" if len(set(sizes)) == 1 else f" of {min(sizes)} to {max(sizes)}"
                parts.append(_count(len(sizes), name) + widest)
        parts += [_count(form.exponential, "exponential cone")] if form.exponential else []
        parts += [_count(len(form.power), "power cone")] if form.power else []
        return f"conic program: {_count(self.q.size, 'variable')}, {', '.join(parts)}"

    def solve(self, options: Options):
        """The solution, its objective that of the file."""
        sign = -1.0 if self.maximise else 1.0
        A = self.A.tocsr()[self.form.kept].toarray()
        solution = solve_cone_form(self.form, None, jnp.asarray(sign * self.q), A, jnp.asarray(self.b), options)
        return replace(solution, objective=sign * solution.objective + self.constant)


@dataclass(frozen=True, kw_only=True)
class SemidefiniteProgram:
    """Minimise c'x + constant subject to F_0 + sum_i x_i F_i psd, in blocks: per block a list of n + 1 sparse matrices,
    or an array (n + 1, l) of diagonals."""

    name: str
    c: np.ndarray
    F: tuple
    constant: float = 0.0

    def describe(self) -> str:
        """One line for people."""
        sides = [block[0].shape[0] for block in self.F if not isinstance(block, np.ndarray)]
        diagonal = sum(block.shape[1] for block in self.F if isinstance(block, np.ndarray))
        widest = f" of {min(sides)} to {max(sides)}" if len(set(sides)) > 1 else f" of {sides[0]}" if sides else ""
        return (
            f"semidefinite program: {_count(self.c.size, 'variable')}, {_count(len(sides), 'block')}{widest}, "
            f"{_count(diagonal, 'inequality')}"
        )

    def solve(self, options: Options):
        """The solution."""
        solution = solve_sdp(c=self.c, F=self.F, options=options)
        return replace(solution, objective=solution.objective + self.constant)


@dataclass(frozen=True, kw_only=True)
class GeometricProgram:
    """Minimise posynomial 0 subject to the others <= 1 (= 1 for those in `equalities`), in the form of `solve_gp`."""

    name: str
    exponents: Any
    log_coefficients: np.ndarray
    posynomials: np.ndarray
    equalities: tuple[int, ...]

    def describe(self) -> str:
        """One line for people."""
        terms, n = self.exponents.shape
        return (
            f"geometric program: {_count(n, 'variable')}, {_count(int(self.posynomials.max()), 'constraint')}, "
            f"{_count(terms, 'term')}"
        )

    def solve(self, options: Options):
        """The solution, `x` positive."""
        return solve_gp(
            self.exponents, self.log_coefficients, self.posynomials, equalities=self.equalities, options=options
        )


def semidefinite_or_conic(program: ConicProgram) -> ConicProgram | SemidefiniteProgram:
    """A program whose cones are semidefinite and nonnegative only is a linear matrix inequality, for which there is a
    solver of its own that uses its zeros."""
    form = program.form
    if not form.semidefinite or form.zero or form.second_order or form.exponential or form.power or program.maximise:
        return program
    columns = sp.hstack([sp.csc_array(program.b[:, None]), -sp.csc_array(program.A)]).tocsr()
    blocks, first = [], form.nonnegative
    if first:
        blocks.append(columns[:first].toarray().T)
    for side in form.semidefinite:
        size = side * (side + 1) // 2
        blocks.append(_matrices(columns[first : first + size].tocsc(), side))
        first += size
    return SemidefiniteProgram(name=program.name, c=program.q, F=tuple(blocks), constant=program.constant)


def _matrices(vectors, side: int) -> list:
    """The symmetric matrices of sparse columns in the order of `svec`."""
    columns, rows = np.tril_indices(side)
    matrices = []
    for k in range(vectors.shape[1]):
        part = slice(vectors.indptr[k], vectors.indptr[k + 1])
        place, value = vectors.indices[part], vectors.data[part]
        i, j = rows[place], columns[place]
        value = np.where(i == j, value, value / np.sqrt(2.0))
        upper = sp.coo_array((value, (i, j)), shape=(side, side))
        off = i != j
        matrices.append((upper + sp.coo_array((value[off], (j[off], i[off])), shape=(side, side))).tocsr())
    return matrices


def _count(number: int, noun: str) -> str:
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number:,} {noun if number == 1 else plural}"
