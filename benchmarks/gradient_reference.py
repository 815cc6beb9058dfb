"""QPs min 1/2 x'Px + q'x subject to Gx <= h, Ax = b in dense arrays, a loss of x, and its gradient in all data.

The reference is NumPy's own: on the active set of a given answer the solution and the adjoint are two solutions of one
linear system; signs and slacks prove that the set is right.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks import finite_differences
from benchmarks.families import dense_qp
from benchmarks.programs import split_rows

NAMES = ("P", "q", "G", "h", "A", "b")
Data = tuple[np.ndarray, ...]  # in the order of NAMES, perhaps with lanes in front


@dataclass(frozen=True)
class Case:
    """(variables, inequalities, equations) and the number of lanes, None for one program without an axis of lanes."""

    size: tuple[int, int, int]
    lanes: int | None = None

    @property
    def name(self) -> str:
        """variables x inequalities x equations, times lanes."""
        return "x".join(map(str, self.size)) + (f" * {self.lanes}" if self.lanes else "")

    def data(self) -> Data:
        """One program per seed, or one alone."""
        programs = [_dense(*self.size, seed) for seed in range(self.lanes or 1)]
        stacked = tuple(np.stack(parts) for parts in zip(*programs, strict=True))
        return stacked if self.lanes else tuple(part[0] for part in stacked)

    @property
    def weights(self) -> np.ndarray:
        """Of x in the loss."""
        return np.random.default_rng(1).normal(size=self.size[0])


def _dense(variables: int, inequalities: int, equations: int, seed: int) -> Data:
    program = dense_qp(variables, inequalities, equations, seed)
    rows = split_rows(program.l, program.u)
    (A, b), (G, h) = rows.equations(program), rows.inequalities(program)
    return program.P.toarray(), program.q, G.toarray(), h, A.toarray(), b


def loss(x, weights):
    """Summed over all lanes."""
    return (x @ weights).sum() + 0.5 * (x * x).sum()


@dataclass(frozen=True)
class Reference:
    """x, which inequalities are tight there, and the gradients in the order of NAMES, of one lane."""

    x: np.ndarray
    active: np.ndarray
    gradients: Data


def reference(data: Data, x: np.ndarray, z: np.ndarray, weights: np.ndarray) -> Reference | None:
    """From an approximate solution of one lane, x and the duals z of its inequalities."""
    P, q, G, h, A, b = data
    active = z > h - G @ x
    matrix, (x, y, z) = _on_active_set(data, active)
    if not ((z > 0).all() and (G[~active] @ x < h[~active]).all()):
        return None
    adjoint = np.linalg.solve(matrix, np.concatenate([weights + x, np.zeros(len(matrix) - x.size)]))
    dx, dy, dz = np.split(adjoint, [q.size, q.size + b.size])
    G_bar, h_bar = np.zeros_like(G), np.zeros_like(h)
    G_bar[active], h_bar[active] = -np.outer(z, dx) - np.outer(dz, x), dz
    P_bar = -(np.outer(dx, x) + np.outer(x, dx)) / 2
    return Reference(x, active, (P_bar, -dx, G_bar, h_bar, -np.outer(y, dx) - np.outer(dy, x), dy))


def _on_active_set(data: Data, active: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """The matrix, and x, y, z of the active rows: the solution with these rows as equations."""
    P, q, G, h, A, b = data
    rows = np.concatenate([A, G[active]])
    matrix = np.block([[P, rows.T], [rows, np.zeros((len(rows), len(rows)))]])
    solved = np.linalg.solve(matrix, np.concatenate([-q, b, h[active]]))
    return matrix, np.split(solved, [q.size, q.size + b.size])


def check(data: Data, found: Reference, weights: np.ndarray, step: float = 1e-3) -> float:
    """Error of the gradient along a random direction of all data, by finite differences: relative to the sum of the
    absolute contributions of the six arrays, which may cancel."""
    random = np.random.default_rng(2)
    directions = [random.normal(size=part.shape) / np.sqrt(part.size) for part in data]
    losses = []
    for offset in step * finite_differences.OFFSETS:
        P, *rest = (part + offset * direction for part, direction in zip(data, directions, strict=True))
        x = _on_active_set(((P + P.T) / 2, *rest), found.active)[1][0]
        losses.append(loss(x, weights))
    slopes = [(gradient * d).sum() for gradient, d in zip(found.gradients, directions, strict=True)]
    expected = finite_differences.first(np.array(losses), step, 0).value
    return float(abs(sum(slopes) - expected) / np.abs(slopes).sum())
