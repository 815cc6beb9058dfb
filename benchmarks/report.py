"""What a run prints and writes: a line per answer, a table per group, and JSON."""

import json
import math
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from statistics import median

from benchmarks.registry import SOLVERS
from benchmarks.runner import Row, Settings
from benchmarks.worker import Surroundings

SHIFT = 0.01  # seconds added in the shifted geometric mean, so that the smallest problems do not decide it


def line(row: Row) -> str:
    """One answer on one line."""
    if row.certified:
        verdict = "certified"
    elif row.false_claim:
        verdict = "FALSE CLAIM"
    else:
        verdict = "-"
    worst = max(row.residuals, key=row.residuals.get) if row.residuals else ""
    repeat = "" if row.repeat is None else f"{1e3 * row.repeat:10.2f} ms"
    optimum = "" if row.claim == "failed" else ("agrees" if row.agrees else "DIFFERS")
    return (
        f"{row.group:20.20s} {row.problem:16.16s} {row.solver:10s} {row.claim:10s} {verdict:11s} {row.worst:8.1e} "
        f"{worst:11s} {optimum:7s} {row.iterations or 0:5d} it {row.first_call:9.4f} s {repeat} {row.note}"
    ).rstrip()


def tables(rows: list[Row], settings: Settings) -> dict[str, dict[str, dict]]:
    """For each group and solver: the counts and the times."""
    groups = dict.fromkeys(row.group for row in rows)
    return {group: _table([row for row in rows if row.group == group], settings) for group in groups}


def _table(rows: list[Row], settings: Settings) -> dict[str, dict]:
    solvers = dict.fromkeys(row.solver for row in rows)
    return {solver: _summary([row for row in rows if row.solver == solver], settings) for solver in solvers}


def _summary(rows: list[Row], settings: Settings) -> dict:
    charged = [row.seconds if row.certified else max(row.seconds, settings.timeout) for row in rows]
    return {
        "problems": len(rows),
        "claimed": sum(row.claim in ("solved", "infeasible", "unbounded") for row in rows),
        "almost": sum(row.claim == "almost" for row in rows),
        "certified": sum(row.certified for row in rows),
        "false claims": sum(row.false_claim for row in rows),
        "total seconds": sum(row.first_call for row in rows),
        "mean seconds": shifted_geometric_mean(charged),
    }


def shifted_geometric_mean(seconds: Iterable[float]) -> float:
    """exp(mean(log(t + shift))) - shift."""
    logs = [math.log(value + SHIFT) for value in seconds]
    return math.exp(sum(logs) / len(logs)) - SHIFT


def print_tables(rows: list[Row], settings: Settings) -> None:
    """The tables, and how to read them."""
    for group, table in tables(rows, settings).items():
        columns = list(next(iter(table.values())))
        print(f"\n{group}\n{'':12s}" + "".join(f"{name:>15s}" for name in columns))
        for solver, summary in table.items():
            cells = (f"{v:15.4g}" if isinstance(v, float) else f"{v:15d}" for v in summary.values())
            print(f"{solver:12s}" + "".join(cells))
    print(
        f"\ncertified: the claim is proved from outside to {settings.tolerance:g} and agrees with the reference value; "
        f"false claims miss ten times their solver's tolerance, or the reference.\nmean: shifted geometric mean "
        f"({SHIFT:g} s), where an answer that is not certified counts as the time limit ({settings.timeout:g} s)."
    )
    known = machine(settings)
    versions = ", ".join(f"{package} {version}" for package, version in known["versions"].items())
    print(
        f"{known['processor']}, {known['cores']} cores, threads per solver: {known['threads per solver']}; {versions}"
    )


def print_fastest(rows: list[Row]) -> None:
    """For each group: median times of the certified answers, fastest first; solvers that missed some come last."""
    print()
    for group in dict.fromkeys(row.group for row in rows):
        ranks = []
        for solver in dict.fromkeys(row.solver for row in rows):
            own = [row for row in rows if (row.group, row.solver) == (group, solver)]
            times = [row.seconds for row in own if row.certified]
            if own:
                ranks.append((len(own) - len(times), median(times) if times else math.inf, solver, len(own)))
        print(f"{group}: " + ", ".join(_rank(*rank) for rank in sorted(ranks)))


def _rank(missed: int, seconds: float, solver: str, count: int) -> str:
    if missed == count:
        return f"{solver} (none certified)"
    return f"{solver} {1e3 * seconds:.3g} ms" + (f" ({missed} of {count} not certified)" if missed else "")


def machine(settings: Settings) -> dict:
    """Processor, cores, threads and the versions of everything measured."""
    return facts(settings.surroundings, [SOLVERS[name].package for name in settings.solvers])


def facts(surroundings: Surroundings, packages: Iterable[str]) -> dict:
    """Processor, cores, threads and the versions of these packages."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads per solver": surroundings.threads or "not limited",
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {package: version_of(package) for package in dict.fromkeys([*packages, "jax", "numpy", "scipy"])},
    }


def aligned(rows: list[list[str]]) -> str:
    """A table of texts, the first column on the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    pad = lambda i, text: text.ljust(widths[i]) if i == 0 else text.rjust(widths[i])
    return "\n".join("  ".join(pad(i, text) for i, text in enumerate(row)).rstrip() for row in rows)


def markdown(rows: list[list[str]]) -> str:
    """The same in markdown; the first row is the head."""
    head, *lines = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *lines])


def processor() -> str:
    """The processor's model."""
    information = Path("/proc/cpuinfo")
    if information.exists():
        models = [text.partition(":")[2] for text in information.read_text().splitlines() if "model name" in text]
        if models:
            return models[0].strip()
    return platform.processor() or platform.machine()


def version_of(package: str) -> str:
    """The installed version of a package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "source tree" if package == "convexjax" else "not installed"


def write_json(path: str, rows: list[Row], settings: Settings) -> None:
    """Everything a table needs and the table itself; infinities as null."""
    content = {
        "machine": machine(settings),
        "settings": {
            "tolerance": settings.tolerance,
            "objective tolerance": settings.objective_tolerance,
            "repeats": settings.repeats,
            "time limit": settings.timeout,
        },
        "tables": tables(rows, settings),
        "rows": [row.record() for row in rows],
    }
    Path(path).write_text(json.dumps(finite(content), indent=1, allow_nan=False) + "\n")


def finite(value):
    """The same for JSON, with None for infinities and NaN."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
