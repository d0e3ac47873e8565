"""What comparisons say in words, and which tasks a trained model has lost on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from store.comparison import Comparison

Standing = Literal["kept", "lost", "unclear"]


@dataclass(frozen=True, slots=True)
class Watched:
    """How b stands against a on one task that it should not lose on.

    kept: the whole interval of the loss lies under the margin (b is not inferior). lost: the whole interval lies
    above it. unclear: the interval holds the margin, so more questions are needed.
    """

    task: str
    arm: str  # b
    loss: float  # a's rate less b's
    largest_loss: float  # upper end of the loss's interval
    margin: float
    standing: Standing


def verdict(comparisons: Sequence[Comparison]) -> str:
    """One sentence on one pair of models: the first task in full, the others by the largest loss not ruled out."""
    if not comparisons:
        return "nothing to compare"
    first, others = comparisons[0], comparisons[1:]
    sentence = _difference(first) if first.ci_low > 0 or first.ci_high < 0 else _no_difference(first)
    if others:
        worst = max(0.0, *(-row.ci_low for row in others))
        tasks = "1 other task" if len(others) == 1 else f"{len(others)} other tasks"
        sentence += f"; {tasks}: no loss larger than {_points(worst)}"
    return sentence


def verdicts(comparisons: Sequence[Comparison]) -> list[str]:
    """One sentence for each pair of models, in the order in which the pairs come."""
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for row in comparisons:
        pairs.setdefault((row.a, row.b), []).append(row)
    return [verdict(rows) for rows in pairs.values()]


def regression_watch(comparisons: Sequence[Comparison], margin: float) -> list[Watched]:
    """Non-inferiority of b on each task: no loss of `margin` (a fraction) or more against a.

    A two-sided 95 % interval makes this a one-sided test at 2.5 %.
    """
    return [
        Watched(row.task, row.b, -row.difference, -row.ci_low, margin, _standing(row, margin))
        for row in comparisons
    ]


def _standing(row: Comparison, margin: float) -> Standing:
    if -row.ci_low < margin:
        return "kept"
    return "lost" if -row.ci_high > margin else "unclear"


def _difference(row: Comparison) -> str:
    a, b = _names(row)
    high, low, sign = (b, a, 1) if row.difference > 0 else (a, b, -1)
    ends = sorted((sign * row.ci_low, sign * row.ci_high))
    return f"{high} above {low} by {_points(abs(row.difference))} points, {_interval(row, *ends)}"


def _no_difference(row: Comparison) -> str:
    a, b = _names(row)
    return (
        f"no difference shown between {b} and {a}: {_points(row.difference)} points, "
        f"{_interval(row, row.ci_low, row.ci_high)}; "
        f"a true difference of {_points(row.minimum_detectable_effect)} points would have been found 4 times in 5"
    )


def _interval(row: Comparison, low: float, high: float) -> str:
    return f"{row.confidence * 100:g} % interval {_points(low)} to {_points(high)}"


def _points(fraction: float) -> str:
    rounded = round(fraction * 100, 1) + 0.0  # + 0.0 turns -0.0 into 0.0
    return f"{rounded:.1f}"


def _names(row: Comparison) -> tuple[str, str]:
    """The arms' own names where they differ, else the whole labels; SFT and GRPO as one writes them."""
    short = row.a.rpartition("/")[2], row.b.rpartition("/")[2]
    a, b = short if short[0] != short[1] else (row.a, row.b)
    return _spoken(a), _spoken(b)


def _spoken(name: str) -> str:
    return re.sub(r"\b(sft|grpo)\b", lambda word: word[0].upper(), name)
