"""The interface of a cone: everything the interior-point method asks of it, with the equations.

A cone object stands for `count` copies of one cone K of dimension `dim`. Its methods take and return flat vectors of
its `rows = count * dim` rows and work on all copies at once, as arrays of shape (count, dim).

With a logarithmically homogeneous barrier f* of the dual cone (parameter `degree` for all copies together), the central
path is `s = -mu grad f*(z)`. At a pair (s, z) of interior points the method linearises it with a symmetric positive
definite scaling `H` such that `H z = s`, and asks for one relation between the directions:

    ds + H dz = -(s + correction)            correction = 0 in the predictor.

For the symmetric cones H is the Nesterov-Todd scaling W'W and, with lambda = W z and the Jordan product o,

    correction = W' (lambda \\ ((W^-T ds) o (W dz) - sigma mu e)),

Mehrotra's second-order correction. The other cones have theirs in `three_dimensional.py`. `ds, dz` are the predictor's.

For derivatives of solutions (`implicit.py`) a cone has a projection with a parameter mu >= 0, the point s of

    s - z = v,   s = -mu grad f*(z),

Moreau's decomposition for mu = 0 and a smooth function of v for mu > 0 (the proximal operator of mu times the barrier);
and the spectrum of its derivative D, a symmetric matrix with eigenvalues between 0 and 1.

To add a cone: write one file with a subclass, and name the class in `convexjax/cones/__init__.py`.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp

from convexjax.linear_algebra import reductions

# What `scaling` returns; only the cone itself looks inside.
Scaling = Any


class Cone:
    """`count` copies of a cone K. Subclasses are frozen pytree dataclasses: sizes static, parameters data."""

    # Position of the cone's rows inside the solver: cones with elementwise H come last, next to the bounds.
    order: ClassVar[int] = 0
    # Take ds from the primal row `A dx + ds - b dtau = r` instead of the relation above, which loses digits for
    # cones whose H is far from diagonal.
    slack_from_primal_row: ClassVar[bool] = False

    # Fields or properties of the subclasses:
    count: Any  # copies
    dim: Any  # rows of one copy
    degree: Any  # barrier parameter of all copies together: s'z = degree * mu on the central path

    @property
    def rows(self) -> int:
        """Rows of all copies."""
        return self.count * self.dim

    def validate(self, name: str) -> None:
        """Raise `ValueError` if sizes or parameters cannot be a cone; `name` is the user's word for it."""

    def with_data(self, name: str, floating: Any) -> Self:
        """The cone with its parameters, if it has any, as arrays made by `floating(**{name: value})`."""
        return self

    @property
    def group(self) -> Any:
        """Cones with equal `group` are merged and worked on together."""
        return type(self), self.dim

    @classmethod
    def merge(cls, cones: list[Self]) -> "Cone":
        """One cone object for the copies of all `cones` (of one group), in order."""
        import dataclasses

        return dataclasses.replace(cones[0], count=sum(cone.count for cone in cones))  # type: ignore[type-var]

    def start(self, dtype) -> jax.Array:
        """The point with s = z = -grad f*(z)."""
        raise NotImplementedError

    def scaling(self, s: jax.Array, z: jax.Array) -> Scaling:
        """What the methods below need of H at (s, z)."""
        raise NotImplementedError

    def hessian(self, scaling: Scaling, v: jax.Array) -> jax.Array:
        """H v."""
        raise NotImplementedError

    def regularised_inverse(self, scaling: Scaling, delta: jax.Array, v: jax.Array) -> jax.Array:
        """(H + delta I)^-1 v for a matrix v of shape (rows, k), by the spectrum of H: accurate for any delta > 0."""
        return self.spectral(scaling.spectrum, lambda eigenvalues: 1 / (eigenvalues + delta), v)

    def correction(
        self, scaling: Scaling, s: jax.Array, z: jax.Array, ds: jax.Array, dz: jax.Array, sigma_mu: jax.Array
    ) -> jax.Array:
        """The correction of the relation between ds and dz, given the predictor's ds and dz."""
        raise NotImplementedError

    def max_step(self, scaling: Scaling, s: jax.Array, z: jax.Array, ds: jax.Array, dz: jax.Array) -> jax.Array:
        """Largest alpha <= 1 (or a safe lower bound) with s + alpha ds in K and z + alpha dz in K*."""
        raise NotImplementedError

    def dual_barrier(self, z: jax.Array) -> jax.Array:
        """f*(z), a scalar; not used by the solver, it defines the central path for tests and readers."""
        raise NotImplementedError

    def project(self, v: jax.Array, mu: jax.Array | None = None) -> jax.Array:
        """Euclidean projection of each copy of v onto K; with mu > 0 the smooth one. It can be differentiated any
        number of times with respect to v and to the parameters of the cone, not with respect to mu."""
        return _project(self, v, mu)

    def projection(self, v: jax.Array, mu: jax.Array | None) -> jax.Array:
        """The value of `project`."""
        raise NotImplementedError

    def spectrum(self, v: jax.Array, mu: jax.Array | None) -> Any:
        """Eigenvectors and eigenvalues of the derivative D of `project` at v, for `spectral`. At a kink one of the
        generalised derivatives."""
        raise NotImplementedError

    def spectral(self, spectrum: Any, function: Callable, v: jax.Array) -> jax.Array:
        """The matrix with the eigenvectors of `spectrum`, and `function` of its eigenvalues, times a matrix v of
        shape (rows, k)."""
        raise NotImplementedError

    def derivative(self, v: jax.Array, mu: jax.Array | None, dv: jax.Array) -> jax.Array:
        """D dv, to be differentiated again."""
        return self.spectral(self.spectrum(v, mu), lambda eigenvalues: eigenvalues, dv[:, None])[:, 0]

    def parameter_derivative(self, v: jax.Array, mu: jax.Array | None, direction: Self) -> jax.Array | None:
        """The derivative of `project` along a direction of the cone's parameters (an object of the same class)."""
        return None

    def near_kink(self, v: jax.Array, distance: jax.Array) -> jax.Array:
        """Whether any copy of v is within about `distance` of a point where the projection has no derivative."""
        raise NotImplementedError

    def project_dual(self, v: jax.Array) -> jax.Array:
        """Euclidean projection onto K*, by Moreau: v + project(-v)."""
        return v + self.project(-v)

    def copies(self, v: jax.Array) -> jax.Array:
        """The flat vector (or matrix of columns) as an array (count, dim, ...)."""
        return jnp.reshape(v, (self.count, self.dim, *v.shape[1:]))


@jax.custom_jvp
def _project(cone, v, mu):
    return cone.projection(v, mu)


@_project.defjvp
def _(primals, tangents):
    (cone, v, mu), (direction, dv, _) = primals, tangents
    ds = cone.derivative(v, mu, dv)
    of_parameters = cone.parameter_derivative(v, mu, direction)
    return _project(cone, v, mu), ds if of_parameters is None else ds + of_parameters


def require_pytree(cone: Cone, name: str) -> None:
    """A cone goes through `jit` and `vmap`: to JAX its class has to be a container of its parameters."""
    if jax.tree_util.all_leaves([cone]):
        raise ValueError(
            f"{name}: the class {type(cone).__name__} is no pytree. Write @convexjax.cones.pytree above its "
            "@dataclass, and give sizes as fields `dim: int = convexjax.cones.static()`."
        )


def require_count(cone: Cone, name: str, minimum: int = 0) -> None:
    """Sizes of cones are static: Python ints, not arrays under trace."""
    import dataclasses

    for f in dataclasses.fields(cone):  # type: ignore[arg-type]
        if not f.metadata.get("static"):
            continue
        value = getattr(cone, f.name)
        if isinstance(value, jax.core.Tracer):
            raise ValueError(
                f"{name}: {type(cone).__name__}.{f.name} is a traced value; cone sizes are static. Build the cone "
                "outside of the traced function, or mark the argument static (jit(..., static_argnums=...))."
            )
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            raise ValueError(f"{name}: {type(cone).__name__}.{f.name} must be an int >= {minimum}, got {value!r}.")


def step_to_boundary(*rates: jax.Array) -> jax.Array:
    """The step 1 / max(rates, 1): each rate is that at which a margin of size one shrinks along the direction."""
    largest = reductions(maxima=rates)
    return 1 / jnp.maximum(1, jnp.max(jnp.stack(largest)))
