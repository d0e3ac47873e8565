"""Store errors, and the translation of DuckDB's errors to them."""

from __future__ import annotations

import re

import duckdb

from profiles.errors import OperationFailed
from store.disk_refusal import refusal_in


class StoreError(OperationFailed, RuntimeError):
    """The store cannot be used now; the message gives reason and remedy."""


class StoreBusy(StoreError):
    """Another process holds the file or its gate."""


class StoreFull(StoreError):
    """The disk refuses a write: full, quota, read-only.

    Unwritten rows stay in the journals.
    """


class StoreNewer(StoreError):
    """A newer version created the file. It is left unchanged."""


class StoreDamaged(StoreError):
    """The file or its write-ahead log cannot be read.

    Both can be rebuilt from the journals. `inode` identifies the file that was read, so it is replaced once,
    however many processes read it. The error is `doubtful` if a query raised it: the cause may be the query's
    text or a bug in DuckDB.
    """

    inode = 0
    doubtful = False

    @property
    def of_log(self) -> bool:
        """Return True if the damage is in the write-ahead log."""
        return "WAL" in str(self)


_HOLDER = re.compile(
    r'file "(?P<file>[^"]+)": Conflicting lock is held in (?P<program>.*?) \(PID (?P<pid>\d+)\)'
)


# DuckDB's message for a block with content that it never wrote.
_SUSPICIOUS = (duckdb.InternalException, duckdb.FatalException, duckdb.SerializationException)


def explained_in_query(error: duckdb.Error) -> Exception:
    """Like `explained`, for a query on an attached file.

    Damage is then only suspected.
    """
    failure = explained(error)
    if failure is error and (isinstance(error, _SUSPICIOUS) or type(error) is duckdb.Error):
        failure = StoreDamaged(str(error).splitlines()[0])
    if isinstance(failure, StoreDamaged):
        failure.doubtful = True
    return failure


def explained(error: duckdb.Error) -> Exception:
    """Return the StoreError for DuckDB's `error`.

    An error of a query's own text is returned unchanged.
    """
    text = str(error)
    if holder := _HOLDER.search(text):
        name = f"{holder['file']}: held by {holder['program']} (PID {holder['pid']})"
        if "read-only mode" in text:
            return StoreBusy(f"{name}, which only delays new rows; they appear when it closes the file")
        return StoreBusy(
            f"{name}, opened read-write, which blocks history too; close it, or use duckdb -readonly"
        )
    if refused := refusal_in(text):
        return StoreFull(f"{refused}; nothing is lost meanwhile")
    if any(sign in text for sign in _NEWER):
        return StoreNewer(
            f"{text.splitlines()[0]}: a newer version made store.duckdb, which is left unchanged; "
            "update mathrl-tui"
        )
    if any(sign in text for sign in _DAMAGED):
        return StoreDamaged(text.splitlines()[0].removeprefix("IO Error: ").rstrip("!"))
    return error


_NEWER = ("Unsupported Storage Version", "with version number", "newer version of DuckDB")
_DAMAGED = (
    "WAL file",
    "This WAL was",
    "Corrupt",
    "not a valid DuckDB",
    "Could not read enough bytes",
    "Failed to deserialize",
    "Is a directory",
)
