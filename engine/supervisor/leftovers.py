"""Leftovers of a killed supervisor: live children and spool files."""

from __future__ import annotations

import time
from pathlib import Path

from engine.ipc.outbox import read_spool, spool_folder
from engine.ipc.pidfile import ROLES
from engine.ipc.process_tree import kill_marked, marked
from store.home import RunFolder
from store.records import Record

# The checkpoint of a large model takes this long.
PATIENCE_SECONDS = 120.0


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


def spooled(folder: RunFolder) -> list[tuple[Path, list[Record]]]:
    """Return orphaned processes' unacknowledged records by spool file.

    The oldest file comes first.
    """
    paths = sorted(spool_folder(folder).glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    return [(path, read_spool(path)) for path in paths]
