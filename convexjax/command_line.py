"""`python -m convexjax`: the tour; `python -m convexjax solve FILE`: a problem file.

    python -m convexjax solve FILE [--tol TOLERANCE] [--max-iters N] [--out solution.json|solution.npz]
                                   [--plot convergence.png] [--quiet]

Exit codes: 0 solved, 1 not solved to the tolerance, 2 wrong usage, 3 infeasible, 4 unbounded, 5 unreadable file.
"""

import argparse
import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import numpy as np

from convexjax.options import Options
from convexjax.plot import convergence
from convexjax.solution import Solution, Status

UNREADABLE = 5
EXIT_CODES = {Status.SOLVED: 0, Status.PRIMAL_INFEASIBLE: 3, Status.DUAL_INFEASIBLE: 4}


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser("python -m convexjax", description="Convex optimisation in pure JAX.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("tour", help="solve problems with known optima (what runs without a command)")
    solve = commands.add_parser("solve", help="solve a problem file: MPS, QPS, SDPA (.dat-s), CBF or .npz")
    solve.add_argument("file", type=Path)
    solve.add_argument("--tol", type=float, help="tolerance of the residuals, 1e-8 by default")
    solve.add_argument("--max-iters", type=int, default=200)
    solve.add_argument("--out", type=Path, help="write the solution: .json or .npz")
    solve.add_argument("--plot", type=Path, help="draw the residuals of all iterations")
    solve.add_argument("--quiet", action="store_true", help="no table of iterations")
    chosen = parser.parse_args(arguments)
    if chosen.command != "solve":
        from convexjax.tour import main as tour

        return tour()
    if chosen.out is not None and chosen.out.suffix not in (".json", ".npz"):
        parser.error(f"--out must end in .json or .npz, got {chosen.out}")
    if chosen.plot is not None and find_spec("matplotlib") is None:
        parser.error("--plot draws with matplotlib: pip install 'convexjax[plot]'")
    try:
        options = Options(
            tolerance=chosen.tol,
            max_iters=chosen.max_iters,
            verbose=not chosen.quiet,
            history=chosen.max_iters if chosen.plot else 0,
        )
        options.validate()
    except ValueError as error:
        parser.error(str(error))
    return solve_file(chosen.file, options, chosen.out, chosen.plot)


def solve_file(path: Path, options: Options, out: Path | None, plot: Path | None) -> int:
    """Read, solve, report; the exit code."""
    from convexjax.interop.files import FileError, read

    try:
        program = read(path)
    except FileError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNREADABLE
    print(f"{program.name}: {program.describe()}", flush=True)
    begin = time.perf_counter()
    solution = jax.block_until_ready(program.solve(options))
    jax.effects_barrier()
    report(solution, time.perf_counter() - begin)
    if out is not None:
        write(out, program.name, solution)
    if plot is not None:
        draw(plot, program.name, solution)
    return EXIT_CODES.get(Status(int(solution.status)), 1)


def report(solution: Solution, seconds: float) -> None:
    """The result for people."""
    status, info = Status(int(solution.status)), solution.info
    print(f"status      {status.name}: {status.message}")
    print(f"objective   {float(solution.objective):.10g}")
    print(
        f"residuals   primal {float(info.primal_residual):.1e}, dual {float(info.dual_residual):.1e}, "
        f"gap {float(info.gap):.1e}"
    )
    print(f"iterations  {int(info.num_iters)} in {seconds:.2f} s, compilation included")


def write(path: Path, name: str, solution: Solution) -> None:
    """All values of a solution, by name: a tuple's entries as x.0, x.1, ..."""
    values: dict[str, Any] = {"name": name, "status": Status(int(solution.status)).name}
    for keys, value in jax.tree_util.tree_leaves_with_path(solution):
        field = ".".join(str(getattr(key, "name", getattr(key, "idx", getattr(key, "key", key)))) for key in keys)
        if field != "status":
            values[field] = np.asarray(value)
    if path.suffix == ".npz":
        np.savez(path, **values)
    else:
        plain = {field: value.tolist() if isinstance(value, np.ndarray) else value for field, value in values.items()}
        path.write_text(json.dumps(plain, indent=1) + "\n")


def draw(path: Path, name: str, solution: Solution) -> None:
    """The residuals of all iterations."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    convergence(solution, figure.subplots()).set(title=name)
    figure.savefig(path, dpi=150)
