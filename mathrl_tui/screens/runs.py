"""The list of runs with state and progress.

Runs are selected and started here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.widgets import DataTable, Static

from mathrl_tui import actions
from mathrl_tui.core import alarms, palette, subject, text
from mathrl_tui.core.space_watch import SpaceWatch
from mathrl_tui.core.workspace import Workspace, with_mark
from mathrl_tui.screens.controls import Controls
from mathrl_tui.widgets.keyed_table import Cell, KeyedTable
from mathrl_tui.widgets.lines import Lines
from store.subject import model_name, profile_name

if TYPE_CHECKING:
    from mathrl_tui.core.home_data import RunLine

_EMPTY = """[b]No runs here yet.[/b]

Press [b]n[/b] to start one: choose a profile and its stages, and the console follows it live.
With no GPU, the profile [b]demo[/b] runs the whole experiment on this machine's CPU in a few minutes
(or, outside the console: [b]mathrl-tui demo[/b]).

To see the runs of another directory, use [b]--home DIR[/b] or the environment variable [b]MATHRL_HOME[/b]."""


class RunsScreen(Controls):
    """All runs of the home directory, newest first."""

    NAME = actions.RUNS
    BINDINGS = actions.bindings(actions.RUNS)

    def __init__(self) -> None:
        super().__init__()
        # By run.
        self._lines: dict[str, RunLine] = {}
        # Made when the console's home is known.
        self._space: SpaceWatch | None = None

    def body(self) -> ComposeResult:
        """Yield the table of runs, and lines about the selected run and the disk."""
        yield KeyedTable(id="runs")
        yield Lines(id="alarms")
        yield Lines(id="subject")
        yield Lines(id="space")
        yield Static("reading the store…", id="empty")

    async def read(self) -> None:
        """Read the runs and show them."""
        lines = await self.ask(lambda home_data: home_data.runs())
        for line in lines:
            self.console.note_state(line.summary.run, line.summary.state, line.summary.reason)
            if line.at is not None:
                self.console.note_alarms(line.summary.run, line.alarms)
        table = self.query_one(KeyedTable)
        wide = self.app.size.width >= 120
        workspace = self.console.workspace
        table.show(_titles(wide), {one.summary.run: _cells(one, wide, workspace) for one in lines})
        self._lines = {line.summary.run: line for line in lines}
        self._show_details()
        self._space = self._space or SpaceWatch(self.console.home)
        row = self._space.row
        self.query_one("#space").display = bool(row)
        self.show_lines("#space", [row] if row else [])
        table.display = bool(lines)
        empty = self.query_one("#empty", Static)
        empty.display = not lines
        if not lines:
            empty.update(text.flowing(_EMPTY))
        elif not self.console.run_id:
            self.console.run_id = lines[0].summary.run
        if lines and not self.focused:
            table.focus()

    @property
    def target(self) -> str | None:
        """Return the id of the run under the cursor; None without runs."""
        return self.query_one(KeyedTable).chosen

    def action_open(self) -> None:
        """Open the run under the cursor."""
        if self.target:
            self.console.open_run(self.target)

    def action_mark(self) -> None:
        """Mark or unmark the run under the cursor."""
        if run_id := self.target:
            self.console.change_workspace(partial(with_mark, run_id=run_id))
            self.read_soon()

    @on(DataTable.RowSelected)
    def _selected(self) -> None:
        self.action_open()

    @on(DataTable.RowHighlighted)
    def _highlighted(self) -> None:
        # Otherwise rows arrived while another screen opened a run of its own.
        if self.is_current:
            self.console.run_id = self.target or ""
        self._show_details()

    def _show_details(self) -> None:
        """Show the selected run's alarms, model, profile and changed settings."""
        line = self._lines.get(self.target or "")
        found = line.alarms if line else ()
        self.query_one("#alarms").display = bool(found)
        self.show_lines("#alarms", [alarms.row(found, True)] if found else [])
        self.query_one("#subject").display = line is not None
        self.show_lines("#subject", [subject.row(line.summary, self.size.width)] if line else [])


def _titles(wide: bool) -> tuple[str, ...]:
    titles = ("run", "state", "stage", "progress", "left")
    return (*titles, "model", "profile", "seed", "started", "took", "reason") if wide else titles


def _cells(line: RunLine, wide: bool, workspace: Workspace) -> tuple[Cell, ...]:
    run, at = line.summary, line.at
    mark = workspace.look(run.run) if run.run in workspace.marked else None
    look = palette.state(run.state)
    troubled = bool(line.alarms)
    stage = "" if at is None else at.label
    bar = text.bar(line.fraction, 16 if wide else 8)
    filled = bar.rstrip("─")
    colour = palette.GOOD if run.state == "done" else look.colour
    progress = Text.assemble(
        (filled, colour),
        (bar[len(filled) :], palette.FAINT),
        (f" {text.percent(line.fraction, 0):>5}", palette.DIM),
    )
    cells: tuple[Cell, ...] = (
        Text.assemble(
            (f"{mark.mark} ", mark.colour) if mark else "  ",
            (text.run_name(run.run, 44 if wide else 28), f"bold {palette.INK}"),
        ),
        Text(
            f"{look.mark} {palette.word(run.state)}{' !' * troubled}",
            palette.WARN if troubled else look.colour,
        ),
        Text(f"{stage:<10}", palette.INK),
        progress,
        Text(f"{text.duration(at.eta) if at else '':>7}", palette.INK),
    )
    if not wide:
        return cells
    took = None if run.ended is None or run.started is None else run.ended - run.started
    return (
        *cells,
        Text(text.ends(text.one_line(model_name(run.model)), 20), palette.ACCENT),
        Text(profile_name(run.profile, run.changed), palette.DIM),
        Text(f"{run.seed:>4}", palette.DIM),
        Text(text.moment(run.started), palette.DIM),
        Text(f"{text.duration(took):>8}", palette.DIM),
        _reason(line),
    )


def _reason(line: RunLine) -> Text:
    """Return the first alarm of the run, else the reason of its state."""
    if line.alarms:
        return Text(text.clip(line.alarms[0].words, 60), palette.WARN)
    is_notable = palette.state(line.summary.state).colour in (palette.BAD, palette.WARN)
    return Text(text.clip(line.summary.reason, 60), palette.WARN if is_notable else palette.DIM)
