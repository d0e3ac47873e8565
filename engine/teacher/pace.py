"""Adapt the requests in flight and the waits to the server's load.

A single failure only costs a retry. If most of the last answers are failures, the server counts as
overloaded. Then fewer requests are in flight (down by a third, up again one at a time, as in TCP), and waits
are longer.
"""

from __future__ import annotations

import random
from collections import deque

# Share of failures among the last answers.
_OVERLOADED = 0.5
_SHRINK = 2 / 3
# Seconds, doubled with every attempt.
_FIRST_WAIT = 0.1
_FIRST_WAIT_OVERLOADED = 2.0
_LONGEST_WAIT = 60.0


class Pace:
    """Limits the requests in flight by the server's load.

    Attributes:
        limit: present maximum of requests in flight.
        most: upper bound of `limit`.
    """

    def __init__(self, most: int, seed: int = 0) -> None:
        self.most = most
        self.limit = float(most)
        # True marks a failure.
        self._last: deque[bool] = deque(maxlen=max(2 * most, 8))
        self._random = random.Random(seed)

    @property
    def overloaded(self) -> bool:
        """True while most of the last answers are failures."""
        return len(self._last) >= min(self.limit, 8) and sum(self._last) > _OVERLOADED * len(self._last)

    def succeeded(self) -> None:
        """Count a whole answer; raise the limit unless the server is overloaded."""
        self._last.append(False)
        if not self.overloaded:
            self.limit = min(self.limit + 1 / self.limit, float(self.most))

    def failed(self) -> None:
        """Count a failed request; lower the limit if the server is overloaded.

        Call it only for failures that a retry may fix.
        """
        self._last.append(True)
        if self.overloaded and len(self._last) >= self.limit:
            self.limit = max(self.limit * _SHRINK, 1.0)
            self._last.clear()
            # Stay alert: the next failures count at once.
            self._last.extend([True] * 4)

    def wait(self, attempt: int, asked: float = 0.0) -> float:
        """Return the seconds to wait before attempt `attempt` + 1.

        The wait grows exponentially with random jitter, and is at least the `asked` seconds of the server.
        """
        first = _FIRST_WAIT_OVERLOADED if self.overloaded or self.limit < self.most / 2 else _FIRST_WAIT
        grown = min(first * 2.0**attempt, _LONGEST_WAIT)
        return max(asked, grown * self._random.uniform(0.5, 1.0))
