"""Kernels k(x, z) for support vector machines: pytrees whose parameters may be traced, batched and differentiated.

`kernel(X, Z)` of X (m, p) and Z (n, p) is the matrix (m, n) of all pairs. Kernels can be added, multiplied with each
other and with positive numbers: `2.0 * RBF(0.1) + Linear() * Polynomial(2)`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.pytrees import pytree, static


class Kernel:
    """What all kernels share. A subclass is a pytree with `__call__(X, Z)`."""

    def __call__(self, X: jax.Array, Z: jax.Array) -> jax.Array:
        raise NotImplementedError

    def diagonal(self, X: jax.Array) -> jax.Array:
        """k(x, x) of the rows of X."""
        return jax.vmap(lambda x: self(x[None], x[None])[0, 0])(X)

    def check(self, columns: int) -> None:
        """Raise `ValueError` for parameters that are known now and do not fit to data with so many columns."""

    @property
    def is_convex(self) -> bool:
        """Whether its matrices are known to be positive semidefinite, whatever the parameters are."""
        return False

    def __add__(self, other):
        return Sum(self, _as_kernel(other))

    def __mul__(self, other):
        return Product(self, _as_kernel(other))

    __radd__, __rmul__ = __add__, __mul__


def _as_kernel(value) -> "Kernel":
    return value if isinstance(value, Kernel) else Constant(value)


@pytree
@dataclass(frozen=True)
class Constant(Kernel):
    """k = value."""

    value: Any

    def __call__(self, X, Z):
        return jnp.broadcast_to(jnp.asarray(self.value, X.dtype), (X.shape[0], Z.shape[0]))


@pytree
@dataclass(frozen=True)
class Linear(Kernel):
    """k = x'z."""

    def __call__(self, X, Z):
        return X @ Z.T

    @property
    def is_convex(self):
        return True


@pytree
@dataclass(frozen=True)
class Polynomial(Kernel):
    """k = (scale x'z + offset)^degree; `degree` is a positive int (static)."""

    degree: int = static(default=3)
    scale: Any = 1.0
    offset: Any = 1.0

    def __call__(self, X, Z):
        scale, offset = (jnp.asarray(v, X.dtype) for v in (self.scale, self.offset))
        return (scale * (X @ Z.T) + offset) ** self.degree


class _OfDistance(Kernel):
    """Kernels of a distance: k(x, x) = 1, and every matrix is positive semidefinite."""

    scale: Any

    def check(self, columns):
        scale, name = self.scale, type(self).__name__
        if np.shape(scale) not in ((), (columns,)):
            wanted = f"a number or one for each of {columns} columns"
            raise ValueError(f"the scale of {name} has shape {np.shape(scale)}, expected {wanted}.")
        if not isinstance(scale, jax.core.Tracer) and not np.all(np.asarray(scale) >= 0):
            raise ValueError(f"the scale of {name} must be nonnegative, got {scale}.")

    def scale_for(self, X):
        """The scale in the type of X, NaN where it is negative."""
        scale = jnp.asarray(self.scale, X.dtype)
        return jnp.where(scale >= 0, scale, jnp.nan)

    def diagonal(self, X):
        return jnp.ones(X.shape[0], X.dtype)

    @property
    def is_convex(self):
        return True


@pytree
@dataclass(frozen=True)
class RBF(_OfDistance):
    """k = exp(-sum_j scale_j (x_j - z_j)^2); `scale` is a number (what scikit-learn calls gamma) or one for each
    column (automatic relevance)."""

    scale: Any

    def __call__(self, X, Z):
        scale = self.scale_for(X)
        # around the mean of Z: fewer digits are lost in the differences of squares
        centre = jax.lax.stop_gradient(jnp.mean(Z, 0))
        X, Z = X - centre, Z - centre
        # minus the squares of the distances as one product: sums of rows and columns would be formed anew for each pair
        squares = lambda X: jnp.sum(X * X * scale, 1, keepdims=True)
        ones = lambda X: jnp.ones((X.shape[0], 1), X.dtype)
        left = jnp.concatenate([2 * scale * X, -squares(X), -ones(X)], 1)
        right = jnp.concatenate([Z, ones(Z), squares(Z)], 1)
        return jnp.exp(jnp.minimum(left @ right.T, 0))


@pytree
@dataclass(frozen=True)
class Laplacian(_OfDistance):
    """k = exp(-sum_j scale_j |x_j - z_j|)."""

    scale: Any

    def __call__(self, X, Z):
        scale = jnp.broadcast_to(self.scale_for(X), X.shape[1:])

        def add(total, column):
            x, z, s = column
            return total + s * jnp.abs(x[:, None] - z), None

        zero = jnp.zeros((X.shape[0], Z.shape[0]), X.dtype)
        return jnp.exp(-jax.lax.scan(add, zero, (X.T, Z.T, scale))[0])


@pytree
@dataclass(frozen=True)
class Sigmoid(Kernel):
    """k = tanh(scale x'z + offset), which is not positive semidefinite for most data."""

    scale: Any = 1.0
    offset: Any = 0.0

    def __call__(self, X, Z):
        scale, offset = (jnp.asarray(v, X.dtype) for v in (self.scale, self.offset))
        return jnp.tanh(scale * (X @ Z.T) + offset)


@pytree
@dataclass(frozen=True)
class Precomputed(Kernel):
    """X holds the values themselves: `fit` takes the square matrix of the training samples as X, `predict` one with a
    row for each new and a column for each training sample."""

    def __call__(self, X, Z):
        return X


@pytree
@dataclass(frozen=True)
class Function(Kernel):
    """Any JAX function `function(x, z, *parameters)` of two rows, symmetric and positive semidefinite."""

    function: Callable = static()  # noqa: RUF009
    parameters: tuple = ()

    def __call__(self, X, Z):
        one = lambda x, z: self.function(x, z, *self.parameters)
        return jax.vmap(lambda x: jax.vmap(lambda z: one(x, z))(Z))(X)


@pytree
@dataclass(frozen=True)
class Sum(Kernel):
    """k_1 + k_2."""

    first: Kernel
    second: Kernel

    def __call__(self, X, Z):
        return self.first(X, Z) + self.second(X, Z)

    def check(self, columns):
        self.first.check(columns)
        self.second.check(columns)

    @property
    def is_convex(self):
        return self.first.is_convex and self.second.is_convex


@pytree
@dataclass(frozen=True)
class Product(Kernel):
    """k_1 k_2."""

    first: Kernel
    second: Kernel

    def __call__(self, X, Z):
        return self.first(X, Z) * self.second(X, Z)

    def check(self, columns):
        self.first.check(columns)
        self.second.check(columns)

    @property
    def is_convex(self):
        return self.first.is_convex and self.second.is_convex


# ----------------------------------------------------------------------------- low rank


def nystrom(kernel: Kernel, X: jax.Array, landmarks: jax.Array) -> jax.Array:
    """Features (m, r) of the rows of X with k(x, z) ~ features(x)'features(z), exact between the landmarks (r, p)
    (Williams and Seeger, "Using the Nystroem method to speed up kernel machines", 2001). A linear machine on them is a
    kernel machine of rank r; directions of the landmarks of no weight become zero."""
    K = kernel(landmarks, landmarks)
    values, vectors = jnp.linalg.eigh(K)
    floor = landmarks.shape[0] * jnp.finfo(K.dtype).eps * jnp.max(jnp.abs(values))
    root = jnp.where(values > floor, jax.lax.rsqrt(jnp.where(values > floor, values, 1)), 0)
    return kernel(X, landmarks) @ (vectors * root)


def random_features(key: jax.Array, X: jax.Array, scale, count: int) -> jax.Array:
    """Features (m, count) with exp(-scale |x - z|^2) ~ features(x)'features(z), with an error of count^(-1/2) (Rahimi
    and Recht, "Random features for large-scale kernel machines", 2007). The same key and columns give the same map."""
    direction, phase = jax.random.split(key)
    W = jax.random.normal(direction, (X.shape[1], count), X.dtype)
    shift = jax.random.uniform(phase, (count,), X.dtype, 0, 2 * jnp.pi)
    root = jnp.sqrt(2 * jnp.asarray(scale, X.dtype))
    return jnp.sqrt(jnp.asarray(2 / count, X.dtype)) * jnp.cos((X * root) @ W + shift)
