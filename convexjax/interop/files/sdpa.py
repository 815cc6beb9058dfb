"""SDPA's sparse format: minimise c'x subject to sum_i x_i F_i - F_0 psd (Yamashita, Fujisawa, Kojima, "SDPA user's
manual", section 6). Blocks of negative size are diagonal."""

import math
import re
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from convexjax.interop.files.programs import SemidefiniteProgram
from convexjax.interop.files.reading import FileError, as_number, lines, stem

# A larger block is a slip of the pen, for which no memory shall be asked.
LARGEST = 100_000
PUNCTUATION = re.compile(r"[,(){}]")


def read(path: Path) -> SemidefiniteProgram:
    """The program in a file."""
    rows = [
        (number, line)
        for number, line in enumerate(lines(path), 1)
        if line.strip() and not line.lstrip().startswith(('"', "*"))
    ]
    if len(rows) < 4:
        raise FileError(path, f"ends after {len(rows)} lines, expected four of sizes and the vector c, then entries.")
    n = _sizes(path, rows[0], 1, "the number of variables")[0]
    num_blocks = _sizes(path, rows[1], 1, "the number of blocks")[0]
    sizes = _sizes(path, rows[2], num_blocks, "the sizes of the blocks")
    if n < 1 or num_blocks < 1 or 0 in sizes or max(map(abs, sizes)) > LARGEST:
        raise FileError(path, f"variables, blocks and their sizes must be positive, sizes <= {LARGEST}.", rows[2][0])
    c, first = _vector(path, rows, 3, n)
    entries: list[list] = [[] for _ in sizes]
    for row in rows[first:]:
        matrix, block, *entry = _entry(path, row, n, sizes)
        entries[block - 1].append((matrix, *entry))
    F = tuple(_block(mine, size, n) for mine, size in zip(entries, sizes, strict=True))
    return SemidefiniteProgram(name=stem(path), c=c, F=F)


def _sizes(path, row, count: int, what: str) -> list[int]:
    """The leading integers of a line; text may follow."""
    number, line = row
    words = PUNCTUATION.sub(" ", line).split()
    try:
        return [_integer(word) for word in words[:count]] if len(words) >= count else _fail()
    except (ValueError, OverflowError):
        raise FileError(path, f"expected {what}, {count} integers, got {line.strip()[:60]!r}.", number) from None


def _fail():
    raise ValueError


def _integer(word: str) -> int:
    value = float(word)
    return int(value) if value == int(value) else _fail()


def _vector(path, rows, first: int, n: int) -> tuple[np.ndarray, int]:
    """c, which may run over several lines, and the place of the line after it."""
    values: list[float] = []
    while len(values) < n:
        if first == len(rows):
            raise FileError(path, f"ends within the vector c: expected {n} numbers, got {len(values)}.")
        number, line = rows[first]
        values += [_number(path, number, word) for word in PUNCTUATION.sub(" ", line).split()]
        first += 1
    if len(values) > n:
        raise FileError(path, f"expected {n} numbers of the vector c, got {len(values)}.", rows[first - 1][0])
    return np.array(values), first


def _number(path, line: int, word: str) -> float:
    value = as_number(word)
    if not math.isfinite(value):
        raise FileError(path, f"expected a finite number, got {word[:40]!r}.", line)
    return value


def _entry(path, row, n: int, sizes) -> tuple:
    """(matrix, block, row, column, value) of a line, checked."""
    number, line = row
    words = PUNCTUATION.sub(" ", line).split()
    expected = "expected an entry: matrix, block, row, column, value"
    if len(words) != 5:
        raise FileError(path, f"{expected}; got {line.strip()[:60]!r}.", number)
    try:
        matrix, block, i, j = map(_integer, words[:4])
    except (ValueError, OverflowError):
        raise FileError(path, f"{expected}, the first four integers; got {line.strip()[:60]!r}.", number) from None
    if not 0 <= matrix <= n or not 1 <= block <= len(sizes):
        raise FileError(path, f"there is no matrix {matrix} of 0..{n}, or no block {block} of {len(sizes)}.", number)
    side = abs(sizes[block - 1])
    if not (1 <= i <= side and 1 <= j <= side):
        raise FileError(path, f"entry ({i}, {j}) lies outside of block {block} of size {side}.", number)
    if sizes[block - 1] < 0 and i != j:
        raise FileError(path, f"entry ({i}, {j}) lies off the diagonal of block {block}, which is diagonal.", number)
    return matrix, block, min(i, j) - 1, max(i, j) - 1, _number(path, number, words[4])


def _block(mine: list, size: int, n: int):
    """F_0, F_1, ... of a block, of which the file has the upper triangles and -F_0."""
    if size < 0 or size == 1:
        diagonals = np.zeros((n + 1, abs(size)))
        for matrix, i, _, value in mine:
            diagonals[matrix, i] += value
        diagonals[0] *= -1
        return diagonals
    matrices = []
    by_matrix: dict[int, list] = {}
    for matrix, i, j, value in mine:
        by_matrix.setdefault(matrix, []).append((i, j, -value if matrix == 0 else value))
    for matrix in range(n + 1):
        i, j, values = np.array(by_matrix.get(matrix, np.zeros((0, 3)))).reshape(-1, 3).T
        i, j = i.astype(np.int32), j.astype(np.int32)
        off = i != j
        rows, columns = np.concatenate([i, j[off]]), np.concatenate([j, i[off]])
        whole = sp.coo_array((np.concatenate([values, values[off]]), (rows, columns)), shape=(size, size))
        matrices.append(whole.tocsr())
    return matrices
