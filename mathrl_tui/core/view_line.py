"""The line under the charts: the view, and the keys that change it."""

from __future__ import annotations

from mathrl_tui.core import chart
from mathrl_tui.core.chart import View
from mathrl_tui.core.chart_choice import ALL, ChartChoice
from mathrl_tui.core.fitted import KeyHint, fitted
from mathrl_tui.core.spans import Row


def view_line(view: View, choice: ChartChoice, page: str, runs: str, width: int) -> Row:
    """Return the settings of the charts as one line of `width` cells.

    They are smoothing, x-axis, window, page, runs, group and search.
    """
    weight = f"{chart.SMOOTHING[view.memory]:g}" if view.memory else "off"
    slider = "".join("●" if place == view.memory else "─" for place in range(len(chart.SMOOTHING)))
    window = "whole" if not view.zoom else f"×{2**view.zoom:.3g}"
    is_newest = view.offset <= 0 or not view.zoom
    search = [KeyHint("/", (f"“{choice.search}”",))] if choice.search else [KeyHint("/", ("search", ""))]
    group = "all charts" if choice.group == ALL else choice.group
    return fitted(
        [
            KeyHint("[ ]", (f"smoothing {slider} {weight:<4}", f"smoothing {weight}", weight)),
            KeyHint("x", (f"{view.x:<6}", view.x)),
            KeyHint(
                "+ -", (window,) if is_newest else (f"{window}, not the newest", f"{window} earlier", window)
            ),
            KeyHint("PgDn", (page,)),
            KeyHint("m", (runs, runs.removeprefix("this "))),
            KeyHint("g", (group, choice.group)),
            *search,
        ],
        width,
    )
