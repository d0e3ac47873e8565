"""How much of the disk the home takes, for the console: measured now and then, on a thread that holds up nothing."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from engine.cleanup.disk_usage import measure
from mathrl_tui.core import palette

Span = tuple[str, str]
AGAIN_SECONDS = 60.0


class SpaceWatch:
    """The newest measurement of `home` in one line; a home of 100,000 files takes a second, a slow disk longer."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._words = ""
        self._thread: threading.Thread | None = None
        self._due = 0.0

    @property
    def row(self) -> list[Span]:
        """The line to show, empty before the first measurement ends. Starts the next one when it is due."""
        if time.monotonic() >= self._due and not (self._thread and self._thread.is_alive()):
            self._due = time.monotonic() + AGAIN_SECONDS
            # A daemon: the console closes at once, whatever the disk does.
            self._thread = threading.Thread(target=self._measure, name="space", daemon=True)
            self._thread.start()
        return [(f" {self._words}", palette.FAINT)] if self._words else []

    def _measure(self) -> None:
        found = measure(self._home)
        self._words = f"disk: {found.words()}" if found.total else ""
