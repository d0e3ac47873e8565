"""A file that a living process holds locked, with its pid and start time in it.

The lock tells the living from the dead without a race; pid and start time together name one process for good, so that
whoever must end a leftover never ends a stranger that was given the same number.
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

__all__ = ["ROLES", "Held", "Process", "hold", "holder", "lock_path", "pid_path", "recorded"]

ROLES = ("trainer", "worker")
PATIENCE_SECONDS = 1.0  # others test a lock by taking it for some microseconds
RETRY_SECONDS = 0.01


class Held(RuntimeError):
    """Another living process holds the file."""


def lock_path(folder: RunFolder) -> Path:
    """The file that a run's living supervisor holds."""
    return folder.path / "run.lock"


def pid_path(folder: RunFolder, role: str) -> Path:
    """The file that the process which plays `role` in a run holds."""
    return folder.path / f"{role}.pid"


def hold(path: Path) -> int:
    """Locks `path` for this process's life and writes its identity there. Returns the descriptor; raises Held."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise Held(f"{path}: held by another process ({holder(path)})") from None
            time.sleep(RETRY_SECONDS)
    me = Process.of(os.getpid())
    identity = f"{me.pid} {me.started}\n".encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, identity, 0)
    return descriptor


def holder(path: Path) -> Process | None:
    """The living process that holds `path`; None where nobody does, or where it has not yet written who it is."""
    process = recorded(path) if is_locked(path) else None
    return process if process is not None and process.is_alive else None


def recorded(path: Path) -> Process | None:
    """Return the process that held `path` last, dead or alive; None if the file does not name one."""
    try:
        words = path.read_bytes().split()
    except FileNotFoundError:
        return None
    is_identity = len(words) == 2 and all(word.isdigit() and len(word) < 20 for word in words)
    return Process(int(words[0]), int(words[1])) if is_identity else None
