"""Leftovers of a killed supervisor: live children and spool files."""

from __future__ import annotations

import time
from pathlib import Path

from engine.ipc.outbox import read_spool, spool_folder
from engine.ipc.pidfile import ROLES
from engine.ipc.process_tree import kill_marked, marked
from engine.supervisor.record_queue import RecordQueue
from store.events import LogLine
from store.home import RunFolder

# The checkpoint of a large model takes this long.
PATIENCE_SECONDS = 120.0
DAMAGED = "damaged-"


class Leftovers:
    """Children of the run's previous supervisor.

    They exit by themselves or are killed at the deadline.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._deadline = time.monotonic() + PATIENCE_SECONDS

    def living(self) -> list[str]:
        """Return the roles that still have a process.

        Past the deadline, kill these first.
        Processes are found by their marks, because one that was just started may not hold its pid file yet.
        """
        roles = [role for role in ROLES if any(marked(self._folder, role))]
        if roles and time.monotonic() >= self._deadline:
            self.kill()
        return roles

    def kill(self) -> None:
        """Kill them at once."""
        for role in ROLES:
            kill_marked(self._folder, role)


def spool_files(folder: RunFolder) -> list[Path]:
    """Return the orphans' files of unacknowledged records, oldest first."""
    found = (path for path in spool_folder(folder).glob("*.jsonl") if not path.name.startswith(DAMAGED))
    return sorted(found, key=lambda path: path.stat().st_mtime)


def recover_spools(folder: RunFolder, queue: RecordQueue) -> None:
    """Move the records that orphaned processes left into the journal.

    Call it before the queue gets new records. A spool file is removed once its records are in the journal. A
    file with damaged lines is kept under another name.
    """
    for path in spool_files(folder):
        records, damaged = read_spool(path)
        queue.enqueue_spooled(records)
        aside = path.with_name(f"{DAMAGED}{path.name}")
        if damaged:
            message = f"{path}: {damaged} damaged lines; their records are lost, the file is now {aside.name}"
            queue.take([LogLine("warning", "supervisor").event(message)])
        queue.flush(now=True)
        if queue.is_empty and damaged:
            path.rename(aside)
        elif queue.is_empty:
            path.unlink()
