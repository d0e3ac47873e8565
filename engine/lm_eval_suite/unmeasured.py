"""Failed tasks of an evaluation, and what they mean for the stage.

If all tasks of a kind failed, the stage fails. If only some failed, the stage is incomplete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.context import StageFailed, StageIncomplete


@dataclass(frozen=True, slots=True)
class Failure:
    """A task of an arm that could not be measured, and why."""

    arm: str
    reason: str


@dataclass(frozen=True, slots=True)
class AttemptedTasks:
    """Tasks of one kind: how many there are, and which of them failed."""

    # `tasks` or `suite tasks`.
    kind: str
    count: int
    failures: Sequence[Failure]

    @property
    def fault(self) -> str:
        """The number of failed tasks and the reasons, each once with its arms."""
        arms: dict[str, list[str]] = {}
        for failure in self.failures:
            arms.setdefault(failure.reason, []).append(failure.arm)
        reasons = "; ".join(f"{reason} ({', '.join(names)})" for reason, names in arms.items())
        return f"{len(self.failures)} of {self.count} {self.kind} failed: {reasons}"


def refuse_nothing(tried: AttemptedTasks) -> None:
    """Raise StageFailed if all tasks of a kind failed."""
    if tried.count and len(tried.failures) == tried.count:
        raise StageFailed(f"nothing was measured: {tried.fault}")


def judge(*kinds: AttemptedTasks) -> None:
    """Raise if tasks of a kind could not be measured.

    It is StageFailed if all failed, and StageIncomplete if a part failed.
    """
    for tried in kinds:
        refuse_nothing(tried)
    faults = [tried.fault for tried in kinds if tried.failures]
    if faults:
        raise StageIncomplete("; ".join(faults))
