"""A single rate: how many of n questions were answered rightly.

Wilson, E. B. (1927), Probable inference, the law of succession, and statistical inference, JASA 22.
"""

from __future__ import annotations

import math

from store.statistics.interval import Interval, two_sided_z


def wilson(successes: float, total: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a rate. `successes` may be fractional (a mean over samples); no rows: 0 to 1."""
    z = two_sided_z(confidence)
    if total == 0:
        return Interval(math.nan, 0.0, 1.0, confidence)
    if not 0 <= successes <= total:
        raise ValueError(f"{successes} successes of {total}: outside 0 to {total}")
    rate = successes / total
    shrink = 1.0 + z * z / total
    centre = (rate + z * z / (2 * total)) / shrink
    half = z / shrink * math.sqrt(rate * (1.0 - rate) / total + z * z / (4.0 * total * total))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == total else centre + half
    return Interval(rate, low, high, confidence)
