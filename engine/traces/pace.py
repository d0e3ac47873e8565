"""How many requests may be in flight, and how long one that failed waits: adapted to what the server bears.

Single failures cost a retry and nothing else. Only where most of the last answers are failures is the server taken to
be overloaded: fewer requests then (down by a third, up again one at a time, as TCP does) and longer waits.
"""

from __future__ import annotations

import random
from collections import deque

_OVERLOADED = 0.5  # share of failures among the last answers
_SHRINK = 2 / 3
_FIRST_WAIT = 0.1  # seconds, doubled with every try
_FIRST_WAIT_OVERLOADED = 2.0
_LONGEST_WAIT = 60.0


class Pace:
    """`limit` is the number of requests that may be in flight now, `most` at best."""

    def __init__(self, most: int, seed: int = 0) -> None:
        self.most = most
        self.limit = float(most)
        self._last: deque[bool] = deque(maxlen=max(2 * most, 8))  # True: a failure
        self._random = random.Random(seed)

    @property
    def overloaded(self) -> bool:
        """True while most of the last answers are failures."""
        return len(self._last) >= min(self.limit, 8) and sum(self._last) > _OVERLOADED * len(self._last)

    def succeeded(self) -> None:
        """A whole answer came."""
        self._last.append(False)
        if not self.overloaded:
            self.limit = min(self.limit + 1 / self.limit, float(self.most))

    def failed(self) -> None:
        """A request failed in a way that another try may mend."""
        self._last.append(True)
        if self.overloaded and len(self._last) >= self.limit:
            self.limit = max(self.limit * _SHRINK, 1.0)
            self._last.clear()
            self._last.extend([True] * 4)  # still on guard: the next failures count at once

    def wait(self, attempt: int, asked: float = 0.0) -> float:
        """Seconds before try `attempt` + 1: no less than the server `asked` for, else exponential with jitter."""
        first = _FIRST_WAIT_OVERLOADED if self.overloaded or self.limit < self.most / 2 else _FIRST_WAIT
        grown = min(first * 2.0**attempt, _LONGEST_WAIT)
        return max(asked, grown * self._random.uniform(0.5, 1.0))
