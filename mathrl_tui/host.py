"""The app as screens use it: selected run, reader, notices, navigation.

This module does not import any screen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from textual import work
from textual.app import App

from mathrl_tui import actions, workspace_file
from mathrl_tui.core import palette, text
from mathrl_tui.core.completions import CompletionChoice
from mathrl_tui.core.workspace import Workspace
from mathrl_tui.reader import Reader, Unreadable
from mathrl_tui.workspace_file import Change, WorkspaceFault
from store.records import LIVE_STATES

if TYPE_CHECKING:
    from textual.driver import Driver
    from textual.notifications import SeverityLevel

    from mathrl_tui.core.alarm_watch import RunAlarm
    from mathrl_tui.core.alarms import Alarm


# Seconds between two looks at the live runs' alarms.
ALARM_SECONDS = 2.0


class Host(App[None]):
    """Screens over one home directory.

    `run_id` is the selected run; `choice` selects its completions.
    """

    def __init__(self, home: Path, driver: type[Driver]) -> None:
        super().__init__(driver_class=driver)
        self.home = home
        self.run_id = ""
        # The run to compare settings with; empty for a marked one, or the nearest.
        self.other_id = ""
        self.choice = CompletionChoice()
        # Why the store cannot be read or cannot ingest, in one line; empty if it can.
        self.trouble = ""
        # Run → state when it was last read.
        self._states: dict[str, str] = {}
        # Run → topics of the alarms that were shown.
        self._alarms: dict[str, set[str]] = {}
        self.reader = Reader(home)
        # Marks, tags and notes. Changed only by `change_workspace`.
        self.workspace = Workspace()
        # Writes them in order, without blocking keys.
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="workspace-writer")
        # Changes that are not in the file, because they are being written or could not be.
        self._unwritten: list[Change] = []
        # The newest picture of all live runs' alarms, None before the first; and those that the user has acknowledged.
        self.alarms: tuple[RunAlarm, ...] | None = None
        self.acknowledged: set[RunAlarm] = set()
        # The last reason why the file could not be used.
        self._workspace_trouble = ""

    def on_mount(self) -> None:
        """Watch the alarms of all live runs, on whatever screen."""
        self.set_interval(ALARM_SECONDS, self._watch_alarms)

    @work(group="alarms", exclusive=True)
    async def _watch_alarms(self) -> None:
        """Read the alarms; ring the bell and show a notice for each new one."""
        try:
            found = await self.reader.ask(lambda home_data: home_data.run_alarms())
        except Unreadable:
            # The screen shows the reason.
            return
        # The line in the header shows what was there before the console opened.
        known = found if self.alarms is None else self.alarms
        for alarm in [one for one in found if one not in known]:
            self.bell()
            self.show_notice(f"{alarm.run_id}: {alarm.words}", "error")
        self.alarms = found

    @property
    def open_alarms(self) -> list[RunAlarm]:
        """Return the alarms that are not acknowledged, the oldest first."""
        return sorted(
            (one for one in self.alarms or () if one not in self.acknowledged), key=lambda one: one.since
        )

    def on_unmount(self) -> None:
        """Stop the reader's thread; let the writer finish."""
        self.reader.close()
        self._writer.shutdown(wait=True)

    def change_workspace(self, change: Change) -> None:
        """Apply `change` to marks, tags or notes at once, then to their file."""
        self.workspace = change(self.workspace)
        self._unwritten.append(change)
        written = self._writer.submit(workspace_file.changed, self.home, change)
        loop = asyncio.get_running_loop()
        written.add_done_callback(lambda done: loop.call_soon_threadsafe(self._take_written, change, done))

    def _take_written(self, change: Change, written: Future[tuple[Workspace, Path | None]]) -> None:
        """Take the file's content after a change.

        If the write failed, keep the change in memory.
        """
        if isinstance(error := written.exception(), OSError):
            self._warn_of_workspace(f"marks, tags and notes last until this console closes: {error}")
            return
        after, aside = written.result()
        self._unwritten.remove(change)
        if aside is not None:
            self.show_notice(f"{workspace_file.NAME} was damaged and is now {aside}", "warning", timeout=60)
        self._take_workspace(after)

    def read_workspace(self) -> None:
        """Start to read the marks, tags and notes from their file.

        Another console may have changed them. A file that cannot be read gives a notice.
        """
        found = self._writer.submit(workspace_file.read, self.home)
        loop = asyncio.get_running_loop()
        # Taken in the order of the writer's thread, or an older content could follow a newer one.
        found.add_done_callback(lambda done: loop.call_soon_threadsafe(self._take_read, done))

    def _take_read(self, found: Future[Workspace]) -> None:
        if isinstance(error := found.exception(), WorkspaceFault | OSError):
            self._warn_of_workspace(str(error))
            return
        self._take_workspace(found.result())

    def _take_workspace(self, found: Workspace) -> None:
        after = reduce(lambda workspace, change: change(workspace), self._unwritten, found)
        if after != self.workspace:
            self.workspace = after

    def _warn_of_workspace(self, words: str) -> None:
        if words != self._workspace_trouble:
            self._workspace_trouble = words
            self.show_notice(words, "warning", timeout=30)

    async def reading(self, read: Callable[[], Awaitable[None]]) -> None:
        """Run a screen's read, and set `trouble` to what prevents current data.

        If the read fails, the screen keeps its last picture. Repairs of the store are shown as notices.
        """
        self.read_workspace()
        try:
            await read()
            self.trouble = self.reader.problem
        except Unreadable as error:
            self.trouble = str(error)
        for line in self.reader.take_repairs():
            self.show_notice(line, "warning", timeout=60)

    def show_notice(self, words: str, severity: SeverityLevel = "information", timeout: float = 10) -> None:
        """Show a notice for `timeout` seconds.

        `words` are plain text without markup.
        """
        self.notify(text.one_line(words), severity=severity, timeout=timeout, markup=False)

    def note_state(self, run_id: str, state: str, reason: str) -> None:
        """Ring the bell and show a notice if a live run has ended."""
        before = self._states.get(run_id)
        self._states[run_id] = state
        if before in LIVE_STATES and state not in LIVE_STATES:
            state = palette.shown_state(state, reason)
            self.bell()
            severities: dict[str, SeverityLevel] = {
                "failed": "error",
                "interrupted": "error",
                "done_with_failures": "warning",
            }
            self.show_notice(
                f"{run_id}: {palette.word(state)} {reason}", severities.get(state, "information")
            )

    def note_alarms(self, run_id: str, alarms: Sequence[Alarm]) -> None:
        """Ring the bell and show a notice for each new alarm of a run.

        Alarms of the first call are on the run's screen already and cause no notice.
        """
        topics = {alarm.topic for alarm in alarms}
        fresh = topics - self._alarms.get(run_id, topics)
        self._alarms.setdefault(run_id, topics).update(topics)
        for alarm in alarms:
            if alarm.topic in fresh:
                self.bell()
                self.show_notice(f"{run_id}: {alarm.words}", "error" if alarm.grave else "warning")

    def open_run(self, run_id: str) -> None:
        """Show `run_id` on the run screen."""
        self.run_id = run_id
        self.action_go(actions.RUN)

    def open_samples(self, choice: CompletionChoice) -> None:
        """Show completions of the run."""
        self.choice = choice
        self.action_go(actions.SAMPLES)

    def action_go(self, name: str) -> None:
        """Show the screen `name`."""
        self.switch_mode(name)

    def copy(self, words: str, what: str) -> None:
        """Copy over OSC 52.

        It reaches the user's own clipboard through SSH and tmux.
        """
        self.copy_to_clipboard(words)
        self.show_notice(f"copied {what}", timeout=3)
