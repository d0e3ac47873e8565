"""Journaled records on their way into the tables: as NumPy columns that SQL sees as `incoming_TABLE`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

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


def gathered(groups: Iterable[Group]) -> dict[str, list[list[object]]]:
    """Return `groups` put together by kind, field by field."""
    values: dict[str, list[list[object]]] = {}
    for kind, *columns in groups:
        for gathering, column in zip(values.setdefault(kind, [[] for _ in columns]), columns, strict=True):
            gathering += column
    return values
