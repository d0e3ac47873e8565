"""A wall of live charts, one a metric, with a cursor and a shared view.

It shows as many charts as fit. Keys and mouse move the cursor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from textual import on
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message

from mathrl_tui.core import chart, mean_curve, palette
from mathrl_tui.core.chart import View
from mathrl_tui.core.chart_choice import ChartChoice
from mathrl_tui.core.chart_markers import markers
from mathrl_tui.core.chart_rows import note
from mathrl_tui.core.curve import EMPTY, Curve, memory_of
from mathrl_tui.core.marked_runs import MarkedRun, short_names
from mathrl_tui.core.other_seeds import OtherRuns
from mathrl_tui.core.palette import Look
from mathrl_tui.core.panels import Panel, filled, panels
from mathrl_tui.core.run import RunSnapshot
from mathrl_tui.core.same import Same
from mathrl_tui.core.zoom import Window, covering
from mathrl_tui.widgets.chart_widget import Chart
from store.records import LIVE_STATES

# Minimum cells of a chart in a row of several.
NARROW = 41
# Minimum rows of a chart on a small and on a large wall.
LOW, TALL = 8, 14
MOST_COLUMNS, MOST_ROWS = 3, 3
MOST = MOST_COLUMNS * MOST_ROWS
# Doublings of the zoom at a notch of the wheel, and seconds between drawings while the mouse moves.
WHEEL, POINTER_SECONDS = 0.5, 0.04


class ChartWall(Container):
    """Charts of a run; the screen passes snapshots and calls the methods."""

    class Changed(Message):
        """Visible charts or the view changed, so other metrics may be needed."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self.view = View()
        self.choice = ChartChoice()
        # All charts of the run, and the chosen ones.
        self._all: tuple[Panel, ...] = panels((), ())
        self._panels = self._all
        self._run: RunSnapshot | None = None
        self._looks: Mapping[str, Look] = {}
        self._other_runs: OtherRuns | None = None
        # (metric, smoothing) → the runs' curves, and their mean.
        self._joined: dict[tuple[str, int], tuple[list[Curve], Curve]] = {}
        self._logs: set[str] = set()
        self._cursor = 0
        self._maximised = False
        self._markers: tuple[chart.Marker, ...] = ()
        # Marked runs with their looks, and the short names of all runs in sight.
        self._overlays: Sequence[tuple[MarkedRun, Look]] = ()
        self._short: Mapping[str, str] = {}
        # What each chart was drawn from. Curves are compared by identity, because they are never changed.
        self._drawn_from: dict[int, tuple[object, ...]] = {}
        # A drawing after moves of the mouse is planned.
        self._is_due = False

    def compose(self) -> ComposeResult:
        """Yield as many charts as a page can hold."""
        for place in range(MOST):
            yield Chart(place)

    def show(
        self,
        run: RunSnapshot,
        looks: Mapping[str, Look],
        other_runs: OtherRuns | None,
        overlays: Sequence[tuple[MarkedRun, Look]] = (),
    ) -> None:
        """Show the curves of the run, joined with those of `other_runs` if given.

        The curves of marked runs are drawn over them, each run in its look.
        """
        self._overlays = overlays
        self._short = short_names([run.run_id, *(one.run_id for one, _ in overlays)])
        is_new = self._run is None or self._run.run_id != run.run_id
        self._run, self._looks, self._other_runs = run, looks, other_runs
        stages = {step.arm: step.stage for step in run.board if step.arm}
        lengths = {step.arm: float(max(step.total, step.done)) for step in run.board if step.arm}
        every = panels(run.latest, run.arms, stages, lengths)
        # A run that has ended records nothing more, so its empty charts are left out.
        self._all = every if run.state in LIVE_STATES else filled(every)
        self._markers = markers(run.log, looks)
        self._choose()
        if is_new:
            self._cursor = self._start(run.live_arm)
        self._draw()

    def _choose(self) -> None:
        """Keep the cursor on its chart if that is still chosen."""
        before = self.chosen
        self._panels = self.choice.chosen(self._all)
        place = next((index for index, one in enumerate(self._panels) if one.key == before.key), None)
        last = max(len(self._panels) - 1, 0)
        self._cursor = min(self._cursor, last) if place is None else place

    def _start(self, live_arm: str) -> int:
        """Return the place of the first chart that has the live arm, or 0."""
        return next((index for index, one in enumerate(self._panels) if live_arm in one.sources), 0)

    def choose(self, choice: ChartChoice) -> None:
        """Show the charts of `choice`; the cursor stays on its chart if it can."""
        self.choice = choice
        self._choose()
        self._changed()

    def next_group(self) -> None:
        """Show the charts of the next group."""
        self.choose(self.choice.next_group(self._all))

    def toggle_favourite(self) -> None:
        """Add the selected chart to the favourites, or remove it."""
        if self._panels:
            self.choose(self.choice.toggled(self.chosen))

    def needed(self) -> list[str]:
        """Return the names of the metrics that the visible charts need."""
        names = [f"{source}/{panel.metric}" for panel in self._visible() for source in panel.sources]
        if self.view.x == "tokens" and self._run is not None:
            names += [f"{arm}/train/tokens" for arm in self._run.arms]
        return names

    def timed(self) -> set[str]:
        """Return the needed metrics that are drawn over time."""
        over_time = (panel for panel in self._visible() if panel.by_clock or self.view.x == "time")
        return {f"{source}/{panel.metric}" for panel in over_time for source in panel.sources}

    def windows(self) -> dict[str, Window]:
        """Return the visible steps of the needed metrics.

        Returns: empty if the charts are not zoomed.
        """
        found: dict[str, Window] = {}
        for panel in self._visible() if self.view.zoom else ():
            lines = self._lines(panel)
            for line, steps in zip(lines, chart.shown_steps(lines, self._view_of(panel)), strict=True):
                if steps is not None:
                    found[f"{line.name}/{panel.metric}"] = covering(*steps)
        return found

    @property
    def chosen(self) -> Panel:
        """Return the chart under the cursor; the first of all without a choice."""
        return self._panels[min(self._cursor, len(self._panels) - 1)] if self._panels else self._all[0]

    @property
    def together(self) -> int | None:
        """Return how many runs are shown together; None for this run alone."""
        return None if self._other_runs is None else 1 + len(self._other_runs.runs)

    @property
    def place(self) -> str:
        """Return page and number of pages: `1/3`."""
        pages = max(-(-len(self._panels) // self._capacity()), 1)
        return f"{self._first() // self._capacity() + 1}/{pages}"

    def look(self, view: View) -> None:
        """Show all charts with `view`."""
        self.view = view
        self._changed()

    def move(self, by: int) -> None:
        """Move the cursor by `by` charts, cyclically."""
        self._cursor = (self._cursor + by) % max(len(self._panels), 1)
        self._changed()

    def page(self, by: int) -> None:
        """Move the cursor to the first chart of the page `by` pages further.

        It stays if that page does not exist.
        """
        target = self._first() + by * self._capacity()
        if 0 <= target < len(self._panels):
            self._cursor = target
        self._changed()

    def toggle_log(self) -> None:
        """Switch the selected chart's y-axis between linear and logarithmic."""
        self._logs ^= {self.chosen.key}
        self._changed()

    def toggle_maximised(self) -> None:
        """Switch between the selected chart alone and all charts."""
        self._maximised = not self._maximised
        self._changed()

    @on(Chart.Touched)
    def _touched(self, message: Chart.Touched) -> None:
        """Do on all charts what the mouse does on one."""
        visible = self._visible()
        if message.place >= len(visible):
            return
        panel, width = visible[message.place], self._cell(*self._grid())[0]
        lines, view = self._lines(panel), self._view_of(panel)
        here, there = (chart.position(lines, view, width, cell) for cell in (message.cell, message.since))
        if message.deed in ("point", "leave", "drag"):
            cross = None if message.deed == "leave" else here
            self.view = replace(self.view, cross=cross, anchor=there if message.deed == "drag" else None)
            self._draw_soon()
            return
        self._cursor = min(self._first() + message.place, len(self._panels) - 1)
        self.view = replace(self.view, anchor=None)
        if message.deed == "window" and here is not None and there is not None:
            self._take_window(chart.zoomed_to(lines, view, here, there))
        elif message.deed in ("in", "out") and here is not None:
            self._take_window(chart.zoomed_at(lines, view, here, WHEEL if message.deed == "in" else -WHEEL))
        self._changed()

    def _take_window(self, view: View) -> None:
        self.view = replace(self.view, zoom=view.zoom, offset=view.offset)

    def _draw_soon(self) -> None:
        """Draw once for several moves of the mouse."""
        if not self._is_due:
            self._is_due = True
            self.set_timer(POINTER_SECONDS, self._draw_due)

    def _draw_due(self) -> None:
        self._is_due = False
        self._draw()

    def zoom(self, by: float) -> None:
        """Double the zoom `by` times.

        The crosshair keeps its place; without one, the window keeps its end.
        """
        lines, view = self._lines(self.chosen), self._view_of(self.chosen)
        if view.cross is not None:
            self._take_window(chart.zoomed_at(lines, view, view.cross, by))
        else:
            zoom = min(max(view.zoom + by, 0.0), chart.DEEPEST_ZOOM)
            self.view = replace(self.view, zoom=zoom, offset=self.view.offset if zoom else 0.0)
        self._changed()

    def move_cross(self, by: int) -> None:
        """Move the crosshair by `by` columns of the selected chart.

        It starts at the window's end.
        """
        lines, view = self._lines(self.chosen), self._view_of(self.chosen)
        width = self._cell(*self._grid())[0]
        place = width - 1.0 if view.cross is None else chart.cell_of(lines, view, width, view.cross) + by
        self.view = replace(self.view, cross=chart.position(lines, view, width, place))
        self._changed()

    def on_resize(self) -> None:
        """Draw the charts again once the new layout has given them their sizes."""
        self.call_after_refresh(self._changed)

    def _changed(self) -> None:
        self._draw()
        self.post_message(self.Changed())

    def _grid(self) -> tuple[int, int]:
        """Return how many columns and rows of charts fit."""
        if self._maximised:
            return 1, 1
        width, height = self.size
        columns = MOST_COLUMNS if width >= 5 * NARROW else 2 if width >= 2 * NARROW else 1
        least = TALL if height >= 2 * TALL else LOW
        return columns, min(max(height // least, 1), MOST_ROWS)

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
                self._draw_one(chart_widget, visible[place], self._cell(columns, rows), focused)
            else:
                self._drawn_from.pop(place, None)
                empty = note(self._nothing(), *self._cell(columns, rows))
                chart_widget.show(empty if not place and not visible else [])

    def _draw_one(self, widget: Chart, panel: Panel, size: tuple[int, int], focused: bool) -> None:
        """Draw a chart unless it would be the same as before."""
        lines, view = self._lines(panel), self._view_of(panel)
        is_log, is_favourite = panel.key in self._logs, panel.key in self.choice.favourites
        sources = tuple(
            (one.name, one.look, Same(one.curve), Same(one.tokens), one.runs, one.newest, one.live)
            for one in lines
        )
        drawn_from = (panel, view, size, focused, is_log, is_favourite, self._markers, sources)
        if self._drawn_from.get(widget.place) == drawn_from:
            return
        self._drawn_from[widget.place] = drawn_from
        rows = chart.draw(
            ("★ " if is_favourite else "") + panel.title,
            lines,
            view,
            *size,
            percent=panel.percent,
            log=is_log,
            focused=focused,
            held=panel.held,
            markers=self._markers,
        )
        widget.show(rows)

    def _nothing(self) -> str:
        """Return why no chart is shown, and what to do."""
        search = f" with “{self.choice.search}”" if self.choice.search else ""
        return f"no chart{search} in {self.choice.group}: Esc shows all"

    def _cell(self, columns: int, rows: int) -> tuple[int, int]:
        return (self.size.width - (columns - 1)) // columns, self.size.height // rows

    def _lines(self, panel: Panel) -> list[chart.Line]:
        looks = palette.arms(panel.sources) if panel.by_clock else self._looks
        own = [self._line(source, panel, looks[source]) for source in panel.sources]
        return own if panel.by_clock else [*own, *self._overlaid(panel)]

    def _overlaid(self, panel: Panel) -> list[chart.Line]:
        """Return the marked runs' curves of the panel's metric and arms."""
        return [
            chart.Line(
                self._short[run.run_id] + (f" {source}" if len(panel.sources) > 1 else ""),
                look,
                run.curves[f"{source}/{panel.metric}"],
                run.curves.get(f"{source}/train/tokens", EMPTY),
            )
            for run, look in self._overlays
            for source in panel.sources
            if f"{source}/{panel.metric}" in run.curves
        ]

    def _view_of(self, panel: Panel) -> View:
        """Return the view of a chart.

        A machine's chart has time on its x-axis, and no crosshair.
        """
        if not panel.by_clock:
            return self.view
        is_same = self.view.x == "time"
        return replace(self.view, x="time", log_x=is_same and self.view.log_x, cross=None, anchor=None)

    def _line(self, source: str, panel: Panel, look: Look) -> chart.Line:
        """Return one source's curve of the panel's metric, or all runs' mean."""
        curves = {} if self._run is None else self._run.curves
        others = {} if self._other_runs is None else self._other_runs.curves
        metric, tokens = f"{source}/{panel.metric}", f"{source}/train/tokens"
        own = curves.get(metric, EMPTY)
        runs = [one for one in (own, *others.get(metric, ())) if len(one)]
        live = self._run is not None and source == self._run.live_arm
        if len(runs) < 2 or panel.by_clock:
            return chart.Line(
                source, look, own, curves.get(tokens, EMPTY), newest=self._newest(metric), live=live
            )
        counts = (curves.get(tokens, EMPTY), *others.get(tokens, ()))
        counted = [one for one in counts if len(one)]
        placed = mean_curve.averaged(counted) if counted else EMPTY
        return chart.Line(
            source, look, self._together(metric, runs), placed, len(mean_curve.long_enough(runs)), live=live
        )

    def _newest(self, metric: str) -> float | None:
        """Return the last recorded value.

        A reduced curve ends with the mean of its last bucket.
        """
        latest = None if self._run is None else self._run.latest.get(metric)
        return None if latest is None else latest.value

    def _together(self, metric: str, runs: list[Curve]) -> Curve:
        """Join the runs' curves; reuse the last result unless a curve changed."""
        key = metric, self.view.memory
        before, joined = self._joined.get(key, ([], EMPTY))
        if len(before) != len(runs) or any(old is not new for old, new in zip(before, runs, strict=True)):
            steps = max(float(one.step[-1] - one.step[0]) for one in runs)
            joined = mean_curve.joined(runs, memory_of(chart.SMOOTHING[self.view.memory], steps))
            self._joined[key] = runs, joined
        return joined
