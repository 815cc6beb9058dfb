"""How the solvers are compiled when they are called as they are, not as a part of a larger jitted program."""

from functools import cache, wraps

import jax
import jax.numpy as jnp

# Compilation is most of the time of a first call. Without its newer generator of fused kernels XLA compiles for a CPU
# in two thirds of the time, to programs that run as fast on a single problem. XLA has the choice until JAX 0.11.
QUICK_COMPILATION = {"xla_cpu_use_fusion_emitters": False} if jax.__version_info__ < (0, 12) else {}


def quick_jit(function):
    """`jax.jit`, which compiles quickly where it is called on arrays outside of any trace. JAX allows options of the
    compiler nowhere else: inside a jitted function those of that function hold."""
    jitted = jax.jit(function)

    @wraps(function)
    def call(*arguments):
        leaves = jax.tree.leaves(arguments)
        # inside a jitted function constants are traced, too
        traced = any(isinstance(leaf, jax.core.Tracer) for leaf in (*leaves, jnp.zeros(())))
        return (jitted if traced else quick(function, jitted))(*arguments)

    return call


@cache
def quick(function, jitted):
    """`function` jitted with the options, or `jitted` if the compiler at hand does not know them."""
    if jax.default_backend() != "cpu":
        return jitted
    try:
        jax.jit(jnp.negative, compiler_options=QUICK_COMPILATION)(0.0)
    except jax.errors.JaxRuntimeError:
        return jitted
    return jax.jit(function, compiler_options=QUICK_COMPILATION)
