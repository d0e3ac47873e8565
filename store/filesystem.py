"""Where a home must not lie: file locks and `fdatasync` mean little over a network. And its name, as SQL wants it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

NETWORK_TYPES = ("nfs", "cifs", "smb", "9p", "fuse.sshfs", "fuse.s3", "glusterfs", "lustre", "ceph", "beegfs")


def file_system(path: Path, mounts: str | None = None) -> str:
    """The type of the file system that holds `path`; empty where /proc does not tell.

    `mounts` stands for the text of /proc/self/mounts.
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
    """One line to warn with if `path` lies on a network file system, else nothing."""
    kind = file_system(path, mounts)
    if not kind.startswith(NETWORK_TYPES):
        return ""
    return f"{path} lies on {kind}: locks and durability are weak there; set --home or MATHRL_HOME to a local disk"


def sql_path(path: Path) -> str:
    """`path` as a string of SQL: DuckDB reads names as UTF-8, whatever the locale. OSError where it is none."""
    try:
        name = os.fsencode(path).decode("utf-8")
    except UnicodeDecodeError:
        raise OSError(
            errno.EILSEQ, "its name is not UTF-8, which DuckDB needs; choose another", str(path)
        ) from None
    return "'" + name.replace("'", "''") + "'"
