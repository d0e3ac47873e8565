"""Remedies if a disk refuses a write.

The disk is full, a quota is used up, or it is read-only.
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
    """Return what failed, where and what to do.

    Returns: "" if `error` is not a refusal of the disk.
    """
    if error.errno not in _REMEDIES:
        return ""
    named = error.filename if isinstance(error.filename, (str, bytes)) else None
    return _words(error.errno, Path(os.fsdecode(named)) if named else path)


def errno_in(text: str) -> int:
    """Return the errno of a disk's refusal in a library's message.

    Returns: 0 if the message contains none.
    """
    # DuckDB's words for a write that was cut short.
    short = errno.ENOSPC if "Could not write" in text else 0
    return next((number for words, number in _BY_TEXT.items() if words in text), short)


def refusal_in(text: str, path: Path | None = None) -> str:
    """Like `refusal`, for a message.

    The file that the message names last was to be written.
    """
    number = errno_in(text)
    named = _FILE.findall(text)
    return _words(number, Path(named[-1]) if named else path) if number else ""


def _words(number: int, path: Path | None) -> str:
    remedy = _REMEDIES[number].format(free=_free(path))
    return (
        f"{path}: cannot be written: {remedy}" if path is not None else f"a file cannot be written: {remedy}"
    )


def _free(path: Path | None) -> str:
    """Return the free space, or the lack of free inodes, at `path`.

    `path` may not exist yet.
    """
    for place in (path, *path.parents) if path is not None else ():
        try:
            found = os.statvfs(place)
        except OSError:
            continue
        if found.f_files and not found.f_favail:
            return "no inode is free"
        return f"{size(found.f_bavail * found.f_frsize)} free"
    return "free space unknown"
