"""The two forms of a benchmark program, the answer a solver gives, and the reductions between the forms.

Plain NumPy and SciPy: nothing here knows a solver.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

CLAIMS = ("solved", "almost", "infeasible", "unbounded", "failed")


@dataclass(frozen=True, kw_only=True)
class Cones:
    """The product cone, in row order: zero, nonnegative, second-order, PSD, exponential, power."""

    zero: int = 0
    nonnegative: int = 0
    second_order: tuple[int, ...] = ()
    psd: tuple[int, ...] = ()
    exponential: int = 0
    power: tuple[float, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each of the six kinds."""
        triangles = sum(side * (side + 1) // 2 for side in self.psd)
        return (
            self.zero,
            self.nonnegative,
            sum(self.second_order),
            triangles,
            3 * self.exponential,
            3 * len(self.power),
        )


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What is known about a program: `status`, the optimal value and how far it can be trusted."""

    status: str = "optimal"
    f_opt: float = np.nan
    f_rtol: float = 1e-8


@dataclass(frozen=True, kw_only=True)
class QuadraticProgram:
    """Minimise 1/2 x'Px + q'x + r subject to l <= Ax <= u, lb <= x <= ub. P and A are sparse, by columns."""

    name: str
    P: sparse.csc_array
    q: np.ndarray
    r: float = 0.0
    A: sparse.csc_array
    l: np.ndarray
    u: np.ndarray
    lb: np.ndarray
    ub: np.ndarray
    reference: Reference | None = None


@dataclass(frozen=True, kw_only=True)
class ConicProgram:
    """Minimise 1/2 x'Px + q'x + r subject to Ax + s = b, s in K. P (or None) and A are sparse, by columns."""

    name: str
    P: sparse.csc_array | None
    q: np.ndarray
    r: float = 0.0
    A: sparse.csc_array
    b: np.ndarray
    cones: Cones
    reference: Reference | None = None


Program = QuadraticProgram | ConicProgram


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a solver returned, one layout for all.

    Conic: Px + q + A'z = 0 with z in K*. Quadratic: Px + q + A'z + z_bounds = 0, where z > 0 presses on the upper and
    z < 0 on the lower side. "infeasible" comes with a ray in the duals, "unbounded" with a ray in x, of any length.
    """

    claim: str
    x: np.ndarray | None = None
    s: np.ndarray | None = None
    z: np.ndarray | None = None
    z_bounds: np.ndarray | None = None
    iterations: int | None = None


def objective(program: Program, x: np.ndarray) -> float:
    """The objective at x, constant included."""
    quadratic = 0.0 if program.P is None else 0.5 * float(x @ (program.P @ x))
    return quadratic + float(program.q @ x) + program.r


@dataclass(frozen=True)
class SplitRows:
    """Rows of l <= Ax <= u as equations `equal`, and inequalities on the `upper` and the `lower` side (indices)."""

    equal: np.ndarray
    upper: np.ndarray
    lower: np.ndarray

    def equations(self, program: QuadraticProgram) -> tuple[sparse.csc_array, np.ndarray]:
        """A, b of Ax = b."""
        return program.A[self.equal], program.u[self.equal]

    def inequalities(self, program: QuadraticProgram) -> tuple[sparse.csc_array, np.ndarray]:
        """G, h of Gx <= h: upper sides first, then the lower sides with their signs turned."""
        G = sparse.vstack([program.A[self.upper], -program.A[self.lower]], format="csc")
        return G, np.concatenate([program.u[self.upper], -program.l[self.lower]])

    def joined_duals(self, rows: int, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        """One signed dual per row of A, from the duals of the equations and of the inequalities."""
        duals = np.zeros(rows)
        duals[self.equal] = y
        duals[self.upper] += z[: self.upper.size]
        duals[self.lower] -= z[self.upper.size :]
        return duals


def split_rows(lower: np.ndarray, upper: np.ndarray) -> SplitRows:
    """Sort rows with the sides `lower` <= . <= `upper` into equations and inequalities."""
    equal = lower == upper
    return SplitRows(
        equal=np.flatnonzero(equal),
        upper=np.flatnonzero(~equal & np.isfinite(upper)),
        lower=np.flatnonzero(~equal & np.isfinite(lower)),
    )


def with_bounds_as_rows(program: QuadraticProgram) -> QuadraticProgram:
    """The same program with every variable that has a finite bound given a row of A, and no bounds."""
    free = np.full(program.q.size, np.inf)
    bounded = bounded_variables(program)
    identity = sparse.eye_array(program.q.size, format="csc")[bounded]
    return QuadraticProgram(
        name=program.name,
        P=program.P,
        q=program.q,
        r=program.r,
        A=sparse.vstack([program.A, identity], format="csc"),
        l=np.concatenate([program.l, program.lb[bounded]]),
        u=np.concatenate([program.u, program.ub[bounded]]),
        lb=-free,
        ub=free,
        reference=program.reference,
    )


def bounded_variables(program: QuadraticProgram) -> np.ndarray:
    """Indices of the variables with a finite bound."""
    return np.flatnonzero(np.isfinite(program.lb) | np.isfinite(program.ub))


def bounds_from_rows(program: QuadraticProgram, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(z, z_bounds) of `program` from the row duals of `with_bounds_as_rows(program)`."""
    rows = program.A.shape[0]
    z_bounds = np.zeros(program.q.size)
    z_bounds[bounded_variables(program)] = z[rows:]
    return z[:rows], z_bounds


def as_conic(program: QuadraticProgram) -> tuple[ConicProgram, SplitRows]:
    """The program in conic form, bounds as rows; the split turns the conic duals back."""
    flat = with_bounds_as_rows(program)
    rows = split_rows(flat.l, flat.u)
    (A, b), (G, h) = rows.equations(flat), rows.inequalities(flat)
    conic = ConicProgram(
        name=program.name,
        P=program.P,
        q=program.q,
        r=program.r,
        A=sparse.vstack([A, G], format="csc"),
        b=np.concatenate([b, h]),
        cones=Cones(zero=b.size, nonnegative=h.size),
        reference=program.reference,
    )
    return conic, rows
