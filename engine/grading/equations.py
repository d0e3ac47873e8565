"""Equations: a name or a computation on the left, the value on the right."""

from __future__ import annotations

import re
from typing import NamedTuple

_EQUALS = re.compile(r"(?<![<>!:=\\])=(?!=)")
_APPROX = re.compile(r"\\approx(?![A-Za-z])|\\simeq(?![A-Za-z])|\\doteq(?![A-Za-z])|≈")
_VARIABLE = re.compile(
    r"\A\s*\\?[A-Za-z](?:_\{?\w{1,3}\}?)?'?\s*\Z|\A\s*\\(?:theta|alpha|beta|gamma|lambda|mu|phi|omega|rho)\s*\Z"
)
_APPLIED = re.compile(r"\A\s*[A-Za-z](?:\^\{-1\})?'?\s*\([A-Za-z0-9, ]{1,8}\)\s*\Z")
_WORDS = re.compile(r"\A\s*\\?[A-Za-z][A-Za-z ]+(?:\([^()]*\))?\s*\Z")
# A digit outside an index.
_NUMERAL = re.compile(r"(?<![_\d])(?<!_\{)\d")
_HAS_LETTER = re.compile(r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])")


class Equation(NamedTuple):
    """The equation `name` = ... = `value`.

    Attributes:
        variable: the name, if it is one letter.
        words: True if the name is words or an applied function.
        constant: True if both sides are numbers, as in 9 · 2 = 18; the left one then names nothing.
    """

    name: str
    value: str
    variable: str
    words: bool
    constant: bool

    @property
    def states_value(self) -> bool:
        """True if the right side is the value of the left side's name.

        This holds for a + b = 5, but not for 2x + z = 5.
        """
        return not _NUMERAL.search(self.name) or self.words or self.constant


def read_equation(text: str) -> Equation | None:
    """Return the outer equation of `text`, or None.

    The value of `x = 1/3 ≈ 0.33` is the exact side.
    """
    if "=" not in text and "approx" not in text:
        return None
    if re.search(r"[<>]|\\(?:le|ge|lt|gt|ne|equiv)(?![A-Za-z])", text):
        return None
    exact = [side.strip() for side in _APPROX.split(text)]
    kept = next((side for side in exact if side), "")
    if _VARIABLE.match(kept) and len(exact) > 1:
        return Equation(kept, exact[1], kept, False, False)
    sides = _split(kept)
    if len(sides) < 2:
        return Equation("", kept, "", False, True) if len(exact) > 1 and kept else None
    name, value = sides[0], sides[-1]
    # Example: 3 = x.
    if len(sides) == 2 and _VARIABLE.match(value) and not _HAS_LETTER.search(name):
        name, value = value, name
    variable = re.sub(r"[\s{}\\]", "", name) if _VARIABLE.match(name) else ""
    words = not variable and bool(_APPLIED.match(name) or _WORDS.match(name))
    constant = not variable and not words and not _HAS_LETTER.search(name + value)
    return Equation(name, value, variable, words, constant)


def _split(text: str) -> list[str]:
    sides, start = [], 0
    for match in _EQUALS.finditer(text):
        head = text[start : match.start()]
        if sum(map(head.count, "([{")) == sum(map(head.count, ")]}")):
            sides.append(head.strip())
            start = match.end()
    sides.append(text[start:].strip())
    return [side for side in sides if side]
