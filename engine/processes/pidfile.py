"""A file that a living process holds locked, with its pid and start time in it.

The lock tells the living from the dead without a race; pid and start time together name one process for good, so that
whoever must end a leftover never ends a stranger that was given the same number.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from engine.processes.process_tree import kill_marked
from store.home import RunFolder
from store.locks import is_locked
from store.private import FILE_MODE

ROLES = ("trainer", "worker")
PATIENCE_SECONDS = 1.0  # others test a lock by taking it for some microseconds
RETRY_SECONDS = 0.01


class Held(RuntimeError):
    """Another living process holds the file."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process for good: pids are used again, pairs of pid and start time (in clock ticks since boot) are not."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has the number `pid` now; one that is dead where none has."""
        return cls(pid, _start_time(pid) or -1)

    @property
    def is_alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return _start_time(self.pid) == self.started

    def kill(self) -> None:
        """Ends the process at once; nothing happens where it is dead."""
        if self.is_alive:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


def lock_path(folder: RunFolder) -> Path:
    """The file that a run's living supervisor holds."""
    return folder.path / "run.lock"


def pid_path(folder: RunFolder, role: str) -> Path:
    """The file that the process which plays `role` in a run holds."""
    return folder.path / f"{role}.pid"


def end_unattended(folder: RunFolder) -> list[Process]:
    """Ends a run whose supervisor does not answer: the supervisor first, so that it starts nothing again.

    Returns its processes, some of which may take a moment yet.
    """
    paths = [lock_path(folder), *(pid_path(folder, role) for role in ROLES)]
    processes = [process for path in paths if (process := recorded(path)) is not None]
    supervisor = recorded(lock_path(folder))
    if supervisor is not None:
        supervisor.kill()
    for role in ROLES:
        kill_marked(folder, role)
    return processes


def hold(path: Path) -> int:
    """Locks `path` for this process's life and writes its identity there. Returns the descriptor; raises Held."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise Held(f"{path}: held by another process ({holder(path)})") from None
            time.sleep(RETRY_SECONDS)
    me = Process.of(os.getpid())
    identity = f"{me.pid} {me.started}\n".encode()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, identity, 0)
    return descriptor


def holder(path: Path) -> Process | None:
    """The living process that holds `path`; None where nobody does, or where it has not yet written who it is."""
    process = recorded(path) if is_locked(path) else None
    return process if process is not None and process.is_alive else None


def recorded(path: Path) -> Process | None:
    """The process that held `path` last, dead or alive."""
    try:
        words = path.read_text(encoding="ascii").split()
    except FileNotFoundError:
        return None
    return Process(int(words[0]), int(words[1])) if len(words) == 2 else None


def _start_time(pid: int) -> int | None:
    """Field 22 of /proc/PID/stat (proc(5)); None for a process that is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in "ZX" else int(fields[19])
