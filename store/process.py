"""A process identified by number and start time.

The pair is never reused.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """One process, identified permanently.

    `started` is in clock ticks since boot.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the process that has the number `pid` now.

        Returns: a dead process if none has it.
        """
        fields = stat_fields(pid)
        return cls(pid, -1 if fields is None else int(fields[19]))

    @property
    def is_alive(self) -> bool:
        """Return True if the process runs or is stopped; False for a zombie."""
        return self.started >= 0 and Process.of(self.pid) == self

    @property
    def state(self) -> str:
        """Return the process's state letter of proc(5), such as R, S, D or T.

        Returns: "" if it has exited.
        """
        fields = stat_fields(self.pid)
        return fields[0] if fields is not None and int(fields[19]) == self.started else ""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process; do nothing if it has exited.

        Raises: PermissionError if it belongs to another user.
        """
        if self.is_alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def kill(self) -> None:
        """Kill the process at once, even if it is stopped.

        Raises: PermissionError if it belongs to another user.
        """
        self.signal(signal.SIGKILL)


def stat_fields(pid: int) -> list[str] | None:
    """Return /proc/PID/stat from field 3 (the state) on.

    Returns: None for an exited process or a zombie.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The process's name before it may contain spaces and brackets.
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else fields
