"""Geometric programs of the benchmarks, and certificates of their solutions.

Large instances (`large_instance`): n variables, objective sum_j (x_j + 1 / x_j); m constraints of 5 terms whose
exponents are standard normal for 3 variables drawn without replacement (dense: for all n, with standard deviation
sqrt(3 / n)). At a point log x standard normal the terms of a constraint have shares from the uniform distribution on
the simplex and a sum of exp(-u), u uniform in [0, 0.5], so there is a feasible point. Seed 0.
"""

import numpy as np
import scipy.sparse as sparse

Instance = tuple  # exponents, log_coefficients, segment_ids, equalities


def large_instance(n: int = 3000, m: int = 1000, is_dense: bool = False, seed: int = 0) -> Instance:
    """The program of the module's docstring."""
    rng = np.random.default_rng(seed)
    terms = 5 * m
    if is_dense:
        E = rng.normal(size=(terms, n)) * np.sqrt(3 / n)
    else:
        columns = np.concatenate([rng.choice(n, 3, replace=False) for _ in range(terms)])
        E = sparse.csr_matrix((rng.normal(size=3 * terms), (np.repeat(np.arange(terms), 3), columns)), (terms, n))
    feasible = rng.normal(size=n)
    shares = rng.dirichlet(np.ones(5), m).ravel()
    b = np.log(shares) - np.repeat(rng.uniform(0, 0.5, m), 5) - E @ feasible
    eye = np.eye(n) if is_dense else sparse.eye(n, format="csr")
    stack = np.vstack if is_dense else sparse.vstack
    exponents = stack([eye, -eye, E])
    segments = np.concatenate([np.zeros(2 * n, int), np.repeat(np.arange(1, m + 1), 5)])
    return exponents if is_dense else exponents.tocsr(), np.concatenate([np.zeros(2 * n), b]), segments, ()


def problem_of(problem) -> Instance:
    """A file of the set."""
    if "E_data" in problem:
        E = sparse.csc_matrix((problem["E_data"], problem["E_indices"], problem["E_indptr"]), problem["E_shape"])
        E = E.toarray()
    else:
        E = problem["E"]
    return E, problem["logc"], problem["posy"].astype(int), tuple(np.flatnonzero(problem["is_eq"]))


def instance_of(model, **values) -> Instance:
    """A model with values for its parameters."""
    exponents, b, segments, equalities = model.arrays(**values)
    return np.asarray(exponents.todense()), np.asarray(b), segments, equalities


# ----------------------------------------------------------------------------- certificates


def accuracy(instance: Instance, y, z) -> tuple[float, float]:
    """log p_0, and the largest residual of log x = y with the multipliers z."""
    E, b, segments, equalities = instance
    t = E @ y + b
    largest = np.full(segments.max() + 1, -np.inf)
    np.maximum.at(largest, segments, t)
    powers = np.exp(t - largest[segments])
    total = np.bincount(segments, powers)
    F = largest + np.log(total)
    weights = np.concatenate([[1], z])[segments] * powers / total[segments]
    is_equation = np.isin(np.arange(1, F.size), equalities)
    violation = np.where(is_equation, np.abs(F[1:]), F[1:])
    size = np.max(abs(E).T @ np.abs(weights))
    negative = np.max(-np.where(is_equation, 0, z), initial=0)
    gradient = np.max(np.abs(E.T @ weights)) / size
    return F[0], max(np.max(violation, initial=0), gradient, abs(z @ F[1:]) / max(1, abs(F[0])), negative)


def infeasibility(instance: Instance, weights) -> float:
    """How far weights of the terms are from proving that there is no feasible point: the largest entry of E'd, with the
    bound on sum_i lambda_i F_i that they prove otherwise scaled to one."""
    E, b, segments, equalities = instance
    own = (segments > 0) & ~np.isin(segments, equalities) & (weights > 0)
    total = np.bincount(segments, weights, segments.max() + 1)[segments]
    value = weights @ b - weights[own] @ np.log(weights[own] / total[own])
    wrong = np.any(weights[segments == 0] != 0) or np.any(weights[~np.isin(segments, equalities)] < 0) or value <= 0
    return np.inf if wrong else np.max(np.abs(E.T @ weights)) / value


def unboundedness(instance: Instance, ray) -> float:
    """How far a direction of log x is from a proof that the objective falls to 0: the growth of constraints beside the
    fall of the objective."""
    E, _, segments, equalities = instance
    along = E @ ray
    growth = np.where(np.isin(segments, equalities), np.abs(along), along)[segments > 0]
    fall = -np.max(along[segments == 0])
    return np.inf if fall <= 0 else np.max(growth, initial=0) / fall
