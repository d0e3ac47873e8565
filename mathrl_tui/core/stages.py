"""The board of a run's stages: what each step of the plan is doing, folded from the run's events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mathrl_tui.core import text
from store.records import LIVE_STATES, Event, Part

ENDED = frozenset({"finished", "skipped", "incomplete"})  # statuses of stages that ran to their end
_UNFINISHED = frozenset({"started"})


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the plan. Times are Unix seconds; `eta` is seconds from `told`.

    `first` is the first progress told since the stage started, or since the clock was set back, (time, done): what
    came before it, in an earlier attempt, says nothing of the pace.
    """

    stage: str
    arm: str = ""
    status: str = "pending"
    done: int = 0
    total: int = 0
    unit: str = ""
    eta: float | None = None
    told: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    message: str = ""
    first: tuple[float, float] | None = None
    part: Part | None = None

    @property
    def label(self) -> str:
        """What the step is called where room is short: the arm that it makes, else the stage."""
        return self.arm or self.stage

    @property
    def fraction(self) -> float | None:
        """How much is done, in [0, 1]; None if the stage has not reported how much there is."""
        return (self.done + within(self.part)) / self.total if self.total > 0 else None

    def remaining(self, now: float) -> float | None:
        """Seconds to the end, counted down from what the stage last said; not up where the clock is set back."""
        return None if self.eta is None else max(self.eta - max(now - self.told, 0.0), 0.0)

    def seconds(self, now: float) -> float | None:
        """How long the stage has run, or took."""
        if not self.started:
            return None
        return (self.ended or now) - self.started

    def progress_words(self, now: float) -> str:
        """`23/50 steps, 0:41 left`, as far as it is known."""
        if self.status != "started":
            return ""
        said = f"{self.done}/{self.total} {self.unit}".strip() if self.total else self.message
        if self.part:
            said += f", {part_words(self.part)}"
        left = self.remaining(now)
        return said if left is None else f"{said}, {text.duration(left)} left".removeprefix(", ")


Board = tuple[Stage, ...]


def planned(plan: Sequence[tuple[str, str]]) -> Board:
    """The board before anything has happened: every (stage, arm) of the plan, pending."""
    return tuple(Stage(stage, arm) for stage, arm in plan)


def after(board: Board, event: Event) -> Board:
    """The board after `event`; steps that the plan did not know (a run that was extended) join at the end."""
    if event.kind not in ("stage", "progress", "phase") or not event.stage:
        return board
    keys = [(one.stage, one.arm) for one in board]
    key = (event.stage, event.arm)
    if key not in keys:
        board, keys = (*board, Stage(*key)), [*keys, key]
    place = keys.index(key)
    return (*board[:place], _told(board[place], event), *board[place + 1 :])


def _told(stage: Stage, event: Event) -> Stage:
    payload = event.payload
    if event.kind == "phase":
        return replace(stage, message=event.message or str(payload.get("detail") or payload.get("phase", "")))
    if event.kind == "progress":
        done, total = int(payload.get("done", 0)), int(payload.get("total") or 0)
        part, unit = Part.of(payload), str(payload.get("unit", ""))
        reached = done + within(part)
        goes_on = event.ts >= stage.told and unit == stage.unit
        first = stage.first if stage.first and goes_on else (event.ts, reached)
        eta = payload.get("eta_seconds", remaining(first, event.ts, reached, total))
        return replace(
            stage, done=done, total=total, unit=unit, eta=eta, told=event.ts, first=first, part=part
        )
    status = str(payload.get("status", stage.status))
    if status == "started":
        return replace(stage, status=status, started=event.ts, ended=0.0, message=event.message, first=None)
    return replace(stage, status=status, ended=event.ts, eta=None, message=event.message)


def within(part: Part | None) -> float:
    """Return how much of the one task at work is done, in [0, 1]."""
    return part.done / part.total if part and part.total else 0.0


def part_words(part: Part) -> str:
    """Return how far the task at work is: `base mmlu 3,120/14,042`."""
    return text.part(part.name, part.arm, part.done, part.total)


def remaining(first: tuple[float, float], now: float, done: float, total: int) -> float | None:
    """Seconds to the end at the pace since `first`; None before there is one."""
    since, before = first
    return (now - since) / (done - before) * (total - done) if done > before else None


def settled(board: Board, run_state: str) -> Board:
    """The board as a run in `run_state` leaves it: what had started and did not end shares the run's fate."""
    if run_state == "paused":
        return tuple(replace(one, status="paused") if one.status in _UNFINISHED else one for one in board)
    if run_state in LIVE_STATES or run_state in ("done", "done_with_failures"):
        return board
    return tuple(replace(one, status=run_state) if one.status in _UNFINISHED else one for one in board)


def current(board: Board) -> Stage | None:
    """The step that is being worked on; else the last one that was touched, None before the first."""
    running = [one for one in board if one.status in ("started", "paused")]
    touched = [one for one in board if one.started]
    return running[-1] if running else touched[-1] if touched else None


def overall(board: Board) -> float:
    """Share of the plan that is done, steps counting alike, in [0, 1]."""
    if not board:
        return 0.0
    shares = [1.0 if one.status in ENDED else (one.fraction or 0.0) for one in board]
    return sum(shares) / len(board)
