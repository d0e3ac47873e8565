"""A process by its number and start time, which together are never used again."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Process:
    """One process for good. `started` is in clock ticks since boot."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        """Return the process that has the number `pid` now; a dead one if there is none."""
        fields = stat_fields(pid)
        return cls(pid, -1 if fields is None else int(fields[19]))

    @property
    def is_alive(self) -> bool:
        """True if it still runs, or is stopped; a zombie does not."""
        return self.started >= 0 and Process.of(self.pid) == self

    @property
    def state(self) -> str:
        """Return its state letter of proc(5), such as R, S, D or T; empty if it is dead."""
        fields = stat_fields(self.pid)
        return fields[0] if fields is not None and int(fields[19]) == self.started else ""

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens if it is dead. Raises: PermissionError."""
        if self.is_alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def kill(self) -> None:
        """End it at once, also if it is stopped. Raises: PermissionError."""
        self.signal(signal.SIGKILL)


def stat_fields(pid: int) -> list[str] | None:
    """Return /proc/PID/stat from field 3 (the state) on; None for a process that is gone or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in "ZX" else fields
