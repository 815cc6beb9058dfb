"""Posynomials, what arithmetic makes of them, and constraints on them."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from convexjax.gp.arrays import elementwise
from convexjax.gp.terms import NotGeometricError, Symbol, Term, is_traced

# Products and powers of posynomials with more terms than this get a variable of their own instead of being multiplied.
MOST_TERMS = 100


class Posynomial:
    """A sum of terms; a monomial if there is one. Made by arithmetic from `variables`."""

    __array_ufunc__ = None  # arrays of numbers leave arithmetic to the methods below

    def __init__(self, terms: list):
        self.terms = terms

    # ------------------------------------------------------------------- arithmetic

    def __add__(self, other):
        found = elementwise(self.__add__, other)
        return found if found is not None else Posynomial(self.terms + as_posynomial(other).terms)

    __radd__ = __add__

    def __mul__(self, other):
        found = elementwise(self.__mul__, other)
        if found is not None:
            return found
        other = as_posynomial(other)
        if len(self.terms) * len(other.terms) > MOST_TERMS and min(len(self.terms), len(other.terms)) > 1:
            other = _bounded(other)
        return Posynomial([a.times(b) for a in self.terms for b in other.terms])

    __rmul__ = __mul__

    def __truediv__(self, other):
        found = elementwise(self.__truediv__, other)
        if found is not None:
            return found
        return self * as_posynomial(other)._inverse("divide by")

    def __rtruediv__(self, other):
        found = elementwise(self.__rtruediv__, other)
        return found if found is not None else as_posynomial(other) * self._inverse("divide by")

    def __pow__(self, exponent):
        if isinstance(exponent, Posynomial) or np.ndim(exponent):
            raise NotGeometricError(f"An exponent must be a number, got {exponent} as power of {self}.")
        if not is_traced(exponent):
            exponent = float(exponent)
            if not math.isfinite(exponent):
                raise NotGeometricError(f"An exponent must be finite, got {exponent} as power of {self}.")
        if len(self.terms) == 1 and not self._auxiliary():
            return Posynomial([self.terms[0].power(exponent)])
        if is_traced(exponent) or exponent <= 0:
            what = "a traced exponent" if is_traced(exponent) else f"the exponent {exponent:g}"
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
        found = elementwise(self.__le__, other)
        return found.ravel().tolist() if found is not None else _at_most(self, as_posynomial(other))

    def __ge__(self, other):
        found = elementwise(self.__ge__, other)
        return found.ravel().tolist() if found is not None else _at_most(as_posynomial(other), self)

    def __eq__(self, other):
        found = elementwise(self.__eq__, other)
        if found is not None:
            return found.ravel().tolist()
        other = as_posynomial(other)
        text = f"{self} == {other}"
        for side in (self, other):
            if not side.terms:
                raise NotGeometricError(f"{text}: a monomial is positive and cannot be 0.")
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


def as_posynomial(value: Any) -> Posynomial:
    """A number as a posynomial; 0 has no terms."""
    if isinstance(value, Posynomial):
        return value
    if isinstance(value, Constraint):
        raise NotGeometricError(f"{value.text} is a constraint; chains like a <= b <= c are two constraints.")
    if is_traced(value):
        return Posynomial([Term(jnp.log(value), {})])
    if isinstance(value, str):
        raise NotGeometricError(f"{value!r} is no number, variable or posynomial.")
    try:
        number = float(value)
    except OverflowError:
        raise NotGeometricError("A coefficient is too large for a number of float64.") from None
    except (TypeError, ValueError):
        raise NotGeometricError(f"{value!r} is no number, variable or posynomial.") from None
    if number < 0 or not math.isfinite(number):
        raise NotGeometricError(f"The coefficient {number:g} is not positive; a posynomial has positive terms alone.")
    return Posynomial([Term(math.log(number), {})] if number else [])


_count = itertools.count(1)


def _bounded(*posynomials: Posynomial) -> Posynomial:
    """A variable that is at least each of the posynomials."""
    name = f"bound{next(_count)}"
    label = " , ".join(str(p) for p in posynomials)
    symbol = Symbol(name, bounds=tuple(posynomials))
    object.__setattr__(symbol, "name", f"[{label}]" if len(label) < 60 else name)
    return Posynomial([Term(0.0, {symbol: 1.0})])


def max(*expressions) -> Posynomial:
    """The largest of several posynomials, a generalised posynomial: for what is minimised and for the smaller side of a
    constraint."""
    flat = [as_posynomial(p) for p in flattened(expressions)]
    flat = [p for p in flat if p.terms]
    if not flat:
        raise NotGeometricError("gp.max needs a posynomial.")
    return flat[0] if len(flat) == 1 else _bounded(*flat)


def flattened(value: Any) -> Iterator:
    """The entries of lists and arrays of any depth."""
    if isinstance(value, list | tuple | np.ndarray):
        for part in value if not isinstance(value, np.ndarray) else value.ravel():
            yield from flattened(part)
    else:
        yield value
