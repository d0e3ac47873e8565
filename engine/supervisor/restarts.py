"""Decide whether, and when, a crashed process is restarted.

The same error twice without progress would occur again, so the process is not restarted a third time. A
process that was killed, or that lacked memory, disk or network, may succeed later. It is restarted up to a
limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_DELAY_SECONDS = 30.0
# Errors caused by the state of the machine, which may change before the restart: ENOSPC is 28, EDQUOT 122.
_PASSING = re.compile(r"OutOfMemory|MemoryError|Connect|Timeout|\[Errno (28|122)\]")
_ADDRESS = re.compile(r"0x[0-9a-f]+")


@dataclass(slots=True)
class Restarts:
    """Counts consecutive crashes of a process.

    Attributes:
        limit: most crashes in a row that are followed by a restart.
        fault: the last error since the last progress; "" if none is known.
    """

    limit: int
    crashes: int = 0
    fault: str = ""

    def count_crash(self, fault: str = "") -> float | None:
        """Count a crash, and return the wait before the restart in seconds.

        The waits are 0, 1, 2, 4, … . None means that the process must not be restarted: it crashed too often,
        or twice with the same error.
        Args:
            fault: the error that ended the process, in one line; empty if it was killed.
        """
        self.crashes += 1
        fault = _ADDRESS.sub("", fault)
        is_repeated = bool(fault) and fault == self.fault and not _PASSING.search(fault)
        self.fault = fault or self.fault
        if is_repeated or self.crashes > self.limit:
            return None
        return 0.0 if self.crashes == 1 else min(2.0 ** (self.crashes - 2), LONGEST_DELAY_SECONDS)

    def reset(self) -> None:
        """Reset the count, because the run recorded something new."""
        self.crashes, self.fault = 0, ""
