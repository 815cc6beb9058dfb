"""The solution of a dual as a function of its data: the implicit function theorem for its active set."""

from functools import partial

import jax

from convexjax.learn.svm.active_set import ActiveSet, at, conditions, solve_active
from convexjax.learn.svm.dual import BoxDual, Point, certificate


@jax.custom_jvp
def attach(dual: BoxDual, operator, x: jax.Array, active: ActiveSet) -> jax.Array:
    """x = (a, b, rho), the solution with this active set, as a function of the data of (1) (implicit function
    theorem)."""
    return x


@attach.defjvp
def _attach_jvp(primals, tangents):
    (dual, operator, x, active), (ddual, doperator, _, _) = primals, tangents
    solve = solve_active(*jax.lax.stop_gradient((dual, operator, active)))
    x = attach(dual, operator, x, active)
    of_data = lambda dual, operator: conditions(x, dual, operator, active)
    change = jax.jvp(of_data, (dual, operator), (ddual, doperator))[1]
    matvec = lambda v: jax.jvp(lambda x: conditions(x, dual, operator, active), (x,), (v,))[1]
    return x, jax.lax.custom_linear_solve(matvec, -change, lambda _, right: solve(right), symmetric=True)


def values_of(point: Point, objective: jax.Array, arguments: tuple) -> tuple[jax.Array, jax.Array]:
    """(beta'K beta, the objective) of a point, of which K beta is known, as functions of (dual, operator, x)."""
    fixed = jax.lax.stop_gradient((point, objective))
    square = arguments[1].square(fixed[0].w, fixed[0].f)
    return known(_values, (jax.lax.stop_gradient(square), fixed[1]), arguments)


def _values(dual, operator, x):
    point = at(dual, operator, x)
    return operator.square(point.w, point.f), certificate(dual, operator, point)[0]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def known(function, value, arguments):
    """`function(*arguments)`, whose value is known, with its derivatives."""
    return value


@known.defjvp
def _known_jvp(function, primals, tangents):
    (value, arguments), (_, changes) = primals, tangents
    # the values of the next derivative come from the function itself
    again = lambda arguments: known(function, jax.lax.stop_gradient(value), arguments)
    return again(arguments), jax.jvp(lambda arguments: function(*arguments), (arguments,), (changes,))[1]
