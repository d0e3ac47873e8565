"""A stage's progress, reported at most twice a second, with the time left.

The time left follows from the pace so far.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from store.records import Event, Record

INTERVAL_SECONDS = 0.5


class Progress:
    """Counts `unit`s of `total`.

    `before` of them were done by an earlier attempt and do not count for the pace.
    """

    def __init__(
        self, emit: Callable[[Record], None], stage: str, total: int, unit: str, before: int = 0
    ) -> None:
        self._emit, self._stage, self._unit = emit, stage, unit
        self._before, self._began = before, time.monotonic()
        self._told = 0.0
        self.total, self.done = total, before

    def advance(self, count: int = 1, **details: float) -> None:
        """Add `count` finished units.

        `details` go into the payload (tokens, dollars).
        """
        self.done += count
        now = time.monotonic()
        if self.done >= self.total or now - self._told >= INTERVAL_SECONDS:
            self._told = now
            self._emit(Event("progress", "", self._stage, payload=self.payload() | details))

    def payload(self) -> dict[str, float | str]:
        """Return done, total, unit and eta_seconds.

        The last is absent before the first unit is done.
        """
        told: dict[str, float | str] = {"done": self.done, "total": self.total, "unit": self._unit}
        new = self.done - self._before
        if new:
            elapsed = time.monotonic() - self._began
            told["eta_seconds"] = round(elapsed / new * (self.total - self.done), 1)
        return told
