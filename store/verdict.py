"""What comparisons say in words, and which tasks a trained model has lost on."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from store.comparison import Comparison
from store.records import LM_EVAL, MATH_VERIFY
from store.results import Measure

Standing = Literal["kept", "lost", "unclear"]


@dataclass(frozen=True, slots=True)
class Watched:
    """How b stands against a on one task that it should not lose on.

    kept: the whole interval of the loss lies under the margin (b is not inferior). lost: the whole interval lies
    above it. unclear: the interval holds the margin, so more questions are needed.
    """

    task: str
    arm: str  # b
    loss: float  # a's rate less b's; of perplexities b's relative increase
    largest_loss: float  # upper end of the loss's interval
    margin: float
    standing: Standing
    measure: Measure = "accuracy"


def verdict(comparisons: Sequence[Comparison]) -> str:
    """One sentence on one pair of models: the first task in full, the others by the largest loss not ruled out."""
    if not comparisons:
        return "nothing to compare"
    first, others = comparisons[0], comparisons[1:]
    sentence = _difference(first) if first.ci_low > 0 or first.ci_high < 0 else _no_difference(first)
    accuracies = [row for row in others if row.measure == "accuracy"]
    if accuracies:
        tasks = "1 other task" if len(accuracies) == 1 else f"{len(accuracies)} other tasks"
        sentence += f"; {tasks}: no loss larger than {_points(_largest_loss(accuracies))}"
    for row in others:
        if row.measure == "perplexity":
            sentence += f"; perplexity on {row.task} up by {_points(_largest_loss([row]))} % at most"
    return sentence


def verdicts(comparisons: Sequence[Comparison]) -> list[str]:
    """One sentence for each pair of models, in the order in which the pairs come."""
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for row in comparisons:
        pairs.setdefault((row.a, row.b), []).append(row)
    return [verdict(rows) for rows in pairs.values()]


def run_watch(comparisons: Sequence[Comparison], settings: Mapping[str, Any]) -> list[Watched]:
    """The regression watch of a run: its arms against the first one, on the tasks of the suite.

    `settings` are the profile's `eval`. Where our grader judged a task beside its stock scorer, both are watched.
    """
    suite, tasks = settings.get("suite", ()), {row.task for row in comparisons}
    watched = [
        row for row in comparisons if row.a == comparisons[0].a and _is_watched(row.task, suite, tasks)
    ]
    return regression_watch(watched, settings["margin"])


def regression_watch(comparisons: Sequence[Comparison], margin: float) -> list[Watched]:
    """Non-inferiority of b on each task: no loss of `margin` (a fraction) or more against a.

    A two-sided 95 % interval makes this a one-sided test at 2.5 %.
    """
    return [_watched(row, margin) for row in comparisons]


def _is_watched(task: str, suite: Collection[str], tasks: Collection[str]) -> bool:
    name = task.removesuffix(MATH_VERIFY)
    if name.endswith(LM_EVAL):
        return name.removesuffix(LM_EVAL) in suite
    return name in suite and name + LM_EVAL not in tasks


def _watched(row: Comparison, margin: float) -> Watched:
    gain, low, high = row.gain
    standing: Standing = "kept" if -low < margin else "lost" if -high > margin else "unclear"
    return Watched(row.task, row.b, -gain, -low, margin, standing, row.measure)


def _largest_loss(rows: Sequence[Comparison]) -> float:
    return max(0.0, *(-row.gain[1] for row in rows))


def _difference(row: Comparison) -> str:
    a, b = _names(row)
    if row.measure == "perplexity":
        word = "above" if row.difference > 0 else "below"
        return (
            f"perplexity of {b} on {row.task} {word} that of {a} by {_points(abs(row.difference))} %, "
            f"{_interval(row, *sorted(abs(end) for end in (row.ci_low, row.ci_high)))}"
        )
    high, low, sign = (b, a, 1) if row.difference > 0 else (a, b, -1)
    ends = sorted((sign * row.ci_low, sign * row.ci_high))
    return f"{high} above {low} by {_points(abs(row.difference))} points, {_interval(row, *ends)}"


def _no_difference(row: Comparison) -> str:
    a, b = _names(row)
    unit, of = ("%", f" in perplexity on {row.task}") if row.measure == "perplexity" else ("points", "")
    return (
        f"no difference shown between {b} and {a}{of}: {_points(row.difference)} {unit}, "
        f"{_interval(row, row.ci_low, row.ci_high)}; "
        f"a true difference of {_points(row.minimum_detectable_effect)} {unit} would have been found 4 times in 5"
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
