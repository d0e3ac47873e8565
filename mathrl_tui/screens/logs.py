"""The log of a run: events in words, or one process's log file.

A text filter selects lines.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, Static

from mathrl_tui import actions
from mathrl_tui.core import logs, palette
from mathrl_tui.core.logs import LogFile
from mathrl_tui.core.spans import Row
from mathrl_tui.screens.searching import SearchField, Searching
from mathrl_tui.screens.table import NO_RUN
from mathrl_tui.widgets.lines import Lines
from mathrl_tui.widgets.log_view import LogView
from store.home import RunFolder

EVENTS = "events"


class LogsScreen(Searching):
    """Events and log files of the chosen run."""

    NAME = actions.LOGS
    INTERVAL: ClassVar[float] = 0.5
    BINDINGS = actions.bindings(actions.LOGS)

    def __init__(self) -> None:
        super().__init__()
        self._source = EVENTS
        self._search = ""
        self._file: LogFile | None = None

    def body(self) -> ComposeResult:
        """Yield the heading, the log and the search field."""
        yield Lines(id="heading")
        yield LogView(id="log")
        yield Static("", id="empty")
        yield SearchField("search text; Enter keeps it, Esc clears it")

    async def read(self) -> None:
        """Read the events, or the chosen log file, and show the matching lines."""
        run_id = await self.chosen_run()
        if not run_id:
            self._show([], Content.from_markup(NO_RUN))
            return
        folder = RunFolder(self.console.home, run_id).logs
        if self._source == EVENTS:
            run = await self.ask(lambda home_data: home_data.run(run_id))
            rows = [logs.event_row(event) for event in run.log]
        else:
            rows = await self.ask(lambda _: self._file_rows(folder / self._source))
        self._show_heading(folder)
        found = logs.matching(rows, self._search)
        hint = "no line contains “$search”" if self._search else "press [b]f[/b] for another source"
        self._show(
            found,
            Content.from_markup(f"[b]Nothing has been logged here yet.[/b]\n\n{hint}", search=self._search),
        )
        if not self.focused:
            self.query_one(LogView).focus()

    def _file_rows(self, path: Path) -> list[Row]:
        if self._file is None or self._file.path != path:
            self._file = LogFile(path)
        self._file.poll()
        return [logs.file_row(line) for line in self._file.lines]

    def _show(self, rows: list[Row], emptiness: Content) -> None:
        view, empty = self.query_one(LogView), self.query_one("#empty", Static)
        view.display, empty.display = bool(rows), not rows
        view.show(rows)
        if not rows:
            empty.update(emptiness)

    def _show_heading(self, folder: Path) -> None:
        row: Row = [(f" {self.console.run_id}  ", f"bold {palette.INK}")]
        for source in self._sources(folder):
            chosen = source == self._source
            row += [
                (f"{'▸' if chosen else ' '}{source} ", f"bold {palette.ACCENT}" if chosen else palette.DIM)
            ]
        if self._search:
            row.append((f"  with “{self._search}”", palette.WARN))
        heading: list[Row] = [row]
        self.show_lines("#heading", heading)

    def _sources(self, folder: Path) -> list[str]:
        return [EVENTS, *(path.name for path in logs.log_files(folder))]

    def action_next_source(self) -> None:
        """Select the next source: events, then each log file, cyclically."""
        if not self.console.run_id:
            return
        sources = self._sources(RunFolder(self.console.home, self.console.run_id).logs)
        place = sources.index(self._source) + 1 if self._source in sources else 0
        self._source = sources[place % len(sources)]
        self.query_one(LogView).follow()
        self.read_soon()

    def searched(self) -> LogView:
        """Return the log."""
        return self.query_one(LogView)

    @on(Input.Changed)
    def _searched(self, event: Input.Changed) -> None:
        self._search = event.value.strip()
        self.read_soon()

    def action_follow(self) -> None:
        """Jump to the newest line and stay there."""
        self.query_one(LogView).follow()

    def action_copy(self) -> None:
        """Copy the visible lines."""
        words = self.query_one(LogView).plain
        self.console.copy(words, f"{len(words.splitlines())} lines")
