"""Temporary directories for copies, removed with their process.

Each directory is locked by its owner. The lock is released when the owner exits, even after a crash.
Creating a directory also removes those without a lock: a killed export leaves a whole copy of the store.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store.private import FOLDER_MODE

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
    # The name is fixed before the directory exists, so that Ctrl-C at any moment removes it.
    folder = place / f"{PREFIX}{secrets.token_hex(8)}"
    try:
        folder.mkdir(mode=FOLDER_MODE)
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
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
