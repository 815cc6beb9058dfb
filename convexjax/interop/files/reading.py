"""`read`: the program in a file, by its extension; and what all readers share."""

import bz2
import gzip
import lzma
import math
import zlib
from collections.abc import Callable
from pathlib import Path

OPENERS: dict[str, Callable] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


class FileError(ValueError):
    """A file that is not what its extension says: the file, the line where that is known, and what was expected."""

    def __init__(self, path: Path, message: str, line: int | None = None):
        super().__init__(f"{path}{'' if line is None else f', line {line}'}: {message}")


def read(path: str | Path):
    """The program in a problem file: `QuadraticProgram`, `ConicProgram`, `SemidefiniteProgram` or `GeometricProgram`.

    Raises:
        FileError: a ValueError that tells the file, the line and what was expected there.

    The smallest eigenvalue of [[2, 1], [1, 2]], as the largest t with that matrix - t I psd:

    >>> import pathlib, tempfile
    >>> from convexjax.interop.files import read
    >>> import convexjax as cj
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "eigenvalue.dat-s"
    >>> _ = path.write_text("1\\n1\\n2\\n-1\\n0 1 1 1 -2\\n0 1 1 2 -1\\n0 1 2 2 -2\\n1 1 1 1 -1\\n1 1 2 2 -1\\n")
    >>> program = read(path)
    >>> print(program.describe())
    semidefinite program: 1 variable, 1 block of 2, 0 inequalities
    >>> print(round(float(program.solve(cj.Options()).objective), 3))
    -1.0
    """
    from convexjax.interop.files import cbf, mps, numpy_file, sdpa

    path = Path(path)
    readers = {".mps": mps.read, ".qps": mps.read, ".dat-s": sdpa.read, ".cbf": cbf.read, ".npz": numpy_file.read}
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in OPENERS
    kind = suffixes[-2] if packed and len(suffixes) > 1 else suffixes[-1] if suffixes else ""
    if kind not in readers:
        known = ", ".join(readers)
        raise FileError(path, f"unknown extension {kind!r}, expected one of {known}, or one of these with .gz.")
    if not path.is_file():
        raise FileError(path, "no such file.")
    return readers[kind](path)


def content(path: Path) -> bytes:
    """The bytes of a file, unpacked."""
    opener = OPENERS.get(path.suffix.lower(), open)
    try:
        with opener(path, "rb") as file:
            return file.read()
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise FileError(path, f"cannot be read: {error}.") from None


def lines(path: Path) -> list[str]:
    """The lines of a text file, unpacked."""
    return content(path).decode("utf-8", errors="replace").splitlines()


def as_number(word: str) -> float:
    """The number that a word says, NaN if none."""
    try:
        return float(word)
    except ValueError:
        return math.nan


def stem(path: Path) -> str:
    """The name of a file without its extensions."""
    return path.name.split(".")[0]
