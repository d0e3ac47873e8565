"""Detection of network file systems, and file names as SQL strings.

File locks and `fdatasync` are not reliable over a network, so a home should not be there.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

NETWORK_TYPES = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "fuse.s3", "glusterfs", "lustre", "ceph", "beegfs")


def file_system(path: Path, mounts: str | None = None) -> str:
    """Return the type of the file system that holds `path`.

    `mounts` replaces the text of /proc/self/mounts.
    Returns: "" if /proc does not list the file system.
    """
    if mounts is None:
        try:
            mounts = Path("/proc/self/mounts").read_text()
        except FileNotFoundError:
            return ""
    place, best, kind = path.resolve(), Path(), ""
    for line in mounts.splitlines():
        _, point, mounted, *_ = line.split(" ")
        root = Path(point.replace("\\040", " "))
        if place.is_relative_to(root) and len(root.parts) >= len(best.parts):
            best, kind = root, mounted
    return kind


def network_warning(path: Path, mounts: str | None = None) -> str:
    """Return a one-line warning if `path` is on a network file system.

    Returns: "" for a local file system.
    """
    kind = file_system(path, mounts)
    if not kind.startswith(NETWORK_TYPES):
        return ""
    return (
        f"{path} is on {kind}: locks and durability are weak there; set --home or MATHRL_HOME to a local disk"
    )


def sql_path(path: Path) -> str:
    """Return `path` as an SQL string.

    DuckDB reads names as UTF-8, whatever the locale.

    Raises: OSError if the name is not UTF-8.
    """
    try:
        name = os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        raise OSError(
            errno.EILSEQ, "its name is not UTF-8, which DuckDB needs; choose another", str(path)
        ) from None
    return "'" + name.replace("'", "''") + "'"
