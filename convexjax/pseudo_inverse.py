"""Least-squares solutions of smallest norm, and their derivatives, by direct factorisations.

With W = diag(w) and H = A'WA everything here is

    x = H^+ (A'W f + g),        H^+ = Y Y',    H^+ A'W^(1/2) = Y Q',        Y (n, k), Q (m, k), k = min(m, n),   (1)

with Q orthonormal on the columns where Y is not zero. Three ways to Y and Q, each taken where the one before it is not
good enough:

- Cholesky: H = R'R, Y = R^-1, and Q = A Y is never formed. Its error of cond^2 eps is removed by corrections with the
  residual (corrected seminormal equations; Bjorck, "Numerical Methods for Least Squares Problems", 1996, 2.9.3). For a
  large, well conditioned matrix of float64 R is computed in float32 first.
- Householder: A = Q R, Y = R^-1; with more columns than rows A' = V R, Y = V R^-T.
- Singular values, small ones cut off.

Columns (rows, if there are fewer) are scaled by powers of two to about the same length before the rank is decided, so
that it does not depend on the units of the variables; the solution of smallest norm is that of the user's variables.

At constant rank x is the solution of a regular system in which N = I - H^+H, the projection onto the null space, makes
up for the rank that is missing,

    r + A x = f,    A'W r - N x = -g,    H^+ (A'W f + g) = x - N g,                                                (2)

and N has the derivative (Golub and Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares
problems whose variables separate", 1973)

    dN = -S - S',    S = H^+ A'W dA N.                                                                             (3)
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from convexjax.double_double import minus_product
from convexjax.gram import BLOCK_ROWS, LARGE, correlations, gram
from convexjax.linear_algebra import vary_like

# Most entries of A times columns of b for which residuals are computed in doubled precision.
COMPENSATED = 30_000_000
# Most corrections of a solution.
CORRECTIONS = 10


class Factor(NamedTuple):
    """Y and Q of (1), N of (2), all without derivatives. If `implicit`, Q stands for W^(1/2) A Y."""

    Y: jax.Array
    Q: jax.Array
    N: jax.Array
    implicit: jax.Array  # bool
    rank: jax.Array  # int32


# ----------------------------------------------------------------------------- derivatives


@jax.custom_jvp
def attach(A, w: jax.Array | None, b: jax.Array, x: jax.Array, method: jax.Array, rcond: jax.Array, usable: jax.Array):
    """The solution x of `min |W^(1/2)(Ax - b)|`, which `solve` has found, as a function of A, w and b: x itself, with
    derivatives of any order. `method` is the first way to try. Where A is not usable it counts as zero."""
    return x


@attach.defjvp
def _attach_jvp(primals, tangents):
    (A, w, b, x, method, rcond, usable), (dA, dw, db, *_) = primals, tangents
    A = jnp.where(usable, A, 0)
    data = jax.lax.stop_gradient((A, w))
    factor = factorise(*data, method, rcond)
    root = None if w is None else jnp.sqrt(data[1])[:, None]
    N = null_projection(A, w, factor, root)
    x = attach(A, w, b, x, method, rcond, usable)
    r = b - A @ x
    g = dA.T @ r if w is None else dA.T @ (w[:, None] * r) + A.T @ (dw[:, None] * r)
    # -dN x, without dN; all terms outside of `lax.cond`, whose operands under vmap cannot be transposed
    Ap = A @ apply(A, w, factor, root, N, jnp.zeros_like(b), x)
    Ap = Ap if w is None else w[:, None] * Ap
    g = g + apply(A, w, factor, root, N, dA @ (N @ x), jnp.zeros_like(x)) + N @ (dA.T @ Ap)
    return x, apply(A, w, factor, root, N, db - dA @ x, g)


def apply(A, w, factor: Factor, root, N: jax.Array, f: jax.Array, g: jax.Array) -> jax.Array:
    """x of (2) for f (m, q) and g (n, q), differentiable in A, w, N, f and g; `root` is W^(1/2), which at zero has no
    derivative."""
    m = A.shape[0]
    Y, Q, _, implicit, _ = factor
    weigh = lambda v: v if w is None else w[:, None] * v

    def along_Q(v):
        """Q'v."""
        weighted = A if root is None else root * A
        return jax.lax.cond(implicit, lambda v: Y.T @ (weighted.T @ v), lambda v: Q.T @ v, v)

    def matvec(z):
        r, x = z[:m], z[m:]
        return jnp.concatenate([r + A @ x, A.T @ weigh(r) - N @ x])

    def solve(_, u):
        f, e = u[:m], u[m:]
        x = Y @ (along_Q(f if root is None else root * f) - Y.T @ e)
        # one correction: the error of the Cholesky factor is squared
        x = x + jnp.where(implicit, Y @ (Y.T @ (A.T @ weigh(f - A @ x) - e)), 0)
        x = x - N @ e
        return jnp.concatenate([f - A @ x, x])

    def solve_transposed(_, c):
        # r + W A x = f, A'r - N x = e
        f, e = c[:m], c[m:]
        if root is None:
            t = along_Q(f)
        else:
            positive = root > 0
            t = along_Q(jnp.where(positive, f / jnp.where(positive, root, 1), 0))
            t = t + Y.T @ (A.T @ jnp.where(positive, 0, f))
        x = Y @ (t - Y.T @ e)
        x = x + jnp.where(implicit, Y @ (Y.T @ (A.T @ (f - weigh(A @ x)) - e)), 0)
        x = x - N @ e
        return jnp.concatenate([f - weigh(A @ x), x])

    # one array: JAX transposes a linear solve only if all parts of its right-hand side are to be differentiated
    right = jnp.concatenate([f, -g])
    return jax.lax.custom_linear_solve(matvec, right, solve, solve_transposed)[m:]


@jax.custom_jvp
def null_projection(A: jax.Array, w: jax.Array | None, factor: Factor, root: jax.Array | None) -> jax.Array:
    """N as a function of A and w."""
    return factor.N


@null_projection.defjvp
def _null_projection_jvp(primals, tangents):
    A, w, factor, root = primals
    N = null_projection(A, w, factor, root)
    S = apply(A, w, factor, root, N, tangents[0] @ N, jnp.zeros_like(N))
    return N, -(S + S.T)


# ----------------------------------------------------------------------------- factorisations


# The ways, in the order in which they are tried.
CHOLESKY, QR, SVD = range(3)


def factorise(A: jax.Array, w: jax.Array | None, method: jax.Array, rcond: jax.Array) -> Factor:
    """Y and Q, by the first way from `method` on that is good enough."""
    m, n = A.shape
    if w is not None:
        A = jnp.sqrt(w)[:, None] * A
    k = min(m, n)
    Y, Q, N = (jnp.zeros(shape, A.dtype) for shape in ((n, k), (m, k), (n, n)))
    zeros = Factor(Y, Q, N, jnp.array(False), jnp.int32(0))
    found = vary_like((A, method), (jnp.array(False), zeros))
    if m >= n:
        found = _unless_done(found, method <= CHOLESKY, lambda: _by_cholesky(A))
    found = _unless_done(found, method <= QR, lambda: _by_qr(A, rcond))
    return _unless_done(found, True, lambda: (True, _by_svd(A, rcond)))[1]


def _unless_done(state, wanted, attempt):
    """The attempt (done, value), unless the state is done or it is not wanted. A loop of at most one round is what
    `vmap` skips if no lane needs it."""
    done, value = state

    def once(state):
        _, _, value = state
        good, new = attempt()
        return jnp.array(True), jnp.asarray(good), jax.tree.map(lambda a, b: jnp.where(good, a, b), new, value)

    start = vary_like(state, (done | ~jnp.asarray(wanted), done, value))
    _, done, value = jax.lax.while_loop(lambda state: ~state[0], once, start)
    return done, value


def powers_of_two(lengths: jax.Array) -> jax.Array:
    """Reciprocals of the lengths, rounded to powers of two, for scaling without rounding errors; 1 for zero."""
    _, exponent = jnp.frexp(jnp.where(lengths > 0, lengths, 1))
    return jnp.where(lengths > 0, jnp.ldexp(jnp.ones_like(lengths), -exponent), 1)


def _by_cholesky(A: jax.Array) -> tuple[jax.Array, Factor]:
    m, n = A.shape
    H, _, _ = gram(A, jnp.zeros((m, 0), A.dtype), None)
    R, scale, condition = cholesky(H)
    Y = scale[:, None] * jax.scipy.linalg.solve_triangular(R, jnp.eye(n, dtype=A.dtype))
    good = condition < trusted_condition(A.dtype)
    zeros = lambda rows: jnp.zeros((rows, n), A.dtype)
    return good, Factor(jnp.where(good, Y, 0), zeros(m), zeros(n), jnp.array(True), jnp.int32(n))


def cholesky(H: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(R, scale, condition): R'R is H with rows and columns scaled, `condition` an estimate of that of R."""
    scale = powers_of_two(jnp.sqrt(jnp.diagonal(H)))
    scaled = scale[:, None] * H * scale
    R = jnp.linalg.cholesky(scaled, symmetrize_input=False).T
    return R, scale, condition_of(R)


def trusted_condition(dtype) -> float:
    """Where corrections of a solution by a Cholesky factor gain a third of all digits each."""
    return float(jnp.finfo(dtype).eps) ** (-1 / 3)


def condition_of(R: jax.Array) -> jax.Array:
    """Estimate of the condition number of a triangular matrix by power iterations, from below; infinite or NaN for a
    singular one."""
    n = R.shape[0]
    if n == 0:
        return jnp.ones((), R.dtype)
    # a start that is no eigenvector of anything special
    start = vary_like(R, 1 + 0.3 * jnp.sin(1.7 * jnp.arange(1, n + 1, dtype=R.dtype)))
    solve = lambda v, trans: jax.scipy.linalg.solve_triangular(R, v, trans=trans)

    def step(_, state):
        (v, _), (u, _) = state
        v = R.T @ (R @ v)
        u = solve(solve(u, 1), 0)
        largest, smallest = jnp.linalg.norm(v), jnp.linalg.norm(u)
        return (v / largest, largest), (u / smallest, smallest)

    unit = start / jnp.linalg.norm(start)
    one = vary_like(R, jnp.ones((), R.dtype))
    (_, largest), (_, inverse) = jax.lax.fori_loop(0, 6, step, ((unit, one), (unit, one)))
    return jnp.sqrt(largest * inverse)


def _by_qr(A: jax.Array, rcond: jax.Array) -> tuple[jax.Array, Factor]:
    m, n = A.shape
    rank, implicit = jnp.int32(min(m, n)), jnp.array(False)
    if m >= n:
        scale = powers_of_two(jnp.linalg.norm(A, axis=0))
        Q, R = jnp.linalg.qr(A * scale)
        Y = scale[:, None] * jax.scipy.linalg.solve_triangular(R, jnp.eye(n, dtype=A.dtype))
        N = jnp.zeros((n, n), A.dtype)
    else:
        scale = powers_of_two(jnp.linalg.norm(A, axis=1))
        V, R = jnp.linalg.qr((A * scale[:, None]).T)
        Y = jax.scipy.linalg.solve_triangular(R, V.T).T * scale
        Q = jnp.eye(m, dtype=A.dtype)
        N = jnp.eye(n, dtype=A.dtype) - V @ V.T
    good = condition_of(R) * rcond < 1
    return good, Factor(jnp.where(good, Y, 0), Q, N, implicit, rank)


def _by_svd(A: jax.Array, rcond: jax.Array) -> Factor:
    m, n = A.shape
    if 0 in (m, n):
        Y, Q = (jnp.zeros((rows, 0), A.dtype) for rows in (n, m))
        return Factor(Y, Q, jnp.eye(n, dtype=A.dtype), jnp.array(False), jnp.int32(0))
    scale = powers_of_two(jnp.linalg.norm(A, axis=0))
    scaled = A * scale
    if m > n:
        Q, R = jnp.linalg.qr(scaled)
        U, s, Vt = jnp.linalg.svd(R, full_matrices=True)
        U = Q @ U
    else:
        U, s, Vt = jnp.linalg.svd(scaled, full_matrices=True)
    k = s.shape[0]
    kept = s > rcond * jnp.max(s)
    rank = jnp.sum(kept, dtype=jnp.int32)
    Y = scale[:, None] * Vt[:k].T * jnp.where(kept, 1 / jnp.where(kept, s, 1), 0)
    # Out of the null space, which the columns of V that were cut off span, scaled: then x has the smallest norm. They
    # come first, so that as many columns of the orthonormal factor belong to them.
    cut = jnp.flip(jnp.concatenate([~kept, jnp.ones(n - k, bool)]))
    null = jnp.where(cut, jnp.flip(scale[:, None] * Vt.T, 1), 0)
    basis = jnp.where(cut, jnp.linalg.qr(null)[0], 0)
    Y = Y - basis @ (basis.T @ Y)
    return Factor(Y, jnp.where(kept, U[:, :k], 0), basis @ basis.T, jnp.array(False), rank)


# ----------------------------------------------------------------------------- solutions


class Found(NamedTuple):
    """A solution."""

    x: jax.Array  # (n, q)
    residual_sum_of_squares: jax.Array  # (q,), weighted
    rank: jax.Array  # int32
    usable: jax.Array  # bool, whether A is finite (and usable before): else x is zero


def solve(A, w: jax.Array | None, b: jax.Array, method: jax.Array, rcond: jax.Array, usable: jax.Array | bool = True):
    """The solution of smallest norm of `min |W^(1/2)(Ax - b)|`, to all digits that A and b determine, by the first way
    from `method` on that is good enough. Not to be differentiated: see `attach`."""
    (m, n), q = A.shape, b.shape[1]
    zeros = lambda *shape: jnp.zeros(shape, A.dtype)
    nothing = Found(zeros(n, q), zeros(q), jnp.int32(0), jnp.array(True))
    unusable = ~jnp.asarray(usable)
    found = vary_like((A, b, method), (unusable, nothing._replace(usable=~unusable)))
    if m >= n:
        # what a Cholesky factor finds is finite only if A is: no pass over A is needed to see that
        if A.size >= LARGE and A.dtype == jnp.float64:
            found = _unless_done(found, method <= CHOLESKY, lambda: _solve_by_cholesky(A, w, b, True))
        found = _unless_done(found, method <= CHOLESKY, lambda: _solve_by_cholesky(A, w, b, False))
    found = _unless_done(found, True, lambda: _if_infinite(A, nothing))

    def by_orthogonal_factor():
        root = None if w is None else jnp.sqrt(w)[:, None]
        factor = factorise(A, w, jnp.maximum(method, QR), rcond)
        weigh = lambda M: M if root is None else root * M
        x = _correct(weigh(A), weigh(b), factor)
        return True, Found(x, sum_of_squares(A, w, b, x), factor.rank, jnp.array(True))

    return _unless_done(found, True, by_orthogonal_factor)[1]


def _if_infinite(A, nothing: Found):
    finite = jnp.all(jnp.isfinite(A))
    return ~finite, nothing._replace(usable=finite)


def sum_of_squares(A, w: jax.Array | None, b: jax.Array, x: jax.Array) -> jax.Array:
    """|W^(1/2)(Ax - b)|^2 by columns."""
    r = b - A @ x
    return jnp.sum(r * r if w is None else w[:, None] * r * r, 0)


@jax.custom_jvp
def attach_sum_of_squares(A, w: jax.Array | None, b: jax.Array, x: jax.Array, value: jax.Array, usable: jax.Array):
    """`value` as `sum_of_squares`, whose value it is, so that it costs a pass over A in derivatives only. Where A is
    not usable it counts as zero."""
    return value


@attach_sum_of_squares.defjvp
def _attach_sum_of_squares_jvp(primals, tangents):
    A, w, b, x, _, usable = primals
    data = jnp.where(usable, A, 0), w, b, x
    return attach_sum_of_squares(*primals), jax.jvp(sum_of_squares, data, tangents[:4])[1]


def _solve_by_cholesky(A, w, b, single: bool):
    """The corrected solution of the normal equations, good if the bound of its relative error, with theta the angle
    between b and the range of A, eps cond (1 + cond tan theta), is. That bound is one of the residuals in the
    corrections; a factor in single precision, which takes half the time, has to be corrected more often."""
    m, n = A.shape
    eps = jnp.finfo(A.dtype).eps
    working = jnp.float32 if single else A.dtype
    unit = powers_of_two(jnp.max(jnp.abs(b), 0, initial=0)) if single else jnp.ones(b.shape[1], b.dtype)
    b = b * unit
    # of the first rows, so that single precision overflows only if they are of another size than the others
    units = powers_of_two(jnp.max(jnp.abs(A[:BLOCK_ROWS]), 0, initial=0)) if single else jnp.ones(n, A.dtype)
    H, Ab, bb = gram(A, b, w, units if single else None)
    R, scale, condition = cholesky(H.astype(working))
    R, scale = R.astype(A.dtype), units * scale.astype(A.dtype)
    condition = condition.astype(A.dtype)
    trusted, rate = condition < trusted_condition(working), condition**2 * float(jnp.finfo(working).eps)
    inverse = lambda v: scale[:, None] * jax.scipy.linalg.cho_solve((R, False), scale[:, None] * v)
    x = inverse(Ab)
    largest = jnp.max(jnp.abs(x), 0, initial=0)
    size = lambda v: jnp.max(jnp.where(largest > 0, jnp.abs(v) / jnp.where(largest > 0, largest, 1), 0), initial=0)

    def correct(state):
        rounds, x, _, _ = state
        left, rss = correlations(A, x, b, w)
        dx = inverse(left)
        # that of x + dx: A'WA dx = left
        return rounds + 1, x + dx, size(dx), jnp.maximum(rss - jnp.sum(dx * left, 0), 0)

    def unfinished(state):
        rounds, _, change, _ = state
        # the next change would be smaller by cond^2 eps
        more = (rounds == 0) | ((rounds < CORRECTIONS) & (change * rate > eps) & (change < 0.1))
        return trusted & more

    start = jnp.int32(0), x, jnp.full((), jnp.inf, A.dtype), bb
    _, x, change, rss = jax.lax.while_loop(unfinished, correct, vary_like((A, b), start))
    explained = jnp.maximum(bb - rss, 0)
    tangent = jnp.where(rss > 0, jnp.sqrt(rss / jnp.where(explained > 0, explained, 1)), 0)
    tangent = jnp.where((rss > 0) & (explained == 0), jnp.inf, tangent)
    bound = eps * condition * (1 + condition * jnp.max(tangent, initial=0))
    good = trusted & (bound < eps**0.6) & (change < 0.1) & (change * rate <= 10 * eps)
    return good, Found(x / unit, rss / unit**2, jnp.int32(n), jnp.array(True))


def _correct(A, b, factor):
    """The solution by Q and Y, corrected until it has all its digits: refinement of the system r + Ax = b, A'r = 0
    with residuals in doubled precision (Bjorck, "Iterative refinement of linear least squares solutions", 1967)."""
    Y, Q = factor.Y, factor.Q
    eps = jnp.finfo(A.dtype).eps
    compensated = A.size * b.shape[1] <= COMPENSATED
    subtract = minus_product if compensated else lambda b, A, x: sum(b) - A @ x
    size = lambda v: jnp.linalg.norm(v, axis=0)

    def correct(state):
        rounds, x, r, last, going = state
        f = subtract((b, -r), A, x)
        g = subtract((jnp.zeros_like(x),), A.T, r)
        t = Q.T @ f - Y.T @ g
        dx, dr = Y @ t, f - Q @ t
        change = size(dx)
        # a correction that is not half of the last one is rounding errors
        better = going & (change < 0.5 * last)
        x, r = jnp.where(better, x + dx, x), jnp.where(better, r + dr, r)
        return rounds + 1, x, r, change, better & (change > 0.1 * eps * size(x))

    columns = b.shape[1]
    start = jnp.int32(0), jnp.zeros((A.shape[1], columns), A.dtype), jnp.zeros_like(b)
    start = vary_like((A, b), (*start, jnp.full(columns, jnp.inf, A.dtype), jnp.ones(columns, bool)))
    return jax.lax.while_loop(lambda s: (s[0] < CORRECTIONS) & jnp.any(s[4]), correct, start)[1]


# ----------------------------------------------------------------------------- with equations


@jax.custom_jvp
def attach_constrained(A: jax.Array, w: jax.Array | None, b: jax.Array, C: jax.Array, d: jax.Array, x: jax.Array):
    """The solution x of `min |W^(1/2)(Ax - b)|` subject to Cx = d as a function of the data: with multipliers y it is
    the solution of smallest norm of

        K (x, y) = (A'Wb, d),    K = [A'WA, C'; C, 0].
    """
    return x


@attach_constrained.defjvp
def _attach_constrained_jvp(primals, tangents):
    n = primals[0].shape[1]

    def solution(A, w, b, C, d):
        of_rows = lambda M: M if w is None else w[:, None] * M
        K = jnp.block([[A.T @ of_rows(A), C.T], [C, jnp.zeros((C.shape[0],) * 2, C.dtype)]])
        inverse, N = symmetric_factor(jax.lax.stop_gradient(K))
        return symmetric(K, inverse, null_of_symmetric(K, inverse, N), jnp.concatenate([A.T @ of_rows(b), d]))[:n]

    return attach_constrained(*primals), jax.jvp(solution, primals[:5], tangents[:5])[1]


def symmetric(K: jax.Array, inverse: jax.Array, N: jax.Array, u: jax.Array) -> jax.Array:
    """K^+ u of a symmetric K, `inverse` being K^+ + N without derivatives."""
    solve = lambda _, u: inverse @ u
    return jax.lax.custom_linear_solve(lambda z: K @ z + N @ z, u, solve, symmetric=True) - N @ u


@jax.custom_jvp
def null_of_symmetric(K: jax.Array, inverse: jax.Array, N: jax.Array) -> jax.Array:
    """The projection N onto the null space of a symmetric K as a function of K."""
    return N


@null_of_symmetric.defjvp
def _null_of_symmetric_jvp(primals, tangents):
    K, inverse, N = primals
    N = null_of_symmetric(K, inverse, N)
    S = symmetric(K, inverse, N, tangents[0] @ N)
    return N, -(S + S.T)


def symmetric_factor(K: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(K^+ + N, N)."""
    size, V = jnp.linalg.eigh(K)
    kept = jnp.abs(size) > K.shape[0] * jnp.finfo(K.dtype).eps * jnp.max(jnp.abs(size), initial=0)
    null = jnp.where(kept, V, 0)
    return V / jnp.where(kept, size, 1) @ V.T, jnp.eye(K.shape[0], dtype=K.dtype) - null @ null.T
