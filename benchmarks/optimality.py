"""Optimality as a square system of smooth equations, near a strictly complementary solution.

It knows nothing of the solvers: its root by Newton's method is the solution to the last digits, and the implicit
function theorem on it gives derivatives to compare finite differences with.
"""

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.derivative_cases import Case, smat, svec


def root(case: Case, steps: int = 12) -> Callable:
    """(data) -> (x, s, z), by Newton's method from the solution the case was built from; data near the case's own."""
    import jax
    import jax.numpy as jnp

    equations = _equations(case)
    start = jnp.concatenate([jnp.asarray(part) for part in case.solution])

    def solve(data):
        def newton(_, v):
            jacobian, residual = jax.jacfwd(equations)(v, data), equations(v, data)
            return v - jnp.linalg.solve(jacobian, residual)

        return _parts(case, jax.lax.fori_loop(0, steps, newton, start))

    return solve


def tangent(case: Case) -> Callable:
    """(data, (x, s, z), direction) -> how (x, s, z) changes along a direction of the data, where they solve."""
    import jax
    import jax.numpy as jnp

    equations = _equations(case)

    def derivative(data, solution, direction):
        v = jnp.concatenate(solution)
        _, change = jax.jvp(lambda data: equations(v, data), (data,), (direction,))
        return _parts(case, -jnp.linalg.solve(jax.jacfwd(equations)(v, data), change))

    return derivative


def _parts(case: Case, v):
    n, m = (part.size for part in case.solution[:2])
    return v[:n], v[n : n + m], v[n + m :]


def _equations(case: Case) -> Callable:
    """(v, data) -> residuals of both feasibilities and of complementarity, cone by cone."""
    import jax.numpy as jnp

    blocks = list(_blocks(case))

    def equations(v, data):
        (x, s, z), (P, q, A, b) = _parts(case, v), case.conic(data)
        slope = q + A.T @ z + (0 if P is None else (P + P.T) @ x / 2)
        products = [product(s[rows], z[rows], data) for rows, product in blocks]
        return jnp.concatenate([slope, A @ x + s - b, *products])

    return equations


def _blocks(case: Case) -> Iterator[tuple[slice, Callable]]:
    """(rows, equations of complementarity) of each cone."""
    cones, s, z = case.cones, *case.solution[1:]
    groups = [(cones.zero, lambda s, z, data: s), (cones.nonnegative, lambda s, z, data: s * z)]
    groups += [(size, _jordan_product) for size in cones.second_order]
    groups += [(side * (side + 1) // 2, _symmetric_product) for side in cones.psd]
    groups += [(3, _exponential_normal)] * cones.exponential
    groups += [(3, _power_normal(i)) for i in range(len(cones.power))]
    first, curved = 0, len(groups) - cones.exponential - len(cones.power)
    for i, (size, product) in enumerate(groups):
        rows = slice(first, first + size)
        first += size
        yield rows, (product if i < curved else _on_face(product, s[rows], z[rows]))


def _on_face(product: Callable, s: np.ndarray, z: np.ndarray) -> Callable:
    """Of a cone with a curved boundary: the normal there, or the one of s and z that is zero."""
    if not z.any():
        return lambda s, z, data: z
    return product if s.any() else lambda s, z, data: s


def _jordan_product(s, z, data):
    import jax.numpy as jnp

    return jnp.concatenate([(s @ z)[None], s[0] * z[1:] + z[0] * s[1:]])


def _symmetric_product(s, z, data):
    return svec(smat(s) @ smat(z))


def _exponential_normal(s, z, data):
    """On w = v exp(u/v): z along (-e^r, (r - 1) e^r, 1), r = u/v."""
    import jax.numpy as jnp

    r = s[0] / s[1]
    e = jnp.exp(r)
    return jnp.stack([s[2] - s[1] * e, z[0] + e * z[2], z[1] - (r - 1) * e * z[2]])


def _power_normal(i: int) -> Callable:
    """On |w| = u^alpha v^(1 - alpha): z along (alpha |w|/u, (1 - alpha) |w|/v, -sign w)."""

    def normal(s, z, data):
        import jax.numpy as jnp

        alpha, sign = data["alpha"][i], jnp.sign(s[2])
        w = s[0] ** alpha * s[1] ** (1 - alpha)
        length = -sign * z[2]
        return jnp.stack([sign * s[2] - w, z[0] - length * alpha * w / s[0], z[1] - length * (1 - alpha) * w / s[1]])

    return normal
