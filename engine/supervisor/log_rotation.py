"""Keep a run's logs within their maximum size.

It runs on its own thread, so that a slow disk does not block the supervisor.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from engine.ipc.log_parts import growing_logs, rotate

SECONDS = 5.0
# The thread may hang in a write to a disk that does not respond.
END_SECONDS = 5.0


class LogRotation:
    """Keeps the logs in `folder` within their maximum size, on a thread.

    The thread starts with the object; call `end` to stop it. On a full disk a log stays as it is until there
    is room.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="log rotation", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Stop the thread; wait at most END_SECONDS."""
        self._over.set()
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        while not self._over.wait(SECONDS):
            for log in growing_logs(self._folder):
                # On a full disk the log stays as it is until there is room.
                with contextlib.suppress(OSError):
                    rotate(log)
