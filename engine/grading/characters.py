r"""Replace Unicode spellings with the LaTeX or ASCII that they mean.

Superscripts become `^{...}`, subscripts `_{...}`, vulgar fractions `\frac`, and mathematical signs their
commands. Digits of any script become ASCII digits. Compatibility forms (full width, mathematical bold, units
such as ㎝ and ℃) follow Unicode's own NFKC decomposition.
"""

from __future__ import annotations

import re
import unicodedata

_GREEK = "alpha beta gamma delta epsilon zeta eta theta kappa lambda mu nu xi rho sigma tau phi chi psi omega"
_SIGNS = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑‒﹣－", "-"),
        **dict.fromkeys("\u00a0\u2009\u202f\u2002\u2003\u2007\u2008\u205f\u3000\u2004\u2005\u2006", " "),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", None),
        **dict.fromkeys("·⋅∙・", "\\cdot "),
        **dict.fromkeys("°º˚", "^\\circ "),
        **dict.fromkeys("⁄∕÷", "/"),
        **dict.fromkeys("‘’′", "'"),
        **dict.fromkeys("≤⩽≦", "\\le "),
        **dict.fromkeys("≥⩾≧", "\\ge "),
        **dict.fromkeys("∅⌀", "\\emptyset "),
        "×": "\\times ",
        "✕": "\\times ",
        "∗": "*",
        "π": "\\pi ",
        "∞": "\\infty ",
        "∪": "\\cup ",
        "∩": "\\cap ",
        "∖": "\\setminus ",
        "≠": "\\ne ",
        "±": "\\pm ",
        "∈": "\\in ",
        "≈": "\\approx ",
        "≡": "\\equiv ",
        "∨": "\\lor ",
        "∧": "\\land ",
        "√": "\\sqrt ",
        "∛": "\\sqrt[3] ",
        "∜": "\\sqrt[4] ",
        "ℝ": "\\mathbb{R}",
        "ℤ": "\\mathbb{Z}",
        "⟨": "(",
        "⟩": ")",
        "⌊": "\\lfloor ",
        "⌋": "\\rfloor ",
        "⌈": "\\lceil ",
        "⌉": "\\rceil ",
        "、": ", ",
        **{letter: f"\\{name} " for letter, name in zip("αβγδεζηθκλμνξρστφχψω", _GREEK.split(), strict=True)},
    }
)
# A root sign covers the whole number or bracket after it; \sqrt covers one digit.
_ROOT = re.compile(r"([√∛∜])\s*(?:(\d+(?:\.\d+)?)|\(([^()]*)\)|([A-Za-zπ]))")
_ROOT_COMMAND = {"√": "\\sqrt", "∛": "\\sqrt[3]", "∜": "\\sqrt[4]"}
_OVERLINED = re.compile(r"(?:\d[\u0304\u0305])+")
_DOTTED = re.compile(r"(\d)\u0307")
_ORDINAL_SIGNS = "ªº"


def plain(text: str) -> str:
    """Return `text` with plain characters.

    ASCII text is returned unchanged.
    """
    if text.isascii():
        return text
    text = _OVERLINED.sub(lambda run: f"\\overline{{{run.group()[::2]}}}", text)
    text = _DOTTED.sub(r"\\dot{\1}", text)
    text = _ROOT.sub(_root, text)
    text = _scripts(text)
    return "".join(map(_digit, unicodedata.normalize("NFKC", text.translate(_SIGNS)).translate(_SIGNS)))


def _root(match: re.Match[str]) -> str:
    return f"{_ROOT_COMMAND[match[1]]}{{{match[2] or match[3] or match[4] or ''}}}"


def _scripts(text: str) -> str:
    r"""Write raised and lowered runs and vulgar fractions in LaTeX.

    The forms are `^{...}`, `_{...}` and `\frac`.
    """
    out: list[str] = []
    open_script = ""
    for character in text:
        kind, _, plain_form = unicodedata.decomposition(character).partition(" ")
        script = {"<super>": "^", "<sub>": "_"}.get(kind, "") if character not in _ORDINAL_SIGNS else ""
        if script != open_script:
            out.append(("}" if open_script else "") + (f"{script}{{" if script else ""))
            open_script = script
        out.append(
            _vulgar(plain_form) if kind == "<fraction>" else _letters(plain_form) if script else character
        )
    return "".join(out) + ("}" if open_script else "")


def _letters(code_points: str) -> str:
    return "".join(chr(int(code, 16)) for code in code_points.split()).translate(_SIGNS)


def _vulgar(code_points: str) -> str:
    above, _, below = "".join(chr(int(code, 16)) for code in code_points.split()).partition("⁄")
    return f"\\frac{{{above}}}{{{below}}}"


def _digit(character: str) -> str:
    if character.isascii() or unicodedata.category(character) != "Nd":
        return character
    return str(unicodedata.digit(character))
