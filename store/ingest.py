"""Ingestion: apply new journal records to DuckDB, exactly once.

Rows and the journal offsets that they cover are written in one transaction. Any live process may do this,
about every second. `store.lock` admits one process at a time. Parsing happens outside all locks of the
database, which are held for some milliseconds. A process may die at any moment: each acknowledged row is
still in the tables exactly once, because a transaction writes its rows and offsets together or not at all.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import duckdb

from store.applied import AppliedMarks, MarkCache, marks_in
from store.batches import JournalVersion
from store.database import READ_PATIENCE, ROW_GROUP, Database
from store.disk_refusal import refusal
from store.errors import StoreBusy, StoreDamaged, StoreError
from store.filesystem import network_warning
from store.incoming import insertion, registered
from store.ingest_batch import Batch, collect
from store.journal import START, JournalBusy, Position
from store.locks import LockBusy, locked
from store.naming import journaled
from store.rebuild import rebuild
from store.reconcile import Stale, reconcile
from store.removal import drop_again
from store.removal import finish as finish_removals
from store.transaction import transaction

log = logging.getLogger(__name__)

# Seconds that a tick waits for a lock before it leaves the work to the next tick.
TICK_PATIENCE = 0.05
# A quarter of DuckDB's size, so that the file is held only briefly while runs are live.
LIVE_ROW_GROUP = 30_720
# Seconds to wait for another process that rebuilds a damaged file.
HEALING_PATIENCE = 60.0
# First and longest pause after a failure such as a full disk.
BACK_OFF_SECONDS = (1.0, 30.0)


class Ingester:
    """Applies the journals of one home.

    After each failure it waits longer before the next attempt.
    """

    def __init__(self, database: Database) -> None:
        # Why the last attempt applied nothing or not everything, in one line. Empty if all is well.
        self.problem = ""
        # Repairs, one line each, for a reader that has no stderr.
        self.repairs: list[str] = []
        self._database = database
        self._mark_cache = MarkCache(database.home / "journal")
        # Rows of a file that was rebuilt.
        self._remade = 0
        # Live runs with a journal that differs from the store, with the reason.
        self._waiting: dict[str, str] = {}
        self._journals = database.home / "journal"
        self._lock = database.home / "store.lock"
        self._pause = 0.0
        self._not_before = 0.0
        if warning := network_warning(database.home):
            log.warning(warning)

    def tick(self) -> int:
        """Apply new records and return the number of rows.

        Returns: 0, with `problem` set, if ingestion must wait.
        """
        if time.monotonic() < self._not_before:
            return 0
        return self.apply(TICK_PATIENCE)

    def apply(self, patience: float, row_group: int = LIVE_ROW_GROUP) -> int:
        """Apply new records, regardless of earlier failures.

        Waits `patience` seconds for each lock. With `row_group` ROW_GROUP it also merges the small row groups
        of live runs permanently.
        """
        if not self._journals.is_dir():
            # Do not create a store either.
            return 0
        self._remade = 0
        try:
            with locked(self._lock, patience=patience):
                try:
                    finish_removals(self._database, patience)
                    rows = self._apply_all(patience, row_group)
                # The damage is in a place that the marks do not touch.
                except StoreDamaged as error:
                    self._confirm(error)
                    self._rebuild(error, patience)
                    finish_removals(self._database, patience)
                    rows = self._apply_all(patience, row_group)
        # Another process is applying records. A tick leaves the work to it.
        except LockBusy as error:
            if patience > TICK_PATIENCE:
                self.problem = str(error)
            return 0
        except StoreBusy as error:
            self.problem = str(error)
            return 0
        except (StoreError, JournalVersion, OSError, duckdb.Error) as error:
            refused = refusal(error, self._database.home) if isinstance(error, OSError) else ""
            self._back_off(refused or str(error).splitlines()[0])
            return 0
        self.problem, self._pause = next(iter(self._waiting.values()), ""), 0.0
        return self._remade + rows

    def take_over(self, run_id: str, lock: int, damaged: bool, patience: float) -> Position:
        """Make a run's journal and store agree before its supervisor writes.

        Args:
            lock: what `journal.hold` returned for the run's journal.
            damaged: True if places of the journal are damaged; then both are compared in full.
        Returns: how far the store has applied the journal.
        Raises: StoreError, LockBusy or OSError if the store cannot be used now.
        """
        with locked(self._lock, patience=patience):
            while True:
                marks, seq = self._repaired_marks(patience)
                if run_id not in marks:
                    return START
                if not damaged and self._mark_cache.holds(run_id, marks[run_id]):
                    return marks[run_id].last.position
                self._reconcile(run_id, marks[run_id], seq, patience, lock)
                damaged = False

    def heal(self, error: StoreDamaged, patience: float = HEALING_PATIENCE) -> None:
        """Rename a damaged log, or rebuild the damaged file.

        Does nothing if another process has done it since.

        Raises: StoreError, OSError or duckdb.Error if the repair is not possible now.
        """
        try:
            with locked(self._lock, patience=patience):
                self._confirm(error)
                if not (error.of_log and self._set_log_aside()):
                    self._rebuild(error, patience)
        except LockBusy as busy:
            raise StoreBusy(
                f"{self._database.path} is damaged, and another process is rebuilding it: {busy}"
            ) from None

    def _apply_all(self, patience: float, row_group: int) -> int:
        self._waiting.clear()
        position, seq = self._agreed(patience)
        applied_before = set(position)
        total = 0
        while (batch := collect(self._journals, position, self._waiting)) is not None:
            # An older store was restored. It may have rows that were journaled again from a newer one.
            if again := batch.again & applied_before:
                applied_before -= again
                self._compare(again, patience)
                position, seq = self._agreed(patience)
                continue
            if not self._commit(batch, seq + 1, patience, row_group):
                position, seq = self._agreed(patience)
                continue
            seq += 1
            position |= {run: reached for run, (reached, _) in batch.reached.items()}
            total += batch.count
        return total

    def _commit(self, batch: Batch, seq: int, patience: float, row_group: int) -> bool:
        """Apply `batch` as transaction `seq`.

        Returns: False, with nothing done, if `seq` is not the file's next transaction. The file was then
            deleted or replaced after its offsets were read, and would lack all rows before this batch.
        """
        now, tables = time.time(), batch.tables()
        # Register before the file is held: DuckDB scans a column of objects to find its type.
        with (
            self._database.preparing() as memory,
            registered(memory, tables),
            self._database.writing(patience, row_group) as connection,
        ):
            (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM store.applied").fetchall()[0]
            if last != seq - 1:
                return False
            _insert(connection, tables, batch.marks(seq, now), batch.places(now))
        return True

    def _agreed(self, patience: float) -> tuple[dict[str, Position], int]:
        """Return how far each run is applied, after reconciling journals.

        A journal that differs from the store is reconciled with it first.
        """
        while True:
            marks, seq = self._repaired_marks(patience)
            if back := drop_again(self._database, marks, patience):
                self._add_repair(
                    f"{self._database.path} is older than a removal: {', '.join(back)} was removed, and its rows are "
                    "dropped again"
                )
                continue
            differing = [
                run_id
                for run_id in journaled(self._database.home)
                if run_id in marks
                and run_id not in self._waiting
                and not self._mark_cache.holds(run_id, marks[run_id])
            ]
            if not differing:
                return {run_id: each.last.position for run_id, each in marks.items()}, seq
            self._reconcile_or_wait(differing[0], marks[differing[0]], seq, patience)

    def _compare(self, run_ids: set[str], patience: float) -> None:
        """Apply the journals of some runs row by row.

        Rows that the store has already, by identity, are not added again.
        """
        for run_id in sorted(run_ids):
            marks, seq = self._repaired_marks(patience)
            self._reconcile_or_wait(run_id, marks[run_id], seq, patience)

    def _reconcile_or_wait(self, run_id: str, marks: AppliedMarks, seq: int, patience: float) -> None:
        """Reconcile a run, or note that it must wait for its live writer."""
        try:
            self._reconcile(run_id, marks, seq, patience)
        except JournalBusy as error:
            self._waiting[run_id] = str(error)

    def _reconcile(
        self, run_id: str, marks: AppliedMarks, seq: int, patience: float, lock: int | None = None
    ) -> None:
        try:
            line = reconcile(self._database, run_id, marks, seq, patience, lock)
        except Stale:
            return
        if line:
            self._add_repair(line)

    def _repaired_marks(self, patience: float) -> tuple[dict[str, AppliedMarks], int]:
        """Return the file's marks, after repairs.

        A damaged log is renamed first, a damaged file rebuilt.
        """
        try:
            return self._marks(patience)
        except StoreDamaged as error:
            self._confirm(error)
            self._set_log_aside()
        try:
            return self._marks(patience)
        except StoreDamaged as error:
            self._rebuild(error, patience)
        return self._marks(patience)

    def _marks(self, patience: float) -> tuple[dict[str, AppliedMarks], int]:
        with self._database.reading(patience, exact=True) as connection:
            return marks_in(connection)

    def _confirm(self, error: StoreDamaged) -> None:
        """Raise the error of a query unchanged if the whole file is readable."""
        if error.doubtful and self._database.inode() == error.inode and self._database.is_sound():
            raise error.__cause__ or StoreError(str(error))

    def _set_log_aside(self) -> bool:
        aside = self._database.set_wal_aside()
        if aside is not None:
            self._add_repair(f"{self._database.wal} was damaged: renamed to {aside.name}")
        return aside is not None

    def _rebuild(self, error: StoreDamaged, patience: float) -> None:
        line = rebuild(self._database, error, max(patience, READ_PATIENCE), self._fill)
        if line:
            self._add_repair(line)

    def _add_repair(self, line: str) -> None:
        self.repairs.append(line)
        log.warning(line)

    def _fill(self, fresh: Database) -> None:
        """Apply all journals to a file that only this process uses."""
        self._remade = Ingester(fresh)._apply_all(READ_PATIENCE, ROW_GROUP)

    def _back_off(self, problem: str) -> None:
        first, longest = BACK_OFF_SECONDS
        self._pause = min(max(first, 2 * self._pause), longest)
        self._not_before = time.monotonic() + self._pause
        self.problem = problem


def _insert(
    connection: duckdb.DuckDBPyConnection,
    tables: Iterable[str],
    marks: Sequence[Sequence[Any]],
    places: Sequence[Sequence[Any]],
) -> None:
    """Append the incoming tables and marks in one transaction.

    Writes `incoming_TABLE` for each of `tables`, and the rows of `applied` and `damage`.
    """
    with transaction(connection):
        for table in tables:
            connection.execute(insertion(table))
        for table, rows in (("damage", places), ("applied", marks)):
            # As values: DuckDB takes three times as long to read two rows from NumPy.
            if rows:
                row = f"({', '.join('?' * len(rows[0]))})"
                values = ", ".join([row] * len(rows))
                connection.execute(f"INSERT INTO store.{table} VALUES {values}", list(chain(*rows)))
