"""The tables of store.duckdb: narrow, append-only, in arrival order; and how records become columns of them.

No table has a key, a unique constraint or an index: exactly-once rests on `applied`, whose rows are committed with
the rows that they cover, with the checksum and the length of the journal's last line before them. `damage` lists the
damaged places of journals. Nothing is ever updated or deleted. Times are Unix seconds (`to_timestamp(ts)` in SQL).
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

STORAGE_VERSION = "v1.5.0"  # so that the stock command line 1.5 reads the file

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
ALWAYS = frozenset({"run", "run_event", "scalar", "eval_row", "applied"})  # tables that every version had

# Losses and norms hardly get smaller, and unpacking them took an eighth of a chart's time.
_AS_THEY_ARE = {("scalar", "value")}

# A journaled record's kind -> its table and the order of its fields behind the kind.
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

Columns = dict[str, NDArray[Any]]


def create_statements(database: str) -> list[str]:
    """The DDL that makes the tables in the attached `database`."""
    return [_creation(database, table) for table in TABLES]


def _creation(database: str, table: str) -> str:
    listed = ", ".join(
        f'"{name}" {kind}' + (" USING COMPRESSION uncompressed" if (table, name) in _AS_THEY_ARE else "")
        for name, kind in TABLES[table].items()
    )
    return f"CREATE TABLE {database}.{table} ({listed})"


def is_foreign(found: Mapping[tuple[str, str], str]) -> bool:
    """Return True if a file with the columns `found`, (table, column) → type, was made by another program."""
    return not {table for table, _ in found} >= ALWAYS or any(
        found.get((table, name), kind) != kind
        for table, columns in TABLES.items()
        for name, kind in columns.items()
    )


def upgrade_statements(database: str, found: Collection[tuple[str, str]]) -> list[str]:
    """Return the DDL that adds what the attached `database`, with the (table, column) pairs `found`, lacks.

    Tables and columns are only ever added, columns at the end. Rows from before get the value that means
    "not recorded".
    """
    tables = {table for table, _ in found}
    return [_creation(database, table) for table in TABLES if table not in tables] + [
        f'ALTER TABLE {database}.{table} ADD COLUMN "{name}" {kind} DEFAULT {_NOT_RECORDED[kind]}'
        for table, columns in TABLES.items()
        for name, kind in columns.items()
        if table in tables and (table, name) not in found
    ]


def columns_of(kind: str, run_ids: Sequence[str], columns: Sequence[Sequence[Any]]) -> Columns:
    """Journaled records of one kind, given field by field, as the columns of their table, each `(rows,)`."""
    table, names = KINDS[kind]
    values = dict(zip(names, columns, strict=True)) | {"run_id": run_ids}
    for name in JSON_COLUMNS & values.keys():
        values[name] = [json.dumps(value, ensure_ascii=False) for value in values[name]]
    return to_columns(table, values)


def to_columns(table: str, values: dict[str, Sequence[Any]]) -> Columns:
    """`values` as NumPy columns in the order and the types of `table`."""
    return {name: np.array(values[name], dtype=_DTYPES[kind]) for name, kind in TABLES[table].items()}
