"""One form for an answer's text: Unicode and LaTeX spellings of the same thing become the same characters."""

from __future__ import annotations

import re

_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("−–—‐‑‒﹣－", "-"),
        **dict.fromkeys("\u00a0\u2009\u202f\u2002\u2003\u2007\u2008\u205f\u3000~", " "),
        **{chr(0xFF10 + digit): str(digit) for digit in range(10)},
        **{
            vulgar: f"\\frac{{{a}}}{{{b}}}"
            for vulgar, a, b in (("½", 1, 2), ("¼", 1, 4), ("¾", 3, 4), ("⅓", 1, 3))
        },
        **{
            vulgar: f"\\frac{{{a}}}{{{b}}}"
            for vulgar, a, b in (("⅔", 2, 3), ("⅕", 1, 5), ("⅛", 1, 8), ("⅜", 3, 8))
        },
        "\u200b": None,
        "\ufeff": None,
        "，": ",",
        "．": ".",
        "％": "%",
        "⁄": "/",
        "∕": "/",
        "÷": "/",
        "×": "\\times ",
        "·": "\\cdot ",
        "π": "\\pi ",
        "∞": "\\infty ",
        "∪": "\\cup ",
        "≤": "\\le ",
        "≥": "\\ge ",
        "±": "\\pm ",
        "√": "\\sqrt ",
        "∈": "\\in ",
        "≈": "\\approx ",
        "²": "^2",
        "³": "^3",
        "°": "^\\circ ",
        "º": "^\\circ ",
        "′": "'",
    }
)
_ROOT = re.compile(
    r"√\s*(?:(\d+(?:\.\d+)?)|\(([^()]*)\))"
)  # a sign is over the whole number, \sqrt over one digit
_ENVIRONMENTS = (("\\(", "\\)"), ("\\[", "\\]"), ("$$", "$$"), ("$", "$"), ("**", "**"), ("`", "`"))
_SPACING = re.compile(
    r"(?<!\\)\\[,;: ]|\\q?quad|\\hspace\{[^{}]*\}|\\hfill|\\displaystyle"
    r"|\\(?:left|right|[Bb]igg?[lr]?)(?![A-Za-z])\.?"
)
_THOUSANDS = re.compile(r"(?<=\d),\s*\\!\s*(?=\d{3})|(?<=\d)\{,\}(?=\d{3})")
_FRACTION = re.compile(r"\\[dtc]frac(?![A-Za-z])")
_STYLE = re.compile(
    r"\\(?:mathbf|textbf|mathit|textit|boldsymbol|emph|mathsf|mathtt|boxed|fbox)\s*\{([^{}]*)\}"
)
_TEXT = re.compile(r"\\(?:text|textrm|textnormal|mbox|hbox|mathrm|operatorname)\s*\{([^{}]*)\}")
_AFTER_VALUE = re.compile(r"[\d}%.)]\s*\Z")
_DEGREES = re.compile(r"\s*\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![A-Za-z])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_SPACES = re.compile(r"\s+")

MULTIPLIERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
CONNECTIVES = frozenset({"or", "and"})
_UNIT_POWER = re.compile(r"\s*\^\s*\{?[23]\}?")


def clean(text: str) -> str:
    """`text` with plain characters, no math delimiters, no spacing commands, units in `\\text` removed.

    Degree signs go: they are a unit. `\\text{or}` and `\\text{and}` become words.
    """
    text = _ROOT.sub(r"\\sqrt{\1\2}", text).translate(_CHARACTERS)
    text = _unwrapped(text)
    text = _THOUSANDS.sub(",", text).replace("\\!", "")
    text = _SPACING.sub(" ", text)
    text = _FRACTION.sub(r"\\frac", text)
    text = _STYLE.sub(r"\1", _STYLE.sub(r"\1", text))
    text = _DEGREES.sub("", text)
    text = text.replace("\\%", "%").replace("\\$", "$").replace("\\lbrace", "\\{").replace("\\rbrace", "\\}")
    text = _without_units(text)
    return _unwrapped(_SPACES.sub(" ", text))


def _unwrapped(text: str) -> str:
    """Without the delimiters that enclose the whole of `text`, and without the full stop behind it."""
    previous = None
    while text != previous:
        previous = text
        text = text.strip()
        if text.endswith((".", ",", ";")) and not text.endswith("\\,"):
            text = text[:-1].rstrip()
        for opening, closing in _ENVIRONMENTS:
            if (
                len(text) > len(opening) + len(closing)
                and text.startswith(opening)
                and text.endswith(closing)
            ):
                inner = text[len(opening) : -len(closing)]
                if opening not in inner and not inner.endswith("\\"):
                    text = inner
        if _in_braces(text):
            text = text[1:-1]
    return text


def _in_braces(text: str) -> bool:
    """Whether one pair of braces encloses the whole of `text`."""
    if not (text.startswith("{") and text.endswith("}")):
        return False
    depth = 0
    for brace in _BRACE.finditer(text):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth <= 0:
            return brace.end() == len(text)
    return False


def _without_units(text: str) -> str:
    """`\\text{...}` behind a value is a unit and goes, power and all; elsewhere its words stay."""
    out: list[str] = []
    at = 0
    for match in _TEXT.finditer(text):
        if match.start() < at:
            continue
        out.append(text[at : match.start()])
        at = match.end()
        words = match[1].replace(".", "").lower().split()
        unit = _AFTER_VALUE.search("".join(out[-1:])) and not any(map(str.isdigit, match[1]))
        if unit and not (CONNECTIVES | MULTIPLIERS.keys() | {"percent"}).intersection(words):
            power = _UNIT_POWER.match(text, at)
            at = power.end() if power else at
            out.append(" ")
        else:
            out.append(f" {match[1]} " if words else " ")
    out.append(text[at:])
    return "".join(out)
