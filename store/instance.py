"""DuckDB instances as the store sets them up, and private copies of its file opened in one."""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from store.errors import StoreDamaged
from store.filesystem import sql_path
from store.schema import create_statements, is_foreign, upgrade_statements


def connect() -> duckdb.DuckDBPyConnection:
    """A new in-memory instance that keeps off the terminal and leaves most cores to the engine.

    A commit goes into the file at once and leaves out the write-ahead log: two `fdatasync` instead of four while the
    file is held, and no log to be damaged. It is there whole or not at all, as the file's header is replaced last.
    """
    connection = duckdb.connect(":memory:", config={"threads": min(4, os.cpu_count() or 1)})
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET wal_autocheckpoint = '0B'")
    connection.execute("SET auto_checkpoint_skip_wal_threshold = 0")
    return connection


def lacking(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Return the statements that add what the attached file lacks. Raises: StoreDamaged for a stranger's file."""
    found = {
        (table, column): kind
        for table, column, kind in connection.execute(
            "SELECT table_name, column_name, data_type FROM duckdb_columns() WHERE database_name = 'store'"
        ).fetchall()
    }
    if is_foreign(found):
        raise StoreDamaged("store.duckdb is a database of another program")
    return upgrade_statements("store", found)


def add_columns(connection: duckdb.DuckDBPyConnection) -> None:
    """Add what the attached file lacks in one transaction."""
    statements = lacking(connection)
    if statements:
        connection.execute("; ".join(["BEGIN", *statements, "COMMIT"]))


def opened_copy(target: Path) -> duckdb.DuckDBPyConnection:
    """Return an instance of its own with the copy `target` as `store`, every column in it; empty if there is none.

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
