"""An estimate with its interval, and the normal quantile that most of them need."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Interval:
    """A two-sided interval of the given confidence around an estimate, all in the estimate's own unit."""

    estimate: float
    low: float
    high: float
    confidence: float


def two_sided_z(confidence: float) -> float:
    """The normal quantile that leaves (1 - confidence) / 2 on either side: 1.96 for 0.95."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    return NormalDist().inv_cdf((1.0 + confidence) / 2.0)
