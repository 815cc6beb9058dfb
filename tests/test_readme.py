"""What the README shows is what happens."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import convexjax

pytestmark = pytest.mark.core

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_example_prints_what_the_readme_says():
    (program,), (printed,) = blocks("python"), blocks("text")
    # A process of its own: a reader's session starts with JAX's defaults.
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout == printed


def test_two_commands_set_everything_up():
    assert [block.count("\n") for block in blocks("sh")] == [1, 1]


def test_table_names_functions_and_files_that_exist():
    rows = re.findall(r"^\|.*\| `(\w+)` \| `([\w/.]+)` \|$", README, flags=re.MULTILINE)
    assert rows
    for function, file in rows:
        assert hasattr(convexjax, function)
        assert f"def {function}(" in (ROOT / file).read_text(encoding="utf-8")
