"""A stage's progress, reported at most twice a second, with the time left.

The time left follows from the pace so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from store.events import ProgressReport
from store.records import Record
from store.run_progress import seconds_left

INTERVAL_SECONDS = 0.5


class Progress:
    """Counts finished units of a stage, and emits progress events.

    Args:
        emit: receives an event at most every INTERVAL_SECONDS, and at the end.
        unit: plural name of a unit, for display.
        before: units that an earlier attempt finished. They do not count for the pace.
    """

    def __init__(
        self, emit: Callable[[Record], None], stage: str, total: int, unit: str, before: int = 0
    ) -> None:
        self._emit, self._stage, self._unit = emit, stage, unit
        self._first = time.monotonic(), before
        self._reported = 0.0
        self.total, self.done = total, before

    def advance(
        self,
        count: int = 1,
        *,
        tokens: int | None = None,
        dollars: float | None = None,
        in_flight: int | None = None,
    ) -> None:
        """Add `count` finished units, and emit an event if one is due.

        The other values go into the event unchanged.
        """
        self.done += count
        now = time.monotonic()
        if self.done >= self.total or now - self._reported >= INTERVAL_SECONDS:
            self._reported = now
            report = replace(self.report(), tokens=tokens, dollars=dollars, in_flight=in_flight)
            self._emit(report.event("", self._stage))

    def report(self) -> ProgressReport:
        """Return the progress as event details.

        Before the first unit is done, `eta_seconds` has the value None.
        """
        left = seconds_left(self._first, time.monotonic(), self.done, self.total)
        return ProgressReport(
            self.done, self.total, self._unit, eta_seconds=None if left is None else round(left, 1)
        )
