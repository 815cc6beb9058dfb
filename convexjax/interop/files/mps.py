"""MPS and QPS, the formats of linear and quadratic programs, with names without blanks.

Sections NAME, OBJSENSE, ROWS, COLUMNS, RHS, RANGES, BOUNDS, and QUADOBJ, QSECTION (one triangle of P) or QMATRIX (all
of P); the meaning of RANGES and BOUNDS is that of Murtagh, "Advanced linear programming", 1981, section 9.2.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from convexjax.interop.files.programs import QuadraticProgram
from convexjax.interop.files.reading import FileError, as_number, lines, stem


class _Line(NamedTuple):
    path: Path
    number: int
    words: list[str]

    def error(self, message: str) -> FileError:
        return FileError(self.path, f"{message}; got {' '.join(self.words)[:60]!r}.", self.number)

    def value(self, word: str) -> float:
        value = as_number(word)
        if math.isnan(value):
            raise self.error(f"expected a number, not {word[:20]!r}")
        return value

    def finite(self, word: str) -> float:
        value = self.value(word)
        if math.isinf(value):
            raise self.error(f"expected a finite number, not {word[:20]!r}")
        return value

    def pairs(self, first: int) -> list[tuple[str, float]]:
        """(name, number) once or twice, from the word `first` on."""
        rest = self.words[first:]
        if len(rest) not in (2, 4):
            raise self.error("expected a name and a number, once or twice")
        return [(rest[k], self.finite(rest[k + 1])) for k in range(0, len(rest), 2)]

    def place(self, names: dict, name: str, what: str):
        if name not in names:
            raise self.error(f"there is no {what} {name[:40]!r}")
        return names[name]


@dataclass
class _Model:
    """What the sections of a file say."""

    name: str = ""
    maximise: bool = False
    objective: str | None = None
    free_rows: set = field(default_factory=set)
    kinds: list[str] = field(default_factory=list)
    rows: dict[str, int] = field(default_factory=dict)
    columns: dict[str, int] = field(default_factory=dict)
    entries: dict[tuple[int, int], float] = field(default_factory=dict)
    costs: dict[int, float] = field(default_factory=dict)
    right: dict[int, float] = field(default_factory=dict)
    ranges: dict[int, float] = field(default_factory=dict)
    constant: float = 0.0
    lower: dict[int, float] = field(default_factory=dict)
    upper: dict[int, float] = field(default_factory=dict)
    quadratic: list[tuple[int, int, float]] = field(default_factory=list)


def read(path: Path) -> QuadraticProgram:
    """The program in a file."""
    model, section, ended = _Model(), "", False
    for number, text in enumerate(lines(path), 1):
        if not text.strip() or text.startswith("*"):
            continue
        line = _Line(path, number, text.split())
        if not text[0].isspace():
            section = _begin(line, model)
            if section == "ENDATA":
                ended = True
                break
        elif section in SECTIONS:
            SECTIONS[section](line, model)
        else:
            raise line.error("expected a section such as ROWS first")
    if not ended:
        raise FileError(path, "ends without the line ENDATA.")
    if not model.columns:
        raise FileError(path, "has no variables: expected a section COLUMNS.")
    return _program(stem(path), model)


def _begin(line: _Line, model: _Model) -> str:
    """A line that begins a section."""
    section, *rest = line.words
    section = section.upper()
    if section == "NAME":
        model.name = " ".join(rest)
    elif section == "OBJSENSE" and rest:
        _sense(line._replace(words=rest), model)
    elif section not in (*SECTIONS, "ENDATA"):
        raise line.error(f"expected a section, one of NAME, {', '.join(SECTIONS)}, ENDATA")
    return section


def _sense(line: _Line, model: _Model) -> None:
    sense = line.words[0].upper()
    if sense not in ("MIN", "MINIMIZE", "MINIMISE", "MAX", "MAXIMIZE", "MAXIMISE"):
        raise line.error("expected MIN or MAX")
    model.maximise = sense.startswith("MAX")


def _row(line: _Line, model: _Model) -> None:
    if len(line.words) != 2 or line.words[0].upper() not in ("N", "L", "G", "E"):
        raise line.error("expected the kind of a row, N, L, G or E, and its name")
    kind, name = line.words[0].upper(), line.words[1]
    if name in model.rows or name in model.free_rows:
        raise line.error(f"row {name[:40]!r} stands there twice")
    if kind == "N":
        model.objective = model.objective or name
        model.free_rows.add(name)
    else:
        model.rows[name] = len(model.rows)
        model.kinds.append(kind)


def _column(line: _Line, model: _Model) -> None:
    if len(line.words) >= 3 and line.words[1].strip("'\"").upper() == "MARKER":
        if line.words[2].strip("'\"").upper() == "INTORG":
            raise line.error("integer variables begin here; only continuous problems are solved")
        return
    name = line.words[0]
    column = model.columns.setdefault(name, len(model.columns))
    for row, value in line.pairs(1):
        if row in model.free_rows:
            if row == model.objective:
                model.costs[column] = model.costs.get(column, 0.0) + value
            continue
        place = (line.place(model.rows, row, "row"), column)
        if place in model.entries:
            raise line.error(f"row {row[:40]!r} stands twice in column {name[:40]!r}")
        model.entries[place] = value


def _right(line: _Line, model: _Model) -> None:
    """The name of the vector may be missing."""
    for row, value in line.pairs(len(line.words) % 2):
        if row in model.free_rows:
            if row == model.objective:
                model.constant = -value
        else:
            model.right[line.place(model.rows, row, "row")] = value


def _range(line: _Line, model: _Model) -> None:
    for row, value in line.pairs(len(line.words) % 2):
        if row not in model.free_rows:
            model.ranges[line.place(model.rows, row, "row")] = value


def _bound(line: _Line, model: _Model) -> None:
    """The name of the vector may be missing."""
    kind, *rest = line.words
    kind = kind.upper()
    if kind in ("BV", "LI", "UI", "SC", "SI"):
        raise line.error("an integer or semicontinuous variable; only continuous problems are solved")
    needs = {"UP": 1, "LO": 1, "FX": 1, "FR": 0, "MI": 0, "PL": 0}.get(kind)
    if needs is None or not needs + 1 <= len(rest) <= 3:
        raise line.error("expected a bound: UP, LO, FX, FR, MI or PL, a name, a variable, a number")
    # the variable stands last, or before the number; without a number nothing may follow it
    name = rest[-2] if needs else rest[1] if len(rest) > 1 and rest[1] in model.columns else rest[0]
    column = line.place(model.columns, name, "variable")
    value = line.value(rest[-1]) if needs else 0.0
    if kind == "UP":
        model.upper[column] = value
        if value < 0 and column not in model.lower:
            model.lower[column] = -math.inf
    elif kind == "LO":
        model.lower[column] = value
    elif kind == "FX":
        model.lower[column] = model.upper[column] = line.finite(rest[-1])
    else:
        if kind in ("FR", "MI"):
            model.lower[column] = -math.inf
        if kind in ("FR", "PL"):
            model.upper[column] = math.inf


def _quadratic(both: bool):
    def section(line: _Line, model: _Model) -> None:
        if len(line.words) != 3:
            raise line.error("expected two variables and a number")
        i, j = (line.place(model.columns, name, "variable") for name in line.words[:2])
        value = line.finite(line.words[2])
        model.quadratic.append((i, j, value))
        if i != j and not both:
            model.quadratic.append((j, i, value))

    return section


SECTIONS = {
    "OBJSENSE": _sense,
    "ROWS": _row,
    "COLUMNS": _column,
    "RHS": _right,
    "RANGES": _range,
    "BOUNDS": _bound,
    "QUADOBJ": _quadratic(both=False),
    "QSECTION": _quadratic(both=False),
    "QMATRIX": _quadratic(both=True),
}


def _program(name: str, model: _Model) -> QuadraticProgram:
    n, m = len(model.columns), len(model.rows)
    places = np.array(list(model.entries), int).reshape(-1, 2)
    values = np.array(list(model.entries.values()), float)
    quadratic = np.array(model.quadratic, float).reshape(-1, 3)
    P = sp.coo_array((quadratic[:, 2], (quadratic[:, 0].astype(int), quadratic[:, 1].astype(int))), shape=(n, n))
    sides = np.array([_sides(kind, model.right.get(i, 0.0), model.ranges.get(i)) for i, kind in enumerate(model.kinds)])
    vector = lambda entries, size, default: np.array([entries.get(k, default) for k in range(size)], float)
    return QuadraticProgram(
        name=model.name or name,
        P=P.tocsc(),
        q=vector(model.costs, n, 0.0),
        A=sp.coo_array((values, (places[:, 0], places[:, 1])), shape=(m, n)).tocsc(),
        l=sides.reshape(-1, 2)[:, 0],
        u=sides.reshape(-1, 2)[:, 1],
        lb=vector(model.lower, n, 0.0),
        ub=vector(model.upper, n, math.inf),
        constant=model.constant,
        maximise=model.maximise,
    )


def _sides(kind: str, right: float, span: float | None) -> tuple[float, float]:
    """(l, u) of a row; of an equation the sign of its range says on which side it reaches."""
    if kind == "E":
        return (right, right) if span is None else (right + min(span, 0.0), right + max(span, 0.0))
    reach = math.inf if span is None else abs(span)
    return (right - reach, right) if kind == "L" else (right, right + reach)
