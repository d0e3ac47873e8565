"""Rates and differences as pictures in a line of text: a point, its interval, and the scale that all rows share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mathrl_tui.core import palette, text
from mathrl_tui.core.palette import Look
from store.comparison import Comparison
from store.results import EvalSummary

Span = tuple[str, str]
Row = list[Span]


@dataclass(frozen=True, slots=True)
class Scale:
    """The ends of a row of cells, as fractions."""

    start: float
    end: float

    def cell(self, value: float, width: int) -> int:
        """The cell that `value` falls into; values beyond an end fall into the last one."""
        share = (value - self.start) / (self.end - self.start)
        return round(min(max(share, 0.0), 1.0) * (width - 1))


def rate_scale(rows: Sequence[EvalSummary]) -> Scale:
    """From and to a tenth, around all intervals."""
    low = min((row.low for row in rows), default=0.0)
    high = max((row.high for row in rows), default=1.0)
    return Scale(math.floor(low * 10 + 1e-9) / 10, max(math.ceil(high * 10 - 1e-9) / 10, 0.1))


def difference_scale(rows: Sequence[Comparison]) -> Scale:
    """Round ends around zero and all intervals: multiples of 1, 2, 5 or 10 points, a dozen of them at most."""
    low = min((row.ci_low for row in rows), default=0.0)
    high = max((row.ci_high for row in rows), default=0.0)
    low, high = min(low, 0.0), max(high, 0.0)
    grain = next((points / 100 for points in (1, 2, 5) if (high - low) / (points / 100) <= 12), 0.1)
    start, end = math.floor(low / grain + 1e-9) * grain, math.ceil(high / grain - 1e-9) * grain
    return Scale(start, end) if end > start else Scale(-grain, grain)


def interval(low: float, point: float, high: float, scale: Scale, look: Look, width: int) -> Row:
    """`├──●──┤` on the scale; a faint line marks zero where the scale holds it."""
    cells: list[Span] = [(" ", "")] * width
    if scale.start <= 0 <= scale.end:
        cells[scale.cell(0.0, width)] = ("┊", palette.DIM)
    first, last = scale.cell(low, width), scale.cell(high, width)
    for place in range(first, last + 1):
        cells[place] = ("─", look.colour)
    cells[first], cells[last] = ("├", look.colour), ("┤", look.colour)
    cells[scale.cell(point, width)] = (look.mark, f"bold {look.colour}")
    return cells


def rate_header(scale: Scale, width: int) -> str:
    """The scale's ends over a column of intervals."""
    left, right = text.percent(scale.start, 0), text.percent(scale.end, 0)
    return left + " " * max(width - len(left) - len(right), 1) + right


def difference_header(scale: Scale, width: int) -> str:
    """The scale's ends, and zero where it lies, over a column of differences in points."""
    cells = list(" " * width)
    left, right = (text.points(end).split(".")[0] if end else "0" for end in (scale.start, scale.end))
    cells[scale.cell(0.0, width)] = "0"
    if scale.start < 0 and scale.cell(0.0, width) > len(left):
        cells[: len(left)] = left
    if scale.end > 0 and scale.cell(0.0, width) < width - len(right) - 1:
        cells[width - len(right) :] = right
    return "".join(cells)


def difference_look(row: Comparison) -> Look:
    """Above, below, or not told apart from zero: by mark and colour."""
    if row.ci_low > 0:
        return Look("▲", palette.GOOD)
    if row.ci_high < 0:
        return Look("▼", palette.BAD)
    return Look("○", palette.INK)


def difference_words(row: Comparison) -> str:
    """`+12.3 [+8.1, +16.4]` in percentage points."""
    return f"{text.points(row.difference)} [{text.points(row.ci_low)}, {text.points(row.ci_high)}]"


def details(row: Comparison) -> list[str]:
    """What stands behind a comparison, a line each."""
    flips = (
        f"{row.b} alone right on {text.count(row.b_only)}, {row.a} alone right on {text.count(row.a_only)}"
    )
    return [
        f"{row.task}: {row.a} {text.percent(row.a_rate)}, {row.b} {text.percent(row.b_rate)} "
        f"on the same {text.count(row.n)} questions; {flips}",
        f"p {text.p_value(row.p_value)}, corrected for all pairs {text.p_value(row.p_value_holm)}; "
        f"smallest difference found 4 times in 5: {100 * row.minimum_detectable_effect:.1f} points",
    ]
