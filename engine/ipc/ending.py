"""End a run's processes from outside, even if they are stopped or hang.

This covers the supervisor and every process that it started. A process is identified by its pid and start
time, so a different process that reuses the pid is never killed. A run's processes are found in three ways:
locked pid files, the mark in their environment, and their descendants.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from engine.ipc.pidfile import ROLES, holder, lock_path, pid_path
from engine.ipc.process_tree import is_tracker, marked
from engine.weight_sync.slots import remove_slots
from store.home import RunFolder
from store.process import Process, stat_fields

# A process that waits for a slow disk exits only when the disk has answered.
END_SECONDS = 30.0
# Python's resource trackers exit by themselves after they have cleaned up.
TRACKER_SECONDS = 5.0
POLL_SECONDS = 0.02


def processes_of(folder: RunFolder) -> set[Process]:
    """Return the run's living processes, without Python's resource trackers."""
    return {one for one in _with_descendants(_known(folder)) if not is_tracker(one.pid)}


def end_processes(folder: RunFolder) -> set[Process]:
    """End the run's processes, then remove its shared weights and socket.

    Returns: the processes that are still alive after END_SECONDS; normally an empty set.
    Raises: PermissionError if a process belongs to another user.
    """
    found: set[Process] = set()
    begun = time.monotonic()
    while True:
        # Children lose their parent when it exits, so keep every process that was found once.
        found |= _with_descendants(_known(folder) | found)
        living = {one for one in found if one.is_alive and one.pid != os.getpid()}
        if not living or time.monotonic() >= begun + END_SECONDS:
            break
        _signal(folder, living, spare_trackers=time.monotonic() < begun + TRACKER_SECONDS)
        time.sleep(POLL_SECONDS)
    remove_slots(folder.run_id)
    folder.socket.unlink(missing_ok=True)
    return living


def _signal(folder: RunFolder, living: Iterable[Process], *, spare_trackers: bool) -> None:
    """Kill the processes, the supervisor first so that it restarts nothing.

    Only wake up spared trackers.
    """
    supervisor = holder(lock_path(folder))
    if supervisor is not None:
        supervisor.kill()
    for process in living:
        if spare_trackers and is_tracker(process.pid):
            process.signal(signal.SIGCONT)
        else:
            process.kill()


def _known(folder: RunFolder) -> set[Process]:
    """Return the living processes with the run's pid files or its mark."""
    paths = [lock_path(folder), *(pid_path(folder, role) for role in ROLES)]
    held = {process for path in paths if (process := holder(path)) is not None}
    return held | {Process.of(pid) for role in ROLES for pid in marked(folder, role)}


def _with_descendants(roots: Iterable[Process]) -> set[Process]:
    """Return `roots` and all living processes that descend from them."""
    children: dict[int, list[Process]] = {}
    for entry in Path("/proc").iterdir():
        fields = stat_fields(int(entry.name)) if entry.name.isdigit() else None
        if fields is not None:
            children.setdefault(int(fields[1]), []).append(Process(int(entry.name), int(fields[19])))
    found: set[Process] = set()
    pending = [root for root in roots if root.is_alive]
    while pending:
        process = pending.pop()
        if process not in found:
            found.add(process)
            pending += children.get(process.pid, [])
    return found
