"""Evaluations in words: which prompt form a task was asked under, what was reached, and what went amiss."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mathrl_tui.core import measure, text
from mathrl_tui.core.intervals import by_measure
from store.results import EvalSummary

_FORM = re.compile(r"/(chat|plain|\d+-shot)(?=/|\Z)")  # behind a task's name, as the stage eval names tasks


def stem(task: str) -> str:
    """The task's name without the form of its prompt."""
    return _FORM.sub("", task)


def forms(tasks: Iterable[str], template: str) -> dict[str, str]:
    """The prompt form of each task that was asked under several: `chat`, `plain, 8-shot`; empty of the others.

    A form that the name leaves out is the run's own: `template`, and no examples.
    """
    names = list(dict.fromkeys(tasks))
    asked = {name: [stem(other) for other in names].count(stem(name)) for name in names}
    return {
        name: ", ".join(_FORM.findall(name)) or template or "own" if asked[name] > 1 else "" for name in names
    }


def ordered(rows: Sequence[EvalSummary], arms: Sequence[str]) -> list[EvalSummary]:
    """By measure, then by task as they came with its prompt forms side by side, then by arm as the profile has them."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    stems = list(dict.fromkeys(stem(task) for task in tasks))
    place = {arm: index for index, arm in enumerate(arms)}
    return [
        row
        for group in by_measure(rows).values()
        for row in sorted(
            group,
            key=lambda row: (
                stems.index(stem(row.task)),
                tasks.index(row.task),
                place.get(row.arm, len(place)),
                row.arm,
            ),
        )
    ]


def samples(row: EvalSummary) -> int:
    """Completions a question."""
    return round(row.samples / row.n)


def words(row: EvalSummary, form: str) -> list[str]:
    """What an evaluation says, a line each."""
    asked = f"{row.arm} on {stem(row.task)}{f', prompt {form}' if form else ''}, step {row.step}"
    reached = measure.value(row.rate, row.measure)
    held = f"95 % interval {measure.ends(row.low, row.high, row.measure)}"
    if row.measure == "perplexity":
        count = f"{text.count(row.n)} documents of {row.mean_tokens:,.0f} words on average"
        return [f"{asked}: perplexity {row.rate:.2f}, lower is better, {held}", count]
    several = samples(row)
    if several == 1:
        return [f"{asked}: {reached} right, {held}", f"{text.count(row.n)} questions, {_amiss(row)}"]
    return [
        f"{asked}: pass@1 {reached}, {held}",
        f"pass@{several} {text.percent(row.pass_at_k)}: some answer is right; "
        f"majority of {several} {text.percent(row.majority)}: the most frequent one is",
        f"{text.count(row.n)} questions, {several} completions each, {_amiss(row)}",
    ]


def _amiss(row: EvalSummary) -> str:
    return (
        f"cut off {text.count(row.truncated)} ({text.percent(row.truncated / row.samples)}), "
        f"without an answer {text.count(row.no_answer)} ({text.percent(row.no_answer / row.samples)})"
    )


def markdown(rows: Sequence[EvalSummary]) -> str:
    """The evaluations as a table in Markdown, every figure in its measure's unit."""
    lines = [
        "| task | arm | rate | 95 % interval | n | samples | pass@k | majority | truncated | no answer |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = (measure.value(figure, row.measure) for figure in (row.pass_at_k, row.majority))
        best, majority = figures if samples(row) > 1 else ("", "")
        lines.append(
            f"| {row.task} | {row.arm} | {measure.value(row.rate, row.measure)} "
            f"| {measure.ends(row.low, row.high, row.measure)} | {row.n} | {samples(row)} | {best} | {majority} "
            f"| {row.truncated} | {row.no_answer} |"
        )
    return "\n".join(lines)
