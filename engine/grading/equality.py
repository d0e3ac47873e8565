"""Whether two answers say the same: numbers exactly, collections part by part, the rest by text, then math-verify."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from engine.grading import symbolic as grading_symbolic
from engine.grading.numbers import Number, read_number
from engine.grading.text import clean

_PLAIN = re.compile(r"-?\d{1,15}\Z")
_CONNECTIVE = re.compile(r"\s*,?\s*(?:\b(?:or|and)\b|\\(?:lor|vee|land|wedge)(?![A-Za-z])|[∨∧])\s*|\s*;\s*")
_LOOSE_SPACE = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
_IDLE_BRACES = re.compile(r"\{(\w)\}|(?<=_)\{(\d+)\}")  # of one character, which would stand alone; of a base
_NO_VALUE = re.compile(  # a bound, a denial, two numbers, lines or sets: not one value
    r"[<>≠]|\\n(?:eq?|ot)(?![a-z])|\\[lg](?:e|eq|t|eqslant|eqq)(?![A-Za-z])|\d[\s$]+\d|\\\\|&|\\c[ua]p(?![A-Za-z])"
)
_LETTER = re.compile(r"\(?([A-Za-z])\)?\Z")
_SHARED_NAME = re.compile(r"\A[A-Za-z](?:\([a-z]\))?\s*(?:=|\\in(?![A-Za-z]))\s*")
_EITHER_SIGN = re.compile(r"\\pm(?![A-Za-z])")
_MATHEMATICAL = re.compile(r"[\d\\^=<>]|\A[A-Za-z]\b")
_MAX_PARTS = 12


class Answer(NamedTuple):
    """An answer in one form: its cleaned text and, where it is one number, its exact value."""

    text: str
    number: Number | None

    @property
    def canonical(self) -> str:
        """What equal answers share where that can be said: the number, else the cleaned text."""
        return str(self.number) if self.number is not None else self.text


@lru_cache(20_000)
def read_answer(text: str) -> Answer:
    """`text` as an Answer."""
    cleaned = text.strip() if _PLAIN.match(text.strip()) else clean(text)
    return Answer(cleaned, read_number(cleaned))


def same(answer: Answer, gold: Answer) -> bool:
    """Whether `answer` says what `gold` says."""
    if answer.number is not None and gold.number is not None:
        return answer.number.equals(gold.number)
    if gold.number is not None and _NO_VALUE.search(answer.text):
        return False
    return answer.text == gold.text or _same_text(answer.text, gold.text)


@lru_cache(20_000)
def _same_text(answer: str, gold: str) -> bool:
    if _compact(answer) == _compact(gold):
        return True
    if not answer or not _MATHEMATICAL.search(answer) or not _MATHEMATICAL.search(gold):
        return False
    left, right = _parts(answer), _parts(gold)
    if len(left.items) > 1 or len(right.items) > 1 or (left.opening and right.opening):
        return _same_parts(left, right)
    if _other_base(gold) or _other_base(answer):
        return False
    # A sign left inside would end the formula: of "17$ then $18" math-verify would read the last alone.
    return grading_symbolic.equal(answer.replace("$", " "), gold.replace("$", " "))


class Parts(NamedTuple):
    """A collection: its brackets ("" for a bare list) and what stands between the commas."""

    opening: str
    closing: str
    items: list[str]


def _parts(text: str) -> Parts:
    """`text` split at the commas that no bracket encloses; a bare list may use "and", "or" and semicolons."""
    text = _SHARED_NAME.sub("", text) if text.count("=") < 2 else text
    text = _CONNECTIVE.sub(", ", text)
    opening, closing = _brackets(text)
    inner = text[len(opening) : len(text) - len(closing)] if opening else text
    items = _split(inner)
    if opening in ("", "\\{"):
        items = [value for item in items for value in _both(item)]
    return Parts(opening, closing, items)


def _both(item: str) -> list[str]:
    """The two values of `1 \\pm \\sqrt{2}`; anything else as it stands."""
    parts = _EITHER_SIGN.split(item)
    return [f"{parts[0]}{sign}{parts[1]}" for sign in "+-"] if len(parts) == 2 else [item]


def _brackets(text: str) -> tuple[str, str]:
    """The brackets around the whole of `text`, or two empty strings."""
    if text.startswith("\\{") and text.endswith("\\}"):
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


def _same_parts(left: Parts, right: Parts) -> bool:
    """Tuples and intervals in order under the same brackets; sets and bare lists in any order.

    One value in several forms ("15.975, or 639/40") is that value.
    """
    if not left.opening and not right.opening and len(right.items) == 1:
        return all(_same_item(item, right.items[0]) for item in left.items[:_MAX_PARTS])
    if len(left.items) != len(right.items) or len(left.items) > _MAX_PARTS:
        return False
    ordered = "(" in left.opening + right.opening or "[" in left.opening + right.opening
    if ordered:
        bare = not left.opening or not right.opening
        brackets_agree = bare or (left.opening, left.closing) == (right.opening, right.closing)
        return brackets_agree and all(map(_same_item, left.items, right.items))
    unmatched = list(right.items)
    for item in left.items:
        twin = next((other for other in unmatched if _same_item(item, other)), None)
        if twin is None:
            return False
        unmatched.remove(twin)
    return True


def _same_item(left: str, right: str) -> bool:
    return same(Answer(left, read_number(left)), Answer(right, read_number(right)))


def _compact(text: str) -> str:
    """`text` for a comparison by characters: no spaces, no case, no braces that bind nothing, "(C)" as "C"."""
    letter = _LETTER.match(text.strip())
    if letter:
        return letter[1].casefold()
    return _IDLE_BRACES.sub(r"\1\2", _LOOSE_SPACE.sub("", text)).rstrip(".").casefold()


def _other_base(text: str) -> bool:
    """A numeral with its base, 52_8: its digits alone are another number, so characters decide."""
    return re.search(r"\d\s*_\s*\{?\s*\d", text) is not None
