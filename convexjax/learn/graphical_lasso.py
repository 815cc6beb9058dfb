"""The graphical lasso: inverse covariance matrices with many zeros, and a proof of how close to the optimum they are.

    minimise   f(X) = trace(S X) - log det X + sum_ij Lambda_ij |X_ij|                                             (1)

A Newton method on the entries that are not zero, or are about to become so (Oztoprak, Nocedal, Rennie and Olsen,
"Newton-like methods for sparse inverse covariance estimation", 2012). With W = X^-1 the gradient of the smooth part is
G = S - W and its Hessian D -> W D W, so that a step of the method of conjugate gradients is two matrix products. Signs
do not change in a step: what would change sign becomes zero. Where that does not lead down, a proximal gradient step
does.

The dual of (1) is to maximise log det W + p over |W - S| <= Lambda, and the inverse of X, moved into this box, is what
proves the answer.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax.linalg import triangular_solve
from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.linear_algebra import vary_like
from convexjax.options import DEFAULT_TOLERANCES
from convexjax.problems.arguments import floating, require_shape, symmetric
from convexjax.solution import Status

__all__ = ["InverseCovariance", "fit"]

# Most steps of conjugate gradients for a direction, and for a derivative.
DIRECTION_STEPS, DERIVATIVE_STEPS = 60, 1000
# Halvings of a Newton step, and then of a proximal gradient step, until one leads down.
NEWTON_TRIALS, GRADIENT_TRIALS = 4, 30


class InverseCovariance(NamedTuple):
    """An inverse covariance matrix and the proof of it."""

    precision: jax.Array  # (p, p), X
    covariance: jax.Array  # (p, p), X^-1
    objective: jax.Array  # of (1)
    gap: jax.Array  # duality gap relative to the objective or one: no X has an objective lower by more
    status: jax.Array
    num_iters: jax.Array


def fit(
    S: ArrayLike, penalty: ArrayLike, *, tolerance: float | jax.Array | None = None, max_iters: int = 500
) -> InverseCovariance:
    """The sparse inverse of a covariance matrix:

        minimise   trace(S X) - log det X + sum_ij Lambda_ij |X_ij|     over positive definite X

    Arguments:
        S: (p, p), symmetric positive semidefinite, usually the covariance matrix of samples; p > their number is fine.
        penalty: a number, the penalty of all entries off the diagonal, or Lambda (p, p), symmetric. Nonnegative.
        tolerance: of the duality gap, relative to the objective or one. None: 1e-8 (float32: 1e-5).
        max_iters: most Newton steps.

    Returns:
        `InverseCovariance`. SOLVED if the gap is at most `tolerance`; DUAL_INFEASIBLE if the objective is unbounded
        below because a diagonal entry of S + Lambda is not positive; else MAX_ITERATIONS or NUMERICAL_ERROR, as for
        penalties so small that X is nearly singular. Derivatives of X and of the objective in S and Lambda are those
        for the zeros found.

    Raises:
        ValueError: shapes that do not fit; S not symmetric or a negative penalty, if their numbers are known.
        TypeError: data that are not real numbers.

    Source: Friedman, Hastie and Tibshirani, "Sparse inverse covariance estimation with the graphical lasso", 2008.

    >>> import numpy as np
    >>> from convexjax import learn
    >>> S = np.array([[1.0, 0.5, 0.1], [0.5, 1.0, 0.05], [0.1, 0.05, 1.0]])
    >>> print(np.asarray(learn.graphical_lasso.fit(S, 0.2).precision).round(3) + 0.0)
    [[ 1.099 -0.33   0.   ]
     [-0.33   1.099  0.   ]
     [ 0.     0.     1.   ]]
    """
    S, penalty, given = floating(S=S, penalty=penalty, tolerance=tolerance)
    p = S.shape[-1] if S.ndim else 0
    require_shape("S", S, (p, p), "a square matrix")
    if penalty.ndim:
        require_shape("penalty", penalty, (p, p), "a number, or one for each entry of S")
    _require_good(S, penalty)
    dtype = S.dtype
    tolerance = jnp.asarray(DEFAULT_TOLERANCES[dtype.name][0] if given is None else given, dtype)
    return _fit(S, penalty.astype(dtype), tolerance, jnp.asarray(max_iters, jnp.int32))


def _require_good(S, penalty):
    """What is known already and cannot be right."""
    known = lambda value: None if isinstance(value, jax.core.Tracer) else np.asarray(value)
    if (matrix := known(S)) is not None:
        asymmetry, largest = np.abs(matrix - matrix.T).max(initial=0), np.abs(matrix).max(initial=0)
        if asymmetry > 100 * np.finfo(matrix.dtype).eps ** 0.75 * largest:
            raise ValueError(f"S is not symmetric: its largest asymmetry is {asymmetry:.3g}; pass (S + S.T) / 2.")
    if (numbers := known(penalty)) is not None and np.any(numbers < 0):
        raise ValueError(f"penalty must be nonnegative, got {numbers.min():.3g} as its smallest entry.")


@quick_jit
def _fit(S, penalty, tolerance, max_iters) -> InverseCovariance:
    S, p = symmetric(S), S.shape[-1]
    off = 1 - jnp.eye(p, dtype=S.dtype)
    Lambda = symmetric(penalty) if penalty.ndim else penalty * off
    fixed, data = jax.lax.stop_gradient(((S, Lambda), (tolerance, max_iters)))
    X, W, objective, gap, status, num_iters = _solve(*fixed, *data)
    solved = Status.SOLVED.holds(status)
    # a lane without a solution is cut off from its data on both sides
    keep = lambda value, other: jnp.where(solved, value, other)
    one = jnp.eye(p, dtype=S.dtype)
    S_used, Lambda_used, X_used = keep(S, one), keep(Lambda, jnp.zeros_like(Lambda)), keep(X, one)
    attached = _attach(X_used, S_used, Lambda_used)
    value = _attach_value(objective, attached, S_used, Lambda_used)
    inverse = _attach_inverse(keep(W, one), attached)
    return InverseCovariance(keep(attached, X), keep(inverse, W), keep(value, objective), gap, status, num_iters)


# ----------------------------------------------------------------------------- the method


class State(NamedTuple):
    """What the loop carries; X and W = X^-1 in the units in which S + Lambda has a unit diagonal."""

    X: jax.Array
    W: jax.Array
    value: jax.Array
    gap: jax.Array
    num_iters: jax.Array
    stuck: jax.Array


def _solve(S, Lambda, tolerance, max_iters):
    """X, X^-1, the objective, the relative gap, the status and the number of steps, in the user's units."""
    dtype, p = S.dtype, S.shape[0]
    diagonal = jnp.diagonal(S) + jnp.diagonal(Lambda)
    finite = jnp.all(jnp.isfinite(S)) & jnp.all(jnp.isfinite(Lambda))
    bounded = jnp.all(diagonal > 0)
    usable = finite & bounded & jnp.all(Lambda >= 0)
    one = jnp.eye(p, dtype=dtype)
    d = 1 / jnp.sqrt(jnp.where(usable, diagonal, 1))
    scaled = jnp.where(usable, d[:, None] * S * d, one), jnp.where(usable, d[:, None] * Lambda * d, 0)
    constant = -2 * jnp.sum(jnp.log(d))  # of the objective, for X d d' in the place of X
    relative = lambda gap, value: gap / jnp.maximum(1, jnp.abs(value + constant))

    def iterate(state):
        X, W, value, found = _step(*scaled, state)
        gap = relative(_gap(*scaled, X, W, value), value)
        return State(X, W, value, gap, state.num_iters + 1, ~found)

    value = jnp.sum(jnp.diagonal(scaled[0]) + jnp.diagonal(scaled[1]))
    first = State(one, one, value, relative(_gap(*scaled, one, one, value), value), jnp.int32(0), jnp.array(False))
    unfinished = lambda s: usable & ~(s.gap <= tolerance) & (s.num_iters < max_iters) & ~s.stuck
    state = jax.lax.while_loop(unfinished, iterate, vary_like((scaled, tolerance, max_iters), first))

    X, W = d[:, None] * state.X * d, state.W / d[:, None] / d
    # the claim from the user's own data
    L = jnp.linalg.cholesky(X, symmetrize_input=False)
    value = jnp.sum(S * X) - 2 * jnp.sum(jnp.log(jnp.diagonal(L))) + jnp.sum(Lambda * jnp.abs(X))
    gap = _gap(S, Lambda, X, W, value) / jnp.maximum(1, jnp.abs(value))
    status = jnp.where(
        state.stuck | ~finite | ~jnp.isfinite(gap), jnp.int32(Status.NUMERICAL_ERROR), jnp.int32(Status.MAX_ITERATIONS)
    )
    status = jnp.where(finite & ~bounded, jnp.int32(Status.DUAL_INFEASIBLE), status)
    status = jnp.where(usable & (gap <= 1.01 * tolerance), jnp.int32(Status.SOLVED), status)
    return X, W, jnp.where(finite & ~bounded, -jnp.inf, value), gap, status, state.num_iters


def _gap(S, Lambda, X, W, value):
    """The distance of the objective from the dual value of W, moved into the box; infinite if that is not definite."""
    inside = S + jnp.clip(W - S, -Lambda, Lambda)
    L = jnp.linalg.cholesky(inside, symmetrize_input=False)
    dual = 2 * jnp.sum(jnp.log(jnp.diagonal(L))) + X.shape[0]
    return jnp.where(jnp.isfinite(dual), jnp.maximum(value - dual, 0), jnp.inf)


def _step(S, Lambda, state: State):
    """One step: the new X, X^-1 and objective, and whether there was one that leads down."""
    X, W = state.X, state.W
    G = S - W
    signs = jnp.where(X != 0, jnp.sign(X), jnp.where(jnp.abs(G) > Lambda, -jnp.sign(G), 0))
    free = (X != 0) | (jnp.abs(G) > Lambda)
    slope = jnp.where(free, G + Lambda * signs, 0)
    curvature = jnp.diagonal(W)[:, None] * jnp.diagonal(W) + W**2
    size = jnp.sqrt(jnp.sum(slope**2))
    accuracy = jnp.clip(jnp.sqrt(size), jnp.finfo(X.dtype).eps, 0.1) * 0.5
    D, _ = _conjugate_gradients(W, free, -slope, accuracy, DIRECTION_STEPS)

    def candidate(trial):
        t = 0.5 ** trial.astype(X.dtype)
        newton = X + t * D
        newton = jnp.where(newton * signs > 0, newton, 0)
        tau = 0.5 ** (trial - NEWTON_TRIALS).astype(X.dtype)
        moved = X - tau * G / curvature
        gradient = jnp.sign(moved) * jnp.maximum(jnp.abs(moved) - tau * Lambda / curvature, 0)
        # without a penalty there is no sign to keep
        newton = jnp.where(Lambda > 0, newton, X + t * D)
        return jnp.where(trial < NEWTON_TRIALS, newton, gradient)

    def attempt(carry):
        trial, *_ = carry
        new = candidate(trial)
        L = jnp.linalg.cholesky(new, symmetrize_input=False)
        value = jnp.sum(S * new) - 2 * jnp.sum(jnp.log(jnp.diagonal(L))) + jnp.sum(Lambda * jnp.abs(new))
        # of the linear model along the way; its rounding errors must not stop the last steps
        wanted = 1e-4 * jnp.minimum(jnp.sum(slope * (new - X)), 0)
        rounding = 10 * jnp.finfo(X.dtype).eps * jnp.maximum(1, jnp.abs(state.value)) * X.shape[0] ** 0.5
        return trial + 1, new, L, value, value <= state.value + wanted + rounding

    begin = jnp.int32(0), X, X, state.value, jnp.array(False)
    unfinished = lambda carry: ~carry[4] & (carry[0] < NEWTON_TRIALS + GRADIENT_TRIALS)
    _, new, L, value, found = jax.lax.while_loop(unfinished, attempt, vary_like((S, Lambda, state), begin))
    new, value = jnp.where(found, new, X), jnp.where(found, value, state.value)
    inverse = triangular_solve(L, jnp.eye(X.shape[0], dtype=X.dtype), left_side=True, lower=True)
    return new, jnp.where(found, inverse.T @ inverse, W), value, found


def _conjugate_gradients(W, free, right, accuracy, most):
    """D, zero but where it is `free`, with W D W = right there, to an accuracy relative to the right-hand side."""
    scale = jnp.where(free, 1 / (jnp.diagonal(W)[:, None] * jnp.diagonal(W) + W**2), 0)
    inner = lambda A, B: jnp.sum(A * B)
    first = inner(right, scale * right)

    def step(carry):
        count, D, r, P, rho = carry
        H = jnp.where(free, W @ P @ W, 0)
        bent = inner(P, H)
        alpha = jnp.where(bent > 0, rho / jnp.where(bent > 0, bent, 1), 0)
        D, r = D + alpha * P, r - alpha * H
        new = inner(r, scale * r)
        return count + 1, D, r, scale * r + new / jnp.where(rho > 0, rho, 1) * P, new

    begin = jnp.int32(0), jnp.zeros_like(right), right, scale * right, first
    going = lambda carry: (carry[0] < most) & (carry[4] > accuracy**2 * first)
    count, D, *_ = jax.lax.while_loop(going, step, vary_like((W, free, right, accuracy), begin))
    return (D + D.T) / 2, count


# ----------------------------------------------------------------------------- derivatives


@jax.custom_jvp
def _attach(X, S, Lambda):
    """The minimiser as a function of the data: where X is not zero, S - X^-1 + Lambda sign X = 0."""
    return X


@_attach.defjvp
def _(primals, tangents):
    (X, S, Lambda), (_, dS, dLambda) = primals, tangents
    free, signs = X != 0, jnp.sign(X)
    fixed = jnp.linalg.inv(jax.lax.stop_gradient(X))
    W = _attach_inverse(fixed, _attach(X, S, Lambda))
    change = jnp.where(free, symmetric(dS) + symmetric(dLambda) * signs, 0)
    accuracy = jnp.asarray(10 * jnp.finfo(X.dtype).eps, X.dtype)
    found = jax.lax.custom_linear_solve(
        lambda D: jnp.where(free, W @ D @ W, 0),
        -change,
        lambda _, right: _conjugate_gradients(fixed, free, right, accuracy, DERIVATIVE_STEPS)[0],
        symmetric=True,
    )
    return _attach(X, S, Lambda), found


@jax.custom_jvp
def _attach_value(objective, X, S, Lambda):
    """The optimal value as a function of the data (envelope theorem)."""
    return objective


@_attach_value.defjvp
def _(primals, tangents):
    (objective, X, S, Lambda), (_, _, dS, dLambda) = primals, tangents
    return _attach_value(objective, X, S, Lambda), jnp.sum(dS * X) + jnp.sum(dLambda * jnp.abs(X))


@jax.custom_jvp
def _attach_inverse(W, X):
    """W = X^-1 as a function of X."""
    return W


@_attach_inverse.defjvp
def _(primals, tangents):
    (W, X), (_, dX) = primals, tangents
    W = _attach_inverse(W, X)
    return W, -W @ dX @ W
