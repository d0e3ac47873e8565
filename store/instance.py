"""DuckDB instances with the store's settings, and opened private copies."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from store.errors import StoreDamaged
from store.filesystem import sql_path
from store.schema import create_statements, is_foreign, upgrade_statements


def connect() -> duckdb.DuckDBPyConnection:
    """Return a new in-memory instance with the store's settings.

    It prints no progress bar and leaves most cores to the engine. A commit is written to the file at once,
    without a write-ahead log: two `fdatasync` instead of four while the file is held, and no log to be
    damaged. A commit is complete or absent, because the file's header is replaced last.
    """
    connection = duckdb.connect(":memory:", config={"threads": min(4, os.cpu_count() or 1)})
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET wal_autocheckpoint = '0B'")
    connection.execute("SET auto_checkpoint_skip_wal_threshold = 0")
    return connection


def lacking(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the DDL that upgrades the attached file to this version's tables.

    Raises: StoreDamaged if another program made the file.
    """
    found = {
        (table, column): kind
        for table, column, kind in connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = 'store'"
        ).fetchall()
    }
    if is_foreign(found):
        raise StoreDamaged("another program made this database")
    return upgrade_statements("store", found)


def add_columns(connection: duckdb.DuckDBPyConnection) -> None:
    """Add all missing tables and columns to the attached file in one step."""
    statements = lacking(connection)
    if statements:
        connection.execute("; ".join(["BEGIN", *statements, "COMMIT"]))


def opened_copy(target: Path) -> duckdb.DuckDBPyConnection:
    """Return a separate instance with the copy `target` as `store`.

    Missing columns are added to the copy. Without a copy, the tables are empty.

    Raises: duckdb.Error or StoreDamaged if the copy is damaged.
    """
    connection = connect()
    try:
        if not target.exists():
            connection.execute("ATTACH ':memory:' AS store")
            for statement in create_statements("store"):
                connection.execute(statement)
            return connection
        connection.execute(f"ATTACH {sql_path(target)} AS store (READ_ONLY, TYPE DUCKDB)")
        if lacking(connection):
            connection.execute(f"DETACH store; ATTACH {sql_path(target)} AS store (TYPE DUCKDB)")
            add_columns(connection)
            connection.execute(f"DETACH store; ATTACH {sql_path(target)} AS store (READ_ONLY, TYPE DUCKDB)")
    except (duckdb.Error, StoreDamaged):
        connection.close()
        raise
    return connection
