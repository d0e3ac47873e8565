"""The app as screens use it: selected run, reader, notices, navigation.

This module does not import any screen.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App

from mathrl_tui import actions
from mathrl_tui.core import palette, text
from mathrl_tui.core.completions import CompletionChoice
from mathrl_tui.reader import Reader, Unreadable
from store.records import LIVE_STATES

if TYPE_CHECKING:
    from textual.driver import Driver
    from textual.notifications import SeverityLevel

    from mathrl_tui.core.alarms import Alarm


class Host(App[None]):
    """Screens over one home directory.

    `run_id` is the selected run; `choice` selects its completions.
    """

    def __init__(self, home: Path, driver: type[Driver]) -> None:
        super().__init__(driver_class=driver)
        self.home = home
        self.run_id = ""
        # The run to compare settings with; empty for the nearest one.
        self.other_id = ""
        self.choice = CompletionChoice()
        # Why the store cannot be read or cannot ingest, in one line; empty if it can.
        self.trouble = ""
        # Run → state when it was last read.
        self._states: dict[str, str] = {}
        # Run → topics of the alarms that were shown.
        self._alarms: dict[str, set[str]] = {}
        self.reader = Reader(home)

    def on_unmount(self) -> None:
        """Stop the reader's thread."""
        self.reader.close()

    async def reading(self, read: Callable[[], Awaitable[None]]) -> None:
        """Run a screen's read.

        If it fails, keep the last picture and set `trouble` to the reason.
        """
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
