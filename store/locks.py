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

from store.lock_holders import Sighting, described, holders
from store.private import FILE_MODE

RETRY_SECONDS = 0.001
FIRST_LOOK_SECONDS = 0.25  # of waiting, before the holder is looked for: as a rule it is done by then
LONG_SECONDS = 1.0  # a wait of this length that was in vain is not repeated
SHORT_SECONDS = 0.05  # what a process waits instead

# Files that this process has waited long for, and has not got since, with who held them in one line.
_in_vain: dict[Path, str] = {}


class LockBusy(TimeoutError):
    """Another process held the lock for longer than the caller would wait. The message names it."""


@contextmanager
def locked(path: Path, *, patience: float, shared: bool = False) -> Iterator[None]:
    """Hold the lock file `path`, waiting `patience` seconds at most. Raises: LockBusy.

    A process waits long once for the locks of a folder, see `allowance`.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    try:
        _take(descriptor, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, patience)
        yield
    finally:
        os.close(descriptor)


def is_locked(path: Path) -> bool:
    """Return True if a living process holds `path` exclusively; False if there is no such file.

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


def allowance(path: Path, patience: float) -> float:
    """Return how many of `patience` seconds this process may wait for the file `path`, locked by whatever means.

    After a long wait in vain it is SHORT_SECONDS for any file of that folder, until the one that was held is free. So
    a command that needs files many times has one bounded wait. The caller reports each wait by `waited`.
    """
    has_waited = any(other.parent == path.parent for other in _in_vain)
    return min(patience, SHORT_SECONDS) if has_waited else patience


def waited(path: Path, seconds: float, *, got: bool, holder: str = "") -> None:
    """Take note of a wait for `path`, and of its holder in one line."""
    if got:
        _in_vain.pop(path, None)
    elif seconds >= LONG_SECONDS:
        _in_vain[path] = holder


def _take(descriptor: int, path: Path, mode: int, patience: float) -> None:
    begun = time.monotonic()
    deadline = begun + allowance(path, patience)
    seen: list[Sighting] | None = None
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
                waited(path, now - begun, got=False, holder=holder)
                raise LockBusy(f"{path}: {holder}") from None
            time.sleep(RETRY_SECONDS)
        else:
            waited(path, time.monotonic() - begun, got=True)
            return
