"""Alarm: trainer and sampler disagree about log-probabilities.

Both compute them at the same weights, so only arithmetic may differ.
"""

from __future__ import annotations

import math

NAME = "sampler-mismatch"
METRIC = "sampling/logprob_difference/mean"
# Nats per token, mean of absolute differences: bfloat16 kernels differ by some thousandths.
BOUND = 0.1


class Mismatch:
    """Fires at the first value above the bound.

    The difference is measured rarely, often once a stage.
    """

    def take(self, value: float) -> str:
        """Return words for a value above the bound; NaN is above it, too."""
        return "" if math.isfinite(value) and abs(value) <= BOUND else f"above {BOUND} nats per token"
