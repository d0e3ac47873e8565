"""Results of a benchmark: figures with their targets, and their table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    `target` is its upper bound, or its lower bound if `at_least`.
    """

    name: str
    value: float
    target: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Return True if the target is met."""
        return self.value >= self.target if self.at_least else self.value <= self.target


def percentile(seconds: Sequence[float], share: float) -> float:
    """Return a percentile of durations in milliseconds; NaN without durations.

    Args:
        seconds: durations in seconds.
        share: percentile, 0 to 100.
    """
    return float(np.percentile(seconds, share)) * 1000 if len(seconds) else float("nan")


def table(figures: Iterable[Figure]) -> str:
    """Return the figures as aligned lines.

    A line has name, figure, target, and if the target is met.
    """
    lines = [f"{'':46}{'figure':>10}  {'target':>12}"]
    for each in figures:
        sign = "≥" if each.at_least else "≤"
        target = f"{sign} {each.target:g} {each.unit}"
        lines.append(f"{each.name:46}{each.value:10.4g}  {target:>12}  {'met' if each.met else 'MISSED'}")
    return "\n".join(lines)
