"""A chart for where there is no console: plain text by plotext, which a pipe, a log or a report can hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mathrl_tui.core import axis, curve, palette, text
from mathrl_tui.core.curve import Array, Curve

_GUTTER = 10  # cells that plotext takes for the frame, the y-axis and its labels
_FRAME = 3  # rows that it takes for the frame and the x-axis


def plot(title: str, curves: Mapping[str, Curve], width: int, height: int, *, percent: bool = False) -> str:
    """The curves, by the name of what reports them, none of them empty, as `height` lines of at most `width` cells.

    Each is reduced to the canvas before plotext sees it, least and greatest value a column: plotext takes a second
    for 100,000 points. Lines are told apart by the marks that the first line gives, with each one's newest value.
    """
    import plotext  # 0.15 s, which only this needs

    figure = type(plotext.figure)(
        type(plotext.terminal)().limit(False, False)
    )  # the module's own keeps its past
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
    """Return title and marks in one line; without the last ones, but never half a number, if they do not fit."""
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
    """The curve on `width` columns over [start, end] as points of one line, from least to greatest in each column."""
    low, high = curve.columns(one.step, one.low, one.high, start, end, width)
    x = np.repeat(np.linspace(start, end, width), 2)
    y = np.stack((low, high), axis=1).ravel()
    known = np.isfinite(y)
    return x[known].tolist(), y[known].tolist()


def _x_axis(curves: Sequence[Curve], parts: int) -> axis.Axis:
    start, end = _ends([one.step for one in curves])
    return axis.position_axis(0.0 if start <= 0.25 * end else start, end, parts, "step", snap=True)


def _ends(parts: Sequence[Array]) -> tuple[float, float]:
    """Least and greatest finite value of all; (0, 1) where there is none."""
    joined = np.concatenate(parts)
    known = joined[np.isfinite(joined)]
    return (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
