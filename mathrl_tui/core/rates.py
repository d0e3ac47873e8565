"""Evaluations in words: prompt form, rate, problems of completions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mathrl_tui.core import measure, text
from mathrl_tui.core.intervals import by_measure
from store.results import EvalSummary

# Suffix of a task's name, as the stage eval builds it.
_FORM = re.compile(r"/(chat|plain|\d+-shot)(?=/|\Z)")


def stem(task: str) -> str:
    """Return the task's name without the form of its prompt."""
    return _FORM.sub("", task)


def forms(tasks: Iterable[str], template: str) -> dict[str, str]:
    """Return the prompt form of each task that has several.

    Examples: `chat`, `plain, 8-shot`. A task with one form is left out.
    A task name without a form uses the run's own: `template`, without examples.
    """
    names = list(dict.fromkeys(tasks))
    asked = {name: [stem(other) for other in names].count(stem(name)) for name in names}
    return {
        name: ", ".join(_FORM.findall(name)) or template or "own" if asked[name] > 1 else "" for name in names
    }


def ordered(rows: Sequence[EvalSummary], arms: Sequence[str]) -> list[EvalSummary]:
    """Sort by measure, task, prompt form and arm.

    Tasks keep input order with their prompt forms adjacent; arms follow the profile.
    """
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
    """Return the number of completions per question."""
    return round(row.samples / row.n)


def words(row: EvalSummary, form: str) -> list[str]:
    """Return an evaluation in words, one line each."""
    asked = f"{row.arm} on {stem(row.task)}{f', prompt {form}' if form else ''}, step {row.step}"
    reached = measure.value(row.rate, row.measure)
    held = f"95 % interval {measure.ends(row.low, row.high, row.measure)}"
    if row.measure == "perplexity":
        count = f"{text.count(row.n)} documents of {row.mean_words or 0.0:,.0f} words on average"
        return [f"{asked}: perplexity {row.rate:.2f}, lower is better, {held}", _listed(count, _window(row))]
    several = samples(row)
    questions = f"{text.count(row.n)} questions"
    if several == 1:
        meaning = "right" if row.correct is not None else "mean score"
        return [
            f"{asked}: {reached} {meaning}, {held}",
            _listed(questions, _cut_off_words(row), _window(row)),
        ]
    return [
        f"{asked}: pass@1 {reached}, {held}",
        f"pass@{several} {text.percent(row.pass_at_k)}: some answer is right; "
        f"majority of {several} {text.percent(row.majority)}: the most frequent one is",
        _listed(questions, f"{several} completions each", _cut_off_words(row), _window(row)),
    ]


def share(count: int | None, row: EvalSummary) -> float | None:
    """Return a count of completions as a fraction of all.

    Returns: None if it does not apply or is not known.
    """
    return None if count is None else count / row.samples


def _cut_off_words(row: EvalSummary) -> str:
    """Return how many completions were cut off, and have no answer.

    Returns: "" if not applicable.
    """
    if row.no_answer is None:
        return ""
    cut = "not recorded" if row.cut_off is None else _counted(row.cut_off, row)
    return f"cut off {cut}, without an answer {_counted(row.no_answer, row)}"


def _counted(count: int, row: EvalSummary) -> str:
    return f"{text.count(count)} ({text.percent(share(count, row))})"


def _window(row: EvalSummary) -> str:
    """Return the window of a suite task, and how many prompts were cut."""
    if row.window_tokens is None:
        return ""
    cut = f", {text.count(row.prompts_cut)} prompts cut at their start" if row.prompts_cut else ""
    return f"window {text.count(row.window_tokens)} tokens{cut}"


def _listed(*parts: str) -> str:
    return ", ".join(filter(None, parts))


def markdown(rows: Sequence[EvalSummary]) -> str:
    """Return the evaluations as a Markdown table.

    Each number has its measure's unit.
    """
    lines = [
        "| task | arm | rate | 95 % interval | n | samples | pass@k | majority | cut off | no answer | prompts cut "
        "| window |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        best, majority = sampled(row)
        counts = (row.cut_off, row.no_answer, row.prompts_cut, row.window_tokens)
        lines.append(
            f"| {row.task} | {row.arm} | {measure.value(row.rate, row.measure)} "
            f"| {measure.ends(row.low, row.high, row.measure)} | {row.n} | {samples(row)} | {best} | {majority} "
            f"| {' | '.join('' if count is None else str(count) for count in counts)} |"
        )
    return "\n".join(lines)


def sampled(row: EvalSummary) -> tuple[str, str]:
    """Return pass@k and the majority's rate as percent texts.

    Both are "" if each question has one answer.
    """
    if samples(row) == 1 or row.pass_at_k is None or row.majority is None:
        return "", ""
    return text.percent(row.pass_at_k), text.percent(row.majority)
