"""The typed, versioned records that a run leaves: scalars, examples and events.

Engine processes send them, the supervisor journals them, the store keeps one table a kind. A record's identity is
what makes a repeated one (after a resume) recognisable: a scalar's is (metric, step), an example's is
(arm, step, task, ex_id, sample); events have none and are kept as they come.
Times are Unix seconds as floats.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal

VERSION = 3  # 1: floats were written as digits; 2: examples had no `finish`, `prompt_cut`, `window_tokens`

RunState = Literal[
    "queued", "running", "stopping", "paused", "interrupted", "failed", "done_with_failures", "done"
]
LIVE_STATES: frozenset[str] = frozenset({"queued", "running", "stopping", "paused"})
Outcome = Literal["correct", "wrong", "no_answer", "truncated", "error"]
UNANSWERED = frozenset(
    {"no_answer", "truncated"}
)  # outcomes without a readable answer: ended by itself, cut off
SCORED = "scored"  # outcome of a row whose score is a share between 0 and 1: neither right nor wrong
LOGLIKELIHOOD = (
    "loglikelihood"  # outcome of a row scored by log-likelihood (of `tokens` words), not by being correct
)
ROUNDING = 1e-9  # by which a score that is a sum of probabilities may pass 1
LM_EVAL = "/lm-eval"  # behind the name of an lm-eval task that is called as one of the run's own
MATH_VERIFY = "/math_verify"  # behind a task's name: its answers judged by our grader beside its stock scorer


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run's registration: written when its folder is made, and again when a resume brings more stages."""

    name: str
    profile: str
    seed: int
    config: dict[str, Any]  # the frozen profile, plan, versions, git state, hardware
    ts: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened; `kind` says what, `payload` holds its details.

    Kinds: `state` {state, reason} · `stage` {status: started|finished|skipped|incomplete|failed|stopped} · `progress`
    {done, total, unit, eta_seconds, part: {name, arm, done, total}} · `checkpoint` {path in the home, seconds: from
    its copy to its name, start_seconds: from loading the arm to its first step} · `process` {role, pid, alive, reason}
    · `command` {command, origin} · `phase` {phase, detail} · `log` {level, process} · `input` {…} what a data stage
    reports.
    """

    kind: str
    message: str = ""
    stage: str = ""
    arm: str = ""
    step: int = -1
    payload: dict[str, Any] = field(default_factory=dict)
    ts: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Part:
    """How far the one task at work is: an lm-eval task of an arm, in documents. `total` 0: not known yet."""

    name: str
    arm: str
    done: int
    total: int

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> Part | None:
        """Return the part that a progress event's payload reports; None if it reports none."""
        part = payload.get("part")
        return cls(**part) if isinstance(part, dict) else None


@dataclass(frozen=True, slots=True)
class Scalar:
    """One point of a metric named ARM/GROUP/NAME."""

    metric: str
    step: int
    value: float
    ts: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class Example:
    """One graded completion. Tasks `train` and `validation` are samples of training; others are evaluations.

    `finish` is how a generated completion ended: `stop` by itself, `length` at the token limit, empty if nothing was
    generated or the end is not known. A suite task also has `prompt_cut`, the tokens that its prompt lost at the
    start because it did not fit, and `window_tokens`, the longest text that it reads at once (0: no suite task).
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
        """True if the score is a share, which is neither right nor wrong."""
        return self.outcome == SCORED or (self.outcome != LOGLIKELIHOOD and 0.0 < self.score < 1.0)

    @property
    def is_judged(self) -> bool:
        """True if the row is right or wrong, so that it has a verdict."""
        return self.outcome != LOGLIKELIHOOD and not self.is_share

    @property
    def is_generated(self) -> bool:
        """True if the model wrote the output: it did not choose it from a list, and an answer came."""
        return self.outcome != LOGLIKELIHOOD and bool(self.finish or self.tokens)

    @property
    def is_cut_off(self) -> bool:
        """True if the completion ran into the token limit, whether or not it holds an answer."""
        return self.finish == "length" or self.outcome == "truncated"


Record = RunRow | Event | Scalar | Example

KINDS_OF_RECORDS: dict[str, type[Record]] = {
    "run": RunRow,
    "event": Event,
    "scalar": Scalar,
    "example": Example,
}
_CODES: dict[type[Record], str] = {kind: code for code, kind in KINDS_OF_RECORDS.items()}
# `astuple` copies deeply, field by field: at thousands of records a second that would be most of the journal's cost.
_VALUES: dict[type[Record], Callable[[Record], tuple[Any, ...]]] = {
    kind: attrgetter(*(each.name for each in fields(kind))) for kind in _CODES
}


def to_json(record: Record) -> list[Any]:
    """`record` as a JSON-ready list: its kind, then its fields in order."""
    kind = type(record)
    return [_CODES[kind], *_VALUES[kind](record)]


def from_json(row: list[Any]) -> Record:
    """The record that `to_json` made `row` from."""
    return KINDS_OF_RECORDS[row[0]](*row[1:])


def to_groups(records: Iterable[Record]) -> list[list[Any]]:
    """`records` as JSON-ready groups of neighbours of one kind: the kind, then a list of values for each field.

    Order is kept. A batch of scalars is then five lists instead of hundreds, which takes a third of the time to read.
    """
    return [
        [_CODES[kind], *map(list, zip(*map(_VALUES[kind], group), strict=True))]
        for kind, group in groupby(records, type)
    ]


def from_groups(groups: Iterable[list[Any]]) -> list[Record]:
    """The records that `to_groups` made `groups` from."""
    records: list[Record] = []
    for kind, *columns in groups:
        records += map(KINDS_OF_RECORDS[kind], *columns)
    return records


def completed(group: list[Any]) -> list[Any]:
    """Return a group of any version with the columns that its version lacked, filled with their defaults.

    Raises: KeyError for an unknown kind, ValueError if it lacks a column that every version had.
    """
    lacking = fields(KINDS_OF_RECORDS[group[0]])[len(group) - 1 :]
    if any(each.default is MISSING for each in lacking):
        raise ValueError(f"a group of {group[0]} lacks columns that every version had")
    return [*group, *([each.default] * len(group[1]) for each in lacking)] if lacking else group
