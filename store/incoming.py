"""Journaled records as NumPy columns, which SQL sees as `incoming_TABLE`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import duckdb

from store.batches import Group
from store.schema import TABLES, TableColumns


@contextmanager
def registered(connection: duckdb.DuckDBPyConnection, tables: dict[str, TableColumns]) -> Iterator[None]:
    """Make `tables` visible to SQL as `incoming_TABLE`.

    Call it outside the transaction: an aborted transaction would keep the tables registered.
    """
    for table, columns in tables.items():
        connection.register(f"incoming_{table}", columns)
    try:
        yield
    finally:
        for table in tables:
            # The instance was dropped, and the tables with it.
            with suppress(duckdb.ConnectionException):
                connection.unregister(f"incoming_{table}")


def insertion(table: str, target: str = "") -> str:
    """Return the INSERT from `incoming_TABLE` to `target`.

    The default target is `store.TABLE`. DuckDB reads NaN in a NumPy column as NULL. The tables hold no NULL,
    and a NaN loss must stay NaN, so the statement converts it back.
    """
    columns = (
        f"coalesce(\"{name}\", 'nan'::DOUBLE)" if kind == "DOUBLE" else f'"{name}"'
        for name, kind in TABLES[table].items()
    )
    return f"INSERT INTO {target or f'store.{table}'} SELECT {', '.join(columns)} FROM incoming_{table}"


def gather(groups: Iterable[Group], values: dict[str, list[list[Any]]]) -> None:
    """Append `groups` to `values`, by kind and field."""
    for kind, *columns in groups:
        for gathered, column in zip(values.setdefault(kind, [[] for _ in columns]), columns, strict=True):
            gathered += column
