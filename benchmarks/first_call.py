"""The price of the first call: tracing, compiling and running once, each time in a fresh process without any cache.

The ways in which people call a solver: as a plain function, under `jax.jit`, and under `jax.jit` with the options of
the compiler that convexjax uses for plain calls.
"""

import time
from collections.abc import Callable
from statistics import median

import numpy as np

from benchmarks.families import CONIC_FAMILIES, conic_program, dense_qp
from benchmarks.programs import split_rows
from benchmarks.solvers import convexjax_cones
from benchmarks.worker import Child, Failure, NoAnswer, Surroundings, missing, serve_handler

QP_SIZE = (50, 100, 10)
WAYS = ("plain call", "jit", "quick jit")
# title, solver, largest ratio wanted
CASES = (("QP", "qpax", None), ("QP", "convexjax", 0.6), ("six cones", "convexjax", 2.0))


class Handler:
    """Inside a fresh process: the first message is a case, solved for the first time; any other repeats it."""

    def __init__(self):
        import jax

        jax.config.update("jax_enable_x64", True)
        jax.numpy.zeros(1).block_until_ready()  # start the back end
        self._call = None

    def __call__(self, message) -> tuple[float, bool]:
        if message is not None:
            self._call = _prepared(*message)
        start = time.perf_counter()
        solved = self._call()
        return time.perf_counter() - start, solved


def _prepared(title: str, solver: str, way: str) -> Callable[[], bool]:
    """A call without arguments that solves, waits, and says whether the solver claims success."""
    import jax

    import convexjax as cj

    if title == "QP":
        program = dense_qp(*QP_SIZE)
        rows = split_rows(program.l, program.u)
        (A, b), (G, h) = rows.equations(program), rows.inequalities(program)
        P, q, A, b, G, h = (
            jax.numpy.asarray(v.toarray() if hasattr(v, "toarray") else v) for v in (program.P, program.q, A, b, G, h)
        )
        if solver == "qpax":
            import qpax

            solve, data, solved = qpax.solve_qp, (P, q, A, b, G, h), lambda found: found[4] == 1
        else:
            solve, data, solved = cj.solve_qp, (P, q, G, h, A, b), lambda found: found.status == cj.Status.SOLVED
    else:
        program = conic_program("six cones", CONIC_FAMILIES["six_cones"][0], seed=0)
        cones = convexjax_cones(program.cones)
        P = None if program.P is None else program.P.toarray()
        data = tuple(v if v is None else jax.numpy.asarray(v) for v in (P, program.q, program.A.toarray(), program.b))
        solve, solved = lambda *data: cj.solve_conic(*data, cones), lambda found: found.status == cj.Status.SOLVED
    function = solve
    if way != "plain call":
        function = jax.jit(lambda *data: solve(*data), compiler_options=None if way == "jit" else cj.QUICK_COMPILATION)
    return lambda: bool(np.asarray(solved(jax.block_until_ready(function(*data)))))


def measure(repeats: int, timeout: float, threads: int) -> list[dict]:
    """Seconds of the first and of a later call for every case and way, interleaved; medians over fresh processes."""
    able = [(title, solver, way) for title, solver, _ in CASES for way in WAYS if not missing((solver,))]
    times: dict[tuple, list[tuple[float, float]]] = {case: [] for case in able}
    notes: dict[tuple, str] = dict.fromkeys(able, "solved")
    for _ in range(repeats):
        for case in able:
            child = Child(serve_handler, (Handler, (), Surroundings(threads=threads)), timeout)
            try:
                first, again = child.ask(case), child.ask(None)
                failure = next((found for found in (first, again) if isinstance(found, Failure)), None)
                if failure:
                    notes[case] = f"{failure.kind}: {failure.text}"
                elif not (first[1] and again[1]):
                    notes[case] = "failed"
                else:
                    times[case].append((first[0], again[0]))
            except NoAnswer as reason:
                notes[case] = str(reason)
            child.stop()
    return [_row(case, times[case], notes[case]) for case in able]


def _row(case: tuple[str, str, str], times: list[tuple[float, float]], note: str) -> dict:
    first, later = (median(values) for values in zip(*times, strict=True)) if times else (None, None)
    title, solver, way = case
    return {"program": title, "solver": solver, "way": way, "first call": first, "later call": later, "claim": note}


def print_table(rows: list[dict]) -> None:
    """The table, with each first call as a multiple of qpax's called in the same way."""
    base = {row["way"]: row["first call"] for row in rows if row["solver"] == "qpax"}
    wanted = {(title, solver): limit for title, solver, limit in CASES}
    print(
        f"{'program':12s}{'solver':12s}{'called':12s}{'first call':>12s}{'later call':>14s}{'ratio':>8s}  wanted  claim"
    )
    for row in rows:
        first, later, reference = row["first call"], row["later call"], base.get(row["way"])
        seconds = f"{first:10.2f} s{1e3 * later:11.2f} ms" if first is not None else f"{'-':>12s}{'-':>14s}"
        ratio = f"{first / reference:8.2f}" if first is not None and reference else f"{'-':>8s}"
        limit = wanted[row["program"], row["solver"]]
        limit = f"{limit:6.1f}" if limit else f"{'':6s}"
        print(f"{row['program']:12s}{row['solver']:12s}{row['way']:12s}{seconds}{ratio}  {limit}  {row['claim']}")
    for name in dict.fromkeys(solver for _, solver, _ in CASES):
        if missing((name,)):
            print(f"{name}: not installed")
