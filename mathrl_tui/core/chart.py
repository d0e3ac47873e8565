"""A chart as lines of coloured spans: axes, grid, curves, legend.

curves, view, size ─▶ reduce to the canvas's columns ─▶ draw lines over raw extremes ─▶ rows of spans

Each arm is one braille line. All functions are pure, so whole charts can be tested, and only changed lines
are sent to the terminal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from mathrl_tui.core import axis, chart_head, curve, palette
from mathrl_tui.core.chart_canvas import GUTTER, Drawn, canvas_rows, extremes
from mathrl_tui.core.chart_rows import note, padded
from mathrl_tui.core.curve import EMPTY, Array, Curve
from mathrl_tui.core.palette import Look
from mathrl_tui.core.spans import Row

XAxis = Literal["step", "time", "tokens"]
X_AXES: tuple[XAxis, ...] = ("step", "time", "tokens")
# Weights of the previous average.
SMOOTHING = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99)
DEEPEST_ZOOM = 20.0

# Maximum number of entries that get a mark each.
_FEW = 40
NOTHING_ABOVE_ZERO = "nothing above zero in this window: press l for a linear axis"


@dataclass(frozen=True, slots=True)
class View:
    """The visible part of the curves, shared by all charts of a screen.

    `memory` is an index into SMOOTHING. The window is the whole divided by 2 ** `zoom`.
    `offset` is the distance from the window's end to the whole's end, as a fraction of the whole.
    `log_x` uses log10 of the positions. `cross` is the position of the crosshair, and `anchor` the other end of
    the part that the mouse selects; both are in the unit of `x`.
    """

    x: XAxis = "step"
    memory: int = 4
    zoom: float = 0.0
    offset: float = 0.0
    log_x: bool = False
    cross: float | None = None
    anchor: float | None = None


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

    def smoothed(self, weight: float) -> Array:
        """Return the smoothed middle of the curve, (entries,).

        `weight` is one of SMOOTHING.
        """
        if self.runs:
            return self.curve.mean
        steps = self.curve.step
        memory = curve.memory_of(weight, float(steps[-1] - steps[0]) if len(steps) else 0.0)
        return curve.smoothed(steps, self.curve.mean, memory)


@dataclass(frozen=True, slots=True)
class Marker:
    """An event on the x-axis: its letter, colour, arm, and step."""

    letter: str
    colour: str
    arm: str
    step: float


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
    markers: Sequence[Marker] = (),
) -> list[Row]:
    """Draw the chart as `height` rows of exactly `width` cells.

    The rows are title and legend, canvas, and x-axis.

    Args:
        percent: label fractions as percent.
        log: use a log10 y-axis.
        focused: highlight the title.
        held: values that a linear y-axis always includes.
        markers: events of the lines' arms.
    """
    shown = _placed(lines, view)
    joined = any(one.runs for one, _ in shown)
    title += (" · mean" if joined else "") + (" · log" if log else "")
    cross = _placed_at(view.cross, view)
    head = chart_head.legend(
        title,
        [(one, None if cross is None else entry_at(x, cross)) for one, x in shown],
        SMOOTHING[view.memory],
        width,
        percent=percent,
        focused=focused,
    )
    rows, columns = height - 3, width - GUTTER
    if rows < 2 or columns < 12:
        return padded([head], width, height)
    if not shown:
        return padded([head, *_empty(lines, view, width, height - 1)], width, height)
    x_axis = _window(shown, view, max(columns // 12, 3))
    drawn = [_reduced(one, x, view, x_axis, columns, log) for one, x in shown]
    ends = extremes(drawn, () if log else held)
    if ends is None:
        why = NOTHING_ABOVE_ZERO if log else "no number in this window"
        return padded([head, *note(why, width, height - 1)], width, height)
    y_axis = axis.value_axis(*ends, max(rows * 2 // 5, 2), log=log, percent=percent)
    body = canvas_rows(
        drawn,
        x_axis,
        y_axis,
        columns,
        rows,
        smooth=view.memory > 0 or joined,
        crosses=_crosses(view, x_axis, columns),
    )
    on_axis = _on_axis(shown, markers, x_axis, columns)
    return padded([head, *body, *_foot(x_axis, view, columns, on_axis)], width, height)


def _on_axis(
    shown: Sequence[tuple[Line, Array]], markers: Sequence[Marker], x_axis: axis.Axis, columns: int
) -> dict[int, Marker]:
    """Return the markers of the shown lines by their columns."""
    return {
        place: marker
        for marker in markers
        for one, x in shown
        if one.name == marker.arm
        and (place := _column(_at_step(one, x, marker.step), x_axis, columns)) is not None
    }


def position(lines: Sequence[Line], view: View, width: int, cell: float) -> float | None:
    """Return the x position under a cell of a chart of `width` cells.

    It is in the unit of `view.x`. Cells beyond the canvas give the position of its end.

    Returns: None for a chart without values, or one too narrow to draw.
    """
    shown, columns = _placed(lines, view), width - GUTTER
    if not shown or columns < 12:
        return None
    x_axis = _window(shown, view, 2)
    share = min(max((cell - GUTTER) / (columns - 1), 0.0), 1.0)
    found = x_axis.start + share * (x_axis.end - x_axis.start)
    return float(10**found) if view.log_x else found


def zoomed_to(lines: Sequence[Line], view: View, first: float, last: float) -> View:
    """Return the view of the window from `first` to `last`.

    They are in the unit of `view.x`. A window that reaches the end of the whole follows the run.
    """
    shown = _placed(lines, view)
    if not shown:
        return view
    whole = _window(shown, replace(view, zoom=0.0, offset=0.0), 2)
    ends = [_placed_at(end, view) for end in sorted((first, last))]
    low, high = (min(max(end or 0.0, whole.start), whole.end) for end in ends)
    size = whole.end - whole.start
    zoom = min(math.log2(size / max(high - low, size / 2**DEEPEST_ZOOM)), DEEPEST_ZOOM)
    return replace(view, zoom=zoom, offset=max((whole.end - high) / size, 0.0))


def cell_of(lines: Sequence[Line], view: View, width: int, place: float) -> float:
    """Return the cell over an x position: the inverse of `position`.

    A position beyond the canvas gives the cell at its end.
    """
    shown, columns = _placed(lines, view), width - GUTTER
    if not shown:
        return float(GUTTER)
    x_axis = _window(shown, view, 2)
    share = ((_placed_at(place, view) or 0.0) - x_axis.start) / (x_axis.end - x_axis.start)
    return GUTTER + min(max(share, 0.0), 1.0) * (columns - 1)


def zoomed_at(lines: Sequence[Line], view: View, place: float, by: float) -> View:
    """Return the view with its zoom doubled `by` times.

    The position `place` stays under the same cell.
    """
    shown = _placed(lines, view)
    if not shown:
        return view
    whole = _window(shown, replace(view, zoom=0.0, offset=0.0), 2)
    x_axis = _window(shown, view, 2)
    size, old = whole.end - whole.start, x_axis.end - x_axis.start
    zoom = min(max(view.zoom + by, 0.0), DEEPEST_ZOOM)
    here = min(max(_placed_at(place, view) or 0.0, x_axis.start), x_axis.end)
    new = size / 2**zoom
    right = here + (x_axis.end - here) * new / old
    return replace(view, zoom=zoom, offset=min(max((whole.end - right) / size, 0.0), 1.0 - 1.0 / 2**zoom))


def entry_at(x: Array, place: float) -> int | None:
    """Return the index of the entry nearest to `place`.

    `x` is (entries,), ascending.

    Returns: None if `place` lies further beyond an end than two entries are apart on average.
    """
    apart = (x[-1] - x[0]) / max(len(x) - 1, 1) if len(x) else 0.0
    if not len(x) or not x[0] - apart <= place <= x[-1] + apart:
        return None
    after = min(int(np.searchsorted(x, place)), len(x) - 1)
    return after - 1 if after and place - x[after - 1] <= x[after] - place else after


def _placed(lines: Sequence[Line], view: View) -> list[tuple[Line, Array]]:
    """Return the lines that the x-axis can place, with positions (entries,)."""
    found = []
    for one in lines:
        x = _positions(one, view.x) if len(one.curve) else EMPTY.step
        if len(x):
            found.append((one, _log10(np.maximum(x, 1.0)) if view.log_x else x))
    return found


def _placed_at(place: float | None, view: View) -> float | None:
    return math.log10(max(place, 1.0)) if place is not None and view.log_x else place


def _at_step(one: Line, x: Array, step: float) -> float:
    return float(np.interp(step, one.curve.step, x))


def _column(place: float, x_axis: axis.Axis, columns: int) -> int | None:
    """Return the column of a position; None outside the window."""
    share = (place - x_axis.start) / (x_axis.end - x_axis.start)
    return round(share * (columns - 1)) if 0 <= share <= 1 else None


def _crosses(view: View, x_axis: axis.Axis, columns: int) -> set[int]:
    """Return the columns of the crosshair and of a selection's other end."""
    places = [_placed_at(one, view) for one in (view.cross, view.anchor)]
    found = {_column(place, x_axis, columns) for place in places if place is not None}
    return {column for column in found if column is not None}


def window(view: View, start: float, end: float) -> tuple[float, float]:
    """Return the ends of the visible part of [start, end], in the same unit."""
    whole = end - start
    span = whole / 2**view.zoom
    right = end - min(view.offset * whole, whole - span)
    return right - span, right


def shown_steps(lines: Sequence[Line], view: View) -> list[tuple[float, float] | None]:
    """Return the first and the last visible step of each line.

    A line without visible entries has None.
    """
    shown = _placed(lines, view)
    if not shown:
        return [None] * len(lines)
    x_axis, found = _window(shown, view, 2), dict[int, tuple[float, float]]()
    for one, x in shown:
        # The entry before the window and the one after it stand for steps inside.
        first = max(int(np.searchsorted(x, x_axis.start, "left")) - 1, 0)
        last = min(int(np.searchsorted(x, x_axis.end, "right")), len(x) - 1)
        if last >= first:
            found[id(one)] = float(one.curve.step[first]), float(one.curve.step[last])
    return [found.get(id(one)) for one in lines]


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
    if view.log_x:
        whole = axis.log_position_axis(start, end, view.x)
        return axis.log_position_axis(*window(view, whole.start, whole.end), view.x) if view.zoom else whole
    whole = axis.position_axis(start, end, parts, view.x, snap=True)
    if not view.zoom:
        return whole
    return axis.position_axis(*window(view, whole.start, whole.end), parts, view.x, snap=False)


def _reduced(one: Line, x: Array, view: View, x_axis: axis.Axis, columns: int, log: bool) -> Drawn:
    """Reduce the line's extremes and smoothed middle to dot columns.

    With `log`, take log10.
    """
    smooth = one.smoothed(SMOOTHING[view.memory])
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
    return Drawn(one.look, least, most, middle, broken, x[inside], smooth[inside])


def _log10(value: Array) -> Array:
    found: Array = np.log10(np.where(value > 0, value, np.nan))
    return found


def _foot(x_axis: axis.Axis, view: View, columns: int, markers: Mapping[int, Marker]) -> list[Row]:
    """Return the x-axis line with ticks and markers, and its labels and unit."""
    line, labels = ["─"] * columns, [" "] * (columns + GUTTER)
    kind = f"{view.x} log" if view.log_x else view.x
    for tick, label in zip(x_axis.ticks, x_axis.labels, strict=True):
        column = round((tick - x_axis.start) / (x_axis.end - x_axis.start) * (columns - 1))
        line[column] = "┬"
        begin = min(max(GUTTER + column - len(label) // 2, GUTTER - 1), len(labels) - len(label))
        if all(cell == " " for cell in labels[max(begin - 1, 0) : begin + len(label) + 1]):
            labels[begin : begin + len(label)] = label
    labels[: len(kind)] = kind
    ruled: Row = [(" " * (GUTTER - 1), palette.DIM), ("└", palette.FAINT)]
    for column, cell in enumerate(line):
        marker = markers.get(column)
        ruled.append((cell, palette.FAINT) if marker is None else (marker.letter, marker.colour))
    return [ruled, [("".join(labels), palette.DIM)]]


def _empty(lines: Sequence[Line], view: View, width: int, height: int) -> list[Row]:
    if view.x == "tokens" and any(len(one.curve) for one in lines):
        return note("no token counts were recorded: press x for another axis", width, height)
    return note("no values yet", width, height)
