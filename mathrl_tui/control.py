"""Requests of the console to runs: start, resume, stop, pause, kill, ….

Each returns one line to show. A request can block for some seconds, so the console calls it on a thread. The
first request imports the engine's launch code; painting does not need it.
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
class RequestResult:
    """Result of a request: success, a line for the user, and the run's id."""

    done: bool
    words: str
    run_id: str = ""


def command(home: Path, run_id: str, verb: str) -> RequestResult:
    """Send the control command `verb` to a live run.

    PAUSE sends pause or resume, whichever applies. The call needs only the run's folder, so it works while
    the store is held.
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
            return RequestResult(False, str(error), run_id)
        return RequestResult(False, f"run {run_id}: no supervisor is running; press R to resume it", run_id)
    return RequestResult(reply.ok, f"{run_id}: {reply.message}", run_id)


def go_on(home: Path, run_id: str, stages: Sequence[str]) -> RequestResult:
    """Start a new supervisor for a run without one.

    `stages` are added to its plan.
    """
    from engine.startup.launch import LaunchError, resume_run

    lines: list[str] = []
    try:
        resume_run(home, run_id, tuple(stages), lines.append)
    except LaunchError as error:
        return RequestResult(False, str(error), run_id)
    return RequestResult(True, "; ".join([f"{run_id} resumed", *lines]), run_id)


def start(
    home: Path,
    profile: Profile,
    stages: Sequence[str],
    seed: int,
    name: str,
    changed: Changes,
    is_wanted: Callable[[], bool],
) -> RequestResult:
    """Start a run of `profile`, with the overridden settings `changed`.

    Nothing is written if it cannot be started, or if `is_wanted()` is false after the checks.
    """
    from engine.startup.launch import LaunchError, start_run

    try:
        run_id = start_run(home, profile, tuple(stages), seed, name, changed, is_wanted=is_wanted)
    except LaunchError as error:
        return RequestResult(False, str(error))
    return RequestResult(True, f"{run_id} started", run_id)
