"""Cost of killing a run now: lost work and restart time.

    records, in order ─▶ after(risk, record) ─▶ RiskState ─▶ cost(risk, now) ─▶ AtRisk

The lost work is what the run did since its last complete checkpoint. A RiskState holds the time from which work
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
class RiskState:
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
        """Return the total cost as a clause: "a kill now would cost 7 min"."""
        return f"a kill now would cost {_span(self.seconds)}"


def after(risk: RiskState, record: Record) -> RiskState:
    """Return the state after `record`."""
    if isinstance(record, Scalar):
        is_task = risk.stage == "eval" and "/eval/" in record.metric
        return replace(risk, saved=record.ts, step=-1) if is_task else risk
    if not isinstance(record, Event) or record.kind not in _KINDS:
        return risk
    match details_of(record):
        case StateChange(state):
            return _after_state(risk, state or risk.state, record.ts)
        case StageChange(status):
            return _after_stage(risk, status, record)
        case CheckpointSaved(seconds=seconds, start_seconds=load) if (
            record.stage == risk.stage and risk.started
        ):
            saved = max(record.ts - seconds, risk.started)
            return replace(risk, saved=saved, step=record.step, load=load)
        case _:
            return risk


def marked(records: Iterable[Record], risk: RiskState = RiskState()) -> RiskState:
    """Return `risk` after all of `records`."""
    return reduce(after, records, risk)


def cost(risk: RiskState, now: float) -> AtRisk | None:
    """Return the cost of a kill at `now` (Unix seconds).

    Returns: None if the run is not live or not in a stage.
    """
    if risk.state not in LIVE_STATES or not risk.started:
        return None
    end = risk.paused or now
    return AtRisk(max(end - risk.saved, 0.0), max(risk.boot, 0.0) + risk.load, risk.stage, risk.step)


def _after_state(risk: RiskState, state: str, ts: float) -> RiskState:
    if state == "queued":
        return RiskState(state, queued=ts)
    if state == "paused":
        return replace(risk, state=state, paused=risk.paused or ts)
    if risk.paused:
        return replace(risk, state=state, paused=0.0, saved=risk.saved + max(ts - risk.paused, 0.0))
    return replace(risk, state=state)


def _after_stage(risk: RiskState, status: str, event: Event) -> RiskState:
    if status != "started":
        return replace(risk, stage="", started=0.0)
    boot = risk.boot if risk.boot >= 0 else max(event.ts - risk.queued, 0.0) if risk.queued else 0.0
    return RiskState(risk.state, event.stage, risk.queued, event.ts, event.ts, boot=boot)


def _span(seconds: float) -> str:
    """Format seconds: `40 s`, `7 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
