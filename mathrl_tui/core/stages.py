"""The status of each step of a run's plan, folded from the run's events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mathrl_tui.core import text
from store.records import LIVE_STATES, Event, Part

# Statuses of completed stages.
ENDED = frozenset({"finished", "skipped", "incomplete"})
_UNFINISHED = frozenset({"started"})


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the plan. Times are Unix seconds; `eta` is in seconds from `told`.

    `first` is the first progress, (time, done), since the stage started or the clock was set back. Earlier progress,
    from a previous attempt, does not measure the pace.
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
        """Return the short name of the step: the arm that it makes, else the stage."""
        return self.arm or self.stage

    @property
    def fraction(self) -> float | None:
        """Return the fraction done, in [0, 1]; None if the stage has not reported a total."""
        return (self.done + within(self.part)) / self.total if self.total > 0 else None

    def remaining(self, now: float) -> float | None:
        """Return the seconds to the end, counted down from the last report.

        The result does not grow if the clock is set back.
        """
        return None if self.eta is None else max(self.eta - max(now - self.told, 0.0), 0.0)

    def seconds(self, now: float) -> float | None:
        """Return how many seconds the stage has run, or took; None before it started."""
        if not self.started:
            return None
        return (self.ended or now) - self.started

    def progress_words(self, now: float) -> str:
        """Return the known progress: `23/50 steps, 0:41 left`."""
        if self.status != "started":
            return ""
        said = f"{self.done}/{self.total} {self.unit}".strip() if self.total else self.message
        if self.part:
            said += f", {part_words(self.part)}"
        left = self.remaining(now)
        return said if left is None else f"{said}, {text.duration(left)} left".removeprefix(", ")


Board = tuple[Stage, ...]


def planned(plan: Sequence[tuple[str, str]]) -> Board:
    """Return the initial board: each (stage, arm) of the plan, pending."""
    return tuple(Stage(stage, arm) for stage, arm in plan)


def after(board: Board, event: Event) -> Board:
    """Return the board after `event`; steps outside the plan, of an extended run, join at the end."""
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
    """Return the fraction of the current task that is done, in [0, 1]."""
    return part.done / part.total if part and part.total else 0.0


def part_words(part: Part) -> str:
    """Return the progress of the current task: `base mmlu 3,120/14,042`."""
    return text.part(part.name, part.arm, part.done, part.total)


def remaining(first: tuple[float, float], now: float, done: float, total: int) -> float | None:
    """Return the seconds to the end at the pace since `first`; None before a pace is known."""
    since, before = first
    return (now - since) / (done - before) * (total - done) if done > before else None


def settled(board: Board, run_state: str) -> Board:
    """Return the board of a run in `run_state`: a started but unfinished step takes the run's state."""
    if run_state == "paused":
        return tuple(replace(one, status="paused") if one.status in _UNFINISHED else one for one in board)
    if run_state in LIVE_STATES or run_state in ("done", "done_with_failures"):
        return board
    return tuple(replace(one, status=run_state) if one.status in _UNFINISHED else one for one in board)


def current(board: Board) -> Stage | None:
    """Return the active step, else the last one that started, else None."""
    running = [one for one in board if one.status in ("started", "paused")]
    touched = [one for one in board if one.started]
    return running[-1] if running else touched[-1] if touched else None


def overall(board: Board) -> float:
    """Return the fraction of the plan that is done, in [0, 1]; each step has equal weight."""
    if not board:
        return 0.0
    shares = [1.0 if one.status in ENDED else (one.fraction or 0.0) for one in board]
    return sum(shares) / len(board)
