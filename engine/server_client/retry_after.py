"""Read how long a server asks its client to wait before a retry."""

from __future__ import annotations

import email.utils
import math
import time
from collections.abc import Mapping


def retry_after(headers: Mapping[str, str], longest: float, now: float | None = None) -> float:
    """Return the seconds that a response requests to wait, or 0.

    It reads `retry-after-ms`, or `Retry-After` as seconds or as a date.

    Args:
        headers: of the response, with names in any case.
        longest: upper bound of the result, in seconds.
        now: Unix seconds; None for the present.
    """
    found = {name.lower(): value for name, value in headers.items()}
    value = found.get("retry-after", "")
    seconds = _number(found.get("retry-after-ms", "")) / 1000 or _number(value)
    if not seconds and value and not value[0].isdigit():
        parsed = email.utils.parsedate_tz(value)
        seconds = email.utils.mktime_tz(parsed) - (time.time() if now is None else now) if parsed else 0.0
    return min(max(seconds, 0.0), longest)


def _number(text: str) -> float:
    """Return the number in `text`; 0 if it is not a finite number."""
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0
