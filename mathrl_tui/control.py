"""The console's requests to runs: start, go on, stop, pause, checkpoint, kill. Each gives one line to show.

These block for up to some seconds; the console calls them on a thread. The engine's launching face is imported by the
first request, as nothing needs it to paint.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profiles.schema import Profile
    from store.subject import Changes

PAUSE = "pause or resume"


@dataclass(frozen=True, slots=True)
class Told:
    """Whether a request was carried out, and what to tell the person. `run_id` names the run it was about."""

    done: bool
    words: str
    run_id: str = ""


def command(home: Path, run_id: str, verb: str) -> Told:
    """Send `verb` (a control command, or PAUSE for whichever of pause and resume applies) to a live run.

    Needs the run's folder only, so it works when the store is held.
    """
    from engine.errors import LaunchError
    from engine.supervisor.commands import command as send
    from engine.supervisor.commands import is_alive

    try:
        if verb == PAUSE:
            state = send(home, run_id, "status", "console").status.get("state")
            verb = "resume" if state == "paused" else "pause"
        reply = send(home, run_id, verb, "console")
    except LaunchError as error:
        if is_alive(home, run_id):
            return Told(False, str(error), run_id)
        return Told(False, f"run {run_id}: no supervisor is running; press R to resume it", run_id)
    return Told(reply.ok, f"{run_id}: {reply.message}", run_id)


def go_on(home: Path, run_id: str, stages: Sequence[str]) -> Told:
    """A new supervisor for a run that has none, its plan longer by `stages`."""
    from engine.startup.launch import LaunchError, resume_run

    try:
        resume_run(home, run_id, tuple(stages))
    except LaunchError as error:
        return Told(False, str(error), run_id)
    return Told(True, f"{run_id} goes on", run_id)


def start(
    home: Path,
    profile: Profile,
    stages: Sequence[str],
    seed: int,
    name: str,
    changed: Changes,
    is_wanted: Callable[[], bool],
) -> Told:
    """Start a run of `profile`, of which `changed` was overridden.

    Nothing is written if it cannot be started, or if `is_wanted()` is false once it has been checked.
    """
    from engine.startup.launch import LaunchError, start_run

    try:
        run_id = start_run(home, profile, tuple(stages), seed, name, changed, is_wanted=is_wanted)
    except LaunchError as error:
        return Told(False, str(error))
    return Told(True, f"{run_id} started", run_id)
