"""Summary and status of a run.

    events ─▶ RunProgress ─┐
    registration ──────────┼─▶ summarise ─▶ RunSummary ─▶ detail ─▶ RunStatus
    run.lock held? ────────┘

The last `state` event gives the state that the supervisor recorded. Only the lock on `run.lock` shows that a
supervisor is alive. A run with a live state but without a supervisor was interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from store.events import ProcessChange
from store.home import RunFolder
from store.locks import is_locked
from store.records import LIVE_STATES, Event, RunRow
from store.results import ProcessStatus, RunStatus, RunSummary, StageStatus
from store.run_config import RunConfig, read_config
from store.run_progress import RunProgress, StepName, folded


def is_live(folder: RunFolder) -> bool:
    """Return True if a supervisor holds the run now."""
    return is_locked(folder.path / "run.lock")


def registered(folder: RunFolder) -> RunRow | None:
    """Return the registration in a run's folder.

    Return None if it is missing or cannot be read.
    """
    try:
        config = read_config(folder.config)
    except (FileNotFoundError, ValueError):
        return None
    name = config.name or folder.run_id
    return RunRow(name, config.profile_name, config.seed, config.table(), config.created)


def progress_of(row: RunRow, events: Iterable[Event]) -> RunProgress:
    """Return the progress of a registered run after `events`."""
    plan = RunConfig.of(row.config).plan
    return folded(events, RunProgress.of_plan((step.stage, step.arm) for step in plan))


def summarise(run_id: str, row: RunRow, progress: RunProgress, live: bool, newest: float = 0.0) -> RunSummary:
    """Return a run's summary.

    Args:
        progress: folded from its state and stage events, or from all of its events.
        live: the result of `is_live`.
        newest: the time of the last event of any kind (Unix seconds), if the caller knows it.
    """
    state, reason = progress.state or "queued", progress.reason
    if state in LIVE_STATES and not live:
        is_started = bool(progress.state)
        state, reason = (
            "interrupted",
            "the supervisor is gone" if is_started else "no supervisor has started it",
        )
    config = RunConfig.of(row.config)
    planned = {(step.stage, step.arm) for step in config.plan}
    return RunSummary(
        run=run_id,
        name=row.name,
        state=state,
        reason=reason,
        stages=_stage_statuses(progress, planned, state in LIVE_STATES),
        profile=row.profile,
        seed=row.seed,
        started=row.ts or None,
        ended=None if state in LIVE_STATES else max(newest, progress.last) or None,
        model=config.model_source,
        changed=config.changed,
    )


def _stage_statuses(progress: RunProgress, planned: set[StepName], live: bool) -> list[StageStatus]:
    """Return the status of the planned steps, then of further ones.

    Stage events of an extended run add steps.
    """
    return [
        StageStatus(*step.name, "interrupted" if step.status == "started" and not live else step.status)
        for step in progress.steps
        if step.name in planned or step.status != "pending"
    ]


def detail(
    summary: RunSummary, progress: RunProgress, metrics: dict[str, float], folder: RunFolder
) -> RunStatus:
    """Return `summary` with the current step, last metrics and processes."""
    live, step = summary.state in LIVE_STATES, progress.current
    report = step.report if step else None
    return RunStatus(
        **{key: getattr(summary, key) for key in RunSummary.__slots__},
        stage=step.stage if step else "",
        arm=step.arm if step else "",
        step=report.done if report else None,
        total_steps=(report.total or None) if report else None,
        unit=report.unit if report else "",
        part=report.part if report and live else None,
        eta_seconds=report.eta_seconds if report and live else None,
        metrics=metrics,
        processes=processes(progress.processes, folder, live),
    )


def processes(reported: Iterable[ProcessChange], folder: RunFolder, live: bool) -> list[ProcessStatus]:
    """Return each role's process as last reported.

    A process is alive only if it still exists.
    Without a supervisor the exit of a process is not recorded, and its PID may be in use again. Then only a
    process that holds its pid file is alive.
    """
    return [
        ProcessStatus(
            one.role,
            one.pid,
            one.alive and _exists(one.pid) and (live or is_locked(folder.path / f"{one.role}.pid")),
        )
        for one in reported
    ]


def as_json(summary: RunSummary) -> dict[str, Any]:
    """Return a summary or a status as the JSON of `runs --json`.

    Fields keep their names.
    """
    return asdict(summary)


def _exists(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
