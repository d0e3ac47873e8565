"""Comparisons in words, and the tasks on which a trained model has lost.

A sentence gives the observation, its interval, and what the data leave open. A bound never appears without the
observation. "No difference" never appears without the effect that could have been detected.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from store.comparison import Comparison
from store.records import LM_EVAL, MATH_VERIFY
from store.results import Measure
from store.wording import MINUS, human, is_detectable, unsigned

Standing = Literal["kept", "lost", "unclear"]

# With fewer documents a bootstrap interval is too narrow: three nearly equal documents give zero width.
FEWEST = 20


@dataclass(frozen=True, slots=True)
class Watched:
    """Result of the regression watch for b against a on one task.

    Attributes:
        arm: name of b.
        loss: rate of a less rate of b; for perplexities the relative increase of b.
        largest_loss: upper end of the loss's interval.
        margin: tolerated loss, a fraction.
        standing: `kept` if the whole interval of the loss is below the margin (b is not inferior), from at least
            FEWEST documents. `lost` if it is above the margin. `unclear`: neither, so more questions are needed.
    """

    task: str
    # Name of b.
    arm: str
    # Rate of a less rate of b; for perplexities the relative increase of b.
    loss: float
    # Upper end of the loss's interval.
    largest_loss: float
    margin: float
    standing: Standing
    measure: Measure = "accuracy"


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Return one sentence on one pair of models.

    It describes the first task in full, then losses, gains and open tasks.
    """
    if not comparisons:
        return "nothing to compare"
    first, others = comparisons[0], comparisons[1:]
    accuracies = [row for row in others if row.measure == "accuracy"]
    parts = [
        _on_one_task(first, named=bool(others)),
        *_shown("loses", [row for row in accuracies if row.ci_high < 0]),
        *_shown("gains", [row for row in accuracies if row.ci_low > 0]),
        *_open([row for row in accuracies if not _is_shown(row)]),
        *(_on_one_task(row, named=True) for row in others if row.measure == "perplexity"),
    ]
    return "; ".join(parts)


def verdicts(comparisons: Sequence[Comparison]) -> list[str]:
    """Return one sentence for each pair of models, in input order."""
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for row in comparisons:
        pairs.setdefault((row.a, row.b), []).append(row)
    return [verdict(rows) for rows in pairs.values()]


def run_watch(comparisons: Sequence[Comparison], settings: Mapping[str, Any]) -> list[Watched]:
    """Return a run's regression watch: each arm against the first.

    It covers the tasks of the suite. If both this project's grader and lm-eval judged a task, both results
    are watched.
    Args:
        settings: the profile's `eval` section.
    """
    suite, tasks = settings.get("suite", ()), {row.task for row in comparisons}
    watched = [
        row for row in comparisons if row.a == comparisons[0].a and _is_watched(row.task, suite, tasks)
    ]
    return regression_watch(watched, settings["margin"])


def regression_watch(comparisons: Sequence[Comparison], margin: float) -> list[Watched]:
    """Test each task for non-inferiority of b: a loss less than `margin`.

    `margin` is a fraction. A two-sided 95 % interval makes this a one-sided test at 2.5 %.
    """
    return [_watched(row, margin) for row in comparisons]


def _is_watched(task: str, suite: Collection[str], tasks: Collection[str]) -> bool:
    name = task.removesuffix(MATH_VERIFY)
    if name.endswith(LM_EVAL):
        return name.removesuffix(LM_EVAL) in suite
    return name in suite and name + LM_EVAL not in tasks


def _watched(row: Comparison, margin: float) -> Watched:
    gain, low, high = row.gain
    kept = -low < margin and row.n >= FEWEST
    standing: Standing = "kept" if kept else "lost" if -high > margin else "unclear"
    return Watched(row.task, row.b, -gain, -low, margin, standing, row.measure)


def _is_shown(row: Comparison) -> bool:
    """Return True if the interval excludes zero."""
    return row.ci_low > 0 or row.ci_high < 0


def _on_one_task(row: Comparison, named: bool) -> str:
    """Describe one task; `named` includes the task's name."""
    on = f" on {row.task}" if named and row.task and row.measure == "accuracy" else ""
    return _difference(row, on) if _is_shown(row) else _no_difference(row, on)


def _difference(row: Comparison, on: str) -> str:
    a, b = _names(row)
    if row.measure == "perplexity":
        word = "above" if row.difference > 0 else "below"
        return (
            f"perplexity of {b} on {row.task} {word} that of {a} by {_size(row)} %, "
            f"{_size_interval(row)}{_corrected(row)}"
        )
    high, low = (b, a) if row.difference > 0 else (a, b)
    return f"{high} above {low}{on} by {_size(row)} points, {_size_interval(row)}{_corrected(row)}"


def _no_difference(row: Comparison, on: str) -> str:
    a, b = _names(row)
    unit, on = ("%", f" in perplexity on {row.task}") if row.measure == "perplexity" else ("points", on)
    return (
        f"no difference shown between {b} and {a}{on}: {_points(row.difference)} {unit}, "
        f"{_confidence(row)} {_points(row.ci_low)} to {_points(row.ci_high)}; {_detectable(row, unit)}"
    )


def _detectable(row: Comparison, unit: str) -> str:
    if not is_detectable(row.minimum_detectable_effect, row.measure):
        return "with so little data no difference, however large, would have been found 4 times in 5"
    effect = unsigned(row.minimum_detectable_effect)
    return f"a true difference of {effect} {unit} would have been found 4 times in 5"


def _shown(verb: str, rows: Sequence[Comparison]) -> list[str]:
    """Describe the tasks that b loses or gains on, largest first."""
    if not rows:
        return []
    ranked = sorted(rows, key=lambda row: -abs(row.difference))
    listed = [
        f"{unsigned(row.difference)} points on {row.task} ({_size_interval(row)}{_corrected(row)})"
        for row in ranked
    ]
    return [f"{_names(rows[0])[1]} {verb} {', '.join(listed)}"]


def _open(rows: Sequence[Comparison]) -> list[str]:
    """Describe tasks with zero inside their intervals.

    The losses that they do not exclude are included.
    """
    if not rows:
        return []
    b = _names(rows[0])[1]
    observed = min(rows, key=lambda row: row.difference)
    bound = min(rows, key=lambda row: row.ci_low)
    weakest = max(rows, key=lambda row: row.minimum_detectable_effect)
    several = len(rows) > 1
    tasks = f"{len(rows)} other tasks" if several else rows[0].task or "1 other task"
    interval = f"{_confidence(observed)} {_points(observed.ci_low)} to {_points(observed.ci_high)}"
    if _points(observed.difference).startswith(MINUS):
        size = f"{unsigned(observed.difference)} points{_at(observed, several)} ({interval})"
        seen = f"the {'largest ' * several}observed loss of {b} is {size}"
    else:
        seen = f"no loss of {b} was observed"
    return [
        f"no difference shown on {tasks}: {seen}; losses up to {unsigned(min(bound.ci_low, 0.0))} points"
        f"{_at(bound, several)} are compatible with the data; {_detectable(weakest, 'points')}{_at(weakest, several)}"
    ]


def _at(row: Comparison, several: bool) -> str:
    """Return the task that a figure belongs to, if it is one of several."""
    return f" on {row.task}" if several else ""


def _corrected(row: Comparison) -> str:
    """Return a caveat if Holm's correction leaves chance as an explanation.

    Otherwise, return an empty string.
    """
    if row.p_value_holm <= 1 - row.confidence:
        return ""
    return f"; not significant after Holm's correction, p {row.p_value_holm:.2g}"


def _size(row: Comparison) -> str:
    """Return the size of a difference.

    A size that rounds to zero is `less than 0.1`.
    """
    size = unsigned(row.difference)
    return "less than 0.1" if size == "0.0" else size


def _size_interval(row: Comparison) -> str:
    """Return the interval of the size of a difference, smaller end first."""
    low, high = sorted((row.ci_low, row.ci_high), key=abs)
    return f"{_confidence(row)} {unsigned(low)} to {unsigned(high)}"


def _confidence(row: Comparison) -> str:
    return f"{row.confidence * 100:g} % interval"


def _points(fraction: float) -> str:
    # Adding 0.0 turns −0.0 into 0.0.
    rounded = round(fraction * 100, 1) + 0.0
    return human(f"{rounded:.1f}")


def _names(row: Comparison) -> tuple[str, str]:
    """Return the arm names if they differ, else the whole labels.

    SFT and GRPO are in capitals.
    """
    short = row.a.rpartition("/")[2], row.b.rpartition("/")[2]
    a, b = short if short[0] != short[1] else (row.a, row.b)
    return _display_name(a), _display_name(b)


def _display_name(name: str) -> str:
    return re.sub(r"\b(sft|grpo)\b", lambda word: word[0].upper(), name)
