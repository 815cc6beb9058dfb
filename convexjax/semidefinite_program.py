"""Semidefinite programs with the structure that they usually have: blocks, and constraint matrices that are sparse.

    minimise   c'x     subject to   S = F_0 + sum_i x_i F_i  psd                     (dual Z psd, <F_i, Z> = c_i)

The matrices are block diagonal. Blocks of equal side are kept together, a diagonal block as a vector. In a block each
constraint matrix is dense, or a short list of entries, or narrow: a list of entries that are all in a few rows and
columns. Which of them is decided once, by counting (`partition`, `NARROW`).

What an interior point spends its time on is the Schur matrix

    M_ij = tr(F_i V F_j Z),     V = S^-1,                                                                      (1)

whose formulas are those of Fujisawa, Kojima and Nakata, "Exploiting sparsity in primal-dual interior-point methods for
semidefinite programming" (1997): for a dense F_j the product V F_j Z, for all of them at once, and then inner products;
for two sparse matrices the sum over their entries. For a narrow F_j that is C in the rows and columns R, the product is
V[:, R] C Z[R, :], and the inner products are read at the entries of the other matrix.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.linear_algebra import vary_like
from convexjax.pytrees import pytree, static

# Seconds of one operation of a matrix product, and of a number gathered from a matrix: only their ratio matters.
PRODUCT, GATHER = 8e-12, 1.5e-9
# Numbers that the products V F_j Z of one round may take.
ROUND = 4_000_000
# Entries of a sparse constraint matrix at most: their pairs are the rounds of a loop.
WIDEST = 24
# A matrix is narrow if it has at most this share of the rows.
NARROW = 0.15
# Up to this side the blocks of a batch are multiplied together, beyond it one after the other.
BATCHED_SIDE = 16


@pytree
@dataclass(frozen=True, kw_only=True)
class MatrixBlocks:
    """`count` blocks of one side. Block b holds the dense matrices `dense[b]` of the constraints `dense_ids[b]`, and
    the sparse ones of `sparse_ids[b]` with the entries `values[b]` at `rows[b]`, `columns[b]` and mirrored there (half
    the value on the diagonal). The first of the sparse ones are narrow, `cores[b]` in the rows and columns
    `supports[b]`; the others have at most `width` entries. Constraint n is none: it fills up."""

    F0: jax.Array  # (count, side, side)
    dense_ids: jax.Array  # (count, d)
    dense: jax.Array  # (count, d, side, side)
    sparse_ids: jax.Array  # (count, a)
    rows: jax.Array  # (count, a, width)
    columns: jax.Array
    values: jax.Array
    supports: jax.Array  # (count, narrow, most rows)
    cores: jax.Array  # (count, narrow, most rows, most rows)
    n: int = static()
    width: int = static()

    @property
    def degree(self) -> int:
        """Number of eigenvalues."""
        return self.F0.shape[0] * self.F0.shape[1]

    def identity(self) -> jax.Array:
        """The identity, in each block."""
        return jnp.broadcast_to(jnp.eye(self.F0.shape[-1], dtype=self.F0.dtype), self.F0.shape)

    def combine(self, x: jax.Array) -> jax.Array:
        """sum_i x_i F_i."""
        x = jnp.append(x, 0)  # of the constraint that is none
        total = jnp.einsum("bd,bdij->bij", x[self.dense_ids], self.dense)
        if self.rows.size:
            entries = x[self.sparse_ids][:, :, None] * self.values
            block = np.arange(self.F0.shape[0])[:, None, None]
            half = jnp.zeros_like(self.F0).at[block, self.rows, self.columns].add(entries)
            total = total + half + _transpose(half)
        return total

    def inner(self, Z: jax.Array) -> jax.Array:
        """<F_i, Z> for all i, for a symmetric Z."""
        out = jnp.zeros(self.n + 1, Z.dtype)
        if self.dense.size:
            out = out.at[self.dense_ids].add(jnp.einsum("bdij,bij->bd", self.dense, Z))
        if self.rows.size:
            block = np.arange(self.F0.shape[0])[:, None, None]
            out = out.at[self.sparse_ids].add(2 * jnp.sum(self.values * Z[block, self.rows, self.columns], -1))
        return out[:-1]

    def squares(self) -> jax.Array:
        """The squared Frobenius norms of all F_i."""
        out = jnp.zeros(self.n + 1, self.F0.dtype).at[self.dense_ids].add(jnp.sum(self.dense**2, (-1, -2)))
        twice = jnp.where(self.rows == self.columns, 4, 2)
        return out.at[self.sparse_ids].add(jnp.sum(twice * self.values**2, -1))[:-1]

    def scaled(self, size: jax.Array, of_F0: jax.Array) -> "MatrixBlocks":
        """F_i / size_i, and F_0 / of_F0."""
        size = jnp.append(size, 1)
        return MatrixBlocks(
            F0=self.F0 / of_F0,
            dense_ids=self.dense_ids,
            dense=self.dense / size[self.dense_ids][:, :, None, None],
            sparse_ids=self.sparse_ids,
            rows=self.rows,
            columns=self.columns,
            values=self.values / size[self.sparse_ids][:, :, None],
            supports=self.supports,
            cores=self.cores / size[self.sparse_ids[:, : self.cores.shape[1]]][:, :, None, None],
            n=self.n,
            width=self.width,
        )

    def schur(self, V: jax.Array, Z: jax.Array) -> jax.Array:
        """The part of (1) of these blocks, (n, n)."""
        count, side = self.F0.shape[:2]
        data = (V, Z, self.dense, (self.rows, self.columns, self.values), self.supports, self.cores)
        of_block = lambda own: _schur_of_block(own, self.width)
        if count == 1:
            local = of_block(jax.tree.map(lambda leaf: leaf[0], data))[None]
        elif side <= BATCHED_SIDE:
            local = jax.vmap(of_block)(data)
        else:
            local = jax.lax.map(of_block, data)
        ids, size = jnp.concatenate([self.dense_ids, self.sparse_ids], 1), local.shape[-1]
        if 4 * size**2 <= self.n**2 or count > 1:
            out = jnp.zeros((self.n + 1, self.n + 1), V.dtype)
            return out.at[ids[:, :, None], ids[:, None, :]].add(local)[:-1, :-1]
        # place of each constraint among the local ones; those that have none read a row of zeros
        place = jnp.full(self.n + 1, size).at[ids[0]].set(np.arange(size))[:-1]
        return jnp.pad(local[0], (0, 1))[place].T[place]


def _schur_of_block(data, width):
    """(1) in one block, for its dense constraints, then its narrow and its sparse ones."""
    V, Z, dense, entries, supports, cores = data
    (d, side, _), narrow = dense.shape, supports.shape[0]
    rows, columns, values = entries
    a = rows.shape[0]
    total = _pairs(V, Z, *(v[narrow:, :width] for v in entries))

    def read(T):  # inner products of (some, side, side) with all that have entries
        if not a:
            return jnp.zeros((T.shape[0], 0), V.dtype)
        return jnp.sum(values * (T[:, rows, columns] + T[:, columns, rows]), -1)

    if narrow:

        def of_narrow(own):
            support, core = own
            return (read(jnp.swapaxes(V[support], 1, 2) @ (core @ Z[support])),)

        (found,) = _in_rounds(of_narrow, (supports, cores), narrow, side)
        first = (found[:, :narrow] + found[:, :narrow].T) / 2
        total = jnp.block([[first, found[:, narrow:]], [found[:, narrow:].T, total]])
    if not d:
        return total
    flat = dense.reshape(d, side * side)

    def of_dense(own):
        (F,) = own
        T = V @ (F.reshape(-1, side) @ Z).reshape(F.shape)
        return T.reshape(-1, side * side) @ flat.T, read(T)

    first, mixed = _in_rounds(of_dense, (dense,), d, side)
    first = (first + first.T) / 2
    return jnp.block([[first, mixed], [mixed.T, total]]) if a else first


def _in_rounds(function, data, number, side):
    """`function` of `number` constraints, so few of them at a time that their products fit."""
    some = max(1, ROUND // side**2)
    if number <= some:
        return function(data)
    rounds = -(-number // some)
    some = -(-number // rounds)
    pad = lambda v: jnp.pad(v, ((0, rounds * some - number), *[(0, 0)] * (v.ndim - 1)))
    parts = tuple(pad(v).reshape(rounds, some, *v.shape[1:]) for v in data)
    return tuple(v.reshape(rounds * some, -1)[:number] for v in jax.lax.map(function, parts))


def _pairs(V, Z, rows, columns, values):
    """(1) for the sparse F_i and F_j of a block, (a, a): with F_i the sum of the f (e_p e_q' + e_q e_p') and F_j that
    of the g (e_r e_s' + e_s e_r'), the sum of

        f g (V_qr Z_sp + V_qs Z_rp + V_pr Z_sq + V_ps Z_rq).
    """
    a, width = rows.shape

    def pair(t, total):
        i, j = t // width, t % width
        p, q, f = rows[:, i, None], columns[:, i, None], values[:, i, None]
        r, s, g = rows[None, :, j], columns[None, :, j], values[None, :, j]
        return total + f * g * (V[q, r] * Z[p, s] + V[q, s] * Z[p, r] + V[p, r] * Z[q, s] + V[p, s] * Z[q, r])

    zero = jnp.zeros((a, a), V.dtype)
    if a == 0:
        return zero
    return pair(0, zero) if width == 1 else jax.lax.fori_loop(0, width**2, pair, vary_like(V, zero))


@pytree
@dataclass(frozen=True, kw_only=True)
class DiagonalBlock:
    """A diagonal block, as its diagonal: nonnegative numbers."""

    F0: jax.Array  # (l,)
    F: jax.Array  # (n, l)

    @property
    def degree(self) -> int:
        """Number of eigenvalues."""
        return self.F0.shape[0]

    def identity(self) -> jax.Array:
        """The identity."""
        return jnp.ones_like(self.F0)

    def combine(self, x: jax.Array) -> jax.Array:
        """sum_i x_i F_i."""
        return x @ self.F

    def inner(self, z: jax.Array) -> jax.Array:
        """<F_i, Z> for all i."""
        return self.F @ z

    def squares(self) -> jax.Array:
        """The squared Frobenius norms of all F_i."""
        return jnp.sum(self.F**2, 1)

    def scaled(self, size: jax.Array, of_F0: jax.Array) -> "DiagonalBlock":
        """F_i / size_i, and F_0 / of_F0."""
        return DiagonalBlock(F0=self.F0 / of_F0, F=self.F / size[:, None])

    def schur(self, v: jax.Array, z: jax.Array) -> jax.Array:
        """The part of (1) of this block."""
        return (self.F * (v * z)) @ self.F.T


@pytree
@dataclass(frozen=True, kw_only=True)
class SemidefiniteProgram:
    """The data of a program, which may have equations A x = b as well, and some of whose blocks, those with `weights`
    one and not zero, may be there for their log det alone:

        minimise   c'x - sum_j weights_j log det S_j     subject to   S = F_0 + sum_i x_i F_i  psd,    A x = b.

    Matrices of all blocks, as S and Z, are tuples with one entry per part."""

    c: jax.Array  # (n,)
    parts: tuple  # of `MatrixBlocks` and `DiagonalBlock`
    A: jax.Array  # (p, n)
    b: jax.Array  # (p,)
    weights: tuple[int, ...] = static()

    @property
    def F0(self) -> tuple:
        """F_0."""
        return tuple(part.F0 for part in self.parts)

    def combine(self, x: jax.Array) -> tuple:
        """sum_i x_i F_i."""
        return tuple(part.combine(x) for part in self.parts)

    def inner(self, Z: tuple) -> jax.Array:
        """<F_i, Z> for all i."""
        return sum((part.inner(Z_j) for part, Z_j in zip(self.parts, Z, strict=True)), jnp.zeros_like(self.c))

    def schur(self, V: tuple, Z: tuple) -> jax.Array:
        """The Schur matrix (1)."""
        n = self.c.shape[0]
        pairs = zip(self.parts, V, Z, strict=True)
        return sum((part.schur(V_j, Z_j) for part, V_j, Z_j in pairs), jnp.zeros((n, n), self.c.dtype))

    def norms(self) -> jax.Array:
        """The Frobenius norms of all F_i."""
        return jnp.sqrt(sum((part.squares() for part in self.parts), jnp.zeros_like(self.c)))


def _transpose(X):
    return jnp.swapaxes(X, -1, -2)


# ----------------------------------------------------------------------------- from entries


@dataclass(frozen=True)
class Entries:
    """Nonzeros of all F_i in one block, i >= 1, on the host: the upper triangle, sorted by constraint."""

    constraint: np.ndarray
    row: np.ndarray
    column: np.ndarray
    value: np.ndarray


def partition(counts: np.ndarray, side: int) -> int:
    """How many of the constraint matrices of a block, those with the most entries, to treat as dense. `counts` are
    their numbers of entries, largest first."""
    total = counts.size
    dense = np.arange(total + 1)
    width = np.append(counts, 0)  # of the widest that is left
    left = np.append(np.cumsum(counts[::-1])[::-1], 0)
    product = dense * (4.0 * side**3 + 2.0 * dense * side**2) * PRODUCT
    gathered = (dense * left * 2 + 8.0 * ((total - dense) * width) ** 2) * GATHER
    return int(np.argmin(np.where(width <= WIDEST, product + gathered, np.inf)))


def matrix_blocks(F0: jax.Array, entries: list[Entries], n: int, dtype) -> MatrixBlocks:
    """Blocks of one side from the nonzeros of their constraint matrices."""
    count, side = F0.shape[:2]
    # per block: constraints with entries, those with the most first; and how many of them are dense
    sorted_ids, narrow, supports = [], 0, np.zeros((0, 0), np.int32)
    for e in entries:
        ids, counts = np.unique(e.constraint, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        split = partition(counts[order], side)
        if count == 1 and split:
            order, split, narrow, supports = _narrowed(e, ids, order, split, side)
        sorted_ids.append((ids[order], counts[order], split))
    d = max(split for *_, split in sorted_ids)
    a = max(ids.size - split for ids, _, split in sorted_ids)
    width = max([1, *(counts[split:].max(initial=0) for _, counts, split in sorted_ids)])
    dense_ids, sparse_ids = np.full((count, d), n, np.int32), np.full((count, a), n, np.int32)
    dense = np.zeros((count, d, side, side), dtype)
    rows, columns = np.zeros((2, count, a, width), np.int32)
    values = np.zeros((count, a, width), dtype)
    for b, (e, (ids, _, split)) in enumerate(zip(entries, sorted_ids, strict=True)):
        place = np.full(n, -1)
        place[ids] = np.arange(ids.size)
        own = place[e.constraint]
        dense_ids[b, :split], sparse_ids[b, : ids.size - split] = ids[:split], ids[split:]
        few = own >= split
        dense[b, own[~few], e.row[~few], e.column[~few]] = e.value[~few]
        dense[b, own[~few], e.column[~few], e.row[~few]] = e.value[~few]
        order = np.argsort(own[few], kind="stable")
        at, first = np.unique(own[few][order], return_index=True)
        slot = np.arange(order.size) - np.repeat(first, np.diff(np.append(first, order.size)))
        row, column, value = (v[few][order] for v in (e.row, e.column, e.value))
        rows[b, own[few][order] - split, slot] = row
        columns[b, own[few][order] - split, slot] = column
        values[b, own[few][order] - split, slot] = np.where(row == column, value / 2, value)
    width = int(max([1, *(counts[split + narrow :].max(initial=0) for _, counts, split in sorted_ids)]))
    cores = np.zeros((count, narrow, supports.shape[1], supports.shape[1]), dtype)
    if narrow:
        # places of the entries in the supports; twice the half of the value on the diagonal
        own = np.arange(narrow)[:, None]
        places = [np.argmax(supports[:, None] == v[0, :narrow, :, None], -1) for v in (rows, columns)]
        for row, column in (places, places[::-1]):
            np.add.at(cores[0], (own, row, column), values[0, :narrow])
    return MatrixBlocks(
        F0=F0,
        **{
            name: jnp.asarray(value)
            for name, value in {
                "dense_ids": dense_ids,
                "dense": dense,
                "sparse_ids": sparse_ids,
                "rows": rows,
                "columns": columns,
                "values": values,
                "supports": np.broadcast_to(supports, (count, *supports.shape)),
                "cores": cores,
            }.items()
        },
        n=n,
        width=width,
    )


def _narrowed(entries: Entries, ids, order, split: int, side: int) -> tuple:
    """Those of the first `split` constraints that are narrow behind the others: the new order and split, how many there
    are, and their rows, (narrow, most rows), filled up with rows that they do not have."""
    used = np.zeros((ids.size, side), bool)
    own = np.searchsorted(ids, entries.constraint)
    used[own, entries.row] = used[own, entries.column] = True
    few = used[order[:split]].sum(1) <= NARROW * side
    if 2 * ids.size * np.bincount(own).max(initial=0) * GATHER > side**3 * PRODUCT:  # too much to read
        few[:] = False
    dense, narrow = order[:split][~few], order[:split][few]
    most = int(used[narrow].sum(1).max(initial=0))
    supports = np.argsort(~used[narrow], 1, kind="stable")[:, :most].astype(np.int32)
    return np.concatenate([dense, narrow, order[split:]]), dense.size, narrow.size, supports


def traced_blocks(F0: jax.Array, matrices: list[jax.Array], n: int, dtype) -> MatrixBlocks:
    """Blocks of one side from all their constraint matrices, (n, side, side) each, whose zeros are not known."""
    count = F0.shape[0]
    nothing = jnp.zeros((count, 0, 1), np.int32)
    return MatrixBlocks(
        F0=F0,
        dense_ids=jnp.tile(jnp.arange(n, dtype=np.int32), (count, 1)),
        dense=jnp.stack(matrices).astype(dtype),
        sparse_ids=nothing[:, :, 0],
        rows=nothing,
        columns=nothing,
        values=jnp.zeros((count, 0, 1), dtype),
        supports=nothing,
        cores=jnp.zeros((count, 0, 1, 1), dtype),
        n=n,
        width=1,
    )
