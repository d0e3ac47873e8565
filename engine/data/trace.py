"""A worked solution to one training question."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trace:
    """A solution; `text` states its answer at the end.

    `finished` is false if the teacher ran out of tokens.
    """

    ex_id: str
    sample: int
    text: str
    answer: str
    correct: bool
    finished: bool
