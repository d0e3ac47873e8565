"""Consistent copies of files that another process may write, unlocked.

A copy counts as one state if no process changed the files from some time before the copy until after it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from store.private import FOLDER_MODE

SETTLED_SECONDS = (
    # Seconds. File-system clocks tick more often, so a write after this changes the time.
    0.05
)
TRIES = 3

Signature = tuple[tuple[int, int, int] | None, ...]


class FilesChanged(RuntimeError):
    """The files were written during each attempt to copy them."""


class CopyFailed(RuntimeError):
    """`cp` failed; the message is cp's own."""


def signature(paths: Sequence[Path]) -> Signature:
    """Return the state of `paths`: inode, size and time of each.

    The entry of a missing path is `None`.
    """
    return tuple(_state(path) for path in paths)


def consistent_copy(paths: Sequence[Path], folder: Path) -> Signature:
    """Copy those of `paths` that exist to `folder`; return their state.

    Raises: FilesChanged if they were written during every attempt; CopyFailed if `cp` fails.
    """
    for _ in range(TRIES):
        before = signature(paths)
        time.sleep(SETTLED_SECONDS)
        if signature(paths) == before:
            copy(paths, folder)
            if signature(paths) == before:
                return before
    raise FilesChanged(f"{paths[0]}: it is being written")


def copy(paths: Sequence[Path], folder: Path) -> None:
    """Copy those of `paths` that exist to `folder`, in another process.

    So this process does not drop its own locks on them.
    Raises: CopyFailed if `cp` fails.
    """
    for path in paths:
        (folder / path.name).unlink(missing_ok=True)
    sources = [str(path) for path in paths if path.exists()]
    command = ["cp", "--reflink=auto", *sources, str(folder)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        # Its words are searched for the reason.
        env={**os.environ, "LC_ALL": "C"},
        umask=0o777 - FOLDER_MODE,
    )
    if done.returncode:
        raise CopyFailed(done.stderr.strip())


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
