"""File locks between processes: `flock` with a bounded wait, held for the length of a `with` block.

A lock goes when its holder dies, however it dies. Each use opens its own descriptor, so that two threads of one
process exclude each other as two processes do.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.private import FILE_MODE

RETRY_SECONDS = 0.001


class LockBusy(TimeoutError):
    """Somebody else held the lock for longer than the caller would wait."""


@contextmanager
def locked(path: Path, *, patience: float, shared: bool = False) -> Iterator[None]:
    """Holds the lock file `path`, waiting `patience` seconds at most. Raises LockBusy."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        _take(descriptor, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, time.monotonic() + patience)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Whether a living process holds `path` exclusively; a file that is not there is held by nobody.

    The test takes the lock shared for some microseconds: a process that wants it exclusively must try again
    for a moment before it believes that it is taken.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _take(descriptor: int, path: Path, mode: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise LockBusy(f"{path}: held by another process") from None
            time.sleep(RETRY_SECONDS)
        else:
            return
