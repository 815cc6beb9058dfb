"""What is differentiated, along which directions, and what the transforms of it should give.

Losses are smooth in every output: random weights plus random multiples of squares. The scan feeds a little of all
outputs back into the data, three times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np

from benchmarks import finite_differences, optimality
from benchmarks.derivative_cases import Case

LANES, DIRECTIONS, SCANNED, STEP = 3, 3, 3, 2e-3
ORDERS = ("grad", "jvp", "jacfwd", "jacrev", "hessian")
COLUMNS = (*ORDERS, *(f"vmap {order}" for order in ORDERS), "scan")


@dataclass(frozen=True)
class Setting:
    """A case with the outputs that a loss reads, and the names of the data that stay as they are."""

    case: Case
    outputs: tuple[str, ...] | None = None  # None: all
    fixed: tuple[str, ...] = ()

    @property
    def _random(self) -> np.random.Generator:
        return np.random.default_rng(11)

    @cached_property
    def theta(self) -> np.ndarray:
        """The data in one vector."""
        return np.concatenate([np.ravel(value) for value in self.case.data.values()])

    def data(self, theta) -> dict:
        """The data of a vector."""
        values, first = {}, 0
        for name, value in self.case.data.items():
            values[name] = theta[first : first + np.size(value)].reshape(np.shape(value))
            first += np.size(value)
        return values

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where each output lies in the vector of outputs."""
        made = self.case.split(self.case.data, *self.case.solution)
        names = [name for name in made if self.outputs is None or name in self.outputs]
        ends = np.cumsum([0, *(np.size(made[name]) for name in names)])
        return {name: slice(a, b) for name, a, b in zip(names, ends[:-1], ends[1:], strict=True)}

    def flat(self, outputs: dict):
        """The outputs in one vector."""
        import jax.numpy as jnp

        return jnp.concatenate([jnp.ravel(outputs[name]) for name in self.slices])

    @cached_property
    def directions(self) -> np.ndarray:
        """(DIRECTIONS, N), of length one."""
        return self._unit(self._random.normal(size=(DIRECTIONS, self.theta.size)))

    @cached_property
    def lanes(self) -> np.ndarray:
        """(LANES, N): the data, and others near them."""
        moves = self._unit(np.random.default_rng(12).normal(size=(LANES, self.theta.size)))
        return self.theta + 0.05 * np.arange(LANES)[:, None] * moves

    @cached_property
    def feedback(self) -> np.ndarray:
        """(N, outputs): how the scan changes the data by the outputs."""
        size = list(self.slices.values())[-1].stop
        matrix = np.random.default_rng(13).normal(size=(size, self.theta.size))
        return 0.02 * self._unit(matrix).T / np.sqrt(size)

    def loss(self, outputs):
        """Weights and squares of a vector of outputs."""
        size = self.feedback.shape[1]
        weights, curvatures = np.random.default_rng(14).normal(size=(2, size))
        return (weights * outputs + 0.5 * curvatures * outputs**2).sum(-1)

    def _unit(self, vectors: np.ndarray) -> np.ndarray:
        data = self.case.data.items()
        vectors = vectors * np.concatenate([np.full(np.size(value), name not in self.fixed) for name, value in data])
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def transformed(setting: Setting, column: str, solve: Callable, jit: bool = True) -> Callable:
    """() -> the cell of a column for `solve`: (data) -> outputs, contracted with the directions."""
    import jax
    import jax.numpy as jnp

    outputs = lambda theta: setting.flat(solve(setting.data(theta)))
    loss = lambda theta: setting.loss(outputs(theta))
    directions, order = setting.directions, column.removeprefix("vmap ")
    functions: dict[str, tuple[Callable, Callable]] = {
        "grad": (jax.grad(loss), lambda g: g @ directions.T),
        "jacfwd": (jax.jacfwd(outputs), lambda J: np.swapaxes(J @ directions.T, -1, -2)),
        "jacrev": (jax.jacrev(outputs), lambda J: np.swapaxes(J @ directions.T, -1, -2)),
        "hessian": (jax.hessian(loss), lambda H: directions @ H @ directions.T),
        "scan": (jax.grad(partial(scanned, setting, outputs)), lambda g: g @ directions.T),
    }
    compiled = jax.jit if jit else lambda function: function
    where = jnp.asarray(setting.lanes if column.startswith("vmap") else setting.lanes[0])
    if order != "jvp":
        function, contract = functions[order]
        function = compiled(jax.vmap(function) if column.startswith("vmap") else function)
        return lambda: contract(np.asarray(function(where)))
    along = lambda theta, direction: jax.jvp(outputs, (theta,), (direction,))[1]
    along = compiled(jax.vmap(along, (0, None)) if column.startswith("vmap") else along)
    return lambda: np.stack([np.asarray(along(where, jnp.asarray(d))) for d in directions], -2)


def scanned(setting: Setting, outputs: Callable, theta):
    """The sum of the losses of a few solves in a scan, each with data changed by the outputs before it."""
    import jax
    import jax.numpy as jnp

    def step(v, _):
        v = outputs(theta + setting.feedback @ v)
        return v, setting.loss(v)

    start = jnp.zeros(setting.feedback.shape[1], theta.dtype)
    return jax.lax.scan(step, start, None, length=SCANNED)[1].sum()


class Expected:
    """What each column should give, by finite differences of the solution."""

    def __init__(self, setting: Setting):
        import jax

        self.setting, case = setting, setting.case
        root = optimality.root(case)
        solve = lambda data: case.split(data, *root(data))
        self._outputs = jax.jit(jax.vmap(lambda theta: setting.flat(solve(setting.data(theta)))))
        d = setting.directions
        pairs = [d[i] + d[j] for i in range(DIRECTIONS) for j in range(i)]
        self._points = finite_differences.points(setting.lanes, np.concatenate([d, pairs]), STEP)
        self._values = self._evaluate(self._points)
        along = self._values[:, :DIRECTIONS]
        losses = setting.loss(self._values)
        self._first = finite_differences.first(along, STEP, 2)
        self._first_loss = finite_differences.first(losses[:, :DIRECTIONS], STEP, 2)
        self._second = finite_differences.second(losses, STEP, 2)
        chain = finite_differences.first(self._chain(self._points[0, :DIRECTIONS]), STEP, 1)
        self._scan = chain.value
        self.error = max(self._first.error, self._first_loss.error, chain.error)
        self.second_error = self._second.error

    def of(self, column: str) -> np.ndarray:
        """The value that a cell is compared with; lanes first for the columns under vmap."""
        order = column.removeprefix("vmap ")
        if order == "scan":
            return self._scan
        value = {"grad": self._first_loss.value, "hessian": self._hessian()}.get(order, self._first.value)
        return value if column.startswith("vmap") else value[0]

    def error_of(self, column: str, found: np.ndarray) -> float:
        """Relative error, the worst over lanes; for derivatives of outputs the worst over their names."""
        expected = self.of(column)
        if found.shape != expected.shape:
            return np.inf
        if not column.startswith("vmap"):
            found, expected = found[None], expected[None]
        blocks = self.setting.slices.values() if "j" in column else (slice(None),)
        return max(_relative(f, e, block) for f, e in zip(found, expected, strict=True) for block in blocks)

    def solution_error(self, solve: Callable) -> float:
        """The largest error of `solve` at all points of the stencil, relative to the norm of each output."""
        import jax
        import jax.numpy as jnp

        setting = self.setting
        flat = lambda theta: setting.flat(solve(setting.data(theta)))
        found = np.asarray(jax.jit(jax.vmap(flat))(jnp.asarray(self._points.reshape(-1, setting.theta.size))))
        error = np.abs(found - self._values.reshape(found.shape))
        scales = {name: max(1, np.abs(self._values[..., s]).max()) for name, s in setting.slices.items()}
        return float(max(error[:, s].max() / scales[name] for name, s in setting.slices.items()))

    def against_implicit(self) -> float:
        """Relative difference to the derivative by the implicit function theorem on the optimality conditions."""
        import jax

        setting, case = self.setting, self.setting.case
        root, tangent = optimality.root(case), optimality.tangent(case)

        def derivative(theta, direction):
            data, moved = setting.data(theta), setting.data(direction)
            solution = root(data)
            change = tangent(data, solution, moved)
            return setting.flat(jax.jvp(case.split, (data, *solution), (moved, *change))[1])

        both = jax.jit(jax.vmap(jax.vmap(derivative, (None, 0)), (0, None)))
        found = np.asarray(both(setting.lanes, setting.directions))
        return float(np.linalg.norm(found - self._first.value) / np.linalg.norm(found))

    def _hessian(self) -> np.ndarray:
        """(LANES, DIRECTIONS, DIRECTIONS) by polarisation."""
        along = self._second.value
        diagonal, pairs = along[:, :DIRECTIONS], along[:, DIRECTIONS:]
        hessian = np.zeros((LANES, DIRECTIONS, DIRECTIONS))
        below = [(i, j) for i in range(DIRECTIONS) for j in range(i)]
        for k, (i, j) in enumerate(below):
            hessian[:, i, j] = hessian[:, j, i] = (pairs[:, k] - diagonal[:, i] - diagonal[:, j]) / 2
        hessian[:, range(DIRECTIONS), range(DIRECTIONS)] = diagonal
        return hessian

    def _chain(self, points: np.ndarray) -> np.ndarray:
        """The loss of the scan at each point."""
        v, total = np.zeros((*points.shape[:-1], self.setting.feedback.shape[1])), np.zeros(points.shape[:-1])
        for _ in range(SCANNED):
            v = self._evaluate(points + v @ self.setting.feedback.T)
            total = total + self.setting.loss(v)
        return total

    def _evaluate(self, points: np.ndarray) -> np.ndarray:
        """Outputs at points (..., N)."""
        flat = self._outputs(points.reshape(-1, points.shape[-1]))
        return np.asarray(flat).reshape(*points.shape[:-1], -1)


def _relative(found: np.ndarray, expected: np.ndarray, block: slice) -> float:
    """Error of one output relative to its own norm, but at least a hundredth of the norm of all."""
    scale = max(np.linalg.norm(expected[..., block]), 0.01 * np.linalg.norm(expected))
    error = np.linalg.norm(found[..., block] - expected[..., block]) / scale
    return float(error) if np.isfinite(error) else np.inf
