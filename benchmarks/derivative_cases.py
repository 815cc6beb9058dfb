"""The eight problem classes whose derivatives are checked: one small program each, built backwards from a solution.

The solution is unique and strictly complementary by construction: s and z lie on opposite faces of each cone, one of
each kind (both on the boundary, s inside, s zero), and no more constraints are active than there are variables. So
every output is a smooth function of every number of the data near them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.families import exponential_pair, power_pair, second_order_pair
from benchmarks.programs import Cones

Data = dict  # name -> array, everything differentiated
Outputs = dict  # name -> array
Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A program, its solution, and two ways to state it: the public function of its class, and the standard form.

    solution: (x, s, z) of the standard form.
    solve: (data, options) -> outputs, by convexjax's function.
    conic: (data) -> (P or None, q, A, b) with rows in the order of `cones`; power cones take data["alpha"].
    split: (data, x, s, z) -> outputs, from a solution of the standard form.
    """

    name: str
    data: Data
    cones: Cones
    solution: tuple[np.ndarray, np.ndarray, np.ndarray]
    solve: Callable
    conic: Callable
    split: Callable


def cases() -> dict[str, Case]:
    """All eight, by name."""
    made = [lp(), qp(), socp(), sdp_matrix(), sdp_inequality(), exponential(), power(), six_cones()]
    return {case.name: case for case in made}


# Linear and quadratic programs


def lp() -> Case:
    """As many active constraints as variables: a nondegenerate vertex."""
    case = _linear(seed=1, rank=0, active_rows=2, active_bounds=2)
    return replace(case, name="LP")


def qp() -> Case:
    """P positive definite, fewer active constraints than variables."""
    case = _linear(seed=0, rank=5, active_rows=1, active_bounds=2)
    return replace(case, name="QP")


def _linear(seed: int, rank: int, active_rows: int, active_bounds: int) -> Case:
    """One equation, five inequalities, bounds on both sides; the last active bounds alternate, upper and lower."""
    random, n, m = np.random.default_rng(seed), 5, 5
    P, x = _quadratic(random, n) if rank else np.zeros((n, n)), random.normal(size=n)
    G, A, y = random.normal(size=(m, n)), random.normal(size=(1, n)), random.normal(size=1)
    s, z = _switch(random, m, np.arange(m) < active_rows)
    at_bound = np.arange(n) >= n - active_bounds
    room_above, z_ub = _switch(random, n, at_bound & (np.arange(n) % 2 == 0))
    room_below, z_lb = _switch(random, n, at_bound & (np.arange(n) % 2 == 1))
    data = {"q": -(P @ x + A.T @ y + G.T @ z + z_ub - z_lb), "G": G, "h": G @ x + s, "A": A, "b": A @ x}
    data |= {"lb": x - room_below, "ub": x + room_above} | ({"P": P} if rank else {})
    solution = x, np.concatenate([[0], s, room_below, room_above]), np.concatenate([y, z, z_lb, z_ub])
    cones = Cones(zero=1, nonnegative=m + 2 * n)
    return Case("", data, cones, solution, _solve_linear, _linear_rows, _split_linear)


def _solve_linear(data, options):
    import convexjax as cj

    if "P" in data:
        found = cj.solve_qp(**data, options=options)
    else:
        found = cj.solve_lp(**{"c" if name == "q" else name: value for name, value in data.items()}, options=options)
    return _named(found, "x", "s", "y", "z", "z_lb", "z_ub", "objective")


def _linear_rows(data):
    import jax.numpy as jnp

    eye = jnp.eye(data["q"].size)
    rows = jnp.concatenate([data["A"], data["G"], -eye, eye])
    return data.get("P"), data["q"], rows, jnp.concatenate([data["b"], data["h"], -data["lb"], data["ub"]])


def _split_linear(data, x, s, z):
    p, m, n = data["b"].size, data["h"].size, x.size
    outputs = {"x": x, "s": s[p : p + m], "y": z[:p], "z": z[p : p + m]}
    return outputs | {"z_lb": z[p + m : p + m + n], "z_ub": z[p + m + n :], "objective": _objective(data, x)}


# Second-order cones


def socp() -> Case:
    """Three norms (both on the boundary; slack inside; slack zero), two inequalities and an equation."""
    random, n, sizes, kinds = np.random.default_rng(2), 7, (3, 4, 2), ("curved", "inside", "zero")
    P, x = _quadratic(random, n), random.normal(size=n)
    A, y, G = random.normal(size=(1, n)), random.normal(size=1), random.normal(size=(2, n))
    s, z = _switch(random, 2, np.array([True, False]))
    data = {"P": P, "G": G, "h": G @ x + s, "A": A, "b": A @ x}
    slope, pairs = P @ x + A.T @ y + G.T @ z, [(np.zeros(1), y), (s, z)]
    for i, (size, kind) in enumerate(zip(sizes, kinds, strict=True)):
        s, z = _draw(random, lambda generator, size=size: second_order_pair(generator, size), kind)
        M, c = random.normal(size=(size - 1, n)), random.normal(size=n)
        data |= {f"M{i}": M, f"r{i}": s[1:] - M @ x, f"c{i}": c, f"d{i}": s[0] - c @ x}
        slope -= z[0] * c + M.T @ z[1:]
        pairs.append((s, z))
    cones = Cones(zero=1, nonnegative=2, second_order=sizes)
    return Case("SOCP", data | {"q": -slope}, cones, (x, *_stacked(pairs)), _solve_socp, _socp_rows, _split_socp)


def _norms(data):
    return [tuple(data[f"{letter}{i}"] for letter in "Mrcd") for i in range(3)]


def _solve_socp(data, options):
    import convexjax as cj

    found = cj.solve_socp(data["q"], _norms(data), *(data[name] for name in "GhAb"), P=data["P"], options=options)
    outputs = _named(found, "x", "s", "y", "z", "objective")
    return outputs | {"s_cones": _joined(found.s_cones), "z_cones": _joined(found.z_cones)}


def _socp_rows(data):
    import jax.numpy as jnp

    rows, right = [data["A"], data["G"]], [data["b"], data["h"]]
    for M, r, c, d in _norms(data):
        rows += [-c[None], -M]
        right += [d[None], r]
    return data["P"], data["q"], jnp.concatenate(rows), jnp.concatenate(right)


def _split_socp(data, x, s, z):
    outputs = {"x": x, "s": s[1:3], "y": z[:1], "z": z[1:3], "objective": _objective(data, x)}
    return outputs | {"s_cones": s[3:], "z_cones": z[3:]}


# Semidefinite programs


def sdp_matrix() -> Case:
    """X of rank 2 in 4 x 4 and four equations."""
    random, side, m = np.random.default_rng(3), 4, 4
    X, Z = _psd_matrices(random, side, rank=2)
    A, y = _symmetric(random.normal(size=(m, side, side))), random.normal(size=m)
    data = {"C": Z - np.tensordot(y, A, 1), "A": A, "b": np.tensordot(A, X, 2)}
    cones = Cones(zero=m, psd=(side,))
    x = _svec_numpy(X)
    solution = x, np.append(np.zeros(m), x), np.append(y, _svec_numpy(Z))
    return Case("SDP matrix form", data, cones, solution, _solve_matrix_form, _matrix_form_rows, _split_matrix_form)


def _solve_matrix_form(data, options):
    import convexjax as cj

    return _named(cj.solve_sdp(data["C"], data["A"], data["b"], options=options), "x", "y", "z", "objective")


def _matrix_form_rows(data):
    import jax
    import jax.numpy as jnp

    C, A, b = svec(data["C"]), jax.vmap(svec)(data["A"]), data["b"]
    return None, C, jnp.concatenate([A, -jnp.eye(C.size)]), jnp.concatenate([b, jnp.zeros(C.size)])


def _split_matrix_form(data, x, s, z):
    m = data["b"].size
    return {"x": smat(x), "y": z[:m], "z": smat(z[m:]), "objective": svec(data["C"]) @ x}


def sdp_inequality() -> Case:
    """A slack of rank 2 in 4 x 4 and four variables."""
    random, side, n = np.random.default_rng(4), 4, 4
    S, Z = _psd_matrices(random, side, rank=2)
    F, x = _symmetric(random.normal(size=(n + 1, side, side))), random.normal(size=n)
    F[0] = S - np.tensordot(x, F[1:], 1)
    data = {"c": np.tensordot(F[1:], Z, 2), "F": F}
    name, solution = "SDP inequality form", (x, _svec_numpy(S), _svec_numpy(Z))
    return Case(name, data, Cones(psd=(side,)), solution, _solve_inequality, _inequality_rows, _split_inequality)


def _solve_inequality(data, options):
    import convexjax as cj

    return _named(cj.solve_sdp(c=data["c"], F=data["F"], options=options), "x", "s", "z", "objective")


def _inequality_rows(data):
    import jax

    vectors = jax.vmap(svec)(data["F"])
    return None, data["c"], -vectors[1:].T, vectors[0]


def _split_inequality(data, x, s, z):
    return {"x": x, "s": smat(s), "z": smat(z), "objective": data["c"] @ x}


# The standard form: exponential and power cones, and all six


def exponential() -> Case:
    """Three exponential cones, one of each kind."""
    random = np.random.default_rng(5)
    pairs = [_draw(random, exponential_pair, kind) for kind in ("curved", "inside", "zero")]
    return _standard("exponential cone", random, Cones(zero=1, nonnegative=2, exponential=3), pairs)


def power() -> Case:
    """Three power cones, one of each kind; their exponents are data too."""
    random, alpha = np.random.default_rng(6), (0.3, 0.5, 0.7)
    kinds = ("curved", "inside", "zero")
    pairs = [_draw(random, lambda g, a=a: power_pair(g, a), kind) for a, kind in zip(alpha, kinds, strict=True)]
    return _standard("power cone", random, Cones(zero=1, nonnegative=2, power=alpha), pairs)


def six_cones() -> Case:
    """One cone of each kind, all with s and z on the boundary."""
    random, alpha = np.random.default_rng(7), (0.4,)
    X, Z = _psd_matrices(random, 2, rank=1)
    pairs = [
        _draw(random, lambda g: second_order_pair(g, 3), "curved"),
        (_svec_numpy(X), _svec_numpy(Z)),
        _draw(random, exponential_pair, "curved"),
        _draw(random, lambda g: power_pair(g, alpha[0]), "curved"),
    ]
    cones = Cones(zero=1, nonnegative=2, second_order=(3,), psd=(2,), exponential=1, power=alpha)
    return _standard("six cones", random, cones, pairs)


def _standard(name: str, random: np.random.Generator, cones: Cones, pairs: list[Pair]) -> Case:
    """One equation, two inequalities (one of them active), then `pairs`; seven variables, P positive definite."""
    n, y = 7, random.normal(size=1)
    pairs = [(np.zeros(1), y), _switch(random, 2, np.array([True, False])), *pairs]
    s, z = _stacked(pairs)
    P, x, A = _quadratic(random, n), random.normal(size=n), random.normal(size=(s.size, n))
    data = {"P": P, "q": -(P @ x + A.T @ z), "A": A, "b": A @ x + s}
    if cones.power:
        data["alpha"] = np.array(cones.power)
    solve = lambda data, options: _solve_standard(data, cones, options)
    return Case(name, data, cones, (x, s, z), solve, _standard_rows, _split_standard)


def _solve_standard(data, cones, options):
    import convexjax as cj

    product = [cj.Zero(cones.zero), cj.Nonnegative(cones.nonnegative)]
    product += [cj.SecondOrder(size) for size in cones.second_order] + [cj.PSD(side) for side in cones.psd]
    product += [cj.Exponential(cones.exponential)] if cones.exponential else []
    product += [cj.Power(data["alpha"])] if cones.power else []
    found = cj.solve_conic(data["P"], data["q"], data["A"], data["b"], product, options=options)
    return _named(found, "x", "s", "z", "objective")


def _standard_rows(data):
    return data["P"], data["q"], data["A"], data["b"]


def _split_standard(data, x, s, z):
    return {"x": x, "s": s, "z": z, "objective": _objective(data, x)}


# Parts


def svec(matrix):
    """Upper triangle of the symmetric part column by column, off-diagonal entries times sqrt(2)."""
    columns, rows = np.tril_indices(matrix.shape[-1])
    return ((matrix + matrix.T) / 2)[rows, columns] * np.where(rows == columns, 1, np.sqrt(2))


def smat(vector):
    """The symmetric matrix of an `svec`."""
    import jax.numpy as jnp

    side = int(np.sqrt(2 * vector.size))
    columns, rows = np.tril_indices(side)
    half = jnp.zeros((side, side)).at[rows, columns].set(vector * np.where(rows == columns, 0.5, np.sqrt(0.5)))
    return half + half.T


def _svec_numpy(matrix: np.ndarray) -> np.ndarray:
    return np.asarray(svec(matrix))


def _objective(data, x):
    return data["q"] @ x + (0.5 * x @ (data["P"] @ x) if "P" in data else 0.0)


def _named(solution, *names) -> Outputs:
    return {name: getattr(solution, name) for name in names}


def _joined(arrays):
    import jax.numpy as jnp

    return jnp.concatenate([array.reshape(-1) for array in arrays])


def _stacked(pairs: list[Pair]) -> Pair:
    s, z = zip(*pairs, strict=True)
    return np.concatenate(s), np.concatenate(z)


def _quadratic(random: np.random.Generator, n: int) -> np.ndarray:
    factor = random.normal(size=(n, n))
    return factor @ factor.T / n + 0.5 * np.eye(n)


def _symmetric(matrices: np.ndarray) -> np.ndarray:
    return (matrices + np.swapaxes(matrices, -1, -2)) / 2


def _switch(random: np.random.Generator, size: int, active: np.ndarray) -> Pair:
    """(slack, dual) of inequalities: the one zero where the other is not."""
    values = random.uniform(0.5, 2, size)
    return np.where(active, 0, values), np.where(active, values, 0)


def _draw(random: np.random.Generator, pair: Callable, kind: str) -> Pair:
    """A pair of the wanted kind: `curved` (both on the boundary), `inside` (z zero) or `zero` (s zero)."""
    while True:
        s, z = pair(random)
        if kind == ("inside" if not z.any() else "curved" if s.any() else "zero"):
            return s, z


def _psd_matrices(random: np.random.Generator, side: int, rank: int) -> Pair:
    """Matrices with the same eigenvectors, one of this rank and the other of the rest."""
    vectors, values = np.linalg.qr(random.normal(size=(side, side)))[0], random.uniform(0.5, 2, side)
    first = np.arange(side) < rank
    return (vectors * np.where(first, values, 0)) @ vectors.T, (vectors * np.where(first, 0, values)) @ vectors.T
