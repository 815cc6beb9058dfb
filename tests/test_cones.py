"""The contract of a cone, for every cone of the registry."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import interior, margins, size, smat, svec, violation
from hypothesis import given
from hypothesis import strategies as st

import convexjax as cj
from convexjax.cones import CONES
from convexjax.cones.product import ProductCone

pytestmark = pytest.mark.core

EXAMPLES = {
    "Zero": cj.Zero(3),
    "Nonnegative": cj.Nonnegative(4),
    "SecondOrder": cj.SecondOrder(4, count=3),
    "SecondOrder of size 1": cj.SecondOrder(1, count=2),
    "SecondOrder of size 2": cj.SecondOrder(2, count=2),
    "PSD": cj.PSD(3, count=2),
    "PSD of side 1": cj.PSD(1, count=3),
    "Exponential": cj.Exponential(4),
    "Power": cj.Power(jnp.array([0.5, 0.1, 0.9, 0.3])),
}
SYMMETRIC = [name for name, cone in EXAMPLES.items() if not isinstance(cone, cj.Zero | cj.Exponential | cj.Power)]
THREE_DIMENSIONAL = ["Exponential", "Power"]
BARRIER = SYMMETRIC + THREE_DIMENSIONAL
PRECISION = {"float64": (jnp.float64, 1e-9), "float32": (jnp.float32, 1e-4)}

precisions = pytest.mark.parametrize("precision", PRECISION)
over_all = pytest.mark.parametrize("name", EXAMPLES)
over_barriers = pytest.mark.parametrize("name", BARRIER)

# the cone is an argument, so that one program serves all tests of a cone
gradient = jax.jit(lambda cone, z: jax.grad(cone.dual_barrier)(z))
barrier_hessian = jax.jit(lambda cone, z: jax.hessian(cone.dual_barrier)(z))


@jax.jit
def scaling_matrices(cone, s, z, delta):
    """H, and the columns of (H + delta I)^-1."""
    scaling, eye = cone.scaling(s, z), jnp.eye(cone.rows, dtype=s.dtype)
    return jax.vmap(lambda v: cone.hessian(scaling, v))(eye).T, cone.regularised_inverse(scaling, delta, eye)


@jax.jit
def correction(cone, s, z, ds, dz, sigma_mu):
    return cone.correction(cone.scaling(s, z), s, z, ds, dz, sigma_mu)


@jax.jit
def max_step(cone, s, z, ds, dz):
    return cone.max_step(cone.scaling(s, z), s, z, ds, dz)


@jax.jit
def _project(cone, v):
    return cone.project(v), cone.project_dual(-v)


def project(cone, v):
    """The projections of v onto K and of -v onto K*."""
    return _project(type(cone).merge([cone]), v)


def merged(name):
    """The cone as the solver works on it: exponential and power cones join a common class."""
    return type(EXAMPLES[name]).merge([EXAMPLES[name]])


def interior_pair(name, seed, dtype=jnp.float64):
    rng, cone = np.random.default_rng(seed), EXAMPLES[name]
    return jnp.asarray(interior(rng, cone), dtype), jnp.asarray(interior(rng, cone, dual=True), dtype)


def close(a, b, tolerance):
    """Equal relative to the largest entry."""
    scale = max(size(np.asarray(a)), size(np.asarray(b)))
    assert size(np.asarray(a) - np.asarray(b)) <= tolerance * scale, (a, b)


def test_registry_is_covered():
    assert set(CONES) == {type(cone) for cone in EXAMPLES.values()}


# ----------------------------------------------------------------------------- barrier, start, scaling


@precisions
@over_all
def test_start_is_its_own_shadow(name, precision):
    dtype, tolerance = PRECISION[precision]
    cone = merged(name)
    start = cone.start(dtype)
    assert start.dtype == dtype
    assert start.shape == (EXAMPLES[name].rows,)
    close(start, -gradient(cone, start), tolerance)
    assert abs(start @ start - cone.degree) <= tolerance * max(1, cone.degree)
    if name in BARRIER:
        point = np.asarray(start, float)
        assert margins(EXAMPLES[name], point).min() > -1e-15
        assert violation([EXAMPLES[name]], 0.99 * point + 0.01 * np.asarray(cone.start(jnp.float64))) == 0


@over_barriers
def test_barrier_is_logarithmically_homogeneous(name):
    cone, (_, z) = merged(name), interior_pair(name, 0)
    assert abs(cone.dual_barrier(3 * z) - cone.dual_barrier(z) + cone.degree * jnp.log(3.0)) <= 1e-10
    assert abs(gradient(cone, z) @ z + cone.degree) <= 1e-10 * cone.degree


@over_barriers
def test_barrier_grows_without_bound_at_the_boundary(name):
    cone, example = merged(name), EXAMPLES[name]
    _, z = interior_pair(name, 0)
    outside = -np.asarray(cone.start(jnp.float64))
    low, high = 0.0, 1.0
    for _ in range(45):
        middle = (low + high) / 2
        fine = violation([example], np.asarray(z) + middle * (outside - np.asarray(z)), dual=True) == 0
        low, high = (middle, high) if fine else (low, middle)
    along = [float(cone.dual_barrier(z + (low - d) * (outside - z))) for d in (1e-3, 1e-6, 1e-9)]
    assert along[0] + 3 < along[1] < along[2] - 3
    assert not np.isfinite(cone.dual_barrier(z + 1.5 * (outside - z))) or example.dim == 1 or example.count > 1


@precisions
@over_barriers
def test_scaling_maps_z_to_s_and_is_positive_definite(name, precision):
    dtype, tolerance = PRECISION[precision]
    cone = merged(name)
    for seed in range(4):
        s, z = interior_pair(name, seed, dtype)
        H, _ = scaling_matrices(cone, s, z, jnp.asarray(1, dtype))
        assert H.dtype == dtype
        close(H @ z, s, tolerance)
        close(H, H.T, tolerance)
        blocks = np.asarray(H).reshape(-1)
        assert np.linalg.eigvalsh(np.asarray(H, float)).min() > 0
        # copies do not see each other
        mask = np.kron(np.eye(EXAMPLES[name].count), np.ones((EXAMPLES[name].dim,) * 2)).reshape(-1)
        assert np.all(blocks[mask == 0] == 0)


@over_barriers
def test_scaling_on_the_central_path_is_the_hessian(name):
    cone, (_, z) = merged(name), interior_pair(name, 1)
    for mu in (1.0, 1e-6):
        H, _ = scaling_matrices(cone, -mu * gradient(cone, z), z, jnp.asarray(1.0))
        close(H, mu * barrier_hessian(cone, z), 1e-9)


@pytest.mark.parametrize("name", THREE_DIMENSIONAL)
def test_scaling_maps_shadow_to_shadow(name):
    """The second secant equation, H zt = st with st = -grad f*(z), zt = -grad f(s)."""
    cone, example = merged(name), EXAMPLES[name]
    for seed in range(4):
        s, z = interior_pair(name, seed)
        H, _ = scaling_matrices(cone, s, z, jnp.asarray(1.0))
        close(H @ example.shadow(s.reshape(-1, 3)).reshape(-1), -gradient(cone, z), 1e-8)


@over_all
def test_regularised_inverse(name):
    cone, (s, z) = merged(name), interior_pair(name, 2)
    for delta in (1e-8, 1e-3, 1.0, 1e4):
        if name in BARRIER:
            H, inverse = scaling_matrices(cone, s, z, jnp.asarray(delta))
        else:
            H = np.zeros((cone.rows, cone.rows))
            inverse = cone.regularised_inverse(cone.scaling(s, z), jnp.asarray(delta), jnp.eye(cone.rows))
        close(inverse, np.linalg.inv(np.asarray(H) + delta * np.eye(cone.rows)), 1e-8)


def test_zero_cone_is_an_equation():
    cone, s = cj.Zero(3), jnp.zeros(3)
    z = jnp.array([1.0, -2.0, 3.0])
    assert np.all(cone.hessian(cone.scaling(s, z), z) == 0)
    assert np.all(cone.correction(cone.scaling(s, z), s, z, z, z, jnp.asarray(1.0)) == 0)
    assert max_step(cone, s, z, jnp.ones(3), jnp.ones(3)) == 1
    assert np.all(cone.project(z) == 0)
    assert np.all(cone.project_dual(z) == z)


# ----------------------------------------------------------------------------- correction


@over_barriers
def test_correction_without_predictor_is_centering(name):
    """`correction(ds = dz = 0) = sigma mu grad f*(z)`; on the central path with sigma = 1 it is -s: no direction."""
    cone, (s, z) = merged(name), interior_pair(name, 3)
    zero = jnp.zeros_like(s)
    for at in (s, -0.3 * gradient(cone, z)):
        close(correction(cone, at, z, zero, zero, jnp.asarray(0.3)), 0.3 * gradient(cone, z), 1e-9)
    close(correction(cone, at, z, zero, zero, jnp.asarray(0.3)), -at, 1e-9)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_correction_of_symmetric_cones_is_exact(name):
    """From anywhere to the central path at sigma mu: the relation holds with the direction in its own correction."""
    cone = merged(name)
    for seed in range(4):
        (s, z), (_, target) = interior_pair(name, seed), interior_pair(name, seed + 10)
        ds, dz = -0.2 * gradient(cone, target) - s, target - z
        H, _ = scaling_matrices(cone, s, z, jnp.asarray(1.0))
        left, right = ds + H @ dz, -(s + correction(cone, s, z, ds, dz, jnp.asarray(0.2)))
        close(left, right, 1e-9)


@pytest.mark.parametrize("name", THREE_DIMENSIONAL)
def test_correction_of_three_dimensional_cones_is_of_third_order(name):
    """Along the central path at mu = 1 the relation holds up to the third order in dz."""
    cone, (_, z) = merged(name), interior_pair(name, 4)
    s = -gradient(cone, z)
    H, _ = scaling_matrices(cone, s, z, jnp.asarray(1.0))
    along = jnp.asarray(np.random.default_rng(0).normal(size=cone.rows)) * jnp.min(jnp.abs(z))
    errors = []
    for step in (4e-3, 2e-3):
        dz = step * along
        ds = -gradient(cone, z + dz) - s
        errors.append(size(np.asarray(ds + H @ dz + s + correction(cone, s, z, ds, dz, jnp.asarray(1.0)))))
        assert errors[-1] <= 0.05 * size(np.asarray(ds + H @ dz))
    assert 6 < errors[0] / errors[1] < 10


# ----------------------------------------------------------------------------- step to the boundary


@over_barriers
def test_max_step_stays_inside_and_goes_far(name):
    cone, example = merged(name), EXAMPLES[name]
    shortened = 0
    for seed in range(12):
        s, z = interior_pair(name, seed)
        rng = np.random.default_rng(seed + 100)
        ds, dz = (jnp.asarray(rng.normal(size=cone.rows) * 10.0 ** rng.uniform(-1, 2)) for _ in range(2))
        alpha = float(max_step(cone, s, z, ds, dz))
        assert 0 < alpha <= 1
        outside = lambda alpha, s=s, z=z, ds=ds, dz=dz: max(
            violation([example], np.asarray(s + alpha * ds)),
            violation([example], np.asarray(z + alpha * dz), dual=True),
        )
        reach = size(np.asarray(s), np.asarray(z), alpha * np.asarray(ds), alpha * np.asarray(dz))
        assert outside(alpha) <= 1e-12 * reach
        if alpha < 1:
            shortened += 1
            # three-dimensional cones try steps of a grid that is exp(-14 (i/31)^2)
            longer = alpha * (1 + 1e-6) if name in SYMMETRIC else _next_step(alpha)
            assert outside(longer) > 0
    assert shortened >= 4


def _next_step(alpha):
    steps = np.exp(-14 * (np.arange(32) / 31) ** 2)
    return float(steps[np.argmin(np.abs(steps - alpha)) - 1])


@over_all
def test_max_step_of_no_step_or_into_the_cone_is_one(name):
    cone, (s, z) = merged(name), interior_pair(name, 5)
    zero = jnp.zeros_like(s)
    assert max_step(cone, s, z, zero, zero) == 1
    assert max_step(cone, s, z, 10 * s, 10 * z) == 1


# ----------------------------------------------------------------------------- projection

seeds = st.integers(0, 2**32 - 1)
exponents = st.floats(-6, 6)


def point(cone, seed, exponent, spread, dtype=np.float64):
    """A random vector of size 10^exponent; with `spread`, entries over many decades and zeros among them."""
    rng = np.random.default_rng(seed)
    v = rng.normal(size=cone.rows)
    if spread:
        v *= 10.0 ** rng.uniform(-6, 0, cone.rows) * (rng.uniform(size=cone.rows) < 0.85)
    return (v * 10.0**exponent).astype(dtype)


def check_projection(name, v, p, d, tolerance):
    """Moreau: v = p - d with p in K, d in K*, p'd = 0, which determines both."""
    cone, scale = EXAMPLES[name], size(v)
    v, p, d = (np.asarray(a, float) for a in (v, p, d))
    assert size(v - (p - d)) <= tolerance * scale
    assert violation([cone], p) <= tolerance * scale
    assert violation([cone], d, dual=True) <= tolerance * scale
    assert size(np.sum((p * d).reshape(cone.count, -1), 1)) <= tolerance * scale**2


@over_all
@given(seed=seeds, exponent=exponents, spread=st.booleans())
def test_projection_is_that_of_moreau(name, seed, exponent, spread):
    v = point(EXAMPLES[name], seed, exponent, spread)
    check_projection(name, v, *project(EXAMPLES[name], v), 1e-9)


@over_all
@given(seed=seeds, exponent=exponents, spread=st.booleans())
def test_projection_in_single_precision(name, seed, exponent, spread):
    v = point(EXAMPLES[name], seed, exponent, spread, np.float32)
    p, d = project(EXAMPLES[name], v)
    assert p.dtype == d.dtype == jnp.float32
    # a few units of the last digit, and exp magnifies them in the exponential cone
    check_projection(name, v, p, d, 2e-5)


@over_all
@given(seed=seeds, other=seeds, exponent=exponents, distance=st.floats(-9, 1), spread=st.booleans())
def test_projection_is_idempotent_and_nonexpansive(name, seed, other, exponent, distance, spread):
    cone = EXAMPLES[name]
    v = point(cone, seed, exponent, spread)
    w = v + point(cone, other, exponent + distance, spread)
    (p, d), (r, e) = project(cone, v), project(cone, w)
    scale = max(size(v), size(w))
    rounding = 1e-9 * scale
    assert size(np.asarray(project(cone, p)[0] - p)) <= rounding
    assert size(np.asarray(project(cone, -d)[1] - d)) <= rounding
    norm = np.linalg.norm
    assert norm(p - r) <= norm(v - w) + rounding
    assert norm(d - e) <= norm(v - w) + rounding


@over_all
def test_projection_leaves_the_cone_and_sends_its_polar_to_zero(name):
    s, z = interior_pair(name, 6)
    close(project(EXAMPLES[name], s)[0], s, 1e-14)
    assert size(np.asarray(project(EXAMPLES[name], -z)[0])) <= 1e-14
    assert size(np.asarray(project(EXAMPLES[name], jnp.zeros_like(z))[0])) == 0


@pytest.mark.parametrize("name", THREE_DIMENSIONAL)
def test_projection_on_faces_and_edges(name):
    """Points with zeros, on the boundary, and far from it."""
    cone = EXAMPLES[name]
    corners = np.array(np.meshgrid(*[[-1e3, -1, -1e-8, 0, 1e-8, 1, 1e3]] * 3)).reshape(3, -1).T
    for corner in np.split(corners[: len(corners) // 4 * 4], len(corners) // 4):
        v = corner.ravel()
        check_projection(name, v, *project(cone, v), 1e-9)


# ----------------------------------------------------------------------------- exponential and power cones


@pytest.mark.parametrize("name", THREE_DIMENSIONAL)
@given(seed=seeds, exponent=st.floats(-6, 6))
def test_shadow_is_conjugate(name, seed, exponent):
    """-grad f*(shadow(s)) = s at any scale, and the shadow is in K*."""
    cone, example = merged(name), EXAMPLES[name]
    s = jnp.asarray(interior(np.random.default_rng(seed), example) * 10.0**exponent)
    shadow = example.shadow(s.reshape(-1, 3)).reshape(-1)
    assert violation([example], np.asarray(shadow), dual=True) == 0
    close(-gradient(cone, shadow), s, 1e-9)


@pytest.mark.parametrize("name", THREE_DIMENSIONAL)
@pytest.mark.parametrize("depth", [1e-1, 1e-4, 1e-8])
def test_shadow_near_the_boundary(name, depth):
    """The digits that the distance to the boundary leaves."""
    cone, example = merged(name), EXAMPLES[name]
    rng = np.random.default_rng(0)
    rho, alpha = rng.normal(size=4), np.array([0.5, 0.1, 0.9, 0.3])
    if name == "Exponential":
        s = np.stack([rho, np.ones(4), np.exp(rho) * (1 + depth)], 1)
    else:
        u, v = rng.uniform(0.5, 2, (2, 4))
        s = np.stack([u, v, np.sign(rho) * u**alpha * v ** (1 - alpha) * (1 - depth)], 1)
    shadow = example.shadow(jnp.asarray(s)).reshape(-1)
    close(-gradient(cone, shadow), s.reshape(-1), 1e-14 / depth + 1e-11)


@pytest.mark.parametrize("name", THREE_DIMENSIONAL)
def test_derivatives_of_the_barrier(name):
    """Gradient, Hessian, its closed inverse and the third derivative against automatic differentiation."""
    cone, example = merged(name), EXAMPLES[name]
    third = jax.jit(
        lambda z, a, b: jax.jvp(lambda z: jax.jvp(jax.grad(cone.dual_barrier), (z,), (a,))[1], (z,), (b,))[1]
    )
    psi_gradient = jax.jit(jax.grad(lambda z: jnp.sum(example.psi(z.reshape(-1, 3)))))
    for seed in range(5):
        _, z = interior_pair(name, seed)
        a, b = (jnp.asarray(v) for v in np.random.default_rng(seed + 50).normal(size=(2, cone.rows)))
        copies = lambda v: v.reshape(-1, 3)
        H, p = barrier_hessian(cone, z), copies(psi_gradient(z))
        close(cone.gradient(copies(z)).reshape(-1), gradient(cone, z), 1e-10)
        close(jax.scipy.linalg.block_diag(*cone.dual_hessian(copies(z))), H, 1e-10)
        close(example.psi_gradient(copies(z)), p, 1e-10)
        x, px = example.hessian_solve(copies(z), copies(a))
        close(H @ x.reshape(-1), a, 1e-9)
        close(px, jnp.sum(p * x, 1), 1e-8)
        pb = jnp.sum(p * copies(b), 1, keepdims=True)
        close(cone._third(copies(z), copies(a), copies(b), pb).reshape(-1), third(z, a, b), 1e-9)


@pytest.mark.parametrize("name", THREE_DIMENSIONAL)
def test_inside(name):
    example = EXAMPLES[name]
    for seed in range(5):
        s, z = (np.asarray(v).reshape(-1, 3) for v in interior_pair(name, seed))
        assert np.all(example.inside(s, z))
        assert not np.any(example.inside(-s, z))
        assert not np.any(example.inside(s, -z))
        assert not np.any(example.inside(s * [1, -1, 1], z))
        far = s * [1, 1, -1] if name == "Exponential" else s * [1, 1, 0] + np.array([0, 0, 100])
        assert not np.any(example.inside(far, z))


# ----------------------------------------------------------------------------- copies and products


def single(name):
    """One copy, with parameters that vmap may map over."""
    cone = EXAMPLES[name]
    if isinstance(cone, cj.Power):
        return cj.Power(cone.alpha[:, None])
    sizes = {"dim": cone.dim} if isinstance(cone, cj.SecondOrder) else {}
    sizes |= {"side": cone.side} if isinstance(cone, cj.PSD) else {}
    return type(cone)(**sizes, count=1)


@over_all
def test_copies_are_independent(name):
    """What a cone does with `count` copies is what one copy does under vmap."""
    example, cone = EXAMPLES[name], merged(name)
    s, z = interior_pair(name, 7)
    rng = np.random.default_rng(8)
    ds, dz, v = (jnp.asarray(a) for a in 0.3 * rng.normal(size=(3, cone.rows)))
    mu, delta = jnp.asarray(0.1), jnp.asarray(1e-3)

    @jax.jit
    def methods(cone, s, z, ds, dz, v):
        cone = type(cone).merge([cone])
        scaling = cone.scaling(s, z)
        return (
            cone.hessian(scaling, v),
            cone.regularised_inverse(scaling, delta, v[:, None])[:, 0],
            cone.correction(scaling, s, z, ds, dz, mu),
            cone.project(v),
            cone.max_step(scaling, s, z, ds, dz),
            cone.dual_barrier(z),
        )

    one, split = single(name), lambda v: v.reshape(example.count, example.dim)
    axes = (jax.tree.map(lambda _: 0, one), *[0] * 5)
    *vectors, step, barrier = methods(example, s, z, ds, dz, v)
    *lanes, steps, barriers = jax.vmap(methods, axes)(one, *map(split, (s, z, ds, dz, v)))
    for vector, lane in zip(vectors, lanes, strict=True):
        close(vector, lane.reshape(-1), 1e-10)
    assert abs(step - jnp.min(steps)) <= 1e-10
    assert abs(barrier - jnp.sum(barriers)) <= 1e-10


MIXED = [
    cj.Nonnegative(2),
    cj.Exponential(1),
    cj.PSD(2),
    cj.Zero(2),
    cj.Power(jnp.array([0.4])),
    cj.SecondOrder(3),
    cj.PSD(3),
    cj.Nonnegative(0),
    cj.SecondOrder(3, count=2),
    cj.Exponential(2),
    cj.SecondOrder(2),
    cj.PSD(2),
    cj.Zero(1),
]


def test_product_merges_groups_and_keeps_rows():
    product = ProductCone.build(MIXED, num_bounds=3)
    rows = sum(cone.rows for cone in MIXED) + 3
    assert product.rows == rows
    # SecondOrder(3) and (2), PSD(2) and (3), one for Exponential and Power, Zero, Nonnegative, the bounds
    assert len(product.parts) == 8
    assert product.degree == 2 + 9 + 2 + 3 + 3 + 2 * 3 + 2 + 2 + 3
    orders = [part.order for part in product.parts]
    assert orders == sorted(orders)
    v = np.arange(rows)
    assert np.array_equal(product.to_user(product.to_solver(v)), v)
    assert np.array_equal(product.to_solver(product.to_user(v)), v)
    assert np.array_equal(product.to_solver(v)[-3:], v[-3:])
    assert np.array_equal(product.to_solver(v[:-3]), product.to_solver(v)[:-3])
    matrix = np.random.default_rng(0).normal(size=(rows, 2))
    assert np.array_equal(product.to_solver(matrix), matrix[product.to_solver(v)])
    inequality = product.to_user(product.is_inequality())
    assert np.array_equal(np.flatnonzero(inequality), [0, 1, *range(rows - 3, rows)])


@pytest.mark.parametrize("seed", range(2))
def test_product_does_what_its_parts_do_in_any_order(seed):
    order = np.random.default_rng(seed).permutation(len(MIXED))
    cones = [MIXED[i] for i in order]
    product = ProductCone.build(cones)
    rng = np.random.default_rng(9)
    first = np.concatenate([[0], np.cumsum([cone.rows for cone in cones])])
    own = [slice(a, b) for a, b in itertools.pairwise(first)]
    v = rng.normal(size=first[-1])
    mine = np.asarray(product.to_user(_project(product, product.to_solver(jnp.asarray(v)))[0]))
    for cone, rows in zip(cones, own, strict=True):
        if cone.rows:
            close(mine[rows], project(cone, v[rows])[0], 1e-12)
    start = np.asarray(product.to_user(product.start(jnp.float64)))
    for cone, rows in zip(cones, own, strict=True):
        close(start[rows], cone.start(jnp.float64), 1e-14)
    largest = np.asarray(product.to_user(product.block_max(product.to_solver(jnp.asarray(np.abs(v))))))
    for cone, rows in zip(cones, own, strict=True):
        copies = np.abs(v[rows]).reshape(cone.count, cone.dim)
        assert (
            np.array_equal(largest[rows].reshape(copies.shape), np.broadcast_to(copies.max(1)[:, None], copies.shape))
            or not copies.size
        )


def test_product_scaling():
    cones = MIXED
    product = ProductCone.build(cones)
    rng = np.random.default_rng(10)
    s = product.to_solver(jnp.asarray(np.concatenate([interior(rng, cone) for cone in cones])))
    z = product.to_solver(jnp.asarray(np.concatenate([interior(rng, cone, dual=True) for cone in cones])))
    H, inverse = scaling_matrices(product, s, z, jnp.asarray(1e-3))
    close(H @ z, s, 1e-9)
    close(inverse, np.linalg.inv(np.asarray(H) + 1e-3 * np.eye(product.rows)), 1e-8)
    zero = jnp.zeros_like(s)
    close(correction(product, s, z, zero, zero, jnp.asarray(0.5)), 0.5 * gradient(product, z), 1e-9)
    assert max_step(product, s, z, zero, zero) == 1
    assert 0 < max_step(product, s, z, -3 * s, zero) <= 1 / 3
    assert 0 < max_step(product, s, z, zero, -3 * z) < 1


def test_empty_product():
    product = ProductCone.build([])
    empty = jnp.zeros(0)
    assert product.rows == product.degree == 0
    assert product.to_user(product.to_solver(empty)).shape == (0,)
    assert product.start(jnp.float64).shape == (0,)
    assert max_step(product, empty, empty, empty, empty) == 1


# ----------------------------------------------------------------------------- symmetric matrices as vectors


@pytest.mark.parametrize("side", [0, 1, 2, 5])
def test_svec(side):
    X, Y = np.random.default_rng(0).normal(size=(2, 3, side, side))
    X, Y = X + X.swapaxes(1, 2), Y + Y.swapaxes(1, 2)
    v, w = cj.svec(X), cj.svec(Y)
    assert v.shape == (3, side * (side + 1) // 2)
    assert np.allclose(cj.smat(v, side), X, rtol=1e-15, atol=0)
    assert np.array_equal(cj.smat(v), cj.smat(v, side))
    assert np.allclose(np.sum(v * w, 1), np.trace(X @ Y, axis1=1, axis2=2))
    if side:
        assert np.allclose(v, svec(X), rtol=1e-15, atol=0)
        assert np.allclose(smat(np.asarray(v), side), X, rtol=1e-15, atol=0)


def test_smat_of_no_triangle():
    with pytest.raises(ValueError, match=r"v must have side \(side \+ 1\) / 2 entries .*, got 4"):
        cj.smat(jnp.zeros(4))


@pytest.mark.parametrize(
    "cone",
    [
        cj.Zero(-1),
        cj.Nonnegative(2.0),
        cj.Nonnegative(True),
        cj.SecondOrder(0),
        cj.SecondOrder(3, count=-1),
        cj.PSD(-1),
        cj.PSD(2, count=1.5),
        cj.Exponential(-2),
        cj.Power([0.5, 1.0]),
        cj.Power([0.0]),
        cj.Power([np.nan]),
        cj.Power([[0.5]]),
    ],
    ids=str,
)
def test_impossible_cones_are_refused(cone):
    with pytest.raises(ValueError, match=rf"^cones\[3\]: {type(cone).__name__}\."):
        cone.validate("cones[3]")


def test_traced_sizes_are_refused():
    def traced(m):
        cj.Nonnegative(m).validate("cones[0]")
        return m

    with pytest.raises(ValueError, match="cone sizes are static"):
        jax.jit(traced)(3)
