"""The pages of the documentation: their programs print what they show, and every public name has its place."""

import contextlib
import io
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import convexjax

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
# Other libraries' programs are on that page, too: `test_migration.py` runs it.
OTHERS = ["migration.md"]
# A program, and the output that follows it, if there is any.
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\s*^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)
# Modules whose public names are documented one by one.
MODULES = ["", "gp", "layers", "learn", "learn.svm", "plot", "relaxations"]


def _text(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


@contextlib.contextmanager
def readers_settings():
    """JAX's defaults, which a page may change for itself."""
    ours = {"jax_enable_x64": False, "jax_numpy_dtype_promotion": "standard"}
    before = {name: getattr(jax.config, name) for name in ours}
    with np.printoptions():
        try:
            for name, value in ours.items():
                jax.config.update(name, value)
            yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in OTHERS and BLOCK.search(_text(page))])
def test_programs_of_the_page(page, tmp_path, monkeypatch):
    """All programs of a page in order, as a reader runs them: under JAX's defaults, in one session."""
    text = _text(page)
    session: dict = {"__name__": "__main__"}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    with readers_settings():
        for block in BLOCK.finditer(text):
            line = text[: block.start()].count("\n") + 1
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile("\n" * line + block[1], str(DOCS / page), "exec"), session)
                jax.effects_barrier()
            assert printed.getvalue() == (block[2] or ""), f"line {line}"


def test_public_names_are_documented():
    documented = set(re.findall(r"^::: convexjax\.?([\w.]*)$", "\n".join(map(_text, PAGES)), flags=re.MULTILINE))
    missing = []
    for module in MODULES:
        found = convexjax
        for part in filter(None, module.split(".")):
            found = getattr(found, part)
        names = getattr(found, "__all__", None) or [n for n in vars(found) if _is_own_function(found, n)]
        names = [f"{module}.{name}".lstrip(".") for name in names]
        # a module is there by its name, or by that of something in it
        missing += [n for n in names if n not in documented and not any(d.startswith(n + ".") for d in documented)]
    assert not missing


def _is_own_function(module, name: str) -> bool:
    return not name.startswith("_") and getattr(getattr(module, name), "__module__", None) == module.__name__
