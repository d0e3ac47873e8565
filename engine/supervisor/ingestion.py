"""Brings the journal into DuckDB every second, on a thread of its own, so that a slow disk holds up nothing else."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from store.database import ROW_GROUP, Database
from store.ingest import Ingester

SECONDS = 1.0
LAST_PATIENCE_SECONDS = 5.0


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
        """Ends the thread."""
        self._over.set()
        self._thread.join()

    def catch_up(self) -> None:
        """Brings in what is left, in whole row groups; what cannot be now stays in the journal for others."""
        self._ingester.apply(LAST_PATIENCE_SECONDS, ROW_GROUP)
        if self.problem:
            print(f"the database is behind the journal: {self.problem}", file=sys.stderr)

    def _run(self) -> None:
        while not self._over.wait(SECONDS):
            self._ingester.tick()
