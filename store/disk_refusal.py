"""What to do if a disk refuses a write: it is full, a quota is used up, or it is read-only.

Each refusal is one line with the path, the free space and the remedy, whichever library met it.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from store.wording import size

_REMEDIES = {
    errno.ENOSPC: "no space is left on its disk ({free}); free some (`mathrl-tui gc` lists what nothing needs), or use "
    "another disk",
    errno.EDQUOT: "the disk quota of this user is used up ({free}); delete files of this user there, or use another "
    "disk",
    errno.EROFS: "its disk is read-only ({free}); remount it writable, or use another disk",
}
_BY_TEXT = {os.strerror(number): number for number in _REMEDIES}
_FILE = re.compile(r"""["'‘](/[^"'’]+)["'’]""")


def refusal(error: OSError, path: Path | None = None) -> str:
    """Return what failed, where and what to do; empty if `error` is not a disk's refusal.

    `path` is used if the error names none.
    """
    if error.errno not in _REMEDIES:
        return ""
    named = error.filename if isinstance(error.filename, (str, bytes)) else None
    return _words(error.errno, Path(os.fsdecode(named)) if named else path)


def errno_in(text: str) -> int:
    """Return which refusal of a disk the message of a library or a program gives; 0 if it gives none."""
    # DuckDB's words for a write that was cut short.
    short = errno.ENOSPC if "Could not write" in text else 0
    return next((number for words, number in _BY_TEXT.items() if words in text), short)


def refusal_in(text: str, path: Path | None = None) -> str:
    """Like `refusal`, for a message; the file that it names last was to be written."""
    number = errno_in(text)
    named = _FILE.findall(text)
    return _words(number, Path(named[-1]) if named else path) if number else ""


def _words(number: int, path: Path | None) -> str:
    remedy = _REMEDIES[number].format(free=_free(path))
    return (
        f"{path}: cannot be written: {remedy}" if path is not None else f"a file cannot be written: {remedy}"
    )


def _free(path: Path | None) -> str:
    """Return the free space, or the lack of free inodes, where `path` is or would be."""
    for place in (path, *path.parents) if path is not None else ():
        try:
            found = os.statvfs(place)
        except OSError:
            continue
        if found.f_files and not found.f_favail:
            return "no inode is free"
        return f"{size(found.f_bavail * found.f_frsize)} free"
    return "free space unknown"
