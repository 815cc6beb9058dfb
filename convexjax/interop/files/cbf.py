"""The conic benchmark format, CBF (Friberg, "CBLIB 2014: a benchmark library for conic mixed-integer and continuous
optimization", Mathematical Programming Computation, 2016): continuous programs of versions 1 to 3.

    min or max  <c, x> + sum_j <F_j, X_j> + constant
    subject to  A x + sum_j <F_ij, X_j> + b in K_con,   sum_j x_j H_ij + D_i psd,   x in K_var,   X_j psd
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from convexjax.interop.cone_form import ConeForm
from convexjax.interop.files.programs import ConicProgram, SemidefiniteProgram, semidefinite_or_conic
from convexjax.interop.files.reading import FileError, as_number, lines, stem

LINEAR = ("F", "L=", "L+", "L-")


class _Text:
    """The lines of the file that say something, one after the other."""

    def __init__(self, path: Path):
        self.path = path
        stripped = ((number, line.split("#")[0].split()) for number, line in enumerate(lines(path), 1))
        self.rows = [(number, words) for number, words in stripped if words]
        self.at = 0

    def more(self) -> bool:
        return self.at < len(self.rows)

    def words(self, expected: str, count: int | None = None) -> list[str]:
        """The next line, of `count` words."""
        if not self.more():
            raise FileError(self.path, f"ends where {expected} was expected.")
        words = self.rows[self.at][1]
        self.at += 1
        if count is not None and len(words) != count:
            raise self.error(f"expected {expected}, {count} words; got {' '.join(words)[:60]!r}")
        return words

    def integers(self, expected: str, count: int) -> list[int]:
        """The next line, of `count` integers >= 0."""
        return [self.integer(word, expected) for word in self.words(expected, count)]

    def integer(self, word: str, expected: str) -> int:
        if not (word.isascii() and word.isdigit() and len(word) < 10):
            raise self.error(f"expected {expected}, an integer >= 0; got {word[:40]!r}")
        return int(word)

    def number(self, word: str, expected: str) -> float:
        value = as_number(word)
        if not math.isfinite(value):
            raise self.error(f"expected {expected}, a finite number; got {word[:40]!r}")
        return value

    def error(self, message: str) -> FileError:
        """An error at the line that was read last."""
        return FileError(self.path, f"{message}.", self.rows[self.at - 1][0] if self.rows else None)

    def table(self, expected: str, bounds: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """A count, and so many lines of integers below the bounds and a value: (count, len(bounds)) and (count,)."""
        (count,) = self.integers(f"the number of {expected}", 1)
        if count > len(self.rows) - self.at:
            raise self.error(f"expected {count} {expected}, but the file ends before")
        places, values = np.zeros((count, len(bounds)), np.int64), np.zeros(count)
        for k in range(count):
            *numbers, value = self.words(expected, len(bounds) + 1)
            for j, (word, bound) in enumerate(zip(numbers, bounds, strict=True)):
                places[k, j] = self.integer(word, expected)
                if places[k, j] >= bound:
                    raise self.error(f"{expected}: index {word} is not below {bound}")
            values[k] = self.number(value, expected)
        return places, values


@dataclass
class _Model:
    """What the sections of a file say."""

    maximise: bool = False
    constant: float = 0.0
    powers: list[list[float]] = field(default_factory=list)
    variable_cones: list[tuple[str, int]] = field(default_factory=list)
    row_cones: list[tuple[str, int]] = field(default_factory=list)
    matrix_variables: list[int] = field(default_factory=list)
    matrix_rows: list[int] = field(default_factory=list)
    tables: dict[str, list] = field(default_factory=dict)

    @property
    def num_variables(self) -> int:
        return sum(size for _, size in self.variable_cones)

    @property
    def num_rows(self) -> int:
        return sum(size for _, size in self.row_cones)


def read(path: Path) -> ConicProgram | SemidefiniteProgram:
    """The program in a file."""
    text, model = _Text(path), _Model()
    while text.more():
        (keyword,) = text.words("a keyword such as VAR", 1)
        if keyword == "CHANGE":
            break  # a changed copy of the problem follows
        if keyword not in SECTIONS:
            raise text.error(f"unknown keyword {keyword[:40]!r}, expected one of {', '.join(SECTIONS)}")
        SECTIONS[keyword](text, model)
    if not text.rows or not model.num_variables + len(model.matrix_variables):
        raise FileError(path, "there are no variables: expected a section VAR or PSDVAR.")
    return semidefinite_or_conic(_program(stem(path), text, model))


# ------------------------------------------------------------------------------------------------- sections


def _version(text: _Text, model: _Model) -> None:
    (version,) = text.integers("the version", 1)
    if not 1 <= version <= 4:
        raise text.error(f"version {version} is not known, expected 1 to 4")


def _sense(text: _Text, model: _Model) -> None:
    (sense,) = text.words("MIN or MAX", 1)
    if sense not in ("MIN", "MAX"):
        raise text.error(f"expected MIN or MAX, got {sense[:40]!r}")
    model.maximise = sense == "MAX"


def _power_cones(text: _Text, model: _Model) -> None:
    count, total = text.integers("the numbers of power cones and of their parameters", 2)
    for _ in range(count):
        (size,) = text.integers("the number of parameters of a power cone", 1)
        if size > len(text.rows) - text.at:
            raise text.error(f"expected {size} parameters, but the file ends before")
        powers = [text.number(text.words("a parameter", 1)[0], "a parameter") for _ in range(size)]
        if not powers or min(powers) <= 0:
            raise text.error(f"the parameters of a power cone must be positive, got {powers[:5]}")
        model.powers.append(powers)
    if total != sum(map(len, model.powers)):
        raise text.error(f"expected {total} parameters in all, got {sum(map(len, model.powers))}")


def _cones(what: str) -> Callable:
    def section(text: _Text, model: _Model) -> None:
        total, count = text.integers("the numbers of rows and of cones", 2)
        found = getattr(model, what)
        for _ in range(count):
            name, size = text.words("a cone and its size", 2)
            found.append((_known_cone(text, model, name), text.integer(size, "the size of a cone")))
        if sum(size for _, size in found) != total:
            raise text.error(f"the cones have {sum(size for _, size in found)} rows, expected {total}")

    return section


def _known_cone(text: _Text, model: _Model, name: str) -> str:
    if name in (*LINEAR, "Q", "QR", "EXP"):
        return name
    if name.startswith("@") and name.endswith(":POW") and name[1:-4].isdigit() and int(name[1:-4]) < len(model.powers):
        return name
    raise text.error(f"cone {name[:40]!r} is not supported, expected one of F, L=, L+, L-, Q, QR, EXP, @k:POW")


def _sides(what: str) -> Callable:
    def section(text: _Text, model: _Model) -> None:
        (count,) = text.integers("the number of matrices", 1)
        for _ in range(count):
            (side,) = text.integers("the side of a matrix", 1)
            if not 1 <= side <= 10_000:
                raise text.error(f"the side of a matrix must be between 1 and 10000, got {side}")
            getattr(model, what).append(side)

    return section


def _constant(text: _Text, model: _Model) -> None:
    model.constant = text.number(text.words("the constant", 1)[0], "the constant")


def _integers(text: _Text, model: _Model) -> None:
    (count,) = text.integers("the number of integer variables", 1)
    if count:
        raise text.error(f"{count} variables are integers; only continuous problems are solved")


def _table(keyword: str, expected: str, bounds: Callable) -> Callable:
    def section(text: _Text, model: _Model) -> None:
        places, values = text.table(expected, bounds(model))
        sides = {"OBJFCOORD": (0, 1, model.matrix_variables), "FCOORD": (1, 2, model.matrix_variables)}
        sides |= {"HCOORD": (0, 2, model.matrix_rows), "DCOORD": (0, 1, model.matrix_rows)}
        if keyword in sides and values.size:
            which, first, all_sides = sides[keyword]
            if np.any(places[:, first : first + 2] >= np.array(all_sides)[places[:, which], None]):
                raise text.error(f"{expected}: an entry of this section lies outside of its matrix")
        model.tables.setdefault(keyword, []).append((places, values))

    return section


_WIDE = 1 << 31
SECTIONS: dict[str, Callable] = {
    "VER": _version,
    "OBJSENSE": _sense,
    "POWCONES": _power_cones,
    "VAR": _cones("variable_cones"),
    "CON": _cones("row_cones"),
    "PSDVAR": _sides("matrix_variables"),
    "PSDCON": _sides("matrix_rows"),
    "INT": _integers,
    "OBJBCOORD": _constant,
    "OBJACOORD": _table("OBJACOORD", "entries of the objective", lambda m: (m.num_variables,)),
    "OBJFCOORD": _table(
        "OBJFCOORD", "entries of the objective's matrices", lambda m: (len(m.matrix_variables), _WIDE, _WIDE)
    ),
    "ACOORD": _table("ACOORD", "entries of A", lambda m: (m.num_rows, m.num_variables)),
    "BCOORD": _table("BCOORD", "entries of b", lambda m: (m.num_rows,)),
    "FCOORD": _table("FCOORD", "entries of F", lambda m: (m.num_rows, len(m.matrix_variables), _WIDE, _WIDE)),
    "HCOORD": _table("HCOORD", "entries of H", lambda m: (len(m.matrix_rows), m.num_variables, _WIDE, _WIDE)),
    "DCOORD": _table("DCOORD", "entries of D", lambda m: (len(m.matrix_rows), _WIDE, _WIDE)),
}


# ------------------------------------------------------------------------------------------------- cone form


def _program(name: str, text: _Text, model: _Model) -> ConicProgram:
    """The cone form in (x, svec X_1, svec X_2, ...)."""
    offsets = model.num_variables + np.concatenate([[0], np.cumsum(_triangles(model.matrix_variables))]).astype(int)
    n = int(offsets[-1])
    q = np.zeros(n)
    for places, values in model.tables.get("OBJACOORD", []):
        np.add.at(q, places[:, 0], values)
    for places, values in model.tables.get("OBJFCOORD", []):
        np.add.at(q, offsets[places[:, 0]] + _place(places[:, 1:]), _scaled(places[:, 1:], values))

    rows: dict[str, list] = {
        kind: [] for kind in ("zero", "nonnegative", "second_order", "semidefinite", "exp", "power")
    }
    _add_cones(rows, text, model, model.row_cones, *_constraints(model, offsets, n))
    _add_cones(rows, text, model, model.variable_cones, sp.eye_array(model.num_variables, n).tocsr(), np.zeros(n))
    for k, side in enumerate(model.matrix_variables):
        size = side * (side + 1) // 2
        block = sp.csr_array((np.ones(size), (np.arange(size), offsets[k] + np.arange(size))), shape=(size, n))
        rows["semidefinite"].append((block, np.zeros(size), side))
    rows["semidefinite"] += _matrix_rows(model, n)

    every = [part for kind in rows.values() for part in kind]
    matrix = sp.vstack([part[0] for part in every]).tocsc() if every else sp.csc_array((0, n))
    b = np.concatenate([part[1] for part in every]) if every else np.zeros(0)
    entries = (-matrix).tocoo()
    form = ConeForm.build(
        zero=sum(part[2] for part in rows["zero"]),
        nonnegative=sum(part[2] for part in rows["nonnegative"]),
        second_order=[part[2] for part in rows["second_order"]],
        semidefinite=[part[2] for part in rows["semidefinite"]],
        exponential=len(rows["exp"]),
        power=[part[2] for part in rows["power"]],
        entries=(entries.row, entries.col, entries.data),
    )
    return ConicProgram(name=name, q=q, A=-matrix, b=b, form=form, constant=model.constant, maximise=model.maximise)


def _constraints(model: _Model, offsets, n: int) -> tuple[Any, np.ndarray]:
    """The affine map of the rows of CON."""
    b = np.zeros(model.num_rows)
    for places, values in model.tables.get("BCOORD", []):
        np.add.at(b, places[:, 0], values)
    parts = [(places[:, 0], places[:, 1], values) for places, values in model.tables.get("ACOORD", [])]
    for places, values in model.tables.get("FCOORD", []):
        column = offsets[places[:, 1]] + _place(places[:, 2:])
        parts.append((places[:, 0], column, _scaled(places[:, 2:], values)))
    return _sparse(parts, (model.num_rows, n)), b


def _matrix_rows(model: _Model, n: int) -> list:
    """The rows of PSDCON, as svec."""
    found = []
    for k, side in enumerate(model.matrix_rows):
        size, parts, constant = side * (side + 1) // 2, [], np.zeros(side * (side + 1) // 2)
        for places, values in model.tables.get("HCOORD", []):
            mine = places[:, 0] == k
            parts.append((_place(places[mine, 2:]), places[mine, 1], _scaled(places[mine, 2:], values[mine])))
        for places, values in model.tables.get("DCOORD", []):
            mine = places[:, 0] == k
            np.add.at(constant, _place(places[mine, 1:]), _scaled(places[mine, 1:], values[mine]))
        found.append((_sparse(parts, (size, n)), constant, side))
    return found


def _add_cones(rows: dict, text: _Text, model: _Model, cones, matrix, vector) -> None:
    """Sort the rows `matrix x + vector in cones` by kind of cone, each in our coordinates."""
    first = 0
    for name, size in cones:
        M, v = matrix[first : first + size], vector[first : first + size]
        first += size
        if name == "F" or size == 0:
            continue
        if name in ("L=", "L+", "L-"):
            sign = -1.0 if name == "L-" else 1.0
            rows["zero" if name == "L=" else "nonnegative"].append((sign * M, sign * v, size))
        elif name == "Q":
            rows["second_order"].append((M, v, size))
        elif name == "QR":
            if size < 2:
                raise FileError(text.path, f"a cone QR needs at least two rows, got {size}.")
            # 2 u v >= |w|^2 is |((u - v) / sqrt 2, w)| <= (u + v) / sqrt 2
            turn = sp.block_diag([np.array([[1, 1], [1, -1]]) / np.sqrt(2), sp.eye_array(size - 2)]).tocsr()
            rows["second_order"].append((turn @ M, turn @ v, size))
        elif name == "EXP":
            if size != 3:
                raise FileError(text.path, f"a cone EXP has three rows, got {size}.")
            rows["exp"].append((M[[2, 1, 0]], v[[2, 1, 0]], 1))
        else:
            powers = model.powers[int(name[1:-4])]
            if size != 3 or len(powers) != 2:
                raise FileError(text.path, f"cone {name}: only power cones of three rows and two powers are solved.")
            rows["power"].append((M, v, powers[0] / sum(powers)))


def _sparse(parts, shape):
    parts = [np.concatenate(column) for column in zip(*parts, strict=True)] or [np.zeros(0, int)] * 2 + [np.zeros(0)]
    return sp.coo_array((parts[2], (parts[0], parts[1])), shape=shape).tocsr()


def _triangles(sides) -> list[int]:
    return [side * (side + 1) // 2 for side in sides]


def _place(entries: np.ndarray) -> np.ndarray:
    """Where svec has an entry (row, column): the upper triangle column by column."""
    i, j = entries.min(1), entries.max(1)
    return j * (j + 1) // 2 + i


def _scaled(entries: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The entries of svec."""
    return np.where(entries[:, 0] == entries[:, 1], values, np.sqrt(2.0) * values)
