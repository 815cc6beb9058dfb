"""`solve_mpc`: linear-quadratic optimal control with constraints, as in model predictive control."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from convexjax.compilation import quick_jit
from convexjax.cone_program import is_convex
from convexjax.cones.linear import Nonnegative, Zero
from convexjax.cones.product import ProductCone
from convexjax.options import Options
from convexjax.problems.arguments import (
    checked_options,
    floating,
    require_given,
    require_shape,
    require_together,
    symmetric,
)
from convexjax.pytrees import pytree
from convexjax.solution import Solution
from convexjax.solver import solve
from convexjax.stage_program import StageProgram, StageRows


@pytree
@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """What belongs to the states (T + 1, n) and to the inputs (T, m), in the order of time; None for what is absent."""

    states: Any
    inputs: Any


def solve_mpc(
    A: ArrayLike,
    B: ArrayLike,
    Q: ArrayLike,
    R: ArrayLike,
    initial_state: ArrayLike,
    *,
    horizon: int | None = None,
    S: ArrayLike | None = None,
    q: ArrayLike | None = None,
    r: ArrayLike | None = None,
    c: ArrayLike | None = None,
    Q_terminal: ArrayLike | None = None,
    q_terminal: ArrayLike | None = None,
    x_lb: ArrayLike | None = None,
    x_ub: ArrayLike | None = None,
    u_lb: ArrayLike | None = None,
    u_ub: ArrayLike | None = None,
    G_x: ArrayLike | None = None,
    G_u: ArrayLike | None = None,
    h: ArrayLike | None = None,
    options: Options | None = None,
    warm_start: Solution | None = None,
) -> Solution:
    """Solve a linear-quadratic optimal control problem over T stages, in time linear in T.

        minimise    sum_{t<T} 1/2 x_t'Q_t x_t + u_t'S_t x_t + 1/2 u_t'R_t u_t + q_t'x_t + r_t'u_t
                    + 1/2 x_T'Q_T x_T + q_T'x_T
        subject to  x_0 = initial_state,   x_{t+1} = A_t x_t + B_t u_t + c_t,
                    x_lb <= x_t <= x_ub (t >= 1),   u_lb <= u_t <= u_ub,   G_x x_t + G_u u_t <= h

    Each matrix is given once for all stages, or with one more axis in front for the stages, T entries.

    Arguments:
        A, B, c: (n, n), (n, m) and (n,), the dynamics.
        Q, R, S: (n, n), (m, m) and (m, n). Each [Q S'; S R] positive semidefinite; only the symmetric parts of Q and R
            count. R positive definite is what the method is best at.
        q, r: (n,) and (m,), zero if not given.
        Q_terminal, q_terminal: (n, n) and (n,), the cost of x_T. None: those of the last stage.
        initial_state: (n,).
        horizon: T, needed if no argument says it.
        x_lb, x_ub: scalar, (n,) or (T + 1, n), bounds on the states, without effect on x_0, which is given. Infinite
            entries are no bounds.
        u_lb, u_ub: scalar, (m,) or (T, m), bounds on the inputs. Bounds cost less than the same rows in G.
        G_x, G_u, h: (p, n), (p, m) and (p,), inequalities of the stages t < T; one of the first two may be left out.
            With T + 1 entries of h (and of G_x, or one for all) the last is for the terminal state alone.
        options: see `Options`.
        warm_start: a `Solution` of a similar problem; in a receding horizon `shift_horizon(solution)`.

    Returns:
        `Solution` with `x.states` (T + 1, n) and `x.inputs` (T, m); costates `y` (T + 1, n), y_t the gradient of the
        cost of the rest of the horizon with respect to x_t, so that `y[0]` is that of the objective with respect to
        the initial state; duals of the bounds `z_lb.states`, `z_ub.states` (T + 1, n), `z_lb.inputs`, `z_ub.inputs`
        (T, m); slack `s` and duals `z` (T, p) or (T + 1, p) of the inequalities; None where no such constraint is
        given; `objective`, `status`, `info`. PRIMAL_INFEASIBLE: the duals are the certificate, in the signs
        `y_{t+1}'(A x_t + B u_t + c - x_{t+1}) + y_0'(initial_state - x_0)` of the Lagrangian.

    Raises:
        ValueError: shapes that do not fit, no horizon or more than one.
        TypeError: data that are not real numbers.

    The active set is guessed from the warm start and corrected (`semismooth.py`); what that does not solve is solved
    by the interior point. `info.num_iters` counts the iterations of the one that found the answer. Each iteration
    solves its linear systems by a Riccati recursion (`riccati.py`).

    Sources: Rao, Wright and Rawlings, J. Optim. Theory Appl. 99 (1998); Hintermueller, Ito and Kunisch, SIAM J. Optim.
    13 (2003); Goulart and Chen, arXiv:2405.12762.

    >>> import numpy as np
    >>> import convexjax as cj
    >>> A, B = [[1.0, 1.0], [0.0, 1.0]], [[0.5], [1.0]]
    >>> solution = cj.solve_mpc(A, B, np.eye(2), [[1.0]], [3.0, 0.0], horizon=5, u_lb=-0.5, u_ub=0.5)
    >>> print(np.asarray(solution.x.inputs[:, 0]).round(3))
    [-0.5   -0.5    0.163  0.377  0.211]
    """
    options = checked_options(options)
    require_given(A=A, B=B, Q=Q, R=R, initial_state=initial_state)
    if h is None and (G_x is not None or G_u is not None):
        require_together(**{"G_x or G_u": True, "h": None})
    if h is not None and G_x is None and G_u is None:
        require_together(**{"h": True, "G_x or G_u": None})
    data: dict[str, Any] = dict(A=A, B=B, Q=Q, R=R, S=S, q=q, r=r, c=c, Q_terminal=Q_terminal, q_terminal=q_terminal)
    data |= dict(x_lb=x_lb, x_ub=x_ub, u_lb=u_lb, u_ub=u_ub, G_x=G_x, G_u=G_u, h=h, initial_state=initial_state)
    data = dict(zip(data, floating(**data), strict=True))
    sizes = _checked_shapes(data, horizon)
    guess = None if warm_start is None else _guess(warm_start, data, sizes)
    # the horizon has to be known from a shape
    data["c"] = jnp.broadcast_to(
        jnp.zeros((), data["A"].dtype) if data["c"] is None else data["c"], (sizes["T"], sizes["n"])
    )
    return _solve_mpc(data, options, guess)


def shift_horizon(solution: Solution) -> Solution:
    """The guess for the next step of a receding horizon from the `Solution` of this one, for `warm_start`: everything
    one stage earlier, the last stage twice.

    >>> import numpy as np
    >>> import convexjax as cj
    >>> solution = cj.solve_mpc([[1.0]], [[1.0]], [[1.0]], [[1.0]], [1.0], horizon=4)
    >>> bool(np.all(cj.shift_horizon(solution).x.inputs[:3] == solution.x.inputs[1:]))
    True
    """
    if not isinstance(solution, Solution) or not isinstance(solution.x, Trajectory):
        raise ValueError(f"solution must be a Solution of solve_mpc, got {type(solution).__name__}.")
    if jnp.ndim(solution.x.states) != 2:
        raise ValueError(
            f"solution.x.states has shape {jnp.shape(solution.x.states)}, expected (T + 1, n). "
            "For a batch use jax.vmap."
        )
    shifted = lambda leaf: jnp.concatenate([leaf[1:], leaf[-1:]])
    parts = {name: jax.tree.map(shifted, getattr(solution, name)) for name in ("x", "s", "y", "z", "z_lb", "z_ub")}
    return replace(solution, **parts)


# ----------------------------------------------------------------------------- shapes

# Shape of one stage, and which stages: T for 0 .. T - 1, T + 1 with the terminal one, 0 for arguments without stages.
STAGES = {
    "A": ("nn", "T"),
    "B": ("nm", "T"),
    "Q": ("nn", "T"),
    "R": ("mm", "T"),
    "S": ("mn", "T"),
    "q": ("n", "T"),
    "r": ("m", "T"),
    "c": ("n", "T"),
    "Q_terminal": ("nn", ""),
    "q_terminal": ("n", ""),
    "initial_state": ("n", ""),
    "x_lb": ("n", "T + 1"),
    "x_ub": ("n", "T + 1"),
    "u_lb": ("m", "T"),
    "u_ub": ("m", "T"),
    "G_x": ("pn", "T or T + 1"),
    "G_u": ("pm", "T"),
    "h": ("p", "T or T + 1"),
}


def _checked_shapes(data: dict, horizon: int | None) -> dict[str, int]:
    """The sizes n, m, p and T, and `terminal`, 1 if there are inequalities of the terminal state; `ValueError` if the
    shapes do not fit."""
    if data["A"].ndim not in (2, 3):
        require_shape("A", data["A"], (None, None), "or with one more axis for the stages in front")
    if data["B"].ndim not in (2, 3):
        require_shape("B", data["B"], (None, None), "or with one more axis for the stages in front")
    sizes = {"n": data["A"].shape[-1], "m": data["B"].shape[-1], "p": 0 if data["h"] is None else data["h"].shape[-1:]}
    if data["h"] is not None:
        if data["h"].ndim not in (1, 2):
            require_shape("h", data["h"], (None,), "or with one more axis for the stages in front")
        sizes["p"] = data["h"].shape[-1]
    if horizon is not None and (isinstance(horizon, bool) or not isinstance(horizon, int | np.integer) or horizon < 1):
        raise ValueError(f"horizon must be a Python int >= 1 (it is static), got {horizon!r}.")
    T = None if horizon is None else int(horizon)
    said_by = "horizon"
    for name, (stage, stages) in STAGES.items():
        value = data[name]
        if value is None or stages in ("", "T or T + 1") or value.ndim != len(stage) + 1:
            continue
        length = value.shape[0] - (stages == "T + 1")
        if T is None:
            T, said_by = length, name
        elif length != T:
            raise ValueError(
                f"{name} has shape {value.shape}, that is {length} stages, but {said_by} says {T}; all arguments "
                f"with an axis for the stages must agree ({stages} entries for {name})."
            )
    if T is None and data["h"] is not None and data["h"].ndim == 2:
        T = data["h"].shape[0]
    if T is None:
        raise ValueError("horizon is None and no argument has an axis for the stages; pass horizon=T.")
    if T < 1:
        raise ValueError(f"{said_by} says {T} stages, expected at least 1.")
    sizes |= {"T": T, "terminal": 0}
    for name in ("h", "G_x"):
        value = data[name]
        if value is not None and value.ndim == len(STAGES[name][0]) + 1:
            if value.shape[0] not in (T, T + 1):
                raise ValueError(
                    f"{name} has shape {value.shape}, expected {T} entries for the {T} stages, or {T + 1} with the "
                    "terminal state, along the first axis."
                )
            if name == "h" or value.shape[0] == T + 1:
                sizes["terminal"] = max(sizes["terminal"], value.shape[0] - T)
    for name, (stage, stages) in STAGES.items():
        value = data[name]
        if value is None or (name[1:] in ("_lb", "_ub") and value.ndim == 0):
            continue
        shape = tuple(sizes[letter] for letter in stage)
        if stages and value.ndim == len(stage) + 1:
            shape = (value.shape[0], *shape)
        why = "with n and m the numbers of columns of A and B"
        why += " and p of entries of h" if "p" in stage else ""
        require_shape(name, value, shape, why + (f", or with {stages} such entries in front" if stages else ""))
    if sizes["terminal"] and data["h"].ndim == 2 and data["h"].shape[0] == T:
        raise ValueError(f"G_x has {T + 1} entries, with the terminal state, but h has {T}; give h as many.")
    return sizes


def _guess(warm_start: Solution, data: dict, sizes: dict) -> dict:
    """The arrays of a solution, checked against the sizes of the problem's own data."""
    if not isinstance(warm_start, Solution) or not isinstance(warm_start.x, Trajectory):
        raise ValueError(f"warm_start must be a Solution of solve_mpc, got {type(warm_start).__name__}.")
    T, n, m = sizes["T"], sizes["n"], sizes["m"]
    shapes = {"x.states": (T + 1, n), "x.inputs": (T, m), "y": (T + 1, n)}
    if data["h"] is not None:
        shapes["z"] = (T + sizes["terminal"], sizes["p"])
    for side in ("lb", "ub"):
        for letter, field, shape in (("x", "states", (T + 1, n)), ("u", "inputs", (T, m))):
            if data[f"{letter}_{side}"] is not None:
                shapes[f"z_{side}.{field}"] = shape
    values: dict[str, Any] = {}
    for name in shapes:
        value = warm_start
        for part in name.split("."):
            value = None if value is None else getattr(value, part)
        if value is None:
            raise ValueError(f"warm_start.{name} is None, but the problem has such constraints.")
        values[f"warm_start.{name}"] = value
    arrays = floating(**values)
    for (name, shape), value in zip(shapes.items(), arrays, strict=True):
        require_shape(f"warm_start.{name}", value, shape)
    return {name: value.astype(data["A"].dtype) for name, value in zip(shapes, arrays, strict=True)}


# ----------------------------------------------------------------------------- the reduction

BOUNDS = ("x_lb", "x_ub", "u_lb", "u_ub")


@quick_jit
def _solve_mpc(data: dict, options: Options, guess: dict | None) -> Solution:
    """The reduction, on checked arrays."""
    program = _program(data)
    if guess is not None:
        guess = _point(program, guess)
    return _solution(program, data, solve(program, options, guess))


def _program(data: dict) -> StageProgram:
    """The data in the form of the solver."""
    (T, n), m, dtype = data["c"].shape, data["B"].shape[-1], data["A"].dtype
    Q, R, S = symmetric(data["Q"]), symmetric(data["R"]), data["S"]
    last = lambda value, axes: value[-1] if value.ndim > axes else value
    Q_terminal = last(Q, 2) if data["Q_terminal"] is None else symmetric(data["Q_terminal"])
    convexity = _convexity(*jax.lax.stop_gradient((Q, R, S, Q_terminal)))
    stages = lambda value, *shape: jnp.broadcast_to(value, (T, *shape))
    with_terminal = lambda value, end: jnp.concatenate([value, end[None]])
    zero = jnp.zeros((), dtype)
    q = zero if data["q"] is None else data["q"]
    q_terminal = last(jnp.broadcast_to(q, q.shape or (n,)), 1) if data["q_terminal"] is None else data["q_terminal"]
    r = zero if data["r"] is None else data["r"]
    q_stages = with_terminal(stages(q, n), q_terminal)

    b = [-data["initial_state"], -data["c"].reshape(-1)]
    G = J = None
    if data["h"] is not None:
        h, p = data["h"], data["h"].shape[-1]
        terminal = _terminal_rows(data, T)
        G, J = (zero if data[name] is None else data[name] for name in ("G_x", "G_u"))
        G = jnp.broadcast_to(G, (T + 1, p, n)) if G.ndim < 3 or G.shape[0] == T + 1 else with_terminal(G, G[-1])
        J = jnp.broadcast_to(J, (T + 1, p, m)) if J.ndim < 3 else with_terminal(J, J[-1])
        infinite = jnp.full((1, p), jnp.inf, dtype)
        h = jnp.broadcast_to(h, (T + terminal, p))
        b.append((h if terminal else jnp.concatenate([h, infinite])).reshape(-1))
    present = tuple(kind for kind, name in enumerate(BOUNDS) if data[name] is not None)
    for kind in present:
        bound = (-1, 1)[kind % 2] * data[BOUNDS[kind]]
        shape = (T + 1, n) if kind < 2 else (T, m)
        bound = jnp.broadcast_to(bound, shape)
        b.append((bound.at[0].set(jnp.inf) if kind < 2 else bound).reshape(-1))
    rows = StageRows(A=stages(data["A"], n, n), B=stages(data["B"], n, m), G=G, J=J, bounds=present)
    return StageProgram(
        Q=with_terminal(stages(Q, n, n), Q_terminal),
        R=stages(R, m, m),
        S=None if S is None else stages(S, m, n),
        q=jnp.concatenate([q_stages.reshape(-1), stages(r, m).reshape(-1)]),
        A=rows,
        b=jnp.concatenate(b),
        convexity=convexity,
        cone=ProductCone.build((Zero(rows.num_equations), Nonnegative(rows.shape[0] - rows.num_equations))),
    )


def _terminal_rows(data: dict, T: int) -> int:
    """1 if there are inequalities of the terminal state, else 0."""
    h, G = data["h"], data["G_x"]
    return int((h.ndim == 2 and h.shape[0] == T + 1) or (G is not None and G.ndim == 3 and G.shape[0] == T + 1))


def _convexity(Q, R, S, Q_terminal) -> jax.Array:
    """1 if every stage cost is convex, else 0; before the matrices of all stages are copies of one."""
    dtype = Q.dtype
    if S is None:
        blocks = [Q, R, Q_terminal]
    else:
        shape = jnp.broadcast_shapes(Q.shape[:-2], R.shape[:-2], S.shape[:-2])
        Q, R, S = (jnp.broadcast_to(M, (*shape, *M.shape[-2:])) for M in (Q, R, S))
        blocks = [jnp.block([[Q, jnp.swapaxes(S, -1, -2)], [S, R]]), Q_terminal]
    check = lambda M: is_convex(M, jnp.max(jnp.abs(M), initial=0))
    checked = [check(block) if block.ndim == 2 else jnp.all(jax.vmap(check)(block)) for block in blocks]
    return jnp.all(jnp.stack(checked)).astype(dtype)


def _point(program: StageProgram, guess: dict) -> tuple:
    """The guess as a point (x, s, z) of the program."""
    rows = program.A
    x = jnp.concatenate([guess["x.states"].reshape(-1), guess["x.inputs"].reshape(-1)])
    z = [guess["y"].reshape(-1)]
    if rows.G is not None:
        missing = rows.num_general - rows.num_equations - guess["z"].size
        z.append(jnp.pad(guess["z"].reshape(-1), (0, missing)))
    names = ("z_lb.states", "z_ub.states", "z_lb.inputs", "z_ub.inputs")
    z += [guess[names[kind]].reshape(-1) for kind in rows.bounds]
    return x, program.b - rows.matvec(x), jnp.concatenate(z)


def _solution(program: StageProgram, data: dict, answer) -> Solution:
    """The answer by names."""
    rows, s, z = program.A, None, None
    (T, n, m), first = rows.B.shape, rows.num_general
    if rows.G is not None:
        p, stages = rows.G.shape[1], T + _terminal_rows(data, T)
        own = slice(rows.num_equations, rows.num_equations + stages * p)
        s, z = answer.s[own].reshape(stages, p), answer.z[own].reshape(stages, p)
    duals: list = [None] * 4
    for kind in rows.bounds:
        shape = (T + 1, n) if kind < 2 else (T, m)
        duals[kind] = answer.z[first : first + shape[0] * shape[1]].reshape(shape)
        first += shape[0] * shape[1]
    side = lambda states, inputs: (
        None if states is None and inputs is None else Trajectory(states=states, inputs=inputs)
    )
    return Solution(
        x=Trajectory(states=rows.states(answer.x), inputs=rows.inputs(answer.x)),
        s=s,
        y=rows.states(answer.z),
        z=z,
        z_lb=side(duals[0], duals[2]),
        z_ub=side(duals[1], duals[3]),
        objective=answer.objective,
        status=answer.status,
        info=answer.info,
    )
