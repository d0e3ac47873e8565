"""The canvas of a chart: bands, lines, marks and crosshair as spans."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mathrl_tui.core import axis, canvas, palette
from mathrl_tui.core.curve import Array
from mathrl_tui.core.palette import Look
from mathrl_tui.core.spans import Row

Bits = NDArray[np.uint16]

# Cells left of the canvas: labels and the axis line.
GUTTER = 9
_CROSSED = "on #33506a"


@dataclass(frozen=True, slots=True)
class Drawn:
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


def extremes(drawn: Sequence[Drawn], held: Sequence[float]) -> tuple[float, float] | None:
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


def canvas_rows(
    drawn: Sequence[Drawn],
    x_axis: axis.Axis,
    y_axis: axis.Axis,
    columns: int,
    rows: int,
    *,
    smooth: bool,
    crosses: Set[int] = frozenset(),
) -> list[Row]:
    """Return rows of gutter and canvas.

    Vertical lines are at the columns `crosses`.

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
        _canvas_row(bits[row], owner[row], marks.get(row, {}), styles, labels.get(row), crosses)
        for row in range(rows)
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
    drawn: Sequence[Drawn], x_axis: axis.Axis, y_axis: axis.Axis, columns: int, rows: int
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
    crosses: Set[int],
) -> Row:
    row: Row = [
        (f"{(label or '')[: GUTTER - 2]:>{GUTTER - 2}} ", palette.DIM),
        ("┤" if label else "│", palette.FAINT),
    ]
    blank = "┈" if label else " "
    for column, (pattern, tag) in enumerate(zip(bits.tolist(), owner.tolist(), strict=True)):
        if column in marks:
            span = (marks[column].mark, marks[column].colour)
        elif column in crosses:
            # A cell with a curve keeps its dots, on a brighter ground.
            span = (chr(0x2800 + pattern), f"{styles[tag]} {_CROSSED}") if pattern else ("│", palette.DIM)
        elif pattern:
            span = (chr(0x2800 + pattern), styles[tag])
        else:
            span = (blank, palette.FAINT)
        if row[-1][1] == span[1]:
            row[-1] = (row[-1][0] + span[0], span[1])
        else:
            row.append(span)
    return row
