"""Linear matrix inequalities of control: `common_lyapunov` and `h_infinity_norm`."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.options import Options
from convexjax.problems.arguments import floating, require_shape
from convexjax.problems.sdp import solve_sdp
from convexjax.solution import Solution


def _basis(k: int) -> np.ndarray:
    """Symmetric matrices E_i with P = sum p_i E_i, p the upper triangle of P row by row."""
    rows, columns = np.triu_indices(k)
    E = np.zeros((rows.size, k, k))
    E[np.arange(rows.size), rows, columns] = E[np.arange(rows.size), columns, rows] = 1
    return E


def common_lyapunov(systems: ArrayLike, *, options: Options | None = None) -> Solution:
    """A quadratic function x'Px that decreases along all of several linear systems dx/dt = A_i x, and so under every
    switching between them:

        minimise   trace P     subject to   A_i'P + P A_i <= -I,  P psd

    `x` is P. PRIMAL_INFEASIBLE proves that there is none.

    Arguments:
        systems: (N, k, k), or (k, k) for one.

    Source: Boyd, El Ghaoui, Feron and Balakrishnan, "Linear matrix inequalities in system and control theory", 1994.

    >>> import convexjax as cj
    >>> print(cj.relaxations.common_lyapunov([[[-1.0, 0.0], [0.0, -2.0]]]).x.round(3) + 0.0)
    [[0.5  0.  ]
     [0.   0.25]]
    """
    (systems,) = floating(systems=systems)
    systems = systems[None] if systems.ndim == 2 else systems
    k = systems.shape[-1] if systems.ndim else 0
    require_shape("systems", systems, (None, k, k), "square matrices")
    E = jnp.asarray(_basis(k), systems.dtype)
    EA = E[None] @ systems[:, None]
    decrease = -(EA + jnp.swapaxes(EA, -1, -2))  # (N, n, k, k)
    first = jnp.broadcast_to(-jnp.eye(k, dtype=E.dtype), (systems.shape[0], 1, k, k))
    blocks = [*jnp.concatenate([first, decrease], 1), jnp.concatenate([jnp.zeros((1, k, k), E.dtype), E])]
    found = solve_sdp(c=jnp.trace(E, axis1=1, axis2=2), F=blocks, options=options)
    P = jnp.tensordot(found.x, E, 1)
    return Solution(x=P, s=found.s, z=found.z, objective=found.objective, status=found.status, info=found.info)


def h_infinity_norm(
    A: ArrayLike, B: ArrayLike, C: ArrayLike, D: ArrayLike | None = None, *, options: Options | None = None
) -> Solution:
    """The largest gain of a stable linear system dx/dt = A x + B u, y = C x + D u over all frequencies, by the bounded
    real lemma:

        minimise   gamma^2   subject to   [A'P + P A + C'C,  P B + C'D;  B'P + D'C,  D'D - gamma^2 I] <= 0,   P psd

    `objective` is gamma^2, `x` is P. PRIMAL_INFEASIBLE: A is not stable.

    Arguments:
        A: (k, k), B: (k, m), C: (p, k), and D: (p, m), zero if None.

    Source: Boyd, El Ghaoui, Feron and Balakrishnan, "Linear matrix inequalities in system and control theory", 1994.

    The gain of 1 / (s + 2) is 1/2:

    >>> import convexjax as cj
    >>> print(round(float(cj.relaxations.h_infinity_norm([[-2.0]], [[1.0]], [[1.0]]).objective) ** 0.5, 3))
    0.5
    """
    A, B, C, D = floating(A=A, B=B, C=C, D=D)
    k = A.shape[-1] if A.ndim else 0
    require_shape("A", A, (k, k), "a square matrix")
    require_shape("B", B, (k, None), "one row per state")
    require_shape("C", C, (None, k), "one column per state")
    m, p = B.shape[1], C.shape[0]
    D = jnp.zeros((p, m), A.dtype) if D is None else D
    require_shape("D", D, (p, m), "one row per output and one column per input")
    E = jnp.asarray(_basis(k), A.dtype)
    zeros, state = jnp.zeros((1, k, k), A.dtype), E @ A
    CD = jnp.concatenate([C, D], 1)
    of_P = jnp.concatenate(
        [
            jnp.concatenate([state + jnp.swapaxes(state, 1, 2), E @ B], 2),
            jnp.concatenate([jnp.swapaxes(E @ B, 1, 2), jnp.zeros((E.shape[0], m, m), A.dtype)], 2),
        ],
        1,
    )
    of_gamma = jnp.diag(jnp.concatenate([jnp.zeros(k, A.dtype), jnp.ones(m, A.dtype)]))
    gain = jnp.concatenate([-(CD.T @ CD)[None], of_gamma[None], -of_P])
    positive = jnp.concatenate([zeros, zeros, E])
    c = jnp.zeros(1 + E.shape[0], A.dtype).at[0].set(1)
    found = solve_sdp(c=c, F=[gain, positive], options=options)
    P = jnp.tensordot(found.x[1:], E, 1)
    return Solution(x=P, s=found.s, z=found.z, objective=found.objective, status=found.status, info=found.info)
