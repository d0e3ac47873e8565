"""A chart as lines of coloured spans: axes, a grid, one braille line an arm over its raw extremes, a legend.

Pure: curves, a view and a size go in, spans come out, so that whole pictures can be tested and only changed lines
need be sent to the terminal. Every series is reduced to the canvas before anything is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mathrl_tui.core import axis, canvas, curve, palette, text
from mathrl_tui.core.curve import EMPTY, Array, Curve
from mathrl_tui.core.palette import Look

XAxis = Literal["step", "time", "tokens"]
X_AXES: tuple[XAxis, ...] = ("step", "time", "tokens")
MEMORIES = (0, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # smoothing, steps
DEEPEST_ZOOM = 8

Span = tuple[str, str]  # text, style
Row = list[Span]
Bits = NDArray[np.uint16]

_GUTTER = 9  # cells left of the canvas: labels and the axis line
_FEW = 40  # entries that still get a mark each


@dataclass(frozen=True, slots=True)
class View:
    """What of the curves is shown: shared by all charts of a screen, but for `log`."""

    x: XAxis = "step"
    memory: int = 2  # smoothing, index into MEMORIES
    zoom: int = 0  # the window is the whole divided by 2 ** zoom
    offset: float = 0.0  # how far the window's end lies before the whole's, as a share of the whole


@dataclass(frozen=True, slots=True)
class Line:
    """One arm's curve. `tokens` (those of each step) places it on the token axis.

    Where `runs` is not 0 the curve is the mean of so many runs over the range of all, smoothed (`spread.together`).
    """

    name: str
    look: Look
    curve: Curve
    tokens: Curve = EMPTY
    runs: int = 0

    def smoothed(self, memory: float) -> Array:
        """The curve's middle, shape (entries,)."""
        if self.runs:
            return self.curve.mean
        return curve.smoothed(self.curve.step, self.curve.mean, memory)


@dataclass(frozen=True, slots=True)
class _Drawn:
    """A line ready for the canvas: heights before scaling, per dot column, shape (2 * columns,)."""

    look: Look
    low: Array
    high: Array
    middle: Array
    marks: Array  # x positions of single entries, when they are few
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
    """The chart as `height` rows of exactly `width` cells: title and legend, canvas, x-axis.

    A linear y-axis holds the values `held` besides what was measured.
    """
    shown = [(one, _positions(one, view.x)) for one in lines if len(one.curve)]
    shown = [(one, x) for one, x in shown if len(x)]
    joined = any(one.runs for one, _ in shown)
    title += (" · mean" if joined else "") + (" · log" if log else "")
    head = _legend(title, [one for one, _ in shown], view, width, percent, focused)
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
        return _padded([head, *_note(why, width, height - 1)], width, height)
    y_axis = axis.value_axis(*extremes, max(rows * 2 // 5, 2), log=log, percent=percent)
    body = _canvas(drawn, x_axis, y_axis, columns, rows, smooth=view.memory > 0 or joined)
    return _padded([head, *body, *_foot(x_axis, view.x, columns)], width, height)


def window(view: View, start: float, end: float) -> tuple[float, float]:
    """The part of [start, end] that the view shows."""
    whole = end - start
    span = whole / 2**view.zoom
    right = end - min(view.offset * whole, whole - span)
    return right - span, right


def _positions(one: Line, kind: XAxis) -> Array:
    """Where the line's entries lie on the x-axis; empty where the axis knows no place for them."""
    if kind == "step":
        return one.curve.step
    if kind == "time":
        if not one.curve.is_timed:
            return EMPTY.ts  # they are on their way
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
    """The line's extremes and smoothed middle in dot columns; log10 of them where `log`."""
    smooth = one.smoothed(MEMORIES[view.memory])
    low, high = one.curve.low, one.curve.high
    if log:
        low, high, smooth = _log10(low), _log10(high), _log10(smooth)
    ends = (x_axis.start, x_axis.end)
    least, most = curve.columns(x, low, high, *ends, 2 * columns)
    first, last = curve.columns(x, smooth, smooth, *ends, 2 * columns)
    inside = (x >= x_axis.start) & (x <= x_axis.end)
    few = int(inside.sum()) <= min(_FEW, columns // 3)
    inside &= few
    return _Drawn(one.look, least, most, (first + last) / 2, x[inside], smooth[inside])


def _log10(value: Array) -> Array:
    found: Array = np.log10(np.where(value > 0, value, np.nan))
    return found


def _extremes(drawn: Sequence[_Drawn], held: Sequence[float]) -> tuple[float, float] | None:
    """Least and greatest height of all lines; the far tails of noisy raw data (1 % each side) are cut off."""
    raw = np.concatenate([part for one in drawn for part in (one.low, one.high)])
    raw = raw[np.isfinite(raw)]
    if not len(raw):
        return None
    middle = np.concatenate([one.middle for one in drawn])
    ends = np.quantile(raw, (0.01, 0.99)) if len(raw) > 200 else (raw.min(), raw.max())
    told = np.concatenate((ends, middle[np.isfinite(middle)], held))
    return float(told.min()), float(told.max())


def _canvas(
    drawn: Sequence[_Drawn], x_axis: axis.Axis, y_axis: axis.Axis, columns: int, rows: int, *, smooth: bool
) -> list[Row]:
    """Rows of gutter and canvas: smoothed lines over the raw extremes, later arms over earlier ones."""
    bands = [canvas.band(_share(one.low, y_axis), _share(one.high, y_axis), 4 * rows) for one in drawn]
    lines = [canvas.line(_share(one.middle, y_axis), 4 * rows) for one in drawn]
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
    """Braille bits of all layers together, and which layer lies on top in each cell (-1: none)."""
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
    """Marks by row and column: of every entry where they are few, else of each line's newest value."""
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
    """The x-axis line with its ticks, and their labels under it; the unit stands at the left."""
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


def _legend(title: str, lines: Sequence[Line], view: View, width: int, percent: bool, focused: bool) -> Row:
    """Title, then each arm's mark, name and newest value (of how many runs) as far as they fit."""
    ground = " on #1f4a66" if focused else " on #1a222c"
    row: Row = [
        ("▌" if focused else " ", palette.ACCENT + ground),
        (f"{title}  ", f"bold {palette.INK}{ground}"),
    ]
    room = width - len(title) - 3
    for one in lines:
        entry = f"{one.name} {_newest(one, view, percent)}" + (f" ({one.runs})" if one.runs else "")
        if len(entry) + 4 > room:
            break
        row += [(f"{one.look.mark} ", one.look.colour + ground), (f"{entry}  ", palette.INK + ground)]
        room -= len(entry) + 4
    return [*row, (" " * (room), palette.INK + ground)]


def _newest(one: Line, view: View, percent: bool) -> str:
    """The line's last value; of several runs the last that all of them have."""
    middle = one.smoothed(MEMORIES[view.memory])
    known = middle[~np.isnan(middle)]
    value = float(known[-1]) if len(known) else float("nan")
    return text.percent(value) if percent else text.number(value)


def _empty(lines: Sequence[Line], view: View, width: int, height: int) -> list[Row]:
    if view.x == "tokens" and any(len(one.curve) for one in lines):
        return _note("no token counts were recorded: press x for another axis", width, height)
    return _note("no values yet", width, height)


def _note(message: str, width: int, height: int) -> list[Row]:
    above = max((height - 1) // 2, 0)
    return [*([[]] * above), [(message[:width].center(width), palette.DIM)]]


def _padded(rows: list[Row], width: int, height: int) -> list[Row]:
    """Exactly `height` rows of `width` cells."""
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
