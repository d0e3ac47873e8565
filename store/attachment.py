"""Attach database files to this process's DuckDB instance."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb

from store.errors import StoreBusy, explained, explained_in_query
from store.instance import connect

# Pause between two attempts while another program holds the file.
RETRY_SECONDS = 0.005


class ProcessInstance:
    """The in-memory DuckDB instance of this process.

    Connecting takes 10 ms, attaching a file 0.2 ms.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._parents: duckdb.DuckDBPyConnection | None = None

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """Return the connection, which is made at the first use."""
        if self._connection is None:
            self._connection = connect()
        return self._connection

    def drop(self) -> None:
        """Drop the instance with everything that an error left attached."""
        if self._connection is not None:
            with suppress(duckdb.Error):
                self._connection.close()
        self._connection = None

    def reset_after_fork(self) -> None:
        """Reset the state in a forked child.

        The parent's instance has no threads in the child, so even closing it would hang.
        """
        self._parents = self._connection
        self.lock = threading.RLock()
        self._connection = None


INSTANCE = ProcessInstance()
os.register_at_fork(after_in_child=INSTANCE.reset_after_fork)


@contextmanager
def attached(path: str, options: str, patience: float = 0.0) -> Iterator[duckdb.DuckDBPyConnection]:
    """Attach `path` as `store`, and detach it at the end of the block.

    While another program holds the file, attaching is retried for `patience` seconds.
    """
    deadline = time.monotonic() + patience
    connection = INSTANCE.connection
    while True:
        try:
            connection.execute(f"ATTACH {path} AS store {options}")
            break
        except duckdb.Error as error:
            failure = explained(error)
            if not isinstance(failure, StoreBusy) or time.monotonic() >= deadline:
                raise failure from error
            time.sleep(RETRY_SECONDS)
    try:
        with translating_errors():
            yield connection
    finally:
        _detach(connection)


@contextmanager
def translating_errors() -> Iterator[None]:
    """Convert DuckDB's errors to StoreErrors with `explained_in_query`."""
    try:
        yield
    except duckdb.Error as error:
        failure = explained_in_query(error)
        if failure is error:
            raise
        raise failure from error


def _detach(connection: duckdb.DuckDBPyConnection) -> None:
    """Detach `store`.

    If that fails (its checkpoint found the disk full), the whole instance is dropped with the file.
    """
    try:
        connection.execute("DETACH store")
    except duckdb.Error as error:
        INSTANCE.drop()
        raise explained(error) from error
