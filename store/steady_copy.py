"""A consistent copy of files that another process may be writing, made without any lock.

The files are taken for one state if nobody has touched them from some time before the copy until after it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from store.private import FOLDER_MODE

SETTLED_SECONDS = (
    0.05  # longer than any file system's clock stands still: a write after this changes the time
)
TRIES = 3

Signature = tuple[tuple[int, int, int] | None, ...]


class Unsteady(RuntimeError):
    """The files were written while they were copied, each time."""


class CopyFailed(RuntimeError):
    """`cp` failed; the message is its own."""


def signature(paths: Sequence[Path]) -> Signature:
    """Return what tells one state of `paths` from the next: inode, size and time of each; None if it is not there."""
    return tuple(_state(path) for path in paths)


def steady_copy(paths: Sequence[Path], folder: Path) -> Signature:
    """Copy those of `paths` that exist to `folder` and return the state that was copied.

    Raises: Unsteady, CopyFailed.
    """
    for _ in range(TRIES):
        before = signature(paths)
        time.sleep(SETTLED_SECONDS)
        if signature(paths) == before:
            copy(paths, folder)
            if signature(paths) == before:
                return before
    raise Unsteady(f"{paths[0]}: it is being written")


def copy(paths: Sequence[Path], folder: Path) -> None:
    """Copy those of `paths` that exist to `folder`, in a process of its own, which drops no lock of this one's.

    Raises: CopyFailed.
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
