"""Programs as NumPy archives (`.npz`), in the form of their solvers.

`kind` says which fields there are; a sparse matrix M is stored by columns as M_data, M_indices, M_indptr and M_shape.

| kind | fields | program |
|---|---|---|
| qp | P, A sparse; q, l, u, lb, ub, and r or 0 | minimise 1/2 x'Px + q'x + r subject to l <= Ax <= u, lb <= x <= ub |
| conic | A sparse; c, b, cone_z, cone_l, cone_q, cone_s, cone_e, cone_p, r or 0 | c'x + r, Ax + s = b, s in cones |
| gp | E sparse; logc, posy, is_eq | as in `solve_gp` |
"""

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from convexjax.interop.cone_form import ConeForm
from convexjax.interop.files.programs import ConicProgram, GeometricProgram, QuadraticProgram, semidefinite_or_conic
from convexjax.interop.files.reading import FileError, content, stem

# What numpy.load raises for bytes that are no archive.
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    zipfile.BadZipFile,
    NotImplementedError,
    RuntimeError,
    zlib.error,
)


class _Fields(dict):
    """The arrays of a file; what is missing or misshapen is an error that names it."""

    def __init__(self, path: Path):
        self.path = path
        try:
            with np.load(io.BytesIO(content(path)), allow_pickle=False) as file:
                super().__init__({name: file[name] for name in file.files})
        except UNREADABLE as error:
            raise FileError(path, f"is no archive of NumPy arrays: {error}.") from None

    def error(self, message: str) -> FileError:
        return FileError(self.path, message)

    def vector(self, name: str, size: int | None = None, default=None) -> np.ndarray:
        value = self.get(name, default)
        if value is None:
            raise self.error(f"has no field {name!r}.")
        if value.ndim != 1 or value.dtype.kind not in "iufb" or (size is not None and value.size != size):
            raise self.error(f"{name} must be {'a vector' if size is None else f'{size} numbers'}, got {value.shape}.")
        return value

    def number(self, name: str, default: float = 0.0) -> float:
        value = self.get(name, np.array(default))
        if value.size != 1 or value.dtype.kind not in "iufb":
            raise self.error(f"{name} must be one number, got an array {value.shape} of {value.dtype}.")
        return value.item()

    def finite(self, name: str, size: int | None = None) -> np.ndarray:
        value = self.vector(name, size)
        if not np.all(np.isfinite(value)):
            raise self.error(f"{name} must be finite.")
        return value.astype(float)

    def count(self, name: str) -> int:
        value = self.number(name)
        if value != int(value) or value < 0:
            raise self.error(f"{name} must be an integer >= 0, got {value}.")
        return int(value)

    def counts(self, name: str) -> list[int]:
        values = self.vector(name, default=np.zeros(0))
        if np.any(values < 1) or np.any(values != np.round(values)):
            raise self.error(f"{name} must be positive integers.")
        return values.astype(int).tolist()

    def matrix(self, name: str, columns: int | None):
        shape = self.finite(f"{name}_shape").astype(int).tolist()
        if len(shape) != 2 or min(shape) < 0 or (columns is not None and shape[1] != columns):
            raise self.error(f"{name} must have {columns} columns, got shape {shape}.")
        indices, starts = (self.vector(f"{name}_{part}") for part in ("indices", "indptr"))
        try:
            matrix = sp.csc_array((self.finite(f"{name}_data"), indices, starts), shape=tuple(shape))
            matrix.check_format(full_check=True)
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise self.error(f"{name} is no sparse matrix by columns: {error}.") from None
        return matrix


def read(path: Path):
    """The program in a file."""
    fields = _Fields(path)
    kind = str(fields.get("kind", ""))
    readers = {"qp": _quadratic, "conic": _conic, "gp": _geometric}
    if kind not in readers:
        raise FileError(path, f"is of kind {kind[:40]!r}, expected one of {', '.join(readers)}.")
    return readers[kind](fields, str(fields.get("name", stem(path))))


def _quadratic(fields: _Fields, name: str) -> QuadraticProgram:
    q = fields.finite("q")
    n, A = q.size, fields.matrix("A", q.size)
    m = A.shape[0]
    return QuadraticProgram(
        name=name,
        P=fields.matrix("P", n) if "P_shape" in fields else sp.csc_array((n, n)),
        q=q,
        A=A,
        l=fields.vector("l", m).astype(float),
        u=fields.vector("u", m).astype(float),
        lb=fields.vector("lb", n).astype(float),
        ub=fields.vector("ub", n).astype(float),
        constant=fields.number("r"),
    )


def _conic(fields: _Fields, name: str):
    c = fields.finite("c")
    A = fields.matrix("A", c.size)
    entries = A.tocoo()
    powers = fields.vector("cone_p", default=np.zeros(0))
    if np.any((powers <= 0) | (powers >= 1)):
        raise fields.error("cone_p must lie between 0 and 1.")
    form = ConeForm.build(
        zero=fields.count("cone_z"),
        nonnegative=fields.count("cone_l"),
        second_order=fields.counts("cone_q"),
        semidefinite=fields.counts("cone_s"),
        exponential=fields.count("cone_e"),
        power=powers.tolist(),
        entries=(entries.row, entries.col, entries.data),
    )
    if form.num_rows != A.shape[0]:
        raise fields.error(f"the cones have {form.num_rows} rows, A has {A.shape[0]}.")
    b = fields.finite("b", A.shape[0])
    return semidefinite_or_conic(ConicProgram(name=name, q=c, A=A, b=b, form=form, constant=fields.number("r")))


def _geometric(fields: _Fields, name: str) -> GeometricProgram:
    coefficients = fields.finite("logc")
    exponents = fields.matrix("E", None)
    if exponents.shape[0] != coefficients.size:
        raise fields.error(f"E must have a row for each of {coefficients.size} terms, got shape {exponents.shape}.")
    posynomials = fields.vector("posy", coefficients.size)
    if posynomials.dtype.kind not in "iu" or not np.array_equal(
        np.unique(posynomials), np.arange(posynomials.max() + 1)
    ):
        raise fields.error("posy must be integers 0, 1, 2, ..., each with at least one term.")
    is_eq = fields.vector("is_eq", int(posynomials.max()) + 1)
    if np.any(np.bincount(posynomials)[is_eq != 0] > 1) or is_eq[0]:
        raise fields.error("is_eq may mark constraints of one term only.")
    return GeometricProgram(
        name=name,
        exponents=exponents,
        log_coefficients=coefficients,
        posynomials=posynomials,
        equalities=tuple(np.flatnonzero(is_eq).tolist()),
    )
