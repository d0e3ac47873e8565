"""Write the processes' records to the journal.

Repeated ones are dropped; batches are acknowledged.

    child ─▶ take ─▶ queue ─▶ flush ─▶ journal ─▶ acknowledge ─▶ child

If the journal cannot be written (for example on a full disk), records wait in a bounded queue. `trouble`
gives the reason, and the write is retried. When the queue is full, the supervisor stops reading from the
processes. Their own bounded queues then block them. So no record is lost.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol

from engine.supervisor.seen_records import SeenRecords
from store.events import LogLine
from store.records import Event, Example, Record, Scalar

BATCH = 500
BATCH_SECONDS = 0.15
RETRY_SECONDS = 1.0
DRAIN_RETRY_SECONDS = 0.5
CAPACITY = 20_000


class Journal(Protocol):
    """The part of store.journal.JournalWriter that the recorder uses."""

    def append(self, records: Sequence[Record]) -> object:
        """Write `records` as one batch; return when it is on disk.

        Raises: OSError if the journal cannot be written.
        """


class RecordSender(Protocol):
    """The sender of records, which is notified when they are safe."""

    def acknowledge(self, records: int) -> None:
        """Count `records` more records of this sender as journaled."""


# A record and its sender. None stands for a repeated record, which is only acknowledged, in order.
_Entry = tuple[Record | None, RecordSender | None]


class RecordQueue:
    """Queues records in memory until they are in `journal`.

    Records that `seen` already has are acknowledged, but not written again.
    """

    def __init__(self, journal: Journal, seen: SeenRecords) -> None:
        self._journal = journal
        self._seen = seen
        self._queue: deque[_Entry] = deque()
        self._due = 0.0
        self._failing_since = 0.0
        self.trouble = ""

    def take(self, records: Iterable[Record], source: RecordSender | None = None) -> bool:
        """Queue `records` of `source`, which is notified when they are on disk.

        Records that the journal already has are acknowledged but not written again.
        Returns: True if they show progress: a new scalar or example.
        """
        if not self._queue and not self.trouble:
            self._due = time.monotonic() + BATCH_SECONDS
        progress = False
        for record in records:
            new = self._seen.add(record)
            progress = progress or (new and isinstance(record, (Scalar, Example)))
            self._queue.append((record if new else None, source))
        return progress

    def enqueue_spooled(self, records: Iterable[Record]) -> None:
        """Queue the spooled records of an orphaned process.

        Those that the journal has are left out.
        """
        self.take(r for r in records if not (isinstance(r, Event) and self._seen.has_event(r)))

    @property
    def is_full(self) -> bool:
        """True if the queue accepts no further records until it has been written."""
        return len(self._queue) >= CAPACITY

    @property
    def is_empty(self) -> bool:
        """True if every queued record is in the journal."""
        return not self._queue

    def wait(self) -> float | None:
        """Return the seconds until `flush` is due; None if the queue is empty."""
        if not self._queue:
            return None
        if len(self._queue) >= BATCH and not self.trouble:
            return 0.0
        return max(0.0, self._due - time.monotonic())

    def flush_soon(self) -> None:
        """Make `flush` due at once, because a process waits for it.

        A failing journal keeps its retry.
        """
        if not self.trouble:
            self._due = 0.0

    def flush(self, *, now: bool = False) -> None:
        """Write and acknowledge all queued records in batches, when due.

        They are due when `wait` returns 0, or when `now` is set.
        """
        if not now and self.wait() != 0.0:
            return
        while self._queue:
            batch = list(islice(self._queue, BATCH))
            if not self._append([record for record, _ in batch if record is not None]):
                return
            for _ in batch:
                self._queue.popleft()
            _acknowledge(batch)

    def drain(self, seconds: float) -> None:
        """Write the last records.

        Retries for at most `seconds` while the journal cannot be written.
        """
        deadline = time.monotonic() + seconds
        self.flush(now=True)
        while not self.is_empty and time.monotonic() < deadline:
            time.sleep(DRAIN_RETRY_SECONDS)
            self.flush(now=True)

    def _append(self, records: list[Record]) -> bool:
        if not records:
            return True
        try:
            self._journal.append(records)
        except OSError as error:
            self._failing_since = self._failing_since or time.monotonic()
            self.trouble = (
                f"journal cannot be written: {error.strerror}; {len(self._queue)} records wait in memory"
            )
            self._due = time.monotonic() + RETRY_SECONDS
            return False
        if self.trouble:
            seconds = time.monotonic() - self._failing_since
            self.trouble, self._failing_since = "", 0.0
            message = f"the journal could not be written for {seconds:.0f} s; nothing was lost"
            self.take([LogLine("warning", "supervisor").event(message)])
        return True


def _acknowledge(batch: Sequence[_Entry]) -> None:
    for source, count in Counter(source for _, source in batch if source is not None).items():
        source.acknowledge(count)
