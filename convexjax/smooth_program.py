"""Convex programs given as functions, in the form that their solver and their derivatives see.

    minimise   f(x)     subject to   h(x) + s = 0,   s in K          (dual z in K*)

with h convex in the order of K: equations `Ax - b` (rows of the zero cone), the user's constraints, and bounds. The
Karush-Kuhn-Tucker conditions are `grad f + h'(x)'z = 0`, `h(x) + s = 0`, `s'z = 0`, `s in K`, `z in K*`.

At a point (x, z) the program has the model

    minimise   1/2 d'Pd + q'd     subject to   J d + s = b,      P = Hess (f + z'h)(x),  J = h'(x),
                                                                 q = grad f(x) - P x,    b = J x - h(x),

a cone program whose residuals at (x, s, z) are those of the program itself, and whose Newton step is the program's,
also in the homogeneous embedding of both (Andersen and Ye, "On a homogeneous algorithm for the monotone complementarity
problem", Math. Prog. 1999).

Phase one finds a feasible point or proves that there is none: over (x, t) it is

    minimise   1/2 (t + 1)^2     subject to   A x = b,   lb <= x <= ub,   g(x) - t e + s = 0,   s in K,

with e in the interior of K. If t > 0 at the optimum, its multipliers satisfy `z'g(x) + y'(Ax - b) + ... = t z'e > 0`
and make the gradient of that convex function of x zero, so that it is positive everywhere and no x is feasible.
"""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from convexjax.cone_program import ConeProgram
from convexjax.cones.product import ProductCone
from convexjax.equilibration import Equilibration
from convexjax.linear_algebra import DiagonalPlusLowRank, Products, Rows
from convexjax.pytrees import pytree


class Model(NamedTuple):
    """A program near a point: the cone program of second order, f and grad f."""

    program: ConeProgram
    value: jax.Array
    gradient: jax.Array


class FirstOrder(NamedTuple):
    """f, the gradient of the Lagrangian f + z'h and h at a point."""

    value: jax.Array
    gradient: jax.Array
    rows: jax.Array


@pytree
@dataclass(frozen=True, kw_only=True)
class SmoothProgram:
    """A convex program; `objective(x, params)` and `constraints(x, params)` (k,) are functions of a flat x.

    Rows in the user's order are the equations and the constraints, bounds below them. With a `scaling`, points, values
    and rows are in the solver's units. With a `phase`, true in phase one, the variables are (x, t), and f has the term
    t^2/2 in the second phase.
    """

    params: Any
    A: jax.Array  # (p, n)
    b: jax.Array  # (p,)
    bounds: tuple[jax.Array, ...]  # sign * bound (n,) for each of `signs`
    cone: ProductCone
    scaling: Equilibration | None = None
    phase: jax.Array | None = None
    objective: Any = field(metadata={"static": True})
    constraints: Any = field(metadata={"static": True})
    signs: tuple[int, ...] = field(metadata={"static": True})
    # None for dense, "diagonal", a function that returns the diagonal and U of Hess f = diag + U U', or without
    # constraints "products"
    hessian: Any = field(default=None, metadata={"static": True})

    # ------------------------------------------------------------------------- units and phases

    @property
    def sides(self) -> tuple[jax.Array, ...]:
        """The bounds of all variables; t has none."""
        return self.bounds if self.phase is None else tuple(jnp.append(side, jnp.inf) for side in self.bounds)

    def user_x(self, x: jax.Array) -> jax.Array:
        """All variables in the user's units."""
        return x if self.scaling is None else x * (self.scaling.beta * self.scaling.D)

    def user_z(self, z: jax.Array) -> jax.Array:
        """z in the user's units."""
        return z if self.scaling is None else z * self.scaling.E / (self.scaling.c * self.scaling.beta)

    def _split(self, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """x and t, t = 0 outside of the phases."""
        return (v, jnp.zeros((), v.dtype)) if self.phase is None else (v[:-1], v[-1])

    def _relaxation(self) -> Any:
        """The vector -e in phase one, 0 in the second, on the rows of the constraints in the user's order."""
        p, m = self.b.shape[0], self.cone.rows - len(self.signs) * (self.A.shape[1] + 1)
        interior = self.cone.to_user(self.cone.start(self.b.dtype))[p:m]
        phase: Any = self.phase
        return jnp.where(phase, -interior, 0)

    def _gradient(self, v: jax.Array) -> tuple[jax.Array, jax.Array]:
        """f and its gradient in all variables. Where f has no part its values, finite or not, do not either."""
        x, t = self._split(v)
        value, gradient = jax.value_and_grad(self.objective)(x, self.params)
        if self.phase is None:
            return value, gradient
        value = jnp.where(self.phase, (t + 1) ** 2 / 2, value + t * t / 2)
        return value, jnp.append(jnp.where(self.phase, 0, gradient), jnp.where(self.phase, t + 1, t))

    def _constraints(self, v: jax.Array) -> jax.Array:
        x, t = self._split(v)
        constraints = self.constraints(x, self.params)
        return constraints if self.phase is None else constraints + t * self._relaxation()

    def _rows(self, v):
        x, _ = self._split(v)
        dense = self.cone.to_solver(jnp.concatenate([self.A @ x - self.b, self._constraints(v)]))
        return jnp.concatenate([dense, *(sign * v - side for sign, side in zip(self.signs, self.sides, strict=True))])

    # ------------------------------------------------------------------------- values

    def value(self, x: jax.Array) -> jax.Array:
        """f(x), outside of the phases."""
        f = self.objective(self.user_x(x), self.params)
        return f if self.scaling is None else self.scaling.c * f

    def rows(self, x: jax.Array) -> jax.Array:
        """h(x)."""
        scaling, h = self.scaling, self._rows(self.user_x(x))
        if scaling is None:
            return h
        return jnp.where(scaling.dropped, -scaling.b_dropped, scaling.E * h) / scaling.beta

    def stationarity(self, x: jax.Array, z: jax.Array) -> jax.Array:
        """The gradient of the Lagrangian in x, outside of the phases."""
        return jax.grad(lambda x: self.value(x) + z @ self.rows(x))(x)

    def first_order(self, x: jax.Array, z: jax.Array) -> FirstOrder:
        """Values and the gradient of the Lagrangian."""
        value, gradient = self._gradient(self.user_x(x))
        if self.scaling is not None:
            c = self.scaling.c
            value, gradient = c * value, c * self.scaling.beta * self.scaling.D * gradient
        rows, pullback = jax.vjp(self.rows, x)
        return FirstOrder(value, gradient + pullback(z)[0], rows)

    # ------------------------------------------------------------------------- the model

    def linearized(self, x: jax.Array, z: jax.Array) -> ConeProgram:
        """The model at (x, z)."""
        return self.model(x, z).program

    def model(self, x: jax.Array, z: jax.Array) -> Model:
        """The model at (x, z), with f and its gradient."""
        v, z, p = self.user_x(x), self.user_z(z), self.b.shape[0]
        (x, _), size = self._split(v), v.shape[0]
        weights = self.cone.to_user(z)[p : z.shape[0] - size * len(self.signs)]
        value, gradient = self._gradient(v)

        P, J = self._second_order(x, weights)
        A = self.A
        if self.phase is not None:
            P = _append_one(P)
            J = jnp.concatenate([J, self._relaxation()[:, None]], 1)
            A = jnp.concatenate([A, jnp.zeros((p, 1), A.dtype)], 1)
        A = self.cone.to_solver(jnp.concatenate([A, J]))
        model = ConeProgram(
            P=P,
            q=gradient - P @ v,
            A=Rows(A, tuple(jnp.full(size, sign, v.dtype) for sign in self.signs)),
            b=self._offsets(A, v),
            cone=self.cone,
        )
        if self.scaling is None:
            return Model(model, value, gradient)
        c = self.scaling.c
        return Model(self.scaling.scale(model), c * value, c * self.scaling.beta * self.scaling.D * gradient)

    def _second_order(self, x: jax.Array, weights: jax.Array) -> tuple:
        """The Hessian of f + weights'g (without f in phase one) and the derivative of g."""

        def first_order(x):
            constraints, pullback = jax.vjp(lambda x: self.constraints(x, self.params), x)
            return jax.grad(self.objective)(x, self.params), pullback(weights)[0], constraints

        in_phase_two = lambda P_f: P_f if self.phase is None else jnp.where(self.phase, 0, P_f)
        if self.hessian is None:
            # the columns of all derivatives by one pass forwards
            _, push = jax.linearize(first_order, x)
            P_f, P_g, J = jax.vmap(push, out_axes=1)(jnp.eye(x.shape[0], dtype=x.dtype))
            P = in_phase_two(P_f) + P_g
            return (P + P.T) / 2, J
        if self.hessian == "products":
            _, push = jax.linearize(lambda x: jax.grad(self.objective)(x, self.params), x)
            return Products(push, x), jnp.zeros((0, x.shape[0]), x.dtype)
        constraints, pullback = jax.vjp(lambda x: self.constraints(x, self.params), x)
        (J,) = jax.vmap(pullback)(jnp.eye(constraints.shape[0], dtype=x.dtype))
        # a diagonal matrix times ones
        _, (diagonal_f, diagonal_g, _) = jax.jvp(first_order, (x,), (jnp.ones_like(x),))
        factor = jnp.zeros((x.shape[0], 0), x.dtype)
        if self.hessian != "diagonal":
            diagonal_f, factor = self.hessian(x, self.params)
        return DiagonalPlusLowRank(in_phase_two(diagonal_f) + diagonal_g, in_phase_two(factor)), J

    def _offsets(self, A, v):
        """J v - h(v), and exactly b and the bounds where h is affine by construction."""
        to_solver, constraints = self.cone.to_solver, self._constraints(v)
        of_constraints = A @ v - to_solver(jnp.concatenate([jnp.zeros_like(self.b), constraints]))
        is_equation = to_solver(jnp.arange(A.shape[0]) < self.b.shape[0])
        of_equations = to_solver(jnp.concatenate([self.b, jnp.zeros_like(constraints)]))
        return jnp.concatenate([jnp.where(is_equation, of_equations, of_constraints), *self.sides])


def _append_one(P):
    """P with one more row and column, those of the identity."""
    if isinstance(P, DiagonalPlusLowRank):
        return DiagonalPlusLowRank(jnp.append(P.diagonal, 1), jnp.pad(P.factor, ((0, 1), (0, 0))))
    n = P.shape[0]
    return jnp.zeros((n + 1, n + 1), P.dtype).at[:n, :n].set(P).at[n, n].set(1)
