"""The cone program of an optimal control problem, in the arrays of its stages instead of dense matrices.

    minimise    sum_t 1/2 x_t'Q_t x_t + u_t'S_t x_t + 1/2 u_t'R_t u_t + q_t'x_t + r_t'u_t      t = 0 .. T, no u_T
    subject to  -x_0 = b_0,   A_t x_t + B_t u_t - x_{t+1} = b_{t+1},
                G_t x_t + J_t u_t <= h_t,   bounds

It has the interface of `ConeProgram`, so that the solver and the derivatives treat it as any other: products with P and
A, and through `riccati.py` the solution of its linear systems. All of them take time linear in T. The variables are
`[x_0 .. x_T, u_0 .. u_{T-1}]`, the rows in this order: equations, inequalities, lower bounds of states, upper bounds of
states, lower and upper bounds of inputs, each of these blocks only if there is one.
"""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from convexjax.cone_program import ConeProgram
from convexjax.linear_algebra import Rows
from convexjax.pytrees import pytree, static


@pytree
@dataclass(frozen=True, kw_only=True)
class StageRows(Rows):
    """The constraint matrix. `weights`, if given, multiply the inequality rows."""

    matrix: None = None  # there is none

    A: jax.Array  # (T, n, n)
    B: jax.Array  # (T, n, m)
    G: Any  # (T + 1, p, n) and (T + 1, p, m), whose last entry has no meaning, or both None
    J: Any
    weights: Any = None
    bounds: tuple[int, ...] = static(default=())  # those of lower x (0), upper x (1), lower u (2), upper u (3) present

    @property
    def horizon(self) -> int:
        return self.A.shape[0]

    @property
    def num_equations(self) -> int:
        return (self.horizon + 1) * self.A.shape[1]

    @property
    def num_exact(self) -> int:
        """As in `Rows`."""
        return self.num_equations

    @property
    def dtype(self):
        return self.A.dtype

    @property
    def num_general(self) -> int:
        """Rows that are no bounds."""
        return self.num_equations + (0 if self.G is None else self.G.shape[0] * self.G.shape[1])

    @property
    def shape(self) -> tuple[int, int]:
        (T, _, m), x = self.B.shape, self.num_equations
        return self.num_general + sum(x if kind < 2 else T * m for kind in self.bounds), x + T * m

    def states(self, w: jax.Array) -> jax.Array:
        """(T + 1, n), of a vector of variables (or of equations)."""
        return w[: self.num_equations].reshape(self.horizon + 1, -1)

    def inputs(self, w: jax.Array) -> jax.Array:
        """(T, m), of a vector of variables."""
        return w[self.num_equations :].reshape(self.B.shape[0], self.B.shape[2])

    def matvec(self, w: jax.Array) -> jax.Array:
        """A w."""
        x, u = self.states(w), self.inputs(w)
        after = stagewise(self.A, x[:-1]) + stagewise(self.B, u)
        equations = jnp.concatenate([-x[:1], after - x[1:]]).reshape(-1)
        rows = []
        if self.G is not None:
            of_inputs = stagewise(self.J[:-1], u)
            rows.append((stagewise(self.G, x) + jnp.pad(of_inputs, ((0, 1), (0, 0)))).reshape(-1))
        flat = (-x, x, -u, u)
        rows += [flat[kind].reshape(-1) for kind in self.bounds]
        if not rows:
            return equations
        inequalities = jnp.concatenate(rows)
        return jnp.concatenate([equations, inequalities if self.weights is None else self.weights * inequalities])

    def rmatvec(self, z: jax.Array) -> jax.Array:
        """A'z."""
        y = self.states(z)
        x = jnp.concatenate([stagewise_transposed(self.A, y[1:]), jnp.zeros_like(y[:1])]) - y
        return jnp.concatenate(
            [x.reshape(-1), stagewise_transposed(self.B, y[1:]).reshape(-1)]
        ) + self.inequality_rmatvec(z[self.num_equations :])

    def inequality_rmatvec(self, z: jax.Array) -> jax.Array:
        """A'[0; z] for the inequality rows alone."""
        (T, n, m), first = self.B.shape, 0
        z = z if self.weights is None else self.weights * z
        x, u = jnp.zeros((T + 1, n), z.dtype), jnp.zeros((T, m), z.dtype)
        if self.G is not None:
            first = self.G.shape[0] * self.G.shape[1]
            of_rows = z[:first].reshape(self.G.shape[:2])
            x, u = stagewise_transposed(self.G, of_rows), stagewise_transposed(self.J[:-1], of_rows[:-1])
        for kind in self.bounds:
            like = x if kind < 2 else u
            part = (-1, 1)[kind % 2] * z[first : first + like.size].reshape(like.shape)
            first += like.size
            x, u = (x + part, u) if kind < 2 else (x, u + part)
        return jnp.concatenate([x.reshape(-1), u.reshape(-1)])

    def weighted(self, weights: jax.Array) -> "StageRows":
        """W A for the diagonal W of `weights` (rows,); the equations, which `riccati.py` fulfils exactly, left as they
        are."""
        weights = weights[self.num_equations :]
        return replace(self, weights=weights if self.weights is None else self.weights * weights)


@pytree
@dataclass(frozen=True, kw_only=True)
class StageProgram(ConeProgram):
    """Data of the program; `b` (rows of A), `q` all linear terms, as one vector in the order of the variables."""

    P: None = None  # the blocks Q, R and S instead

    Q: jax.Array  # (T + 1, n, n)
    R: jax.Array  # (T, m, m)
    S: jax.Array | None  # (T, m, n)
    A: StageRows
    convexity: jax.Array  # 1 if every stage cost is convex, else 0

    def quadratic(self, w: jax.Array) -> jax.Array:
        """P w."""
        x, u = self.A.states(w), self.A.inputs(w)
        Px, Pu = stagewise(self.Q, x), stagewise(self.R, u)
        if self.S is not None:
            Px = Px + jnp.pad(stagewise_transposed(self.S, u), ((0, 1), (0, 0)))
            Pu = Pu + stagewise(self.S, x[:-1])
        return jnp.concatenate([Px.reshape(-1), Pu.reshape(-1)])

    def kept(self, rows: jax.Array) -> "StageProgram":
        """The inequalities that are not among `rows` without entries."""
        return replace(self, A=replace(self.A, weights=rows[self.A.num_equations :].astype(self.q.dtype)))

    def scaled(self, D: jax.Array, E: jax.Array, c: jax.Array) -> "StageProgram":
        """The matrices `c D P D` and `E A D`, with E = 1 / D in the equations and the bounds."""
        rows = self.A
        x, u = rows.states(D), rows.inputs(D)
        S = self.S
        scale = lambda left, M, right: left[:, :, None] * M * right[:, None]
        G, J = rows.G, rows.J
        if G is not None:
            E_G = E[rows.num_equations : rows.num_general].reshape(G.shape[:2])
            G, J = scale(E_G, G, x), scale(E_G, J, jnp.concatenate([u, u[-1:]]))
        return replace(
            self,
            Q=c * scale(x, self.Q, x),
            R=c * scale(u, self.R, u),
            S=None if S is None else c * scale(u, S, x[:-1]),
            A=replace(
                rows,
                A=scale(1 / x[1:], rows.A, x[:-1]),
                B=scale(1 / x[1:], rows.B, u),
                G=G,
                J=J,
            ),
        )


def stagewise(M: jax.Array, v: jax.Array) -> jax.Array:
    """M_t v_t for every t."""
    return jnp.einsum("tij,tj->ti", M, v)


def stagewise_transposed(M: jax.Array, v: jax.Array) -> jax.Array:
    """M_t'v_t for every t."""
    return jnp.einsum("tij,ti->tj", M, v)
