"""Formulas as MathML, which browsers show without scripts; a formula that cannot be read ends the build."""

import html
import re

from math_core import LatexToMathML

FORMULA = re.compile(
    r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL
)
CONVERTER = LatexToMathML(
    macros={
        "T": r"^{\mathsf{T}}",
        "R": r"\mathbb{R}",
        "subject": r"\text{subject to}",
    }
)


def on_page_content(text: str, **_) -> str:
    """What MkDocs calls with the HTML of each page."""
    return FORMULA.sub(_mathml, text)


def _mathml(found: re.Match) -> str:
    tag, latex = found[1], html.unescape(found[2]).strip()
    formula = CONVERTER.convert_with_local_state(
        latex, displaystyle=tag == "div"
    )
    return f'<{tag} class="formula">{formula}</{tag}>'
