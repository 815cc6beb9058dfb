"""`write`: a program as a file, in the format that its extension says."""

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from convexjax.interop.files.programs import ConicProgram, QuadraticProgram, SemidefiniteProgram
from convexjax.interop.files.reading import FileError

PACKERS: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


def write(program, path: str | Path) -> None:
    """Write a program that `read` reads back: quadratic ones to .mps or .npz, semidefinite ones to
    .dat-s, conic ones to .cbf or .npz; with .gz, .bz2 or .xz behind the extension compressed.

    Raises:
        FileError: an extension whose format cannot hold the program.
    """
    path = Path(path)
    packed = path.suffix.lower() in PACKERS
    kind = path.with_suffix("").suffix if packed else path.suffix
    writers = {
        (".mps", QuadraticProgram): _mps,
        (".npz", QuadraticProgram): lambda program: _archive(_quadratic_fields(program)),
        (".npz", ConicProgram): lambda program: _archive(_conic_fields(program)),
        (".cbf", ConicProgram): _cbf,
        (".dat-s", SemidefiniteProgram): _sdpa,
    }
    writer = writers.get((kind.lower(), type(program)))
    if writer is None:
        raise FileError(path, f"a {type(program).__name__} cannot be written as {kind!r}.")
    data = writer(program)
    path.write_bytes(PACKERS[path.suffix.lower()](data) if packed else data)


def _mps(program: QuadraticProgram) -> bytes:
    """Rows with two sides as equations or inequalities with a range."""
    m, n = program.A.shape
    text = [f"NAME {program.name}", "OBJSENSE", "    MAX" if program.maximise else "    MIN", "ROWS", " N COST"]
    kinds = [_kind(l, u) for l, u in zip(program.l, program.u, strict=True)]
    text += [f" {kind} R{i}" for i, kind in enumerate(kinds)] + ["COLUMNS"]
    A = sp.csc_array(program.A)
    for j in range(n):
        own = slice(A.indptr[j], A.indptr[j + 1])
        text.append(f"    X{j} COST {float(program.q[j])!r}")
        text += [f"    X{j} R{i} {float(v)!r}" for i, v in zip(A.indices[own], A.data[own], strict=True)]
    right = np.where([kind in ("L", "N") for kind in kinds], program.u, program.l)
    text += ["RHS", f"    RHS COST {-float(program.constant)!r}"]
    text += [f"    RHS R{i} {float(right[i])!r}" for i in range(m) if kinds[i] != "N"]
    spans = program.u - program.l
    ranged = [i for i in range(m) if kinds[i] == "G" and np.isfinite(spans[i])]
    text += ["RANGES", *(f"    RNG R{i} {float(spans[i])!r}" for i in ranged), "BOUNDS"]
    for j, (lower, upper) in enumerate(zip(program.lb.tolist(), program.ub.tolist(), strict=True)):
        text += [f" LO BND X{j} {lower!r}" if np.isfinite(lower) else f" MI BND X{j}"]
        text += [f" UP BND X{j} {upper!r}"] if np.isfinite(upper) else []
    if program.P.nnz:
        lower = sp.tril(program.P).tocoo()
        entries = zip(lower.row, lower.col, lower.data, strict=True)
        text += ["QUADOBJ", *(f"    X{i} X{j} {float(value)!r}" for i, j, value in entries)]
    return ("\n".join([*text, "ENDATA"]) + "\n").encode()


def _kind(l: float, u: float) -> str:
    return "E" if l == u else "G" if np.isfinite(l) else "L" if np.isfinite(u) else "N"


def _archive(fields: dict) -> bytes:
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **fields)
    return buffer.getvalue()


def _columns(name: str, matrix) -> dict:
    matrix = sp.csc_array(matrix)
    parts = {"data": matrix.data, "indices": matrix.indices, "indptr": matrix.indptr, "shape": np.array(matrix.shape)}
    return {f"{name}_{part}": value for part, value in parts.items()}


def _quadratic_fields(program: QuadraticProgram) -> dict:
    if program.maximise:
        program = QuadraticProgram(**vars(program) | {"P": -program.P, "q": -program.q, "maximise": False})
    vectors = {name: getattr(program, name) for name in ("q", "l", "u", "lb", "ub")}
    matrices = _columns("P", program.P) | _columns("A", program.A)
    return {"kind": "qp", "name": program.name, "r": program.constant} | vectors | matrices


def _conic_fields(program: ConicProgram) -> dict:
    form, sign = program.form, -1.0 if program.maximise else 1.0
    cones = {
        "cone_z": form.zero,
        "cone_l": form.nonnegative,
        "cone_q": np.array(form.second_order, int),
        "cone_s": np.array(form.semidefinite, int),
        "cone_e": form.exponential,
        "cone_p": np.array(form.power, float),
    }
    numbers = {"c": sign * program.q, "b": program.b, "r": sign * program.constant} | _columns("A", program.A)
    return {"kind": "conic", "name": program.name} | cones | numbers


def _sdpa(program: SemidefiniteProgram) -> bytes:
    """The file has the upper triangles, and -F_0."""
    sizes = [-block.shape[1] if isinstance(block, np.ndarray) else block[0].shape[0] for block in program.F]
    text = [f'"{program.name}"', str(program.c.size), str(len(sizes)), " ".join(map(str, sizes))]
    text.append(" ".join(map(repr, program.c.tolist())))
    for place, block in enumerate(program.F, 1):
        for k, matrix in enumerate(block):
            upper = sp.coo_array(np.diag(matrix)) if isinstance(block, np.ndarray) else sp.triu(matrix).tocoo()
            for i, j, value in zip(upper.row, upper.col, upper.data, strict=True):
                text.append(f"{k} {place} {i + 1} {j + 1} {float(-value if k == 0 else value)!r}")
    return ("\n".join(text) + "\n").encode()


def _cbf(program: ConicProgram) -> bytes:
    """The rows b - Ax, those of semidefinite blocks as PSDCON."""
    form, n = program.form, program.q.size
    matrix, b = -sp.csr_array(program.A), program.b
    linear = form.zero + form.nonnegative + sum(form.second_order)
    last = linear + sum(side * (side + 1) // 2 for side in form.semidefinite)
    exponential = last + np.arange(3 * form.exponential).reshape(-1, 3)[:, ::-1].ravel()
    power = last + 3 * form.exponential + np.arange(3 * len(form.power))
    rows = np.concatenate([np.arange(linear), exponential, power]).astype(int)
    cones = [("L=", form.zero), ("L+", form.nonnegative), *(("Q", size) for size in form.second_order)]
    cones += [("EXP", 3)] * form.exponential + [(f"@{k}:POW", 3) for k in range(len(form.power))]
    cones = [(name, size) for name, size in cones if size]
    text = ["VER", "3", "OBJSENSE", "MAX" if program.maximise else "MIN"]
    if form.power:
        text += ["POWCONES", f"{len(form.power)} {2 * len(form.power)}"]
        text += [line for alpha in form.power for line in ("2", repr(alpha), repr(1 - alpha))]
    text += ["VAR", f"{n} 1", f"F {n}", "CON", f"{rows.size} {len(cones)}", *(f"{name} {size}" for name, size in cones)]
    if form.semidefinite:
        text += ["PSDCON", str(len(form.semidefinite)), *map(str, form.semidefinite)]
    text += _section("OBJACOORD", [np.flatnonzero(program.q)], program.q[program.q != 0])
    text += ["OBJBCOORD", repr(float(program.constant))]
    entries = matrix[rows].tocoo()
    text += _section("ACOORD", [entries.row, entries.col], entries.data)
    text += _section("BCOORD", [np.flatnonzero(b[rows])], b[rows][b[rows] != 0])
    return ("\n".join(text + _matrix_sections(form, matrix, b, linear)) + "\n").encode()


def _matrix_sections(form, matrix, b, first: int) -> list[str]:
    found: dict[str, list] = {"HCOORD": [], "DCOORD": []}
    for block, side in enumerate(form.semidefinite):
        columns, rows = np.tril_indices(side)
        size = columns.size
        scale = np.where(rows == columns, 1.0, np.sqrt(0.5))
        entries, constant = matrix[first : first + size].tocoo(), b[first : first + size] * scale
        place, full = entries.row, np.full(entries.nnz, block)
        found["HCOORD"].append((full, entries.col, columns[place], rows[place], entries.data * scale[place]))
        own = np.flatnonzero(constant)
        found["DCOORD"].append((np.full(own.size, block), columns[own], rows[own], constant[own]))
        first += size
    text = []
    for keyword, parts in found.items():
        if parts:
            *places, values = (np.concatenate(column) for column in zip(*parts, strict=True))
            text += _section(keyword, places, values)
    return text


def _section(keyword: str, places, values) -> list[str]:
    lines = [
        " ".join([*map(str, place), repr(value)])
        for *place, value in zip(*(p.tolist() for p in places), values.tolist(), strict=True)
    ]
    return [keyword, str(len(lines)), *lines]
