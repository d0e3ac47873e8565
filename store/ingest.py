"""From journals to DuckDB: what is new goes in with the journal offsets that it covers, in one transaction.

Any live process may do this, every second or so. `store.lock` lets one at a time; parsing happens outside any lock of
the database, which is held for some milliseconds. Whoever dies, and whenever, each acknowledged row is in the tables
exactly once: either a transaction's rows and offsets are both there, or neither.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb

from store.database import Database, StoreBusy, StoreDamaged, StoreError
from store.filesystem import network_warning
from store.journal import START, JournalVersion, Position, has_more, read_groups
from store.locks import LockBusy, locked
from store.schema import KINDS, TABLES, Columns, columns_of

log = logging.getLogger(__name__)

TICK_PATIENCE = 0.05  # seconds that a tick waits for a lock before it leaves the work to the next one
LIVE_ROW_GROUP = 30_720  # a quarter of DuckDB's: while runs live, the file is not held for long
TRANSACTION_BYTES = 4 << 20  # journal bytes after which a transaction takes no further run
BACK_OFF_SECONDS = (1.0, 30.0)  # first and longest pause after a failure such as a full disk


@dataclass(slots=True)
class Batch:
    """What one transaction applies: records by kind, field by field, with their runs, and how far each run gets."""

    values: dict[str, list[list[Any]]] = field(default_factory=dict)
    run_ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    reached: dict[str, Position] = field(default_factory=dict)

    def add(self, run_id: str, groups: list[list[Any]], position: Position) -> None:
        """Takes journaled groups of one run, which end at `position`."""
        for kind, *columns in groups:
            for gathered, column in zip(
                self.values.setdefault(kind, [[] for _ in columns]), columns, strict=True
            ):
                gathered += column
            self.run_ids[kind] += [run_id] * len(columns[0])
        self.reached[run_id] = position

    def tables(self) -> dict[str, Columns]:
        """The columns to insert, by table."""
        return {
            KINDS[kind][0]: columns_of(kind, self.run_ids[kind], values)
            for kind, values in self.values.items()
        }

    def offsets(self, seq: int, now: float) -> list[tuple[str, int, int, int, float]]:
        """The rows of `applied` that say how far each run is applied with this."""
        return [(run, *position, seq, now) for run, position in self.reached.items()]

    @property
    def count(self) -> int:
        """Rows in the batch."""
        return sum(map(len, self.run_ids.values()))


class Ingester:
    """Applies the journals of one home, and keeps its temper: after a failure it waits longer each time."""

    def __init__(self, database: Database) -> None:
        self.problem = ""  # why the last try applied nothing, in one line; empty when all is well
        self._database = database
        self._journals = database.home / "journal"
        self._lock = database.home / "store.lock"
        self._pause = 0.0
        self._not_before = 0.0
        if warning := network_warning(database.home):
            log.warning(warning)

    def tick(self) -> int:
        """Applies what is new and returns the number of rows; 0, with `problem`, where that must wait."""
        if time.monotonic() < self._not_before:
            return 0
        return self.apply(TICK_PATIENCE)

    def apply(self, patience: float, row_group: int = LIVE_ROW_GROUP) -> int:
        """Like `tick`, without regard to earlier failures, waiting `patience` seconds for each lock.

        With `row_group` ROW_GROUP it also puts the small row groups of live runs together, for good.
        """
        if not self._journals.is_dir():
            return 0  # and no store is made
        try:
            with locked(self._lock, patience=patience):
                rows = self._apply_all(patience, row_group)
        except LockBusy:  # another process is at it: a tick leaves it to that
            if patience > TICK_PATIENCE:
                self.problem = f"another process has been taking rows in for {patience:g} s; ask again"
            return 0
        except StoreBusy as error:
            self.problem = str(error)
            return 0
        except (StoreError, JournalVersion, OSError, duckdb.Error) as error:
            self._back_off(str(error).splitlines()[0])
            return 0
        self.problem, self._pause = "", 0.0
        return rows

    def _apply_all(self, patience: float, row_group: int) -> int:
        position, seq = self._repaired_offsets()
        total = 0
        while (batch := collect(self._journals, position)) is not None:
            if not self._commit(batch, seq + 1, patience, row_group):
                position, seq = self._repaired_offsets()
                continue
            seq += 1
            position |= batch.reached
            total += batch.count
        return total

    def _commit(self, batch: Batch, seq: int, patience: float, row_group: int) -> bool:
        """Applies `batch` as transaction `seq`. False, with nothing done, where that is not the file's next one.

        Somebody has deleted the file since its offsets were read, or put another in its place: behind this batch
        it would lack all that came before.
        """
        try:
            tables = batch.tables()
        except (TypeError, ValueError, OverflowError) as error:
            runs = ", ".join(batch.reached)
            raise StoreError(f"a journaled value of {runs} does not fit its column: {error}") from error
        offsets = batch.offsets(seq, time.time())
        # Registered before the file is held: DuckDB looks through a column of objects to learn its type.
        with (
            self._database.preparing() as memory,
            _registered(memory, tables),
            self._database.writing(patience, row_group) as connection,
        ):
            (last,) = connection.execute("SELECT coalesce(max(seq), 0) FROM store.applied").fetchall()[0]
            if last != seq - 1:
                return False
            _insert(connection, tables, offsets)
        return True

    def _repaired_offsets(self) -> tuple[dict[str, Position], int]:
        """The offsets applied so far; a damaged log, then a damaged file, is renamed aside to get them."""
        for remedy in (self._database.set_wal_aside, self._database.set_aside):
            try:
                return self._offsets()
            except StoreDamaged:
                remedy()
        return self._offsets()

    def _offsets(self) -> tuple[dict[str, Position], int]:
        with self._database.reading() as connection:
            return offsets_in(connection)

    def _back_off(self, problem: str) -> None:
        first, longest = BACK_OFF_SECONDS
        self._pause = min(max(first, 2 * self._pause), longest)
        self._not_before = time.monotonic() + self._pause
        self.problem = problem


def offsets_in(
    connection: duckdb.DuckDBPyConnection, run_id: str | None = None
) -> tuple[dict[str, Position], int]:
    """How far each run's journal (or that of `run_id`) has been applied, and the last transaction's number."""
    found = connection.execute(
        'SELECT run_id, arg_max(segment, seq), arg_max("offset", seq), max(seq) FROM store.applied '
        "WHERE $run IS NULL OR run_id = $run GROUP BY run_id",
        {"run": run_id},
    ).fetchall()
    position = {run: Position(segment, offset) for run, segment, offset, _ in found}
    return position, max((seq for *_, seq in found), default=0)


def journaled(home: Path) -> list[str]:
    """Ids of the runs that have a journal, in alphabetical order."""
    try:
        return sorted(entry.name for entry in os.scandir(home / "journal") if entry.is_dir())
    except FileNotFoundError:
        return []


def collect(journals: Path, position: dict[str, Position]) -> Batch | None:
    """What the runs' journals hold behind `position`, some megabytes of it at most; None where that is nothing."""
    batch, size = Batch(), 0
    for run_id in journaled(journals.parent):
        folder, start = journals / run_id, position.get(run_id, START)
        if size >= TRANSACTION_BYTES or not has_more(folder, start):
            continue
        groups, end = read_groups(folder, start, limit=TRANSACTION_BYTES - size)
        if end == start:
            continue  # only the torn tail of a batch that was never acknowledged
        size += end.offset - (start.offset if end.segment == start.segment else 0)
        batch.add(run_id, groups, end)
    return batch if batch.reached else None


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, tables: dict[str, Columns]) -> Iterator[None]:
    """Lets SQL see `tables` as `incoming_TABLE`. Outside the transaction: an aborted one would not let go of them."""
    for table, columns in tables.items():
        connection.register(f"incoming_{table}", columns)
    try:
        yield
    finally:
        for table in tables:
            with suppress(duckdb.ConnectionException):  # the instance was dropped, and they with it
                connection.unregister(f"incoming_{table}")


def _insert(
    connection: duckdb.DuckDBPyConnection, tables: Iterable[str], offsets: Sequence[Sequence[Any]]
) -> None:
    """Appends the `incoming_TABLE` of each of `tables` and the rows `offsets` of `applied`, all or nothing."""
    connection.execute("BEGIN")
    try:
        for table in tables:
            connection.execute(_insertion(table))
        # As values: two rows from NumPy take DuckDB three times as long.
        places = ", ".join(["(?, ?, ?, ?, ?)"] * len(offsets))
        connection.execute(f"INSERT INTO store.applied VALUES {places}", list(chain(*offsets)))
        connection.execute("COMMIT")
    except duckdb.Error:
        _roll_back(connection)
        raise


def _insertion(table: str) -> str:
    """The statement that appends `incoming_TABLE` to `store.TABLE`.

    DuckDB reads NaN in a NumPy column as NULL. No row holds NULL, and a NaN loss must stay one, so it is put back.
    """
    columns = (
        f"coalesce(\"{name}\", 'nan'::DOUBLE)" if kind == "DOUBLE" else f'"{name}"'
        for name, kind in TABLES[table].items()
    )
    return f"INSERT INTO store.{table} SELECT {', '.join(columns)} FROM incoming_{table}"


def _roll_back(connection: duckdb.DuckDBPyConnection) -> None:
    """Ends a failed transaction; a failed COMMIT has ended it already."""
    try:
        connection.execute("ROLLBACK")
    except duckdb.TransactionException:
        return
