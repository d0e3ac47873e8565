"""Alarms of all live runs of a home, read once for all screens.

    live runs ─▶ stored alarm events ─▶ journal's tail ─▶ alarms since the last start

The supervisor finds the alarms and journals them. Only silence is found here, because a supervisor or a process that
hangs cannot report itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from mathrl_tui.core import alarms
from mathrl_tui.core import stall as silence
from mathrl_tui.core.stall import Pulse
from store import runs as run_states
from store.events import AlarmRaised, StateChange, details_of
from store.home import RunFolder, run_ids
from store.live import LiveTail
from store.query import Store
from store.records import LIVE_STATES, Event, Record

# Newest events that show whether a run was silent before the console opened.
SIGNS = 200
SILENT = "no-progress"


@dataclass(frozen=True, slots=True)
class RunAlarm:
    """An alarm of a run. `since` is in Unix seconds; `words` explain it.

    Two alarms of a run with the same name and time are the same.
    """

    run_id: str
    alarm: str
    since: float
    words: str


@dataclass(slots=True)
class _WatchedRun:
    tail: LiveTail
    state: str = ""
    pulse: Pulse = field(default_factory=Pulse)
    found: tuple[RunAlarm, ...] = ()

    def take(self, run_id: str, records: Iterable[Record]) -> None:
        """Fold records in; a new start of the run clears its alarms."""
        for record in records:
            self.pulse = silence.after(self.pulse, record)
            if isinstance(record, Event):
                match details_of(record):
                    case StateChange(state):
                        if state == "queued" and self.state not in LIVE_STATES:
                            self.found = ()
                        self.state = state
                    case AlarmRaised(alarm):
                        self.found += (RunAlarm(run_id, alarm, record.ts, record.message),)

    def alarms(self, folder: RunFolder, now: float) -> tuple[RunAlarm, ...]:
        """Return the run's alarms at `now` (Unix seconds), the newest last."""
        run_id, silent = folder.run_id, alarms.silent(self.state, self.pulse, now)
        # Without a supervisor the run is interrupted, not silent.
        if silent and not run_states.is_live(folder):
            return self.found
        return self.found + tuple(RunAlarm(run_id, SILENT, self.pulse.heard, one.words) for one in silent)


class AlarmWatch:
    """Follows all runs that were live since the first call."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._runs: dict[str, _WatchedRun] = {}

    def poll(self, now: float) -> tuple[RunAlarm, ...]:
        """Return the alarms of all followed runs at `now` (Unix seconds).

        A run that has ended keeps those of its last start.
        """
        for run_id in run_ids(self._store.home):
            folder = RunFolder(self._store.home, run_id)
            if run_id not in self._runs and run_states.is_live(folder):
                self._runs[run_id] = self._opened(folder)
        for run_id, run in self._runs.items():
            run.take(run_id, run.tail.poll())
        watched = [(RunFolder(self._store.home, run_id), run) for run_id, run in self._runs.items()]
        return tuple(alarm for folder, run in watched for alarm in run.alarms(folder, now))

    def _opened(self, folder: RunFolder) -> _WatchedRun:
        self._store.ingest()
        _, reached = self._store.events_to_here(folder.run_id, limit=0)
        run = _WatchedRun(LiveTail(folder.journal, reached))
        kinds = (("state", "alarm"), None), (("stage", "progress", "phase", "process"), SIGNS)
        run.take(folder.run_id, self._store.newest_events(folder.run_id, *kinds))
        return run
