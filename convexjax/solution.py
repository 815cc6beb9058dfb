"""What a solve returns: values, duals, a status and the residuals that prove it."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import jax
import jax.export
import numpy as np

from convexjax.pytrees import pytree


class Status(IntEnum):
    """How a solve ended. Every claim is proved by the values returned with it (`Solution`)."""

    UNSOLVED = 0
    SOLVED = 1
    ALMOST_SOLVED = 2
    PRIMAL_INFEASIBLE = 3
    DUAL_INFEASIBLE = 4
    MAX_ITERATIONS = 5
    NUMERICAL_ERROR = 6
    NONCONVEX = 7

    def holds(self, status):
        """Where an array of statuses says this; unlike `==` also under JAX's strict promotion of dtypes."""
        return status == np.int32(self)

    @staticmethod
    def name_of(status) -> str | list:
        """The name of the status of a solution or model, in nested lists for a batch. For host code.

        >>> import convexjax as cj
        >>> cj.Status.name_of(cj.solve_lp([1.0], lb=[0.0]).status)
        'SOLVED'
        """
        return np.array([known.name for known in Status])[np.asarray(status)].tolist()

    @property
    def message(self) -> str:
        """One sentence for people."""
        return _MESSAGES[self]


_MESSAGES = {
    Status.UNSOLVED: "not finished",
    Status.SOLVED: "solved to the tolerance",
    Status.ALMOST_SOLVED: "solved to the looser tolerance `tolerance_almost` only; no further progress was possible",
    Status.PRIMAL_INFEASIBLE: "no feasible point exists; the duals hold a certificate",
    Status.DUAL_INFEASIBLE: "unbounded (or dual infeasible); `x` holds a direction of unbounded descent",
    Status.MAX_ITERATIONS: "out of iterations; raise `options.max_iters` or rescale the data",
    Status.NUMERICAL_ERROR: "no claim could be proved: NaN or infinite data, or no progress in this precision",
    Status.NONCONVEX: "P, or a Hessian, is not positive semidefinite, so the problem is not convex",
}


def exportable_pytree(kind):
    """Make a dataclass a pytree, which functions exported by `jax.export` may return and take, too."""
    pytree(kind)
    return jax.export.register_pytree_node_serialization(
        kind,
        serialized_name=f"convexjax.{kind.__name__}",
        serialize_auxdata=lambda static: b"",
        deserialize_auxdata=lambda static: (),
    )


@exportable_pytree
@dataclass(frozen=True, kw_only=True)
class Info:
    """How the solve went. Residuals are relative to the size of their terms, in the user's units."""

    num_iters: Any  # int32
    primal_residual: Any
    dual_residual: Any
    gap: Any
    derivative_unique: Any = None  # bool, with options.check_derivative
    history: Any = None  # History, with options.history > 0


@exportable_pytree
@dataclass(frozen=True, kw_only=True)
class History:
    """One entry per iteration, NaN beyond the last: for plots of convergence."""

    primal_residual: Any
    dual_residual: Any
    gap: Any
    mu: Any
    step: Any


@exportable_pytree
@dataclass(frozen=True, kw_only=True)
class Solution:
    """Values, duals and status of a solve: a pytree, under `vmap` with one entry per lane in each array.

    Which fields a solver fills, and with which shapes, stands in its docstring; the others are `None`.
    Duals follow the Lagrangian `f(x) + y'(Ax - b) + z'(Gx - h) + z_ub'(x - ub) + z_lb'(lb - x)`, so the duals of
    inequalities are nonnegative.

    A status is a claim that the values prove:

    - SOLVED: primal feasibility, dual feasibility and gap at the tolerance.
    - PRIMAL_INFEASIBLE: the duals are a certificate, scaled so that the constant term is -1 (`b'z = -1, A'z = 0`).
    - DUAL_INFEASIBLE: `x` is a ray scaled so that `q'x = -1`, with `Px = 0`, along which every constraint holds.
    """

    x: Any
    s: Any = None
    y: Any = None
    z: Any = None
    z_lb: Any = None
    z_ub: Any = None
    s_cones: Any = None  # tuples, one entry per cone constraint
    z_cones: Any = None
    objective: Any
    status: Any  # int32, a `Status`
    info: Info

    def require_solved(self) -> "Solution":
        """Return self if every lane is SOLVED, else raise `RuntimeError` with the message. For host code only."""
        if isinstance(self.status, jax.core.Tracer):
            raise ValueError(
                "require_solved() reads the status on the host and cannot run inside jit, vmap or grad; "
                "call it on the returned solution, or use solution.status there."
            )
        status = np.atleast_1d(np.asarray(self.status))
        bad = np.argwhere(status != Status.SOLVED)
        if bad.size:
            first = Status(int(status[tuple(bad[0])]))
            where = (
                ""
                if np.ndim(self.status) == 0
                else f" in {len(bad)} of {status.size} lanes, first at {tuple(bad[0].tolist())}"
            )
            raise RuntimeError(f"{first.name}{where}: {first.message}.")
        return self
