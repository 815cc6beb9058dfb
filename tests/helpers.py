"""Certificates in plain NumPy that share no code with the library, and random programs with known answers.

Sizes are maximum norms. A residual is relative to the largest of its terms and to one, in the user's units.
"""

import numpy as np

import convexjax as cj

# ----------------------------------------------------------------------------- symmetric matrices as vectors


# Options of `jax.jit` for what is tested to the last digits, which the code that the tests compile (conftest.py) loses.
COMPILED_AS_BY_USERS = {"xla_backend_optimization_level": 3}


def svec(X):
    """Upper triangle by columns, off-diagonal entries times sqrt 2, of the last two axes."""
    side = X.shape[-1]
    return np.stack(
        [X[..., i, j] * (1 if i == j else np.sqrt(2)) for j in range(side) for i in range(j + 1)]
        or [X[..., 0].sum(-1)],
        -1,
    )


def smat(v, side):
    """Inverse of `svec`."""
    X = np.zeros((*v.shape[:-1], side, side), v.dtype)
    k = 0
    for j in range(side):
        for i in range(j + 1):
            X[..., i, j] = X[..., j, i] = v[..., k] / (1 if i == j else np.sqrt(2))
            k += 1
    return X


# ----------------------------------------------------------------------------- cones


def margins(cone, v, dual=False):
    """Per copy a number that is nonnegative in the cone (in its dual); for a zero cone minus the size of the entry."""
    copies = np.asarray(v).reshape(cone.count, cone.dim)
    if isinstance(cone, cj.Zero):
        return np.zeros(cone.count) if dual else -np.abs(copies[:, 0])
    if isinstance(cone, cj.Nonnegative):
        return copies[:, 0]
    if isinstance(cone, cj.SecondOrder):
        return copies[:, 0] - np.linalg.norm(copies[:, 1:], axis=1)
    if isinstance(cone, cj.PSD):
        return np.linalg.eigvalsh(smat(copies, cone.side)).min(1, initial=np.inf)
    return -_least_shift(cone, copies, dual)


def _least_shift(cone, copies, dual):
    """The least t >= 0 for which v + t e is in the cone, e = (-1, 1, 1) or (1, 1, 0), by bisection."""
    power = isinstance(cone, cj.Power)
    e = np.array([1.0, 1.0, 0.0] if power else [-1.0, 1.0, 1.0])

    def inside(t):
        u, v, w = (copies + t[:, None] * e).T
        with np.errstate(divide="ignore", invalid="ignore"):
            if power:
                alpha = np.asarray(cone.alpha, float)
                scale = (alpha, 1 - alpha) if dual else (1, 1)
                log = alpha * np.log(u / scale[0]) + (1 - alpha) * np.log(v / scale[1])
                return (u >= 0) & (v >= 0) & ((w == 0) | (np.log(np.abs(w)) <= log))
            if dual:
                return np.where(
                    u < 0, (w > 0) & (v >= u * (1 + np.log(w) - np.log(-u))), (u == 0) & (v >= 0) & (w >= 0)
                )
            return np.where(v > 0, (w > 0) & (u <= v * (np.log(w) - np.log(v))), (v == 0) & (u <= 0) & (w >= 0))

    low, high = np.zeros(len(copies)), 10 * np.abs(copies).max(1, initial=0)
    high = np.where(inside(low), low, high)
    for _ in range(60):
        middle = (low + high) / 2
        fine = inside(middle)
        low, high = np.where(fine, low, middle), np.where(fine, middle, high)
    return high


def violation(cones, v, dual=False):
    """How far `v` is outside of the product of cones (of its dual)."""
    worst, first = 0.0, 0
    for cone in cones:
        worst = max(worst, -margins(cone, v[first : first + cone.rows], dual).min(initial=0.0))
        first += cone.rows
    return float(worst)


def size(*vectors):
    """Largest absolute entry."""
    return float(max((np.abs(v).max(initial=0.0) for v in vectors), default=0.0))


def near(value, expected, tolerance=1e-7):
    """Assert equality relative to the largest entry, or to one."""
    expected = np.asarray(expected, float)
    difference = size(np.asarray(value) - expected)
    assert difference <= tolerance * max(1, size(expected)), f"{value} is not {expected}: off by {difference}"


# ----------------------------------------------------------------------------- certificates


def _numpy(*arrays):
    return [None if a is None else np.asarray(a, float) for a in arrays]


def _require(residuals, tolerance):
    wrong = {name: value for name, value in residuals.items() if not value <= tolerance}
    assert not wrong, f"not proved to {tolerance}: {wrong}"


def _status(solution, expected):
    status = cj.Status(int(solution.status))
    assert status == expected, f"{status.name} instead of {cj.Status(expected).name}, {solution.info}"
    return status


def certify_conic(P, q, A, b, cones, solution, tolerance=1e-8, expected=cj.Status.SOLVED):
    """Assert that the solution of min 1/2 x'Px + q'x, Ax + s = b, s in K has the status and proves it."""
    status = _status(solution, expected)
    P, q, A, b, x, s, z = _numpy(P, q, A, b, solution.x, solution.s, solution.z)
    P = np.zeros((len(q), len(q))) if P is None else (P + P.T) / 2
    if status == cj.Status.PRIMAL_INFEASIBLE:
        _require(
            {
                "b'z = -1": abs(b @ z + 1),
                "A'z": size(A.T @ z) / max(1, size(A) * size(z)),
                "z in K*": violation(cones, z, dual=True) / max(1, size(z)),
                "objective": 0.0 if solution.objective == np.inf else np.inf,
            },
            tolerance,
        )
    elif status == cj.Status.DUAL_INFEASIBLE:
        _require(
            {
                "q'x = -1": abs(q @ x + 1),
                "Px": size(P @ x) / max(1, size(P) * size(x)),
                "-Ax in K": violation(cones, -A @ x) / max(1, size(A) * size(x)),
                "objective": 0.0 if solution.objective == -np.inf else np.inf,
            },
            tolerance,
        )
    else:
        primal, dual = x @ P @ x / 2 + q @ x, -x @ P @ x / 2 - b @ z
        _require(
            {
                "primal": size(A @ x + s - b) / max(1, size(A @ x, s, b)),
                "dual": size(P @ x + q + A.T @ z) / max(1, size(P @ x, q, A.T @ z)),
                "gap": abs(primal - dual) / max(1, abs(primal), abs(dual)),
                "s in K": violation(cones, s) / max(1, size(A @ x, s, b)),
                "z in K*": violation(cones, z, dual=True) / max(1, size(z)),
                "objective": abs(float(solution.objective) - primal) / max(1, abs(primal)),
            },
            tolerance,
        )


def certify_qp(
    P, q, G=None, h=None, A=None, b=None, lb=None, ub=None, *, solution, tolerance=1e-8, expected=cj.Status.SOLVED
):
    """The same for min 1/2 x'Px + q'x, Gx <= h, Ax = b, lb <= x <= ub with the duals by name."""
    n = len(q)
    blocks, right, duals, cones = [], [], [], []
    for matrix, vector, dual, cone in (
        (A, b, solution.y, cj.Zero),
        (G, h, solution.z, cj.Nonnegative),
        (-np.eye(n), None if lb is None else -np.broadcast_to(lb, n), solution.z_lb, cj.Nonnegative),
        (np.eye(n), None if ub is None else np.broadcast_to(ub, n), solution.z_ub, cj.Nonnegative),
    ):
        if vector is None:
            assert dual is None
            continue
        matrix, vector, dual = _numpy(matrix, vector, dual)
        assert dual.shape == vector.shape
        none = vector >= 1e20
        assert np.all(dual[none] == 0), "a dual of a constraint without effect"
        blocks.append(matrix[~none].reshape(-1, n)), right.append(vector[~none]), duals.append(dual[~none])
        cones.append(cone(int((~none).sum())))
    rows, right = np.concatenate([np.zeros((0, n)), *blocks]), np.concatenate([np.zeros(0), *right])
    x = np.asarray(solution.x, float)
    s = np.concatenate([np.zeros(0), *(np.zeros(c.rows) if isinstance(c, cj.Zero) else np.ones(c.rows) for c in cones)])
    s = s * (right - rows @ x)
    whole = cj.Solution(
        x=x,
        s=s,
        z=np.concatenate([np.zeros(0), *duals]),
        objective=solution.objective,
        status=solution.status,
        info=solution.info,
    )
    certify_conic(P, q, rows, right, cones, whole, tolerance, expected)
    if G is not None and expected == cj.Status.SOLVED:
        G, h, slack = _numpy(G, h, solution.s)
        finite = h < 1e20
        assert size((G @ x)[finite] + slack[finite] - h[finite]) <= tolerance * max(1, size(h[finite], G @ x)), (
            "s is not h - Gx"
        )


# ----------------------------------------------------------------------------- random programs


def interior(rng, cone, dual=False):
    """An interior point of the cone (of its dual; any vector for the dual of a zero cone)."""
    count, dim = cone.count, cone.dim
    if isinstance(cone, cj.Zero):
        return rng.normal(size=count) if dual else np.zeros(count)
    depth = rng.uniform(0.1, 2, count)
    if isinstance(cone, cj.Nonnegative):
        return depth
    if isinstance(cone, cj.SecondOrder):
        v = rng.normal(size=(count, dim - 1))
        return np.concatenate([np.linalg.norm(v, axis=1, keepdims=True) + depth[:, None], v], 1).ravel()
    if isinstance(cone, cj.PSD):
        M = rng.normal(size=(count, cone.side, cone.side))
        return svec(M @ M.swapaxes(1, 2) + depth[:, None, None] * np.eye(cone.side)).ravel()
    u, v = rng.uniform(0.3, 2, (2, count))
    if isinstance(cone, cj.Exponential):
        if dual:
            v = rng.normal(size=count)
            return np.stack([-u, v, u * np.exp(-v / u - 1) + depth], 1).ravel()
        u = rng.normal(size=count)
        return np.stack([u, v, v * np.exp(u / v) + depth], 1).ravel()
    alpha = np.asarray(cone.alpha)
    w = (u / alpha) ** alpha * (v / (1 - alpha)) ** (1 - alpha) if dual else u**alpha * v ** (1 - alpha)
    return np.stack([u, v, w * rng.uniform(-0.9, 0.9, count)], 1).ravel()


def complementary(rng, cone):
    """(s, z) with s in K, z in K*, s'z = 0, boundary and interior points mixed."""
    count, dim = cone.count, cone.dim
    if isinstance(cone, cj.Zero):
        return np.zeros(count), rng.normal(size=count)
    if isinstance(cone, cj.PSD):
        Q = np.linalg.qr(rng.normal(size=(count, cone.side, cone.side)))[0]
        active = rng.uniform(size=(count, cone.side)) < 0.5
        values = rng.uniform(0.2, 2, (2, count, cone.side)) * np.stack([active, ~active])
        return tuple(svec((Q * d[:, None]) @ Q.swapaxes(1, 2)).ravel() for d in values)
    if isinstance(cone, cj.Exponential):
        rho = rng.uniform(-1.5, 1.5, count)
        one = np.ones(count)
        s, z = np.stack([rho, one, np.exp(rho)], 1), np.stack([-one, rho - 1, np.exp(-rho)], 1)
    elif isinstance(cone, cj.Power):
        alpha, (u, v) = np.asarray(cone.alpha), rng.uniform(0.3, 2, (2, count))
        w = u**alpha * v ** (1 - alpha) * rng.choice([-1, 1], count)
        s, z = np.stack([u, v, w], 1), np.stack([alpha / u, (1 - alpha) / v, -1 / w], 1)
    elif isinstance(cone, cj.SecondOrder):
        v = rng.normal(size=(count, dim - 1))
        norm = np.linalg.norm(v, axis=1, keepdims=True)
        s, z = np.concatenate([norm, v], 1), np.concatenate([norm, -v], 1)
    else:
        s, z = np.ones((2, count, 1))
    scale_s, scale_z = rng.uniform(0.2, 2, (2, count, 1))
    kind = rng.integers(0, 3, (count, 1))  # both on the boundary, s in the interior, z in the interior
    if isinstance(cone, cj.Nonnegative):
        kind = np.maximum(kind, 1)
    inner_s, inner_z = interior(rng, cone).reshape(count, dim), interior(rng, cone, dual=True).reshape(count, dim)
    s = np.where(kind == 0, s * scale_s, np.where(kind == 1, inner_s, 0))
    z = np.where(kind == 0, z * scale_z, np.where(kind == 1, 0, inner_z))
    return s.ravel(), z.ravel()


def _curvature(rng, n, rank):
    M = rng.normal(size=(n, rank)) / np.sqrt(n)
    return M @ M.T


def solved_program(rng, n, cones, rank=None):
    """(P, q, A, b) and the objective value, from a solution; P has the rank (n // 2)."""
    pairs = [complementary(rng, cone) for cone in cones]
    s, z = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    x, A = rng.normal(size=n), rng.normal(size=(len(s), n))
    P = _curvature(rng, n, n // 2 if rank is None else rank)
    q = -P @ x - A.T @ z
    return (P, q, A, A @ x + s), x @ P @ x / 2 + q @ x


def infeasible_program(rng, n, cones):
    """(P, q, A, b) with a strictly interior certificate z: A'z = 0, b'z = -1."""
    z = np.concatenate([interior(rng, cone, dual=True) for cone in cones])
    A, b = rng.normal(size=(len(z), n)), rng.normal(size=len(z))
    A -= np.outer(z, z @ A) / (z @ z)
    b -= z * (b @ z + 1) / (z @ z)
    return _curvature(rng, n, n // 2), rng.normal(size=n), A, b


def unbounded_program(rng, n, cones):
    """(P, q, A, b), feasible, with a ray x: Px = 0, q'x = -1, -Ax in the interior of K."""
    x = rng.normal(size=n)
    s, inner = (np.concatenate([interior(rng, cone) for cone in cones]) for _ in range(2))
    A, M, q = rng.normal(size=(len(s), n)), rng.normal(size=(n, n // 2)), rng.normal(size=n)
    A -= np.outer(A @ x + s, x) / (x @ x)
    M -= np.outer(x, x @ M) / (x @ x)
    q -= x * (q @ x + 1) / (x @ x)
    return M @ M.T / n, q, A, A @ rng.normal(size=n) + inner


def stack(programs):
    """A list of tuples of arrays as one tuple of arrays with a leading axis."""
    return tuple(np.stack(parts) for parts in zip(*programs, strict=True))


def lane(solution, i):
    """Entry i of a batched solution."""
    import jax

    return jax.tree.map(lambda leaf: np.asarray(leaf)[i], solution)
