"""The docstrings as Markdown: examples become code blocks."""

import re

import griffe

# `>>>` and all that follows up to an empty line
EXAMPLE = re.compile(r"^( *)>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


class Docstrings(griffe.Extension):
    """What mkdocstrings calls with each object of the package."""

    def on_object(self, *, obj, **_) -> None:
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(_fenced, obj.docstring.value)


def _fenced(found: re.Match) -> str:
    indent, lines = found[1], found[0]
    return f"{indent}```pycon\n{lines}\n{indent}```"
