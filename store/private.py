"""Directories and files of the home that only their owner can read.

New directories get mode 0700 and new files 0600, whatever the umask. The umask itself is not changed, because it also
applies to exports elsewhere and to caches that users of a machine share.
Existing files keep their mode, so a home that was opened on purpose stays open; `too_wide` reports it.
"""

from __future__ import annotations

import os
import shlex
import stat
import time
from pathlib import Path

FOLDER_MODE = 0o700
FILE_MODE = 0o600
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def make_folder(path: Path, *, exist_ok: bool = True) -> None:
    """Create `path` and its missing parents.

    Raises: FileExistsError if it exists and `exist_ok` is False, or is not a directory; OSError.
    """
    if path.parent != path and not path.parent.exists():
        make_folder(path.parent)
    try:
        path.mkdir(mode=FOLDER_MODE)
    except FileExistsError:
        if not (exist_ok and path.is_dir()):
            raise


def opener(path: str, flags: int) -> int:
    """Open a file for `open(…, opener=opener)`; a new file gets FILE_MODE."""
    return os.open(path, flags, FILE_MODE)


def write_text(path: Path, text: str, errors: str = "strict") -> None:
    """Write `text` to `path`; a new file gets FILE_MODE."""
    with open(path, "w", encoding="utf-8", errors=errors, opener=opener) as file:
        file.write(text)


def sync(path: Path) -> None:
    """Flush a file's bytes, or a directory's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def set_aside(path: Path) -> Path | None:
    """Rename a damaged file; return its new path, or None without a file."""
    if not path.exists():
        return None
    return path.rename(path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"))


def touch(path: Path) -> None:
    """Create the empty file `path` and its directory, unless they exist."""
    make_folder(path.parent)
    path.touch(mode=FILE_MODE)


def close_to_others(path: Path) -> None:
    """Remove all rights of group and others from a file or folder.

    For a path that a library has created. A symbolic link is left unchanged.
    Raises: OSError if `path` does not exist.
    """
    mode = stat.S_IMODE(path.lstat().st_mode)
    if mode & _OTHERS and not path.is_symlink():
        path.chmod(mode & ~_OTHERS)


def too_wide(home: Path) -> str:
    """Return a line with the remedy if other users can enter `home`.

    Returns: "" if they cannot.
    """
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
