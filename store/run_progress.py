"""The progress of a run, folded from its events.

    plan ─▶ RunProgress.of_plan ─▶ after(progress, event) ─▶ … ─▶ RunProgress

`runs`, `status`, the console, `follow` and the supervisor share this fold. It is pure: the same events give the
same progress. Times are Unix seconds; 0 means "not yet".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

from store.events import (
    Details,
    Part,
    PhaseChange,
    ProcessChange,
    ProgressReport,
    StageChange,
    StateChange,
    details_of,
)
from store.records import LIVE_STATES, Event

# Statuses of completed steps, and of steps that failed completely or in part.
ENDED = frozenset({"finished", "skipped", "incomplete"})
FAILED = frozenset({"failed", "incomplete"})

# Stage and arm of a step ('' if it trains none).
StepName = tuple[str, str]


@dataclass(frozen=True, slots=True)
class StepProgress:
    """Progress of one step of a run's plan. All times are Unix seconds.

    Attributes:
        status: pending, started, finished, skipped, incomplete, failed or stopped.
        report: its last progress report; None before the first.
        reported: time of that report.
        first: (time, units done) of the first report since the step started or the clock was set back,
            because earlier reports do not measure the pace. None before it.
        started: 0 if the step has not started; `ended` likewise.
    """

    stage: str
    arm: str = ""
    status: str = "pending"
    report: ProgressReport | None = None
    reported: float = 0.0
    first: tuple[float, float] | None = None
    started: float = 0.0
    ended: float = 0.0
    message: str = ""

    @property
    def name(self) -> StepName:
        """Return stage and arm, which identify the step in its run."""
        return self.stage, self.arm

    @property
    def label(self) -> str:
        """Return the arm that the step makes, else its stage."""
        return self.arm or self.stage

    @property
    def done(self) -> int:
        """Return the number of units done."""
        return self.report.done if self.report else 0

    @property
    def total(self) -> int:
        """Return the number of units of the step; 0 if it is not known."""
        return self.report.total if self.report else 0

    @property
    def unit(self) -> str:
        """Return the unit of `done` and `total`."""
        return self.report.unit if self.report else ""

    @property
    def part(self) -> Part | None:
        """Return the progress of the task in progress; None if none reports it."""
        return self.report.part if self.report else None

    @property
    def fraction(self) -> float | None:
        """Return the fraction done, in [0, 1].

        Return None if the step has not reported a total.
        """
        return self.report.reached / self.report.total if self.report and self.report.total > 0 else None

    @property
    def eta(self) -> float | None:
        """Return the seconds from `reported` to the end.

        They are those of the report, or follow from the pace so far. Return None if they are unknown.
        """
        if self.report is None or self.status in ENDED or self.ended:
            return None
        if self.report.eta_seconds is not None or self.first is None:
            return self.report.eta_seconds
        return seconds_left(self.first, self.reported, self.report.reached, self.report.total)

    def remaining(self, now: float) -> float | None:
        """Return the seconds to the end at `now` (Unix seconds); None if unknown.

        They count down from the last report. The result does not grow if the clock is set back.
        """
        eta = self.eta
        return None if eta is None else max(eta - max(now - self.reported, 0.0), 0.0)

    def seconds(self, now: float) -> float | None:
        """Return how many seconds the step has run, or took.

        Return None before it started.
        """
        return (self.ended or now) - self.started if self.started else None


Steps = tuple[StepProgress, ...]


@dataclass(frozen=True, slots=True)
class RunProgress:
    """Progress of a run. Times are Unix seconds.

    Attributes:
        steps: those of its plan, then those that an extended run adds.
        state: '' before the first state event.
        at: stage and arm of the current step; None before it is known.
        processes: the last report of each role.
        ended: when the run reached a state that is not live; 0 before.
        last: time of the newest event.
    """

    steps: Steps = ()
    state: str = ""
    reason: str = ""
    at: StepName | None = None
    processes: tuple[ProcessChange, ...] = ()
    ended: float = 0.0
    last: float = 0.0

    @classmethod
    def of_plan(cls, plan: Iterable[StepName]) -> RunProgress:
        """Return the progress of a run before its first event."""
        return cls(tuple(StepProgress(stage, arm) for stage, arm in dict.fromkeys(plan)))

    @property
    def current(self) -> StepProgress | None:
        """Return the step of the last stage event.

        Without one, return that of the last progress; None before both.
        """
        return self.step(self.at) if self.at else None

    @property
    def failure(self) -> str:
        """Return the last step that failed, also in part, with its reason.

        Return '' if no step failed.
        """
        failed = [step for step in self.steps if step.status in FAILED]
        return f"{failed[-1].label}: {failed[-1].message}" if failed else ""

    @property
    def fraction(self) -> float:
        """Return the fraction of the plan that is done, in [0, 1].

        Each step has equal weight.
        """
        shares = [1.0 if step.status in ENDED else (step.fraction or 0.0) for step in self.steps]
        return sum(shares) / len(shares) if shares else 0.0

    def step(self, name: StepName) -> StepProgress | None:
        """Return the step `name`; None if the run does not have it."""
        return next((step for step in self.steps if step.name == name), None)


def after(progress: RunProgress, event: Event) -> RunProgress:
    """Return the progress after `event`.

    Events of other kinds only change `last`.
    """
    last = max(progress.last, event.ts)
    match details := details_of(event):
        case StateChange(state, reason):
            state, reason = state or progress.state, reason or event.message
            ended = 0.0 if state in LIVE_STATES else event.ts
            return replace(progress, state=state, reason=reason, ended=ended, last=last)
        case ProcessChange(role):
            known = {one.role: one for one in progress.processes} | {role: details}
            return replace(progress, processes=tuple(known.values()), last=last)
        case StageChange() | ProgressReport() | PhaseChange() if event.stage:
            at = _place_after(progress, event, details)
            return replace(progress, steps=_steps_after(progress, event, details), at=at, last=last)
        case _:
            return replace(progress, last=last)


def folded(events: Iterable[Event], progress: RunProgress = RunProgress()) -> RunProgress:
    """Return `progress` after all of `events`."""
    return reduce(after, events, progress)


def seconds_left(first: tuple[float, float], now: float, done: float, total: int) -> float | None:
    """Return the seconds to the end at the pace since `first`.

    Return None before a pace is known.
    """
    since, before = first
    return (now - since) / (done - before) * (total - done) if done > before else None


def settled(steps: Steps, state: str, ended: float = 0.0) -> Steps:
    """Return the steps of a run in `state`.

    A started but unfinished step takes the run's state. If the run is not live, the step ended at `ended`.
    """
    if state != "paused" and (state in LIVE_STATES or state in ("done", "done_with_failures")):
        return steps
    end = 0.0 if state in LIVE_STATES else ended
    return tuple(
        replace(step, status=state, ended=end) if step.status == "started" else step for step in steps
    )


def _place_after(progress: RunProgress, event: Event, details: Details) -> StepName | None:
    """Return the current step after an event of a stage.

    Progress changes it only if no stage event has come before.
    """
    name = (event.stage, event.arm)
    if progress.at == name or isinstance(details, PhaseChange):
        return progress.at
    is_announced = any(step.status != "pending" for step in progress.steps)
    return name if isinstance(details, StageChange) or not is_announced else progress.at


def _steps_after(progress: RunProgress, event: Event, details: Details) -> Steps:
    """Return the steps after an event of a stage.

    A step outside the plan joins at the end.
    """
    name, steps = (event.stage, event.arm), progress.steps
    if progress.step(name) is None:
        steps = (*steps, StepProgress(*name))
    return tuple(_changed(step, event, details) if step.name == name else step for step in steps)


def _changed(step: StepProgress, event: Event, details: Details) -> StepProgress:
    match details:
        case StageChange(status):
            status = status or event.message or step.status
            step = replace(step, status=status, message=event.message)
            if status == "started":
                return replace(step, started=event.ts, ended=0.0, first=None)
            return replace(step, ended=event.ts)
        case ProgressReport() as report:
            continues = event.ts >= step.reported and report.unit == step.unit
            first = step.first if step.first and continues else (event.ts, report.reached)
            return replace(step, report=report, reported=event.ts, first=first)
        case PhaseChange(phase, detail):
            return replace(step, message=event.message or detail or phase)
        case _:
            return step
