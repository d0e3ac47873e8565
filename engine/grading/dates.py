"""Dates: "July 4", "4 July 2021", "the 4th of July", "2021-07-04"."""

from __future__ import annotations

import re
from typing import NamedTuple

_NAMES = "january february march april may june july august september october november december"
_MONTHS = _NAMES.split()
_MONTH = rf"(?P<month>{'|'.join(f'{name[:3]}(?:{name[3:]}|t)?' for name in _MONTHS)})\.?"
_DAY = r"(?P<day>\d{1,2})\s*(?:st|nd|rd|th)?"
_YEAR = r"(?:\s*,?\s*(?P<year>\d{4}))?"
_WEEKDAY = r"(?:on\s+)?(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day\s*,?\s*)?"
_FORMS = tuple(
    re.compile(rf"{_WEEKDAY}{form}\s*\Z", re.IGNORECASE)
    for form in (
        rf"{_MONTH}\s*(?:the\s+)?{_DAY}{_YEAR}",
        rf"(?:the\s+)?{_DAY}\s*(?:of\s+)?{_MONTH}{_YEAR}",
        r"(?P<year>\d{4})-(?P<month>\d{2})-(?P<day>\d{2})",
        r"(?P<year>\d{4})\s*年\s*(?P<month>\d{1,2})\s*月\s*(?P<day>\d{1,2})\s*日",
    )
)
_MAX = 60


class Date(NamedTuple):
    """A day of a year; a year that is not stated is `None`."""

    month: int
    day: int
    year: int | None

    def equals(self, gold: Date) -> bool:
        """Return True if this is the date `gold`.

        A year may be added if `gold` has none.
        """
        return (self.month, self.day) == (gold.month, gold.day) and gold.year in (None, self.year)


def read_date(text: str) -> Date | None:
    """Return the date that the whole of `text` states, or None."""
    if len(text) > _MAX or not any(map(str.isdigit, text)):
        return None
    match = next((found for form in _FORMS if (found := form.match(text.strip()))), None)
    if match is None:
        return None
    name = match["month"].casefold()[:3]
    month = int(name) if name.isdigit() else [known[:3] for known in _MONTHS].index(name) + 1
    day = int(match["day"])
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    return Date(month, day, int(match["year"]) if match["year"] else None)
