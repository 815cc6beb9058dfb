"""The notebooks as they are kept: each beside its text, executed, and as the README of the notebooks says.

That they run is shown by running them (`notebooks/README.md`).
"""

import json
import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("[0-9]*.py"))
INSTALL = 'import sys\n\nif "google.colab" in sys.modules:\n    !pip install -q "convexjax[notebooks]"\n    pass'
ELSEWHERE = re.compile(r"(?<![\w.])/(home|root|tmp|opt|usr|var|Users|work)/|[A-Z]:\\\\|file://")


def cells_of_text(text: str) -> list[tuple[str, str]]:
    """(kind, source) of the cells of a percent script."""
    _, *parts = re.split(r"^# %%(.*)\n", text, flags=re.MULTILINE)
    cells = []
    for kind, source in zip(parts[::2], parts[1::2], strict=True):
        if "[markdown]" in kind:
            cells.append(("markdown", re.sub(r"^# ?", "", source, flags=re.MULTILINE).strip()))
        else:
            cells.append(("code", re.sub(r"^( *)# !", r"\1!", source, flags=re.MULTILINE).strip()))
    return cells


def texts_of_outputs(cells: list[dict]) -> str:
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    texts = ["".join(output.get("text", "")) for output in outputs]
    return "\n".join(texts + ["".join(output.get("data", {}).get("text/plain", "")) for output in outputs])


@pytest.fixture(scope="module", params=NAMES)
def notebook(request):
    path = FOLDER / f"{request.param}.ipynb"
    return path, json.loads(path.read_text(encoding="utf-8"))


def test_every_notebook_has_its_text_and_its_row():
    assert NAMES and NAMES == sorted(path.stem for path in FOLDER.glob("*.ipynb"))
    rows = re.findall(r"\[(\w+)\]\((\w+)\.ipynb\)", (FOLDER / "README.md").read_text(encoding="utf-8"))
    assert [name for _, name in rows] == NAMES and all(shown == name for shown, name in rows)


def test_has_the_cells_of_its_text(notebook):
    path, content = notebook
    text = path.with_suffix(".py").read_text(encoding="utf-8")
    own = [(cell["cell_type"], "".join(cell["source"]).strip()) for cell in content["cells"]]
    assert own == cells_of_text(text)
    assert content["metadata"]["jupytext"]["formats"] == "ipynb,py:percent"
    assert content["metadata"]["kernelspec"]["name"] == "python3"


def test_is_executed_in_order_without_errors(notebook):
    path, content = notebook
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 500_000


def test_begins_with_the_installation_and_ends_with_its_claims(notebook):
    _, content = notebook
    first, *_ = (cell for cell in content["cells"] if cell["cell_type"] == "code")
    title = "".join(content["cells"][0]["source"])
    assert title.startswith("# ") and "convexjax[notebooks" in title
    assert "".join(first["source"]) == INSTALL and not first["outputs"]
    last = content["cells"][-1]
    assert last["cell_type"] == "code" and "\nassert " in "\n" + "".join(last["source"])
    assert re.search(r"^SCALE = 1\b", "\n".join("".join(cell["source"]) for cell in content["cells"]), re.MULTILINE)


def test_says_nothing_of_a_machine(notebook):
    _, content = notebook
    sources = "\n".join("".join(cell["source"]) for cell in content["cells"])
    assert not ELSEWHERE.search(sources + texts_of_outputs(content["cells"]) + json.dumps(content["metadata"]))
