"""The experiment's answer as text: every arm's rate, every pair's difference, and a verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mathrl_tui.commands.printing import table
from mathrl_tui.core.text import percent, points

if TYPE_CHECKING:
    from store.comparison import Comparison
    from store.query import Store
    from store.results import EvalSummary
    from store.verdict import Watched


def results(store: Store, run_id: str) -> str:
    """Evaluations, comparisons, verdicts and the regression watch of a run; empty where nothing was evaluated."""
    from store.comparison import run_comparisons
    from store.verdict import regression_watch, verdicts

    evaluations = store.evaluations(run_id)
    if not evaluations:
        return ""
    comparisons = run_comparisons(store, run_id)
    parts = [evaluation_table(evaluations)]
    if comparisons:
        parts += [comparison_table(comparisons), "\n".join(verdicts(comparisons)), _reach(comparisons)]
    settings = store.config(run_id)["profile"]["eval"]
    against_first = [
        row for row in comparisons if row.a == comparisons[0].a and row.task in settings.get("suite", ())
    ]
    if against_first:
        parts.append(watch_table(regression_watch(against_first, settings["margin"])))
    return "\n\n".join(parts)


def evaluation_table(rows: Sequence[EvalSummary]) -> str:
    """One line an arm and task, with Wilson's 95 % interval."""
    return table(
        ("arm", "task", "step", "questions", "correct", "95 % interval", "tokens", "cut off", "no answer"),
        [
            (
                row.arm,
                row.task,
                str(row.step),
                str(row.n),
                percent(row.rate),
                f"{percent(row.low)} to {percent(row.high)}",
                f"{row.mean_tokens:.0f}",
                str(row.truncated),
                str(row.no_answer),
            )
            for row in rows
        ],
        left=2,
    )


def comparison_table(rows: Sequence[Comparison]) -> str:
    """One line a pair and task; differences are b − a in percentage points."""
    return table(
        (
            "a",
            "b",
            "task",
            "n",
            "a",
            "b",
            "b − a",
            "interval",
            "p",
            "p (Holm)",
            "detectable",
            "a only",
            "b only",
        ),
        [
            (
                row.a,
                row.b,
                row.task or "–",
                str(row.n),
                percent(row.a_rate),
                percent(row.b_rate),
                points(row.difference),
                f"{points(row.ci_low)} to {points(row.ci_high)}",
                _p(row.p_value),
                _p(row.p_value_holm),
                f"{row.minimum_detectable_effect * 100:.1f}",
                str(row.a_only),
                str(row.b_only),
            )
            for row in rows
        ],
        left=3,
    )


def watch_table(rows: Sequence[Watched]) -> str:
    """One line a task that should not be lost on."""
    return table(
        ("task", "arm", "loss", "largest loss", "margin", "standing"),
        [
            (
                row.task or "–",
                row.arm,
                points(row.loss + 0.0),
                points(row.largest_loss),
                f"{row.margin * 100:.1f}",
                row.standing,
            )
            for row in rows
        ],
        left=2,
    )


def _reach(rows: Sequence[Comparison]) -> str:
    """What the intervals hold and what they do not."""
    confidence = f"{rows[0].confidence * 100:g} %"
    return (
        f"Differences in percentage points, with paired {confidence} intervals over the questions; p: mid-p McNemar; "
        "detectable: the true difference that would have been found 4 times in 5.\n"
        "One training seed: how far another would fall from it is not in these intervals; `mathrl-tui compare A B "
        "--pool RUN` holds several seeds."
    )


def _p(value: float) -> str:
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"
