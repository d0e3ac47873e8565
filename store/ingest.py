"""From journals to DuckDB: what is new goes in with the journal offsets that it covers, in one transaction.

Any live process may do this, every second or so. `store.lock` lets one at a time; parsing happens outside any lock of
the database, which is held for some milliseconds. Whoever dies, and whenever, each acknowledged row is in the tables
exactly once: either a transaction's rows and offsets are both there, or neither.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb

from store.applied import Agreement, Marks, marks_in
from store.batches import JournalVersion
from store.damage import Damage
from store.database import READ_PATIENCE, ROW_GROUP, Database
from store.disk_refusal import refusal
from store.errors import StoreBusy, StoreDamaged, StoreError
from store.events import SETTLED
from store.filesystem import network_warning
from store.incoming import gather, insertion, registered
from store.journal import START, JournalBusy, Portion, Position, Tip, has_more, scan
from store.locks import LockBusy, locked
from store.naming import journaled
from store.rebuild import rebuild
from store.reconcile import Stale, reconcile
from store.removal import drop_again
from store.removal import finish as finish_removals
from store.schema import KINDS, Columns, columns_of
from store.transaction import transaction

log = logging.getLogger(__name__)

TICK_PATIENCE = 0.05  # seconds that a tick waits for a lock before it leaves the work to the next one
LIVE_ROW_GROUP = 30_720  # a quarter of DuckDB's: while runs live, the file is not held for long
TRANSACTION_BYTES = 4 << 20  # journal bytes after which a transaction takes no further run
HEALING_PATIENCE = 60.0  # seconds to wait for another process that makes a damaged file again
BACK_OFF_SECONDS = (1.0, 30.0)  # first and longest pause after a failure such as a full disk

_PAYLOAD = KINDS["event"][1].index("payload")


@dataclass(slots=True)
class Batch:
    """What one transaction applies: records by kind, field by field, with their runs, and how far each run gets."""

    values: dict[str, list[list[Any]]] = field(default_factory=dict)
    run_ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    reached: dict[str, tuple[Position, Tip]] = field(default_factory=dict)
    damages: list[tuple[str, Damage]] = field(default_factory=list)
    again: set[str] = field(default_factory=set)  # runs of which it has rows that were journaled again

    def add(self, run_id: str, portion: Portion) -> None:
        """Takes a stretch of one run's journal."""
        for kind, *columns in portion.groups:
            if kind == "event" and any(SETTLED in payload for payload in columns[_PAYLOAD]):
                self.again.add(run_id)
            self.run_ids[kind] += [run_id] * len(columns[0])
        gather(portion.groups, self.values)
        self.reached[run_id] = portion.end, portion.tip
        self.damages += ((run_id, damage) for damage in portion.damages)

    def tables(self) -> dict[str, Columns]:
        """The columns to insert, by table."""
        return {
            KINDS[kind][0]: columns_of(kind, self.run_ids[kind], values)
            for kind, values in self.values.items()
        }

    def marks(self, seq: int, now: float) -> list[tuple[Any, ...]]:
        """The rows of `applied` that say how far each run is applied with this."""
        return [(run, *position, seq, now, *tip) for run, (position, tip) in self.reached.items()]

    def places(self, now: float) -> list[tuple[Any, ...]]:
        """The rows of `damage`."""
        return [(run, *each.place, each.before, each.after, now) for run, each in self.damages]

    @property
    def count(self) -> int:
        """Rows in the batch."""
        return sum(map(len, self.run_ids.values()))


class Ingester:
    """Applies the journals of one home, and keeps its temper: after a failure it waits longer each time."""

    def __init__(self, database: Database) -> None:
        self.problem = ""  # why the last try applied nothing, or not all, in one line; empty when all is well
        self.told: list[str] = []  # what was repaired, a line each, for a reader that has no stderr
        self._database = database
        self._agreement = Agreement(database.home / "journal")
        self._remade = 0  # rows of a file that was made again
        self._waiting: dict[str, str] = {}  # runs whose journal differs while they live, with the reason
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
        self._remade = 0
        try:
            with locked(self._lock, patience=patience):
                try:
                    finish_removals(self._database, patience)
                    rows = self._apply_all(patience, row_group)
                except StoreDamaged as error:  # in a place that the marks do not touch
                    self._confirm(error)
                    self._rebuild(error, patience)
                    finish_removals(self._database, patience)
                    rows = self._apply_all(patience, row_group)
        except LockBusy as error:  # another process is at it: a tick leaves it to that
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
        """Make a run's journal and the store agree before its supervisor writes; return how far the store is.

        Args:
            lock: what `journal.hold` returned for the run's journal.
            damaged: whether places of the journal are damaged; then both are compared in full.
        Raises: StoreError, LockBusy or OSError if the store cannot be used now.
        """
        with locked(self._lock, patience=patience):
            while True:
                marks, seq = self._repaired_marks(patience)
                if run_id not in marks:
                    return START
                if not damaged and self._agreement.holds(run_id, marks[run_id]):
                    return marks[run_id].last.position
                self._reconcile(run_id, marks[run_id], seq, patience, lock)
                damaged = False

    def heal(self, error: StoreDamaged, patience: float = HEALING_PATIENCE) -> None:
        """Set a damaged log aside, or make the damaged file again, unless another process has done it since.

        Raises: StoreError, OSError or duckdb.Error if that is not possible now.
        """
        try:
            with locked(self._lock, patience=patience):
                self._confirm(error)
                if not (error.of_log and self._set_log_aside()):
                    self._rebuild(error, patience)
        except LockBusy as busy:
            raise StoreBusy(
                f"{self._database.path} is damaged, and another process makes it again: {busy}"
            ) from None

    def _apply_all(self, patience: float, row_group: int) -> int:
        self._waiting.clear()
        position, seq = self._agreed(patience)
        applied_before = set(position)
        total = 0
        while (batch := collect(self._journals, position, self._waiting)) is not None:
            # An older store was put back: it may have rows that were journaled again from a newer one.
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
        """Applies `batch` as transaction `seq`. False, with nothing done, where that is not the file's next one.

        Somebody has deleted the file since its offsets were read, or put another in its place: behind this batch
        it would lack all that came before.
        """
        now, tables = time.time(), batch.tables()
        # Registered before the file is held: DuckDB looks through a column of objects to learn its type.
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
        """How far each run is applied, once every journal that differs from the store is reconciled with it."""
        while True:
            marks, seq = self._repaired_marks(patience)
            if back := drop_again(self._database, marks, patience):
                self._tell(
                    f"{self._database.path} is older than a removal: {', '.join(back)} was removed, and its rows are "
                    "dropped again"
                )
                continue
            differing = [
                run_id
                for run_id in journaled(self._database.home)
                if run_id in marks
                and run_id not in self._waiting
                and not self._agreement.holds(run_id, marks[run_id])
            ]
            if not differing:
                return {run_id: each.last.position for run_id, each in marks.items()}, seq
            self._reconcile_or_wait(differing[0], marks[differing[0]], seq, patience)

    def _compare(self, run_ids: set[str], patience: float) -> None:
        """Apply the journals of some runs row by row: what the store has by identity is kept once."""
        for run_id in sorted(run_ids):
            marks, seq = self._repaired_marks(patience)
            self._reconcile_or_wait(run_id, marks[run_id], seq, patience)

    def _reconcile_or_wait(self, run_id: str, marks: Marks, seq: int, patience: float) -> None:
        """Reconcile a run, or note that it has to wait for the end of the process that writes its journal."""
        try:
            self._reconcile(run_id, marks, seq, patience)
        except JournalBusy as error:
            self._waiting[run_id] = str(error)

    def _reconcile(
        self, run_id: str, marks: Marks, seq: int, patience: float, lock: int | None = None
    ) -> None:
        try:
            told = reconcile(self._database, run_id, marks, seq, patience, lock)
        except Stale:
            return
        if told:
            self._tell(told)

    def _repaired_marks(self, patience: float) -> tuple[dict[str, Marks], int]:
        """The marks of the file; a damaged log is renamed aside to get them, a damaged file made again."""
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

    def _marks(self, patience: float) -> tuple[dict[str, Marks], int]:
        with self._database.reading(patience, exact=True) as connection:
            return marks_in(connection)

    def _confirm(self, error: StoreDamaged) -> None:
        """Raise what a query met, as it was, if the file can be read from its beginning to its end."""
        if error.doubtful and self._database.inode() == error.inode and self._database.is_sound():
            raise error.__cause__ or StoreError(str(error))

    def _set_log_aside(self) -> bool:
        aside = self._database.set_wal_aside()
        if aside is not None:
            self._tell(f"{self._database.wal} was damaged: set aside as {aside.name}")
        return aside is not None

    def _rebuild(self, error: StoreDamaged, patience: float) -> None:
        told = rebuild(self._database, error, max(patience, READ_PATIENCE), self._fill)
        if told:
            self._tell(told)

    def _tell(self, line: str) -> None:
        self.told.append(line)
        log.warning(line)

    def _fill(self, fresh: Database) -> None:
        """Apply all journals to a file that only this process uses. Raises whatever prevents that."""
        self._remade = Ingester(fresh)._apply_all(READ_PATIENCE, ROW_GROUP)

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


def collect(journals: Path, position: dict[str, Position], without: Container[str] = ()) -> Batch | None:
    """What the runs' journals hold behind `position`, some megabytes of it at most; None where that is nothing."""
    batch, size = Batch(), 0
    for run_id in journaled(journals.parent):
        folder, start = journals / run_id, position.get(run_id, START)
        if run_id in without or size >= TRANSACTION_BYTES or not has_more(folder, start):
            continue
        portion = scan(folder, start, TRANSACTION_BYTES - size)
        end = portion.end
        if end == start:
            continue  # only the torn tail of a batch that was never acknowledged
        size += end.offset - (start.offset if end.segment == start.segment else 0)
        batch.add(run_id, portion)
    return batch if batch.reached else None


def _insert(
    connection: duckdb.DuckDBPyConnection,
    tables: Iterable[str],
    marks: Sequence[Sequence[Any]],
    places: Sequence[Sequence[Any]],
) -> None:
    """Appends the `incoming_TABLE` of each of `tables` and rows of `applied` and `damage`, all or nothing."""
    with transaction(connection):
        for table in tables:
            connection.execute(insertion(table))
        for table, rows in (("damage", places), ("applied", marks)):
            if rows:  # as values: two rows from NumPy take DuckDB three times as long
                row = f"({', '.join('?' * len(rows[0]))})"
                values = ", ".join([row] * len(rows))
                connection.execute(f"INSERT INTO store.{table} VALUES {values}", list(chain(*rows)))
