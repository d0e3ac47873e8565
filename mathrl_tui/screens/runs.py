"""The list of runs with results; when wide, with charts and overview.

store ─▶ RunLines ─▶ filter, sort, pins ─▶ table
                  └▶ marked runs (else the one under the cursor) ─▶ charts, rates; cursor ─▶ overview
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Static

from mathrl_tui import actions
from mathrl_tui.core import palette, run_overview, run_plots, run_table, run_view, text
from mathrl_tui.core.run_view import AllSettings, Selection
from mathrl_tui.core.space_watch import SpaceWatch
from mathrl_tui.core.spans import Row
from mathrl_tui.core.workspace import Workspace
from mathrl_tui.screens.run_marks import RunMarks
from mathrl_tui.widgets.keyed_table import KeyedTable, TableCell
from mathrl_tui.widgets.lines import Lines
from mathrl_tui.widgets.text_entry import TextEntry
from store.records import LIVE_STATES

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import HomeData, RunLine
    from mathrl_tui.core.marked_runs import MarkedRun

_EMPTY = """[b]No runs here yet.[/b]

Press [b]n[/b] to start one: choose a profile and its stages, and the console follows it live.
With no GPU, the profile [b]demo[/b] runs the whole experiment on this machine's CPU in a few minutes
(or, outside the console: [b]mathrl-tui demo[/b]).

To see the runs of another directory, use [b]--home DIR[/b] or the environment variable [b]MATHRL_HOME[/b]."""

_NO_MATCH = (
    "[b]No run matches the filter.[/b]\n\nPress [b]/[/b] to change it; an empty filter shows all runs."
)
# Cells from which list, charts and overview stand side by side.
WORKSPACE = 160
# Cells and rows of the other parts.
_OVERVIEW, _LEAST_LIST = 44, 76
_LEAST_TABLE, _LEAST_RATES = 8, 4


class RunsScreen(RunMarks):
    """All runs of the home directory."""

    NAME = actions.RUNS
    BINDINGS = actions.bindings(actions.RUNS)
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide"), (WORKSPACE, "-workspace")]  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        # All of them, and those that the table shows, by run.
        self._all: Sequence[RunLine] = ()
        self._lines: dict[str, RunLine] = {}
        self._settings: AllSettings = {}
        self._selection = Selection()
        # The filter of the session before is set.
        self._filter_read = False
        self._drawn_from: object = None
        # Only the charts and the overview are out of date.
        self._only_charts = False
        self._with_hidden = False
        self._maximised = False
        # Run → what its row was made from, and its cells.
        self._cells: dict[str, tuple[object, tuple[TableCell, ...]]] = {}
        self._metrics: Sequence[str] = ()
        self._overlaid: Sequence[MarkedRun] = ()
        # What the charts were read for.
        self._overlaid_for: object = None
        # Made when the console's home is known.
        self._space: SpaceWatch | None = None

    def body(self) -> ComposeResult:
        """Yield list, charts and overview, and the lines below them."""
        yield Lines(id="heading")
        with Horizontal(id="workspace"):
            with Vertical(id="listing"):
                yield KeyedTable(id="runs")
                yield Lines(id="rates")
            yield Lines(id="overlay")
            yield Lines(id="overview")
        yield Lines(id="about")
        yield Lines(id="space")
        yield Static("reading the store…", id="empty")
        yield TextEntry()

    @property
    def target(self) -> str | None:
        """Return the run under the cursor."""
        return self.query_one(KeyedTable).chosen

    @property
    def workspace(self) -> Workspace:
        """Return the marks, tags and notes."""
        return self.console.workspace

    @property
    def is_workspace(self) -> bool:
        """Return True if charts and overview are shown."""
        return self.size.width >= WORKSPACE and not self._maximised

    async def read(self) -> None:
        """Read the runs and show them, or only what follows the cursor."""
        if self._only_charts and self._all:
            self._only_charts = False
            run_id = self.target or ""
            settings = await self.ask(lambda home_data: home_data.settings([run_id] if run_id else ()))
            self._settings = {**self._settings, **settings}
            self._show_details()
        else:
            await self._read_runs()
        await self._read_charts()

    async def _read_runs(self) -> None:
        lines, settings = await self._asked()
        if self.workspace.filter and not self._filter_read:
            # The filter of the session before.
            self._selection.set(self.workspace.filter)
            lines, settings = await self._asked()
        self._filter_read = True
        for line in lines:
            self.console.note_state(line.summary.run, line.summary.state, line.summary.reason)
            if line.at is not None:
                self.console.note_alarms(line.summary.run, line.alarms)
        same = lines is self._all and settings.keys() == self._settings.keys()
        self._all, self._settings = lines, settings
        if not same or self._drawn != self._drawn_from:
            self.show_runs()
        self._show_space()
        if lines and not self.console.run_id:
            self.console.run_id = self.target or lines[0].summary.run

    @property
    def _drawn(self) -> object:
        """Return what the list is drawn from, without the runs themselves."""
        return self.workspace, self.size, self._with_hidden, self._maximised, self._selection.text

    async def _asked(self) -> tuple[Sequence[RunLine], AllSettings]:
        shown = self.target if self.is_workspace else None
        return await self.ask(partial(_read, shown=shown, filtered=self._selection.active))

    def show_runs(self) -> None:
        """Show the list, and what depends on it."""
        workspace, table = self.workspace, self.query_one(KeyedTable)
        listed = [line for line in self._all if self._with_hidden or line.summary.run not in workspace.hidden]
        found = self._selection.matching(listed, self._settings, workspace, self.now)
        found = run_table.ordered(found, workspace.sort, workspace)
        self._lines = {line.summary.run: line for line in found}
        self.query_one("#workspace").display = bool(found)
        self._show_empty(_NO_MATCH if self._all else _EMPTY, not found)
        width = self._list_width()
        self.query_one("#listing").styles.width = width if self.is_workspace else "1fr"
        task, widths = run_table.shared_task(self._all), run_table.fitting(width)
        table.show(
            run_table.titles(widths, workspace.sort, task),
            {run: self._row(line, widths, task) for run, line in self._lines.items()},
        )
        if found and not self.focused:
            table.focus()
        counts = len(found), len(self._all), len(self._all) - len(listed)
        self.show_lines("#heading", [run_view.heading(counts, self._selection, workspace, self.size.width)])
        self._show_rates(task, width)
        self._show_details()
        self._drawn_from = self._drawn

    def _row(self, line: RunLine, widths: dict[str, int], task: str) -> tuple[TableCell, ...]:
        """Return the cells of a run; unchanged ones are the same objects."""
        run, workspace = line.summary.run, self.workspace
        set_by_user = (
            run in workspace.marked,
            run in workspace.pinned,
            run in workspace.hidden,
            workspace.tags.get(run),
        )
        # The time left of a live run counts down.
        moment = self.now if line.at is not None else 0.0
        source = (line, set_by_user, widths, task, moment)
        known = self._cells.get(run)
        if known is None or known[0] != source:
            row = run_table.cells(line, widths, workspace, task, self.now)
            known = self._cells[run] = source, tuple(Text.assemble(*spans) for spans in row)
        return known[1]

    def _list_width(self) -> int:
        width = self.size.width
        return max(_LEAST_LIST, width * 48 // 100) if self.is_workspace else width

    def _show_empty(self, words: str, empty: bool) -> None:
        shown = self.query_one("#empty", Static)
        shown.display = empty
        if empty:
            shown.update(text.flowing(words))

    def _show_rates(self, task: str, width: int) -> None:
        """Show the arms' rates in the rows that the table does not need."""
        rows: list[Row] = []
        needed = max(len(self._lines) + 2, _LEAST_TABLE)
        if self.size.height > 30:
            room = max(self.query_one("#workspace").size.height - needed, 0)
            if room >= _LEAST_RATES:
                marked = self.workspace.marked
                chosen = sorted(self._lines.values(), key=lambda line: line.summary.run not in marked)
                rows = run_plots.plots(chosen, self.workspace, task, width, room)
        self.query_one("#rates").styles.height = "1fr" if rows else 0
        self.query_one(KeyedTable).styles.height = needed if rows else "1fr"
        self.show_lines("#rates", rows)

    def _show_details(self) -> None:
        """Show the overview, or a few lines about the selected run."""
        line = self._lines.get(self.target or "")
        side, about = self.query_one("#overview"), self.query_one("#about")
        side.display = self.is_workspace
        self.query_one("#overlay").display = self.is_workspace
        rows: list[Row] = []
        if line is not None and self.is_workspace:
            height = max(self.size.height - 5, 1)
            found = run_overview.overview(
                line,
                self._settings.get(line.summary.run, ()),
                self.workspace,
                _OVERVIEW - 2,
                height,
                self.now,
            )
            self.show_lines("#overview", found)
            rows = run_overview.alarm_lines(line)
        elif line is not None:
            rows = run_overview.lines_below(line, self.workspace, self.size.width)
        about.display = bool(rows)
        about.styles.height = len(rows)
        self.show_lines("#about", rows)

    def _show_space(self) -> None:
        self._space = self._space or SpaceWatch(self.console.home)
        row = self._space.row
        self.query_one("#space").display = bool(row)
        self.show_lines("#space", [row] if row else [])

    async def _read_charts(self) -> None:
        """Read and draw the curves of the marked runs, else of the chosen one."""
        if not self.is_workspace or not self._lines:
            return
        # NumPy comes with this import, after the first paint.
        from mathrl_tui.core import overlay

        marked = [run for run in self.workspace.marked if run in self._lines]
        runs = marked or [run for run in (self.target,) if run]
        size = self.query_one("#overlay").size
        lines = [self._lines[run] for run in runs]
        wanted = (lines, size, self.workspace.places)
        live = any(line.summary.state in LIVE_STATES for line in lines)
        if wanted == self._overlaid_for and not live:
            return
        most = overlay.count(size.height)
        self._metrics, self._overlaid = await self.ask(lambda home_data: _overlaid(home_data, runs, most))
        self._overlaid_for = wanted
        alone = palette.Look("●", palette.ACCENT)
        looks = {run: self.workspace.look(run) or alone for run in runs}
        self.show_lines(
            "#overlay", overlay.draw(self._overlaid, self._metrics, looks, size.width, size.height)
        )

    def set_filter(self, words: str) -> None:
        """Show only the runs that match `words`."""
        self._selection.set(words)
        if self._selection.active and len(self._settings) < len(self._all):
            # The settings are read first.
            self.read_soon()
        else:
            self.show_runs()

    @property
    def filter_text(self) -> str:
        """Return the current filter."""
        return self._selection.text

    def action_open(self) -> None:
        """Open the run under the cursor."""
        if self.target:
            self.console.open_run(self.target)

    def action_show_hidden(self) -> None:
        """Show the hidden runs too, or leave them out again."""
        self._with_hidden = not self._with_hidden
        self.show_runs()

    def action_maximise(self) -> None:
        """Switch between the list alone, and list, charts and overview."""
        self._maximised = not self._maximised
        self.show_runs()
        self.call_after_refresh(self.read_soon)

    def action_sort(self, by: int) -> None:
        """Sort by the next (1) or the previous (−1) column."""
        shown = list(run_table.fitting(self._list_width()))
        self._sort(run_table.next_sort(self.workspace.sort, by, shown))

    def action_reverse(self) -> None:
        """Reverse the order."""
        self._sort(run_table.reversed_sort(self.workspace.sort))

    @on(DataTable.HeaderSelected)
    def _header(self, event: DataTable.HeaderSelected) -> None:
        shown = list(run_table.fitting(self._list_width()))
        self._sort(run_table.sorted_by(shown[event.column_index], self.workspace.sort))

    def _sort(self, sort: str) -> None:
        self.change(lambda workspace: replace(workspace, sort=sort))

    @on(DataTable.RowSelected)
    def _selected(self) -> None:
        self.action_open()

    @on(DataTable.RowHighlighted)
    def _highlighted(self) -> None:
        # Otherwise rows arrived while another screen opened a run of its own.
        if self.is_current:
            self.console.run_id = self.target or ""
        self._show_details()
        if self.is_workspace:
            self._only_charts = True
            self.read_soon()

    def on_resize(self) -> None:
        """Show the list again once the new layout is known."""
        super().on_resize()
        self.call_after_refresh(self.read_soon)


def _read(home_data: HomeData, *, shown: str | None, filtered: bool) -> tuple[Sequence[RunLine], AllSettings]:
    """Return the runs and, if they are filtered, the settings of all.

    Otherwise only the settings of `shown` are read."""
    lines = home_data.runs()
    runs = [line.summary.run for line in lines if filtered or line.summary.run == shown]
    return lines, home_data.settings(runs)


def _overlaid(
    home_data: HomeData, runs: Sequence[str], most: int
) -> tuple[Sequence[str], tuple[MarkedRun, ...]]:
    """Return the metrics to draw, and the runs with their curves."""
    from mathrl_tui.core import overlay

    metrics = overlay.chosen(home_data.marked_runs(runs, ()), most)
    return metrics, home_data.marked_runs(runs, metrics)
