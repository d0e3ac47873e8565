"""Alarm: a loss or a gradient norm that is NaN or infinite, even once."""

from __future__ import annotations

import math

NAME = "not-finite"
METRICS = frozenset({"train/loss", "train/grad_norm", "val/loss", "kl/mean", "reward/mean", "train/entropy"})


class NotFinite:
    """Fires at each value that is not finite."""

    def take(self, value: float) -> str:
        """Return words for a value that is not finite."""
        return "" if math.isfinite(value) else "the value is not a finite number"
