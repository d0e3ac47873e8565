"""Commands to a live run: `stop`, `kill`, `pause`, `resume`, `checkpoint`.

They need only the run's folder.
"""

from __future__ import annotations

from pathlib import Path

from mathrl_tui.commands.errors import CommandFailed
from mathrl_tui.commands.options import Home, Run


def stop(home: Home, run: Run) -> None:
    """End a run after its current step, with a checkpoint."""
    _send(home, run, "stop")


def kill(home: Home, run: Run) -> None:
    """End a run's processes at once.

    Work since its last checkpoint is lost.
    """
    _send(home, run, "kill")


def pause(home: Home, run: Run) -> None:
    """Pause a run after its current step."""
    _send(home, run, "pause")


def resume(home: Home, run: Run) -> None:
    """Continue a paused run. (An interrupted run: `run --resume RUN`.)"""
    _send(home, run, "resume")


def checkpoint(home: Home, run: Run) -> None:
    """Write a checkpoint after the current step."""
    _send(home, run, "checkpoint")


def _send(home: Path, run: str, word: str) -> None:
    from engine.supervisor.commands import command
    from store.naming import find_run

    run_id = find_run(home, run)
    reply = command(home, run_id, word)
    if not reply.ok:
        raise CommandFailed(f"run {run_id}: {word}: {reply.message}")
    print(f"{run_id}: {reply.message}")
