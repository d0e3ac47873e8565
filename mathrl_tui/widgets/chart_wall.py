"""A wall of live charts, one a metric, with a cursor and a shared view.

It shows as many charts as fit. Keys and mouse move the cursor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from textual import events, on
from textual.app import ComposeResult
from textual.containers import Container
from textual.message import Message

from mathrl_tui.core import chart, mean_curve, palette
from mathrl_tui.core.chart import View
from mathrl_tui.core.chart_choice import ChartChoice
from mathrl_tui.core.curve import EMPTY, Curve
from mathrl_tui.core.other_seeds import OtherRuns
from mathrl_tui.core.palette import Look
from mathrl_tui.core.panels import Panel, panels
from mathrl_tui.core.run import RunSnapshot
from mathrl_tui.core.spans import Row
from mathrl_tui.widgets.lines import Lines

# Minimum cells of a chart in a row of several.
NARROW = 41
# Minimum rows of a chart on a small and on a large wall.
LOW, TALL = 8, 14
MOST_COLUMNS, MOST_ROWS = 3, 3
MOST = MOST_COLUMNS * MOST_ROWS


class Chart(Lines):
    """One chart of the wall."""

    class Touched(Message):
        """The mouse selected or zoomed the chart.

        `zoom` is 1 (in), −1 (out) or 0 (only selected).
        """

        def __init__(self, place: int, zoom: int) -> None:
            super().__init__()
            self.place, self.zoom = place, zoom

    def __init__(self, place: int) -> None:
        super().__init__(id=f"chart-{place}")
        self.place = place

    def on_click(self) -> None:
        """Move the wall's cursor to this chart."""
        self.post_message(self.Touched(self.place, 0))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Move the cursor to this chart and zoom in."""
        event.stop()
        self.post_message(self.Touched(self.place, 1))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Move the cursor to this chart and zoom out."""
        event.stop()
        self.post_message(self.Touched(self.place, -1))


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

    def compose(self) -> ComposeResult:
        """Yield as many charts as a page can hold."""
        for place in range(MOST):
            yield Chart(place)

    def show(self, run: RunSnapshot, looks: Mapping[str, Look], other_runs: OtherRuns | None) -> None:
        """Show the curves of the run, joined with those of `other_runs` if given."""
        is_new = self._run is None or self._run.run_id != run.run_id
        self._run, self._looks, self._other_runs = run, looks, other_runs
        stages = {step.arm: step.stage for step in run.board if step.arm}
        lengths = {step.arm: float(max(step.total, step.done)) for step in run.board if step.arm}
        self._all = panels(run.latest, run.arms, stages, lengths)
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
        """Show the charts of `choice`."""
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
        """Move the cursor by `by` pages; ignored beyond the ends."""
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
        self._cursor = max(min(self._first() + message.place, len(self._panels) - 1), 0)
        if message.zoom:
            zoom = min(max(self.view.zoom + message.zoom, 0), chart.DEEPEST_ZOOM)
            self.view = replace(self.view, zoom=zoom)
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
                chart_widget.show(self._picture(visible[place], self._cell(columns, rows), focused))
            else:
                note = chart.note(self._nothing(), *self._cell(columns, rows))
                chart_widget.show(note if not place and not visible else [])

    def _nothing(self) -> str:
        """Return why no chart is shown, and what to do."""
        search = f" with “{self.choice.search}”" if self.choice.search else ""
        return f"no chart{search} in {self.choice.group}: Esc shows all"

    def _cell(self, columns: int, rows: int) -> tuple[int, int]:
        return (self.size.width - (columns - 1)) // columns, self.size.height // rows

    def _picture(self, panel: Panel, size: tuple[int, int], focused: bool) -> list[Row]:
        looks = palette.arms(panel.sources) if panel.by_clock else self._looks
        lines = [self._line(source, panel, looks[source]) for source in panel.sources]
        view = replace(self.view, x="time") if panel.by_clock else self.view
        return chart.draw(
            ("★ " if panel.key in self.choice.favourites else "") + panel.title,
            lines,
            view,
            *size,
            percent=panel.percent,
            log=panel.key in self._logs,
            focused=focused,
            held=panel.held,
        )

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
            joined = mean_curve.joined(runs, chart.MEMORIES[self.view.memory])
            self._joined[key] = runs, joined
        return joined
