"""Cost of killing a run now: lost work and restart time.

    records, in order ─▶ after(mark, record) ─▶ Mark ─▶ cost(mark, now) ─▶ AtRisk

The lost work is what the run did since its last complete checkpoint. A mark holds the time from which work
would be repeated: the start of the stage, the state in the newest checkpoint, or the end of the last finished
evaluation task. A pause does not count as work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

from store.events import CheckpointSaved, StageChange, StateChange, details_of
from store.records import LIVE_STATES, Event, Record, Scalar

_KINDS = frozenset({StateChange.KIND, StageChange.KIND, CheckpointSaved.KIND})


@dataclass(frozen=True, slots=True)
class Mark:
    """State from a run's records that determines the cost of a kill.

    Times are Unix seconds, 0 if unknown. `saved` is the time from which work would be repeated. `step` is the
    checkpoint's step (−1: no checkpoint since this start). `boot` is the seconds from the queue to the
    trainer's first stage, `load` those from there to its first step.
    """

    state: str = ""
    stage: str = ""
    queued: float = 0.0
    started: float = 0.0
    saved: float = 0.0
    step: int = -1
    paused: float = 0.0
    boot: float = -1.0
    load: float = 0.0


@dataclass(frozen=True, slots=True)
class AtRisk:
    """Seconds of work that a kill would lose, and seconds to restart.

    `redo` is the lost work, `restart` the time until a resumed run works again. `step` is the checkpoint to
    resume from. It is −1 if the stage has not written one since it started. It is also −1 in an evaluation,
    which repeats everything after its last finished task.
    """

    redo: float
    restart: float
    stage: str
    step: int

    @property
    def seconds(self) -> float:
        """Return the total cost in seconds."""
        return self.redo + self.restart

    def as_json(self) -> dict[str, float | int | str]:
        """Return the fields for `status --json`."""
        return {
            "seconds": round(self.seconds, 1),
            "redo_seconds": round(self.redo, 1),
            "restart_seconds": round(self.restart, 1),
            "stage": self.stage,
            "step": self.step,
        }

    @property
    def words(self) -> str:
        """Return the cost with its parts, as one line."""
        since = f" since the checkpoint of step {self.step}" if self.step >= 0 else ""
        parts = [f"{_span(self.redo)} of {self.stage}{since}"]
        if self.restart >= 1.0:
            parts.append(f"{_span(self.restart)} to start again")
        return f"{self.short}: {', '.join(parts)}"

    @property
    def short(self) -> str:
        """Return the total cost in words."""
        return f"a kill now would cost {_span(self.seconds)}"


def after(mark: Mark, record: Record) -> Mark:
    """Return the mark after `record`."""
    if isinstance(record, Scalar):
        is_task = mark.stage == "eval" and "/eval/" in record.metric
        return replace(mark, saved=record.ts, step=-1) if is_task else mark
    if not isinstance(record, Event) or record.kind not in _KINDS:
        return mark
    match details_of(record):
        case StateChange(state):
            return _after_state(mark, state or mark.state, record.ts)
        case StageChange(status):
            return _after_stage(mark, status, record)
        case CheckpointSaved(seconds=seconds, start_seconds=load) if (
            record.stage == mark.stage and mark.started
        ):
            saved = max(record.ts - seconds, mark.started)
            return replace(mark, saved=saved, step=record.step, load=load)
        case _:
            return mark


def marked(records: Iterable[Record], mark: Mark = Mark()) -> Mark:
    """Return `mark` after all of `records`."""
    return reduce(after, records, mark)


def cost(mark: Mark, now: float) -> AtRisk | None:
    """Return the cost of a kill at `now` (Unix seconds).

    Returns: None if the run is not live or not in a stage.
    """
    if mark.state not in LIVE_STATES or not mark.started:
        return None
    end = mark.paused or now
    return AtRisk(max(end - mark.saved, 0.0), max(mark.boot, 0.0) + mark.load, mark.stage, mark.step)


def _after_state(mark: Mark, state: str, ts: float) -> Mark:
    if state == "queued":
        return Mark(state, queued=ts)
    if state == "paused":
        return replace(mark, state=state, paused=mark.paused or ts)
    if mark.paused:
        return replace(mark, state=state, paused=0.0, saved=mark.saved + max(ts - mark.paused, 0.0))
    return replace(mark, state=state)


def _after_stage(mark: Mark, status: str, event: Event) -> Mark:
    if status != "started":
        return replace(mark, stage="", started=0.0)
    boot = mark.boot if mark.boot >= 0 else max(event.ts - mark.queued, 0.0) if mark.queued else 0.0
    return Mark(mark.state, event.stage, mark.queued, event.ts, event.ts, boot=boot)


def _span(seconds: float) -> str:
    """Format seconds: `40 s`, `7 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
