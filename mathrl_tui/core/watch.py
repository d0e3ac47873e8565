"""The regression watch in words: tasks kept, lost and unsettled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mathrl_tui.core import forest_plot as forest
from mathrl_tui.core import measure, palette, text
from mathrl_tui.core.palette import Look
from store.comparison import Comparison
from store.results import Measure
from store.verdict import FEWEST, Standing, Watched

LOOKS: dict[Standing, Look] = {
    "kept": Look("✓", palette.GOOD),
    "lost": Look("✗", palette.BAD),
    "unclear": Look("?", palette.WARN),
}


@dataclass(frozen=True, slots=True)
class Flag:
    """A watched task of an arm, and its comparison with the first arm.

    The comparison decides the standing.
    """

    watched: Watched
    comparison: Comparison

    @property
    def measure(self) -> Measure:
        """Return the measure of the task."""
        return self.watched.measure

    @property
    def limit(self) -> float:
        """Return the smallest change that is not tolerated, a fraction.

        For a rate it is −margin (a loss), for a perplexity +margin (an increase).
        """
        return self.watched.margin if self.measure == "perplexity" else -self.watched.margin

    @property
    def look(self) -> Look:
        """Return mark and colour of the standing."""
        return LOOKS[self.watched.standing]


def flags(watched: Sequence[Watched], comparisons: Sequence[Comparison]) -> list[Flag]:
    """Return each watched task with its comparison, sorted by task.

    `comparisons` are those of the run; the first arm's come first.
    """
    judged = {(row.task, row.b): row for row in comparisons if row.a == comparisons[0].a}
    tasks = list(dict.fromkeys(one.task for one in watched))
    found = [Flag(one, judged[one.task, one.arm]) for one in watched]
    return sorted(found, key=lambda flag: tasks.index(flag.watched.task))


def summary(found: Sequence[Flag]) -> str:
    """Return one line for all flags: counts by standing, and lost tasks.

    `found` must not be empty.
    """
    counts = {standing: sum(flag.watched.standing == standing for flag in found) for standing in LOOKS}
    lost = [f"{flag.watched.task} of {flag.watched.arm}" for flag in found if flag.watched.standing == "lost"]
    losses = f"lost {', '.join(lost)}" if lost else "none lost"
    return (
        f"{text.count(len(found))} flags against {found[0].comparison.a}: {losses}; "
        f"{counts['unclear']} not settled, {counts['kept']} kept"
    )


def sentence(flag: Flag) -> str:
    """Return a flag in words: observed change, and bound on the loss.

    The bound is an end of the interval.
    """
    one = flag.watched
    seen = _observed(flag)
    margin = measure.amount(one.margin, one.measure)
    most = measure.amount(max(one.largest_loss, 0.0), one.measure)
    match one.standing:
        case "kept":
            held = "its interval excludes a loss" if one.largest_loss <= 0 else f"a loss is {most} at most"
            return f"{one.arm} has kept {one.task}: {seen}; {held}, under the margin of {margin}"
        case "lost":
            _, _, high = flag.comparison.gain
            least = measure.amount(-high, one.measure)
            return f"{one.arm} has lost on {one.task}: {seen}; {least} at least, above the margin of {margin}"
        case _ if flag.comparison.n < FEWEST:
            return (
                f"not settled whether {one.arm} keeps {one.task}: {seen}; {flag.comparison.n} questions are too few, "
                f"{FEWEST} are needed"
            )
        case _:
            return (
                f"not settled whether {one.arm} keeps {one.task}: {seen}; losses up to {most} are compatible "
                f"with the data, the margin is {margin}; more questions are needed"
            )


def _observed(flag: Flag) -> str:
    """Return the observed change: `a loss of 0.5 points observed`."""
    one = flag.watched
    size = measure.amount(one.loss, one.measure)
    if size.startswith("0.0 "):
        return "no change observed"
    rose = "rise in perplexity" if one.measure == "perplexity" else "loss"
    fell = "fall in perplexity" if one.measure == "perplexity" else "gain"
    return f"a {rose if one.loss > 0 else fell} of {size} observed"


def details(flag: Flag) -> str:
    """Return the data of a flag in one line."""
    unit = "" if flag.measure == "perplexity" else " points"
    return f"{forest.details(flag.comparison)[0]}: {forest.words(flag.comparison)}{unit}"


def markdown(found: Sequence[Flag]) -> str:
    """Return the flags as a Markdown table.

    Each number has its measure's unit.
    """
    lines = ["| task | arm | standing | change | loss at most | margin |", "|---|---|---|---|---|---|"]
    for flag in found:
        one = flag.watched
        loss, margin = (measure.amount(max(end, 0.0), one.measure) for end in (one.largest_loss, one.margin))
        change = forest.words(flag.comparison)
        lines.append(f"| {one.task} | {one.arm} | {one.standing} | {change} | {loss} | {margin} |")
    return "\n".join(lines)
