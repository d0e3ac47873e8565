"""Alarm: a GPU of the run that computes nothing for a long time."""

from __future__ import annotations

NAME = "gpu-idle"
SUFFIX = "/utilisation"
# Per cent. The driver reports 0 for a process that only holds memory.
IDLE_BELOW = 3.0
# Loading a model, grading and writing a checkpoint leave a GPU idle for minutes. Readings come every 5 s.
ROWS = 360


class IdleGpu:
    """Fires after half an hour of readings without work."""

    def __init__(self) -> None:
        self._in_a_row = 0

    def take(self, value: float) -> str:
        """Return words for a reading that ends half an hour without work."""
        self._in_a_row = self._in_a_row + 1 if value < IDLE_BELOW else 0
        return "no work for 30 minutes" if self._in_a_row == ROWS else ""
