"""A run's status from its folder alone, without the database.

It uses run.json, the end of the journal, and the supervisor's reply.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path

from mathrl_tui.core import alarms
from mathrl_tui.core import stall as silence
from mathrl_tui.core.stall import Pulse
from store import at_risk
from store import runs as run_states
from store.at_risk import AtRisk
from store.damage import summary as damage_line
from store.events import StageChange
from store.home import RunFolder
from store.journal import segments
from store.records import LIVE_STATES, Event, Record, RunRow, Scalar
from store.results import ProcessStatus, RunStatus
from store.run_config import RunConfig
from store.tail import Tail, read_tail

# Seconds that a supervisor has to reply. A healthy one needs half a second at most.
ANSWER_SECONDS = 1.0
# Number of newest log events that are searched for warnings.
LOG_LOOK = 500
# Number of newest records that show whether the run hangs.
SIGN_LOOK = 5000


@dataclass(frozen=True, slots=True)
class QuickStatus:
    """A run's status, its alarms (most serious first), and a kill's cost.

    `damage` is a line about damaged places of its journal, or empty.
    """

    status: RunStatus
    alarms: list[str] = field(default_factory=list)
    cost: AtRisk | None = None
    damage: str = ""


def quick_status(home: Path, run_id: str) -> QuickStatus | None:
    """Return the run's status.

    Returns: None if the folder is not sufficient and the store is needed.
    """
    folder = RunFolder(home, run_id)
    live = run_states.is_live(
        folder
        # Checked before the journal is read: what a supervisor wrote before it exited is then included.
    )
    tail = read_tail(folder.journal)
    row = _registration(tail.records) or run_states.registered(folder)
    if row is None or not (live or segments(folder.journal)):
        return None
    events = [record for record in tail.records if isinstance(record, Event)]
    if not tail.is_whole:
        events = [*_earlier(folder, row, events), *events]
    metrics = {one.metric: one.value for one in tail.records if isinstance(one, Scalar)}
    progress = run_states.progress_of(row, events)
    summary = run_states.summarise(run_id, row, progress, live)
    status = run_states.detail(
        replace(summary, damage=[one.words() for one in tail.damages]),
        progress,
        dict(sorted(metrics.items())),
        folder,
    )
    damage = damage_line(run_id, tail.damages) if tail.damages else ""
    if not live:
        return QuickStatus(status, damage=damage)
    status, trouble = _asked(folder, status)
    cost = at_risk.cost(at_risk.marked(tail.records), time.time())
    return QuickStatus(status, [*trouble, *_alarms(status, tail)], cost, damage)


def live_or_newest(home: Path, run_ids: Iterable[str]) -> list[str]:
    """Return the live runs of `run_ids`, else the newest run."""
    folders = [RunFolder(home, run_id) for run_id in run_ids]
    live = [folder.run_id for folder in folders if run_states.is_live(folder)]
    rows = [(row.ts, folder.run_id) for folder in folders if (row := run_states.registered(folder))]
    return live or [run_id for _, run_id in sorted(rows)[-1:]]


def _registration(records: Iterable[Record]) -> RunRow | None:
    return next((record for record in reversed(list(records)) if isinstance(record, RunRow)), None)


def _earlier(folder: RunFolder, row: RunRow, events: list[Event]) -> list[Event]:
    """Return substitutes for the events before the journal's tail.

    They are the finished stages, by their marks, and the active stage.
    """
    found = [
        StageChange("finished").event("", step.stage, step.arm, ts=0.0)
        for step in RunConfig.of(row.config).plan
        if (folder.path / "finished" / step.label).is_file()
    ]
    at = next((event for event in reversed(events) if event.kind == "progress"), None)
    if at is not None and not any(event.kind == "stage" for event in events):
        found.append(StageChange("started").event("", at.stage, at.arm, ts=0.0))
    return found


def _asked(folder: RunFolder, status: RunStatus) -> tuple[RunStatus, list[str]]:
    """Return `status` with the supervisor's reply, and its problems.

    A supervisor that does not reply is also a problem.
    """
    from engine.ipc.pidfile import holder, lock_path
    from engine.protocol.control import NotLive, ask
    from engine.supervisor.commands import stopped_supervisor

    if stopped := stopped_supervisor(folder):
        return _by_pid_files(folder, status), [stopped]
    try:
        reply = ask(folder, "status", timeout=ANSWER_SECONDS).status
    except NotLive as error:
        # It has not created its socket yet.
        starts = status.state == "queued" or holder(lock_path(folder)) is None
        silent = [] if starts else [f"{error}; `mathrl-tui kill {folder.run_id}` ends the run"]
        return _by_pid_files(folder, status), silent
    processes = [ProcessStatus(one["role"], int(one["pid"]), True) for one in reply.get("processes", ())]
    known = {one.role for one in processes}
    others = [replace(one, alive=False) for one in status.processes if one.role not in known]
    state, reason = str(reply.get("state", status.state)), str(reply.get("reason", status.reason))
    trouble = str(reply.get("trouble") or "")
    return replace(status, state=state, reason=reason, processes=[*processes, *others]), [trouble] * bool(
        trouble
    )


def _by_pid_files(folder: RunFolder, status: RunStatus) -> RunStatus:
    """Return `status` with the processes that hold the run's pid files.

    They replace the journaled processes of the same role.
    """
    from engine.ipc.pidfile import ROLES, holder, lock_path, pid_path

    paths = {"supervisor": lock_path(folder), **{role: pid_path(folder, role) for role in ROLES}}
    held = {role: process for role, path in paths.items() if (process := holder(path)) is not None}
    found = [ProcessStatus(role, process.pid, True) for role, process in held.items()]
    return replace(status, processes=[*found, *(one for one in status.processes if one.role not in held)])


def _alarms(status: RunStatus, tail: Tail) -> list[str]:
    if status.state not in LIVE_STATES:
        return []
    log = [one for one in tail.records if isinstance(one, Event) and one.kind == "log"]
    pulse = reduce(silence.after, tail.records[-SIGN_LOOK:], Pulse())
    found = [
        *alarms.diverging(status.metrics),
        *alarms.silent(status.state, pulse, time.time()),
        *alarms.warnings(log[-LOG_LOOK:]),
    ]
    return [alarm.words for alarm in found]
