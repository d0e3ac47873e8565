"""A DuckDB transaction as a block: commit all of it, or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import duckdb


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Commit the statements of the block, or roll them back.

    Raises: duckdb.Error that ended the block.
    """
    connection.execute("BEGIN")
    try:
        yield
        connection.execute("COMMIT")
    except duckdb.Error:
        # A failed COMMIT has ended the transaction already.
        with suppress(duckdb.Error):
            connection.execute("ROLLBACK")
        raise
