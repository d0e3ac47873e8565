"""A user's query on a private copy, with limits of time and memory.

    catch up ─▶ private copy ─▶ query on a thread of its own ─▶ rows, or the limit that was reached

The calling thread waits outside DuckDB, so the time limit and Ctrl-C end the query whatever it does.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from store.database import Database
from store.errors import StoreError
from store.wording import size

ROWS_A_FETCH = 10_000
# Seconds between two attempts to end a query.
INTERRUPT_SECONDS = 0.1
# Fraction of the machine's or container's memory, unless the caller gives a limit.
MEMORY_SHARE = 0.5

QueryResult = tuple[list[str], list[tuple[Any, ...]]]


class SqlLimit(StoreError):
    """A query reached one of its limits.

    The message gives the limit and the option that raises it.
    """


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a query.

    `seconds` is its time, 0 for unlimited. `memory` is bytes, 0 for MEMORY_SHARE of the available memory.
    """

    seconds: float = 60.0
    memory: int = 0


def answer(database: Database, query: str, limits: Limits) -> QueryResult:
    """Return (column names, rows) of `query` on a private copy of the store.

    The query cannot change anything permanently.
    Raises: SqlLimit if it reaches a limit; duckdb.Error, with DuckDB's own message, if it fails.
    """
    memory = limits.memory or int(MEMORY_SHARE * available_memory())
    with database.copied() as connection:
        connection.execute(f"SET memory_limit = '{memory}B'")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            return _in_time(connection, query, limits.seconds, memory)
        except duckdb.OutOfMemoryException:
            raise SqlLimit(_too_much(memory)) from None


def available_memory() -> int:
    """Return the bytes of memory that this process may use.

    It is the machine's memory, or the container's limit if that is smaller.
    """
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        try:
            text = Path("/sys/fs/cgroup", name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            whole = min(whole, int(text))
    return whole


def _in_time(connection: duckdb.DuckDBPyConnection, query: str, seconds: float, memory: int) -> QueryResult:
    over = threading.Event()
    with ThreadPoolExecutor(1, "sql") as pool:
        work = pool.submit(_rows, connection, query, memory, over)
        try:
            done, _ = wait([work], seconds if 0 < seconds < threading.TIMEOUT_MAX else None)
        except KeyboardInterrupt:
            _end(connection, work, over)
            raise
        if done:
            return work.result()
        _end(connection, work, over)
    raise SqlLimit(f"sql: no answer after {seconds:g} s; raise --timeout SECONDS (0: no limit)")


def _rows(
    connection: duckdb.DuckDBPyConnection, query: str, memory: int, over: threading.Event
) -> QueryResult:
    """Return the whole answer.

    Rows are converted to Python objects in parts, so that their memory can be checked.
    """
    before = _resident()
    result = connection.execute(query)
    columns = [column[0] for column in result.description or []]
    rows: list[tuple[Any, ...]] = []
    while not over.is_set() and (part := result.fetchmany(ROWS_A_FETCH)):
        rows += part
        if _resident() - before > memory:
            raise SqlLimit(_too_much(memory))
    return columns, rows


def _end(connection: duckdb.DuckDBPyConnection, work: Future[QueryResult], over: threading.Event) -> None:
    """End the query.

    An interrupt between two fetches is lost, so it is repeated until the query has ended.
    """
    over.set()
    while not work.done():
        connection.interrupt()
        wait([work], INTERRUPT_SECONDS)


def _too_much(memory: int) -> str:
    return (
        f"sql: the query needs more memory than {size(memory)}; select fewer rows or columns, or raise "
        "--memory"
    )


def _resident() -> int:
    """Return this process's resident memory in bytes."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
