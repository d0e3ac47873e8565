"""Reconciliation of a journal and a store that differ.

    only in the store   ─▶ a new segment of the journal, after every number that was ever applied
    only in the journal ─▶ the store, in the transaction that moves the mark to the journal's end

Neither loses a row. So a rebuild from the journals gives all rows, a resumed run has all recorded rows, and
no row is duplicated: rows are the same if their identities are (store/records.py). A process that dies at any
moment leaves the old mark, which still does not fit, or the new one. The next attempt then writes no row
twice.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from store.applied import AppliedMarks
from store.damage import Damage, joined
from store.database import Database
from store.events import LogLine
from store.incoming import gather, insertion, registered
from store.journal import START, JournalBusy, JournalWriter, LastLine, Position, hold, scan, size_of
from store.records import KINDS_OF_RECORDS, Record
from store.schema import JSON_COLUMNS, KINDS, TABLES, columns_of
from store.transaction import transaction

PORTION_BYTES = 4 << 20
# Records in a journaled batch.
BATCH = 500

# Columns that identify a row. Events and registrations are the same if all their values are.
_IDENTITY = {
    "run": tuple(name for name in TABLES["run"] if name != "run_id"),
    "scalar": ("metric", "step"),
    "eval_row": ("arm", "step", "task", "ex_id", "sample"),
    "run_event": tuple(name for name in TABLES["run_event"] if name != "run_id"),
}


class Stale(RuntimeError):
    """Another file has replaced the store since its marks were read.

    `Ingester` catches it, and leaves the run to its next tick.
    """


@dataclass(slots=True)
class _Difference:
    """Differences of one run.

    They are the journal's damaged places and its end, and the number of rows that each side lacks, by table.
    """

    damages: list[Damage]
    end: Position
    last_line: LastLine
    # Bytes of the unfinished batch after `end`.
    torn: int
    store_only: dict[str, int]
    journal_only: dict[str, int]


def reconcile(
    database: Database, run_id: str, marks: AppliedMarks, seq: int, patience: float, lock: int | None = None
) -> str:
    """Make a run's journal and store hold the same rows.

    Call it with `store.lock` held.

    Args:
        marks: the run's marks.
        seq: number of the last transaction of all runs.
        lock: what `journal.hold` returned, if the caller holds the run's journal; it stays open.
    Returns: one line about what was done; empty if both already held the same rows.
    Raises:
        JournalBusy if another process writes the journal and it lacks rows.
        Stale if the marks belong to another file than the current one.
    """
    folder = database.home / "journal" / run_id
    held = lock if lock is not None else _hold(folder)
    try:
        with database.preparing() as memory, _journal_tables(memory):
            damages, end, last_line = _load(memory, run_id, folder)
            with database.writing(patience) as connection:
                if _last_transaction(connection) != seq:
                    raise Stale(run_id)
                torn = max(0, size_of(folder, end.segment) - end.offset)
                found = _Difference(damages, end, last_line, torn, *_compared(connection, run_id))
                return _settle(connection, run_id, folder, marks, seq + 1, found, held)
    finally:
        if held is not None and held != lock:
            os.close(held)


def _hold(folder: Path) -> int | None:
    with suppress(JournalBusy):
        return hold(folder)
    return None


def _settle(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    folder: Path,
    marks: AppliedMarks,
    seq: int,
    found: _Difference,
    held: int | None,
) -> str:
    """Write missing rows: first to the journal, then to the store.

    The store also gets the new mark.
    """
    rows_out, rows_in = sum(found.store_only.values()), sum(found.journal_only.values())
    known = _known_damages(connection, run_id)
    settled = [
        damage.place for damage in found.damages if damage not in known and marks.cover(damage, folder)
    ]
    words, position, last_line = "", found.end, found.last_line
    event: list[Record] = []
    if held is None and rows_out:
        raise JournalBusy(f"{folder}: {rows_out} rows that only the store has wait for the end of the run")
    if held is not None and (rows_out or rows_in or settled):
        if found.torn:
            settled.append((found.end.segment, found.end.offset, found.torn))
        words = _difference_line(
            rows_out, rows_in, "" if marks.fit(folder) else _last_look(connection, run_id)
        )
        event = [LogLine("warning", "store", tuple(settled)).event(words)]
        floor = Position(max(marks.highest_segment, START.segment), sys.maxsize)
        with JournalWriter(folder, floor, os.dup(held)) as writer:
            first = writer.position
            for batch in _batches(connection, event):
                writer.append(batch)
            position, last_line = writer.position, scan(folder, first).last_line
    new = [damage for damage in found.damages if damage not in known]
    now = time.time()
    # A segment that stays short is correct from now on.
    amended = [(run_id, *each, seq, now, *LastLine()) for each in marks.cut(folder).items()]
    _commit(connection, run_id, event, new, [*amended, (run_id, *position, seq + 1, now, *last_line)])
    return words and f"run {run_id}: {words}"


def _difference_line(rows_out: int, rows_in: int, last_look: str) -> str:
    """Describe in one line what was different.

    `last_look` is the time of the store's last look, if the journal is another one than it applied.
    """
    lost = (
        f"rows written after {last_look} may be lost with the journal's end"
        if last_look
        else "no row is lost"
    )
    return (
        f"its journal and the store differed: {rows_out:,} rows of the store were journaled again, "
        f"{rows_in:,} rows of the journal were stored; no row is duplicated; {lost}"
    )


def _last_look(connection: duckdb.DuckDBPyConnection, run_id: str) -> str:
    """Return when the store last applied rows of the run, in local time."""
    (when,) = connection.execute("SELECT max(ts) FROM store.applied WHERE run_id = ?", [run_id]).fetchall()[0]
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


def _commit(
    connection: duckdb.DuckDBPyConnection,
    run_id: str,
    event: list[Record],
    damages: list[Damage],
    marks: list[tuple[object, ...]],
) -> None:
    """Commit the journal's rows, `event`, `damages` and the run's new marks.

    All are written to the store in one transaction.
    """
    event_tables = {}
    if event:
        kind = "event"
        values = [[getattr(each, name) for each in event] for name in KINDS[kind][1]]
        event_tables = {KINDS[kind][0]: columns_of(kind, [run_id] * len(event), values)}
    with registered(connection, event_tables), transaction(connection):
        for table in _IDENTITY:
            lacking = f"SELECT * FROM journal_{table} j WHERE {_lacks('store', table)} ORDER BY rowid"
            connection.execute(f"INSERT INTO store.{table} {lacking}", [run_id])
        for table in event_tables:
            connection.execute(insertion(table))
        for damage in damages:
            row = (run_id, *damage.place, damage.before, damage.after, time.time())
            connection.execute("INSERT INTO store.damage VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        for mark in marks:
            connection.execute("INSERT INTO store.applied VALUES (?, ?, ?, ?, ?, ?, ?)", mark)


@contextmanager
def _journal_tables(memory: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Create temporary tables for the block.

    `journal_TABLE` is for the journal's rows, `missing_TABLE` for rows that the journal lacks.
    """
    for table in _IDENTITY:
        columns = ", ".join(f'"{name}" {kind}' for name, kind in TABLES[table].items())
        for prefix in ("journal", "missing"):
            memory.execute(f"CREATE OR REPLACE TEMP TABLE {prefix}_{table} ({columns})")
    try:
        yield
    finally:
        for table in _IDENTITY:
            for prefix in ("journal", "missing"):
                # The instance was dropped, and the tables with it.
                with suppress(duckdb.Error):
                    memory.execute(f"DROP TABLE IF EXISTS temp.{prefix}_{table}")


def _load(
    memory: duckdb.DuckDBPyConnection, run_id: str, folder: Path
) -> tuple[list[Damage], Position, LastLine]:
    """Read the whole journal into `journal_TABLE`.

    Returns: its damaged places, its end, and the last line before that end.
    """
    damages: list[Damage] = []
    position, last_line = START, LastLine()
    while True:
        portion = scan(folder, position, PORTION_BYTES)
        if portion.end == position:
            return joined(damages), position, last_line
        damages += portion.damages
        values: dict[str, list[list[Any]]] = {}
        gather(portion.groups, values)
        tables = {
            KINDS[kind][0]: columns_of(kind, [run_id] * len(columns[0]), columns)
            for kind, columns in values.items()
        }
        with registered(memory, tables):
            for table in tables:
                memory.execute(insertion(table, f"journal_{table}"))
        position, last_line = portion.end, portion.last_line


def _compared(connection: duckdb.DuckDBPyConnection, run_id: str) -> tuple[dict[str, int], dict[str, int]]:
    """Fill `missing_TABLE` and count differing rows by table.

    Returns: rows that only the store has, and rows that only the journal has.
    """
    for table in _IDENTITY:
        connection.execute(
            f"INSERT INTO missing_{table} SELECT * FROM store.{table} s WHERE s.run_id = ? "
            f"AND {_lacks('journal', table)} ORDER BY rowid",
            [run_id],
        )
    store_only = {table: _count(connection, f"missing_{table}") for table in _IDENTITY}
    journal_only = {
        table: _count(connection, f"journal_{table} j WHERE {_lacks('store', table)}", run_id)
        for table in _IDENTITY
    }
    return store_only, journal_only


def _lacks(side: str, table: str) -> str:
    """Return the SQL condition that `side` lacks the other side's row.

    `side` is the store or the journal. Rows are matched by identity.
    """
    same = " AND ".join(f's."{name}" = j."{name}"' for name in _IDENTITY[table])
    if side == "journal":
        return f"NOT EXISTS (SELECT 1 FROM journal_{table} j WHERE {same})"
    return f"NOT EXISTS (SELECT 1 FROM store.{table} s WHERE s.run_id = ? AND {same})"


def _count(connection: duckdb.DuckDBPyConnection, source: str, *values: object) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {source}", list(values)).fetchall()[0][0])


def _batches(connection: duckdb.DuckDBPyConnection, first: list[Record]) -> Iterator[list[Record]]:
    """Yield `first`, then the records of `missing_TABLE` in batches.

    An older store may later be combined with this journal. The event in `first` shows it that it may already
    have the rows that follow.
    """
    yield first
    for kind, (table, names) in KINDS.items():
        listed = ", ".join(f'"{name}"' for name in names)
        for start in range(0, _count(connection, f"missing_{table}"), BATCH):
            rows = connection.execute(
                f"SELECT {listed} FROM missing_{table} ORDER BY rowid LIMIT {BATCH} OFFSET {start}"
            ).fetchall()
            yield [
                KINDS_OF_RECORDS[kind](
                    *(
                        json.loads(value) if name in JSON_COLUMNS else value
                        for name, value in zip(names, row, strict=True)
                    )
                )
                for row in rows
            ]


def _known_damages(connection: duckdb.DuckDBPyConnection, run_id: str) -> set[Damage]:
    rows = connection.execute(
        'SELECT segment, "offset", bytes, before, after FROM store.damage WHERE run_id = ?', [run_id]
    ).fetchall()
    return set(joined(sorted((Damage(*row) for row in rows), key=lambda damage: damage.place)))


def _last_transaction(connection: duckdb.DuckDBPyConnection) -> int:
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM store.applied").fetchall()[0][0])
