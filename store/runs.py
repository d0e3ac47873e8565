"""What has become of a run, told from its registration, its events and whether its supervisor lives.

The last `state` event says what the run was; only the lock that a living supervisor holds on `run.lock` says that it
still is. A run whose state is live and whose supervisor is gone was interrupted.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from store.home import RunFolder
from store.locks import is_locked
from store.plain_json import parse_object
from store.records import LIVE_STATES, Event, Part, RunRow
from store.results import ProcessStatus, RunStatus, RunSummary, StageStatus
from store.subject import model_source


def is_live(folder: RunFolder) -> bool:
    """Whether a supervisor holds the run now."""
    return is_locked(folder.path / "run.lock")


def registered(folder: RunFolder) -> RunRow | None:
    """Return the registration in a run's folder; None if there is none, or it cannot be read."""
    try:
        config = parse_object(folder.config.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if not _is_configuration(config):
        return None
    return RunRow(
        name=config.get("name", folder.run_id),
        profile=profile_name(config),
        seed=config.get("seed", 0),
        config=config,
        ts=config.get("created", 0.0),
    )


def _is_configuration(config: dict[str, Any]) -> bool:
    """Return True if what reports read of a run's configuration has the right types; a damaged one may not."""
    plan, created, seed = config.get("plan", []), config.get("created", 0.0), config.get("seed", 0)
    steps = plan if isinstance(plan, list) else [None]
    return (
        all(isinstance(step, dict) and isinstance(step.get("stage"), str) for step in steps)
        and isinstance(config.get("name", ""), str)
        and isinstance(created, (int, float))
        and isinstance(seed, int)
        and isinstance(config.get("changed", {}), dict)
    )


def profile_name(config: dict[str, Any]) -> str:
    """Name of the profile that a run's configuration freezes."""
    profile = config.get("profile", {})
    return str(profile.get("name", "")) if isinstance(profile, dict) else str(profile)


def summarise(
    run_id: str, row: RunRow, events: Sequence[Event], live: bool, heard: float = 0.0
) -> RunSummary:
    """A run's summary from those of its events that tell its state, in order.

    `live` is what `is_live` says; `heard` the time of the last event of any kind, where the caller knows it.
    """
    states = [event for event in events if event.kind == "state"]
    state = states[-1].payload.get("state", "") if states else "queued"
    reason = str(states[-1].payload.get("reason", "") or states[-1].message) if states else ""
    if state in LIVE_STATES and not live:
        state, reason = "interrupted", "the supervisor is gone" if states else "no supervisor has started it"
    last = max([heard, *(event.ts for event in events)])
    return RunSummary(
        run=run_id,
        name=row.name,
        state=state,
        reason=reason,
        stages=stage_statuses(row.config.get("plan", []), events, state in LIVE_STATES),
        profile=row.profile,
        seed=row.seed,
        started=row.ts or None,
        ended=None if state in LIVE_STATES else last or None,
        model=model_source(row.config),
        changed=row.config.get("changed", {}),
    )


def stage_statuses(plan: Iterable[dict[str, str]], events: Iterable[Event], live: bool) -> list[StageStatus]:
    """The plan's steps, and those that events add to it, each with the status that its last event gives."""
    statuses = {(step["stage"], step.get("arm", "")): "pending" for step in plan}
    for event in events:
        if event.kind == "stage":
            statuses[event.stage, event.arm] = str(event.payload.get("status", event.message))
    return [
        StageStatus(stage, arm, "interrupted" if status == "started" and not live else status)
        for (stage, arm), status in statuses.items()
    ]


def detail(
    summary: RunSummary, events: Sequence[Event], metrics: dict[str, float], folder: RunFolder
) -> RunStatus:
    """`summary` with the run's place, from its last stage and progress events, its metrics and its processes."""
    stage, arm, progress = _place(events)
    done = progress.payload.get("done") if progress else None
    live = summary.state in LIVE_STATES
    return RunStatus(
        **{key: getattr(summary, key) for key in RunSummary.__slots__},
        stage=stage,
        arm=arm,
        step=done,
        total_steps=progress.payload.get("total") if progress else None,
        unit=str(progress.payload.get("unit", "")) if progress else "",
        part=Part.of(progress.payload) if progress and live else None,
        eta_seconds=progress.payload.get("eta_seconds") if progress and live else None,
        metrics=metrics,
        processes=processes(events, folder, live),
    )


def processes(events: Iterable[Event], folder: RunFolder, live: bool) -> list[ProcessStatus]:
    """Each role's process as last reported; one that was alive then and has no process now is not alive.

    Nobody takes note of the ends of a run's processes once it is not `live`, and numbers are used again: then only one
    that still holds its pid file is alive.
    """
    last = {event.payload.get("role", ""): event.payload for event in events if event.kind == "process"}
    found = []
    for role, payload in last.items():
        pid = int(payload.get("pid", 0))
        alive = bool(payload.get("alive")) and _exists(pid)
        found.append(ProcessStatus(role, pid, alive and (live or is_locked(folder.path / f"{role}.pid"))))
    return found


def as_json(summary: RunSummary) -> dict[str, Any]:
    """`summary` (or a status) as the JSON of `runs --json`: its fields under their own names."""
    return asdict(summary)


def _place(events: Sequence[Event]) -> tuple[str, str, Event | None]:
    """The stage and arm that a run is at, and that stage's last progress."""
    steps = [event for event in events if event.kind == "stage"]
    progress = [event for event in events if event.kind == "progress"]
    if not steps:
        return (progress[-1].stage, progress[-1].arm, progress[-1]) if progress else ("", "", None)
    stage, arm = steps[-1].stage, steps[-1].arm
    own = [event for event in progress if (event.stage, event.arm) == (stage, arm)]
    return stage, arm, own[-1] if own else None


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
