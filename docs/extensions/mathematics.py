"""Formulas as MathML, which browsers show without scripts; a formula that cannot be read ends the build."""

import html
import re

from math_core import LatexError, LatexToMathML

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
TEXT = re.compile(r"\\text\{[^{}]*\}")
CONVERTER = LatexToMathML(
    macros={
        "T": r"^{\mathsf{T}}",
        "R": r"\mathbb{R}",
        "subject": r"\text{subject to}",
    },
    fancy_error=False,
)


def on_page_content(text: str, page, **_) -> str:
    """What MkDocs calls with the HTML of each page."""
    try:
        return FORMULA.sub(_mathml, text)
    except LatexError as error:
        raise ValueError(f"{page.file.src_uri}: {error}") from error


def _mathml(found: re.Match) -> str:
    tag, latex = found[1], html.unescape(found[2]).strip()
    latex = TEXT.sub(_split, latex)
    formula = CONVERTER.convert_with_local_state(latex, displaystyle=tag == "div")
    return f'<{tag} class="formula">{formula}</{tag}>'


def _split(text: re.Match) -> str:
    r"""Formulas inside of a text, \text{if $x$ is}, beside it: \text{if }x\text{ is}."""
    return re.sub(r"\$([^$]*)\$", r"}\1\\text{", text[0])
