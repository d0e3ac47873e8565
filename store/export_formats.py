"""The file formats of `export`.

Each writer executes a query on an open connection and writes the rows to a path.
CSV follows RFC 4180, as spreadsheets read it: UTF-8, fields with commas, quotes or line breaks quoted, quotes doubled.
JSON is one object, `{"metrics": [{…}, …]}`, with null for numbers that JSON cannot represent.
Both have ASCII numbers. Markdown is one table a file for human readers: cells are escaped, and negative numbers have
the typographic minus sign.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from store.filesystem import sql_path
from store.wording import harmless, human

ROWS_A_FETCH = 10_000

Writer = Callable[[duckdb.DuckDBPyConnection, str, str, Path], None]


def write_csv(connection: duckdb.DuckDBPyConnection, query: str, kind: str, path: Path) -> None:
    """Write the rows of `query` as CSV with a header."""
    connection.execute(f"COPY ({query}) TO {sql_path(path)} (FORMAT csv, HEADER true)")


def write_parquet(connection: duckdb.DuckDBPyConnection, query: str, kind: str, path: Path) -> None:
    """Write the rows of `query` as Parquet."""
    connection.execute(f"COPY ({query}) TO {sql_path(path)} (FORMAT parquet)")


def write_json(connection: duckdb.DuckDBPyConnection, query: str, kind: str, path: Path) -> None:
    """Write the rows of `query` as one JSON object with the key `kind`.

    The value is the list of rows, in order.
    """
    result = connection.execute(query)
    names = [column[0] for column in result.description or []]
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{{{json.dumps(kind)}: [")
        for number, row in enumerate(_rows(result)):
            cells = dict(zip(names, map(_json_value, row), strict=True))
            file.write(("," if number else "") + "\n" + json.dumps(cells, ensure_ascii=False))
        file.write("\n]}\n")


def write_markdown(connection: duckdb.DuckDBPyConnection, query: str, kind: str, path: Path) -> None:
    """Write the rows of `query` as a table in GitHub's Markdown."""
    result = connection.execute(query)
    names = [column[0] for column in result.description or []]
    with path.open("w", encoding="utf-8") as file:
        file.write(f"| {' | '.join(names)} |\n|{' --- |' * len(names)}\n")
        for row in _rows(result):
            file.write(f"| {' | '.join(map(markdown_cell, row))} |\n")


def markdown_cell(value: Any) -> str:
    """Return `value` as the text of a cell in a Markdown table.

    Line breaks, pipes, tags and emphasis appear literally. Floats get six significant digits.
    """
    if isinstance(value, (int, float)):
        return human(str(value) if isinstance(value, int) else f"{value:.6g}")
    text = re.sub(r"\r\n|\r|\n", "\n", _text(value))
    text = re.sub(r"([\\`*|~])", r"\\\1", harmless(text))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", "<br>")


WRITERS: dict[str, tuple[str, Writer]] = {
    "csv": ("csv", write_csv),
    "markdown": ("md", write_markdown),
    "json": ("json", write_json),
    "parquet": ("parquet", write_parquet),
}


def _rows(result: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    while rows := result.fetchmany(ROWS_A_FETCH):
        yield from rows


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.isoformat() + "Z" if isinstance(value, datetime) else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat(sep=" ") if isinstance(value, datetime) else str(value)
