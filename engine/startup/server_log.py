"""Keep the log of a server within its maximum size while the server lives.

A server outlives the command that started it and has no supervisor, so a small process of its own rotates its log.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
from pathlib import Path

from engine.ipc.log_parts import rotate
from store import isolated
from store.process import Process

SECONDS = 5.0


def start(server: Process, log: Path) -> int:
    """Start the process that rotates `log`, and return its pid.

    It exits with the server.
    """
    return subprocess.Popen(
        isolated.command("engine.startup.server_log", str(server.pid), str(server.started), str(log)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=isolated.environment(),
    ).pid


def keep(server: Process, log: Path, seconds: float = SECONDS) -> None:
    """Rotate `log` every `seconds` until `server` exits."""
    try:
        descriptor = os.pidfd_open(server.pid)
    except ProcessLookupError:
        return
    with contextlib.closing(os.fdopen(descriptor, "rb", buffering=0)):
        # Otherwise another process has got the pid since.
        while server.is_alive:
            # On a full disk the log stays as it is until there is room.
            with contextlib.suppress(OSError):
                rotate(log)
            if select.select([descriptor], [], [], seconds)[0]:
                return


if __name__ == "__main__":
    keep(Process(int(sys.argv[1]), int(sys.argv[2])), Path(sys.argv[3]))
