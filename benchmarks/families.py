"""Families of generated programs, each from a seed alone.

The conic ones are built backwards from a solution: s and z on opposite faces of each cone (strictly complementary, or
one inside and the other zero), x at random, then b = Ax + s and q = -Px - A'z. Their optimal value is therefore
known. Rows are scaled over three decades, alike within a cone.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from benchmarks.programs import Cones, ConicProgram, Program, QuadraticProgram, Reference


@dataclass(frozen=True)
class Shape:
    """Variables, rank of P and cones of a group of programs, which then share their compilation."""

    variables: int
    rank: int
    cones: Cones


def programs(family: str, sizes: list[tuple[int, int, int]], count: int) -> Iterator[tuple[str, Program]]:
    """(group, program): `count` dense QPs of each size, or `count` conic programs over the family's shapes."""
    if family == "dense_qp":
        for size in sizes:
            for seed in range(count):
                yield f"dense_qp {size_name(size)}", dense_qp(*size, seed)
        return
    shapes = CONIC_FAMILIES[family]
    for seed in range(count):
        shape = shapes[seed * len(shapes) // count]  # shape by shape: programs of one shape follow each other
        yield family, conic_program(f"{family}_{seed}", shape, seed)


def size_name(size: tuple[int, int, int]) -> str:
    """variables x inequalities x equalities."""
    return "x".join(map(str, size))


def dense_qp(variables: int, inequalities: int, equalities: int, seed: int = 0) -> QuadraticProgram:
    """A strictly convex QP with a known strictly feasible point: minimise 1/2 x'Px + q'x, Gx <= h, Ax = b."""
    random = np.random.default_rng(seed)
    L = random.normal(size=(variables, variables))
    P = L @ L.T / variables + 0.1 * np.eye(variables)
    q = random.normal(size=variables)
    G = random.normal(size=(inequalities, variables))
    feasible = random.normal(size=variables)
    h = G @ feasible + random.uniform(0.1, 1, inequalities)
    A = random.normal(size=(equalities, variables))
    b = A @ feasible
    free = np.full(variables, np.inf)
    return QuadraticProgram(
        name=f"seed {seed}",
        P=sparse.csc_array(P),
        q=q,
        A=sparse.csc_array(np.vstack([A, G])),
        l=np.concatenate([b, np.full(inequalities, -np.inf)]),
        u=np.concatenate([b, h]),
        lb=-free,
        ub=free,
    )


def conic_program(name: str, shape: Shape, seed: int) -> ConicProgram:
    """A program with a known solution over the cones of `shape`."""
    random = np.random.default_rng(seed)
    cones, n = shape.cones, shape.variables
    s, z = solution_pair(random, cones)
    x = random.normal(size=n)
    A = random.normal(size=(s.size, n)) * row_scales(random, cones)[:, None]
    factor = random.normal(size=(n, shape.rank))
    P = sparse.csc_array(factor @ factor.T) if shape.rank else None
    q = -(A.T @ z) - (0 if P is None else P @ x)
    f_opt = float(q @ x + (0 if P is None else 0.5 * x @ (P @ x)))
    reference = Reference(f_opt=f_opt, f_rtol=1e-8)
    return ConicProgram(name=name, P=P, q=q, A=sparse.csc_array(A), b=A @ x + s, cones=cones, reference=reference)


def row_scales(random: np.random.Generator, cones: Cones) -> np.ndarray:
    """Factors over three decades, one for each row of the zero and nonnegative cones and one for each other cone."""
    triangles = [side * (side + 1) // 2 for side in cones.psd]
    cone_rows = [*cones.second_order, *triangles, *[3] * (cones.exponential + len(cones.power))]
    rows = [1] * (cones.zero + cones.nonnegative) + cone_rows
    return np.repeat(10 ** random.uniform(-1.5, 1.5, len(rows)), rows)


def solution_pair(random: np.random.Generator, cones: Cones) -> tuple[np.ndarray, np.ndarray]:
    """s in K and z in K* with s'z = 0, cone by cone."""
    pairs = [(np.zeros(cones.zero), random.normal(size=cones.zero)), nonnegative_pair(random, cones.nonnegative)]
    pairs += [second_order_pair(random, size) for size in cones.second_order]
    pairs += [psd_pair(random, side) for side in cones.psd]
    pairs += [exponential_pair(random) for _ in range(cones.exponential)]
    pairs += [power_pair(random, alpha) for alpha in cones.power]
    s, z = zip(*pairs, strict=True)
    return np.concatenate(s), np.concatenate(z)


Pair = tuple[np.ndarray, np.ndarray]


def nonnegative_pair(random: np.random.Generator, size: int) -> Pair:
    """Each row either active (z > 0) or not (s > 0)."""
    active = random.random(size) < 0.5
    values = random.uniform(0.1, 2, size)
    return np.where(active, 0, values), np.where(active, values, 0)


def second_order_pair(random: np.random.Generator, size: int) -> Pair:
    """Both on the boundary, or one inside and the other zero."""
    direction = random.normal(size=size - 1)
    direction /= np.linalg.norm(direction)
    kind, (length, other) = random.integers(4), random.uniform(0.5, 2, 2)
    if kind < 2:
        return length * np.append(1, direction), other * np.append(1, -direction)
    inside, zero = length * np.append(1, 0.5 * direction), np.zeros(size)
    return (inside, zero) if kind == 2 else (zero, inside)


def psd_pair(random: np.random.Generator, side: int) -> Pair:
    """Matrices with the same eigenvectors, each eigenvalue positive in one of them."""
    vectors = np.linalg.qr(random.normal(size=(side, side)))[0]
    primal, dual = nonnegative_pair(random, side)
    columns, rows = np.tril_indices(side)
    weights = np.where(rows == columns, 1.0, np.sqrt(2))
    halves = [((vectors * values) @ vectors.T)[rows, columns] * weights for values in (primal, dual)]
    return halves[0], halves[1]


def exponential_pair(random: np.random.Generator) -> Pair:
    """s = v (r, 1, exp r) on the curved boundary, z the normal there; or one inside and the other zero."""
    v, length, r = *random.uniform(0.5, 2, 2), random.uniform(-2, 2)
    kind = random.integers(4)
    if kind < 2:
        return v * np.array([r, 1, np.exp(r)]), length * np.array([-np.exp(r), (r - 1) * np.exp(r), 1])
    inside, dual_inside = v * np.array([r, 1, np.exp(r) + 1]), length * np.array([-1, r, np.exp(-r - 1) + 1])
    return (inside, np.zeros(3)) if kind == 2 else (np.zeros(3), dual_inside)


def power_pair(random: np.random.Generator, alpha: float) -> Pair:
    """s = (u, v, +-u^alpha v^(1-alpha)), z the normal there; or one inside and the other zero."""
    u, v, length = random.uniform(0.5, 2, 3)
    sign, kind = random.choice([-1.0, 1.0]), random.integers(4)
    w = u**alpha * v ** (1 - alpha)
    if kind < 2:
        return np.array([u, v, sign * w]), length * np.array([alpha * w / u, (1 - alpha) * w / v, -sign])
    inside, zero = np.array([u, v, 0.5 * sign * w]), np.zeros(3)
    return (inside, zero) if kind == 2 else (zero, inside)  # the dual cone contains the cone


def _alphas(count: int) -> tuple[float, ...]:
    return tuple(np.linspace(0.15, 0.85, count).round(3).tolist())


def _shapes(*groups: tuple[int, int, Callable[[], Cones]]) -> tuple[Shape, ...]:
    return tuple(Shape(variables, rank, cones()) for variables, rank, cones in groups)


CONIC_FAMILIES = {
    "random_socp": (
        Shape(8, 0, Cones(zero=2, nonnegative=5, second_order=(3, 3, 3))),
        Shape(12, 3, Cones(zero=3, nonnegative=6, second_order=(3, 4, 6))),
        Shape(20, 0, Cones(zero=4, nonnegative=10, second_order=(5,) * 6)),
        Shape(30, 5, Cones(zero=6, nonnegative=20, second_order=(10, 20))),
    ),
    "random_exp": (
        Shape(6, 0, Cones(zero=1, nonnegative=4, exponential=3)),
        Shape(10, 3, Cones(zero=2, nonnegative=5, exponential=5)),
        Shape(20, 0, Cones(zero=4, nonnegative=10, exponential=10)),
        Shape(30, 5, Cones(zero=5, nonnegative=15, exponential=15)),
    ),
    "random_power": (
        Shape(6, 0, Cones(zero=1, nonnegative=4, power=_alphas(3))),
        Shape(10, 3, Cones(zero=2, nonnegative=5, power=_alphas(5))),
        Shape(20, 0, Cones(zero=4, nonnegative=10, power=_alphas(10))),
        Shape(30, 5, Cones(zero=5, nonnegative=15, power=_alphas(15))),
    ),
    "six_cones": (
        Shape(
            10,
            0,
            Cones(zero=2, nonnegative=5, second_order=(4,), psd=(3,), exponential=2, power=(0.3, 0.6)),
        ),
    ),
}
FAMILIES = ("dense_qp", *CONIC_FAMILIES)
