"""A lock file of a living process, with its pid and start time.

The lock shows without a race whether the process is alive. Pid and start time together identify a process, so
code that ends a leftover process never kills a different one that reuses the pid.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from store.home import RunFolder
from store.locks import is_locked
from store.private import FILE_MODE
from store.process import Process

__all__ = ["ROLES", "AlreadyHeld", "Process", "hold", "holder", "lock_path", "pid_path", "recorded"]

ROLES = ("trainer", "worker")
# Other processes test a lock by taking it for some microseconds, so retry this long.
PATIENCE_SECONDS = 1.0
RETRY_SECONDS = 0.01


class AlreadyHeld(RuntimeError):
    """Raised if another living process holds the file."""


def lock_path(folder: RunFolder) -> Path:
    """Return the file that a run's living supervisor locks."""
    return folder.path / "run.lock"


def pid_path(folder: RunFolder, role: str) -> Path:
    """Return the file that the run's process with `role` locks."""
    return folder.path / f"{role}.pid"


def hold(path: Path) -> int:
    """Lock `path` until this process exits, and write its identity there.

    The identity is pid and start time.
    Returns: the open file descriptor.
    Raises: AlreadyHeld if another process holds the lock after PATIENCE_SECONDS.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise AlreadyHeld(f"{path}: held by another process ({holder(path)})") from None
            time.sleep(RETRY_SECONDS)
    me = Process.of(os.getpid())
    identity = f"{me.pid} {me.started}\n".encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, identity, 0)
    return descriptor


def holder(path: Path) -> Process | None:
    """Return the living process that holds `path`.

    Return None if it is free or its identity is not yet written.
    """
    process = recorded(path) if is_locked(path) else None
    return process if process is not None and process.is_alive else None


def recorded(path: Path) -> Process | None:
    """Return the process that last held `path`, alive or not.

    Return None if the file does not name one.
    """
    try:
        words = path.read_bytes().split()
    except FileNotFoundError:
        return None
    is_identity = len(words) == 2 and all(word.isdigit() and len(word) < 20 for word in words)
    return Process(int(words[0]), int(words[1])) if is_identity else None
