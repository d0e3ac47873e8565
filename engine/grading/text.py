r"""Normalise an answer's text: equal meanings get the same characters.

Units in `\text{...}` after a value, and degree signs, become `\unit{...}`. The readers of numbers and
expressions remove it. Words in `\text{...}` elsewhere stay words.
"""

from __future__ import annotations

import re

from engine.grading.characters import plain
from engine.grading.markup import braced, without_markup
from engine.grading.units import NO_UNIT

_ENVIRONMENTS = (
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("$$", "$$"),
    ("$", "$"),
    ("**", "**"),
    ("*", "*"),
    ("`", "`"),
)
_TEXT = re.compile(r"\\(?:text|textrm|textnormal|mbox|hbox|mathrm|operatorname\*?)\s*(?=\{)")
_FUNCTION_NAME = re.compile(
    r"(?:arc)?(?:sin|cos|tan|cot|sec|csc)h?|cis|ln|lg|log|exp|gcd|lcm|max|min|det|mod|bmod|pmod|floor|ceil|sqrt"
)
_UNIT_FRACTION = re.compile(
    r"\\frac\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]*)\}\s*\}\s*\{\s*\\(?:text|mathrm)\s*\{([^{}]*)\}\s*\}"
)
_SYMBOL = re.compile(r"[A-Za-z]\Z")
_AFTER_VALUE = re.compile(r"(?:[\w}%.)!\]']|\\[a-z]+)\s*\Z")
_AFTER_FUNCTION = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|cis|ln|lg|log|exp|sqrt|frac)\s*\Z")
_CIRC = r"\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degrees?(?![A-Za-z])"
_DEGREES = re.compile(
    rf"\s*(?:{_CIRC})\s*(?:(?:\\(?:text|mathrm|textrm|mbox)\s*\{{\s*)?([CF])(?![A-Za-z])\s*\}}?)?"
)
_TRIGONOMETRY = re.compile(
    r"(?:\\|\\(?:text|mathrm|operatorname)\s*\{\s*)(?:sin|cos|tan|cot|sec|csc|cis)(?![a-z])"
    r"|(?<![A-Za-z])(?:sin|cos|tan|cot|sec|csc|cis)\s*\("
)
_UNIT_POWER = re.compile(r"\s*\^\s*(?:\{\s*-?\d\s*\}|\d)")
_MERIDIEM = re.compile(r"\s*(?:[ap]\.?\s?m\b\.?|o'?clock|noon|midnight)", re.IGNORECASE)
_ORDINAL = re.compile(
    r"(?<=\d)\s*\^\s*\{?\s*(?:\\(?:text|mathrm|textrm|rm)\s*\{?)?\s*(?:st|nd|rd|th)(?![A-Za-z])\s*\}{0,2}"
)
_LATIN_ORDINAL = re.compile(r"(?<=\d)\\(?:text|mathrm|textrm)\s*\{\s*(?:st|nd|rd|th)\s*\}")
_UNIT = re.compile(r"\s*\\unit\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}")
_LAST_UNIT = re.compile(rf"{_UNIT.pattern}\s*([.)]?)\s*\Z")
_NOT_IN_UNIT = re.compile(r"(?<![A-Za-z^{-])\d|\d\d|[,;=<>(\\]")
_REALS = re.compile(
    r"(?:\(?the (?:set of )?)?all real (?:numbers|values)(?: of [a-z])?\Z|all reals\Z", re.IGNORECASE
)
_NONE = re.compile(
    r"(?:(?:there (?:is|are) )?no (?:real )?(?:solutions?|roots?)(?: exists?)?|the empty set|empty set)\Z",
    re.IGNORECASE,
)
_SPACES = re.compile(r"\s+")
# Text without LaTeX, Markdown or HTML.
_EASY = re.compile(r"[^\\{}$*`^<_~]*\Z")

MULTIPLIERS = {
    "hundred": 100, "thousand": 1000, "lakh": 10**5, "lakhs": 10**5, "million": 10**6, "crore": 10**7,
    "crores": 10**7, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip


def clean(text: str) -> str:
    r"""Return `text` in plain characters, without markup and spacing.

    Delimiters are removed too.
    Units become `\unit{...}`.
    """
    text = plain(text)
    if not _EASY.match(text):
        text = unwrapped(text)
        text = without_markup(text)
        text = _LATIN_ORDINAL.sub("", _ORDINAL.sub("", text))
        text = _degrees(text)
        text = _UNIT_FRACTION.sub(r"\\text{\1/\2}", text)
        text = _texts(text)
        text = text.replace("\\%", "%").replace("\\$", "$").replace("\\&", "&").replace("\\#", "#")
        text = text.replace("\\lbrace", "\\{").replace("\\rbrace", "\\}")
    text = unwrapped(_SPACES.sub(" ", text))
    if _NONE.match(text):
        return "\\emptyset"
    if text in ("DNE", "D.N.E"):
        return "does not exist"
    return "\\mathbb{R}" if _REALS.match(text) else text


def without_units(text: str) -> str:
    r"""Return `text` without its `\unit{...}`."""
    return _SPACES.sub(" ", _UNIT.sub(" ", text)).strip() if "\\unit" in text else text


def last_unit(text: str) -> tuple[str, str]:
    r"""Split `text` from the `\unit{...}` at its end.

    The second value is their content, "" without any.
    """
    units: list[str] = []
    while found := _LAST_UNIT.search(text):
        units.insert(0, found[1].strip())
        text = (text[: found.start()] + found[2]).strip()
    return text, " ".join(units)


def worded(text: str) -> str:
    r"""Replace each `\unit{name}` in `text` by the plain text ` name`.

    It undoes what `clean` does to units.
    """
    return _UNIT.sub(lambda unit: f" {unit[1]}", text) if "\\unit" in text else text


def unwrapped(text: str) -> str:
    """Return `text` without enclosing delimiters and final full stop."""
    previous = None
    while text != previous:
        previous = text
        text = text.strip()
        if text.endswith((".", ",", ";", "。")) and not text.endswith(("\\,", "..", "\\;")):
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
        if text.startswith("{") and braced(text, 0) == len(text):
            text = text[1:-1]
    return text


def _degrees(text: str) -> str:
    """Write degree signs as units.

    In a formula with trigonometric functions they stay, as factors of π/180.
    """
    if "circ" not in text and "degree" not in text:
        return text
    head, equals, tail = text.rpartition("=")
    angle_of_function = _TRIGONOMETRY.search(tail) is not None

    def unit(match: re.Match[str]) -> str:
        if match[1]:
            return f" \\unit{{^\\circ {match[1]}}}"
        return "^{\\circ}" if angle_of_function else " \\unit{^\\circ}"

    return head + equals + _DEGREES.sub(unit, tail) if not angle_of_function else text


def _texts(text: str) -> str:
    r"""Write `\text{...}` as a unit, a function's name, or plain words.

    It is a unit after a value.
    """
    if "\\" not in text:
        return text
    out: list[str] = []
    at = 0
    for match in _TEXT.finditer(text):
        if match.start() < at:
            continue
        end = braced(text, match.end())
        if end < 0:
            continue
        content = text[match.end() + 1 : end - 1].replace("~", " ")
        before = text[at : match.start()]
        out.append(before)
        at = end
        words = content.strip()
        if _FUNCTION_NAME.fullmatch(words):
            out.append(f"\\{words} ")
        elif (
            _SYMBOL.match(words)
            and match.group().startswith(("\\mathrm", "\\operatorname"))
            and words in "eid"
        ):
            out.append(words)
        elif _is_unit(content, "".join(out[-2:])):
            power = _UNIT_POWER.match(text, at)
            at = power.end() if power else at
            out.append(f" \\unit{{{words}{power.group().strip() if power else ''}}}")
        else:
            out.append(f" {_texts(content)} " if words else " ")
    out.append(text[at:])
    return "".join(out)


def _is_unit(content: str, before: str) -> bool:
    words = content.strip().replace("\\cdot", "*")
    return (
        bool(words)
        and not _NOT_IN_UNIT.search(words)
        and not NO_UNIT.search(words)
        and not _MERIDIEM.match(words)
        and not {*MULTIPLIERS, "percent", "percentage"}.intersection(words.lower().split())
        and words not in ("st", "nd", "rd", "th")
        and _AFTER_VALUE.search(before) is not None
        and not _AFTER_FUNCTION.search(before)
    )
