"""Commands to a run through its folder: socket, lock and pid files.

    request to the supervisor ─▶ it replies ─▶ done
       └─▶ no reply: `kill` ends the run's processes itself, any other command is refused

This module never opens the store and imports no model library.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import get_args

from engine.errors import LaunchError
from engine.ipc.ending import END_SECONDS, end_processes, processes_of
from engine.ipc.pidfile import AlreadyHeld, hold, holder, lock_path
from engine.protocol import control
from engine.protocol.control import Command, NotLive, Reply, Request, sender
from store.batches import JournalVersion
from store.events import StateChange
from store.home import RunFolder
from store.journal import JournalBusy, JournalWriter
from store.lock_holders import THOROUGH_SECONDS, described
from store.locks import is_locked
from store.process import Process
from store.records import LIVE_STATES, Event
from store.run_progress import folded
from store.tail import read_tail

# A healthy supervisor replies within one turn of its loop, at most half a second.
ANSWER_SECONDS = 5.0
# A killed process frees many GB of memory before it has exited.
EXIT_SECONDS = 15.0
POLL_SECONDS = 0.02
# Process states of proc(5): stopped by a signal, stopped by a debugger.
STOPPED_STATES = frozenset("Tt")


def command(home: Path, run_id: str, word: str, origin: str = "cli") -> Reply:
    """Send stop, kill, pause, resume, checkpoint or status to a live run.

    `kill` returns when no process of the run is left, even if its supervisor is stopped, hangs or has died.

    Raises: LaunchError if the run is not live or does not reply.
    """
    folder = RunFolder(home.absolute(), run_id)
    if word not in get_args(Command):
        raise LaunchError(f"command {word}: no such command; there are {', '.join(get_args(Command))}")
    verb: Command = word  # type: ignore[assignment]  # checked above
    if not folder.config.is_file():
        raise LaunchError(f"run {run_id}: no such run in {home}; `mathrl-tui runs` lists them")
    if verb == "kill":
        return _kill(folder, origin)
    if stopped := stopped_supervisor(folder):
        raise LaunchError(f"run {run_id}: {stopped}")
    try:
        return control.ask(folder, verb, origin)
    except NotLive as error:
        remedy = f"; `mathrl-tui kill {run_id}` ends the run" if is_alive(home, run_id) else ""
        raise LaunchError(f"{error}{remedy}") from None


def is_alive(home: Path, run_id: str) -> bool:
    """True if a supervisor holds the run."""
    return is_locked(lock_path(RunFolder(home.absolute(), run_id)))


def stopped_supervisor(folder: RunFolder) -> str:
    """Return what to do about a supervisor that a signal has stopped.

    The result is empty if it is not stopped.
    """
    supervisor = holder(lock_path(folder))
    if supervisor is None or supervisor.state not in STOPPED_STATES:
        return ""
    return (
        f"its supervisor (PID {supervisor.pid}) was stopped by a signal; `kill -CONT {supervisor.pid}` continues "
        f"it, `mathrl-tui kill {folder.run_id}` ends the run"
    )


def _kill(folder: RunFolder, origin: str) -> Reply:
    """End the run through its supervisor, or else from outside.

    The supervisor must reply in time.
    """
    fault = "was stopped by a signal" if stopped_supervisor(folder) else ""
    if not fault:
        try:
            reply = control.ask(folder, "kill", origin, ANSWER_SECONDS)
            if _await_end(folder):
                return reply
            fault = "answered and did not end"
        except NotLive:
            fault = "did not answer" if is_locked(lock_path(folder)) else "was dead"
    if not is_locked(lock_path(folder)) and not processes_of(folder):
        run = folder.run_id
        raise LaunchError(
            f"run {run}: no supervisor is running, and no process of it is left; `mathrl-tui status {run}` shows how "
            f"it ended, `mathrl-tui run --resume {run}` continues it"
        )
    return _end(folder, fault, sender(Request("kill", origin)))


def _end(folder: RunFolder, fault: str, by: str) -> Reply:
    """End the run's processes without its supervisor, and record why."""
    try:
        left = end_processes(folder)
    except PermissionError:
        raise LaunchError(
            f"run {folder.run_id}: its processes belong to another user; only that user can kill it"
        ) from None
    if left:
        raise LaunchError(
            f"run {folder.run_id}: {_named(left)} still live {END_SECONDS:.0f} s after SIGKILL; see dmesg"
        )
    if is_locked(lock_path(folder)):
        raise LaunchError(
            f"run {folder.run_id}: none of its processes is left; {_who_holds(lock_path(folder))}"
        )
    recorded = _record_end(folder, f"killed by {by}; its supervisor {fault}")
    return Reply(
        True, f"killed; its supervisor {fault}" + ("" if recorded else "; that could not be recorded")
    )


def _await_end(folder: RunFolder) -> bool:
    """Wait until no supervisor holds the run.

    Return False if one still does after EXIT_SECONDS.
    """
    deadline = time.monotonic() + EXIT_SECONDS
    while is_locked(lock_path(folder)):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _record_end(folder: RunFolder, reason: str) -> bool:
    """Write the end of the run to its journal, for a dead supervisor.

    Return False if that fails.
    Nothing is added if the run has already ended, or if another supervisor has taken it over.
    """
    with suppress(AlreadyHeld):
        lock = hold(lock_path(folder))
        try:
            with JournalWriter(folder.journal) as journal:
                events = (one for one in read_tail(folder.journal).records if isinstance(one, Event))
                if (folded(events).state or "queued") in LIVE_STATES:
                    journal.append([StateChange("interrupted", reason).event(reason)])
        except JournalBusy:
            return True
        except (OSError, JournalVersion):
            return False
        finally:
            os.close(lock)
    return True


def _who_holds(path: Path) -> str:
    return f"{path}: {described(path, (), THOROUGH_SECONDS)}"


def _named(processes: set[Process]) -> str:
    return "processes " + ", ".join(str(one.pid) for one in sorted(processes, key=lambda one: one.pid))
