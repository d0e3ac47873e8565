"""Find the processes that an engine process started, by their mark.

The mark is in their environment.
Each engine process and its descendants carry the mark. Process groups and parents do not find all of them:
libraries start processes in new groups and sessions, and orphans lose their parent.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from store.home import RunFolder

VARIABLE = "MATHRL_PROCESS"
# Repeat the search, because a process may start another during it.
ROUNDS = 10


def marks(folder: RunFolder, role: str) -> dict[str, str]:
    """Return the environment variables that mark `role`'s descendants.

    They inherit them.
    """
    # vLLM names its processes with setproctitle, which overwrites the environment in /proc without SPT_NOENV.
    return {VARIABLE: _mark(folder, role), "SPT_NOENV": "1"}


def kill_marked(folder: RunFolder, role: str) -> None:
    """Send SIGKILL to every process that `role` of the run has started.

    If this process is one of them, it is killed last.
    """
    for _ in range(ROUNDS):
        found = list(marked(folder, role))
        for pid in found:
            if pid != os.getpid():
                _kill(pid)
        if not found or found == [os.getpid()]:
            break
    if os.environ.get(VARIABLE) == _mark(folder, role):
        _kill(os.getpid())


def marked(folder: RunFolder, role: str) -> Iterator[int]:
    """Yield the pids of the living processes of `role` in the run.

    Python's resource trackers are left out.
    A tracker exits by itself after the last process that it serves, and removes that process's shared memory.
    """
    wanted = f"{VARIABLE}={_mark(folder, role)}".encode()
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                # Empty for a zombie.
                environment = (path / "environ").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                # The process has exited, or belongs to another user and so not to the run.
                continue
            if wanted in environment.split(b"\0") and not is_tracker(int(path.name)):
                yield int(path.name)


def is_tracker(pid: int) -> bool:
    """Return True if the process is a resource tracker of Python."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _mark(folder: RunFolder, role: str) -> str:
    # Resolve links, because a home may be opened once through a link and once without.
    return f"{folder.path.resolve()}:{role}"


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
