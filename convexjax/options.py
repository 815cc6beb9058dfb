"""Options of every solver: tolerances are data, what changes the traced program is static."""

from dataclasses import dataclass, field, fields

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.pytrees import pytree

# Default tolerances by dtype: (solved, almost solved, infeasible).
# float32 carries 7 digits: residuals of 1e-5 relative are what an interior point reaches there on ordinary data.
DEFAULT_TOLERANCES = {
    "float64": (1e-8, 1e-5, 1e-8),
    "float32": (1e-5, 1e-3, 1e-5),
}


def _static(default):
    return field(default=default, metadata={"static": True})


def _is_number(value, holds) -> bool:
    """Whether `value` is a finite real scalar for which `holds`, as far as is known while tracing."""
    if isinstance(value, jax.core.Tracer):
        return value.shape == () and not jnp.issubdtype(value.dtype, jnp.complexfloating)
    try:
        return np.shape(value) == () and bool(np.isfinite(float(value)) and holds(float(value)))
    except (TypeError, ValueError):
        return False


@pytree
@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a solve. Every field has a default that suits most problems.

    Data (may be traced, a sweep over them does not recompile):

    - `tolerance`: a problem is SOLVED when primal residual, dual residual and gap are below it, relative to the size
      of their terms. `None`: 1e-8 in float64, 1e-5 in float32.
    - `tolerance_almost`: the looser tolerance of ALMOST_SOLVED. `None`: 1e-5 in float64, 1e-3 in float32.
    - `tolerance_infeasible`: residual of a certificate of infeasibility. `None`: as the default of `tolerance`.
    - `max_iters`: iterations after which the solve ends with MAX_ITERATIONS.
    - `smoothing`: mu of the central path that `derivative="smoothed"` differentiates, in units of the objective:
      products of slacks and duals are mu there instead of 0. Solutions are not differentiated in any option.

    Static (each value compiles once):

    - `method`: "auto", the interior point, and in batches (`vmap`) of small quadratic programs with positive definite P
      the active set (`active_set.py`) with the interior point behind it; "interior_point", that alone; or "active_set",
      for a single small quadratic program, too, which takes longer to compile and less time to run (for any other
      program the same as "auto"). "barrier" is the barrier method, for `minimize` alone (`barrier.py`).
    - `derivative`: "exact", that of the solution, or "smoothed", that of the point of the central path at `smoothing`,
      which also sees constraints that do not bind yet (`implicit.py`). The values are those of the solution.
    - `failed_derivative`: "zero" or "nan", the derivatives of a lane that is not solved.
    - `check_derivative`: say in `solution.info.derivative_unique` whether the derivative is (one more factorisation).
    - `polish`: end with Newton steps on the optimality conditions of the constraints that bind, which bring a solution
      that is unique to rounding errors. Taken if the residuals fall.
    - `equilibrate`: scale the data to entries of size one before solving.
    - `refinement_steps`: most steps of iterative refinement in each linear solve, taken only where iterations stall.
    - `history`: number of iterations to record in `solution.info.history` (0: none).
    - `verbose`: print a table of the iterations, also from inside `jit`.

    >>> import convexjax as cj
    >>> cj.Options(tolerance=1e-6, max_iters=50).max_iters
    50
    """

    tolerance: float | jax.Array | None = None
    tolerance_almost: float | jax.Array | None = None
    tolerance_infeasible: float | jax.Array | None = None
    max_iters: int | jax.Array = 200
    smoothing: float | jax.Array = 1e-3
    method: str = _static("auto")
    derivative: str = _static("exact")
    failed_derivative: str = _static("zero")
    check_derivative: bool = _static(False)
    polish: bool = _static(False)
    equilibrate: bool = _static(True)
    refinement_steps: int = _static(10)
    history: int = _static(0)
    verbose: bool = _static(False)

    def __init__(self, **values):
        names = [f.name for f in fields(type(self))]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ValueError(
                f"Options got unknown option {', '.join(map(repr, unknown))}; the options are: {', '.join(names)}."
            )
        for f in fields(type(self)):
            object.__setattr__(self, f.name, values.get(f.name, f.default))

    def validate(self) -> None:
        """Raise `ValueError` for values that are known now and cannot work."""
        for name in ("tolerance", "tolerance_almost", "tolerance_infeasible"):
            value = getattr(self, name)
            if value is not None and not _is_number(value, lambda v: v > 0):
                raise ValueError(f"options.{name} must be a positive number, got {value!r}.")
        if not _is_number(self.max_iters, lambda v: v >= 0 and int(v) == v):
            raise ValueError(f"options.max_iters must be an integer >= 0, got {self.max_iters!r}.")
        for name in ("refinement_steps", "history"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise ValueError(f"options.{name} must be a Python int >= 0 (it is static), got {value!r}.")
        if not _is_number(self.smoothing, lambda v: v > 0):
            raise ValueError(f"options.smoothing must be a positive number, got {self.smoothing!r}.")
        choices_of = {
            "method": ("auto", "interior_point", "active_set", "barrier"),
            "derivative": ("exact", "smoothed"),
            "failed_derivative": ("zero", "nan"),
        }
        for name, choices in choices_of.items():
            value = getattr(self, name)
            if not isinstance(value, str) or value not in choices:
                raise ValueError(f"options.{name} must be one of {', '.join(map(repr, choices))}, got {value!r}.")
        for name in ("equilibrate", "verbose", "check_derivative", "polish"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"options.{name} must be True or False (it is static), got {getattr(self, name)!r}.")

    def tolerances(self, dtype) -> jax.Array:
        """(solved, almost, infeasible) as an array of `dtype`, the defaults filled in."""
        defaults = DEFAULT_TOLERANCES[jnp.dtype(dtype).name]
        given = (self.tolerance, self.tolerance_almost, self.tolerance_infeasible)
        solved, almost, infeasible = (
            jnp.asarray(d if g is None else g, dtype) for g, d in zip(given, defaults, strict=True)
        )
        return jnp.stack([solved, jnp.maximum(almost, solved), infeasible])
