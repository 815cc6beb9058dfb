"""Global lower bounds of polynomials by sums of squares, with the minimisers where the bound is attained.

With the vector m(x) of all monomials up to degree d and w(x) = (1 + |x|^2)^r, the largest gamma with

    w(x) (p(x) - gamma) = m(x)'Q m(x),   Q psd                                                                 (1)

is a lower bound of p: the right-hand side is a sum of squares. The dual matrix of (1) is the matrix of the moments
of a measure, and where it is flat its atoms are minimisers (Lasserre, "Global optimization with polynomials and the
problem of moments", 2001; Henrion and Lasserre, "Detecting global optimality and extracting solutions", 2005).
"""

from collections.abc import Mapping
from functools import reduce
from itertools import product
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from convexjax.options import Options
from convexjax.problems.arguments import checked_options
from convexjax.problems.matrix_inequality import Block, matrices_of, program_of
from convexjax.relaxations.graphs import _solve
from convexjax.semidefinite_program import Entries

# Eigenvalues of the moment matrix below this, relative to the largest, count as zero: one after the other is tried.
RANKS = (1e-2, 1e-3, 1e-4, 1e-6)
# A point is a minimiser if its value is this close to the bound, relative to the largest coefficient.
ATTAINED = 1e-6
# Most Newton steps to a minimiser.
NEWTON_STEPS = 20
# Gauss-Newton steps to a certificate, and the most numbers of their Jacobian.
FACTOR_STEPS, MOST_FACTORED = 12, 4_000_000


class PolynomialBound(NamedTuple):
    """A lower bound, its certificate, and minimisers. Where there are some and the certificate allows it, the bound is
    the value at them, and (1) holds to rounding errors."""

    bound: jnp.ndarray  # gamma
    minimisers: np.ndarray  # (number, n), none if none could be read off
    gram: jnp.ndarray  # Q of (1)
    moments: jnp.ndarray  # the dual matrix
    monomials: np.ndarray  # (k, n), exponents of m(x)
    residual: jnp.ndarray  # largest coefficient of the difference of both sides of (1)
    status: jnp.ndarray
    info: Any


def minimize_polynomial(
    coefficients: Mapping[tuple[int, ...], float], *, multiplier: int = 0, options: Options | None = None
) -> PolynomialBound:
    """The greatest lower bound of a polynomial that (1) gives, and points where it is attained. Runs on the host.

    Arguments:
        coefficients: by exponents, `{(2, 0): 1.0, (0, 1): -3.0}` for x^2 - 3 y.
        multiplier: r; larger values give better bounds where r = 0 does not suffice.

    Raises:
        ValueError: exponents of different lengths or negative ones, an odd degree.

    >>> import convexjax as cj
    >>> found = cj.relaxations.minimize_polynomial({(4,): 1.0, (2,): -2.0, (1,): 0.5})
    >>> print(round(float(found.bound), 3), found.minimisers.round(3))
    -1.515 [[-1.057]]
    """
    options = checked_options(options)
    p = {tuple(int(e) for e in exponents): float(value) for exponents, value in coefficients.items()}
    lengths = {len(exponents) for exponents in p}
    if len(lengths) != 1 or min(lengths) == 0 or any(e < 0 for exponents in p for e in exponents):
        raise ValueError(f"coefficients must have exponents >= 0 of one length n >= 1, got lengths {sorted(lengths)}.")
    (n,) = lengths
    degree = max((sum(exponents) for exponents, value in p.items() if value), default=0)
    if degree % 2:
        raise ValueError(f"the polynomial has odd degree {degree}, so it is unbounded below.")
    units = np.eye(n, dtype=int)
    factor = {(0,) * n: 1.0} | {tuple(2 * unit): 1.0 for unit in units}
    w = reduce(_times, [factor] * multiplier, {(0,) * n: 1.0})
    wp = _times(w, p)
    d = max(1, degree // 2 + multiplier)
    monomials = np.array(
        sorted((e for e in product(range(d + 1), repeat=n) if sum(e) <= d), key=lambda e: (sum(e), e[::-1]))
    )

    # (1) by coefficients, gamma = p_0 - Q_00 eliminated
    i, j = np.triu_indices(len(monomials))
    sums = monomials[i] + monomials[j]
    alphas, of_pair = np.unique(sums, axis=0, return_inverse=True)
    of_pair = of_pair.reshape(-1)
    keep = np.asarray(alphas.any(1))
    place = np.cumsum(keep) - 1
    chosen = keep[of_pair]
    constraint, row, column = place[of_pair[chosen]], i[chosen], j[chosen]
    value = np.ones(row.size)
    w_alpha, wp_alpha = (np.array([q.get(tuple(alpha), 0.0) for alpha in alphas[keep].tolist()]) for q in (w, wp))
    at_zero = np.flatnonzero(w_alpha)
    entries = Entries(
        np.concatenate([at_zero, constraint]),
        np.concatenate([np.zeros(at_zero.size, int), row]),
        np.concatenate([np.zeros(at_zero.size, int), column]),
        np.concatenate([-w_alpha[at_zero], value]),
    )
    constant = p.get((0,) * n, 0.0)
    dtype = jnp.result_type(float)
    b = jnp.asarray(wp_alpha - w_alpha * constant, dtype)
    C = jnp.zeros((len(monomials),) * 2, dtype).at[0, 0].set(1)
    block = Block(C, entries)
    program, places = program_of(b, [block])
    answer = _solve(program, options)
    (M,), (Q,) = matrices_of(places, answer.point, [block])
    bound = constant - Q[0, 0]
    minimisers = _minimisers(p, np.asarray(M, float), monomials, float(bound))
    right = np.array([[q.get(tuple(alpha), 0.0) for alpha in alphas.tolist()] for q in (wp, w)])
    if len(minimisers):
        # the value that is attained is the bound, if there is a certificate of it
        value = min(_value(p, x) for x in minimisers)
        data = np.asarray(Q, float), (i, j, of_pair), right[0] - value * right[1]
        sharp = _sharpened(*data, monomials, minimisers)
        sharp = _factored(*data) if sharp is None else sharp
        if sharp is not None:
            bound, Q = jnp.asarray(value, dtype), jnp.asarray(sharp, dtype)
    sums_of_Q = np.bincount(of_pair, np.asarray(Q, float)[i, j] * np.where(i == j, 1, 2), len(alphas))
    residual = jnp.asarray(np.abs(sums_of_Q - right[0] + float(bound) * right[1]).max(), dtype)
    return PolynomialBound(bound, minimisers, Q, M, monomials, residual, answer.status, answer.info)


def _sharpened(Q, pairs, right, monomials, minimisers):
    """The matrix nearest to Q that fulfils (1) to rounding errors with the value at the minimisers as its gamma, if it
    is psd. It must vanish on m(x) for every minimiser x, and what is left of it has room around it (Peyrl and Parrilo,
    "Computing sum of squares decompositions with rational coefficients", 2008)."""
    i, j, of_pair = pairs
    size = np.sqrt(np.maximum(np.diag(Q), 1e-12 * max(1e-300, np.diag(Q).max(initial=0))))
    scale = size[i] * size[j] * np.where(i == j, 1, np.sqrt(0.5))  # of the unknowns, changes relative to the diagonal
    identity = np.zeros((len(right), i.size))
    identity[of_pair, np.arange(i.size)] = np.where(i == j, 1, 2) * scale
    rows = [identity]
    for x in minimisers:
        m = np.prod(x**monomials, 1)
        vanishing = np.zeros((len(m), i.size))
        each = np.arange(i.size)
        vanishing[i, each] += m[j] * scale
        vanishing[j, each] += np.where(i == j, 0, m[i]) * scale
        rows.append(vanishing)
    rows, change = np.concatenate(rows), np.zeros(i.size)
    wanted = np.concatenate([right, np.zeros(len(rows) - len(right))])
    norms = np.maximum(np.linalg.norm(rows, axis=1), 1e-300)
    inverse = np.linalg.pinv(rows / norms[:, None], rcond=1e-12)
    for _ in range(3):  # to rounding errors
        vector = Q[i, j] / scale + change
        change = change + inverse @ ((wanted - rows @ vector) / norms)
    new = np.zeros_like(Q)
    new[i, j] = new[j, i] = Q[i, j] + change * scale
    eigenvalues = np.linalg.eigvalsh(new / size[:, None] / size)
    return new if eigenvalues[0] >= -1e-12 * eigenvalues[-1] else None


def _factored(Q, pairs, right):
    """A matrix L L' near Q that fulfils (1) to rounding errors, if Gauss-Newton steps of least norm on L lead there.
    Unlike `_sharpened` this need not know where all psd solutions of (1) are singular: also where the polynomial grows
    more slowly at infinity, say."""
    i, j, of_pair = pairs
    side = len(Q)
    if len(right) * side**2 > MOST_FACTORED:
        return None
    values, vectors = np.linalg.eigh(Q)
    L = vectors * np.sqrt(np.maximum(values, 0))
    twice = np.where(i == j, 1, 2)
    best, least = None, 1e-12 * np.abs(right).max(initial=0)
    for _ in range(FACTOR_STEPS):
        residual = right - np.bincount(of_pair, twice * (L[i] * L[j]).sum(1), len(right))
        size = np.abs(residual).max(initial=0)
        if size < least:
            best, least = L @ L.T, size
        jacobian = np.zeros((len(right), side, side))
        np.add.at(jacobian, (of_pair, i), twice[:, None] * L[j])
        np.add.at(jacobian, (of_pair, j), twice[:, None] * L[i])
        rows = jacobian.reshape(len(right), -1)
        norms = np.maximum(np.linalg.norm(rows, axis=1), 1e-300)
        L = L + np.linalg.lstsq(rows / norms[:, None], residual / norms, rcond=1e-10)[0].reshape(side, side)
    return best


def _times(p: dict, q: dict) -> dict:
    out: dict[tuple[int, ...], float] = {}
    for (a, u), (b, v) in product(p.items(), q.items()):
        key = tuple(np.add(a, b).tolist())
        out[key] = out.get(key, 0.0) + u * v
    return out


def _value(p: dict, x: np.ndarray) -> float:
    return float(sum(value * np.prod(x ** np.array(exponents)) for exponents, value in p.items()))


def _minimisers(p: dict, M: np.ndarray, monomials: np.ndarray, bound: float) -> np.ndarray:
    """Points with the value of the bound, from the moments: those of low degree first, for what the bound does not
    determine, an interior point leaves large."""
    none = np.zeros((0, monomials.shape[1]))
    allowed = bound + ATTAINED * max([1.0, *map(abs, p.values())])
    if not (np.all(np.isfinite(M)) and np.isfinite(bound)):
        return none
    best = none
    degrees = monomials.sum(1)
    for degree in range(1, degrees.max() + 1):
        few = degrees <= degree
        for tolerance in RANKS:
            atoms = [_polished(p, x) for x in _atoms(M[np.ix_(few, few)], monomials[few], tolerance)]
            good = [x for x in atoms if _value(p, x) <= allowed]
            distinct = [x for i, x in enumerate(good) if all(np.abs(x - y).max() > 1e-4 for y in good[:i])]
            if len(distinct) > len(best):
                best = np.stack(distinct)
    return best


def _polished(p: dict, x: np.ndarray) -> np.ndarray:
    """A few Newton steps from x, as long as they lead down."""
    exponents, values = np.array(list(p)), np.array(list(p.values()))
    units = np.eye(exponents.shape[1], dtype=int)

    def derivative(x, *axes):
        factor, powers = values.copy(), exponents.copy()
        for axis in axes:
            factor, powers = factor * powers[:, axis], np.maximum(powers - units[axis], 0)
        return float(factor @ np.prod(x**powers, 1))

    n = x.size
    for _ in range(NEWTON_STEPS):
        gradient = np.array([derivative(x, i) for i in range(n)])
        hessian = np.array([[derivative(x, i, j) for j in range(n)] for i in range(n)])
        new = x - np.linalg.lstsq(hessian, gradient, rcond=1e-10)[0]
        if not _value(p, new) < _value(p, x):
            break
        x = new
    return x


def _atoms(M: np.ndarray, monomials: np.ndarray, tolerance: float) -> np.ndarray:
    """Points x with M = sum weight m(x) m(x)' to a tolerance, none if M is not flat: from the eigenvectors of the
    multiplications by x_i."""
    n = monomials.shape[1]
    none = np.zeros((0, n))
    values, vectors = np.linalg.eigh(M)
    rank = max(1, int(np.sum(values > tolerance * values[-1])))
    V = vectors[:, -rank:] * np.sqrt(np.maximum(values[-rank:], 0))
    # monomials in increasing order whose rows of V span all rows: a basis of the quotient
    basis: list[int] = []
    for k in range(len(monomials)):
        trial = V[[*basis, k]]
        if np.linalg.matrix_rank(trial, tol=tolerance**0.5 * np.linalg.norm(V, 2)) > len(basis):
            basis.append(k)
        if len(basis) == rank:
            break
    index = {tuple(m): k for k, m in enumerate(monomials.tolist())}
    shifted = [[tuple((monomials[k] + unit).tolist()) for k in basis] for unit in np.eye(n, dtype=int)]
    if len(basis) < rank or any(m not in index for row in shifted for m in row):
        return none
    U = V @ np.linalg.inv(V[basis])
    multiplications = [U[[index[m] for m in row]] for row in shifted]
    weights = np.asarray(np.random.default_rng(0).uniform(1, 2, n))
    mixed = sum(w * N for w, N in zip(weights, multiplications, strict=True))
    _, T = np.linalg.eig(mixed)
    if np.linalg.cond(T) > 1e10:
        return none
    inverse = np.linalg.inv(T)
    return np.stack([np.real(np.diagonal(inverse @ N @ T)) for N in multiplications], 1)
