"""From the processes' records to the journal: repeated ones dropped, batches written, acknowledgements sent.

Where the journal cannot be written (a full disk), records wait here in a bounded queue, `trouble` says so, and the
writing is tried again; when the queue is full its owner stops reading from the processes, whose own bounded queues
then hold them up. Nothing is lost.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Protocol

from engine.supervisor.known import Known
from store.records import Event, Example, Record, Scalar

BATCH = 500
BATCH_SECONDS = 0.15
RETRY_SECONDS = 1.0
CAPACITY = 20_000


class Journal(Protocol):
    """What of store.journal.JournalWriter is used."""

    def append(self, records: Sequence[Record]) -> object: ...


class Source(Protocol):
    """Who sent records and is told when they are safe."""

    def acknowledge(self, records: int) -> None: ...


# A record and who sent it; None: a repeated one, which has only to be acknowledged in its turn.
_Entry = tuple[Record | None, Source | None]


class Recorder:
    """The queue before the journal."""

    def __init__(self, journal: Journal, known: Known) -> None:
        self._journal = journal
        self._known = known
        self._queue: deque[_Entry] = deque()
        self._due = 0.0
        self._failing_since = 0.0
        self.trouble = ""

    def take(self, records: Iterable[Record], source: Source | None = None) -> bool:
        """Queues `records`. Whether they show progress: a scalar or example that the run did not have."""
        if not self._queue and not self.trouble:
            self._due = time.monotonic() + BATCH_SECONDS
        progress = False
        for record in records:
            new = self._known.add(record)
            progress = progress or (new and isinstance(record, (Scalar, Example)))
            self._queue.append((record if new else None, source))
        return progress

    def take_spooled(self, records: Iterable[Record]) -> None:
        """Queues what an orphan left behind, without what the journal has."""
        self.take(r for r in records if not (isinstance(r, Event) and self._known.has_event(r)))

    @property
    def is_full(self) -> bool:
        """No more may be taken until the journal can be written."""
        return len(self._queue) >= CAPACITY

    @property
    def is_empty(self) -> bool:
        """Everything taken is safe."""
        return not self._queue

    def wait(self) -> float | None:
        """Seconds until `flush` is due; None where there is nothing to write."""
        if not self._queue:
            return None
        if len(self._queue) >= BATCH and not self.trouble:
            return 0.0
        return max(0.0, self._due - time.monotonic())

    def hurry(self) -> None:
        """Somebody waits for what is queued: the next `wait` is 0 unless the journal is in trouble."""
        if not self.trouble:
            self._due = 0.0

    def flush(self, *, now: bool = False) -> None:
        """Writes everything queued, in batches, once it is due (or `now`), and acknowledges it."""
        if not now and self.wait() != 0.0:
            return
        while self._queue:
            batch = list(islice(self._queue, BATCH))
            if not self._append([record for record, _ in batch if record is not None]):
                return
            for _ in batch:
                self._queue.popleft()
            _acknowledge(batch)

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
            self.take([Event("log", message, payload={"level": "warning", "process": "supervisor"})])
        return True


def _acknowledge(batch: Sequence[_Entry]) -> None:
    for source, count in Counter(source for _, source in batch if source is not None).items():
        source.acknowledge(count)
