"""A transaction of DuckDB as a block: all of it is committed, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit what the block executes, or roll it back. Raises: duckdb.Error, the one that ended the block."""
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except duckdb.Error:
        # A failed COMMIT has ended the transaction already.
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        raise
