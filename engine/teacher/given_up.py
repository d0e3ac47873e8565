"""Questions without an answer: list them, and fail if there are too many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.context import Context, StageFailed
from store.events import LogLine

_NAMED = 20


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A question without an answer.

    `refused` means that the teacher declined it, and that it is not sent again.
    """

    ex_id: str
    sample: int
    reason: str
    refused: bool

    def __str__(self) -> str:
        which = f" sample {self.sample}" if self.sample else ""
        return f"{self.ex_id}{which} ({self.reason})"


def allowed(share: float, questions: int) -> int:
    """Return how many of `questions` may fail: `share` of them, rounded up.

    So one may fail even in a small set. `share` is a fraction.
    """
    return math.ceil(round(share * questions, 6))


def named(questions: Sequence[GivenUp]) -> str:
    """Return ids and reasons in one line.

    It has the first twenty, and the number of the others.
    """
    more = f" and {len(questions) - _NAMED:,} more" if len(questions) > _NAMED else ""
    return ", ".join(map(str, questions[:_NAMED])) + more


def report_given_up(context: Context, questions: Sequence[GivenUp], asked: int, journal: Path) -> None:
    """Log the questions without an answer.

    Raises: StageFailed if `traces.max_failed` does not allow that many.
    """
    if not questions:
        return
    share = context.profile.traces.max_failed
    refused = [question for question in questions if question.refused]
    if len(questions) == asked:
        raise StageFailed(
            f"traces: none of {asked:,} questions got an answer: {named(questions)}; fix the cause and resume"
        )
    if len(questions) > allowed(share, asked):
        again = "run again to ask the others, or " if len(refused) < len(questions) else ""
        raise StageFailed(
            f"traces: {len(questions):,} of {asked:,} questions got no answer, {len(refused):,} of them refused: "
            f"{named(questions)}; traces.max_failed = {share:g} allows {allowed(share, asked):,}: {again}raise it "
            "to continue without them; answers are kept"
        )
    kept = f"; those refused are not asked again (see their lines in {journal})" if refused else ""
    message = f"{len(questions):,} of {asked:,} questions got no answer: {named(questions)}{kept}"
    context.emit(LogLine("warning").event(message, "traces"))
