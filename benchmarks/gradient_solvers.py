"""Solvers that give a gradient of a loss of x in all data of dense QPs, behind one interface.

`prepare(case, data, weights)` returns two functions without arguments: one that solves and returns x, and one that
returns x and the gradients, the forward pass included. The JAX ones are compiled; cvxpylayers cannot be.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.gradient_reference import Case, Data, loss

Pair = tuple[Callable, Callable]


@dataclass(frozen=True)
class GradientSolver:
    """The packages it needs and its adapter."""

    packages: tuple[str, ...]
    prepare: Callable[[Case, Data, np.ndarray], Pair]


def prepare_convexjax(case: Case, data: Data, weights: np.ndarray) -> Pair:
    """solve_qp under jit, and under vmap for lanes."""
    import convexjax as cj

    return _compiled(lambda P, q, G, h, A, b: cj.solve_qp(P, q, G, h, A, b).x, case, data, weights)


def prepare_qpax(case: Case, data: Data, weights: np.ndarray) -> Pair:
    """qpax's differentiable entry with its own smoothing."""
    import qpax

    return _compiled(lambda P, q, G, h, A, b: qpax.solve_qp_primal(P, q, A, b, G, h), case, data, weights)


def prepare_moreau_jax(case: Case, data: Data, weights: np.ndarray, method: str) -> Pair:
    """moreau's JAX front: rows [A; G] with every entry stored."""
    import jax.numpy as jnp
    import moreau
    from moreau.jax import Solver

    n, m, p = case.size
    cones = moreau.Cones(num_zero_cones=p, num_nonneg_cones=m)
    solver = Solver(n, p + m, *_pattern(n, n), *_pattern(p + m, n), cones, _moreau_settings(method))

    def solve(P, q, G, h, A, b):
        rows = jnp.concatenate([A, G])
        return solver.solve(((P + P.T) / 2).ravel(), rows.ravel(), q, jnp.concatenate([b, h])).x

    return _compiled(solve, case, data, weights)


def prepare_moreau(case: Case, data: Data, weights: np.ndarray, method: str) -> Pair:
    """moreau's own interface, made for batches of one structure; NumPy in and out."""
    import moreau

    P, q, G, h, A, b = data if case.lanes else (part[None] for part in data)
    lanes, (n, m, p) = len(P), case.size
    cones = moreau.Cones(num_zero_cones=p, num_nonneg_cones=m)
    settings = _moreau_settings(method, lanes)
    solver = moreau.CompiledSolver(n, p + m, *_pattern(n, n), *_pattern(p + m, n), cones, settings)

    def solve():
        solver.setup(P.reshape(lanes, -1), np.concatenate([A, G], 1).reshape(lanes, -1))
        return np.asarray(solver.solve(q, np.concatenate([b, h], 1)).x).reshape(lanes, n)

    def differentiate():
        x = solve()
        found = solver.backward(weights + x)
        P_bar, q_bar, rows, right = (np.asarray(found[name]) for name in ("dP_values", "dq", "dA_values", "db"))
        rows, right = rows.reshape(lanes, p + m, n), right.reshape(lanes, p + m)
        inequalities, equations = (rows[:, p:], right[:, p:]), (rows[:, :p], right[:, :p])
        parts = P_bar.reshape(lanes, n, n), q_bar.reshape(lanes, n), *inequalities, *equations
        return _squeezed(case, x), tuple(_squeezed(case, part) for part in parts)

    return lambda: _squeezed(case, solve()), differentiate


def prepare_cvxpylayers(case: Case, data: Data, weights: np.ndarray) -> Pair:
    """cvxpylayers' JAX front, lanes in its own batch axis, P by its Cholesky factor. Its default solver at a tight
    tolerance, and dense derivatives: its default, an iterative method, is off by a tenth on the largest program."""
    import cvxpy as cp
    import jax
    import jax.numpy as jnp
    from cvxpylayers.jax import CvxpyLayer

    n, m, p = case.size
    parameters = [cp.Parameter(shape) for shape in ((n, n), n, (m, n), m, (p, n), p)]
    (factor, q, G, h, A, b), x = parameters, cp.Variable(n)
    problem = cp.Problem(cp.Minimize(0.5 * cp.sum_squares(factor @ x) + q @ x), [G @ x <= h, A @ x == b])
    layer = CvxpyLayer(problem, parameters, [x], solver_args={"eps": 1e-9})

    def solve(P, *rest, **settings):
        symmetric = (P + jnp.swapaxes(P, -1, -2)) / 2
        return layer(jnp.swapaxes(jnp.linalg.cholesky(symmetric), -1, -2), *rest, solver_args=settings)[0]

    def with_loss(*data):
        x = solve(*data, mode="dense")
        return loss(x, weights), x

    both = jax.value_and_grad(with_loss, argnums=tuple(range(6)), has_aux=True)
    arrays = tuple(jnp.asarray(part) for part in data)
    return lambda: np.asarray(solve(*arrays)), lambda: _host(both(*arrays))


def _compiled(solve: Callable, case: Case, data: Data, weights: np.ndarray) -> Pair:
    """The two functions of a solver that JAX compiles and maps over lanes."""
    import jax
    import jax.numpy as jnp

    mapped = jax.vmap(solve) if case.lanes else solve

    def with_loss(*data):
        x = mapped(*data)
        return loss(x, weights), x

    forward, both = jax.jit(mapped), jax.jit(jax.value_and_grad(with_loss, argnums=tuple(range(6)), has_aux=True))
    arrays = tuple(jnp.asarray(part) for part in data)
    return lambda: jax.block_until_ready(forward(*arrays)), lambda: _host(jax.block_until_ready(both(*arrays)))


def _host(found) -> tuple:
    """(x, gradients) of a value and gradient with x beside."""
    (_, x), gradients = found
    return x, gradients


def _squeezed(case: Case, array: np.ndarray) -> np.ndarray:
    return array if case.lanes else array[0]


def _pattern(m: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Row offsets and column indices of a matrix with every entry stored."""
    return n * np.arange(m + 1), np.tile(np.arange(n), m)


def _moreau_settings(method: str, lanes: int = 1):
    import moreau

    limit = 10_000 if method == "auto" else 200  # as for the other benchmarks
    return moreau.Settings(solver=method, device="cpu", enable_grad=True, batch_size=lanes, max_iter=limit)


SOLVERS = {
    "convexjax": GradientSolver(("convexjax",), prepare_convexjax),
    "moreau": GradientSolver(("moreau",), partial(prepare_moreau, method="auto")),
    "moreau_ipm": GradientSolver(("moreau",), partial(prepare_moreau, method="ipm")),
    "moreau_jax": GradientSolver(("moreau",), partial(prepare_moreau_jax, method="auto")),
    "moreau_jax_ipm": GradientSolver(("moreau",), partial(prepare_moreau_jax, method="ipm")),
    "qpax": GradientSolver(("qpax",), prepare_qpax),
    "cvxpylayers": GradientSolver(("cvxpylayers", "cvxpy", "diffcp"), prepare_cvxpylayers),
}
