"""Why the store cannot be used, and what DuckDB's own errors mean here."""

from __future__ import annotations

import re

import duckdb

from profiles.errors import OperationFailed
from store.disk_refusal import refusal_in


class StoreError(OperationFailed, RuntimeError):
    """The store cannot be used now; the message says why and what to do."""


class StoreBusy(StoreError):
    """Somebody holds the file or its gate."""


class StoreFull(StoreError):
    """The disk refuses a write: full, quota, read-only. What was not written stays in the journals."""


class StoreNewer(StoreError):
    """A newer version made the file. It is left alone."""


class StoreDamaged(StoreError):
    """The file or its write-ahead log cannot be read; both can be made again from the journals.

    `inode` is that of the file which was read, so that it is replaced once, however many processes read it. The error
    is `doubtful` if a query met it: the words may be the query's own, or those of a fault of DuckDB.
    """

    inode = 0
    doubtful = False

    @property
    def of_log(self) -> bool:
        """True if it is the write-ahead log that is damaged."""
        return "WAL" in str(self)


_HOLDER = re.compile(
    r'file "(?P<file>[^"]+)": Conflicting lock is held in (?P<program>.*?) \(PID (?P<pid>\d+)\)'
)


# What DuckDB raises if a block holds what it never wrote.
_SUSPICIOUS = (duckdb.InternalException, duckdb.FatalException, duckdb.SerializationException)


def explained_in_query(error: duckdb.Error) -> Exception:
    """Like `explained`, for an error of a query on an attached file: damage is doubtful then."""
    failure = explained(error)
    if failure is error and (isinstance(error, _SUSPICIOUS) or type(error) is duckdb.Error):
        failure = StoreDamaged(str(error).splitlines()[0])
    if isinstance(failure, StoreDamaged):
        failure.doubtful = True
    return failure


def explained(error: duckdb.Error) -> Exception:
    """The StoreError that says what DuckDB's `error` means here; an error in a query is left as it is."""
    text = str(error)
    if holder := _HOLDER.search(text):
        name = f"{holder['file']}: held by {holder['program']} (PID {holder['pid']})"
        if "read-only mode" in text:
            return StoreBusy(f"{name}, which only delays new rows; they show when it closes the file")
        return StoreBusy(
            f"{name}, opened read-write, which blocks history too; close it, or use duckdb -readonly"
        )
    if refused := refusal_in(text):
        return StoreFull(f"{refused}; nothing is lost meanwhile")
    if any(sign in text for sign in _NEWER):
        return StoreNewer(
            f"{text.splitlines()[0]}: a newer version made store.duckdb; update mathrl-tui, the file stays as it is"
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
