"""File locks between processes: `flock` with a bounded wait.

A lock is held for a `with` block. It is released when its holder dies, however it dies. Each use opens its
own descriptor, so two threads of one process exclude each other as two processes do.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.lock_holders import LockHolder, described, holders
from store.private import FILE_MODE

RETRY_SECONDS = 0.001
# Seconds of waiting before the holder is searched. Most holders are done by then.
FIRST_LOOK_SECONDS = 0.25
# A wait of this many seconds that failed is not repeated.
LONG_SECONDS = 1.0
# Seconds that a process waits instead.
SHORT_SECONDS = 0.05

# Files that this process waited for in vain, with a line about their holder.
_in_vain: dict[Path, str] = {}


class LockBusy(TimeoutError):
    """Another process held the lock longer than the caller would wait.

    The message describes the holder.
    """


@contextmanager
def locked(path: Path, *, patience: float, shared: bool = False) -> Iterator[None]:
    """Hold the lock file `path` for the block.

    Waits `patience` seconds at most. After a long wait in vain for a lock of a directory, later waits there are
    short (`wait_budget`).

    Args:
        shared: let other holders share the lock.
    Raises: LockBusy if the wait is over.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        _take(descriptor, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, patience)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Return True if a living process holds `path` exclusively.

    False if the file does not exist. The test takes a shared lock for some microseconds. So a process that
    needs the lock exclusively must retry for a moment before it treats the lock as taken.
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


def wait_budget(path: Path, patience: float) -> float:
    """Return how many of `patience` seconds may be spent on `path`.

    After a long wait in vain, the result is SHORT_SECONDS for all files of that directory, until the held
    file is free. So a command that needs files many times has one bounded wait. The caller reports each wait
    with `record_wait`, whatever the kind of lock.
    """
    has_waited = any(other.parent == path.parent for other in _in_vain)
    return min(patience, SHORT_SECONDS) if has_waited else patience


def record_wait(path: Path, seconds: float, *, got: bool, holder: str = "") -> None:
    """Record in memory that this process waited for the lock file `path`.

    Later calls of `wait_budget` use it. Only a failed wait of at least LONG_SECONDS is kept, with `holder`,
    until `path` was acquired.
    Args:
        got: True if the wait ended with the lock.
        holder: one line that describes the process that holds the lock.
    """
    if got:
        _in_vain.pop(path, None)
    elif seconds >= LONG_SECONDS:
        _in_vain[path] = holder


def _take(descriptor: int, path: Path, mode: int, patience: float) -> None:
    begun = time.monotonic()
    deadline = begun + wait_budget(path, patience)
    seen: list[LockHolder] | None = None
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            now = time.monotonic()
            if seen is None and now >= begun + FIRST_LOOK_SECONDS:
                seen = holders(path)
            if now >= deadline:
                # A short wait repeats what the long one before it found.
                holder = _in_vain.get(path) or described(path, seen or (), now - begun)
                record_wait(path, now - begun, got=False, holder=holder)
                raise LockBusy(f"{path}: {holder}") from None
            time.sleep(RETRY_SECONDS)
        else:
            record_wait(path, time.monotonic() - begun, got=True)
            return
