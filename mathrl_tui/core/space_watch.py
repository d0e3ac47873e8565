"""Disk space of the home, for the console.

It is measured from time to time, on a thread that does not block the console.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

from engine.cleanup.disk_usage import measure
from mathrl_tui.core import palette
from mathrl_tui.core.spans import Span

AGAIN_SECONDS = 60.0


class SpaceWatch:
    """Measures the disk space of `home` repeatedly, on a thread of its own.

    `row` gives the newest result as one line. A home of 100,000 files takes a second, a slow disk longer.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._words = ""
        self._thread: threading.Thread | None = None
        self._due = 0.0

    @property
    def row(self) -> list[Span]:
        """Return the line to show, and start the next measurement when due.

        Returns: an empty line before the first measurement ends.
        """
        if time.monotonic() >= self._due and not (self._thread and self._thread.is_alive()):
            self._due = time.monotonic() + AGAIN_SECONDS
            # A daemon thread: the console closes at once, however slow the disk is.
            self._thread = threading.Thread(target=self._measure, name="space", daemon=True)
            self._thread.start()
        return [(f" {self._words}", palette.FAINT)] if self._words else []

    def _measure(self) -> None:
        found = measure(self._home)
        self._words = f"disk: {found.words()}" if found.total else ""
