"""Journaled records on their way into the tables: as NumPy columns that SQL sees as `incoming_TABLE`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import duckdb

from store.batches import Group
from store.schema import TABLES, Columns


@contextmanager
def registered(connection: duckdb.DuckDBPyConnection, tables: dict[str, Columns]) -> Iterator[None]:
    """Lets SQL see `tables` as `incoming_TABLE`. Outside the transaction: an aborted one would not let go of them."""
    for table, columns in tables.items():
        connection.register(f"incoming_{table}", columns)
    try:
        yield
    finally:
        for table in tables:
            with suppress(duckdb.ConnectionException):  # the instance was dropped, and they with it
                connection.unregister(f"incoming_{table}")


def insertion(table: str, target: str = "") -> str:
    """The statement that appends `incoming_TABLE` to `target`, else to `store.TABLE`.

    DuckDB reads NaN in a NumPy column as NULL. No row holds NULL, and a NaN loss must stay one, so it is put back.
    """
    columns = (
        f"coalesce(\"{name}\", 'nan'::DOUBLE)" if kind == "DOUBLE" else f'"{name}"'
        for name, kind in TABLES[table].items()
    )
    return f"INSERT INTO {target or f'store.{table}'} SELECT {', '.join(columns)} FROM incoming_{table}"


def gather(groups: Iterable[Group], values: dict[str, list[list[Any]]]) -> None:
    """Append `groups` to `values`, field by field under their kind."""
    for kind, *columns in groups:
        for gathered, column in zip(values.setdefault(kind, [[] for _ in columns]), columns, strict=True):
            gathered += column
