"""A chart as lines of coloured spans: axes, grid, curves, legend.

curves, view, size ─▶ reduce to the canvas's columns ─▶ draw lines over raw extremes ─▶ rows of spans

Each arm is one braille line. All functions are pure, so whole charts can be tested, and only changed lines
are sent to the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mathrl_tui.core import axis, canvas, chart_head, curve, palette
from mathrl_tui.core.curve import EMPTY, Array, Curve
from mathrl_tui.core.palette import Look
from mathrl_tui.core.spans import Row

XAxis = Literal["step", "time", "tokens"]
X_AXES: tuple[XAxis, ...] = ("step", "time", "tokens")
# Smoothing, in steps.
MEMORIES = (0, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
DEEPEST_ZOOM = 8

Bits = NDArray[np.uint16]

# Cells left of the canvas: labels and the axis line.
_GUTTER = 9
# Maximum number of entries that get a mark each.
_FEW = 40


@dataclass(frozen=True, slots=True)
class View:
    """The visible part of the curves, shared by all charts of a screen.

    `memory` is an index into MEMORIES. The window is the whole divided by 2 ** `zoom`.
    `offset` is the distance from the window's end to the whole's end, as a fraction of the whole.
    """

    x: XAxis = "step"
    memory: int = 2
    zoom: int = 0
    offset: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """The curve of one arm.

    `tokens`, the tokens of each step, gives its place on the token axis.
    If `runs` is not 0, the curve is the smoothed mean of that number of runs, with the range of all
    (`mean_curve.joined`). `newest` is the last recorded value, if it is known; a reduced curve ends with a mean.
    `live` marks the arm that is being computed.
    """

    name: str
    look: Look
    curve: Curve
    tokens: Curve = EMPTY
    runs: int = 0
    newest: float | None = None
    live: bool = False

    def smoothed(self, memory: float) -> Array:
        """Return the smoothed middle of the curve, (entries,).

        `memory` is in steps.
        """
        if self.runs:
            return self.curve.mean
        return curve.smoothed(self.curve.step, self.curve.mean, memory)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A line ready for the canvas.

    It has unscaled heights (2 * columns,), one for each dot column.
    """

    look: Look
    low: Array
    high: Array
    middle: Array
    # Columns whose entries are all NaN or infinite.
    broken: NDArray[np.bool_]
    # x positions of single entries, if they are few.
    marks: Array
    mark_heights: Array


def draw(
    title: str,
    lines: Sequence[Line],
    view: View,
    width: int,
    height: int,
    *,
    percent: bool = False,
    log: bool = False,
    focused: bool = False,
    held: Sequence[float] = (),
) -> list[Row]:
    """Draw the chart as `height` rows of exactly `width` cells.

    The rows are title and legend, canvas, and x-axis.

    Args:
        percent: label fractions as percent.
        log: use a log10 y-axis.
        focused: highlight the title.
        held: values that a linear y-axis always includes.
    """
    shown = [(one, _positions(one, view.x)) for one in lines if len(one.curve)]
    shown = [(one, x) for one, x in shown if len(x)]
    joined = any(one.runs for one, _ in shown)
    title += (" · mean" if joined else "") + (" · log" if log else "")
    head = chart_head.legend(
        title, [one for one, _ in shown], MEMORIES[view.memory], width, percent=percent, focused=focused
    )
    rows, columns = height - 3, width - _GUTTER
    if rows < 2 or columns < 12:
        return _padded([head], width, height)
    if not shown:
        return _padded([head, *_empty(lines, view, width, height - 1)], width, height)
    x_axis = _window(shown, view, max(columns // 12, 2))
    drawn = [_reduced(one, x, view, x_axis, columns, log) for one, x in shown]
    extremes = _extremes(drawn, () if log else held)
    if extremes is None:
        why = (
            "nothing above zero in this window: press l for a linear axis"
            if log
            else "no number in this window"
        )
        return _padded([head, *note(why, width, height - 1)], width, height)
    y_axis = axis.value_axis(*extremes, max(rows * 2 // 5, 2), log=log, percent=percent)
    body = _canvas(drawn, x_axis, y_axis, columns, rows, smooth=view.memory > 0 or joined)
    return _padded([head, *body, *_foot(x_axis, view.x, columns)], width, height)


def window(view: View, start: float, end: float) -> tuple[float, float]:
    """Return the ends of the visible part of [start, end], in the same unit."""
    whole = end - start
    span = whole / 2**view.zoom
    right = end - min(view.offset * whole, whole - span)
    return right - span, right


def _positions(one: Line, kind: XAxis) -> Array:
    """Return the x positions of the line's entries.

    Returns: empty if the axis cannot place them.
    """
    if kind == "step":
        return one.curve.step
    if kind == "time":
        if not one.curve.is_timed:
            # The times have been requested but are not loaded yet.
            return EMPTY.ts
        return np.maximum.accumulate(one.curve.ts - one.curve.ts[0])
    if not len(one.tokens):
        return one.tokens.step
    return np.interp(one.curve.step, one.tokens.step, curve.cumulative(one.tokens))


def _window(shown: Sequence[tuple[Line, Array]], view: View, parts: int) -> axis.Axis:
    start = min(float(x[0]) for _, x in shown)
    end = max(float(x[-1]) for _, x in shown)
    start = 0.0 if start <= 0.25 * end else start
    whole = axis.position_axis(start, end, parts, view.x, snap=True)
    if not view.zoom:
        return whole
    return axis.position_axis(*window(view, whole.start, whole.end), parts, view.x, snap=False)


def _reduced(one: Line, x: Array, view: View, x_axis: axis.Axis, columns: int, log: bool) -> _Drawn:
    """Reduce the line's extremes and smoothed middle to dot columns.

    With `log`, take log10.
    """
    smooth = one.smoothed(MEMORIES[view.memory])
    low, high = one.curve.low, one.curve.high
    if log:
        low, high, smooth = _log10(low), _log10(high), _log10(smooth)
    ends = (x_axis.start, x_axis.end)
    least, most = curve.columns(x, low, high, *ends, 2 * columns)
    first, last = curve.columns(x, smooth, smooth, *ends, 2 * columns)
    gap = np.where(np.isnan(one.curve.mean) & (one.curve.nans + one.curve.infs > 0), 1.0, 0.0)
    _, most_gap = curve.columns(x, gap, gap, *ends, 2 * columns)
    middle = (first + last) / 2
    broken = (most_gap > 0) & np.isnan(middle)
    inside = (x >= x_axis.start) & (x <= x_axis.end)
    few = int(inside.sum()) <= min(_FEW, columns // 3)
    inside &= few
    return _Drawn(one.look, least, most, middle, broken, x[inside], smooth[inside])


def _log10(value: Array) -> Array:
    found: Array = np.log10(np.where(value > 0, value, np.nan))
    return found


def _extremes(drawn: Sequence[_Drawn], held: Sequence[float]) -> tuple[float, float] | None:
    """Return the lowest and highest height of all lines.

    If there are many raw values, the outer 1 % is left out.
    """
    raw = np.concatenate([part for one in drawn for part in (one.low, one.high)])
    raw = raw[np.isfinite(raw)]
    if not len(raw):
        return None
    middle = np.concatenate([one.middle for one in drawn])
    ends = np.quantile(raw, (0.01, 0.99)) if len(raw) > 200 else (raw.min(), raw.max())
    heights = np.concatenate((ends, middle[np.isfinite(middle)], held))
    return float(heights.min()), float(heights.max())


def _canvas(
    drawn: Sequence[_Drawn], x_axis: axis.Axis, y_axis: axis.Axis, columns: int, rows: int, *, smooth: bool
) -> list[Row]:
    """Return rows of gutter and canvas.

    Smoothed lines are drawn over raw extremes, later arms on top.
    """
    bands = [canvas.band(_share(one.low, y_axis), _share(one.high, y_axis), 4 * rows) for one in drawn]
    lines = [canvas.line(_share(one.middle, y_axis), 4 * rows, one.broken) for one in drawn]
    colours = [one.look.colour for one in drawn]
    if smooth:
        under = _laid(bands, rows, columns)
        over = _laid(lines, rows, columns)
        bits = np.where(over[1] >= 0, over[0], under[0])
        owner = np.where(over[1] >= 0, over[1] + len(drawn), under[1])
    else:
        bits, owner = _laid([line | band for line, band in zip(lines, bands, strict=True)], rows, columns)
    styles = ([f"{colour} dim" for colour in colours] if smooth else []) + colours
    marks = _marks(drawn, x_axis, y_axis, columns, rows)
    labels = {
        _row_of(tick, y_axis, rows): label for tick, label in zip(y_axis.ticks, y_axis.labels, strict=True)
    }
    return [
        _canvas_row(bits[row], owner[row], marks.get(row, {}), styles, labels.get(row)) for row in range(rows)
    ]


def _share(value: Array, y_axis: axis.Axis) -> Array:
    return (value - y_axis.start) / (y_axis.end - y_axis.start)


def _laid(layers: Sequence[canvas.Dots], rows: int, columns: int) -> tuple[Bits, NDArray[np.int64]]:
    """Return braille bits of all layers, and each cell's top layer (−1: none)."""
    bits = np.zeros((rows, columns), dtype=np.uint16)
    owner = np.full((rows, columns), -1, dtype=np.int64)
    for index, dots in enumerate(layers):
        laid = canvas.cells(dots)
        bits |= laid
        owner[laid > 0] = index
    return bits, owner


def _marks(
    drawn: Sequence[_Drawn], x_axis: axis.Axis, y_axis: axis.Axis, columns: int, rows: int
) -> dict[int, dict[int, Look]]:
    """Return marks by row and column.

    If a line has few entries, each has a mark; otherwise only the newest has one.
    """
    places: dict[int, dict[int, Look]] = {}
    for one in drawn:
        known = np.flatnonzero(~np.isnan(one.middle))
        if len(known) and not len(one.marks):
            newest = int(known[-1]) // 2
            places.setdefault(_row_of(float(one.middle[known[-1]]), y_axis, rows), {})[newest] = one.look
        share = (one.marks - x_axis.start) / (x_axis.end - x_axis.start)
        for column, mark_height in zip(
            (share * (columns - 1) + 0.5).astype(int), one.mark_heights, strict=True
        ):
            if mark_height == mark_height:
                places.setdefault(_row_of(float(mark_height), y_axis, rows), {})[int(column)] = one.look
    return places


def _row_of(value: float, y_axis: axis.Axis, rows: int) -> int:
    share = (value - y_axis.start) / (y_axis.end - y_axis.start)
    dot = round((1 - min(max(share, 0.0), 1.0)) * (4 * rows - 1))
    return int(dot) // 4


def _canvas_row(
    bits: Bits,
    owner: NDArray[np.int64],
    marks: dict[int, Look],
    styles: Sequence[str],
    label: str | None,
) -> Row:
    row: Row = [
        (f"{(label or '')[: _GUTTER - 2]:>{_GUTTER - 2}} ", palette.DIM),
        ("┤" if label else "│", palette.FAINT),
    ]
    blank = "┈" if label else " "
    for column, (pattern, tag) in enumerate(zip(bits.tolist(), owner.tolist(), strict=True)):
        if column in marks:
            span = (marks[column].mark, marks[column].colour)
        elif pattern:
            span = (chr(0x2800 + pattern), styles[tag])
        else:
            span = (blank, palette.FAINT)
        if row[-1][1] == span[1]:
            row[-1] = (row[-1][0] + span[0], span[1])
        else:
            row.append(span)
    return row


def _foot(x_axis: axis.Axis, kind: XAxis, columns: int) -> list[Row]:
    """Return the x-axis line with ticks, and its labels with the unit."""
    line, labels = ["─"] * columns, [" "] * (columns + _GUTTER)
    for tick, label in zip(x_axis.ticks, x_axis.labels, strict=True):
        column = round((tick - x_axis.start) / (x_axis.end - x_axis.start) * (columns - 1))
        line[column] = "┬"
        begin = min(max(_GUTTER + column - len(label) // 2, _GUTTER - 1), len(labels) - len(label))
        if all(cell == " " for cell in labels[max(begin - 1, 0) : begin + len(label) + 1]):
            labels[begin : begin + len(label)] = label
    labels[: len(kind)] = kind
    return [
        [(" " * (_GUTTER - 1), palette.DIM), ("└" + "".join(line), palette.FAINT)],
        [("".join(labels), palette.DIM)],
    ]


def _empty(lines: Sequence[Line], view: View, width: int, height: int) -> list[Row]:
    if view.x == "tokens" and any(len(one.curve) for one in lines):
        return note("no token counts were recorded: press x for another axis", width, height)
    return note("no values yet", width, height)


def note(message: str, width: int, height: int) -> list[Row]:
    """Return a sentence in the middle of a place of `height` rows."""
    above = max((height - 1) // 2, 0)
    return [*([[]] * above), [(message[:width].center(width), palette.DIM)]]


def _padded(rows: list[Row], width: int, height: int) -> list[Row]:
    """Pad or cut to exactly `height` rows of `width` cells."""
    full = (rows + [[] for _ in range(height)])[:height]
    return [_filled(row, width) for row in full]


def _filled(row: Row, width: int) -> Row:
    length = sum(len(part) for part, _ in row)
    if length < width:
        return [*row, (" " * (width - length), palette.INK)]
    return row if length == width else _cut(row, width)


def _cut(row: Row, width: int) -> Row:
    kept: Row = []
    for part, style in row:
        if width <= 0:
            break
        kept.append((part[:width], style))
        width -= len(part)
    return kept
