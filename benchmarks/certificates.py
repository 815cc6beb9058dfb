"""Independent certificates: does an answer prove its claim? Plain NumPy, no code shared with any solver.

Every number is relative to the size of its terms, in the program's own units and in the maximum norm:

    solved      primal       |Ax + s - b|            / max(1, |Ax|, |s|, |b|)
                dual         |Px + q + A'z|          / max(1, |Px|, |q|, |A'z|)
                gap          |primal - dual value|   / max(1, |primal value|, |dual value|)
                cones        violation of s in K     / max(1, |Ax|, |s|, |b|)
                             violation of z in K*    / max(1, |z|)
    infeasible  b'z = -1     |A'z|                   / max(1, max|A| |z|)    and z in K* as above
    unbounded   q'x = -1     |Px|, violation of -Ax in K   / max(1, max|P| |x|), max(1, max|A| |x|)

The violation of a cone is how far a point must move along the cone's central direction e to lie inside,

    violation(p) = min { t >= 0 : p + t e in K },

with e = 1 for the nonnegative cone, (1, 0, ..., 0) for second-order, I for PSD, (-1, 1, 1) for exponential and
(1, 1, 0) for power cones: a distance up to a constant, exact at zero, homogeneous, and without overflow. The direction
is interior to the dual cone as well, so one measure serves both. On a zero cone it is |p|; its dual is free.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.programs import Answer, Cones, ConicProgram, Program, QuadraticProgram, Reference, objective


@dataclass(frozen=True)
class Certificate:
    """The relative residuals that prove a claim, by name; an answer proves its claim to `worst`."""

    residuals: dict[str, float]

    @property
    def worst(self) -> float:
        """The largest residual; infinite when there is nothing to prove it with, or a NaN."""
        values = list(self.residuals.values()) or [np.inf]
        return float(max(values)) if np.all(np.isfinite(values)) else np.inf


NO_PROOF = Certificate({})


def certify(program: Program, answer: Answer) -> Certificate:
    """The certificate of the claim `answer.claim` for the program; `NO_PROOF` when the answer lacks what it needs."""
    certificates = _CONIC if isinstance(program, ConicProgram) else _QUADRATIC
    kind = "solved" if answer.claim == "almost" else answer.claim
    needed = {"solved": ("x", "s", "z"), "infeasible": ("z",), "unbounded": ("x",), "failed": ()}[kind]
    if isinstance(program, QuadraticProgram):
        needed = tuple({"s": "z_bounds"}.get(name, name) for name in needed) + ("z_bounds",) * (kind == "infeasible")
    values = [getattr(answer, name) for name in needed]
    if not values or any(value is None or not np.all(np.isfinite(value)) for value in values):
        return NO_PROOF
    return certificates[kind](program, answer)


def matches_reference(reference: Reference, f: float, tolerance: float = 1e-6) -> bool:
    """Whether f is the reference value, to `tolerance` or as far as the reference itself can be trusted; anything is
    where there is none."""
    if np.isnan(reference.f_opt):
        return True
    allowed = max(tolerance, reference.f_rtol) * max(1e-3, abs(reference.f_opt))
    return bool(abs(f - reference.f_opt) <= allowed)


# ---------------------------------------------------------------- conic form


def _conic_solved(program: ConicProgram, answer: Answer) -> Certificate:
    x, s, z, b, q = answer.x, answer.s, answer.z, program.b, program.q
    Ax, Atz, Px = program.A @ x, program.A.T @ z, _product(program.P, x)
    primal, dual = 0.5 * x @ Px + q @ x, -0.5 * x @ Px - b @ z
    return Certificate(
        {
            "primal": _size(Ax + s - b) / _scale(Ax, s, b),
            "dual": _size(Px + q + Atz) / _scale(Px, q, Atz),
            "gap": float(abs(primal - dual)) / _scale(primal, dual),
            "primal cone": cone_violation(program.cones, s) / _scale(Ax, s, b),
            "dual cone": cone_violation(program.cones, z, dual=True) / _scale(z),
        }
    )


def _conic_infeasible(program: ConicProgram, answer: Answer) -> Certificate:
    gain = -program.b @ answer.z
    if not gain > 0:
        return NO_PROOF
    z = answer.z / gain
    return Certificate(
        {
            "dual": _size(program.A.T @ z) / _scale(_largest(program.A) * _size(z)),
            "dual cone": cone_violation(program.cones, z, dual=True) / _scale(z),
        }
    )


def _conic_unbounded(program: ConicProgram, answer: Answer) -> Certificate:
    gain = -program.q @ answer.x
    if not gain > 0:
        return NO_PROOF
    x = answer.x / gain
    return Certificate(
        {
            "curvature": _size(_product(program.P, x)) / _scale(_largest(program.P) * _size(x)),
            "primal cone": cone_violation(program.cones, -(program.A @ x)) / _scale(_largest(program.A) * _size(x)),
        }
    )


# ---------------------------------------------------------------- quadratic form: l <= Ax <= u, lb <= x <= ub


def _quadratic_solved(program: QuadraticProgram, answer: Answer) -> Certificate:
    x, z, w, q = answer.x, answer.z, answer.z_bounds, program.q
    Ax, Atz, Px = program.A @ x, program.A.T @ z, _product(program.P, x)
    primal, dual = 0.5 * x @ Px + q @ x, -0.5 * x @ Px - _support(program, z, w)
    rows = np.maximum(program.l - Ax, Ax - program.u)
    bounds = np.maximum(program.lb - x, x - program.ub)
    return Certificate(
        {
            "primal": max(
                _excess(rows) / _scale(Ax, _finite(program.l), _finite(program.u)),
                _excess(bounds) / _scale(x),
            ),
            "dual": _size(Px + q + Atz + w) / _scale(Px, q, Atz, w),
            "gap": float(abs(primal - dual)) / _scale(primal, dual),
            "dual cone": _on_missing_sides(program, z, w) / _scale(z, w),
        }
    )


def _quadratic_infeasible(program: QuadraticProgram, answer: Answer) -> Certificate:
    gain = -_support(program, answer.z, answer.z_bounds)
    if not gain > 0:
        return NO_PROOF
    z, w = answer.z / gain, answer.z_bounds / gain
    return Certificate(
        {
            "dual": _size(program.A.T @ z + w) / _scale(_largest(program.A) * _size(z), _size(w)),
            "dual cone": _on_missing_sides(program, z, w) / _scale(z, w),
        }
    )


def _quadratic_unbounded(program: QuadraticProgram, answer: Answer) -> Certificate:
    gain = -program.q @ answer.x
    if not gain > 0:
        return NO_PROOF
    x = answer.x / gain
    rows = _escape(program.A @ x, program.l, program.u)
    bounds = _escape(x, program.lb, program.ub)
    return Certificate(
        {
            "curvature": _size(_product(program.P, x)) / _scale(_largest(program.P) * _size(x)),
            "primal": max(rows / _scale(_largest(program.A) * _size(x)), bounds / _scale(x)),
        }
    )


def _support(program: QuadraticProgram, z: np.ndarray, w: np.ndarray) -> float:
    """max { z'v + w'x : l <= v <= u, lb <= x <= ub } over the finite sides: what the duals pay for the constraints."""
    sides = ((z, program.u), (-z, -program.l), (w, program.ub), (-w, -program.lb))
    return float(sum(np.maximum(dual, 0)[np.isfinite(side)] @ side[np.isfinite(side)] for dual, side in sides))


def _on_missing_sides(program: QuadraticProgram, z: np.ndarray, w: np.ndarray) -> float:
    """The largest dual that presses on a side that is not there."""
    sides = ((z, program.u), (-z, program.l), (w, program.ub), (-w, program.lb))
    return max(_excess(dual[np.isinf(side)]) for dual, side in sides)


def _escape(direction: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> float:
    """How far a direction leaves through a finite side."""
    return max(_excess(direction[np.isfinite(upper)]), _excess(-direction[np.isfinite(lower)]))


_CONIC = {
    "solved": _conic_solved,
    "infeasible": _conic_infeasible,
    "unbounded": _conic_unbounded,
}
_QUADRATIC = {
    "solved": _quadratic_solved,
    "infeasible": _quadratic_infeasible,
    "unbounded": _quadratic_unbounded,
}


# ---------------------------------------------------------------- cones


def cone_violation(cones: Cones, point: np.ndarray, dual: bool = False) -> float:
    """The largest violation over the cones of the product, of `point` in K or, with `dual`, in K*."""
    zero, nonnegative, second_order, psd, exponential, power = np.split(point, np.cumsum(cones.sizes)[:-1])
    blocks = np.split(second_order, np.cumsum(cones.second_order)[:-1]) if cones.second_order else []
    triangles = [side * (side + 1) // 2 for side in cones.psd]
    matrices = np.split(psd, np.cumsum(triangles)[:-1]) if cones.psd else []
    u, v, w = power.reshape(-1, 3).T
    alpha = np.asarray(cones.power, float)
    if dual:  # (u, v, w) is in the dual cone when (u / alpha, v / (1 - alpha), w) is in the cone
        u_scale, v_scale = 1 / alpha, 1 / (1 - alpha)
    else:
        u_scale = v_scale = np.ones_like(alpha)
    in_exponential = _in_dual_exponential if dual else _in_exponential
    a, b, c = exponential.reshape(-1, 3).T
    return max(
        0.0 if dual else _size(zero),
        _excess(-nonnegative),
        *(float(np.linalg.norm(block[1:]) - block[0]) for block in blocks),
        *(-_smallest_eigenvalue(vector, side) for vector, side in zip(matrices, cones.psd, strict=True)),
        _least_shift(lambda t: in_exponential(a - t, b + t, c + t), exponential),
        _least_shift(lambda t: _in_power((u + t) * u_scale, (v + t) * v_scale, w, alpha), power),
    )


def matrix_of(vector: np.ndarray, side: int) -> np.ndarray:
    """The symmetric matrix of a scaled half-vectorisation: upper triangle by columns, off-diagonals times sqrt(2)."""
    columns, rows = np.tril_indices(side)  # the lower triangle by rows is the upper one by columns
    matrix = np.zeros((side, side))
    matrix[rows, columns] = matrix[columns, rows] = np.where(rows == columns, vector, vector / np.sqrt(2))
    return matrix


def _smallest_eigenvalue(vector: np.ndarray, side: int) -> float:
    return float(np.linalg.eigvalsh(matrix_of(vector, side))[0]) if side else 0.0


def _in_exponential(u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """v exp(u / v) <= w, v > 0, as u <= v log(w / v); and the face v = 0, u <= 0 <= w."""
    return np.where(v > 0, (w > 0) & (u <= v * (np.log(w) - np.log(v))), (v == 0) & (u <= 0) & (w >= 0))


def _in_dual_exponential(u: np.ndarray, v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """-u exp(v / u - 1) <= w, u < 0, as v >= u (1 + log(-w / u)); and the face u = 0 <= v, w."""
    return np.where(u < 0, (w > 0) & (v >= u * (1 + np.log(w) - np.log(-u))), (u == 0) & (v >= 0) & (w >= 0))


def _in_power(u: np.ndarray, v: np.ndarray, w: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """u^alpha v^(1 - alpha) >= |w|, u, v >= 0."""
    return (u >= 0) & (v >= 0) & (np.maximum(u, 0) ** alpha * np.maximum(v, 0) ** (1 - alpha) >= np.abs(w))


def _least_shift(inside: Callable[[np.ndarray], np.ndarray], points: np.ndarray) -> float:
    """The largest, over the cones, of the least t >= 0 with `inside(t)`, by bisection to the roundoff of the points."""
    if not points.size:
        return 0.0
    low = np.zeros(points.size // 3)
    high = 10 * np.abs(points).reshape(-1, 3).max(axis=1)  # enough: the point is then nearly a multiple of e
    with np.errstate(divide="ignore", invalid="ignore"):  # logarithms outside the domain, masked
        high = np.where(inside(low), low, high)
        for _ in range(60):
            middle = (low + high) / 2
            fine = inside(middle)
            low, high = np.where(fine, low, middle), np.where(fine, middle, high)
    return float(high.max())


# ---------------------------------------------------------------- sizes


def _size(vector: np.ndarray) -> float:
    return float(np.abs(vector).max()) if np.size(vector) else 0.0


def _scale(*terms: np.ndarray | float) -> float:
    return max(1.0, *(_size(term) for term in terms))


def _excess(vector: np.ndarray) -> float:
    return max(0.0, float(vector.max())) if vector.size else 0.0


def _finite(vector: np.ndarray) -> np.ndarray:
    return vector[np.isfinite(vector)]


def _largest(matrix) -> float:
    return 0.0 if matrix is None or 0 in matrix.shape else float(abs(matrix).max())


def _product(P, x: np.ndarray) -> np.ndarray:
    return np.zeros_like(x) if P is None else P @ x


def proves(program: Program, answer: Answer, tolerance: float) -> bool:
    """Whether the answer proves its claim to `tolerance` and, where the truth is known, the claim is the truth."""
    return certify(program, answer).worst <= tolerance and agrees(program, answer)


def agrees(program: Program, answer: Answer, tolerance: float = 1e-6) -> bool:
    """Whether the claim does not contradict what is known about the program: its status and its optimal value."""
    reference = program.reference
    if reference is None:
        return True
    if answer.claim in ("infeasible", "unbounded"):
        return answer.claim == reference.status
    if answer.claim == "failed" or reference.status != "optimal":
        return False
    return answer.x is not None and matches_reference(reference, objective(program, answer.x), tolerance)
