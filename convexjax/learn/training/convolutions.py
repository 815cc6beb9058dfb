"""Convolutions that XLA's CPU back end runs fast inside of loops.

Its pass that puts the axes of a convolution in the order of the fast kernels looks at the outermost computation only.
Inside a loop any other order (that of the gradients is one) is served by a kernel that is ten to thirty times slower
(github.com/jax-ml/jax/issues/12868). `canonical` puts the axes in order where the program is traced.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core


def canonical(function: Callable) -> Callable:
    """The same function of arrays, with its convolutions in the order of axes that the kernels want: samples, space,
    channels, and space, inputs, outputs. Nothing changes unless it convolves and the CPU is the default device."""

    def rewritten(*arguments):
        if jax.default_backend() != "cpu":
            return function(*arguments)
        program, shapes = jax.make_jaxpr(function, return_shape=True)(*arguments)
        if not _convolves(program.jaxpr):
            return function(*arguments)
        outputs = _evaluate(program.jaxpr, program.consts, *jax.tree.leaves(arguments))
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return rewritten


def _called(equation):
    """The program that an equation calls, if it is a call and nothing else: outermost, where derivatives are taken
    already, a function with a derivative of its own is one, too."""
    name = equation.primitive.name
    if name in ("jit", "pjit"):
        return equation.params["jaxpr"]
    return equation.params.get("call_jaxpr") if name in ("custom_jvp_call", "custom_vjp_call") else None


def _is_convolution(equation) -> bool:
    return equation.primitive is jax.lax.conv_general_dilated_p


def _convolves(jaxpr) -> bool:
    called = [program.jaxpr for equation in jaxpr.eqns if (program := _called(equation)) is not None]
    return any(map(_is_convolution, jaxpr.eqns)) or any(map(_convolves, called))


def _evaluate(jaxpr, constants, *arguments) -> list:
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *arguments], strict=True))
    read = lambda atom: atom.val if isinstance(atom, core.Literal) else values[atom]
    for equation in jaxpr.eqns:
        called = _called(equation)
        if _is_convolution(equation):
            answers = [_convolve(*map(read, equation.invars), **equation.params)]
        elif called is not None:
            answers = _evaluate(called.jaxpr, called.consts, *map(read, equation.invars))
        else:
            answers = equation.primitive.bind(*map(read, equation.invars), **equation.params)
            answers = answers if equation.primitive.multiple_results else [answers]
        values.update(zip(equation.outvars, answers, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _convolve(x, w, *, dimension_numbers, **parameters):
    """The convolution on transposed arrays, transposed back."""
    last = x.ndim - 1
    samples, channels, *space = dimension_numbers.lhs_spec
    x = jnp.transpose(x, (samples, *space, channels))
    outputs, inputs, *space = dimension_numbers.rhs_spec
    w = jnp.transpose(w, (*space, inputs, outputs))
    of_x, of_w = (0, last, *range(1, last)), (last, last - 1, *range(last - 1))
    order = jax.lax.ConvDimensionNumbers(of_x, of_w, of_x)
    y = jax.lax.conv_general_dilated_p.bind(x, w, dimension_numbers=order, **parameters)
    samples, channels, *space = dimension_numbers.out_spec
    return jnp.transpose(y, np.argsort((samples, *space, channels)).tolist())
