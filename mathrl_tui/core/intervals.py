"""Intervals drawn as text, on one scale for all rows of a measure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mathrl_tui.core import axis, palette, text
from mathrl_tui.core.palette import Look
from mathrl_tui.core.spans import Row, Span
from store.comparison import Comparison
from store.results import EvalSummary, Measure


class HasMeasure(Protocol):
    """A row that has a measure: an evaluation, a comparison or a watched task."""

    @property
    def measure(self) -> Measure:
        """Return what the row measures: accuracy or a perplexity."""


Kind = TypeVar("Kind", bound=HasMeasure)


def by_measure(rows: Iterable[Kind]) -> dict[Measure, list[Kind]]:
    """Group rows by measure, accuracies first.

    Points and perplexities never share an axis.
    """
    found: dict[Measure, list[Kind]] = {}
    for row in sorted(rows, key=lambda row: row.measure != "accuracy"):
        found.setdefault(row.measure, []).append(row)
    return found


@dataclass(frozen=True, slots=True)
class Scale:
    """Ends of a row of cells.

    They are fractions for rates and differences, else perplexities.
    """

    start: float
    end: float

    def cell(self, value: float, width: int) -> int:
        """Return the cell of `value`.

        Values beyond an end map to the last cell there.
        """
        share = (value - self.start) / (self.end - self.start)
        return round(min(max(share, 0.0), 1.0) * (width - 1))


def value_scale(rows: Sequence[EvalSummary]) -> Scale:
    """Return the ends of an axis that contains all intervals of `rows`.

    For rates, the ends are multiples of 0.1. For perplexities, they are multiples of a round step, which
    divides the axis into ten parts at most. `rows` must have at least one row.
    """
    low, high = min(row.low for row in rows), max(row.high for row in rows)
    if rows[0].measure == "perplexity":
        grain = axis.round_step(max(high - low, 0.01), 10)
        return Scale(math.floor(low / grain) * grain, math.ceil(high / grain) * grain)
    return Scale(math.floor(low * 10 + 1e-9) / 10, max(math.ceil(high * 10 - 1e-9) / 10, 0.1))


def difference_scale(rows: Sequence[Comparison], *others: float) -> Scale:
    """Return round ends around zero, all intervals and `others`.

    The step is 1, 2, 5 or 10 points, with a dozen steps at most.
    """
    low = min(0.0, *others, *(row.ci_low for row in rows))
    high = max(0.0, *others, *(row.ci_high for row in rows))
    grain = next((points / 100 for points in (1, 2, 5) if (high - low) / (points / 100) <= 12), 0.1)
    start, end = math.floor(low / grain + 1e-9) * grain, math.ceil(high / grain - 1e-9) * grain
    return Scale(start, end) if end > start else Scale(-grain, grain)


def interval(
    low: float, point: float, high: float, scale: Scale, look: Look, width: int, margin: float | None = None
) -> Row:
    """Draw `├──●──┤` on the scale.

    Faint lines mark zero and the `margin`, if given.
    """
    cells: list[Span] = [(" ", "")] * width
    if scale.start <= 0 <= scale.end:
        cells[scale.cell(0.0, width)] = ("┊", palette.DIM)
    first, last = scale.cell(low, width), scale.cell(high, width)
    for place in range(first, last + 1):
        cells[place] = ("─", look.colour)
    cells[first], cells[last] = ("├", look.colour), ("┤", look.colour)
    if margin is not None:
        place = scale.cell(margin, width)
        cells[place] = ("┼" if first < place < last else "╎", palette.WARN)
    cells[scale.cell(point, width)] = (look.mark, f"bold {look.colour}")
    return cells


def value_header(scale: Scale, width: int, measure: Measure) -> str:
    """Return the scale's ends as a header over a column of intervals."""
    left, right = (
        text.number(round(end, 6)) if measure == "perplexity" else text.percent(end, 0)
        for end in (scale.start, scale.end)
    )
    return left + " " * max(width - len(left) - len(right), 1) + right


def difference_header(scale: Scale, width: int) -> str:
    """Return the scale's ends and zero as a header.

    Differences are in points or percent.
    """
    cells = list(" " * width)
    left, right = (text.points(end).split(".")[0] if end else "0" for end in (scale.start, scale.end))
    cells[scale.cell(0.0, width)] = "0"
    if scale.start < 0 and scale.cell(0.0, width) > len(left):
        cells[: len(left)] = left
    if scale.end > 0 and scale.cell(0.0, width) < width - len(right) - 1:
        cells[width - len(right) :] = right
    return "".join(cells)
