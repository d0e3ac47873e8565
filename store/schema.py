"""Tables of store.duckdb, and the conversion of records to columns.

The tables are narrow and append-only, in arrival order. No table has a key, a unique constraint or an index:
exactly-once depends on `applied`. Its rows are committed with the rows that they cover. They hold the
checksum and the length of the journal's last line before their position. `damage` lists the damaged places of
journals. Rows are never updated; only `rm` deletes them. Times are Unix seconds (`to_timestamp(ts)` in SQL).
`run.config` and `run_event.payload` hold JSON text (`payload->>'state'`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.records import Event, Example, RunRow, Scalar

# The stock command line 1.5 reads files of this version.
STORAGE_VERSION = "v1.5.0"

TABLES: dict[str, dict[str, str]] = {
    "run": {
        "run_id": "VARCHAR",
        "name": "VARCHAR",
        "profile": "VARCHAR",
        "seed": "BIGINT",
        "config": "VARCHAR",
        "ts": "DOUBLE",
    },
    "run_event": {
        "run_id": "VARCHAR",
        "kind": "VARCHAR",
        "message": "VARCHAR",
        "stage": "VARCHAR",
        "arm": "VARCHAR",
        "step": "BIGINT",
        "payload": "VARCHAR",
        "ts": "DOUBLE",
    },
    "scalar": {
        "run_id": "VARCHAR",
        "metric": "VARCHAR",
        "step": "BIGINT",
        "value": "DOUBLE",
        "ts": "DOUBLE",
    },
    "eval_row": {
        "run_id": "VARCHAR",
        "arm": "VARCHAR",
        "step": "BIGINT",
        "task": "VARCHAR",
        "ex_id": "VARCHAR",
        "sample": "BIGINT",
        "correct": "BOOLEAN",
        "score": "DOUBLE",
        "outcome": "VARCHAR",
        "prompt": "VARCHAR",
        "output": "VARCHAR",
        "tokens": "BIGINT",
        "ts": "DOUBLE",
        "gold": "VARCHAR",
        "answer": "VARCHAR",
        "finish": "VARCHAR",
        "prompt_cut": "BIGINT",
        "window_tokens": "BIGINT",
    },
    "applied": {
        "run_id": "VARCHAR",
        "segment": "BIGINT",
        "offset": "BIGINT",
        "seq": "BIGINT",
        "ts": "DOUBLE",
        "crc": "BIGINT",
        "line_bytes": "BIGINT",
    },
    "damage": {
        "run_id": "VARCHAR",
        "segment": "BIGINT",
        "offset": "BIGINT",
        "bytes": "BIGINT",
        "before": "VARCHAR",
        "after": "VARCHAR",
        "ts": "DOUBLE",
    },
}
# Tables that every version had.
ALWAYS = frozenset({"run", "run_event", "scalar", "eval_row", "applied"})

# Losses and norms hardly compress, and decompression took an eighth of a chart's time.
_AS_THEY_ARE = {("scalar", "value")}

# Kind of a journaled record → its table, and the order of its fields after the kind.
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    kind: (table, tuple(field.name for field in fields(record)))
    for kind, table, record in (
        ("run", "run", RunRow),
        ("event", "run_event", Event),
        ("scalar", "scalar", Scalar),
        ("example", "eval_row", Example),
    )
}

_DTYPES = {"VARCHAR": object, "BIGINT": np.int64, "DOUBLE": np.float64, "BOOLEAN": np.bool_}
_NOT_RECORDED = {"VARCHAR": "''", "BIGINT": "0", "DOUBLE": "'nan'::DOUBLE", "BOOLEAN": "false"}
JSON_COLUMNS = frozenset({"config", "payload"})

TableColumns = dict[str, NDArray[Any]]


def create_statements(database: str) -> list[str]:
    """Return the DDL that creates the tables in the attached `database`."""
    return [_creation(database, table) for table in TABLES]


def _creation(database: str, table: str) -> str:
    listed = ", ".join(
        f'"{name}" {kind}' + (" USING COMPRESSION uncompressed" if (table, name) in _AS_THEY_ARE else "")
        for name, kind in TABLES[table].items()
    )
    return f"CREATE TABLE {database}.{table} ({listed})"


def is_foreign(found: Mapping[tuple[str, str], str]) -> bool:
    """Return True if another program made the file.

    `found` maps its (table, column) to the type.
    """
    return not {table for table, _ in found} >= ALWAYS or any(
        found.get((table, name), kind) != kind
        for table, columns in TABLES.items()
        for name, kind in columns.items()
    )


def upgrade_statements(database: str, found: Collection[tuple[str, str]]) -> list[str]:
    """Return the DDL that adds what the attached `database` lacks.

    Tables and columns are only ever added, columns at the end. Existing rows get the value that means "not
    recorded".

    Args:
        found: (table, column) pairs that the database has.
    """
    tables = {table for table, _ in found}
    return [_creation(database, table) for table in TABLES if table not in tables] + [
        f'ALTER TABLE {database}.{table} ADD COLUMN "{name}" {kind} DEFAULT {_NOT_RECORDED[kind]}'
        for table, columns in TABLES.items()
        for name, kind in columns.items()
        if table in tables and (table, name) not in found
    ]


def columns_of(kind: str, run_ids: Sequence[str], columns: Sequence[Sequence[Any]]) -> TableColumns:
    """Return journaled records of one kind as the columns of their table.

    Args:
        columns: values of the records, field by field.
    Returns: columns (rows,) each.
    """
    table, names = KINDS[kind]
    values = dict(zip(names, columns, strict=True)) | {"run_id": run_ids}
    for name in JSON_COLUMNS & values.keys():
        values[name] = [json.dumps(value, ensure_ascii=False) for value in values[name]]
    return to_columns(table, values)


def to_columns(table: str, values: dict[str, Sequence[Any]]) -> TableColumns:
    """Return `values` as NumPy columns in order and types of `table`."""
    return {name: np.array(values[name], dtype=_DTYPES[kind]) for name, kind in TABLES[table].items()}
