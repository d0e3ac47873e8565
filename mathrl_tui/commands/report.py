"""The experiment's answer as text: every arm's rate, every pair's difference, and a verdict in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mathrl_tui.commands.printing import table
from mathrl_tui.core.measure import change, value
from mathrl_tui.core.text import points

if TYPE_CHECKING:
    from store.comparison import Comparison
    from store.query import Store
    from store.results import EvalSummary
    from store.verdict import Watched


def results(store: Store, run_id: str) -> str:
    """Evaluations, comparisons, verdicts and the regression watch of a run; empty where nothing was evaluated."""
    from store.comparison import run_comparisons
    from store.verdict import run_watch, verdicts

    evaluations = store.evaluations(run_id)
    if not evaluations:
        return ""
    comparisons = run_comparisons(store, run_id)
    parts = [evaluation_table(evaluations)]
    if comparisons:
        parts += [comparison_table(comparisons), "\n".join(verdicts(comparisons)), _reach(comparisons)]
    watched = run_watch(comparisons, store.config(run_id)["profile"]["eval"])
    if watched:
        parts.append(watch_table(watched))
    shots = [event.message for event in store.events(run_id, kinds=["input"]) if event.stage == "eval"]
    return "\n\n".join(parts + (["\n".join(dict.fromkeys(shots))] if shots else []))


def evaluation_table(rows: Sequence[EvalSummary]) -> str:
    """One line an arm and task, with Wilson's 95 % interval; pass@k and majority where questions have samples."""
    several = any(row.samples > row.n for row in rows)
    return table(
        (
            *("arm", "task", "step", "questions", "correct", "95 % interval"),
            *(("samples", "pass@k", "majority") if several else ()),
            *("tokens", "cut off", "no answer"),
        ),
        [
            (
                row.arm,
                row.task,
                str(row.step),
                str(row.n),
                value(row.rate, row.measure),
                f"{value(row.low, row.measure)} to {value(row.high, row.measure)}",
                *(_samples(row) if several else ()),
                f"{row.mean_tokens:.0f}",
                str(row.truncated),
                str(row.no_answer),
            )
            for row in rows
        ],
        left=2,
    )


def _samples(row: EvalSummary) -> tuple[str, str, str]:
    return (
        f"{row.samples / row.n:g}",
        value(row.pass_at_k, row.measure),
        value(row.majority, row.measure),
    )


def comparison_table(rows: Sequence[Comparison]) -> str:
    """One line a pair and task; differences are b − a in percentage points, of perplexities in percent of a's."""
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
                value(row.a_rate, row.measure),
                value(row.b_rate, row.measure),
                change(row.difference, row.measure),
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
                change(row.loss + 0.0, row.measure),
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
        "detectable: the true difference that would have been found 4 times in 5. Perplexities (ppl): change in "
        "percent, by document.\n"
        "One training seed: how far another would fall from it is not in these intervals; `mathrl-tui compare A B "
        "--pool RUN` holds several seeds."
    )


def _p(p: float) -> str:
    return "<0.0001" if p < 0.0001 else f"{p:.4f}"
