"""One run: stages, live charts, values, processes, GPUs, controls."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical

from mathrl_tui import actions
from mathrl_tui.core import alarms, machine_strip, palette, run_end, side_panels
from mathrl_tui.core.marked_runs import MarkedRun
from mathrl_tui.core.other_seeds import OtherRuns
from mathrl_tui.core.run import RunSnapshot
from mathrl_tui.core.spans import Row
from mathrl_tui.core.view_line import view_line
from mathrl_tui.reader import Unreadable
from mathrl_tui.screens.chart_keys import ChartKeys
from mathrl_tui.screens.controls import Controls
from mathrl_tui.screens.searching import SearchField
from mathrl_tui.widgets.chart_wall import ChartWall
from mathrl_tui.widgets.lines import Lines
from store.records import LIVE_STATES

# Seconds between reads of a run that is not live.
IDLE_SECONDS = 2.5


class RunScreen(Controls, ChartKeys):
    """Screen of the run selected in the list."""

    NAME = actions.RUN
    INTERVAL: ClassVar[float] = 0.5
    BINDINGS = actions.bindings(actions.RUN)

    def __init__(self) -> None:
        super().__init__()
        # With the other runs of the profile.
        self._together = False
        # Metrics whose history the side panel shows.
        self._gpu_metrics: list[str] = []
        # Whether the run is live, and when it was read, in monotonic seconds.
        self._is_live, self._read_at = True, 0.0

    def _tick(self) -> None:
        """Read; the records of a run that is not live rarely change."""
        if self._is_live or time.monotonic() - self._read_at >= IDLE_SECONDS:
            super()._tick()

    def body(self) -> ComposeResult:
        """Yield heading, alarms, stages, side panels and the wall of charts."""
        yield Lines(id="heading")
        yield Lines(id="alarms")
        yield Lines(id="strip")
        with Horizontal(id="run"):
            yield Lines(id="side")
            with Vertical():
                yield ChartWall(id="wall")
                yield Lines(id="view")
        yield SearchField("name of a chart; Enter keeps it, Esc shows all")

    @property
    def target(self) -> str | None:
        """Return the id of the run that commands go to; None before a selection."""
        return self.console.run_id or None

    async def read(self) -> None:
        """Read the run and the curves of the visible charts, and show them."""
        run_id = await self.chosen_run()
        if not run_id:
            self.show_lines(
                "#heading", [[(" No run is chosen: press 1 and choose or start one", palette.WARN)]]
            )
            return
        needed, timed, windows = self.wall.needed(), self.wall.timed(), self.wall.windows()
        together = self._together
        needed += self._gpu_metrics
        marked = [one for one in self.console.workspace.marked if one != run_id]
        run, other_runs, marked_runs = await self.ask(
            lambda home_data: (
                home_data.run(run_id, needed, timed, windows),
                home_data.other_runs(run_id, needed, timed) if together else None,
                home_data.marked_runs(marked, needed, timed) if marked else (),
            )
        )
        self.show_run(run, other_runs, marked_runs)

    def show_run(
        self, run: RunSnapshot, other_runs: OtherRuns | None, marked: Sequence[MarkedRun] = ()
    ) -> None:
        """Show the snapshot in all parts of the screen."""
        self._is_live, self._read_at = run.state in LIVE_STATES, time.monotonic()
        self.console.note_state(run.run_id, run.state, run.reason)
        width, now = self.size.width, self.now
        self._show_alarms(run, now)
        self.show_lines("#heading", [side_panels.heading(run, width, now)])
        strip = side_panels.strip(run.board, width)
        self.query_one("#strip").styles.height = len(strip)
        self.show_lines("#strip", strip)
        self._gpu_metrics = machine_strip.gpu_metrics(run.latest)
        looks = palette.arms(run.arms)
        self.show_lines("#side", self._side(run, looks, now))
        before = self.wall.needed()
        workspace = self.console.workspace
        overlays = [(one, look) for one in marked if (look := workspace.look(one.run_id)) is not None]
        self.wall.show(run, looks, other_runs, overlays)
        self._show_view()
        if any(metric not in run.curves for metric in self.wall.needed()) and before != self.wall.needed():
            self.call_after_refresh(self.read_soon)

    def _show_alarms(self, run: RunSnapshot, now: float) -> None:
        """Show a line with the alarms while there are any."""
        found = alarms.alarms(run, now)
        self.console.note_alarms(run.run_id, found)
        self.query_one("#alarms").display = bool(found)
        live = run.state in LIVE_STATES
        self.show_lines("#alarms", [alarms.row(found, live)] if found else [])

    def _side(self, run: RunSnapshot, looks: dict[str, palette.Look], now: float) -> list[Row]:
        gap: list[Row] = [[]]
        width, height = self.query_one("#side").size
        if not width:
            # The side panel is hidden on a narrow terminal.
            return []
        stages = [
            *side_panels.stage_list(run.board, width, now),
            *run_end.end_row(run, width, now),
            *side_panels.risk(run, width, now),
        ]
        gpus = machine_strip.gpu_rows(run.latest, run.curves, width)
        waiting = machine_strip.waiting_rows(run, width)
        machines = [*side_panels.processes(run.processes, width), *waiting]
        if gpus:
            machines += [*gap, side_panels.title("GPUs", width), *gpus]
        room = max(height - len(stages) - len(machines) - 2, 4)
        found = [*stages, *gap, *side_panels.values(run, looks, width, room), *gap, *machines]
        events = run_end.event_rows(run, width, height - len(found) - 2)
        return [*found, *gap, side_panels.title("Last events", width), *events] if events else found

    @on(ChartWall.Changed)
    def _wall_changed(self) -> None:
        self._show_view()
        self.read_soon()

    def _show_view(self) -> None:
        """Show the line under the charts."""
        wall, line = self.wall, self.query_one("#view", Lines)
        line.show([view_line(wall.view, wall.choice, wall.place, self._shown_together(), line.size.width)])

    def _shown_together(self) -> str:
        if not self._together:
            return "this run"
        runs = self.wall.together
        return "reading…" if runs is None else f"{runs} runs" if runs > 1 else "no other"

    def action_together(self) -> None:
        """Switch between this run, and mean and range over all its runs.

        These are all runs of the same profile.
        """
        self._together = not self._together
        self.read_soon()

    @work(group="copy")
    async def action_copy(self) -> None:
        """Copy the run's newest values, one line a metric."""
        run_id = self.target
        if run_id is None:
            return
        try:
            run = await self.reader.ask(lambda home_data: home_data.run(run_id))
        except Unreadable as error:
            self.console.show_notice(f"nothing copied: {error}", "error")
            return
        lines = [f"{name}\t{value.value:g}" for name, value in sorted(run.latest.items())]
        self.console.copy("\n".join(lines), f"{len(lines)} newest values")
