"""Numbers in words: "twenty-one", "third", "two thirds", "四十二"."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from engine.grading.units import read_unit

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_ONES = {word: number for number, word in enumerate(_SMALL.split())}
_TEN_WORDS = "twenty thirty forty fifty sixty seventy eighty ninety"
_TENS = {word: 10 * number for number, word in enumerate(_TEN_WORDS.split(), 2)}
_SCALES = {
    "thousand": 10**3,
    "lakh": 10**5,
    "million": 10**6,
    "crore": 10**7,
    "billion": 10**9,
    "trillion": 10**12,
}
_IRREGULAR = {
    "first": "one",
    "second": "two",
    "third": "three",
    "fifth": "five",
    "eighth": "eight",
    "ninth": "nine",
    "twelfth": "twelve",
}
_PARTS = {"half": 2, "halve": 2, "quarter": 4}
_WORD = "|".join((*_ONES, *_TENS, *_SCALES, "hundred"))
_LEADING = re.compile(
    r"(?:the\s+)?(?P<sign>(?:minus|negative)\s+)?"
    r"(?P<words>[a-z]+(?:(?:[\s-]+(?:and\s+)?)[a-z]+){0,12})\s*\Z",
    re.IGNORECASE,
)
_START = re.compile(
    rf"(?:the\s+|minus\s+|negative\s+|a\s+)?(?:{_WORD}|{'|'.join(_IRREGULAR)}|half|quarter|\d+(?:st|nd|rd|th)\Z)",
    re.IGNORECASE,
)
_HAN = re.compile(r"(?P<sign>负|負)?(?P<digits>[〇零一二两兩三四五六七八九十百千万萬亿億]+)(?P<rest>\w?)\Z")
_MAX = 120


def in_digits(text: str) -> str:
    """Return `text` with its leading number words in digits.

    A known unit may follow the words: "two circles" stays unchanged. Text without number words is returned
    unchanged.
    """
    if len(text) > _MAX or not text:
        return text
    if han := _HAN.match(text):
        number = _han(han["digits"].replace("两", "二").replace("兩", "二"))
        return text if number is None else f"{'-' if han['sign'] else ''}{number}{han['rest']}"
    if not _START.match(text):
        return text
    if re.match(r"the\s+\d", text, re.IGNORECASE):
        return text.split(maxsplit=1)[1]
    match = _LEADING.match(text)
    if match is None:
        return text
    words = re.split(r"[\s-]+", match["words"].casefold())
    for end in range(len(words), max(0, len(words) - 4), -1):
        unit = " ".join(words[end:])
        value = _value(words[:end])
        if value is not None and (not unit or read_unit(unit)):
            return f"{'-' if match['sign'] else ''}{value} {unit}".strip()
    return text


def _value(words: list[str]) -> Fraction | None:
    """Return a cardinal, an ordinal, or a fraction such as two thirds."""
    whole = _cardinal(words)
    if whole is not None:
        return Fraction(whole)
    last = words[-1]
    part = _PARTS.get(last.removesuffix("s")) or _ordinal(last.removesuffix("s"))
    count = 1 if words[:-1] == ["a"] else _cardinal(words[:-1])
    if part is None:
        return None
    if count is not None and part > 2 and 0 < count < 20:
        return Fraction(count, part)
    if count == 1 and part == 2 and last in _PARTS:
        return Fraction(1, 2)
    if last in _PARTS or last.endswith("s"):
        return None
    spelled = _cardinal([*words[:-1], _named(last)])
    return None if spelled is None else Fraction(spelled)


def _named(word: str) -> str:
    """Return the cardinal of an ordinal: "seventh" gives "seven"."""
    stem = word.removesuffix("th")
    return _IRREGULAR.get(word) or (f"{stem[:-2]}y" if stem.endswith("ie") else stem)


def _ordinal(word: str) -> int | None:
    return _cardinal([_named(word)]) if word.endswith("th") or word in _IRREGULAR else None


def _cardinal(words: list[str]) -> int | None:
    total, current, last = 0, 0, 10**18
    spoken = [word for place, word in enumerate(words) if not (word == "and" and place)]
    if not spoken:
        return None
    for word in spoken:
        small = _ONES.get(word, _TENS.get(word))
        if small is not None:
            rest = current % 100
            if rest and not (rest >= 20 and rest % 10 == 0 and 0 < small < 10):
                return None
            current += small
        elif word == "hundred" and current < 100:
            current = (current or 1) * 100
        elif word in _SCALES and _SCALES[word] < last:
            last = _SCALES[word]
            total, current = total + (current or 1) * last, 0
        else:
            return None
    return total + current


def _han(digits: str) -> int | None:
    total, section, digit = 0, 0, None
    for character in digits:
        number = int(unicodedata.numeric(character))
        if number >= 10_000:
            total, section, digit = (total + section + (digit or 0)) * number, 0, None
        elif number >= 10:
            section, digit = section + (1 if digit is None else digit) * number, None
        elif digit is not None and digit != 0:
            return None
        else:
            digit = number
    return total + section + (digit or 0)
