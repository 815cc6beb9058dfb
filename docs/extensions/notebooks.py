"""The notebooks as pages: text, code, printed outputs and pictures, in the look of the site."""

import base64
import json
import re
from itertools import groupby
from pathlib import Path

from mkdocs.structure.files import File

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
INDEX = """# Notebooks

Each is a program of its own that runs in about a minute, on a laptop or in Colab, and ends by checking its own numbers.
The pages here show them with their outputs; the files are in the folder `notebooks`, as `.ipynb` and as plain Python.

"""


def on_config(config, **_):
    """Put the notebooks into the navigation, in the order of their numbers."""
    (entry,) = (entry for entry in config.nav if "Notebooks" in entry)
    entry["Notebooks"] = [
        "notebooks/index.md",
        *(f"notebooks/{path.stem}.md" for path in NOTEBOOKS),
    ]
    return config


def on_files(files, config, **_):
    """Make the pages."""
    index = INDEX
    for path in NOTEBOOKS:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        page, images = _page(path.stem, cells)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page))
        for name, content in images.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
        title, first = re.match(r"# ([^\n]+)\n+(.+?)(?:\n\n|\Z)", page, re.DOTALL).groups()
        index += f"## [{title}]({path.stem}.md)\n\n{first}\n\n"
    files.append(File.generated(config, "notebooks/index.md", content=index))
    return files


def _page(name: str, cells: list) -> tuple[str, dict[str, bytes]]:
    """The Markdown of a notebook, and its pictures by file name."""
    parts, images = [], {}
    for cell in cells:
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif "google.colab" in source:
            continue  # the cell that installs the package there
        elif cell["cell_type"] == "code" and source.strip():
            parts.append(_fenced("python", source))
            # what was printed in several pieces is one
            for kind, outputs in groupby(cell["outputs"], key=lambda output: output["output_type"]):
                if kind == "stream":
                    parts.append(_fenced("text", "".join("".join(output["text"]) for output in outputs)))
                else:
                    parts.extend(_output(output, name, images) for output in outputs)
    return "\n\n".join(parts) + "\n", images


def _output(output: dict, name: str, images: dict[str, bytes]) -> str:
    if output["output_type"] == "error":
        raise ValueError(f"notebook {name} ends with an error: {output['ename']}")
    data = output["data"]
    if "image/png" in data:
        file = f"{name}_{len(images)}.png"
        images[file] = base64.b64decode("".join(data["image/png"]))
        return f"![{''.join(data.get('text/plain', 'picture'))}]({file})"
    if "text/html" in data:
        return "".join(data["text/html"])
    return _fenced("text", "".join(data.get("text/plain", "")))


def _fenced(language: str, text: str) -> str:
    return f"````{language}\n{text.rstrip()}\n````"
