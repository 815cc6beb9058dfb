"""The pairs of docs/migration.md: ours print what the page shows, and theirs give the same numbers."""

import ast
import contextlib
import functools
import io
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "migration.md").read_text(encoding="utf-8")
SETUP = re.search(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1]
PAIR = re.compile(
    r"^### (?P<title>[^\n]*)\n.*?"
    r'^```python title="(?P<library>\w+)"\n(?P<theirs>.*?)^```$.*?'
    r"^```python\n(?P<ours>.*?)^```$\s*^```text\n(?P<output>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
PAIRS = [match.groupdict() for match in PAIR.finditer(PAGE)]
LIBRARIES = ["jaxopt", "qpax", "cvxpylayers", "qpsolvers", "cvxopt", "SciPy", "optax"]


def pairs_of(library: str) -> list[dict]:
    return [pair for pair in PAIRS if pair["library"] == library]


def run(code: str, session: dict) -> str:
    """What a program prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), jax.numpy_dtype_promotion("standard"), np.printoptions():
        exec(compile(code, "docs/migration.md", "exec"), session)
    return printed.getvalue()


@functools.cache
def ours(library: str) -> list[tuple[str, dict]]:
    """What each of our programs prints, and its names."""
    session: dict = {"__name__": "__main__"}
    run(SETUP, session)
    return [(run(pair["ours"], session), dict(session)) for pair in pairs_of(library)]


def printed_names(code: str) -> set[str]:
    """The names in what a program prints."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    prints = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    return {node.id for call in prints for part in call.args for node in ast.walk(part) if isinstance(node, ast.Name)}


def test_the_page_is_read():
    assert len(PAIRS) == PAGE.count("\n### ") == PAGE.count("```text") >= 15
    assert {pair["library"] for pair in PAIRS} == set(LIBRARIES)


@pytest.mark.parametrize("library", LIBRARIES)
def test_ours(library):
    assert [printed for printed, _ in ours(library)] == [pair["output"] for pair in pairs_of(library)]


def theirs(library: str) -> list[dict]:
    """The names of each of their programs that ours print."""
    session: dict = {"__name__": "__main__"}
    run(SETUP, session)
    found = []
    for pair in pairs_of(library):
        run(pair["theirs"], session)
        found.append({name: np.asarray(session[name], float).tolist() for name in printed_names(pair["ours"])})
    return found


def theirs_apart(library: str) -> list[dict]:
    """The same in a process of its own, for a library that does not bear all others beside it."""
    program = f"import json, test_migration; print(json.dumps(test_migration.theirs({library!r})))"
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("library", LIBRARIES)
def test_theirs(library):
    with warnings.catch_warnings():
        # what other libraries warn of is not ours
        warnings.simplefilter("ignore")
        pytest.importorskip(library.lower(), reason=f"{library} is not installed")
        found = (theirs_apart if library == "cvxopt" else theirs)(library)
    for pair, numbers, (_, names) in zip(pairs_of(library), found, ours(library), strict=True):
        assert numbers, pair["title"]
        for name, number in numbers.items():
            # to the accuracy that theirs have with the options of the page
            np.testing.assert_allclose(number, names[name], atol=2e-4, err_msg=f"{pair['title']}: {name}")
