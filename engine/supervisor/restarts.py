"""How often, and how soon, a process that died is started again."""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_DELAY_SECONDS = 30.0


@dataclass(slots=True)
class Restarts:
    """Counts deaths in a row. One that comes after the run has got further than ever before starts a new row."""

    limit: int
    deaths: int = 0

    def after_death(self) -> float | None:
        """Seconds to wait before the next start: 0, 1, 2, 4, …; None where the limit is reached."""
        self.deaths += 1
        if self.deaths > self.limit:
            return None
        return 0.0 if self.deaths == 1 else min(2.0 ** (self.deaths - 2), LONGEST_DELAY_SECONDS)

    def progressed(self) -> None:
        """The run recorded something new."""
        self.deaths = 0
