"""Keeps a run's logs within their size, on a thread of its own, so that a slow disk holds up nothing else."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from engine.processes.log_parts import growing_logs, rotate

SECONDS = 5.0


class LogRotation:
    """The supervisor's watch over the logs of its run: its own, and those of its processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log rotation", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SECONDS):
            for log in growing_logs(self._folder):
                with contextlib.suppress(OSError):  # a full disk: the log stays whole until there is room
                    rotate(log)
