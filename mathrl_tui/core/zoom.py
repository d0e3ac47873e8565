"""Detail of the stored history for the visible part of a zoomed chart.

    visible steps ─▶ covering ─▶ Window ─▶ store ─▶ detail ─▶ spliced into the curve of the whole history

A long history is reduced to few entries. Zoomed in, a chart would show some of them as wide bars.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from mathrl_tui.core.curve import Curve


@dataclass(frozen=True, slots=True)
class Window:
    """Steps from `start` to `end`, both included."""

    start: int
    end: int


def covering(first: float, last: float) -> Window:
    """Return a window around the steps from `first` to `last`.

    Its ends are rounded outwards to a power of two, so that it rarely changes while a live run moves the chart.
    """
    grain = 2 ** math.floor(math.log2(max((last - first) / 4, 1.0)))
    return Window(math.floor(first / grain) * grain, math.ceil((last + 1) / grain) * grain)


# Reads run, metric, with times or not, and window.
ReadDetail = Callable[[str, str, bool, Window], Curve]


class CurveDetails:
    """The last detail of each metric of one run.

    It is read again when its window changes.
    """

    def __init__(self, read: ReadDetail) -> None:
        self._read = read
        self._run_id = ""
        # Metric → window, whether it has times, and the detail.
        self._known: dict[str, tuple[Window, bool, Curve]] = {}
        # Metric → history, detail and both spliced: a chart is drawn again only for another curve.
        self._spliced: dict[str, tuple[Curve, Curve, Curve]] = {}

    def of(
        self, run_id: str, curves: Mapping[str, Curve], windows: Mapping[str, Window], timed: Collection[str]
    ) -> dict[str, Curve]:
        """Return the curves that have a window, with the detail of that window."""
        if run_id != self._run_id:
            self._run_id, self._known, self._spliced = run_id, {}, {}
        self._known = {metric: known for metric, known in self._known.items() if metric in windows}
        return {
            metric: self._joined(metric, curves[metric], self._detail(metric, window, metric in timed))
            for metric, window in windows.items()
            if metric in curves
        }

    def _joined(self, metric: str, history: Curve, detail: Curve) -> Curve:
        known = self._spliced.get(metric)
        if known is None or known[0] is not history or known[1] is not detail:
            known = self._spliced[metric] = history, detail, history.spliced(detail)
        return known[2]

    def _detail(self, metric: str, window: Window, is_timed: bool) -> Curve:
        known = self._known.get(metric)
        if known is None or known[:2] != (window, is_timed):
            known = window, is_timed, self._read(self._run_id, metric, is_timed, window)
            self._known[metric] = known
        return known[2]
