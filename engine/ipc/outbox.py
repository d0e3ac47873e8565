"""Send records to the journal, and keep them until acknowledged.

A checkpoint or marker must never be ahead of the journal, or a resumed run would have gaps in its record. So
`flush` returns only when every record is safe: in the journal or, if the supervisor has died, in a spool
file. The next supervisor writes the spool file to the journal first.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from engine.ipc.orders import Flush, FromChild, Notice
from store.atomic import replace_text
from store.home import RunFolder
from store.private import make_folder
from store.records import Event, Example, Record, RunRow, Scalar, from_json, to_json

# Unacknowledged records before `put` blocks, for example because the disk is full.
CAPACITY = 20_000
# Longest wait of a record for others, so that they are sent in one batch.
LINGER_SECONDS = 0.05
BATCH = 500


class MessageSender(Protocol):
    """The part of a connection that the outbox uses."""

    def send(self, message: FromChild) -> None:
        """Send `message` to the supervisor."""


class Outbox:
    """Sends a process's records and notices to the supervisor, in order.

    A thread of its own sends them in batches. Records are kept until they are acknowledged. If the supervisor
    dies, they are written to the file `spool`.
    """

    def __init__(self, connection: MessageSender, spool: Path) -> None:
        self._connection = connection
        self._spool = spool
        self._changed = threading.Condition()
        self._unsent: deque[Record | Notice] = deque()
        # Records that are not yet acknowledged.
        self._kept: deque[Record] = deque()
        self._acknowledged = 0
        self._put = 0
        self._urgent = False
        self._closing = False
        self._orphaned = False
        self._thread = threading.Thread(target=self._feed, name="outbox", daemon=True)
        self._thread.start()

    def put(self, item: Record | Notice) -> None:
        """Queue `item`.

        Block while CAPACITY records are unacknowledged (for example on a full disk).
        """
        with self._changed:
            if isinstance(item, (Event, Scalar, Example, RunRow)):
                self._changed.wait_for(lambda: len(self._kept) < CAPACITY or self._orphaned)
                self._kept.append(item)
                self._put += 1
            else:
                self._urgent = True
            self._unsent.append(item)
            self._changed.notify_all()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until every record put so far is safe.

        It is then in the journal, or in the spool if the supervisor has died.
        Args:
            timeout: longest wait in seconds; None for no limit.
        """
        with self._changed:
            target = self._put
            if self._acknowledged >= target:
                return
            if not self._orphaned:
                self._unsent.append(Flush())
                self._urgent = True
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._acknowledged >= target or self._orphaned, timeout)
            if self._orphaned and self._kept:
                write_spool(self._spool, list(self._kept))

    def acknowledge(self, records: int) -> None:
        """Release the first `records` records, which the supervisor has journaled."""
        with self._changed:
            for _ in range(records - self._acknowledged):
                self._kept.popleft()
            self._acknowledged = records
            self._changed.notify_all()

    def orphan(self) -> None:
        """Record that the supervisor has died: no acknowledgement will arrive."""
        with self._changed:
            self._orphaned = True
            self._changed.notify_all()

    def close(self, timeout: float) -> None:
        """Call `flush`, then send what is left.

        Each step takes at most `timeout` seconds.
        """
        self.flush(timeout)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def _feed(self) -> None:
        while batch := self._next_batch():
            try:
                self._connection.send(batch)
            except (BrokenPipeError, ConnectionResetError):
                self.orphan()
                return

    def _next_batch(self) -> FromChild:
        """Wait for a batch to send.

        The result is empty if the outbox is closed and has nothing left.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._unsent or self._closing or self._orphaned)
            deadline = time.monotonic() + LINGER_SECONDS
            while len(self._unsent) < BATCH and not (self._urgent or self._closing or self._orphaned):
                if (
                    not self._changed.wait(max(0.0, deadline - time.monotonic()))
                    and time.monotonic() >= deadline
                ):
                    break
            if self._orphaned:
                return []
            batch = [self._unsent.popleft() for _ in range(min(BATCH, len(self._unsent)))]
            self._urgent = self._urgent and bool(self._unsent)
            return batch


def spool_folder(folder: RunFolder) -> Path:
    """Return the folder of records that orphaned processes left.

    They are the unacknowledged ones.
    """
    return folder.path / "unacknowledged"


def write_spool(path: Path, records: list[Record]) -> None:
    """Write `records` to `path` atomically and durably."""
    make_folder(path.parent)
    replace_text(path, "".join(json.dumps(to_json(record)) + "\n" for record in records), errors="replace")


def read_spool(path: Path) -> tuple[list[Record], int]:
    """Return the records of a spool file, and the number of its damaged lines."""
    records: list[Record] = []
    lines = path.read_bytes().splitlines()
    for line in lines:
        with suppress(ValueError, LookupError, TypeError):
            records.append(from_json(json.loads(line)))
    return records, len(lines) - len(records)


# mypy checks here that the class has every method of the protocol, with the same types.
_pipe: type[MessageSender] = Connection
