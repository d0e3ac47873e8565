r"""Repeating decimals as exact fractions.

Examples: `0.\overline{27}`, `0.\dot{3}`, `0.1(6)`, `0.333...`. Digits before an ellipsis repeat if they end
in whole periods: two or more. A period of a single digit needs three or more, unless all decimals are that
digit. Other decimals with an ellipsis are cut decimals, not exact values.
"""

from __future__ import annotations

import re
from fractions import Fraction

_INTEGER = r"(?:\d{1,3}(?:,\d{3})+|\d*)"
_DOTS = r"(?:\.\.\.+|\s*\\[ldc]?dots[cbmio]?(?![A-Za-z]))"
PATTERN = (
    rf"(?P<r_int>{_INTEGER})\.(?P<r_fix>\d*)(?:"
    r"\\(?:overline|bar|overbar|widebar)\s*(?:\{\s*(?P<r_line>\d+)\s*\}|\s?(?P<r_line1>\d))"
    r"|(?P<r_dot>\\dot\s*(?:\{\s*\d\s*\}|\d)(?:\d*\\dot\s*(?:\{\s*\d\s*\}|\d))?)"
    r"|\((?P<r_paren>\d+)\)(?![\d(])"
    rf"|(?<=\d\d){_DOTS}"
    r"|\s+(?:repeating|recurring)\b)"
)
REPEATING = re.compile(rf"(?<![\d.]){PATTERN}")
_NO_DIGIT = re.compile(r"\D")
_DOT = re.compile(r"\\dot\s*\{?\s*(\d)\s*\}?")


def value(match: re.Match[str]) -> Fraction | None:
    """Return the exact value of a match of PATTERN.

    Return None if its digits show no period.
    """
    whole = _NO_DIGIT.sub("", match["r_int"]) or "0"
    fixed = match["r_fix"]
    period = match["r_line"] or match["r_line1"] or match["r_paren"]
    if match["r_dot"]:
        period = _NO_DIGIT.sub("", _DOT.sub(r"\1", match["r_dot"]))
    if period is None:
        word = match.group().rstrip().endswith("ing")
        seen = (fixed[:-1], fixed[-1:]) if word and _seen_period(fixed) is None else _seen_period(fixed)
        if seen is None or not seen[1]:
            return None
        fixed, period = seen
    if not period:
        return None
    shift = 10 ** len(fixed)
    return Fraction(int(whole + fixed), shift) + Fraction(int(period), (10 ** len(period) - 1) * shift)


def _seen_period(digits: str) -> tuple[str, str] | None:
    """Split `digits` into what precedes the period, and the period.

    The period is the shortest final one. Return None if there is none.
    """
    for length in range(1, len(digits) // 2 + 1):
        period = digits[-length:]
        times = 1
        while digits.endswith(period * (times + 1)):
            times += 1
        enough = 3 if length == 1 and len(digits) > times else 2
        if times >= enough:
            return digits[: len(digits) - length * times], period
    return None


def as_fractions(text: str) -> str:
    r"""Return `text` with every repeating decimal as `(\frac{p}{q})`."""
    return REPEATING.sub(_fraction, text)


def _fraction(match: re.Match[str]) -> str:
    exact = value(match)
    return match.group() if exact is None else f"(\\frac{{{exact.numerator}}}{{{exact.denominator}}})"
