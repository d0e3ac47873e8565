"""A chart as plain text by plotext, for pipes, logs and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mathrl_tui.core import axis, curve, palette, text
from mathrl_tui.core.curve import Array, Curve

# Cells that plotext needs for the frame, the y-axis and its labels.
_GUTTER = 10
# Rows that it needs for the frame and the x-axis.
_FRAME = 3


def plot(title: str, curves: Mapping[str, Curve], width: int, height: int, *, percent: bool = False) -> str:
    """Draw the curves as `height` lines of at most `width` cells.

    Each curve is reduced to the lowest and highest value a column first: plotext takes a second for 100,000 points.
    The first line gives each curve's mark and newest value.

    Args:
        curves: name → curve, none of them empty.
        width: cells.
        height: lines.
        percent: label fractions as percent.
    """
    # The import takes 0.15 s, and only this function needs it.
    import plotext

    # The module's own figure keeps the previous plot.
    figure = type(plotext.figure)(type(plotext.terminal)().limit(False, False))
    figure.plot_size(width, height - 1)
    figure.theme("colorless")
    x_axis = _x_axis(list(curves.values()), max(width // 12, 2))
    rows = max((height - 1 - _FRAME) * 2 // 5, 2)
    values = [side for one in curves.values() for side in (one.low, one.high)]
    y_axis = axis.value_axis(*_ends(values), rows, percent=percent)
    looks = palette.arms(curves)
    heads = [title]
    for name, one in curves.items():
        alone = len(curves) == 1
        x, y = zigzag(one, x_axis.start, x_axis.end, (width - _GUTTER) * (2 if alone else 1))
        marker = plotext.marker("braille" if alone else looks[name].mark)
        figure.draw(figure.signal(x, y, marker=marker).lines(True))
        newest = text.percent(float(one.mean[-1])) if percent else text.number(float(one.mean[-1]))
        heads.append(f"{'' if alone else looks[name].mark + ' '}{name} {newest}")
    for side, ends in (("x", x_axis), ("y", y_axis)):
        figure.ruler(side).lim(ends.start, ends.end).ticks(list(ends.ticks), list(ends.labels))
    drawn: str = figure.build().string(colorless=True)
    return "\n".join([_head(heads, width), *(line.rstrip() for line in drawn.splitlines())])


def _head(parts: Sequence[str], width: int) -> str:
    """Return title and marks in one line.

    Marks that do not fit are left out, the last ones first.
    """
    head = parts[0]
    for gap in ("   ", "  ", " "):
        if len(gap.join(parts)) <= width:
            return gap.join(parts)
    for part in parts[1:]:
        if len(head) + len(part) + 3 > width:
            return f"{head} …"
        head = f"{head} {part}"
    return head[:width]


def zigzag(one: Curve, start: float, end: float, width: int) -> tuple[list[float], list[float]]:
    """Return a line through the lowest and highest value of each column.

    The `width` columns cover [start, end]. Returns x and y without NaNs.
    """
    low, high = curve.columns(one.step, one.low, one.high, start, end, width)
    x = np.repeat(np.linspace(start, end, width), 2)
    y = np.stack((low, high), axis=1).ravel()
    known = np.isfinite(y)
    return x[known].tolist(), y[known].tolist()


def _x_axis(curves: Sequence[Curve], parts: int) -> axis.Axis:
    start, end = _ends([one.step for one in curves])
    return axis.position_axis(0.0 if start <= 0.25 * end else start, end, parts, "step", snap=True)


def _ends(parts: Sequence[Array]) -> tuple[float, float]:
    """Return the lowest and highest finite value of all; (0, 1) without one."""
    joined = np.concatenate(parts)
    known = joined[np.isfinite(joined)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
