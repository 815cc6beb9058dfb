"""Constraints on the coefficients of a regression, in the user's units. The intercept is free."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

from convexjax.pytrees import pytree


@pytree
@dataclass(frozen=True)
class Bounds:
    """lower <= beta <= upper; scalars or (d,), None for none."""

    lower: Any = None
    upper: Any = None


@pytree
@dataclass(frozen=True)
class AtMost:
    """G beta <= h, of shapes (m, d) and (m,)."""

    G: Any
    h: Any


@pytree
@dataclass(frozen=True)
class Equal:
    """A beta = b, of shapes (p, d) and (p,)."""

    A: Any
    b: Any


@pytree
@dataclass(frozen=True)
class Norm:
    """|M beta + r| <= c'beta + d, of shapes (k, d), (k,), (d,) and (); None for zero."""

    M: Any
    r: Any = None
    c: Any = None
    d: Any = None


@pytree
@dataclass(frozen=True)
class Semidefinite:
    """F0 + sum_j beta_j F_j is positive semidefinite; F (d, k, k) symmetric, F0 (k, k)."""

    F: Any
    F0: Any


@pytree
@dataclass(frozen=True)
class Smooth:
    """function(beta) <= 0, or function(beta, params) <= 0: an array of convex functions, twice differentiable."""

    function: Callable = field(metadata={"static": True})
    params: Any = None


def smooth(function: Callable, params: Any = None) -> Smooth:
    """function(beta) <= 0, or function(beta, params) <= 0 if params are given, for a JAX function that returns an array
    of convex functions. Pass the same function again with new `params`, not a new lambda: it is compiled in."""
    return Smooth(function, params)


def nonnegative() -> Bounds:
    """beta >= 0."""
    return Bounds(lower=0.0)


def simplex(d: int, total: float | jax.Array = 1.0) -> tuple[Bounds, Equal]:
    """beta >= 0 and sum beta = total."""
    return Bounds(lower=0.0), Equal(jnp.ones((1, d)), jnp.reshape(jnp.asarray(total), (1,)))


def increasing(d: int) -> AtMost:
    """beta_1 <= beta_2 <= ... <= beta_d: of values at the levels of one feature, a monotone function of it."""
    return AtMost(jnp.eye(d - 1, d) - jnp.eye(d - 1, d, 1), jnp.zeros(d - 1))


def decreasing(d: int) -> AtMost:
    """beta_1 >= beta_2 >= ... >= beta_d."""
    rows = increasing(d)
    return AtMost(-rows.G, rows.h)
