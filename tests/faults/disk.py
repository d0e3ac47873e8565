"""A disk or shared memory without room, folders that cannot be written, files that may not grow."""

from __future__ import annotations

import errno
import os
import random
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.faults.faultkind import Fault
from tests.faults.not_possible import NotPossible
from tests.faults.subject import Subject

HOME_MIB = 192
SHARED_MEMORY = Path("/dev/shm")
SHARED_MEMORY_MIB = 64
_LEFT = (0, 0, 4096, 65536, 700_000)  # bytes that a full disk still has


def mount_tmpfs(folder: Path, mib: int) -> bool:
    """Mount a memory disk of its own on `folder`. Return whether that was permitted."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=1777", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@contextmanager
def _full(subject: Subject, rng: random.Random, *, folder: Path | None = None) -> Iterator[str]:
    """The disk of the home (or `folder`) is full but for some bytes; a user makes room later."""
    ballast = (folder or subject.disk) / f".faults-ballast-{rng.random()}"
    left = rng.choice(_LEFT)
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
        if left:
            file.truncate(max(file.tell() - left, 0))
    try:
        yield f"{folder or 'the disk'} full but for {left} bytes"
    finally:
        ballast.unlink()
        subject.touch()


@contextmanager
def _read_only(subject: Subject, rng: random.Random, *, what: str) -> Iterator[str]:
    """A folder is mounted over itself, read-only; files that are open in it stay writable."""
    folder = {
        "home": subject.home,
        "checkpoints": subject.run_path / "checkpoints",
        "run folder": subject.run_path,
        "journal": subject.journal_path,
        "cache": subject.home / "cache",
    }[what]
    if not folder.is_dir():
        raise NotPossible(f"{folder} is not there yet")
    _mount("--bind", str(folder), str(folder))
    _mount("-o", "remount,ro,bind", str(folder))
    try:
        yield f"{what} read-only"
    finally:
        _mount("-o", "remount,rw,bind", str(folder))
        # Lazily: processes may have files open in it, and keep them.
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=True)
        subject.touch()


@contextmanager
def _no_growth(subject: Subject, rng: random.Random, *, role: str) -> Iterator[str]:
    """Files of one process may not grow past a size (RLIMIT_FSIZE): EFBIG instead of ENOSPC, for anybody."""
    found = subject.processes(role)
    if not found:
        raise NotPossible(f"no {role} lives")
    size = rng.choice((0, 4096, 60_000, 200_000, 500_000))
    before = resource.prlimit(found[0].pid, resource.RLIMIT_FSIZE)
    resource.prlimit(found[0].pid, resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield f"files of the {role} may have {size} bytes"
    finally:
        if found[0].is_alive:
            resource.prlimit(found[0].pid, resource.RLIMIT_FSIZE, before)
        subject.touch()


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotPossible(done.stderr.strip())


def free_bytes(folder: Path) -> int:
    """Return the room on the disk of `folder`."""
    state = os.statvfs(folder)
    return state.f_bavail * state.f_frsize


FAULTS = (
    Fault("disk", "disk full", _full, holds=6.0, needs_mounts=True, weight=4.0),
    Fault(
        "disk",
        "/dev/shm full",
        partial(_full, folder=SHARED_MEMORY),
        holds=6.0,
        needs_mounts=True,
        weight=2.0,
    ),
    *(
        Fault("disk", f"read-only: {what}", partial(_read_only, what=what), holds=5.0, needs_mounts=True)
        for what in ("home", "checkpoints", "run folder", "journal", "cache")
    ),
    *(
        Fault("disk", f"no file growth: {role}", partial(_no_growth, role=role), holds=5.0)
        for role in ("supervisor", "trainer", "worker")
    ),
)
