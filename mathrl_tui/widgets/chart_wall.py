"""A wall of live charts, one a metric: as many as fit, a cursor that keys and mouse move, and one shared view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message

from mathrl_tui.core import chart, palette, spread
from mathrl_tui.core.chart import View
from mathrl_tui.core.curve import EMPTY, Curve
from mathrl_tui.core.palette import Look
from mathrl_tui.core.panels import Panel, panels
from mathrl_tui.core.run import RunSnapshot
from mathrl_tui.core.siblings import Siblings
from mathrl_tui.widgets.lines import Lines

WIDE = 110  # cells from which two charts stand side by side
LOW, TALL = 9, 14  # least rows a chart on a small and on a large wall
MOST_ROWS, MOST = 3, 6


class Chart(Lines):
    """One chart of the wall."""

    class Touched(Message):
        """The mouse chose the chart, or zoomed it (`zoom` 1 in, -1 out, 0 chosen alone)."""

        def __init__(self, place: int, zoom: int) -> None:
            super().__init__()
            self.place, self.zoom = place, zoom

    def __init__(self, place: int) -> None:
        super().__init__(id=f"chart-{place}")
        self.place = place

    def on_click(self) -> None:
        self.post_message(self.Touched(self.place, 0))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        event.stop()
        self.post_message(self.Touched(self.place, 1))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        event.stop()
        self.post_message(self.Touched(self.place, -1))


class ChartWall(Container):
    """Charts of a run. The screen gives it snapshots and moves it by its methods."""

    class Changed(Message):
        """Other charts came into sight or the view changed: other metrics may be needed."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.view = View()
        self._panels: tuple[Panel, ...] = panels((), ())
        self._run: RunSnapshot | None = None
        self._looks: Mapping[str, Look] = {}
        self._siblings: Siblings | None = None
        self._joined: dict[tuple[str, int], tuple[list[Curve], Curve]] = {}  # by metric and smoothing
        self._logs: set[str] = set()
        self._cursor = 0
        self._maximised = False

    def compose(self) -> ComposeResult:
        for place in range(MOST):
            yield Chart(place)

    def show(self, run: RunSnapshot, looks: Mapping[str, Look], siblings: Siblings | None) -> None:
        """Shows the run's curves, together with its siblings' where there are any."""
        self._run, self._looks, self._siblings = run, looks, siblings
        self._panels = panels(run.latest, run.arms)
        self._draw()

    def needed(self) -> list[str]:
        """Names of the metrics whose curves are in sight."""
        names = [f"{source}/{panel.metric}" for panel in self._visible() for source in panel.sources]
        if self.view.x == "tokens" and self._run is not None:
            names += [f"{arm}/train/tokens" for arm in self._run.arms]
        return names

    def timed(self) -> set[str]:
        """Those of the needed metrics that are drawn over time."""
        over_time = (panel for panel in self._visible() if panel.by_clock or self.view.x == "time")
        return {f"{source}/{panel.metric}" for panel in over_time for source in panel.sources}

    @property
    def chosen(self) -> Panel:
        """The chart under the cursor."""
        return self._panels[min(self._cursor, len(self._panels) - 1)]

    @property
    def together(self) -> int | None:
        """How many runs are shown together; None where it is this one alone."""
        return None if self._siblings is None else 1 + len(self._siblings.runs)

    @property
    def place(self) -> str:
        """Which page of how many is shown."""
        pages = -(-len(self._panels) // self._capacity())
        return f"{self._first() // self._capacity() + 1}/{pages}"

    def look(self, view: View) -> None:
        """Shows all charts under `view`."""
        self.view = view
        self._changed()

    def move(self, by: int) -> None:
        """Moves the cursor by `by` charts, round the end."""
        self._cursor = (self._cursor + by) % len(self._panels)
        self._changed()

    def page(self, by: int) -> None:
        """Moves the cursor to the page `by` pages on."""
        target = self._first() + by * self._capacity()
        if 0 <= target < len(self._panels):
            self._cursor = target
        self._changed()

    def toggle_log(self) -> None:
        """Switches the chosen chart's y-axis between linear and logarithmic."""
        self._logs ^= {self.chosen.metric}
        self._changed()

    def toggle_maximised(self) -> None:
        """Shows the chosen chart alone, or all again."""
        self._maximised = not self._maximised
        self._changed()

    @on(Chart.Touched)
    def _touched(self, message: Chart.Touched) -> None:
        self._cursor = min(self._first() + message.place, len(self._panels) - 1)
        if message.zoom:
            zoom = min(max(self.view.zoom + message.zoom, 0), chart.DEEPEST_ZOOM)
            self.view = replace(self.view, zoom=zoom)
        self._changed()

    def on_resize(self) -> None:
        """Lays the charts out anew and draws them when they have their sizes."""
        self.call_after_refresh(self._changed)

    def _changed(self) -> None:
        self._draw()
        self.post_message(self.Changed())

    def _grid(self) -> tuple[int, int]:
        """Columns and rows of charts that fit."""
        if self._maximised:
            return 1, 1
        columns = 2 if self.size.width >= WIDE else 1
        least = TALL if self.size.height >= 2 * TALL else LOW
        return columns, min(max(self.size.height // least, 1), MOST_ROWS)

    def _capacity(self) -> int:
        columns, rows = self._grid()
        return columns * rows

    def _first(self) -> int:
        return self._cursor // self._capacity() * self._capacity()

    def _visible(self) -> tuple[Panel, ...]:
        first = self._first()
        return self._panels[first : first + self._capacity()]

    def _draw(self) -> None:
        columns, rows = self._grid()
        self.styles.grid_size_columns, self.styles.grid_size_rows = columns, rows
        visible = self._visible()
        for chart_widget in self.query(Chart):
            place = chart_widget.place
            chart_widget.display = place < columns * rows
            if place < len(visible):
                focused = self._first() + place == self._cursor
                chart_widget.show(self._picture(visible[place], self._cell(columns, rows), focused))
            else:
                chart_widget.show([])

    def _cell(self, columns: int, rows: int) -> tuple[int, int]:
        return (self.size.width - (columns - 1)) // columns, self.size.height // rows

    def _picture(self, panel: Panel, size: tuple[int, int], focused: bool) -> list[chart.Row]:
        looks = palette.arms(panel.sources) if panel.by_clock else self._looks
        lines = [self._line(source, panel, looks[source]) for source in panel.sources]
        view = replace(self.view, x="time") if panel.by_clock else self.view
        return chart.draw(
            panel.title,
            lines,
            view,
            *size,
            percent=panel.percent,
            log=panel.metric in self._logs,
            focused=focused,
            held=panel.held,
        )

    def _line(self, source: str, panel: Panel, look: Look) -> chart.Line:
        """What `source` reports of the panel's metric: its own curve, or that of all runs together."""
        curves = {} if self._run is None else self._run.curves
        others = {} if self._siblings is None else self._siblings.curves
        metric, tokens = f"{source}/{panel.metric}", f"{source}/train/tokens"
        own = curves.get(metric, EMPTY)
        runs = [one for one in (own, *others.get(metric, ())) if len(one)]
        if len(runs) < 2 or panel.by_clock:
            return chart.Line(source, look, own, curves.get(tokens, EMPTY))
        counts = (curves.get(tokens, EMPTY), *others.get(tokens, ()))
        counted = [one for one in counts if len(one)]
        placed = spread.typical(counted) if counted else EMPTY
        return chart.Line(source, look, self._together(metric, runs), placed, len(spread.far(runs)))

    def _together(self, metric: str, runs: list[Curve]) -> Curve:
        """The runs' curves as one, made anew only where one of them has changed."""
        key = metric, self.view.memory
        before, joined = self._joined.get(key, ([], EMPTY))
        if len(before) != len(runs) or any(old is not new for old, new in zip(before, runs, strict=True)):
            joined = spread.together(runs, chart.MEMORIES[self.view.memory])
            self._joined[key] = runs, joined
        return joined
