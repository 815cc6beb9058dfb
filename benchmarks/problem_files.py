"""Problem files of the standard test sets (one `.npz` per problem), as programs."""

from pathlib import Path

import numpy as np
import scipy.sparse as sparse

from benchmarks.programs import Cones, ConicProgram, Program, QuadraticProgram, Reference


def select_files(folder: Path, max_size: int | None = None, names: list[str] | None = None) -> list[Path]:
    """Files of one set, smallest first; at most `max_size` variables and rows (bounds are not rows)."""
    paths = [path for path in folder.glob("*.npz") if names is None or path.stem in names]
    sizes = {path: size for path in paths if (size := size_of(path))}
    small = [path for path, size in sizes.items() if max_size is None or max(size) <= max_size]
    return sorted(small, key=lambda path: (sum(sizes[path]), path.stem))


def size_of(path: Path) -> tuple[int, int] | None:
    """(variables, rows) of a problem file; None for the kinds that are not programs in the forms used here."""
    with np.load(path) as file:
        if str(file["kind"]) not in ("qp", "conic"):
            return None
        rows, variables = file["A_shape"]
    return int(variables), int(rows)


def load(path: Path) -> Program:
    """The program in a file of kind `qp` or `conic`."""
    with np.load(path) as file:
        fields = {name: file[name] for name in file.files}
    kind = str(fields["kind"])
    if kind not in ("qp", "conic"):
        raise ValueError(f"{path.name} is of kind {kind!r}; only 'qp' and 'conic' files are programs in standard form.")
    return _quadratic(fields) if kind == "qp" else _conic(fields)


def _quadratic(fields: dict) -> QuadraticProgram:
    return QuadraticProgram(
        name=str(fields["name"]),
        P=_sparse(fields, "P"),
        q=fields["q"],
        r=float(fields["r"]),
        A=_sparse(fields, "A"),
        l=fields["l"],
        u=fields["u"],
        lb=fields["lb"],
        ub=fields["ub"],
        reference=_reference(fields),
    )


def _conic(fields: dict) -> ConicProgram:
    return ConicProgram(
        name=str(fields["name"]),
        P=None,
        q=fields["c"],
        r=float(fields["r"]),
        A=_sparse(fields, "A"),
        b=fields["b"],
        cones=Cones(
            zero=int(fields["cone_z"]),
            nonnegative=int(fields["cone_l"]),
            second_order=tuple(fields["cone_q"].tolist()),
            psd=tuple(fields["cone_s"].tolist()),
            exponential=int(fields["cone_e"]),
            power=tuple(fields["cone_p"].tolist()),
        ),
        reference=_reference(fields),
    )


def _sparse(fields: dict, name: str) -> sparse.csc_array:
    parts = tuple(fields[f"{name}_{part}"] for part in ("data", "indices", "indptr"))
    return sparse.csc_array(parts, shape=tuple(fields[f"{name}_shape"].tolist()))


def _reference(fields: dict) -> Reference:
    return Reference(status=str(fields["status"]), f_opt=float(fields["f_opt"]), f_rtol=float(fields["f_rtol"]))
