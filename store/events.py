"""The details of events: one frozen class for each kind of event.

    writer:  details.event(message, stage, …) ─▶ Event with a JSON object as payload ─▶ journal
    reader:  journal ─▶ Event ─▶ details_of(event) ─▶ details

Reading never raises. Unknown fields are ignored. A field that is missing or has the wrong type gets its
neutral value. An unknown kind becomes `OtherDetails`. So each version reads the journals of all others.

A payload names its version only from version 2 of its class on; a payload without one is of version 1.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from functools import cache
from typing import Any, ClassVar, Self

from store.records import Event

# A damaged place of a journal: segment, offset, bytes.
Place = tuple[int, int, int]
# The key of `LogLine.settled` in the journal: ingestion looks for it without decoding.
SETTLED = "settled"
ACKNOWLEDGED = "acknowledged"


@dataclass(frozen=True, slots=True)
class Part:
    """Progress of an lm-eval task of an arm, in documents.

    `total` is 0 if it is not known yet.
    """

    name: str
    arm: str
    done: int
    total: int

    @property
    def fraction(self) -> float:
        """Return the fraction of the documents that is done.

        It is 0 if the total is not known.
        """
        return self.done / self.total if self.total > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Details:
    """Base class of the details.

    A field with a default is left out of the payload if it has this value.
    """

    KIND: ClassVar[str] = ""
    VERSION: ClassVar[int] = 1

    @classmethod
    def read(cls, payload: Mapping[str, Any]) -> Self:
        """Return the details that `payload` holds."""
        readers = _readers(cls)  # type: ignore[arg-type]  # a class is hashable
        return cls(*[reader(payload.get(name)) for name, reader in readers])

    def payload(self) -> dict[str, Any]:
        """Return the payload to journal: a JSON-ready object."""
        found = {
            each.name: _to_json(value)
            for each in fields(self)
            if (value := getattr(self, each.name)) != _default(each)
        }
        return found | {"version": self.VERSION} if self.VERSION > 1 else found

    def event(
        self, message: str = "", stage: str = "", arm: str = "", step: int = -1, ts: float | None = None
    ) -> Event:
        """Return an event with these details, at time `ts` (Unix seconds) or now."""
        now = time.time() if ts is None else ts
        return Event(self.KIND, message, stage, arm, step, self.payload(), now)


@dataclass(frozen=True, slots=True)
class StateChange(Details):
    """The run has a new state."""

    KIND: ClassVar[str] = "state"
    state: str
    reason: str


@dataclass(frozen=True, slots=True)
class StageChange(Details):
    """A stage has a new status.

    It is started, finished, skipped, incomplete, failed or stopped. `reopened` is the arm that it waits for,
    because its last checkpoint was damaged.
    """

    KIND: ClassVar[str] = "stage"
    status: str
    reopened: str = ""


@dataclass(frozen=True, slots=True)
class ProgressReport(Details):
    """A stage has reached `done` of `total` units; `total` 0 means unknown.

    None means that a field is unknown or does not apply.
    Attributes:
        eta_seconds: seconds to the end.
        part: progress within the current unit.
        tokens: tokens that the teacher was paid for; the last three fields belong to the stage traces.
        dollars: US dollars spent.
        in_flight: requests in flight.
    """

    KIND: ClassVar[str] = "progress"
    done: int
    total: int
    unit: str
    eta_seconds: float | None = None
    part: Part | None = None
    tokens: int | None = None
    dollars: float | None = None
    in_flight: int | None = None

    @property
    def reached(self) -> float:
        """Return the units done, with the fraction of the current one."""
        return self.done + (self.part.fraction if self.part else 0.0)


@dataclass(frozen=True, slots=True)
class CheckpointSaved(Details):
    """A checkpoint is complete.

    `path` is relative to the home. `seconds` lead from the copy of the weights to the complete checkpoint,
    `start_seconds` from loading the arm to its first step.
    """

    KIND: ClassVar[str] = "checkpoint"
    path: str
    seconds: float
    start_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ProcessChange(Details):
    """A process of the run has started, or has exited for `reason`."""

    KIND: ClassVar[str] = "process"
    role: str
    pid: int
    alive: bool
    reason: str


@dataclass(frozen=True, slots=True)
class CommandReceived(Details):
    """The supervisor has received a command from `origin`."""

    KIND: ClassVar[str] = "command"
    command: str
    origin: str


@dataclass(frozen=True, slots=True)
class PhaseChange(Details):
    """A process has begun a phase that takes seconds, such as loading a model."""

    KIND: ClassVar[str] = "phase"
    phase: str
    detail: str


@dataclass(frozen=True, slots=True)
class LogLine(Details):
    """A message of a process; `level` is info, warning, error or critical.

    `settled` are damaged places with rows that the journal holds again after this event.
    `damaged` are places that this event reports, `acknowledged` those that the user knows. `lost` is the step of
    the arm's checkpoint that is ahead of its records. `estimate_dollars` is the expected price of a teacher's answers.
    """

    KIND: ClassVar[str] = "log"
    level: str
    process: str = ""
    settled: tuple[Place, ...] | None = None
    damaged: tuple[Place, ...] | None = None
    acknowledged: tuple[Place, ...] | None = None
    lost: int | None = None
    estimate_dollars: float | None = None


@dataclass(frozen=True, slots=True)
class AlarmRaised(Details):
    """The supervisor has raised an alarm.

    `alarm` is the name of the rule. `value` is text, because it may not be finite. `action` is what the profile
    ordered: pause or stop; "" if nothing. `checkpoint` is the last one before the alarm, relative to the home, or "".
    """

    KIND: ClassVar[str] = "alarm"
    alarm: str
    metric: str
    value: str
    action: str = ""
    checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class OtherDetails(Details):
    """The payload of an unknown kind, unchanged."""

    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, payload: Mapping[str, Any]) -> Self:
        """Return details that keep `payload` as it is."""
        return cls(payload)

    def payload(self) -> dict[str, Any]:
        """Return the payload that `read` received."""
        return dict(self.values)


@dataclass(frozen=True, slots=True)
class InputReport(OtherDetails):
    """The input of a stage.

    It is the report of a data stage, or the worked examples of an evaluation.
    """

    KIND: ClassVar[str] = "input"


DETAILS: dict[str, type[Details]] = {
    each.KIND: each
    for each in (
        StateChange,
        StageChange,
        ProgressReport,
        CheckpointSaved,
        ProcessChange,
        CommandReceived,
        PhaseChange,
        LogLine,
        AlarmRaised,
        InputReport,
    )
}


def details_of(event: Event) -> Details:
    """Return the details of an event of any version."""
    payload = event.payload if isinstance(event.payload, dict) else {}
    return DETAILS.get(event.kind, OtherDetails).read(payload)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _seconds(value: object) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None  # type: ignore[return-value,arg-type]


def _number(value: object) -> float:
    return _seconds(value) or 0.0


def _count(value: object) -> int:
    return int(_number(value))


def _optional_count(value: object) -> int | None:
    return None if _seconds(value) is None else _count(value)


def _part(value: object) -> Part | None:
    if not isinstance(value, dict):
        return None
    done, total = _count(value.get("done")), _count(value.get("total"))
    return Part(_text(value.get("name")), _text(value.get("arm")), done, total)


def _places(value: object) -> tuple[Place, ...] | None:
    if not isinstance(value, list):
        return None
    whole = [each for each in value if isinstance(each, list) and [*map(type, each)] == [int] * 3]
    return tuple((segment, offset, size) for segment, offset, size in whole)


# The reader of each type of field, by its annotation.
_READERS: dict[str, Callable[[object], Any]] = {
    "str": _text,
    "bool": bool,
    "int": _count,
    "int | None": _optional_count,
    "float": _number,
    "float | None": _seconds,
    "Part | None": _part,
    "tuple[Place, ...] | None": _places,
}


@cache
def _readers(cls: type[Details]) -> tuple[tuple[str, Callable[[object], Any]], ...]:
    return tuple((each.name, _READERS[str(each.type)]) for each in fields(cls))


def _default(each: Field[Any]) -> object:
    """Return the default of a field.

    If it has none, return an object that equals no other.
    """
    return object() if each.default is MISSING else each.default


def _to_json(value: object) -> object:
    if isinstance(value, Part):
        return asdict(value)
    return [list(place) for place in value] if isinstance(value, tuple) else value
