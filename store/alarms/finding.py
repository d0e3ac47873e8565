"""What an alarm rule has found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class AlarmFinding:
    """A value that an alarm rule refuses.

    `alarm` names the rule, `value` is the value as text, because it may not be finite. `words` explain it.
    """

    alarm: str
    metric: str
    step: int
    value: str
    words: str


class Rule(Protocol):
    """The state of one rule for one metric."""

    def take(self, value: float) -> str:
        """Return why `value` is an alarm, in words; "" if it is not."""
