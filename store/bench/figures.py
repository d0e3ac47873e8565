"""What a benchmark gives: figures beside their targets, and the table that shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value; `target` is its upper bound, or its lower one where `at_least`."""

    name: str
    value: float
    target: float
    unit: str
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Whether the target is met."""
        return self.value >= self.target if self.at_least else self.value <= self.target


def percentile(seconds: Sequence[float], share: float) -> float:
    """The `share` (0 to 100) percentile of durations, in milliseconds; nan of none."""
    return float(np.percentile(seconds, share)) * 1000 if len(seconds) else float("nan")


def table(figures: Iterable[Figure]) -> str:
    """The figures as aligned lines: name, figure, target, whether it is met."""
    lines = [f"{'':46}{'figure':>10}  {'target':>12}"]
    for each in figures:
        sign = "≥" if each.at_least else "≤"
        target = f"{sign} {each.target:g} {each.unit}"
        lines.append(f"{each.name:46}{each.value:10.4g}  {target:>12}  {'met' if each.met else 'MISSED'}")
    return "\n".join(lines)
