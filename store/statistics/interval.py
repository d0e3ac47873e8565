"""An estimate with its interval, and the normal quantile."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True, slots=True)
class Interval:
    """Two-sided interval around an estimate, in the unit of the estimate.

    `confidence` is a fraction.
    """

    estimate: float
    low: float
    high: float
    confidence: float


def two_sided_z(confidence: float) -> float:
    """Return the two-sided normal quantile: 1.96 for 0.95.

    It leaves (1 − confidence) / 2 on each side.

    Raises: ValueError if `confidence` is not between 0 and 1.
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    return NormalDist().inv_cdf((1.0 + confidence) / 2.0)
