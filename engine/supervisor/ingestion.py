"""Ingest the journal into DuckDB every second.

It runs on its own thread, so that a slow disk does not block the supervisor.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from store.database import ROW_GROUP, Database
from store.ingest import Ingester

SECONDS = 1.0
LAST_PATIENCE_SECONDS = 5.0
# The next reader of the store ingests the remaining rows of a killed run.
KILLED_PATIENCE_SECONDS = 0.1
# The thread may hang in a write to a disk that does not respond.
END_SECONDS = 5.0
# Other live runs may journal as fast as a slow disk ingests, so the last ingest could go on for ever.
CATCH_UP_SECONDS = 30.0


class Ingestion:
    """Applies the home's journals to the store every second, on a thread.

    The thread starts with the object; call `end` to stop it. Consoles and commands ingest too.
    """

    def __init__(self, home: Path) -> None:
        self._ingester = Ingester(Database(home))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ingestion", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str:
        """The reason why the database is behind, in one line; empty if it is not."""
        return self._ingester.problem

    def end(self) -> None:
        """Stop the thread; wait at most END_SECONDS."""
        self._over.set()
        self._thread.join(END_SECONDS)

    def catch_up(self, *, killed: bool = False) -> None:
        """Ingest the remaining rows in whole row groups.

        What cannot be ingested stays in the journal.
        Waits at most LAST_PATIENCE_SECONDS for each lock of the store, or KILLED_PATIENCE_SECONDS if the run was
        `killed`, and at most CATCH_UP_SECONDS in all.
        """
        problem = "the disk does not respond"
        if not self._thread.is_alive():
            patience = KILLED_PATIENCE_SECONDS if killed else LAST_PATIENCE_SECONDS
            last = threading.Thread(target=self._ingester.apply, args=(patience, ROW_GROUP), daemon=True)
            last.start()
            last.join(CATCH_UP_SECONDS)
            unfinished = (
                f"the last ingest has not ended after {CATCH_UP_SECONDS:.0f} s; the next report continues it"
            )
            problem = unfinished if last.is_alive() else self.problem
        if problem:
            print(f"the database is behind the journal: {problem}", file=sys.stderr)

    def _run(self) -> None:
        while not self._over.wait(SECONDS):
            self._ingester.tick()
