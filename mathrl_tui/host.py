"""The app as its screens know it: what they show, where they ask, and what they tell. It knows none of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App

from mathrl_tui import actions
from mathrl_tui.core import palette, text
from mathrl_tui.core.completions import Choice
from mathrl_tui.reader import Reader, Unreadable
from store.records import LIVE_STATES

if TYPE_CHECKING:
    from textual.driver import Driver
    from textual.notifications import SeverityLevel

    from mathrl_tui.core.alarms import Alarm


class Host(App[None]):
    """Screens over one home folder. `run_id` is the run that they show, `choice` its completions that are read."""

    def __init__(self, home: Path, driver: type[Driver]) -> None:
        super().__init__(driver_class=driver)
        self.home = home
        self.run_id = ""
        self.other_id = ""  # the run to compare settings with; empty: the nearest one
        self.choice = Choice()
        self.trouble = ""  # why the store does not answer or take in what is new, in one line
        self._states: dict[str, str] = {}  # of each run when it was last seen
        self._alarms: dict[str, set[str]] = {}  # of each run, the topics that were told
        self.reader = Reader(home)

    def on_unmount(self) -> None:
        """Lets the reading thread go."""
        self.reader.close()

    async def reading(self, read: Callable[[], Awaitable[None]]) -> None:
        """Carries out a screen's read; where that fails its last picture stays, and `trouble` says why."""
        try:
            await read()
            self.trouble = self.reader.problem
        except Unreadable as error:
            self.trouble = str(error)
        for line in self.reader.take_told():
            self.tell(line, "warning", timeout=60)

    def tell(self, words: str, severity: SeverityLevel = "information", timeout: float = 10) -> None:
        """Shows a notice for `timeout` seconds, its words as they are: brackets are no markup."""
        self.notify(text.one_line(words), severity=severity, timeout=timeout, markup=False)

    def note_state(self, run_id: str, state: str, reason: str) -> None:
        """Rings and tells when a run that was seen alive is so no longer."""
        before = self._states.get(run_id)
        self._states[run_id] = state
        if before in LIVE_STATES and state not in LIVE_STATES:
            self.bell()
            severities: dict[str, SeverityLevel] = {
                "failed": "error",
                "interrupted": "error",
                "done_with_failures": "warning",
            }
            self.tell(f"{run_id}: {palette.word(state)} {reason}", severities.get(state, "information"))

    def note_alarms(self, run_id: str, alarms: Sequence[Alarm]) -> None:
        """Rings and tells what a run that is being watched warns of anew; what it said before stands on its screen."""
        topics = {alarm.topic for alarm in alarms}
        fresh = topics - self._alarms.get(run_id, topics)
        self._alarms.setdefault(run_id, topics).update(topics)
        for alarm in alarms:
            if alarm.topic in fresh:
                self.bell()
                self.tell(f"{run_id}: {alarm.words}", "error" if alarm.grave else "warning")

    def open_run(self, run_id: str) -> None:
        """Looks at `run_id` on the run screen."""
        self.run_id = run_id
        self.action_go(actions.RUN)

    def open_samples(self, choice: Choice) -> None:
        """Reads completions of the run."""
        self.choice = choice
        self.action_go(actions.SAMPLES)

    def action_go(self, name: str) -> None:
        """Shows the screen `name`."""
        self.switch_mode(name)

    def copy(self, words: str, what: str) -> None:
        """Copies over OSC 52, which reaches the person's own clipboard through SSH and tmux."""
        self.copy_to_clipboard(words)
        self.tell(f"copied {what}", timeout=3)
