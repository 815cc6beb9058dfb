"""The first answer of a process that need not compile: with the compilation cache of an earlier process, and with a
program that an earlier process exported. Seconds after JAX is imported and its back end started: importing convexjax
(with the cache), tracing (with the cache), reading, solving once."""

import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.families import dense_qp
from benchmarks.programs import split_rows
from benchmarks.worker import Child, Failure, Surroundings, serve_handler

SIZE = (50, 100, 10)
WAYS = ("cache", "export")


class Handler:
    """Inside a fresh process."""

    def __init__(self, folder: str):
        import jax

        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
        jax.numpy.zeros(1).block_until_ready()  # start the back end
        program = dense_qp(*SIZE)
        rows = split_rows(program.l, program.u)
        (A, b), (G, h) = rows.equations(program), rows.inequalities(program)
        self._data = program.P.toarray(), program.q, G.toarray(), h, A.toarray(), b
        self._file = Path(folder) / "exported"

    def __call__(self, way: str) -> tuple[float, bool]:
        import jax

        if way == "export to file":
            import convexjax as cj

            self._file.write_bytes(
                jax.export.export(jax.jit(lambda *data: cj.solve_qp(*data).x))(*self._data).serialize()
            )
            return 0.0, True
        start = time.perf_counter()
        if way == "cache":
            import convexjax as cj

            x = cj.solve_qp(*self._data).x
        else:
            x = jax.jit(jax.export.deserialize(self._file.read_bytes()).call)(*self._data)
        x = np.asarray(x)
        seconds = time.perf_counter() - start
        P, q, G, h, A, b = self._data
        feasible = max((G @ x - h).max(), abs(A @ x - b).max()) < 1e-7
        return seconds, bool(feasible)


def measure(repeats: int, threads: int) -> list[dict]:
    """One row per way: the first process, which compiles, and the median of the later ones."""
    with tempfile.TemporaryDirectory() as folder:

        def ask(*messages):
            child = Child(serve_handler, (Handler, (folder,), Surroundings(threads=threads, cache=folder)), 300)
            found = [child.ask(message) for message in messages]
            child.stop()
            if isinstance(found[-1], Failure) or not found[-1][1]:
                raise SystemExit(f"no answer: {found[-1]}")
            return found[-1][0]

        ask("export to file")
        first = {way: ask(way) for way in WAYS}
        later = {way: median(ask(way) for _ in range(repeats)) for way in WAYS}
    return [{"way": way, "first process": first[way], "later processes": later[way]} for way in WAYS]


def print_table(rows: list[dict]) -> None:
    """Seconds."""
    print(f"{'way':10s}{'first process':>16s}{'later processes':>18s}  wanted")
    for row in rows:
        print(f"{row['way']:10s}{row['first process']:14.2f} s{row['later processes']:16.2f} s     0.3")
