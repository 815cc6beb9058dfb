"""The price of the first call: tracing, compiling and running once, each time in a fresh process without any cache."""

from statistics import median

from benchmarks.families import CONIC_FAMILIES, conic_program, dense_qp
from benchmarks.programs import Program
from benchmarks.registry import SOLVERS
from benchmarks.worker import Surroundings, Worker

QP_SIZE = (50, 100, 10)


def cases() -> list[tuple[str, str, Program]]:
    """(title, solver, program): the first is what the others are compared with."""
    qp = dense_qp(*QP_SIZE)
    six = conic_program("six cones", CONIC_FAMILIES["six_cones"][0], seed=0)
    return [("QP", "qpax", qp), ("QP", "convexjax", qp), ("six cones", "convexjax", six)]


def measure(repeats: int, timeout: float, threads: int) -> list[dict]:
    """Seconds of the first and of a later call for every case, interleaved; medians over fresh processes."""
    able = [case for case in cases() if SOLVERS[case[1]].installed]
    times: dict[tuple[str, str], list[tuple[float, float]]] = {case[:2]: [] for case in able}
    notes: dict[tuple[str, str], str] = {}
    for _ in range(repeats):
        for title, solver, program in able:
            worker = Worker(solver, Surroundings(threads=threads), timeout)
            first = worker.first(program, 1e-8)
            again = worker.again()
            worker.stop()
            notes[title, solver] = first.note or first.answer.claim
            if first.answer.claim != "failed":
                times[title, solver].append((first.seconds, again.seconds))
    return [_row(title, solver, times[title, solver], notes[title, solver]) for title, solver, _ in able]


def _row(title: str, solver: str, times: list[tuple[float, float]], note: str) -> dict:
    first, later = (median(values) if times else None for values in (zip(*times, strict=True) if times else ((), ())))
    return {"program": title, "solver": solver, "first call": first, "later call": later, "claim": note}


def print_table(rows: list[dict]) -> None:
    """The table, with each first call as a multiple of the first row's."""
    base = rows[0]["first call"] if rows else None
    print(f"{'program':12s}{'solver':12s}{'first call':>12s}{'later call':>14s}{'ratio':>8s}  claim")
    for row in rows:
        first, later = row["first call"], row["later call"]
        if first is None:
            print(f"{row['program']:12s}{row['solver']:12s}{'-':>12s}{'-':>14s}{'-':>8s}  {row['claim']}")
            continue
        ratio = f"{first / base:8.2f}" if base else f"{'-':>8s}"
        claim = row["claim"]
        print(f"{row['program']:12s}{row['solver']:12s}{first:10.2f} s{1e3 * later:11.2f} ms{ratio}  {claim}")
    for name in dict.fromkeys(solver for _, solver, _ in cases()):
        if not SOLVERS[name].installed:
            print(f"{name}: not installed")
