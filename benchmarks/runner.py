"""Programs times solvers: every solver on the same data in the same run, every answer certified."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from statistics import median

from benchmarks.certificates import agrees, certify
from benchmarks.programs import Program, objective
from benchmarks.registry import SOLVERS
from benchmarks.worker import Surroundings, Worker


@dataclass(frozen=True)
class Settings:
    """What holds for a whole run. A claim is certified when all its residuals are below `tolerance`."""

    solvers: tuple[str, ...]
    tolerance: float = 1e-8
    objective_tolerance: float = 1e-6
    repeats: int = 0
    timeout: float = 120.0
    surroundings: Surroundings = field(default_factory=Surroundings)


@dataclass(frozen=True)
class Row:
    """One solver on one program."""

    group: str
    problem: str
    solver: str
    claim: str
    worst: float
    residuals: dict[str, float]
    agrees: bool  # with the known status and optimal value
    certified: bool
    false_claim: bool
    objective: float | None
    iterations: int | None
    first_call: float
    repeat: float | None
    note: str

    @property
    def seconds(self) -> float:
        """The median of the repeats, or the first call where there was no repeat."""
        return self.first_call if self.repeat is None else self.repeat

    def record(self) -> dict:
        """For JSON."""
        return asdict(self)


def run(programs: Iterable[tuple[str, Program]], settings: Settings) -> Iterator[Row]:
    """One row per (group, program) and solver that knows the program's form."""
    names = [name for name in settings.solvers if SOLVERS[name].installed]
    workers = {name: Worker(name, settings.surroundings, settings.timeout) for name in names}
    try:
        for group, program in programs:
            yield from _solve_with_all(group, program, workers, settings)
    finally:
        for worker in workers.values():
            worker.stop()


def _solve_with_all(group: str, program: Program, workers: dict[str, Worker], settings: Settings) -> Iterator[Row]:
    """First calls in turn; then the repeats, interleaved so that a slow moment of the machine meets all alike."""
    able = [name for name in workers if SOLVERS[name].accepts(program)]
    first = {name: workers[name].first(program, settings.tolerance) for name in able}
    repeats = {name: [] for name in able}
    for _ in range(settings.repeats):
        for name in able:
            if first[name].answer.claim != "failed":
                again = workers[name].again()
                if again.answer.claim != "failed":
                    repeats[name].append(again.seconds)
    for name in able:
        yield judge(group, program, name, first[name], repeats[name], settings)


def judge(group: str, program: Program, name: str, first, repeats: list[float], settings: Settings) -> Row:
    """The row of one answer. A claim is false when it misses ten times the tolerance it was made to, or the truth."""
    answer = first.answer
    certificate = certify(program, answer)
    agreed = agrees(program, answer, settings.objective_tolerance)
    claimed = answer.claim in ("solved", "infeasible", "unbounded")
    promised = 10 * max(settings.tolerance, SOLVERS[name].accuracy)
    nearly = agreed or agrees(program, answer, promised)
    return Row(
        group=group,
        problem=program.name,
        solver=name,
        claim=answer.claim,
        worst=certificate.worst,
        residuals=certificate.residuals,
        agrees=agreed,
        certified=claimed and agreed and certificate.worst <= settings.tolerance,
        false_claim=claimed and not (nearly and certificate.worst <= promised),
        objective=objective(program, answer.x) if answer.claim in ("solved", "almost") else None,
        iterations=answer.iterations,
        first_call=first.seconds,
        repeat=median(repeats) if repeats else None,
        note=first.note,
    )
