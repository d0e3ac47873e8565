"""Consistent copies of files that another process may write, unlocked.

A copy counts as one state if no process changed the files from some time before the copy until after it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from store.private import FOLDER_MODE

# File-system clocks tick more often, so a write after this changes the time.
SETTLED_SECONDS = 0.05
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
    # The "/" makes cp refuse a folder that is gone. Without it, one file would be copied under the folder's name.
    with _child(["cp", "--reflink=auto", *sources, f"{folder}/"]) as process:
        _, words = process.communicate()
    if process.returncode:
        raise CopyFailed(words.strip())


@contextmanager
def _child(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Start a command and end it with the block.

    Ctrl-C waits until the child is known. Otherwise the child would run on, and copy after its folder is removed.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            # Its words are searched for the reason.
            env={**os.environ, "LC_ALL": "C"},
            umask=0o777 - FOLDER_MODE,
        )
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            yield process
        finally:
            process.kill()
            process.wait()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns
