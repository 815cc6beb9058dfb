"""Derivatives in the cost of problems whose solutions jump, such as linear programs.

The exact derivative of `argmin(c)` is zero almost everywhere. That of its average over noise, with Z standard normal,

    x(c) = E argmin(c + sigma Z),      dx = E argmin(c + sigma Z) (Z'dc) / sigma,

is not (Berthet, Blondel, Teboul, Cuturi, Vert and Bach, "Learning with differentiable perturbed optimizers", 2020).
Samples come in pairs Z, -Z, which removes the part of the variance that does not depend on c.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def perturbed(argmin: Callable, key: jax.Array, *, sigma: float | jax.Array = 0.1, num_samples: int = 64) -> Callable:
    """The function `c -> mean of argmin(c + sigma Z)` over samples, differentiable in c.

    Arguments:
        argmin: a function of a cost vector c (n,) that `jax.vmap` can map, such as
            `lambda c: convexjax.solve_lp(c, G, h).x`; it may return any pytree of arrays.
        key: a random key; the same key gives the same noise for every c.
        sigma: standard deviation of the noise, in units of c. Smaller: less bias, more variance.
        num_samples: solves per call, an even number.

    Returns:
        A function of c. Its derivative in c is that of the average over all noise, estimated from the same samples;
        in data that `argmin` holds it is the mean of the derivatives of `argmin`.

    Raises:
        ValueError: `num_samples` not even and positive, or `sigma` not positive.

    The cheaper one of two goods, of which the first costs a little less:

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import convexjax as cj
    >>> choose = lambda c: cj.solve_lp(c, A=jnp.ones((1, 2)), b=jnp.ones(1), lb=0.0).x
    >>> soft = cj.perturbed(choose, jax.random.key(0), sigma=1.0, num_samples=512)
    >>> slope = jax.grad(lambda c: soft(c)[0])(jnp.array([1.0, 1.2]))
    >>> bool(slope[0] < -0.2), bool(slope[1] > 0.2)
    (True, True)
    """
    if not isinstance(num_samples, int) or num_samples < 2 or num_samples % 2:
        raise ValueError(f"num_samples must be a positive even int, got {num_samples!r}.")
    if not isinstance(sigma, jax.core.Tracer) and not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma!r}.")

    def average(c):
        c = jnp.asarray(c)
        if c.ndim != 1 or not jnp.issubdtype(c.dtype, jnp.floating):
            raise ValueError(f"The cost must be a floating vector (n,), got shape {c.shape} of {c.dtype}.")
        half = sigma * jax.random.normal(key, (num_samples // 2, c.shape[0]), c.dtype)
        noise = jnp.concatenate([half, -half])
        weight = noise @ c / (jnp.asarray(sigma, c.dtype) ** 2 * num_samples)  # Z'c / sigma

        def combine(x):
            # zero, with the derivative that the jumps of x hide
            tilt = jnp.tensordot(weight, jax.lax.stop_gradient(x), 1)
            return jnp.mean(x, 0) + (tilt - jax.lax.stop_gradient(tilt))

        return jax.tree.map(combine, jax.vmap(argmin)(jax.lax.stop_gradient(c) + noise))

    return average
