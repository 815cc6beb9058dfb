"""Problem files: `read` one, `solve` what it holds, `write` a program.

| format | what it holds | extension |
|---|---|---|
| MPS, QPS | linear and quadratic programs | .mps .qps |
| SDPA | semidefinite programs, sparse format | .dat-s |
| CBF | conic programs, versions 1 to 3 | .cbf |
| NumPy | quadratic, conic and geometric programs as arrays (`numpy_file.py`) | .npz |

Each may be compressed: .gz, .bz2, .xz behind the extension.
"""

from convexjax.interop.files.programs import (
    ConicProgram,
    GeometricProgram,
    QuadraticProgram,
    SemidefiniteProgram,
)
from convexjax.interop.files.reading import FileError, read
from convexjax.interop.files.writing import write

__all__ = ["ConicProgram", "FileError", "GeometricProgram", "QuadraticProgram", "SemidefiniteProgram", "read", "write"]
