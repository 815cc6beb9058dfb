"""A product of cones, itself with the interface of a cone: the only loop over cones in the package.

Cones of one group are merged, and the groups put into the solver's own row order (`Cone.order`), bounds last. `order`
maps between the user's rows and the solver's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.cones.base import Cone
from convexjax.cones.linear import Nonnegative
from convexjax.linear_algebra import Rows
from convexjax.pytrees import pytree, static
from convexjax.sparse_matrix import SparseMatrix


@pytree
@dataclass(frozen=True)
class ProductCone(Cone):
    """The product of `parts`, in this order of rows. `permutation` (static): solver row k is user row
    permutation[k]."""

    parts: tuple
    permutation: tuple[int, ...] | None = static(default=None)

    @classmethod
    def build(cls, cones, num_bounds: int = 0) -> "ProductCone":
        """The product of the user's `cones`, in their order, and below them `num_bounds` nonnegative rows."""
        groups: dict = {}
        first = 0
        for cone in cones:
            if cone.rows:
                groups.setdefault(cone.group, []).append((cone, first))
            first += cone.rows
        merged = []
        for members in groups.values():
            # a nonsymmetric group joins its kinds one after the other
            members = sorted(members, key=lambda member: type(member[0]).__name__)
            rows = np.concatenate([np.arange(start, start + cone.rows) for cone, start in members])
            merged.append((type(members[0][0]).merge([cone for cone, _ in members]), rows))
        merged.sort(key=lambda item: item[0].order)
        if num_bounds:
            merged.append((Nonnegative(num_bounds), np.arange(first, first + num_bounds)))
        permutation = np.concatenate([rows for _, rows in merged]) if merged else np.arange(0)
        identity = np.array_equal(permutation, np.arange(len(permutation)))
        return cls(tuple(cone for cone, _ in merged), None if identity else tuple(permutation.tolist()))

    @property
    def rows(self):
        return sum(part.rows for part in self.parts)

    @property
    def degree(self):
        return sum(part.degree for part in self.parts)

    def to_solver(self, v):
        """Rows of a vector or matrix in the user's order to the solver's (any trailing bound rows may be absent)."""
        if self.permutation is None:
            return v
        order = np.asarray(self.permutation, np.int32)
        if isinstance(v, SparseMatrix):
            return v.reordered(order)
        return v[order[order < v.shape[0]]]

    def to_user(self, v: jax.Array) -> jax.Array:
        """Rows in the solver's order to the user's."""
        return v if self.permutation is None else v[np.argsort(np.asarray(self.permutation)).astype(np.int32)]

    def is_inequality(self) -> np.ndarray:
        """Which rows (in the solver's order) say s >= 0 and nothing else."""
        flags = [np.full(part.rows, isinstance(part, Nonnegative)) for part in self.parts]
        return np.concatenate(flags) if flags else np.zeros(0, bool)

    # ------------------------------------------------------------------------- each part on its own rows

    def _slices(self):
        first = 0
        for part in self.parts:
            yield part, slice(first, first + part.rows)
            first += part.rows

    def _join(self, method, *vectors, before=(), after=()):
        """Call `method` of each part with its rows of the vectors, and put the rows of the answers together."""
        answers = [
            getattr(part, method)(*(b[i] for b in before), *(v[own] for v in vectors), *after)
            for i, (part, own) in enumerate(self._slices())
        ]
        if not answers:
            return jnp.zeros_like(vectors[0])
        return answers[0] if len(answers) == 1 else jnp.concatenate(answers)

    def start(self, dtype):
        return jnp.concatenate([part.start(dtype) for part in self.parts] or [jnp.zeros(0, dtype)])

    def scaling(self, s, z):
        return tuple(part.scaling(s[own], z[own]) for part, own in self._slices())

    def hessian(self, scaling, v):
        return self._join("hessian", v, before=(scaling,))

    def regularised_inverse(self, scaling, delta, v):
        """As in `Cone`; `v` may leave out the last parts (the bounds)."""
        return self._join_columns("regularised_inverse", scaling, delta, v)

    def spectral(self, spectrum, function, v):
        """As in `Cone`; `v` may leave out the last parts (the bounds)."""
        return self._join_columns("spectral", spectrum, function, v)

    def _join_columns(self, method, of_parts, how, v):
        answers = [
            getattr(part, method)(of_parts[i], how, v[own])
            for i, (part, own) in enumerate(self._slices())
            if own.stop <= v.shape[0]
        ]
        return jnp.concatenate(answers) if len(answers) > 1 else answers[0] if answers else v

    def weigh(self, method, of_parts, how, A: Rows) -> Rows:
        """`regularised_inverse` or `spectral` (`method`) of all rows of a constraint matrix."""
        if A.matrix is None:  # rows known by their products, and elementwise cones alone
            ones = jnp.ones((self.rows, 1), A.dtype)
            return A.weighted(self._join_columns(method, of_parts, how, ones)[:, 0])
        diagonals = A.diagonals
        if isinstance(A.matrix, SparseMatrix):  # whose rows linear systems keep as they are
            matrix: Any = SparseMatrix.zeros(A.matrix.shape, A.dtype)
        else:
            matrix = self._join_columns(method, of_parts, how, A.matrix)
        if diagonals:
            bounds = getattr(self.parts[-1], method)(of_parts[-1], how, jnp.concatenate(diagonals)[:, None])
            diagonals = tuple(bounds.reshape(len(diagonals), -1))
        return Rows(matrix, diagonals)

    def matrices(self, apply: Callable, num_rows: int, dtype) -> list[jax.Array]:
        """The matrices (count, dim, dim) of a linear map that keeps copies apart, `apply(i, part, v)` for columns v
        (rows of the part, k), of the parts within the first `num_rows` rows."""
        found = []
        for i, (part, own) in enumerate(self._slices()):
            if own.stop <= num_rows:
                units = jnp.tile(jnp.eye(part.dim, dtype=dtype), (part.count, 1))
                found.append(apply(i, part, units).reshape(part.count, part.dim, part.dim))
        return found

    def correction(self, scaling, s, z, ds, dz, sigma_mu):
        return self._join("correction", s, z, ds, dz, before=(scaling,), after=(sigma_mu,))

    def max_step(self, scaling, s, z, ds, dz):
        steps = [
            part.max_step(scaling[i], s[own], z[own], ds[own], dz[own]) for i, (part, own) in enumerate(self._slices())
        ]
        return jax.tree.reduce(jnp.minimum, steps, jnp.ones((), s.dtype))

    def choose_slack(self, from_primal_row, from_relation):
        """The directions ds of each part from the row that keeps its digits (`Cone.slack_from_primal_row`)."""
        parts = [
            (from_primal_row if part.slack_from_primal_row else from_relation)[own] for part, own in self._slices()
        ]
        return jnp.concatenate(parts) if len(parts) > 1 else parts[0] if parts else from_relation

    def block_max(self, v):
        """Each row's entry replaced by the largest of its copy: row scalings must not tilt a cone."""
        largest = lambda part, rows: (
            rows
            if part.dim == 1
            else jnp.broadcast_to(jnp.max(part.copies(rows), 1, keepdims=True), (part.count, part.dim)).reshape(-1)
        )
        parts = [largest(part, v[own]) for part, own in self._slices() if own.stop <= v.shape[0]]
        return jnp.concatenate(parts) if len(parts) > 1 else parts[0] if parts else v

    def dual_barrier(self, z):
        return sum((part.dual_barrier(z[own]) for part, own in self._slices()), start=jnp.zeros((), z.dtype))

    # -------------------------------------------------------------------------------------------- projection

    def project(self, v, mu=None):
        return self._join("project", v, after=(mu,))

    def spectrum(self, v, mu):
        return tuple(part.spectrum(v[own], mu) for part, own in self._slices())

    def near_kink(self, v, distance):
        flags = [part.near_kink(v[own], distance) for part, own in self._slices()]
        return jax.tree.reduce(jnp.logical_or, flags, jnp.array(False))
