"""Solvers of geometric programs: convexjax, and peers on the conic form (exponential cones), which is built before the
clock starts. Their multipliers are those of the rows that make up a posynomial."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sparse

from benchmarks.gp_programs import Instance


class Answer(NamedTuple):
    """What a solver found."""

    log_x: np.ndarray
    z: np.ndarray  # multipliers of the constraints
    status: str
    weights: np.ndarray | None = None  # of the terms, of a certificate


def solve_convexjax(instance: Instance) -> Callable:
    """A call that solves."""
    import jax

    import convexjax as cj

    jax.config.update("jax_enable_x64", True)
    E, b, segments, equalities = instance

    def call():
        solution = jax.block_until_ready(cj.solve_gp(E, b, segments, equalities=equalities))
        log_x, z, d = (np.asarray(a) for a in (solution.log_x, solution.z, solution.term_sensitivities))
        return Answer(log_x, z, cj.Status(int(solution.status)).name, d)

    return call


def conic_form(instance: Instance):
    """min c'v, A v + s = b: v = (log x, r of each term, the objective); zero, nonnegative and exponential rows."""
    E, b, segments, equalities = instance
    E = sparse.csr_matrix(E)
    equal = np.isin(segments, np.asarray(equalities, int)) & (segments > 0)
    terms = np.flatnonzero(~equal)
    K, n, S = terms.size, E.shape[1], segments.max() + 1
    zero = sparse.hstack([E[equal], sparse.csr_matrix((equal.sum(), K + 1))])
    kept = np.setdiff1d(np.arange(S), segments[equal])
    place = np.searchsorted(kept, segments[terms])
    sums = sparse.csr_matrix((np.ones(K), (place, n + np.arange(K))), (kept.size, n + K + 1))
    first = sparse.hstack(
        [-E[terms], sparse.csr_matrix((K, K)), sparse.csr_matrix((segments[terms] == 0).astype(float)).T]
    ).tocsr()
    third = sparse.hstack([sparse.csr_matrix((K, n)), -sparse.eye(K), sparse.csr_matrix((K, 1))]).tocsr()
    order = np.arange(3 * K).reshape(3, K).T.ravel()
    exponential = sparse.vstack([first, sparse.csr_matrix((K, n + K + 1)), third]).tocsr()[order]
    right = np.stack([b[terms], np.ones(K), np.zeros(K)], 1).ravel()
    A = sparse.vstack([zero, sums, exponential]).tocsc()
    c = np.zeros(n + K + 1)
    c[-1] = 1
    return c, A, np.concatenate([-b[equal], np.ones(kept.size), right]), int(equal.sum()), kept, K, segments[equal]


def multipliers(form, z) -> np.ndarray:
    """Those of the posynomials, from those of the conic rows."""
    _, _, _, p, kept, _, equations = form
    found = np.zeros(kept.size + equations.size)
    found[equations], found[kept] = z[:p], z[p : p + kept.size]
    return found[1:]


def solve_clarabel(instance: Instance) -> Callable:
    """Clarabel with its default settings."""
    import clarabel

    form = c, A, b, p, kept, K, _ = conic_form(instance)

    def call():
        cones = [clarabel.ZeroConeT(p)] * (p > 0) + [clarabel.NonnegativeConeT(kept.size)]
        settings = clarabel.DefaultSettings()
        settings.verbose = False
        P = sparse.csc_matrix((c.size, c.size))
        solution = clarabel.DefaultSolver(P, c, A, b, cones + [clarabel.ExponentialConeT()] * K, settings).solve()
        n = instance[0].shape[1]
        return Answer(np.asarray(solution.x)[:n], multipliers(form, np.asarray(solution.z)), str(solution.status))

    return call


def solve_scs(instance: Instance) -> Callable:
    """SCS to 1e-5."""
    import scs

    form = c, A, b, p, kept, K, _ = conic_form(instance)

    def call():
        solver = scs.SCS(
            {"A": A, "b": b, "c": c},
            {"z": p, "l": kept.size, "ep": K},
            eps_abs=1e-5,
            eps_rel=1e-5,
            verbose=False,
            time_limit_secs=100,
        )
        found = solver.solve()
        return Answer(found["x"][: instance[0].shape[1]], multipliers(form, found["y"]), found["info"]["status"])

    return call


SOLVERS = {"convexjax": solve_convexjax, "clarabel": solve_clarabel, "scs": solve_scs}


def timed(call: Callable, repeats: int) -> tuple[float, float, tuple]:
    """Seconds of the first call, the least of the later ones, the answer."""
    seconds = []
    for _ in range(1 + repeats):
        begun = time.perf_counter()
        answer = call()
        seconds.append(time.perf_counter() - begun)
    return seconds[0], min(seconds[1:] or seconds), answer
