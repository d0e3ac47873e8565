"""Folders and files of the home that only their owner may read.

Folders get mode 0700 and files 0600 when they are made, whatever the process's umask. The umask itself is not changed:
it decides on what a person exports elsewhere, and on caches that users of a machine share. What exists keeps its mode,
so that a home that was opened to others on purpose stays open; `too_wide` reports it.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_folder(path: Path, *, exist_ok: bool = True) -> None:
    """Make `path` and the parents that it lacks. Raises: FileExistsError unless `exist_ok`; OSError."""
    if path.parent != path and not path.parent.exists():
        make_folder(path.parent)
    try:
        path.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        if not (exist_ok and path.is_dir()):
            raise


def opener(path: str, flags: int) -> int:
    """Open a file for `open(…, opener=opener)`: one that is made gets FILE_MODE."""
    return os.open(path, flags, FILE_MODE)


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write `text` to `path`, which gets FILE_MODE if it is made."""
    with open(path, "w", encoding="utf-8", errors=errors, opener=opener) as file:
        file.write(text)


def touch(path: Path) -> None:
    """Make the empty file `path`, and its folder, unless they exist."""
    make_folder(path.parent)
    path.touch(mode=FILE_MODE)


def close_to_others(path: Path) -> None:
    """Take all rights of group and others from `path`, a file or folder that a library has just made."""
    mode = stat.S_IMODE(path.lstat().st_mode)
    if mode & _OTHERS and not path.is_symlink():
        path.chmod(mode & ~_OTHERS)


def too_wide(home: Path) -> str:
    """Return one line that names the remedy if others may enter `home`, else an empty text."""
    try:
        mode = stat.S_IMODE(home.stat().st_mode)
    except OSError:
        return ""
    if not mode & _OTHERS:
        return ""
    return (
        f"{home} has mode {mode:04o}: other users of this machine can reach runs and locks in it; "
        f"chmod -R go-rwx {shlex.quote(str(home))}"
    )
