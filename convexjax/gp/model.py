"""Models: an objective, constraints, and the variables and parameters in them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO

from convexjax.gp.posynomials import Constraint, Posynomial, as_posynomial, flattened
from convexjax.gp.result import Names, Result
from convexjax.gp.terms import NotGeometricError, Term, is_traced
from convexjax.options import Options
from convexjax.problems.arguments import floating
from convexjax.problems.gp import solve_entries


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A geometric program; made by `minimize` and `maximize`."""

    objective: Posynomial
    constraints: tuple  # those of auxiliary variables last
    is_maximum: bool
    variables: dict = field(init=False)  # symbol -> column
    parameters: dict = field(init=False)

    def __post_init__(self):
        variables: dict = {}
        parameters: dict = {}
        constraints, seen = list(self.constraints), set()
        queue = [self.objective, *(c.posynomial for c in constraints)]
        for posynomial in queue:  # which grows
            for symbol in (symbol for term in posynomial.terms for symbol in term.powers):
                if symbol in seen:
                    continue
                seen.add(symbol)
                known = parameters if symbol.is_parameter else variables
                known[symbol] = len(known)
                inverse = Posynomial([Term(0.0, {symbol: -1.0})])
                constraints += [Constraint(part * inverse, f"{part} <= {symbol.name}") for part in symbol.bounds]
                queue += symbol.bounds
        object.__setattr__(self, "constraints", tuple(constraints))
        object.__setattr__(self, "variables", variables)
        object.__setattr__(self, "parameters", parameters)
        _require_names(self)
        _require_bounded(self)

    @property
    def posynomials(self) -> list:
        """The objective, and of each constraint what is at most 1."""
        return [self.objective, *(c.posynomial for c in self.constraints)]

    def solve(self, *, options: Options | None = None, warm_start: Result | None = None, **values: Any) -> Result:
        """Solve, with a value for each parameter, by name."""
        if warm_start is not None and not isinstance(warm_start, Result):
            raise ValueError(f"warm_start must be a Result, got {type(warm_start).__name__}.")
        logs = _logarithms(self, values)
        exponents, positions, b, segments = _arrays(self, logs)
        solution = solve_entries(
            exponents,
            positions,
            (len(segments), len(self.variables)),
            b,
            segments,
            self._equalities,
            options,
            None if warm_start is None else warm_start.solution,
        )
        return Result(solution, _names(self))

    def __str__(self) -> str:
        verb, objective = ("maximize", self.objective**-1) if self.is_maximum else ("minimize", self.objective)
        return "\n".join([f"{verb} {objective}", "subject to", *(f"    {c}" for c in self.constraints)])

    __repr__ = __str__

    def arrays(self, **values: Any) -> tuple:
        """(exponents, log_coefficients, segment_ids, equalities) as `solve_gp` takes them, with a value for each
        parameter, by name. Not inside `jit`, where positions of exponents would be traced."""
        exponents, positions, b, segments = _arrays(self, _logarithms(self, values))
        shape = len(segments), len(self.variables)
        matrix = BCOO((jnp.asarray(exponents), jnp.asarray(np.stack(positions, 1))), shape=shape)
        return matrix, b, segments, self._equalities

    @property
    def _equalities(self) -> list:
        return [i for i, c in enumerate(self.constraints, 1) if c.is_equation]


def minimize(objective: Any, constraints: Any = ()) -> Model:
    """The model that minimises a posynomial subject to constraints, in lists or arrays of any depth."""
    objective = as_posynomial(objective)
    if not objective.terms:
        raise NotGeometricError("The objective has no terms.")
    return Model(objective, _constraints(constraints), False)


def maximize(objective: Any, constraints: Any = ()) -> Model:
    """The model that maximises a monomial."""
    return Model(as_posynomial(objective)._inverse("maximize"), _constraints(constraints), True)


def compile(model: Model | Callable[..., Model], *, options: Options | None = None) -> Callable[..., Result]:
    """A model, or a function that makes one, as a jitted function of its parameters by name.

    The function may use parameters as exponents, too. `jax.vmap`, `jax.grad` and all other transforms apply.

    >>> import jax
    >>> from convexjax import gp
    >>> x, y = gp.variables("x y")
    >>> area = gp.parameter("area")
    >>> f = gp.compile(gp.minimize(x + 2 * y, [x * y >= area]))
    >>> print(f(area=8.0)["x"].round(4), jax.grad(lambda a: f(area=a).objective)(8.0).round(4))
    4.0 0.5
    """
    if isinstance(model, Model):
        return jax.jit(lambda **values: model.solve(options=options, **values))
    if not callable(model):
        raise ValueError(f"model must be a Model or a function that makes one, got {type(model).__name__}.")

    def solved(**values):
        made = model(**values)
        if not isinstance(made, Model):
            raise ValueError(f"The function must make a Model (gp.minimize, gp.maximize), got {type(made).__name__}.")
        return made.solve(options=options)

    return jax.jit(solved)


# ----------------------------------------------------------------------------- checks


def _constraints(constraints) -> tuple:
    flat = tuple(flattened([constraints]))
    for i, constraint in enumerate(flat):
        if not isinstance(constraint, Constraint):
            raise NotGeometricError(f"Constraint {i} is {constraint!r}, expected a comparison of posynomials.")
    return flat


def _require_names(model: Model) -> None:
    """Refuse two symbols of one name."""
    known: dict = {}
    for symbol in (*model.variables, *model.parameters):
        if not symbol.is_auxiliary and known.setdefault(symbol.name, symbol) is not symbol:
            raise ValueError(f"Two variables or parameters have the name {symbol.name!r}; names tell them apart.")


def _require_bounded(model: Model) -> None:
    """Refuse variables that nothing keeps away from 0 or infinity."""
    signs: dict = {symbol: set() for symbol in model.variables}
    are_equations = [False, *(c.is_equation for c in model.constraints)]
    for posynomial, is_equation in zip(model.posynomials, are_equations, strict=True):
        for term in posynomial.terms:
            for symbol, power in term.powers.items():
                if symbol in signs:
                    both = is_equation or is_traced(power)
                    signs[symbol] |= {1, -1} if both else {1 if power > 0 else -1}
    for symbol, found in signs.items():
        if len(found) == 1:
            end, side = ("0", "below") if found == {1} else ("infinity", "above")
            raise NotGeometricError(
                f"The variable {symbol.name} can go to {end}: no constraint and no cost bounds it from {side}. "
                f"Add one, such as {symbol.name} {'>=' if end == '0' else '<='} a number."
            )


# ----------------------------------------------------------------------------- arrays


def _logarithms(model: Model, values: dict) -> dict:
    """The logarithms of the parameters, flat, by name."""
    shapes = {symbol.group: symbol.shape for symbol in model.parameters}
    unknown, missing = sorted(set(values) - set(shapes)), sorted(set(shapes) - set(values))
    if unknown or missing:
        raise ValueError(
            f"The parameters of the model are {', '.join(sorted(shapes)) or 'none'};"
            + (f" {', '.join(missing)} missing" if missing else "")
            + (f" {', '.join(unknown)} unknown" if unknown else "")
            + "."
        )
    logs = {}
    for name, shape in shapes.items():
        (value,) = floating(**{name: values[name]})
        if value.shape != shape:
            raise ValueError(f"The parameter {name} has shape {value.shape}, expected {shape}.")
        if not is_traced(value) and not np.all((np.asarray(value) > 0) & np.isfinite(value)):
            raise ValueError(f"The parameter {name} must be positive and finite, got {value}.")
        logs[name] = jnp.log(value).reshape(-1)
    return logs


def _arrays(model: Model, logs: dict) -> tuple:
    """Exponents, their positions, log-coefficients with the parameters in them, and the posynomial of each term."""
    terms = [(i, term) for i, posynomial in enumerate(model.posynomials) for term in posynomial.terms]
    factors = [(k, symbol, power) for k, (_, term) in enumerate(terms) for symbol, power in term.powers.items()]
    of_variables = [(k, model.variables[s], power) for k, s, power in factors if not s.is_parameter]
    of_parameters = [factor for factor in factors if factor[1].is_parameter]
    b = _stacked([term.log_coefficient for _, term in terms])
    if of_parameters:
        first = dict(zip(logs, np.cumsum([0, *(log.size for log in logs.values())]), strict=False))
        where = np.asarray([first[symbol.group] + symbol.position for _, symbol, _ in of_parameters])
        shifts = _stacked([power for *_, power in of_parameters]) * jnp.concatenate(list(logs.values()))[where]
        b = jnp.asarray(b).at[np.asarray([k for k, *_ in of_parameters])].add(shifts)
    exponents, b = floating(exponents=_stacked([power for *_, power in of_variables]), coefficients=b)
    rows, columns = ([factor[i] for factor in of_variables] for i in (0, 1))
    positions = np.asarray(rows, np.int32), np.asarray(columns, np.int32)
    return exponents, positions, b, np.asarray([i for i, _ in terms])


def _stacked(values: list):
    if any(is_traced(value) for value in values):
        return jnp.stack([jnp.asarray(value, jnp.result_type(float)) for value in values])
    return np.asarray(values, float)


def _names(model: Model) -> Names:
    return Names(
        tuple((s.name, s.group, s.shape, s.position, s.units) for s in model.variables),
        tuple(c.text for c in model.constraints),
        model.is_maximum,
    )
