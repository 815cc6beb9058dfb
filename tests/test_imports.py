"""Imports point one way, need nothing beyond the runtime dependencies, and leave the user's configuration alone."""

import ast
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "convexjax"

# A module or folder of the package may import itself and what stands before it.
ORDER = [
    "pytrees",
    "options",
    "solution",
    "sparse_matrix",
    "sparse_factor",
    "linear_algebra",
    "implicit_root",
    "compilation",
    "convexity",
    "perturbed",
    "cones",
    "cone_program",
    "stage_program",
    "riccati",
    "equilibration",
    "embedding",
    "kkt",
    "smooth_program",
    "implicit",
    "interior_point",
    "smooth_interior_point",
    "matrix_free",
    "newton",
    "barrier",
    "geometric_program",
    "geometric_interior_point",
    "active_set",
    "semismooth",
    "batches",
    "semidefinite_program",
    "block_matrices",
    "semidefinite_interior_point",
    "semidefinite_solver",
    "semidefinite_batch",
    "solver",
    "smooth_solver",
    "geometric_solver",
    "problems",
    "relaxations",
    "gp",
    "double_double",
    "gram",
    "pseudo_inverse",
    "least_squares",
    "recursive_least_squares",
    "layers",
    "learn",
    "plot",
    "interop",
    "tour",
    "command_line",
]
# These two see everything: the public names, and the program.
TOP = ["__init__", "__main__"]

FILES = sorted(PACKAGE.rglob("*.py"))
pytestmark = [pytest.mark.core, pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))]


def layer(file: Path) -> str:
    return file.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(file: Path) -> set[str]:
    """Absolute dotted names of what a file imports, anywhere in it; `from a import b` gives a.b."""
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*start, *([node.module] if node.module else [])])
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


def test_imports_point_one_way(file):
    own = layer(file)
    if own in TOP:
        return
    assert own in ORDER, f"{own} has no place in ORDER"
    allowed = ORDER[: ORDER.index(own) + 1]
    for name in imported_modules(file):
        if name.split(".")[0] != "convexjax":
            continue
        # The public names stand above all modules: only the program of the package may use them as a user does.
        target = name.split(".")[1] if "." in name else "__init__"
        assert target in allowed or own == "tour", f"{own} imports {name}; it may import only {allowed}"


def test_imports_are_dependencies(file):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    dependencies = {requirement.split(">")[0] for requirement in project["dependencies"]}
    # NumPy and SciPy come with JAX.
    # Extras, imported where a function asks for it.
    extras = {"lineax", "matplotlib", "cvxpy", "equinox", "orbax", "qdldl", "tqdm"}
    known = {"convexjax", "numpy", "scipy"} | extras | dependencies | sys.stdlib_module_names
    assert {name.split(".")[0] for name in imported_modules(file)} <= known


def test_configuration_is_left_alone(file):
    # `python -m convexjax` is a process of its own.
    if layer(file) != "__main__":
        assert "jax_enable_x64" not in file.read_text(encoding="utf-8")
        assert "config.update" not in file.read_text(encoding="utf-8")


def test_dataclasses_are_pytrees_by_our_own_rule(file):
    # see convexjax/pytrees.py
    attributes = {n.attr for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.Attribute)}
    assert "register_dataclass" not in attributes
