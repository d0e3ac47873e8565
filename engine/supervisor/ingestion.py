"""Brings the journal into DuckDB every second, on a thread of its own, so that a slow disk holds up nothing else."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from store.database import ROW_GROUP, Database
from store.ingest import Ingester

SECONDS = 1.0
LAST_PATIENCE_SECONDS = 5.0
KILLED_PATIENCE_SECONDS = 0.1  # a killed run's rows are left to the next reader
END_SECONDS = 5.0  # the thread may be in a write to a disk that does not answer


class Ingestion:
    """The supervisor's share in ingestion; consoles and commands do theirs."""

    def __init__(self, home: Path) -> None:
        self._ingester = Ingester(Database(home))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingestion", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str:
        """Why the database is behind, in one line; empty when all is well."""
        return self._ingester.problem

    def end(self) -> None:
        """End the thread; wait END_SECONDS at most."""
        self._over.set()
        self._thread.join(END_SECONDS)

    def catch_up(self, *, killed: bool = False) -> None:
        """Apply what is left, in whole row groups. What cannot be applied now stays in the journal for others.

        Takes LAST_PATIENCE_SECONDS at most while others hold the store, and almost none if the run was `killed`.
        """
        if self._thread.is_alive():
            print("the database is behind the journal: the disk does not answer", file=sys.stderr)
            return
        self._ingester.apply(KILLED_PATIENCE_SECONDS if killed else LAST_PATIENCE_SECONDS, ROW_GROUP)
        if self.problem:
            print(f"the database is behind the journal: {self.problem}", file=sys.stderr)

    def _run(self) -> None:
        while not self._over.wait(SECONDS):
            self._ingester.tick()
