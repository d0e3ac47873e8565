"""Events that the supervisor itself records: states, processes, commands.

Each is journaled before any client sees it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from engine.supervisor.journal_summary import JournalSummary
from engine.supervisor.record_queue import RecordQueue
from store.events import CommandReceived, LogLine, ProcessChange, StateChange
from store.records import LIVE_STATES, Event, RunRow, RunState
from store.run_config import RunConfig


class RunEvents:
    """Records the run's state and what happens to its processes."""

    def __init__(self, recorder: RecordQueue) -> None:
        self.state: RunState = "queued"
        self.reason = ""
        self._recorder = recorder

    def start(self, config: RunConfig, summary: JournalSummary, found: Sequence[Event]) -> None:
        """Record the run (again if its plan grew) and an earlier crash.

        Args:
            found: events about damage that the takeover found.
        """
        if summary.plan != config.plan:
            row = RunRow(config.name, config.profile_name, config.seed, config.table(), config.created)
            self._recorder.take([row])
        self._recorder.take(found)
        if summary.progress.state in LIVE_STATES:
            self.set_state("interrupted", "the supervisor died")
        self.set_state("queued", "starts")
        self.process("supervisor", os.getpid(), "", alive=True)
        self._recorder.flush(now=True)

    def set_state(self, state: RunState, reason: str) -> None:
        """Record a change of the run's state; ignore an unchanged one."""
        if (state, reason) == (self.state, self.reason):
            return
        self.state, self.reason = state, reason
        self._recorder.take([StateChange(state, reason).event(reason)])
        self._recorder.flush_soon()

    def process(self, role: str, pid: int, reason: str, *, alive: bool = False) -> None:
        """Record the start or the exit of a process."""
        self._recorder.take([ProcessChange(role, pid, alive, reason).event(reason)])

    def command(self, command: str, origin: str) -> None:
        """Record a command of a client."""
        self._recorder.take([CommandReceived(command, origin).event(command)])
        self._recorder.flush_soon()

    def log(self, level: str, message: str) -> None:
        """Record a log line of the supervisor."""
        self._recorder.take([LogLine(level, "supervisor").event(message)])
