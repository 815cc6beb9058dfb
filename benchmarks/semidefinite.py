"""Semidefinite programs for the command `sdp`: public files, max-cut on random graphs, and a batch of small ones."""

import argparse
import time
from collections.abc import Iterator
from statistics import median

import numpy as np
import scipy.sparse as sparse

from benchmarks import problem_files
from benchmarks.certificates import certify
from benchmarks.conic_peers import prepare_clarabel
from benchmarks.programs import Answer, Cones, ConicProgram, Program
from benchmarks.semidefinite_solvers import is_semidefinite

SETS = ("sdplib", "dimacs")


def programs(arguments: argparse.Namespace) -> Iterator[tuple[str, Program]]:
    """Those of the files within the sizes, then the max-cut relaxations."""
    for name in SETS if arguments.data else ():
        for path in problem_files.select_files(arguments.data / name, None, arguments.names):
            program = problem_files.load(path)
            largest = max(program.cones.psd, default=0) if isinstance(program, ConicProgram) else np.inf
            small = largest <= arguments.max_side and program.q.size <= arguments.max_variables
            if small and is_semidefinite(program):
                yield name, program
    for nodes in map(int, filter(None, arguments.nodes.split(","))):
        yield "max_cut", max_cut(nodes)


def max_cut(nodes: int) -> ConicProgram:
    """min sum x, diag(x) - L/4 psd, for a random graph of mean degree 12 and weights one."""
    rng = np.random.default_rng(nodes)
    W = np.triu(rng.uniform(size=(nodes, nodes)) < 12 / nodes, 1).astype(float)
    W = W + W.T
    L = (np.diag(W.sum(1)) - W) / 4
    columns, rows = np.tril_indices(nodes)
    scaled = np.where(rows == columns, 1, np.sqrt(2))
    diagonal = np.flatnonzero(rows == columns)
    A = sparse.csc_array((-np.ones(nodes), (diagonal, np.arange(nodes))), shape=(rows.size, nodes))
    return ConicProgram(
        name=f"nodes {nodes}",
        P=None,
        q=np.ones(nodes),
        A=A,
        b=-L[rows, columns] * scaled,
        cones=Cones(psd=(nodes,)),
    )


def small_program(seed: int, side: int = 10, n: int = 15) -> tuple[np.ndarray, np.ndarray]:
    """c and F (n + 1, side, side), strictly feasible on both sides."""
    rng = np.random.default_rng(seed)
    F = rng.normal(size=(n + 1, side, side))
    F = F + F.swapaxes(1, 2)
    F[0] = F[0] @ F[0] / side + np.eye(side)
    Z = rng.normal(size=(side, side))
    return np.einsum("nij,ij->n", F[1:], Z @ Z.T / side + np.eye(side)), F


def as_conic(c: np.ndarray, F: np.ndarray) -> ConicProgram:
    """The program in conic form."""
    side = F.shape[-1]
    columns, rows = np.tril_indices(side)
    vectors = F[:, rows, columns] * np.where(rows == columns, 1, np.sqrt(2))
    return ConicProgram(
        name="small", P=None, q=c, A=sparse.csc_array(-vectors[1:].T), b=vectors[0], cones=Cones(psd=(side,))
    )


def batch(lanes: int, repeats: int) -> list[list[str]]:
    """Seconds of `vmap` and of a loop over Clarabel, and how many answers of each are certified."""
    import jax

    jax.config.update("jax_enable_x64", True)
    import convexjax as cj

    data = [small_program(seed) for seed in range(lanes)]
    c, F = (np.stack(v) for v in zip(*data, strict=True))
    conic = [as_conic(*lane) for lane in data]
    columns, rows = np.tril_indices(F.shape[-1])
    vector = lambda M: M[rows, columns] * np.where(rows == columns, 1, np.sqrt(2))
    solve = jax.jit(jax.vmap(lambda c, F: cj.solve_sdp(c=c, F=F)))
    device = jax.device_put((c, F))

    def ours() -> list[Answer]:
        found = jax.block_until_ready(solve(*device))
        x, s, z = (np.asarray(v) for v in (found.x, found.s, found.z))
        claims = np.where(np.asarray(found.status) == cj.Status.SOLVED, "solved", "failed")
        return [Answer(claim=k, x=a, s=vector(b), z=vector(d)) for k, a, b, d in zip(claims, x, s, z, strict=True)]

    prepared = [prepare_clarabel(program, 1e-8) for program in conic]
    table = [["solver", "seconds", "certified"]]
    for name, run in (("convexjax", ours), ("clarabel", lambda: [solve() for solve in prepared])):
        answers, times = run(), []
        for _ in range(max(1, repeats)):
            start = time.perf_counter()
            answers = run()
            times.append(time.perf_counter() - start)
        good = sum(certify(p, a).worst <= 1e-8 for p, a in zip(conic, answers, strict=True))
        table.append([name, f"{median(times):.4f}", f"{good} of {lanes}"])
    return table
