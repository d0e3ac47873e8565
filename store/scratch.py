"""Folders for copies that live as long as their process at the most.

Each is held by a lock on the folder itself, which goes with its holder, however that ends. Whoever makes a folder takes
away those that nobody holds any more: a killed export leaves a whole copy of the store.
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
FRESH_SECONDS = 60.0  # younger ones may not be locked yet


@contextmanager
def scratch_folder(parent: Path | None) -> Iterator[Path]:
    """A fresh folder in `parent` (None: where temporary files go), gone with all that it holds at the end."""
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
        except OSError:  # its owner has just taken it away, or it is somebody else's
            continue
        try:
            if time.time() - os.fstat(descriptor).st_mtime > FRESH_SECONDS:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        except BlockingIOError:
            continue  # it is in use
        finally:
            os.close(descriptor)
