"""One exact number from an answer's text, or none: "18.00", "$1,000", "1\\frac{4}{5}", "18 dollars", "20%"."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from engine.grading.text import MULTIPLIERS

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,3}(?:[ ]\d{3})+(?![ ]?\d)|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d*)?|\.\d+)"
_EXPONENT = (
    r"[eE](?P<e>[-+]?\d{1,3})(?!\w)|\s*(?:\\times|\\cdot|\*|x)\s*10\s*\^\s*\{?\s*(?P<p>-?\d{1,3})\s*\}?"
)
_NUMBER = re.compile(
    rf"""
    (?P<sign>[-+]?|negative\ |minus\ )\s*
    (?P<currency>[$€£¥₹]|(?:usd|eur|gbp|rs\.?|us\$)\s)?\s*
    (?P<sign2>[-+]?)\s*
    (?:
        (?:(?P<whole>\d+)(?:\s*|\s*\+\s*)(?=\\frac))?
        \\frac\s*(?:\{{\s*(?P<n1>-?{_DECIMAL})\s*\}}|(?P<n2>\d))
              \s*(?:\{{\s*(?P<d1>-?{_DECIMAL})\s*\}}|(?P<d2>\d))
      | (?:(?P<whole2>\d+)\s+)?(?P<n3>\d+)\s*/\s*(?P<d3>\d+)(?![\d./])
      | (?P<decimal>{_DECIMAL})(?:{_EXPONENT})?
    )
    (?P<rest>.*)\Z
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_UNIT = re.compile(
    r"""
    (?P<percent>\s*(?:%|percent(?:age)?(?:\ points?)?\b|per\ cent\b))?
    (?:\s*[$€£¥₹])?
    (?P<unit>(?:st|nd|rd|th|cm|km|mm|kg|mg|ml|kW|lb|ft|oz|hr|mi|in|gb|mb|[A-Za-z]{3,}|\s+[A-Za-z][A-Za-z'’]+|\s+[mgslLhA]\b)
        (?:[\s/.*-]+[A-Za-z'’]+|\s*\^\s*\{?[23]\}?|(?<=[mt])[23]\b)*)?
    \s*\.?\s*\Z
    """,
    re.VERBOSE,
)
_LEAD = re.compile(r"\A(?:\\?[A-Za-z][A-Za-z _]{0,40}|\([^()]{0,20}\))?\s*(?:=|:|\\approx)\s*(?=\S)")
# Words that make what follows a number more than a unit: other answers, arithmetic, functions and constants.
_NO_UNIT = re.compile(
    r"\b(?:or|and|to|not|nor|either|maybe|than|if|minus|plus|times|through|over|divided|choose|mod|below|negative"
    r"|pi|sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|infinity|i)\b",
    re.IGNORECASE,
)
MAX_NUMBER = 120  # characters


class Number(NamedTuple):
    """An exact value; `percent` where it stood with a percent sign ("20%" is 20, and also one fifth)."""

    value: Fraction
    percent: bool

    def equals(self, other: Number) -> bool:
        """Exact equality; where one of the two is a percentage the other may be its value as a share."""
        if self.value == other.value:
            return True
        if self.percent == other.percent:
            return False
        return self.value / (100 if self.percent else 1) == other.value / (100 if other.percent else 1)

    def __str__(self) -> str:
        """Integers and finite decimals as such, other values as a fraction."""
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
    """The one number that the cleaned `text` states; None where it states none, several, or more than a number.

    A unit, a currency and a "name =" in front are allowed; "million" and the like multiply.
    """
    if len(text) > MAX_NUMBER:
        return None
    lead = _LEAD.match(text)
    body = text[lead.end() :] if lead and "not" not in lead.group() else text
    match = _NUMBER.match(body.strip("$ "))
    if match is None:
        return None
    value = _value(match)
    if value is None:
        return None
    scale, rest = _multiplier(match["rest"])
    unit = _UNIT.match(rest)
    if unit is None or _NO_UNIT.search(unit["unit"] or ""):
        return None
    return Number(value * scale, bool(unit["percent"]))


def _value(match: re.Match[str]) -> Fraction | None:
    negative = (match["sign"].strip() in ("-", "negative", "minus")) != (match["sign2"] == "-")
    sign = -1 if negative else 1
    if match["decimal"] is not None:
        power = int(match["e"] or match["p"] or 0)
        return sign * _decimal(match["decimal"]) * Fraction(10) ** power
    below = _decimal(match["d1"] or match["d2"] or match["d3"])
    if below == 0:
        return None
    whole = int(match["whole"] or match["whole2"] or 0)
    return sign * (whole + _decimal(match["n1"] or match["n2"] or match["n3"]) / below)


def _decimal(text: str) -> Fraction:
    digits = text.replace(",", "").replace(" ", "")
    return (
        Fraction(int(digits))
        if digits.isdigit()
        else Fraction(f"0{digits}" if digits[0] == "." else digits.rstrip("."))
    )


def _multiplier(rest: str) -> tuple[int, str]:
    words = rest.split(maxsplit=1)
    scale = MULTIPLIERS.get(words[0].lower(), 1) if words else 1
    return (scale, " " + words[1] if len(words) > 1 else "") if scale > 1 else (1, rest)
