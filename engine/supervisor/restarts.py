"""How often, and how soon, a process that died is started again.

An error that comes twice without progress would come again: the process is not started a third time. A process that
was killed, or that lacked memory, disk or network, may do better at its next start, up to a limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_DELAY_SECONDS = 30.0
# Errors of the machine's state, which may have changed by the next start: ENOSPC is 28, EDQUOT 122.
_PASSING = re.compile(r"OutOfMemory|MemoryError|Connect|Timeout|\[Errno (28|122)\]")
_ADDRESS = re.compile(r"0x[0-9a-f]+")


@dataclass(slots=True)
class Restarts:
    """Counts deaths in a row. One that comes after the run has got further than ever before starts a new row."""

    limit: int
    deaths: int = 0
    fault: str = ""  # the last error in this row

    def after_death(self, fault: str = "") -> float | None:
        """Return the seconds to wait before the next start: 0, 1, 2, 4, …; None if there is to be no other.

        Args:
            fault: the error that ended the process, in one line; empty if it was killed.
        """
        self.deaths += 1
        fault = _ADDRESS.sub("", fault)
        is_repeated = bool(fault) and fault == self.fault and not _PASSING.search(fault)
        self.fault = fault or self.fault
        if is_repeated or self.deaths > self.limit:
            return None
        return 0.0 if self.deaths == 1 else min(2.0 ** (self.deaths - 2), LONGEST_DELAY_SECONDS)

    def progressed(self) -> None:
        """The run recorded something new."""
        self.deaths, self.fault = 0, ""
