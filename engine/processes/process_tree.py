"""Everything that an engine process started, found wherever it went: also in another session, also after its parent.

Each engine process and all that it starts carry a mark in their environment. Libraries put some of their processes
into groups and sessions of their own, and orphans lose their parent, so that neither group nor parentage finds all.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

from store.home import RunFolder

VARIABLE = "MATHRL_PROCESS"
ROUNDS = 10  # a process may start another while it is looked for


def marks(folder: RunFolder, role: str) -> dict[str, str]:
    """What stands in the environment of the process that plays `role` and of its descendants."""
    # setproctitle (vLLM names its processes with it) writes over the environment that /proc shows unless told not to.
    return {VARIABLE: _mark(folder, role), "SPT_NOENV": "1"}


def kill_marked(folder: RunFolder, role: str) -> None:
    """SIGKILL to every process of `role` in the run, this one last if it is one."""
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
    """The living processes of `role` in the run, but for Python's resource trackers.

    A tracker ends by itself when the last process that it serves is gone, and removes what that left in shared memory.
    """
    wanted = f"{VARIABLE}={_mark(folder, role)}".encode()
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                environment = (path / "environ").read_bytes()  # empty for a zombie
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # over by now, or another user's and none of ours
            if wanted in environment.split(b"\0") and not is_tracker(int(path.name)):
                yield int(path.name)


def is_tracker(pid: int) -> bool:
    """True if the process is a resource tracker of Python's."""
    try:
        return b"resource_tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _mark(folder: RunFolder, role: str) -> str:
    return f"{folder.path.resolve()}:{role}"  # a home may be reached through a link, and then without it


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
