"""Measures in several units as one number.

Examples: "2 hours 30 minutes", "5 feet and 6 inches", "3 dollars and 50 cents".
"""

from __future__ import annotations

import re
from fractions import Fraction

from engine.grading.numbers import Number, read_number
from engine.grading.units import UnitFactor, read_unit

_PIECE = re.compile(
    r"\s*(?:,|\band\b|,\s*and\b)?\s*(\d+(?:[./]\d+)?(?:\s+\d+/\d+)?)\s*([A-Za-z][A-Za-z.]*)\s*"
)
_MAX = 80


def read_compound(text: str) -> Number | None:
    """Return `text` as a number of its first unit.

    None means that it is not a list of measures of one kind in falling units.
    """
    if len(text) > _MAX or not text[:1].isdigit():
        return None
    at, total, first = 0, Fraction(0), ""
    units: list[UnitFactor] = []
    while at < len(text):
        piece = _PIECE.match(text, at)
        unit = read_unit(piece[2]) if piece else None
        number = read_number(piece[1]) if piece else None
        if piece is None or unit is None or number is None:
            return None
        if units and (unit.bases != units[-1].bases or unit.factor >= units[-1].factor):
            return None
        first = first or piece[2]
        units.append(unit)
        total += number.value * unit.factor / units[0].factor
        at = piece.end()
    return Number(total, False, False, first) if len(units) > 1 else None
