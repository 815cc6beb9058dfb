"""Which derivatives are right: problem classes by transforms, for convexjax and for other differentiable solvers."""

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.derivative_cases import cases
from benchmarks.derivative_peers import PEERS, Peer, prepare_convexjax
from benchmarks.derivative_setting import COLUMNS, Expected, Setting, transformed
from benchmarks.report import aligned, markdown
from benchmarks.worker import Child, Failure, NoAnswer, Surroundings, serve_handler

FIRST_ORDER, SECOND_ORDER, ROUGH = 1e-5, 1e-3, 1e-2  # wanted relative errors; above the last one it is wrong
CASES = cases()
LEGEND = f"""A number is the relative error against finite differences; wanted {FIRST_ORDER:.0e}, of a hessian
{SECOND_ORDER:.0e}. inexact: misses that; wrong: misses {ROUGH:.0e}; - : not offered.
Losses read x, slacks, duals and objective, of qpax x alone. All but convexjax hold the exponents of power cones fixed.
cvxpylayers and diffqcp run without jit."""


@dataclass(frozen=True)
class Cell:
    """One transform of one class by one solver; `verdict` is right, inexact (misses what is wanted), wrong, fails, or
    empty where none is offered."""

    solver: str
    case: str
    column: str
    verdict: str = ""
    error: float | None = None
    note: str = ""

    def __str__(self) -> str:
        if not self.verdict:
            return "-"
        if self.error is None:
            return f"{self.verdict}: {self.note.partition(':')[0]}"
        return ("" if self.verdict == "right" else f"{self.verdict} ") + f"{self.error:.0e}"


@dataclass(frozen=True)
class Oracle:
    """How well the finite differences of a class are known, and how well convexjax solves it."""

    case: str
    first: float
    second: float
    implicit: float
    solution: float


def measure(
    solvers: list[str],
    names: list[str],
    columns: list[str],
    options: dict,
    timeout: float,
    surroundings: Surroundings,
) -> Iterator[Cell | Oracle]:
    """Cell by cell, each solver in a process of its own; the oracle of a class comes before its cells.

    `options` are those of convexjax's solves.
    """
    import jax

    jax.config.update("jax_enable_x64", True)
    children = {
        solver: Child(serve_handler, (Handler, (solver, options), surroundings), timeout)
        for solver in solvers
        if not PEERS[solver].missing
    }
    try:
        for name in names:
            yield from _class(name, children, columns, options)
    finally:
        for child in children.values():
            child.stop()


def _class(name: str, children: dict[str, Child], columns: list[str], options: dict):
    case, known = CASES[name], {}
    for solver, child in children.items():
        peer = PEERS[solver]
        if peer.cases is not None and name not in peer.cases:
            continue
        setting = peer.setting(case)
        key = setting.outputs, setting.fixed
        if key not in known:
            known[key] = Expected(setting)
            if solver == "convexjax":
                yield _oracle(known[key], options)
        for column in columns:
            yield _cell(solver, peer, name, column, child, known[key])


def _oracle(expected: Expected, options: dict) -> Oracle:
    solve = prepare_convexjax(expected.setting.case, **options)
    return Oracle(
        case=expected.setting.case.name,
        first=expected.error,
        second=expected.second_error,
        implicit=expected.against_implicit(),
        solution=expected.solution_error(solve),
    )


def _cell(solver: str, peer: Peer, name: str, column: str, child: Child, expected: Expected) -> Cell:
    if column not in peer.columns:
        return Cell(solver, name, column)
    try:
        found = child.ask((name, column))
    except NoAnswer as reason:
        return Cell(solver, name, column, "fails", note=str(reason))
    if isinstance(found, Failure):
        return Cell(solver, name, column, "fails", note=f"{found.kind}: {found.text}")
    if not np.isfinite(found).all():
        return Cell(solver, name, column, "fails", note="not finite")
    error = expected.error_of(column, found)
    wanted = SECOND_ORDER if "hessian" in column else FIRST_ORDER
    verdict = "right" if error <= wanted else "inexact" if error <= ROUGH else "wrong"
    return Cell(solver, name, column, verdict, error)


class Handler:
    """Inside a solver's process: computes cells."""

    def __init__(self, solver: str, options: dict):
        import jax

        jax.config.update("jax_enable_x64", True)
        warnings.simplefilter("ignore")
        logging.disable()  # a callback that fails is logged as well as raised
        self._peer = PEERS[solver]
        self._prepared: dict[str, Callable] = {}
        self._options = options if solver == "convexjax" else {}

    def __call__(self, message: tuple[str, str]) -> np.ndarray:
        name, column = message
        case, peer = CASES[name], self._peer
        if name not in self._prepared:
            self._prepared[name] = peer.prepare(case, **self._options)
        solve = self._prepared[name]
        if peer.columns != COLUMNS:
            solve = lambda data: self._prepared[name](data, column)
        setting: Setting = peer.setting(case)
        return transformed(setting, column, solve, peer.jit)()


def holds(cells: list[Cell]) -> bool:
    """Whether all of convexjax's cells are right."""
    return all(cell.verdict == "right" for cell in cells if cell.solver == "convexjax")


def line(found: Cell | Oracle) -> str:
    """One result on one line."""
    if isinstance(found, Cell):
        return f"{found.solver:12s} {found.case:20s} {found.column:12s} {found.verdict or '-':8s} " + (
            found.note if found.error is None else f"{found.error:.1e}"
        )
    return (
        f"{'reference':12s} {found.case:20s} error {found.first:.0e}, second order {found.second:.0e}, against the "
        f"implicit function theorem {found.implicit:.0e}; solutions of convexjax are off by {found.solution:.0e}"
    )


def text_tables(cells: list[Cell]) -> str:
    """One aligned table per solver."""
    return "\n\n".join(f"{solver}\n{aligned(_grid(own))}" for solver, own in _by_solver(cells).items())


def markdown_tables(cells: list[Cell]) -> str:
    """One markdown table per solver."""
    return "\n\n".join(f"{solver}\n\n{markdown(_grid(own))}" for solver, own in _by_solver(cells).items()) + "\n"


def packages(solvers: list[str]) -> list[str]:
    """What the solvers are installed from."""
    return [package for solver in solvers for package in PEERS[solver].packages]


def _by_solver(cells: list[Cell]) -> dict[str, list[Cell]]:
    solvers = dict.fromkeys(cell.solver for cell in cells)
    return {solver: [cell for cell in cells if cell.solver == solver] for solver in solvers}


def _grid(cells: list[Cell]) -> list[list[str]]:
    columns = list(dict.fromkeys(cell.column for cell in cells))
    texts = {(cell.case, cell.column): str(cell) for cell in cells}
    names = dict.fromkeys(cell.case for cell in cells)
    return [["", *columns], *([name, *(texts[name, column] for column in columns)] for name in names)]


def record(cells: list[Cell], oracles: list[Oracle]) -> dict:
    """Everything, for JSON."""
    return {"cells": [asdict(cell) for cell in cells], "oracles": [asdict(oracle) for oracle in oracles]}
