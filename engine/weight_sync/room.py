"""Explain why shared memory accepts no further file.

The explanation gives the limit that was reached, its size, and how to raise it.
"""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

from store.wording import size


def no_room(folder: Path, wanted: int, error: OSError) -> OSError:
    """Return `error` with a message that gives the limit that was reached.

    Other kinds of error are returned unchanged.
    Args:
        folder: the shared-memory folder in which a file was to be made.
        wanted: size of the file in bytes.
    """
    if error.errno not in _LIMITS:
        return error
    return OSError(
        error.errno, f"{folder}: no room for {size(wanted)} of weights: {_LIMITS[error.errno](folder)}"
    )


def _space(folder: Path) -> str:
    """Return which limit of a file system is reached: files or bytes."""
    found = os.statvfs(folder)
    if found.f_files and not found.f_favail:
        return f"all its {found.f_files:,} inodes (files) are in use; mount -o remount,nr_inodes= raises the limit"
    free, whole = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    return f"{size(free)} of {size(whole)} are free; enlarge it (docker run --shm-size, or mount -o remount,size=)"


def _file_size(folder: Path) -> str:
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if largest == resource.RLIM_INFINITY:
        return _space(folder)
    return f"a file may have {size(largest)} (ulimit -f); ulimit -f unlimited raises the limit"


def _memory(folder: Path) -> str:
    return "the memory limit of this container or machine is reached; give it more memory"


def _quota(folder: Path) -> str:
    return "this user's quota on it is used up; raise the quota"


_LIMITS = {
    errno.ENOSPC: _space,
    errno.EFBIG: _file_size,
    errno.ENOMEM: _memory,
    errno.EDQUOT: _quota,
}
