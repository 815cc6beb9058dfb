"""`from_cvxpy`: a problem of CVXPY as a JAX function of its parameters."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import cvxpy as cp
import cvxpy.settings as s
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from cvxpy.reductions.cvx_attr2constr import lower_value, recover_value_for_leaf
from cvxpy.utilities import scopes

from convexjax.interop.cone_form import ConeForm, solve_cone_form
from convexjax.interop.cvxpy.solver import CONVEXJAX, cone_form
from convexjax.linear_algebra import smat
from convexjax.options import Options
from convexjax.problems.arguments import checked_options, floating
from convexjax.solution import Solution


@dataclass(frozen=True)
class _Affine:
    """An array that is affine in theta, the values of the parameters and at the end 1: entry `position[k]` (of the
    flattened array) has the term `value[k] theta[column[k]]` beside what is constant."""

    constant: np.ndarray
    position: np.ndarray
    column: np.ndarray
    value: np.ndarray

    @classmethod
    def build(cls, shape: tuple, positions, columns, values, last: int) -> "_Affine":
        """From all terms; those of the column `last` are constants."""
        constant, fixed = np.zeros(shape), columns == last
        np.add.at(constant.reshape(-1), positions[fixed], values[fixed])
        return cls(constant, positions[~fixed].astype(np.int32), columns[~fixed].astype(np.int32), values[~fixed])

    def at(self, theta: jax.Array) -> jax.Array:
        """The array."""
        constant = jnp.asarray(self.constant, theta.dtype)
        if not self.position.size:
            return constant
        terms = self.value.astype(theta.dtype) * theta[self.column]
        return constant.reshape(-1).at[self.position].add(terms).reshape(constant.shape)


@dataclass(frozen=True)
class _Program:
    """The cone form, affine in theta."""

    form: ConeForm
    P: _Affine | None
    q: _Affine
    offset: _Affine
    A: _Affine
    b: _Affine

    @classmethod
    def build(cls, program) -> "_Program":
        """From CVXPY's parametrised cone program, whose matrices hold a row for each entry of the data, column by
        column, and a column for each entry of theta."""
        n, m, last = program.x.size, program.constr_size, program.total_param_size
        q, A = sp.coo_array(program.q), sp.coo_array(program.A)
        linear, constraint = q.row < n, A.row < m * n
        column, row = np.divmod(A.row, max(m, 1))
        known = np.where(A.col == last, -A.data, np.nan)
        entries, first = np.unique(A.row[constraint], return_inverse=True)
        totals = np.bincount(first, known[constraint], entries.size)
        form = cone_form(program.cone_dims, (entries % max(m, 1), entries // max(m, 1), totals))
        place = np.full(m, -1)
        place[form.kept] = np.arange(form.kept.size)
        kept = constraint & (place[row] >= 0) if m else constraint
        affine = lambda shape, position, of, chosen, sign=1: _Affine.build(
            shape, position[chosen], of.col[chosen], sign * of.data[chosen], last
        )
        P = None
        if program.P is not None and program.P.nnz:
            quadratic = sp.coo_array(program.P)
            P = affine((n, n), quadratic.row, quadratic, np.full(quadratic.nnz, True))
        return cls(
            form=form,
            P=P,
            q=affine((n,), q.row, q, linear),
            offset=affine((), np.zeros_like(q.row), q, ~linear),
            A=affine((form.kept.size, n), place[row] * n + column if m else row, A, kept, -1),
            b=affine((m,), row, A, ~constraint),
        )

    def solve(self, theta: jax.Array, options: Options) -> tuple[Solution, jax.Array]:
        """The solution, and the constant of the objective."""
        P = None if self.P is None else self.P.at(theta)
        data = (self.q.at(theta), self.A.at(theta), self.b.at(theta))
        return solve_cone_form(self.form, P, *data, options), self.offset.at(theta)


class _Canonical(CONVEXJAX):
    """Stops where the parameters would get their values. Bounds, in which parameters may stand, are rows."""

    BOUNDED_VARIABLES = False

    def apply(self, problem):
        problem, data, inverse_data = self._prepare_data_and_inv_data(problem)
        return data, inverse_data | {s.OFFSET: 0.0}


def from_cvxpy(
    problem: cp.Problem,
    parameters: Sequence[cp.Parameter],
    variables: Sequence[cp.Variable],
    *,
    gp: bool = False,
    options: Options | None = None,
) -> Callable[..., Solution]:
    """A problem of CVXPY as a pure function `f(*values) -> Solution`.

    The problem is brought to cone form once, here; `f` is then like any other JAX function: it can be jitted, mapped
    over batches of parameter values, scanned and differentiated as often as wanted, and each lane has its own status.

    Arguments:
        problem: follows CVXPY's rules for parametrised problems (`problem.is_dpp()`); with `gp`,
            `problem.is_dpp("dgp")`. A quadratic form whose matrix is a parameter may stand in the objective.
        parameters: all parameters of the problem, in the order in which `f` takes their values. The attributes of a
            parameter (a sign, say) are the caller's promise.
        variables: those whose values are wanted, in this order; among them may be dual variables of constraints
            (`constraint.dual_variables`).
        gp: whether the problem is a geometric one.
        options: see `Options`.

    Returns:
        f, whose `Solution` holds as `x` the tuple of the variables' values, `objective` (in the problem's own sense:
        of a maximisation the maximum), `status`, `info`, and as `s` and `z` slack and dual of the cone form. Where the
        status is no solution, so are the values. `f` takes arrays of the parameters' shapes; their dtype is that of
        the solution.

    Raises:
        ValueError: a problem that breaks the rules or has integer or complex variables, parameters that are not the
            problem's, variables that it does not have; from `f`, values of other shapes.

    >>> import cvxpy as cp, jax, jax.numpy as jnp
    >>> from convexjax.interop.cvxpy import from_cvxpy
    >>> x, target = cp.Variable(2), cp.Parameter(2)
    >>> problem = cp.Problem(cp.Minimize(cp.sum_squares(x - target)), [x >= 0])
    >>> nearest = from_cvxpy(problem, [target], [x])
    >>> print(nearest(jnp.array([1.0, -2.0])).x[0].round(3) + 0.0)
    [1. 0.]
    >>> print(jax.jacobian(lambda target: nearest(target).x[0])(jnp.array([1.0, -2.0])).round(3) + 0.0)
    [[1. 0.]
     [0. 0.]]
    """
    options = checked_options(options)
    _require_convertible(problem, parameters, variables, gp)
    canonical = _canonicalised(problem, gp)
    program = _Program.build(canonical.program)
    take = [_taken(parameter, canonical) for parameter in parameters]
    give = [_given(variable, problem, canonical) for variable in variables]
    objective_of = _objective(isinstance(problem.objective, cp.Maximize), gp)

    def f(*values) -> Solution:
        if len(values) != len(parameters):
            raise ValueError(f"the function takes {len(parameters)} values, one per parameter, got {len(values)}.")
        names = [f"parameters[{i}] ({parameter.name()})" for i, parameter in enumerate(parameters)]
        arrays = floating(**dict(zip(names, values, strict=True))) if values else []
        for name, array, parameter in zip(names, arrays, parameters, strict=True):
            if array.shape != parameter.shape:
                raise ValueError(f"{name} must have shape {parameter.shape}, got {array.shape}; use vmap for batches.")
        dtype = jnp.result_type(*arrays) if arrays else jnp.result_type(float)
        theta = jnp.zeros(canonical.program.total_param_size + 1, dtype).at[-1].set(1)
        for (columns, entries, transform), array in zip(take, arrays, strict=True):
            theta = theta.at[columns].set(transform(array.T.reshape(-1)[entries].astype(dtype)))
        solution, offset = program.solve(theta, options)
        objective = objective_of(solution.objective + offset)
        return replace(solution, x=tuple(value(solution) for value in give), objective=objective)

    return f


def _require_convertible(problem, parameters, variables, gp: bool) -> None:
    """Raise `ValueError` for what cannot become a function."""
    if not isinstance(problem, cp.Problem):
        raise ValueError(f"problem must be a cvxpy.Problem, got {type(problem).__name__}.")
    with nullcontext() if gp else scopes.quad_form_dpp_scope():
        if not (problem.is_dgp(dpp=True) if gp else problem.is_dcp(dpp=True)):
            rules = "disciplined geometric programming (DGP)" if gp else "disciplined convex programming (DCP)"
            raise ValueError(
                f"problem must follow the rules of {rules} with parameters (DPP): see `problem.is_dpp()`; "
                "a product of two parameters, say, is a parameter of its own."
            )
    if problem.is_mixed_integer():
        raise ValueError("problem has integer or boolean variables; only continuous problems are solved.")
    if any(leaf.is_complex() for leaf in (*problem.variables(), *problem.parameters())):
        raise ValueError("problem has complex variables or parameters; write it in real ones.")
    wanted, given = ({parameter.id: parameter for parameter in some} for some in (problem.parameters(), parameters))
    missing = [parameter.name() for number, parameter in wanted.items() if number not in given]
    foreign = [parameter.name() for number, parameter in given.items() if number not in wanted]
    if missing or foreign or len(given) != len(parameters):
        raise ValueError(
            "parameters must be those of the problem, each once: "
            f"missing {missing}, not in the problem {foreign}, given {len(parameters)} of {len(wanted)}."
        )
    duals = [dual.id for constraint in problem.constraints for dual in constraint.dual_variables]
    known = {variable.id for variable in problem.variables()}.union(duals)
    foreign = [variable.name() for variable in variables if variable.id not in known]
    if foreign:
        raise ValueError(f"variables must be the problem's, or duals of its constraints; not so: {foreign}.")


@dataclass(frozen=True)
class _CanonicalProblem:
    """The parametrised cone program, and which of its leaves stand for those of the problem."""

    program: Any
    variable_ids: dict
    parameter_ids: dict
    constraint_ids: dict
    logarithms: frozenset  # ids of the variables and parameters whose logarithms stand in the program


def _canonicalised(problem: cp.Problem, gp: bool) -> _CanonicalProblem:
    """The problem in cone form. A geometric one is convex in the logarithms of its variables and parameters."""
    log_variables: dict = {}
    log_parameters: dict = {}
    if gp:
        reduction = cp.reductions.Dgp2Dcp(problem)
        problem, _ = reduction.apply(problem)
        log_variables = {old: new[0] for old, new in reduction.var_id_map.items()}
        log_parameters = {old: new[0] for old, new in reduction.param_id_map.items()}
    with scopes.quad_form_dpp_scope():
        data, chain, _ = problem.get_problem_data(_Canonical())
    last = lambda found: {old: new[0] for old, new in found.items()}
    later_variables, later_parameters = last(chain.compose_var_id_map()), last(chain.compose_param_id_map())
    through = lambda first, second: {old: second.get(new, new) for old, new in first.items()}
    return _CanonicalProblem(
        program=data[s.PARAM_PROB],
        variable_ids=later_variables | through(log_variables, later_variables),
        parameter_ids=later_parameters | through(log_parameters, later_parameters),
        constraint_ids=chain.compose_constr_id_map(),
        logarithms=frozenset(log_variables) | frozenset(log_parameters),
    )


def _objective(maximised: bool, gp: bool) -> Callable:
    """From the value of the cone form to that of the problem."""
    signed = (lambda value: -value) if maximised else (lambda value: value)
    return (lambda value: jnp.exp(signed(value))) if gp else signed


def _taken(parameter: cp.Parameter, canonical: _CanonicalProblem) -> tuple:
    """(entries of theta, entries of the parameter's value column by column, transformation) that belong together."""
    number = canonical.parameter_ids.get(parameter.id, parameter.id)
    first = canonical.program.param_id_to_col[number]
    numbers = np.arange(parameter.size).reshape(parameter.shape, order="F")
    # of a symmetric, diagonal or sparse parameter the program knows the entries that are free
    entries = np.asarray(lower_value(parameter, numbers)).flatten(order="F").astype(np.int32)
    columns = first + np.arange(entries.size, dtype=np.int32)
    return columns, entries, jnp.log if parameter.id in canonical.logarithms else lambda value: value


def _given(variable: cp.Variable, problem: cp.Problem, canonical: _CanonicalProblem) -> Callable:
    """The function that reads the variable's value from the solution."""
    for constraint in problem.constraints:
        if variable.id in {dual.id for dual in constraint.dual_variables}:
            return _given_dual(variable, constraint, canonical)
    number = canonical.variable_ids.get(variable.id, variable.id)
    if number not in canonical.program.var_id_to_col:
        raise ValueError(f"variables: {variable.name()} does not appear in the problem's cone form.")
    size = canonical.program.id_to_var[number].size
    entries = canonical.program.var_id_to_col[number] + np.arange(size)
    # entry 0 of what is read is 0, for entries that a diagonal or sparse variable does not have
    places = recover_value_for_leaf(variable, 1.0 + np.arange(size), project=False)
    places = places.toarray() if sp.issparse(places) else np.asarray(places)
    places = np.reshape(places, variable.shape, order="F").astype(np.int32)
    read = jnp.exp if variable.id in canonical.logarithms else lambda value: value
    return lambda solution: read(jnp.pad(solution.x[entries.astype(np.int32)], (1, 0))[places])


def _given_dual(variable: cp.Variable, constraint, canonical: _CanonicalProblem) -> Callable:
    """The same of a dual variable."""
    number = canonical.constraint_ids.get(constraint.id, constraint.id)
    first = 0
    for other in canonical.program.constraints:
        if other.id == number:
            break
        first += other.size
    rows = slice(first, first + other.size)
    if isinstance(constraint, cp.constraints.PSD):
        side = variable.shape[-1]
        return lambda solution: smat(solution.z[rows], side)
    places = _places_of_dual(variable, constraint, other.size)
    return lambda solution: solution.z[rows][places]


def _places_of_dual(variable: cp.Variable, constraint, size: int) -> np.ndarray:
    """Where in the dual of a constraint's rows stand the entries of one of its dual variables. CVXPY knows: it is given
    the places as values."""
    if len(constraint.dual_variables) == 1:
        return np.arange(size, dtype=np.int32).reshape(variable.shape, order="F")
    before = [dual.value for dual in constraint.dual_variables]
    try:
        constraint.save_dual_value(np.arange(size, dtype=float))
        return np.reshape(variable.value, variable.shape, order="F").astype(np.int32)
    finally:
        for dual, value in zip(constraint.dual_variables, before, strict=True):
            dual.save_value(value)
