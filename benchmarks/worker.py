"""One process per solver, asked to solve one program at a time: a hang or a crash costs that answer alone.

The process lives on between programs, so that what a solver compiled for a shape serves the next program of that shape.
"""

import importlib.util
import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.programs import Answer, Program

THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


@dataclass(frozen=True)
class Run:
    """An answer and the seconds of the call that gave it; `note` says why there is none."""

    answer: Answer
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Surroundings:
    """What a worker runs in: threads (0: as many as the solver likes) and a folder for JAX's compilation cache."""

    threads: int = 0
    cache: str | None = None

    def enter(self) -> None:
        """Set this up in the present process, before any numerical library is imported."""
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "1" if self.cache else "0"
        if self.cache:
            os.environ["JAX_COMPILATION_CACHE_DIR"] = self.cache
            os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"
        if self.threads:
            os.environ |= dict.fromkeys(THREAD_VARIABLES, str(self.threads))
            if hasattr(os, "sched_setaffinity"):  # the one limit that every solver respects
                os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-self.threads :])


class NoAnswer(Exception):
    """The process ran past the time limit, or it crashed."""


class Child:
    """A process running `target(*arguments, pipe)`, which answers one message at a time."""

    def __init__(self, target: Callable, arguments: tuple, timeout: float):
        self.target, self.arguments, self.timeout = target, arguments, timeout
        self._process = None

    def ask(self, message):
        """The answer; without one the process is ended, and the next message starts a new one."""
        if self._process is None:
            self._start()
        try:
            self._pipe.send(message)
            if self._pipe.poll(self.timeout):
                return self._pipe.recv()
            note = "time limit"
        except (EOFError, OSError):
            note = "crashed"
        self.stop()
        raise NoAnswer(note)

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, end = context.Pipe()
        self._process = context.Process(target=self.target, args=(*self.arguments, end), daemon=True)
        self._process.start()
        end.close()


class Worker:
    """A process that solves with one solver."""

    def __init__(self, solver: str, surroundings: Surroundings, timeout: float):
        self._child = Child(serve_handler, (Solves, (solver,), surroundings), timeout)
        self.stop = self._child.stop

    def first(self, program: Program, tolerance: float) -> Run:
        """Hand the program over and solve it for the first time (compilation included, imports not)."""
        return self._ask((program, tolerance))

    def again(self) -> Run:
        """Solve the same program once more."""
        return self._ask(None)

    def _ask(self, message) -> Run:
        try:
            found = self._child.ask(message)
        except NoAnswer as error:
            seconds = self._child.timeout if str(error) == "time limit" else 0.0
            return Run(Answer(claim="failed"), seconds, str(error))
        if isinstance(found, Failure):
            return Run(Answer(claim="failed"), 0.0, f"{found.kind}: {found.text}"[:200])
        return found


@dataclass(frozen=True)
class Failure:
    """What a handler raised: the class of the exception and its text on one line."""

    kind: str
    text: str


def answer_or_reason(child: Child, message):
    """The answer of a child, or in words why there is none."""
    try:
        found = child.ask(message)
    except NoAnswer as reason:
        return str(reason)
    return f"{found.kind}: {found.text}" if isinstance(found, Failure) else found


def serve_handler(make: Callable, arguments: tuple, surroundings: Surroundings, pipe) -> None:
    """A loop inside a process: `make(*arguments)` answers the messages; an exception is answered by a `Failure`."""
    surroundings.enter()
    handler = None
    while True:
        try:
            message = pipe.recv()
        except EOFError:
            return
        try:
            handler = handler or make(*arguments)
            pipe.send(handler(message))
        except Exception as error:
            pipe.send(Failure(type(error).__name__, " ".join(str(error).split())[:300]))


def missing(packages: tuple[str, ...]) -> str:
    """Those of the packages that are not installed."""
    return ", ".join(name for name in packages if importlib.util.find_spec(name) is None)


class Solves:
    """Inside a solver's process: a program with its tolerance is solved for the first time, None solves it again."""

    def __init__(self, solver: str):
        from benchmarks.registry import SOLVERS

        self._prepare = SOLVERS[solver].prepare

    def __call__(self, message) -> Run:
        if message is not None:
            self._solve = self._prepare(*message)
        start = time.perf_counter()
        answer = self._solve()
        return Run(answer, time.perf_counter() - start)
