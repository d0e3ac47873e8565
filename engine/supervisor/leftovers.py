"""What a killed supervisor left behind: children that are still ending, and records in spool files."""

from __future__ import annotations

import time
from pathlib import Path

from engine.processes.outbox import read_spool, spool_folder
from engine.processes.pidfile import ROLES
from engine.processes.process_tree import kill_marked, marked
from store.home import RunFolder
from store.records import Record

PATIENCE_SECONDS = 120.0  # a large model's checkpoint takes its time


class Leftovers:
    """The children of this run's previous supervisor: they end by themselves, or are ended when patience is over."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._deadline = time.monotonic() + PATIENCE_SECONDS

    def living(self) -> list[str]:
        """Roles that still have a process. Past the deadline, or after `kill`, these are ended.

        They are known by their marks: one that its supervisor started as it died holds no pid file yet.
        """
        roles = [role for role in ROLES if any(marked(self._folder, role))]
        if roles and time.monotonic() >= self._deadline:
            self.kill()
        return roles

    def kill(self) -> None:
        """Ends them at once."""
        for role in ROLES:
            kill_marked(self._folder, role)


def spooled(folder: RunFolder) -> list[tuple[Path, list[Record]]]:
    """What orphans left of records that were never acknowledged, by file, oldest first."""
    paths = sorted(spool_folder(folder).glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    return [(path, read_spool(path)) for path in paths]
