"""Geometric programs in the form that their solver and their derivatives see, in y = log x:

    minimise   F_0(y)     subject to   F_i(y) <= 0  (i = 1, 2, ...),   G y = h,
    F_i(y) = log sum_{k in i} exp(a_k'y + b_k),

term k with exponents a_k and log-coefficient b_k. Nothing leaves log space, so nothing overflows.

The dual has one weight d_k > 0 a term, lambda_i their sum over posynomial i (lambda_0 = 1):

    maximise   sum_k d_k (b_k - log(d_k / lambda_i)) - h'nu     subject to   A'd + G'nu = 0.

Without the terms of the objective, weights with A'd + G'nu = 0 and a positive value are a certificate: for every y
`sum_i lambda_i F_i(y) + nu'(G y - h)` is at least that value, so the constraints cannot hold.

Source: Boyd, Kim, Vandenberghe and Hassibi, "A tutorial on geometric programming", Optim. Eng. 2007.
"""

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.pytrees import pytree, static

# Up to so many entries the matrix of which term belongs to which posynomial is stored: sums over posynomials are then
# products with it, which vectorise over batches.
LARGEST_MEMBERSHIP = 20_000
# Posynomials in more variables than this have their gradient stored as a dense row.
WIDE = 100


# ----------------------------------------------------------------------------- exponents


@pytree
@dataclass(frozen=True)
class DenseExponents:
    """Exponents (K, n) as they are."""

    values: jax.Array

    @property
    def num_variables(self) -> int:
        return self.values.shape[1]

    def matvec(self, y: jax.Array) -> jax.Array:
        """A y."""
        return self.values @ y

    def rmatvec(self, d: jax.Array) -> jax.Array:
        """A'd."""
        return d @ self.values

    def sizes(self, d: jax.Array) -> jax.Array:
        """|A|'d."""
        return d @ jnp.abs(self.values)

    def gram(self, terms: "Terms", d: jax.Array, lam: jax.Array, curvature: jax.Array) -> jax.Array:
        """sum_i [sum_{k in i} d_k a_k a_k' + (curvature_i - 1) g_i g_i' / lambda_i], g_i = sum_{k in i} d_k a_k.

        It is R'R with the rows sqrt(d_k) (a_k + (sqrt(curvature_i) - 1) g_i / lambda_i), without cancellation.
        """
        A = self.values
        means = terms.sums(d[:, None] * A) / lam[:, None]
        R = jnp.sqrt(d)[:, None] * (A + terms.spread((jnp.sqrt(curvature) - 1)[:, None] * means))
        return _gram(R)


def _gram(R: jax.Array) -> jax.Array:
    """R'R; of a large one the blocks on and above the diagonal, for a product costs as much as its size."""
    n = R.shape[1]
    if n <= 1024:
        return R.T @ R
    half = n // 2
    left, right = R[:, :half], R[:, half:]
    corner = left.T @ right
    return jnp.concatenate(
        [
            jnp.concatenate([_gram(left), corner], 1),
            jnp.concatenate([corner.T, _gram(right)], 1),
        ]
    )


@pytree
@dataclass(frozen=True)
class Pattern:
    """Where the exponents that are not zero stand, and what that means for the Hessian. All arrays of int32."""

    rows: Any  # (nnz,) term of each entry, ascending
    columns: Any  # (nnz,)
    pairs: Any  # (2, P) entries of one term, in all pairs
    pair_positions: Any  # (P,) where in the upper triangle of the Hessian, flat, that has also the column of phase one
    gradient_of: Any  # (nnz,) to which entry of a gradient an exponent adds
    gradient_segments: Any  # (J,) posynomial of each such entry
    gradient_columns: Any  # (J,)
    gradient_pairs: Any  # (2, Q) entries of the gradient of one posynomial, in all pairs, but for wide ones
    gradient_positions: Any  # (Q,)
    wide: Any  # (W,) posynomials in many variables
    wide_rows: Any  # (V,) which of them, for the entries
    wide_entries: Any  # (V,) of their gradients
    num_variables: int = static()

    @staticmethod
    def build(rows, columns, segment, num_variables: int) -> "Pattern":
        """From the positions of the entries, sorted by row, and the posynomial of each term."""
        rows, columns, n = np.asarray(rows), np.asarray(columns), num_variables
        keys, gradient_of = np.unique(segment[rows].astype(np.int64) * n + columns, return_inverse=True)
        gradient_segments, gradient_columns = keys // n, keys % n
        sizes = np.bincount(gradient_segments, minlength=int(segment.max()) + 1)
        wide = np.flatnonzero(sizes > WIDE)
        is_wide = np.isin(gradient_segments, wide)
        side = n + 1
        if side * side >= 2**31:
            raise ValueError(f"exponents have {n} variables; the Hessian is dense, and takes at most 46339.")
        pairs = _pairs_within(rows, np.arange(rows.size))
        gradient_pairs = _pairs_within(gradient_segments[~is_wide], np.flatnonzero(~is_wide))
        arrays = (
            rows,
            columns,
            *_upper_triangle(pairs, columns, side),
            gradient_of,
            gradient_segments,
            gradient_columns,
            *_upper_triangle(gradient_pairs, gradient_columns, side),
            wide,
            np.searchsorted(wide, gradient_segments[is_wide]),
            np.flatnonzero(is_wide),
        )
        names = [member.name for member in fields(Pattern) if member.name != "num_variables"]
        return Pattern(
            **{name: np.asarray(a, np.int32) for name, a in zip(names, arrays, strict=True)}, num_variables=n
        )


def _pairs_within(groups: np.ndarray, members: np.ndarray) -> np.ndarray:
    """All ordered pairs (2, P) of members of the same group; `groups` is ascending."""
    if not groups.size:
        return np.zeros((2, 0), np.int64)
    first = np.searchsorted(groups, groups, "left")
    count = np.searchsorted(groups, groups, "right") - first
    left = np.repeat(np.arange(groups.size), count)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    right = np.arange(left.size) - np.repeat(start, count) + np.repeat(first, count)
    return np.stack([members[left], members[right]])


def _upper_triangle(pairs: np.ndarray, columns: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs whose first column is not the larger one, in the order of their flat positions, and these."""
    left, right = columns[pairs]
    kept = np.flatnonzero(left <= right)
    positions = left[kept] * side + right[kept]
    order = np.argsort(positions, kind="stable")
    return pairs[:, kept[order]], positions[order]


@pytree
@dataclass(frozen=True)
class SparseExponents:
    """Exponents by their entries, and one more dense column, that of the variable of phase one."""

    values: jax.Array  # (nnz,)
    extra: jax.Array  # (K,)
    pattern: Pattern

    @property
    def num_variables(self) -> int:
        return self.pattern.num_variables + 1

    def matvec(self, y: jax.Array) -> jax.Array:
        """A y."""
        products = self.values * y[self.pattern.columns]
        return _sorted_sum(products, self.pattern.rows, self.extra.shape[0]) + self.extra * y[-1]

    def rmatvec(self, d: jax.Array) -> jax.Array:
        """A'd."""
        n = self.pattern.num_variables
        y = jax.ops.segment_sum(self.values * d[self.pattern.rows], self.pattern.columns, n)
        return jnp.append(y, self.extra @ d)

    def sizes(self, d: jax.Array) -> jax.Array:
        """|A|'d."""
        return SparseExponents(jnp.abs(self.values), jnp.abs(self.extra), self.pattern).rmatvec(d)

    def gram(self, terms: "Terms", d: jax.Array, lam: jax.Array, curvature: jax.Array) -> jax.Array:
        """The upper triangle of that of `DenseExponents`, summed entry by entry."""
        # all in one array and in place: a pass over a large matrix takes as long as many a computation
        pattern, n, values = self.pattern, self.num_variables, self.values
        factor = (curvature - 1) / lam
        (e1, e2), (g1, g2) = pattern.pairs, pattern.gradient_pairs
        weighted = d[pattern.rows] * values
        gradient = jax.ops.segment_sum(weighted, pattern.gradient_of, pattern.gradient_columns.shape[0])
        scaled = factor[pattern.gradient_segments] * gradient
        entries = pattern.wide_entries
        wide = jnp.zeros((pattern.wide.shape[0], n), values.dtype)
        wide = wide.at[pattern.wide_rows, pattern.gradient_columns[entries]].set(gradient[entries])
        M = (wide.T @ (factor[pattern.wide][:, None] * wide)).reshape(-1)
        M = M.at[pattern.pair_positions].add(weighted[e1] * values[e2], indices_are_sorted=True)
        M = M.at[pattern.gradient_positions].add(scaled[g1] * gradient[g2], indices_are_sorted=True).reshape(n, n)
        # the column of phase one is the matrix times a unit vector
        along = self.extra - terms.spread(terms.sums(d * self.extra) / lam)
        mean = terms.sums(d * self.extra)
        border = self.rmatvec(d * along + d * terms.spread(curvature * mean / lam))
        return M.at[:, -1].set(border)


def _sorted_sum(values, groups, number):
    return jax.ops.segment_sum(values, groups, number, indices_are_sorted=True)


# ----------------------------------------------------------------------------- the program


@pytree
@dataclass(frozen=True)
class Terms:
    """Which term belongs to which posynomial; terms stand in the order of the posynomials."""

    segment: Any  # (K,) int32, ascending, every posynomial has terms
    membership: Any  # (S, K), or None
    number: int = static()

    @staticmethod
    def build(segment: np.ndarray, number: int, dtype) -> "Terms":
        membership = None
        if segment.size * number <= LARGEST_MEMBERSHIP:
            membership = np.asarray(segment[None, :] == np.arange(number)[:, None], dtype)
        return Terms(np.asarray(segment, np.int32), membership, number)

    def sums(self, v: jax.Array) -> jax.Array:
        """Sums over each posynomial."""
        if self.membership is not None:
            return self.membership @ v
        return _sorted_sum(v, self.segment, self.number)

    def spread(self, u: jax.Array) -> jax.Array:
        """A value of each posynomial for each of its terms."""
        return u[self.segment]

    def log_sum_exp(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        """F (S,), and the share of each term in its posynomial."""
        if self.membership is not None:
            largest = jnp.max(jnp.where(self.membership > 0, t, -jnp.inf), 1)
        else:
            largest = jax.ops.segment_max(t, self.segment, self.number, indices_are_sorted=True)
        largest = jax.lax.stop_gradient(largest)
        powers = jnp.exp(t - self.spread(largest))
        total = self.sums(powers)
        return largest + jnp.log(total), powers / self.spread(total)


@pytree
@dataclass(frozen=True, kw_only=True)
class GeometricProgram:
    """The program; the last variable and the last posynomial belong to phase one (`in_phase_one`)."""

    A: DenseExponents | SparseExponents  # (K, n + 1)
    b: jax.Array  # (K,)
    terms: Terms  # S posynomials
    G: jax.Array  # (p, n + 1)
    h: jax.Array  # (p,)

    def posynomials(self, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """F(y) and the shares."""
        return self.terms.log_sum_exp(self.A.matvec(y) + self.b)


def extended(exponents, pattern: Pattern | None, b, terms: Terms, G, h) -> GeometricProgram:
    """The program in the n variables and in one more, u, that does nothing yet. `terms` has one more posynomial, of the
    one term exp(-1)."""
    dtype = b.dtype
    if pattern is None:
        A: Any = DenseExponents(jnp.pad(exponents, ((0, 1), (0, 1))))
    else:
        A = SparseExponents(exponents, jnp.zeros(b.shape[0] + 1, dtype), pattern)
    return GeometricProgram(
        A=A,
        b=jnp.append(b, -1),
        terms=terms,
        G=jnp.pad(G, ((0, 0), (0, 1))),
        h=h,
    )


def in_phase_one(program: GeometricProgram, phase_one: jax.Array) -> GeometricProgram:
    """The program, or if `phase_one`

        minimise   u     subject to   F_i(y) <= u,   u >= -1,   G y = h,

    which has strictly feasible points, and a positive optimum if the program is not feasible by as much."""
    segment = program.terms.segment
    objective, dtype = segment == 0, program.b.dtype
    count = jnp.sum(objective).astype(dtype)
    A, b = program.A, program.b
    sign = jnp.where(objective, 1, -1).astype(dtype)
    extra = jnp.where(phase_one, sign, 0)
    if isinstance(A, DenseExponents):
        A = DenseExponents(jnp.where((phase_one & objective)[:, None], 0, A.values).at[:, -1].set(extra))
    else:
        values = jnp.where((phase_one & objective)[A.pattern.rows], 0, A.values)
        A = SparseExponents(values, extra, A.pattern)
    b = jnp.where(phase_one & objective, -jnp.log(count), b)
    return GeometricProgram(A=A, b=b, terms=program.terms, G=program.G, h=program.h)


# ----------------------------------------------------------------------------- what a point proves


class Claims(NamedTuple):
    """How far each claim is from being proved."""

    primal: jax.Array  # largest F_i, |G y - h|
    dual: jax.Array  # gradient of the Lagrangian at y, relative to the size of its terms
    gap: jax.Array  # complementarity, relative to F_0
    infeasible: jax.Array  # gradient of a certificate of infeasibility, relative to its value
    unbounded: jax.Array  # growth of the constraints along y, relative to the fall of F_0


def measure(program: GeometricProgram, y, d, nu) -> tuple[Claims, jax.Array]:
    """The claims of y and the weights d, from the data; and F."""
    A, b, terms, G, h = program.A, program.b, program.terms, program.G, program.h
    F, shares = program.posynomials(y)
    lam = terms.sums(d)
    z = lam.at[0].set(1)
    largest = lambda v: jnp.max(jnp.abs(v), initial=0)
    weights = terms.spread(z) * shares
    gradient = A.rmatvec(weights) + nu @ G
    size = largest(A.sizes(weights) + jnp.abs(nu) @ jnp.abs(G))
    off = G @ y - h
    primal = jnp.maximum(jnp.max(F[1:], initial=0), largest(off) / (1 + largest(h)))
    gap = jnp.abs(z[1:] @ F[1:] + nu @ off) / jnp.maximum(1, jnp.abs(F[0]))

    # the certificate: all posynomials but the objective and that of phase one
    inner = (terms.segment > 0) & (terms.segment < terms.number - 1)
    share = jnp.where(inner, d, 1) / jnp.where(inner, terms.spread(lam), 1)
    own = jnp.where(inner, d, 0)
    value = own @ (b - jnp.log(share)) - nu @ h
    combined = (A.rmatvec(own) + nu @ G)[:-1]
    infeasible = jnp.where(value > 0, largest(combined) / value, jnp.inf)
    return Claims(primal, gradient_error(gradient, size), gap, infeasible, growth(program, y)), F


def gradient_error(gradient, size):
    """Relative to the size of its terms, of which there are none where no exponent is not zero."""
    return jnp.max(jnp.abs(gradient), initial=0) / jnp.where(size > 0, size, 1)


def growth(program: GeometricProgram, direction: jax.Array) -> jax.Array:
    """How fast the constraints grow along a direction beside the fall of the objective, infinite if that does not."""
    direction = direction.at[-1].set(0)
    along, segment = program.A.matvec(direction), program.terms.segment
    fall = -jnp.max(jnp.where(segment == 0, along, -jnp.inf))
    rise = jnp.maximum(jnp.max(jnp.where(segment == 0, 0, along)), jnp.max(jnp.abs(program.G @ direction), initial=0))
    return jnp.where(fall > 0, rise / jnp.where(fall > 0, fall, 1), jnp.inf)
