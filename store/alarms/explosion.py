"""Alarm: finite values far above everything that the series has shown.

A single outlier is normal for a gradient norm, and a loss near zero varies by large factors. So the values must stay
high, and exceed a level that a healthy series of this kind does not reach.
"""

from __future__ import annotations

import math

NAME = "explosion"
# The level below which a value of the metric is never an alarm.
FLOORS = {"train/loss": 1.0, "val/loss": 1.0, "train/grad_norm": 10.0}
# Multiple of the highest value so far.
TIMES = 5.0
# Consecutive values.
ROWS = 3
# Values that make a history.
KNOWN = 20


class Explosion:
    """Fires at the third value in a row above TIMES the highest before."""

    def __init__(self, floor: float) -> None:
        self._floor = floor
        self._highest = 0.0
        self._count = 0
        # The highest of the suspicious values in a row; they join the history when the row ends.
        self._suspects = 0.0
        self._in_a_row = 0

    def take(self, value: float) -> str:
        """Return words for a value that ends a row of high ones."""
        if not math.isfinite(value):
            return ""
        size = abs(value)
        bound = max(self._floor, TIMES * self._highest)
        if self._count >= KNOWN and size > bound:
            self._suspects, self._in_a_row = max(self._suspects, size), self._in_a_row + 1
            if self._in_a_row < ROWS:
                return ""
            words = f"{ROWS} values in a row above {bound:.3g}, {TIMES:.0f} times the highest before"
        else:
            words = ""
            # One outlier does not set a new normal level, but it raises the bound a little.
            size = min(size, bound) if self._count >= KNOWN else size
        self._highest = max(self._highest, self._suspects if words else size)
        self._count, self._suspects, self._in_a_row = self._count + 1, 0.0, 0
        return words
