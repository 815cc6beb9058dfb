"""MPS and QPS, the formats of linear and quadratic programs, read by HiGHS (the extra `files`)."""

import re
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from convexjax.interop.files.programs import QuadraticProgram
from convexjax.interop.files.reading import FileError, content, stem


def read(path: Path) -> QuadraticProgram:
    """The program in a file."""
    try:
        import highspy
    except ImportError:
        raise FileError(path, "MPS files need the extra 'files': pip install 'convexjax[files]'.") from None
    text = content(path)
    highs = highspy.Highs()
    highs.setOptionValue("log_to_console", False)
    with tempfile.TemporaryDirectory() as folder:
        copy, log = Path(folder) / "program.mps", Path(folder) / "log"
        copy.write_bytes(text)
        highs.setOptionValue("log_file", str(log))
        status = highs.readModel(str(copy))
        if status != highspy.HighsStatus.kOk:
            raise FileError(path, f"is no MPS file: {_complaint(log)}", _line(log))
    return _program(path, highs)


def _program(path: Path, highs) -> QuadraticProgram:
    import highspy

    model = highs.getModel()
    lp, hessian = model.lp_, model.hessian_
    n, m = lp.num_col_, lp.num_row_
    if any(kind != highspy.HighsVarType.kContinuous for kind in lp.integrality_):
        raise FileError(path, "has integer variables; only continuous problems are solved.")
    if n == 0:
        raise FileError(path, "has no variables.")
    matrix = lp.a_matrix_
    arrays = tuple(np.array(part) for part in (matrix.value_, matrix.index_, matrix.start_))
    by_columns = matrix.format_ == highspy.MatrixFormat.kColwise
    A = (sp.csc_array if by_columns else sp.csr_array)(arrays, shape=(m, n)) if m else sp.csc_array((0, n))
    P = sp.csc_array((n, n))
    if hessian.dim_:
        lower = sp.csc_array(
            tuple(np.array(part) for part in (hessian.value_, hessian.index_, hessian.start_)), shape=(n, n)
        )
        triangular = hessian.format_ == highspy.HessianFormat.kTriangular
        P = (lower + sp.tril(lower, -1).T).tocsc() if triangular else lower
    vector = lambda values: np.array(values, float)
    return QuadraticProgram(
        name=lp.model_name_ or stem(path),
        P=P,
        q=vector(lp.col_cost_),
        A=A.tocsc(),
        l=vector(lp.row_lower_),
        u=vector(lp.row_upper_),
        lb=vector(lp.col_lower_),
        ub=vector(lp.col_upper_),
        constant=float(lp.offset_),
        maximise=lp.sense_ == highspy.ObjSense.kMaximize,
    )


def _complaint(log: Path) -> str:
    """The first error or warning that HiGHS logged."""
    said = [line for line in _logged(log) if line.startswith(("ERROR", "WARNING"))]
    return re.sub(r"^\w+:\s*", "", said[0]) if said else "expected the sections ROWS, COLUMNS, RHS, BOUNDS."


def _line(log: Path) -> int | None:
    found = re.search(r"line\s+(\d+)", " ".join(_logged(log)))
    return int(found[1]) if found else None


def _logged(log: Path) -> list[str]:
    return [line.strip() for line in log.read_text(errors="replace").splitlines()] if log.is_file() else []
