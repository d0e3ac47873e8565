"""The typed, versioned records of a run.

    engine processes ─▶ supervisor ─▶ journal ─▶ store (one table for each kind)

A resumed run may repeat records. Their identity shows that: (metric, step) of a scalar, (arm, step, task,
ex_id, sample) of an example. Events have no identity; all of them are kept. Times are Unix seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, field, fields
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal

# Version 1 wrote floats as digits. In version 2 examples had no `finish`, `prompt_cut` and `window_tokens`.
VERSION = 3

RunState = Literal[
    "queued", "running", "stopping", "paused", "interrupted", "failed", "done_with_failures", "done"
]
LIVE_STATES: frozenset[str] = frozenset({"queued", "running", "stopping", "paused"})
Outcome = Literal["correct", "wrong", "no_answer", "truncated", "error"]
# Outcomes without a readable answer: the completion ended by itself, or was cut off.
UNANSWERED = frozenset({"no_answer", "truncated"})
# Outcome of a row with a score between 0 and 1, which is neither correct nor wrong.
SCORED = "scored"
# Outcome of a row that is scored by the log-likelihood of its `tokens` words.
LOGLIKELIHOOD = "loglikelihood"
# A score that is a sum of probabilities may exceed 1 by this rounding error.
ROUNDING = 1e-9
# Suffix of an lm-eval task that has the name of one of the run's own tasks.
LM_EVAL = "/lm-eval"
# Suffix of a task with answers that our grader judged too, in addition to its stock scorer.
MATH_VERIFY = "/math_verify"


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run's registration.

    It is written when the run's folder is created, and again when a resume adds stages. `config` is the
    content of run.json, `ts` the time in Unix seconds.
    """

    name: str
    profile: str
    seed: int
    config: dict[str, Any]
    ts: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, at `ts` (Unix seconds).

    `payload` holds the details of its kind as JSON (store/events.py). `step` is −1 if the event belongs to no
    step.
    """

    kind: str
    message: str = ""
    stage: str = ""
    arm: str = ""
    step: int = -1
    payload: dict[str, Any] = field(default_factory=dict)
    ts: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Scalar:
    """One point of a metric named ARM/GROUP/NAME; `ts` is in Unix seconds."""

    metric: str
    step: int
    value: float
    ts: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Example:
    """One graded completion.

    Tasks `train` and `validation` are samples of training; others are evaluations.
    `finish` is how a generated completion ended: `stop` by itself, `length` at the token limit. It is empty if
    nothing was generated or the end is not known. Two fields belong to suite tasks: `prompt_cut`, the tokens
    that the prompt lost at its start because it did not fit, and `window_tokens`, the longest input (0 for
    other tasks).
    """

    arm: str
    step: int
    task: str
    ex_id: str
    sample: int
    correct: bool
    score: float
    outcome: str
    prompt: str
    output: str
    tokens: int
    gold: str = ""
    answer: str = ""
    ts: float = field(default_factory=time.time)
    finish: str = ""
    prompt_cut: int = 0
    window_tokens: int = 0

    @property
    def is_share(self) -> bool:
        """Return True if the score is a fraction.

        The row is then neither correct nor wrong.
        """
        return self.outcome == SCORED or (self.outcome != LOGLIKELIHOOD and 0.0 < self.score < 1.0)

    @property
    def is_judged(self) -> bool:
        """Return True if the row is either correct or wrong."""
        return self.outcome != LOGLIKELIHOOD and not self.is_share

    @property
    def is_generated(self) -> bool:
        """Return True if the model generated the output.

        False for a choice from a list, a log-likelihood, or an error without an output.
        """
        return self.outcome != LOGLIKELIHOOD and bool(self.finish or self.tokens)

    @property
    def is_cut_off(self) -> bool:
        """Return True if the completion reached the token limit.

        It may still have an answer.
        """
        return self.finish == "length" or self.outcome == "truncated"


Record = RunRow | Event | Scalar | Example

KINDS_OF_RECORDS: dict[str, type[Record]] = {
    "run": RunRow,
    "event": Event,
    "scalar": Scalar,
    "example": Example,
}
_CODES: dict[type[Record], str] = {kind: code for code, kind in KINDS_OF_RECORDS.items()}
# `dataclasses.astuple` copies deeply. At thousands of records a second that would be most of the journal's cost.
_VALUES: dict[type[Record], Callable[[Record], tuple[Any, ...]]] = {
    kind: attrgetter(*(each.name for each in fields(kind))) for kind in _CODES
}


def to_json(record: Record) -> list[Any]:
    """Return `record` as a JSON-ready list.

    It holds the kind, then the fields in order.
    """
    kind = type(record)
    return [_CODES[kind], *_VALUES[kind](record)]


def from_json(row: list[Any]) -> Record:
    """Return the record that `to_json` returned as `row`."""
    return KINDS_OF_RECORDS[row[0]](*row[1:])


def to_groups(records: Iterable[Record]) -> list[list[Any]]:
    """Return `records` as JSON-ready groups.

    A group is a kind, then one list of values for each field.
    A group holds neighbours of one kind, so the order is kept. A batch of scalars is then five lists instead of
    hundreds, which takes a third of the time to read.
    """
    return [
        [_CODES[kind], *map(list, zip(*map(_VALUES[kind], group), strict=True))]
        for kind, group in groupby(records, type)
    ]


def from_groups(groups: Iterable[list[Any]]) -> list[Record]:
    """Return the records that `to_groups` returned as `groups`."""
    records: list[Record] = []
    for kind, *columns in groups:
        records += map(KINDS_OF_RECORDS[kind], *columns)
    return records


def completed(group: list[Any]) -> list[Any]:
    """Return a group of any version with the columns of this version.

    Columns that its version did not have get their defaults.
    Raises: KeyError for an unknown kind, ValueError if a column is missing that every version has.
    """
    lacking = fields(KINDS_OF_RECORDS[group[0]])[len(group) - 1 :]
    if any(each.default is MISSING for each in lacking):
        raise ValueError(f"a group of {group[0]} has too few columns")
    return [*group, *([each.default] * len(group[1]) for each in lacking)] if lacking else group
