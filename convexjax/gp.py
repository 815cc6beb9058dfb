"""Geometric programs written as ordinary Python.

    from convexjax import gp

    h, w, d = gp.variables("h w d", units="m")
    walls, floor = gp.parameters("walls floor", units="m^2")
    model = gp.maximize(h * w * d, [2 * (h * w + h * d) <= walls, w * d <= floor])
    volume = gp.compile(model)
    print(volume(walls=200.0, floor=50.0))

Posynomials are sums of terms `c x1**a1 x2**a2 ...` with c > 0. What is not a geometric program is refused where it is
written. Coefficients and exponents may be traced JAX values; a compiled model is a JAX function of its parameters.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.options import Options
from convexjax.problems.arguments import floating
from convexjax.problems.gp import GeometricSolution, solve_entries
from convexjax.solution import Status

# Products and powers of posynomials with more terms than this get a variable of their own instead of being multiplied.
MOST_TERMS = 100


class NotGeometricError(ValueError, TypeError):
    """What was written is no geometric program."""


# ----------------------------------------------------------------------------- expressions


@dataclass(eq=False, frozen=True)
class _Symbol:
    """A variable or a parameter. An auxiliary variable stands for an upper bound of what `constraints` say."""

    name: str
    units: str = ""
    is_parameter: bool = False
    group: str = ""  # name of the array that it is part of
    shape: tuple = ()
    constraints: tuple = ()

    @property
    def is_auxiliary(self) -> bool:
        return bool(self.constraints)


class _Term:
    """exp(log_coefficient) times powers."""

    __slots__ = ("log_coefficient", "powers")

    def __init__(self, log_coefficient, powers: dict):
        self.log_coefficient, self.powers = log_coefficient, powers

    def times(self, other: "_Term") -> "_Term":
        powers = dict(self.powers)
        for symbol, power in other.powers.items():
            powers[symbol] = powers[symbol] + power if symbol in powers else power
        return _Term(self.log_coefficient + other.log_coefficient, _without_zeros(powers))

    def power(self, exponent) -> "_Term":
        powers = {symbol: power * exponent for symbol, power in self.powers.items()}
        return _Term(self.log_coefficient * exponent, _without_zeros(powers))

    def __str__(self) -> str:
        factors = [symbol.name + _power_text(power) for symbol, power in self.powers.items()]
        if _is_traced(self.log_coefficient):
            return " ".join(["c", *factors])
        value = math.exp(min(self.log_coefficient, 700.0))
        number = f"{value:.6g}" if self.log_coefficient < 700 else f"exp({self.log_coefficient:.6g})"
        return " ".join(factors if number == "1" and factors else [number, *factors])


def _without_zeros(powers: dict) -> dict:
    return {symbol: power for symbol, power in powers.items() if _is_traced(power) or power != 0}


def _power_text(power) -> str:
    if _is_traced(power):
        return "^a"
    return "" if power == 1 else f"^{float(power):.6g}"


def _is_traced(value) -> bool:
    return isinstance(value, jax.core.Tracer)


class Posynomial:
    """A sum of terms; a monomial if there is one. Made by arithmetic from `variables`."""

    __array_ufunc__ = None  # arrays of numbers leave arithmetic to the methods below

    def __init__(self, terms: list):
        self.terms = terms

    # ------------------------------------------------------------------- arithmetic

    def __add__(self, other):
        found = _elementwise(other, self.__add__)
        return found if found is not None else Posynomial(self.terms + _posynomial(other).terms)

    __radd__ = __add__

    def __mul__(self, other):
        found = _elementwise(other, self.__mul__)
        if found is not None:
            return found
        other = _posynomial(other)
        if len(self.terms) * len(other.terms) > MOST_TERMS and min(len(self.terms), len(other.terms)) > 1:
            other = _bounded(other)
        return Posynomial([a.times(b) for a in self.terms for b in other.terms])

    __rmul__ = __mul__

    def __truediv__(self, other):
        found = _elementwise(other, self.__truediv__)
        if found is not None:
            return found
        return self * _posynomial(other)._inverse("divide by")

    def __rtruediv__(self, other):
        found = _elementwise(other, self.__rtruediv__)
        return found if found is not None else _posynomial(other) * self._inverse("divide by")

    def __pow__(self, exponent):
        if isinstance(exponent, Posynomial) or np.ndim(exponent):
            raise NotGeometricError(f"An exponent must be a number, got {exponent} as power of {self}.")
        if not _is_traced(exponent):
            exponent = float(exponent)
            if not math.isfinite(exponent):
                raise NotGeometricError(f"An exponent must be finite, got {exponent} as power of {self}.")
        if len(self.terms) == 1 and not self._auxiliary():
            return Posynomial([self.terms[0].power(exponent)])
        if _is_traced(exponent) or exponent <= 0:
            what = "a traced exponent" if _is_traced(exponent) else f"the exponent {exponent:g}"
            raise NotGeometricError(
                f"Only a monomial has powers that are not positive numbers; {self} has {what}{self._second_term()}."
            )
        if exponent in (1, 2, 3) and len(self.terms) ** exponent <= MOST_TERMS:
            product = self
            for _ in range(int(exponent) - 1):
                product = product * self
            return product
        return Posynomial([_bounded(self).terms[0].power(exponent)])

    def _inverse(self, verb: str) -> "Posynomial":
        if len(self.terms) != 1 or self._auxiliary():
            raise NotGeometricError(f"Cannot {verb} {self}: only a monomial has an inverse{self._second_term()}.")
        return Posynomial([self.terms[0].power(-1)])

    def _second_term(self) -> str:
        if self._auxiliary():
            return f", and {self} has a maximum or a power of a sum in it"
        return f", and this has the further term {self.terms[1]}" if len(self.terms) > 1 else ""

    def _auxiliary(self) -> list:
        return [symbol for term in self.terms for symbol in term.powers if symbol.is_auxiliary]

    def __sub__(self, other):
        raise NotGeometricError(
            f"A posynomial has no minus: the term -({other}) after {self}. Move it to the other side."
        )

    def __rsub__(self, other):
        raise NotGeometricError(f"A posynomial has no minus: the term -({self}). Move it to the other side.")

    def __neg__(self):
        raise NotGeometricError(f"A posynomial has no minus: -({self}).")

    def __rpow__(self, other):
        raise NotGeometricError(f"An exponent must be a number, got {self}.")

    # ------------------------------------------------------------------- constraints

    def __le__(self, other):
        found = _elementwise(other, self.__le__)
        return found if found is not None else _at_most(self, _posynomial(other))

    def __ge__(self, other):
        found = _elementwise(other, self.__ge__)
        return found if found is not None else _at_most(_posynomial(other), self)

    def __eq__(self, other):
        found = _elementwise(other, self.__eq__)
        if found is not None:
            return found
        other = _posynomial(other)
        text = f"{self} == {other}"
        for side in (self, other):
            if len(side.terms) > 1 or side._auxiliary():
                raise NotGeometricError(f"{text}: only monomials may be equal{side._second_term()}. Use <=.")
        return Constraint(self / other, text, is_equation=True)

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other):
        raise NotGeometricError(f"{self} < {other}: write <= (and gp.max for the larger of two).")

    def __gt__(self, other):
        raise NotGeometricError(f"{self} > {other}: write >= (and gp.max for the larger of two).")

    def __str__(self) -> str:
        shown = " + ".join(str(term) for term in self.terms[:6])
        return shown + (f" + ... ({len(self.terms)} terms)" if len(self.terms) > 6 else "") if shown else "0"

    __repr__ = __str__


@dataclass(frozen=True, eq=False)
class Constraint:
    """`posynomial <= 1`, or `== 1` for a monomial."""

    posynomial: Posynomial
    text: str
    is_equation: bool = False

    def named(self, name: str) -> "Constraint":
        """The same under a name, by which its sensitivity is told."""
        return Constraint(self.posynomial, name, self.is_equation)

    def __bool__(self):
        raise NotGeometricError(
            f"{self.text} is a constraint, not true or false; chains like a <= b <= c are two of them."
        )

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def _at_most(left: Posynomial, right: Posynomial) -> Constraint:
    text = f"{left} <= {right}"
    if not left.terms:
        raise NotGeometricError(f"{text}: the left side has no terms, and always holds.")
    if not right.terms:
        raise NotGeometricError(f"{text}: a posynomial is positive and cannot be at most 0.")
    if len(right.terms) > 1 or right._auxiliary():
        raise NotGeometricError(f"{text}: the larger side must be a monomial{right._second_term()}.")
    return Constraint(left / right, text)


class Array(np.ndarray):
    """An array of posynomials; all arithmetic of NumPy, `sum()`, `prod()` and `@` work."""

    def __array_wrap__(self, array, context=None, return_scalar=False):
        return array[()] if np.ndim(array) == 0 else np.asarray(array).view(Array)

    def __le__(self, other):
        return _compare(lambda a, b: a <= b, self, other)

    def __ge__(self, other):
        return _compare(lambda a, b: a >= b, self, other)

    def __eq__(self, other):
        return _compare(lambda a, b: a == b, self, other)

    __hash__ = None


def _compare(relation: Callable, left, right) -> list:
    pairs = np.broadcast(left, np.asarray(right, object))
    return [relation(a if isinstance(a, Posynomial) else _posynomial(a), b) for a, b in pairs]


def _elementwise(other, operation: Callable):
    """The operation on each entry of an array; None for what is no array."""
    if isinstance(other, list | tuple):
        other = np.asarray(other, object)
    if not np.ndim(other):
        return None
    parts = (
        [operation(entry) for entry in np.asarray(other, object).ravel()]
        if not _is_traced(other)
        else [operation(other[index]) for index in np.ndindex(other.shape)]
    )
    if parts and isinstance(parts[0], Constraint):
        return parts
    array = np.empty(len(parts), object)
    array[:] = parts
    return array.reshape(np.shape(other)).view(Array)


def _posynomial(value) -> Posynomial:
    """A number as a posynomial; 0 has no terms."""
    if isinstance(value, Posynomial):
        return value
    if isinstance(value, Constraint):
        raise NotGeometricError(f"{value.text} is a constraint; chains like a <= b <= c are two constraints.")
    if _is_traced(value):
        return Posynomial([_Term(jnp.log(value), {})])
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise NotGeometricError(f"{value!r} is no number, variable or posynomial.") from None
    if number < 0 or not math.isfinite(number):
        raise NotGeometricError(f"The coefficient {number:g} is not positive; a posynomial has positive terms alone.")
    return Posynomial([_Term(math.log(number), {})] if number else [])


_count = itertools.count(1)


def _bounded(*posynomials: Posynomial) -> Posynomial:
    """A variable that is at least each of the posynomials."""
    name = f"bound{next(_count)}"
    label = " , ".join(str(p) for p in posynomials)
    symbol = _Symbol(name, constraints=tuple(posynomials))
    object.__setattr__(symbol, "name", f"[{label}]" if len(label) < 60 else name)
    return Posynomial([_Term(0.0, {symbol: 1.0})])


def max(*expressions) -> Posynomial:
    """The largest of several posynomials, a generalised posynomial: for what is minimised and for the smaller side of a
    constraint."""
    flat = [_posynomial(p) for p in _flattened(expressions)]
    flat = [p for p in flat if p.terms]
    if not flat:
        raise NotGeometricError("gp.max needs a posynomial.")
    return flat[0] if len(flat) == 1 else _bounded(*flat)


def _flattened(value) -> Iterator:
    if isinstance(value, list | tuple | np.ndarray):
        for part in value if not isinstance(value, np.ndarray) else value.ravel():
            yield from _flattened(part)
    else:
        yield value


# ----------------------------------------------------------------------------- variables and parameters


def variable(name: str, shape: int | tuple = (), units: str = "") -> Any:
    """A positive variable, or an array of them."""
    return _symbols(name, shape, units, False)


def parameter(name: str, shape: int | tuple = (), units: str = "") -> Any:
    """A positive number, or array, that `compile` makes an argument."""
    return _symbols(name, shape, units, True)


def variables(names: str, units: str = "") -> list:
    """Several scalar variables, names separated by spaces."""
    return [variable(name, units=units) for name in names.split()]


def parameters(names: str, units: str = "") -> list:
    """Several scalar parameters, names separated by spaces."""
    return [parameter(name, units=units) for name in names.split()]


def _symbols(name: str, shape, units: str, is_parameter: bool):
    if not isinstance(name, str) or not name:
        raise ValueError(f"A name must be a string that is not empty, got {name!r}.")
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    single = lambda label: Posynomial([_Term(0.0, {_Symbol(label, units, is_parameter, name, shape): 1.0})])
    if not shape:
        return single(name)
    array = np.empty(shape, object)
    for index in np.ndindex(shape):
        array[index] = single(f"{name}[{','.join(map(str, index))}]")
    return array.view(Array)


# ----------------------------------------------------------------------------- models


@dataclass(frozen=True, eq=False)
class Model:
    """A geometric program; made by `minimize` and `maximize`."""

    objective: Posynomial
    constraints: tuple
    is_maximum: bool
    variables: dict = field(init=False)  # symbol -> column
    parameters: dict = field(init=False)

    def __post_init__(self):
        variables: dict = {}
        parameters: dict = {}
        constraints, seen = list(self.constraints), set()
        queue = [self.objective, *(c.posynomial for c in constraints)]
        while queue:
            for term in queue.pop(0).terms:
                for symbol in term.powers:
                    if symbol in seen:
                        continue
                    seen.add(symbol)
                    known = parameters if symbol.is_parameter else variables
                    known[symbol] = len(known)
                    bound = Posynomial([_Term(0.0, {symbol: -1.0})])
                    for part in symbol.constraints:
                        constraints.append(Constraint(part * bound, f"{part} <= {symbol.name}"))
                        queue.append(part)
        object.__setattr__(self, "constraints", tuple(constraints))
        object.__setattr__(self, "variables", variables)
        object.__setattr__(self, "parameters", parameters)
        groups: dict = {}
        for symbol in [*variables, *parameters]:
            if symbol.is_auxiliary:
                continue
            other = groups.setdefault(symbol.name, symbol)
            if other is not symbol:
                raise ValueError(f"Two variables or parameters have the name {symbol.name!r}; names tell them apart.")
        _require_bounded(self)

    def solve(self, *, options: Options | None = None, warm_start: "Result | None" = None, **values: Any) -> "Result":
        """Solve, with a value for each parameter, by name."""
        return _solve(self, values, options, warm_start)


def minimize(objective, constraints=()) -> Model:
    """The model that minimises a posynomial subject to constraints, in lists or arrays of any depth."""
    objective = _posynomial(objective)
    if not objective.terms:
        raise NotGeometricError("The objective has no terms.")
    return Model(objective, _constraints(constraints), False)


def maximize(objective, constraints=()) -> Model:
    """The model that maximises a monomial."""
    return Model(_posynomial(objective)._inverse("maximize"), _constraints(constraints), True)


def _constraints(constraints) -> tuple:
    flat = tuple(_flattened([constraints]))
    for i, constraint in enumerate(flat):
        if not isinstance(constraint, Constraint):
            raise NotGeometricError(f"Constraint {i} is {constraint!r}, expected a comparison of posynomials.")
    return flat


def _require_bounded(model: Model) -> None:
    """Refuse variables that nothing keeps away from 0 or infinity."""
    signs: dict = {symbol: set() for symbol in model.variables}
    everything = [(model.objective, False), *((c.posynomial, c.is_equation) for c in model.constraints)]
    for posynomial, is_equation in everything:
        for term in posynomial.terms:
            for symbol, power in term.powers.items():
                if symbol in signs:
                    both = is_equation or _is_traced(power)
                    signs[symbol] |= {1, -1} if both else {1 if power > 0 else -1}
    for symbol, found in signs.items():
        if len(found) == 1:
            end, side = ("0", "below") if found == {1} else ("infinity", "above")
            raise NotGeometricError(
                f"The variable {symbol.name} can go to {end}: no constraint and no cost bounds it from {side}. "
                f"Add one, such as {symbol.name} {'>=' if end == '0' else '<='} a number."
            )


# ----------------------------------------------------------------------------- solving


def _solve(model: Model, values: dict, options, warm_start) -> "Result":
    groups = {symbol.group: symbol.shape for symbol in model.parameters}
    unknown, missing = sorted(set(values) - set(groups)), sorted(set(groups) - set(values))
    if unknown or missing:
        raise ValueError(
            f"The parameters of the model are {', '.join(sorted(groups)) or 'none'};"
            + (f" {', '.join(missing)} missing" if missing else "")
            + (f" {', '.join(unknown)} unknown" if unknown else "")
            + "."
        )
    logs = {}
    for name, shape in groups.items():
        value = values[name]
        if np.shape(value) != shape:
            raise ValueError(f"The parameter {name} has shape {np.shape(value)}, expected {shape}.")
        if not _is_traced(value) and np.any(~(np.asarray(value) > 0)):
            raise ValueError(f"The parameter {name} must be positive, got {value}.")
        logs[name] = jnp.log(value).reshape(-1)
    posynomials = [model.objective, *(c.posynomial for c in model.constraints)]
    terms = [(i, term) for i, p in enumerate(posynomials) for term in p.terms]
    rows, columns, powers = [], [], []
    of_parameters: list = []
    for k, (_, term) in enumerate(terms):
        for symbol, power in term.powers.items():
            if symbol.is_parameter:
                of_parameters.append((k, symbol, power))
            else:
                rows.append(k)
                columns.append(model.variables[symbol])
                powers.append(power)
    b = _stacked([term.log_coefficient for _, term in terms])
    if of_parameters:
        order = {name: i for i, name in enumerate(groups)}
        first = np.cumsum([0, *(math.prod(shape) for shape in groups.values())])
        where = [first[order[s.group]] + _position(s) for _, s, _ in of_parameters]
        all_logs = jnp.concatenate(list(logs.values()))
        shifts = _stacked([power for *_, power in of_parameters]) * all_logs[np.asarray(where)]
        b = jnp.asarray(b).at[np.asarray([k for k, *_ in of_parameters])].add(shifts)
    shape = len(terms), len(model.variables)
    values, b = floating(exponents=_stacked(powers), coefficients=b)
    solution = solve_entries(
        values,
        (np.asarray(rows, np.int32), np.asarray(columns, np.int32)),
        shape,
        b,
        np.asarray([i for i, _ in terms]),
        [i for i, c in enumerate(model.constraints, 1) if c.is_equation],
        options,
        None if warm_start is None else warm_start.solution,
    )
    return Result(solution, _names(model))


def _stacked(values: list):
    if any(_is_traced(value) for value in values):
        return jnp.stack([jnp.asarray(value, jnp.result_type(float)) for value in values])
    return np.asarray(values, float)


def _position(symbol: _Symbol) -> int:
    if not symbol.shape:
        return 0
    index = tuple(int(i) for i in symbol.name[len(symbol.group) + 1 : -1].split(","))
    return int(np.ravel_multi_index(index, symbol.shape))


@dataclass(frozen=True)
class _Names:
    """What the entries of a solution are called."""

    variables: tuple  # (name, group, shape, position, units) by column; group "" for auxiliary ones
    constraints: tuple
    equations: tuple
    is_maximum: bool


def _names(model: Model) -> _Names:
    return _Names(
        tuple((s.name, s.group, s.shape, _position(s) if s.group else 0, s.units) for s in model.variables),
        tuple(c.text for c in model.constraints),
        tuple(c.is_equation for c in model.constraints),
        model.is_maximum,
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Result:
    """Values by name: `result["x"]`; `result.solution` has the arrays, `print(result)` a summary. A pytree."""

    solution: GeometricSolution
    names: _Names = field(metadata={"static": True})

    @property
    def status(self):
        """A `Status`, one for each lane."""
        return self.solution.status

    @property
    def objective(self):
        """The optimum of what is minimised or maximised."""
        return jnp.exp(-self.solution.log_objective) if self.names.is_maximum else self.solution.objective

    def __getitem__(self, name: str) -> jax.Array:
        """The variable, an array for an array; entries that no constraint mentions are NaN."""
        return self._values(name, self.solution.x)

    def log(self, name: str) -> jax.Array:
        """The logarithm of the variable, which never overflows."""
        return self._values(name, self.solution.log_x)

    def _values(self, name: str, values: jax.Array):
        columns = {position: k for k, (_, group, _, position, _) in enumerate(self.names.variables) if group == name}
        if not columns:
            known = sorted({group for _, group, *_ in self.names.variables if group})
            raise KeyError(f"no variable {name!r}; the variables are {', '.join(known)}")
        (shape,) = {shape for _, group, shape, *_ in self.names.variables if group == name}
        if not shape:
            return values[..., columns[0]]
        found = jnp.full((*values.shape[:-1], math.prod(shape)), jnp.nan, values.dtype)
        places, sources = np.asarray(list(columns)), np.asarray(list(columns.values()))
        return found.at[..., places].set(values[..., sources]).reshape(*values.shape[:-1], *shape)

    @property
    def values(self) -> dict:
        """All variables by name."""
        return {name: self[name] for name in dict.fromkeys(group for _, group, *_ in self.names.variables if group)}

    @property
    def sensitivities(self) -> dict:
        """By how many percent the optimum improves if the larger side of a constraint grows by one percent."""
        z, found = self.solution.z, {}
        for i, text in enumerate(self.names.constraints):
            found[text if text not in found else f"{text} ({i})"] = z[..., i]
        return found

    def require_solved(self) -> "Result":
        """Return self if every lane is SOLVED, else raise `RuntimeError`. For host code only."""
        self.solution.require_solved()
        return self

    def __str__(self) -> str:
        solution = self.solution
        if isinstance(solution.status, jax.core.Tracer):
            return "Result(traced)"
        if np.ndim(solution.status):
            found = np.unique(solution.status, return_counts=True)
            counts = {Status(int(s)).name: int(n) for s, n in zip(*found, strict=True)}
            return f"{np.size(solution.status)} geometric programs: {counts}"
        status, z = Status(int(solution.status)), np.asarray(solution.z)
        ranked = np.argsort(-np.abs(z), kind="stable")
        lines = [f"{status.name}: {_MEANING.get(status, status.message)}"]
        if status == Status.DUAL_INFEASIBLE:
            for (name, *_), rate in zip(self.names.variables, np.asarray(solution.log_x), strict=True):
                if abs(rate) > 1e-6:
                    lines.append(f"    {name} goes to {'infinity' if rate > 0 else '0'}")
            return "\n".join(lines)
        if status == Status.PRIMAL_INFEASIBLE:
            lines += ["cannot hold together:"]
            lines += [f"    {z[i]:10.4g}   {self.names.constraints[i]}" for i in ranked if abs(z[i]) > 1e-6]
            return "\n".join(lines)
        if status not in (Status.SOLVED, Status.ALMOST_SOLVED):
            return "\n".join(lines)
        lines += [f"{'maximum' if self.names.is_maximum else 'minimum'}: {float(self.objective):.6g}", "variables:"]
        for (name, group, _, _, units), value in zip(self.names.variables, np.asarray(solution.x), strict=True):
            if group:
                lines.append(f"    {name:20s} {value:12.6g} {units}".rstrip())
        tight = [i for i in ranked if abs(z[i]) > 1e-6]
        lines.append("tight constraints, by percent of the optimum for a percent of the constraint:")
        lines += [f"    {z[i]:10.4g}   {self.names.constraints[i]}" for i in tight]
        return "\n".join(lines)


_MEANING = {
    Status.PRIMAL_INFEASIBLE: "no positive values satisfy the constraints",
    Status.DUAL_INFEASIBLE: "the objective has no optimum; it improves without end as",
}


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
    return jax.jit(lambda **values: model(**values).solve(options=options))
