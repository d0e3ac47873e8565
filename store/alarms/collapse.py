"""Alarm: a mean that was established and then falls to almost nothing.

It is the collapse of a reward, or of the entropy of a policy. A series that was always near zero has nothing to lose.
"""

from __future__ import annotations

import math
from collections import deque

REWARD = "reward-collapse"
ENTROPY = "entropy-collapse"


class Collapse:
    """Fires when the newest mean is a small fraction of the best one.

    Args:
        rows: number of values of a mean.
        least: the best mean must have reached this level.
        fraction: of the best mean.
        highest: the newest mean must also be below this level.
    """

    def __init__(self, rows: int, least: float, fraction: float, highest: float = math.inf) -> None:
        self._values: deque[float] = deque(maxlen=rows)
        self._least, self._fraction, self._highest = least, fraction, highest
        self._best = -math.inf

    def take(self, value: float) -> str:
        """Return words for a value that completes a collapse."""
        if not math.isfinite(value):
            return ""
        self._values.append(value)
        rows = len(self._values)
        if rows < (self._values.maxlen or 0):
            return ""
        mean = math.fsum(self._values) / rows
        self._best = max(self._best, mean)
        bound = min(self._fraction * self._best, self._highest)
        if self._best < self._least or mean > bound:
            return ""
        return f"the mean of {rows} values fell to {mean:.3g}; the best was {self._best:.3g}"
