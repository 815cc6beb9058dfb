"""Solvers for programs given as functions, each in its own terms: `prepare(program)` returns a function that solves and
returns x, and the library's own the duals (y, z, z_lb, z_ub) with it. The first call of it compiles."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import convexjax as cj
from benchmarks.function_programs import FunctionProgram

TOLERANCE = 1e-8


def _constraints(program: FunctionProgram):
    """The inequality function with flat values, or None."""
    return None if program.g is None else lambda x: jnp.ravel(program.g(x))


def _sides(program: FunctionProgram):
    n = len(program.x0)
    return (
        np.broadcast_to(-np.inf if program.lb is None else program.lb, n).astype(float),
        np.broadcast_to(np.inf if program.ub is None else program.ub, n).astype(float),
    )


def prepare_convexjax(program: FunctionProgram, options: cj.Options | None = None) -> Callable:
    """The library itself, jitted with the options of the compiler that its plain calls have; data are constants of the
    program, as with the peers."""
    equalities = None if program.A is None else (jnp.asarray(program.A), jnp.asarray(program.b))

    @partial(jax.jit, compiler_options=cj.QUICK_COMPILATION)
    def solve(x0):
        return cj.minimize(
            program.f,
            x0,
            inequalities=_constraints(program),
            equalities=equalities,
            lb=program.lb,
            ub=program.ub,
            options=options,
        )

    x0 = jnp.asarray(program.x0)

    def run():
        s = jax.block_until_ready(solve(x0))
        return s.x, s.y, s.z, s.z_lb, s.z_ub

    run.status = lambda: cj.Status(int(solve(x0).status)).name
    run.iterations = lambda: int(solve(x0).info.num_iters)
    return run


def prepare_scipy(method: str) -> Callable:
    """`scipy.optimize.minimize` with jitted derivatives."""

    def prepare(program: FunctionProgram) -> Callable:
        from scipy.optimize import Bounds, LinearConstraint, NonlinearConstraint, minimize

        f = jax.jit(jax.value_and_grad(program.f))
        hessian = jax.jit(jax.hessian(program.f))
        both = lambda x: tuple(np.asarray(v, float) for v in f(x))
        lower, upper = _sides(program)
        bounds = Bounds(lower, upper) if program.lb is not None or program.ub is not None else None
        constraints, options = [], {"maxiter": 2000}
        g = _constraints(program)
        arguments = {"jac": True}
        if g is not None:
            values, jacobian = jax.jit(g), jax.jit(jax.jacfwd(g))
            curvature = jax.jit(jax.hessian(lambda x, v: v @ g(x)))
        if method == "SLSQP":
            options["ftol"] = 1e-14
            if g is not None:
                constraints.append(
                    {"type": "ineq", "fun": lambda x: -np.asarray(values(x)), "jac": lambda x: -np.asarray(jacobian(x))}
                )
            if program.A is not None:
                constraints.append(
                    {"type": "eq", "fun": lambda x: program.A @ x - program.b, "jac": lambda x: program.A}
                )
        else:
            options |= {"gtol": 1e-9, "xtol": 1e-12, "barrier_tol": 1e-9}
            arguments["hess"] = lambda x: np.asarray(hessian(x))
            if g is not None:
                constraints.append(
                    NonlinearConstraint(
                        lambda x: np.asarray(values(x)),
                        -np.inf,
                        0,
                        jac=lambda x: np.asarray(jacobian(x)),
                        hess=lambda x, v: np.asarray(curvature(x, v)),
                    )
                )
            if program.A is not None:
                constraints.append(LinearConstraint(program.A, program.b, program.b))

        def run():
            result = minimize(
                both, program.x0, method=method, bounds=bounds, constraints=constraints, options=options, **arguments
            )
            return result.x

        return run

    return prepare


def prepare_ipax(program: FunctionProgram) -> Callable:
    """ipax: an interior-point method for nonlinear programs, with jitted exact derivatives."""
    import ipax

    g, n, f = _constraints(program), len(program.x0), program.f
    lower, upper = (jnp.asarray(side) for side in _sides(program))
    p = 0 if program.A is None else len(program.b)
    arguments = {}
    if g is not None:
        arguments |= {"ineq_constraints": jax.jit(g), "ineq_jacobian": jax.jit(jax.jacfwd(g))}
    if p:
        arguments["linear_eq"] = (jnp.asarray(program.A), jnp.asarray(program.b))
    bounded = program.lb is not None or program.ub is not None

    def hessian(x, y_eq, y_ineq, sigma):
        lagrangian = lambda x: sigma * f(x) + (0 if g is None else y_ineq @ g(x))
        return jax.hessian(lagrangian)(x)

    problem = ipax.FunctionProblem(
        n,
        jax.jit(f),
        gradient=jax.jit(jax.grad(f)),
        bounds=(lower, upper) if bounded else (None, None),
        lagrangian_hessian=jax.jit(hessian),
        **arguments,
    )
    x0, options = jnp.asarray(program.x0), ipax.Options(max_iter=500, max_time=60.0)

    def run():
        return np.asarray(ipax.solve(problem, x0, options=options).x)

    return run


def prepare_slsqp_jax(program: FunctionProgram) -> Callable:
    """slsqp-jax through its interface like SciPy's, which cannot be jitted as a whole."""
    from scipy.optimize import Bounds
    from slsqp_jax import minimize_like_scipy

    g, constraints = _constraints(program), []
    if g is not None:
        constraints.append({"type": "ineq", "fun": lambda x: -g(x)})
    if program.A is not None:
        A, b = jnp.asarray(program.A), jnp.asarray(program.b)
        constraints.append({"type": "eq", "fun": lambda x: A @ x - b})
    bounds = Bounds(*_sides(program)) if program.lb is not None or program.ub is not None else None

    def solve(x0):
        options = {"rtol": 1e-9, "atol": 1e-9, "max_steps": 500}
        return minimize_like_scipy(program.f, x0, bounds=bounds, constraints=constraints, options=options).value

    x0 = jnp.asarray(program.x0)
    return lambda: np.asarray(solve(x0))


PEERS = {
    "convexjax": prepare_convexjax,
    "trust-constr": prepare_scipy("trust-constr"),
    "SLSQP": prepare_scipy("SLSQP"),
    "ipax": prepare_ipax,
    "slsqp-jax": prepare_slsqp_jax,
}
