"""Comparisons as rows of a forest plot, with one axis for each measure.

Colours show which model is better.
"""

from __future__ import annotations

from collections.abc import Sequence

from mathrl_tui.core import measure, palette, text
from mathrl_tui.core.intervals import Scale, by_measure, difference_header
from mathrl_tui.core.palette import Look
from store.comparison import Comparison


def ordered(rows: Sequence[Comparison]) -> list[Comparison]:
    """Sort by measure, then by task in input order; pairs keep their order."""
    tasks = list(dict.fromkeys(row.task for row in rows))
    return [
        row
        for group in by_measure(rows).values()
        for row in sorted(group, key=lambda row: tasks.index(row.task))
    ]


def titles(row: Comparison, scale: Scale, room: int) -> tuple[str, str]:
    """Return the titles of two columns: the differences, and their plots.

    The first is unit and coverage. The second is the axis, `room` cells wide.
    """
    of = " of ppl" if row.measure == "perplexity" else ""
    unit = f"{measure.UNITS[row.measure]}{of} [{100 * row.confidence:g} %]"
    return unit, difference_header(scale, room)


def look(row: Comparison) -> Look:
    """Return mark and colour for better, worse or undecided.

    A lower perplexity is better.
    """
    _, low, high = row.gain
    if low > 0:
        return Look("▲", palette.GOOD)
    if high < 0:
        return Look("▼", palette.BAD)
    return Look("○", palette.INK)


def words(row: Comparison) -> str:
    """Format difference and interval in the measure's unit.

    Example: `+12.3 [+8.1, +16.4]`.
    """
    unit = " %" if row.measure == "perplexity" else ""
    return f"{text.points(row.difference)}{unit} [{text.points(row.ci_low)}, {text.points(row.ci_high)}]"


def details(row: Comparison) -> list[str]:
    """Return the data of a comparison, one line each."""
    a, b = (measure.value(rate, row.measure) for rate in (row.a_rate, row.b_rate))
    about = "documents, lower is better" if row.measure == "perplexity" else "questions"
    return [
        f"{row.task}: {row.a} {a}, {row.b} {b} on the same {text.count(row.n)} {about}",
        flips(row),
        f"p {text.p_value(row.p_value)}, corrected for all comparisons {text.p_value(row.p_value_holm)}; "
        f"smallest difference found 4 times in 5: {measure.detectable(row.minimum_detectable_effect, row.measure)}",
    ]


def flips(row: Comparison) -> str:
    """Return on how many questions each of the two is better."""
    if row.measure == "perplexity":
        return f"{row.b} predicts {text.count(row.b_only)} of them better, {row.a} {text.count(row.a_only)}"
    return (
        f"{row.b} alone right on {text.count(row.b_only)}, {row.a} alone right on {text.count(row.a_only)}, "
        f"alike on {text.count(row.n - row.a_only - row.b_only)}"
    )


def markdown(rows: Sequence[Comparison]) -> str:
    """Return the comparisons as a Markdown table.

    Each number has its measure's unit.
    """
    lines = ["| task | a | b | of a | of b | b − a | p (Holm) | n |", "|---|---|---|---|---|---|---|---|"]
    for row in rows:
        a, b = (measure.value(rate, row.measure) for rate in (row.a_rate, row.b_rate))
        difference = words(row) if row.measure == "perplexity" else f"{words(row)} points"
        lines.append(
            f"| {row.task} | {row.a} | {row.b} | {a} | {b} | {difference} | {text.p_value(row.p_value_holm)} "
            f"| {row.n} |"
        )
    return "\n".join(lines)
