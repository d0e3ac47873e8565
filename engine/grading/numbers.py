r"""Read one exact number from an answer's text, or None.

Examples: "18.00", "$1,000", "1\frac{4}{5}", "0.\overline{27}", "20%".
Digit groups may use commas or spaces in threes, Indian groups (1,00,000), or apostrophes. Dots count as
groups only if they cannot be a decimal point (1.234.567 or 1.234,56). Ambiguous text stays unchanged: "1.000"
is one, "3,14" is two numbers.
"""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from engine.grading import repeating
from engine.grading.text import MULTIPLIERS, last_unit
from engine.grading.units import CJK_NO_UNIT, NO_UNIT, named_points

_DIGITS = (
    r"(?:\d{1,3}(?:,\d{3})+(?!\d|,\d)|\d{1,2}(?:,\d{2})+,\d{3}(?!\d|,\d)|\d{1,3}(?:'\d{3})+(?!\d)"
    r"|\d{1,3}(?:[ ]\d{3})+(?![ ]?\d)|\d+)"
)
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d{{3}}(?:[ ]\d{{3}})+(?![ ]?\d)|\.\d*)?|\.\d+)"
_EUROPEAN = (
    r"\d{1,3}(?:\.\d{3})+,\d+(?![\d,])|\d{1,3}(?:\.\d{3}){2,}(?![\d.,])|\d{1,3}(?:[ ]\d{3})+,\d{1,2}(?![\d,])"
)
_EXPONENT = (
    r"[eE](?P<e>[-+]?\d{1,3})(?!\w)"
    r"|\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*(?:\{\s*(?P<p>-?\d{1,3})\s*\}|(?P<p2>-?\d{1,3}))"
)
_SCALE = "万萬만亿億억兆조千천百백"
_SCALES = dict(
    zip(_SCALE, (10**4,) * 3 + (10**8,) * 3 + (10**12,) * 2 + (1000,) * 2 + (100,) * 2, strict=True)
)
_NUMBER = re.compile(
    rf"""
    (?P<sign>[-+]?|negative\ |minus\ )\s*
    (?P<currency>[$€£¥₹₩]|(?:usd|eur|gbp|inr|rs|us\$)(?:\s|\.\s?))?\s*
    (?P<sign2>[-+]?)\s*
    (?:
        (?P<repeat>{repeating.PATTERN})
      | (?:(?P<whole>\d+)(?:\s*|\s*\+\s*)(?=\\frac))?
        \\frac\s*(?:\{{\s*(?P<n1>-?{_DECIMAL})\s*\}}|(?P<n2>\d))
              \s*(?:\{{\s*(?P<d1>-?{_DECIMAL})\s*\}}|(?P<d2>\d))
      | (?:(?P<whole2>\d+)\s+)?(?P<n3>\d+)\s*/\s*(?P<d3>\d+)(?![\d./])
      | (?P<part>\d+)\s*(?:分之|분의|分の)\s*(?P<over>\d+)
      | (?P<east>(?:\d+(?:\.\d+)?\s?(?:(?!千[克米瓦帕焦卡伏赫])[{_SCALE}])+)+(?:\d+)?)
      | (?P<european>{_EUROPEAN})
      | (?P<base>-?\d{{1,10}})\s*\^\s*(?:\{{\s*(?P<power>-?\d{{1,3}})\s*\}}|(?P<power2>-?\d{{1,3}}))(?![\d.{{^])
      | (?P<decimal>{_DECIMAL})(?P<cut>\s*(?:\.\.\.+|\\[lc]?dots))?(?:{_EXPONENT})?
    )
    (?P<rest>.*)\Z
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_UNIT = re.compile(
    rf"""
    (?P<percent>\s*(?:%|percent(?:age)?(?:\ points?)?\b|per\ cent\b|퍼센트|プロ?パーセント|パーセント))?
    (?P<money>\s*[$€£¥₹¢₩])?
    (?P<unit>(?:st|nd|rd|th|cm|km|mm|kg|mg|ml|kW|lb|ft|oz|hr|mi|in|gb|mb|[A-Za-z]{{3,}}|\s+[A-Za-z][A-Za-z'’]+|\s+(?-i:[mgslLhAKNJWV])\b
          |\s*/\s*[A-Za-z]+|\s*[{_CJK}]+)
        (?:[\s/.*-]+[A-Za-z'’]+|\s*\^\s*\{{?[23]\}}?|(?<=[mt])[23]\b|\s*/?\s*[{_CJK}]+)*)?
    \s*\.?\s*\Z
    """,
    re.VERBOSE,
)
_LEAD = re.compile(
    r"\A(?:\\?[A-Za-z][A-Za-z _]{0,40}(?:_\{?\w{1,3}\}?)?|[A-Za-z]\([^()]{0,12}\)|\([^()]{0,20}\))?"
    r"\s*(?:=|:|\\approx)\s*(?=\S)"
)
# Characters.
MAX_NUMBER = 120
# Approximate decimal digits of a power that is computed here; the child process computes larger ones.
_MAX_POWER = 24


class Number(NamedTuple):
    """An exact value.

    Attributes:
        percent: it was written with a percent sign ("20%" is 20, and also one fifth).
        decimal: it was written with a decimal point, so it may be the rounded form of an irrational number.
        unit: the words after it.
    """

    value: Fraction
    percent: bool
    decimal: bool = False
    unit: str = ""

    def equals(self, other: Number) -> bool:
        """Return True if both are exactly equal.

        If one of the two is a percentage, the other may be its value as a share.
        """
        if self.value == other.value:
            return True
        if self.percent == other.percent:
            return False
        return self.value / (100 if self.percent else 1) == other.value / (100 if other.percent else 1)

    def __str__(self) -> str:
        """Write integers and finite decimals as such, other values as a fraction."""
        denominator = self.value.denominator
        if denominator == 1:
            return str(self.value.numerator)
        for prime in (2, 5):
            while denominator % prime == 0:
                denominator //= prime
        if denominator > 1 or len(str(self.value)) > 24:
            return str(self.value)
        return f"{Decimal(self.value.numerator) / Decimal(self.value.denominator):f}"


def read_number(text: str) -> Number | None:
    """Return the one number that the cleaned `text` states.

    A unit, a currency and a "name =" in front are allowed; "million" and the like multiply. None means that
    it states no number, several, or more than a number.
    """
    if len(text) > MAX_NUMBER:
        return None
    text, marked = last_unit(text)
    lead = _LEAD.match(text)
    body = text[lead.end() :] if lead and "not" not in lead.group() else text
    body = body.strip("$ ") if body.endswith("$") else body.strip()
    if body.startswith("(") and body.endswith(")") and body.count("(") == 1 and "," not in body:
        body = body[1:-1].strip()
    match = _NUMBER.match(body)
    if match is None:
        return None
    value = _value(match)
    if value is None:
        return None
    scale, rest = _multiplier(match["rest"])
    unit = _UNIT.match(rest)
    if unit is None or not _is_unit(unit["unit"] or ""):
        return None
    decimal = bool((match["decimal"] and "." in match["decimal"]) or match["european"] or _is_cut(match))
    words = " ".join(filter(None, (match["currency"], unit["money"], unit["unit"], marked)))
    return Number(value * scale, bool(unit["percent"]), decimal, words.strip())


def _is_unit(words: str) -> bool:
    return not (NO_UNIT.search(words) or CJK_NO_UNIT.search(words) or named_points(words))


def _is_cut(match: re.Match[str]) -> bool:
    return match["repeat"] is not None and "dots" in match["repeat"].replace("...", "dots")


def _value(match: re.Match[str]) -> Fraction | None:
    negative = (match["sign"].strip().lower() in ("-", "negative", "minus")) != (match["sign2"] == "-")
    sign = -1 if negative else 1
    if match["repeat"] is not None:
        exact = repeating.value(match)
        return None if exact is None else sign * exact
    if match["decimal"] is not None:
        power = int(match["e"] or match["p"] or match["p2"] or 0)
        return sign * _decimal(match["decimal"]) * Fraction(10) ** power
    if match["base"] is not None:
        return _power(sign, match["base"], int(match["power"] or match["power2"]))
    if match["european"] is not None:
        return sign * Fraction(match["european"].replace(".", "").replace(" ", "").replace(",", "."))
    if match["east"] is not None:
        return _eastern(sign, match["east"])
    below = _decimal(match["d1"] or match["d2"] or match["d3"] or match["part"])
    if below == 0:
        return None
    whole = int(match["whole"] or match["whole2"] or 0)
    return sign * (whole + _decimal(match["n1"] or match["n2"] or match["n3"] or match["over"]) / below)


def _power(sign: int, base: str, exponent: int) -> Fraction | None:
    """Return a power of an integer: −2² is −4."""
    if len(base) * abs(exponent) > _MAX_POWER or (exponent < 0 and int(base) == 0):
        return None
    if base.startswith("-"):
        return -sign * Fraction(int(base[1:])) ** exponent
    return sign * Fraction(int(base)) ** exponent


def _decimal(text: str) -> Fraction:
    digits = re.sub(r"[, ']", "", text)
    return (
        Fraction(int(digits))
        if digits.isdigit()
        else Fraction(f"0{digits}" if digits[0] == "." else digits.rstrip("."))
    )


def _eastern(sign: int, text: str) -> Fraction | None:
    """Read 3万5千, 1億2000万: groups of falling size."""
    total, last = Fraction(0), None
    for group in re.finditer(rf"(\d+(?:\.\d+)?)\s?([{_SCALE}]*)", text):
        size = 1
        for character in group[2]:
            size *= _SCALES[character]
        if last is not None and size >= last:
            return None
        total, last = total + Fraction(group[1]) * size, size
    return sign * total


def _multiplier(rest: str) -> tuple[int, str]:
    words = rest.split(maxsplit=1)
    scale = MULTIPLIERS.get(words[0].lower(), 1) if words else 1
    return (scale, " " + words[1] if len(words) > 1 else "") if scale > 1 else (1, rest)
