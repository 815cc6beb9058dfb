"""Results: values and sensitivities by name, and a summary for people."""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from convexjax.problems.gp import GeometricSolution
from convexjax.pytrees import pytree
from convexjax.solution import Status


@dataclass(frozen=True)
class Names:
    """What the entries of a solution are called."""

    variables: tuple  # (name, group, shape, position, units) by column; group "" for auxiliary ones
    constraints: tuple
    is_maximum: bool


@pytree
@dataclass(frozen=True)
class Result:
    """Values by name: `result["x"]`; `result.solution` has the arrays, `print(result)` a summary. A pytree."""

    solution: GeometricSolution
    names: Names = field(metadata={"static": True})

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
        variables, groups = self.names.variables, [group for _, group, *_ in self.names.variables]
        # arrays entry by entry, although constraints may mention a later entry first
        for k in sorted(range(len(variables)), key=lambda k: (groups.index(groups[k]), variables[k][3])):
            name, group, _, _, units = variables[k]
            if group:
                lines.append(f"    {name:20s} {float(solution.x[k]):12.6g} {units}".rstrip())
        tight = [i for i in ranked if abs(z[i]) > 1e-6]
        lines.append("tight constraints, by percent of the optimum for a percent of the constraint:")
        lines += [f"    {z[i]:10.4g}   {self.names.constraints[i]}" for i in tight]
        return "\n".join(lines)


_MEANING = {
    Status.PRIMAL_INFEASIBLE: "no positive values satisfy the constraints",
    Status.DUAL_INFEASIBLE: "the objective has no optimum; it improves without end as",
}
