"""Times of day: "3:30 p.m.", "15:30", "noon", "下午3:30"."""

from __future__ import annotations

import re
from typing import NamedTuple

_TIME = re.compile(
    r"(?:(?:at|by|around)\s+)?(?P<half>上午|下午|午前|午後|오전|오후)?\s*(?P<hour>\d{1,2})"
    r"(?:\s*(?::|時|时|點|点|시)\s*(?P<minute>\d{2}|\d(?=\s*[分분]))?(?:\s*[分분])?(?::(?P<second>\d{2}))?)?"
    r"\s*(?:(?P<meridiem>[ap])\.?\s?m\b\.?|(?P<noon>noon)|(?P<midnight>midnight)|o'?clock(?:\s+(?P<meridiem2>[ap])\.?\s?m\b\.?)?"
    r"|hours|hrs?"
    r"|in\s+the\s+(?:(?P<morning>morning)|afternoon|evening))?\s*\.?\Z",
    re.IGNORECASE,
)
_LEAD = re.compile(r"\A(?:[A-Za-z ]{1,30}(?:=|\bis\b|\bat\b))\s*(?=\d)")
_NAMED = {"noon": 720, "midday": 720, "midnight": 0}


class Time(NamedTuple):
    """A time of day.

    Attributes:
        seconds: after midnight.
        half_known: before or after noon is stated, or follows from the hour.
        certain: the text has no other reading.
    """

    seconds: int
    half_known: bool
    certain: bool

    def equals(self, gold: Time) -> bool:
        """Return True if this is the time `gold`.

        If `gold` leaves the half of the day open, either half is accepted.
        """
        if gold.half_known:
            return self.half_known and self.seconds == gold.seconds
        return self.seconds % 43_200 == gold.seconds % 43_200


def read_time(text: str) -> Time | None:
    """Return the time of day that the whole of `text` states, or None."""
    name = text.strip().casefold().rstrip(".")
    if name.removeprefix("12 ") in _NAMED:
        return Time(_NAMED[name.removeprefix("12 ")] * 60, True, True)
    if ":" not in text and not re.search(r"[ap]\.?\s?m|o'?clock|[時时點点시]|noon", text, re.IGNORECASE):
        return None
    match = _TIME.match(_LEAD.sub("", text.strip()))
    if match is None:
        return None
    hour, minute, second = (int(match[part] or 0) for part in ("hour", "minute", "second"))
    half = (match["meridiem"] or match["meridiem2"] or "").lower() or {
        "上午": "a", "午前": "a", "오전": "a", "下午": "p", "午後": "p", "오후": "p"
    }.get(match["half"] or "", "")  # fmt: skip
    if " the " in match.group() and not half:
        half = "a" if match["morning"] else "p"
    half = "p" if match["noon"] else "a" if match["midnight"] else half
    if hour > 23 or minute > 59 or second > 59 or (half and hour > 12 and not match["half"]):
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    certain = bool(half or re.search(r"clock|[時时點点시]", match.group(), re.IGNORECASE))
    return Time(hour * 3600 + minute * 60 + second, bool(half) or hour > 12 or hour == 0, certain)
