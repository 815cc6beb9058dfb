"""Terms: a positive coefficient times powers of symbols."""

import math
from dataclasses import dataclass
from typing import Any

import jax


class NotGeometricError(ValueError, TypeError):
    """What was written is no geometric program."""


@dataclass(eq=False, frozen=True)
class Symbol:
    """A variable or a parameter. An auxiliary variable stands for an upper bound of the posynomials `bounds`."""

    name: str
    units: str = ""
    is_parameter: bool = False
    group: str = ""  # name of the array that it is part of
    shape: tuple = ()  # of this array
    position: int = 0  # in it
    bounds: tuple = ()

    @property
    def is_auxiliary(self) -> bool:
        """Whether it was made for a maximum or a power of a sum."""
        return bool(self.bounds)


class Term:
    """exp(log_coefficient) times powers of symbols."""

    __slots__ = ("log_coefficient", "powers")

    def __init__(self, log_coefficient: Any, powers: dict):
        self.log_coefficient, self.powers = log_coefficient, powers

    def times(self, other: "Term") -> "Term":
        """The product."""
        powers = dict(self.powers)
        for symbol, power in other.powers.items():
            powers[symbol] = powers[symbol] + power if symbol in powers else power
        return Term(self.log_coefficient + other.log_coefficient, _without_zeros(powers))

    def power(self, exponent: Any) -> "Term":
        """The power."""
        powers = {symbol: power * exponent for symbol, power in self.powers.items()}
        return Term(self.log_coefficient * exponent, _without_zeros(powers))

    def __str__(self) -> str:
        factors = [symbol.name + _power_text(power) for symbol, power in self.powers.items()]
        if is_traced(self.log_coefficient):
            return " ".join(["c", *factors])
        value = math.exp(min(self.log_coefficient, 700.0))
        number = f"{value:.6g}" if self.log_coefficient < 700 else f"exp({self.log_coefficient:.6g})"
        return " ".join(factors if number == "1" and factors else [number, *factors])


def _without_zeros(powers: dict) -> dict:
    for symbol, power in powers.items():
        if not is_traced(power) and not math.isfinite(power):
            raise NotGeometricError(f"The exponent of {symbol.name} overflows.")
    return {symbol: power for symbol, power in powers.items() if is_traced(power) or power != 0}


def _power_text(power) -> str:
    if is_traced(power):
        return "^a"
    return "" if power == 1 else f"^{float(power):.6g}"


def is_traced(value: Any) -> bool:
    """Whether a value is known only at run time."""
    return isinstance(value, jax.core.Tracer)
