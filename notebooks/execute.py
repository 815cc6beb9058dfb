"""Make notebooks of their texts, with the outputs of a fresh run: `python notebooks/execute.py [names]`, else all.

A fresh kernel runs each from top to bottom; an error stops at its cell. What tells one machine or run from another
(version of Python, times, how outputs were cut into pieces) is left out, so that differences are those that matter.
"""

import sys
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent


def execute(path: Path) -> None:
    notebook = jupytext.read(path)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    client = NotebookClient(notebook, timeout=600, coalesce_streams=True, record_timing=False)
    client.execute(cwd=str(path.parent))
    notebook.metadata.pop("language_info", None)
    nbformat.write(notebook, path.with_suffix(".ipynb"))


if __name__ == "__main__":
    names = sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("[0-9]*.py"))
    for name in names:
        print(name, flush=True)
        execute(FOLDER / f"{Path(name).stem}.py")
