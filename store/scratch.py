"""Temporary directories for copies, removed with their process.

Each directory is locked by its owner. The lock is released when the owner exits, even after a crash.
Creating a directory also removes those without a lock: a killed export leaves a whole copy of the store.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "mathrl-copy-"
# A younger directory may not be locked yet.
FRESH_SECONDS = 60.0


@contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """Create a directory in `parent` and remove it with its contents at exit.

    `parent` None means the default directory for temporary files.
    """
    place = Path(parent or tempfile.gettempdir())
    _sweep(place)
    with tempfile.TemporaryDirectory(prefix=PREFIX, dir=place) as name:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield Path(name)
        finally:
            os.close(descriptor)


def _sweep(place: Path) -> None:
    for left in place.glob(f"{PREFIX}*"):
        try:
            descriptor = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        # Its owner has just removed it, or it belongs to another user.
        except OSError:
            continue
        try:
            if time.time() - os.fstat(descriptor).st_mtime > FRESH_SECONDS:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        # It is in use.
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)
