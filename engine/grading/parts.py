"""Collections: tuples, sets and bare lists.

They are read with their brackets and the names of their parts.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from engine.grading.equations import read_equation

_CONNECTIVE = re.compile(
    r"\s*,?\s*(?:\b(?:or|and)\b|\\(?:lor|vee|land|wedge)(?![A-Za-z])|[∨∧]|或|和|または|と|또는|와|과)\s*|\s*;\s*"
)
_CASES = re.compile(r"\\begin\{(?:cases|aligned)\}(.*)\\end\{(?:cases|aligned)\}", re.DOTALL)
_SHARED_NAME = re.compile(
    r"\A(?:[A-Za-z](?:_\{?\w\}?)?(?:\([a-z]\))?|[A-Za-z ]{2,30})\s*(?:=|:|\\in(?![A-Za-z]))\s*(?=[\\(\[\d-])"
)
_NAME = r"(?:[A-Za-z]|\\[A-Za-z]{2,7})(?:_\{?\w\}?)?"
_NAMES_BEFORE = re.compile(
    rf"\A\\?[({{]\s*({_NAME}(?:\s*,\s*{_NAME})+)\s*\\?[)}}]\s*(?:=|\\in|:)\s*(?=[(\[\\])"
)
_POINT = re.compile(r"\A[A-Z]'?\s*(?==?\s*\([^()]*,)=?\s*")
_EITHER_SIGN = re.compile(r"\\pm(?![A-Za-z])")


class Parts(NamedTuple):
    """A collection.

    Attributes:
        opening: bracket, "" for a bare list; `closing` likewise.
        items: the texts between the commas.
        labels: names, if each item has its own.
    """

    opening: str
    closing: str
    items: list[str]
    labels: list[str]


def read_parts(text: str) -> Parts:
    """Split `text` at the commas outside brackets.

    A bare list may also use "and", "or" and semicolons.
    """
    text = _CASES.sub(lambda cases: re.sub(r"\s*,?\s*\\\\\s*", ", ", cases[1].replace("&", "")), text)
    labels: list[str] = []
    if match := _NAMES_BEFORE.match(text):
        labels = re.split(r"\s*,\s*", match[1])
        text = text[match.end() :]
    elif text.count("=") < 2:
        text = _POINT.sub("", _SHARED_NAME.sub("", text))
    text = _CONNECTIVE.sub(", ", text)
    opening, closing = _brackets(text)
    items = _split(text[len(opening) : len(text) - len(closing)] if opening else text)
    if opening in ("", "\\{"):
        items = [value for item in items for value in _both(item)]
    named = bool(labels)
    if not labels and len(items) > 1:
        items, labels = _labelled(items)
    if len(labels) != len(items) or len(set(labels)) != len(labels) or (named and opening not in ("(", "[")):
        labels = []
    return Parts(opening, closing, items, labels)


def _labelled(items: list[str]) -> tuple[list[str], list[str]]:
    """Split `name = value` items into values and names.

    A name only in front applies to all items.
    """
    equations = [read_equation(item) for item in items]
    if all(equation is not None and equation.variable for equation in equations):
        return [e.value for e in equations if e], [e.variable for e in equations if e]
    first = equations[0]
    if first is not None and first.variable and not any(equations[1:]):
        return [first.value, *items[1:]], []
    return items, []


def _both(item: str) -> list[str]:
    r"""Return the two values of `1 \pm \sqrt{2}`; anything else unchanged."""
    parts = _EITHER_SIGN.split(item)
    return [f"{parts[0]}{sign}{parts[1]}" for sign in "+-"] if len(parts) == 2 else [item]


def _brackets(text: str) -> tuple[str, str]:
    """Return the brackets around the whole of `text`, or two empty strings."""
    if text.startswith("\\{") and text.endswith("\\}") and "\\}" not in text[:-2]:
        return "\\{", "\\}"
    if len(text) < 2 or text[0] not in "([" or text[-1] not in ")]" or "," not in text:
        return "", ""
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([") - (character in ")]")
        if depth == 0 and place < len(text) - 1:
            return "", ""
    return text[0], text[-1]


def _split(text: str) -> list[str]:
    items, depth, start = [], 0, 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0 and not _groups_thousands(text, place):
            items.append(text[start:place].strip())
            start = place + 1
    return [item for item in (*items, text[start:].strip()) if item]


def _groups_thousands(text: str, comma: int) -> bool:
    return re.match(r"\d{3}(?!\d)", text[comma + 1 :]) is not None and text[comma - 1 : comma].isdigit()
