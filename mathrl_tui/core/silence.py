"""A run that hangs: its supervisor lives, but the stage at work shows nothing any more.

What a stage shows is progress that moves, a scalar, an example, a phase, a checkpoint, a line of its processes' logs.
What says only that the supervisor lives (the GPUs' telemetry, its own log lines, commands), or only that somebody
waits (progress told again), breaks no silence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median

from mathrl_tui.core import text
from mathrl_tui.core.panels import GPU_METRIC
from store.records import Event, Part, Record, Scalar

# Seconds of silence that are nobody's fault:
SHORTEST = 600.0  # a checkpoint on a slow disk, a validation, a server that is asked again
STARTING = 1800.0  # a model or a task's rows are fetched, loaded, compiled; also while nothing usual is known
TIMES = 5  # how many usual intervals
TWICE = 2  # how many of the longest interval that the stage came back from
RECENT = 50  # intervals from which the usual one is taken
KNOWN = 3  # so many make one usual

_ANNOUNCING = frozenset({"state", "process", "phase"})  # after these something starts, also after a pause


@dataclass(frozen=True, slots=True)
class Pulse:
    """What a run's stage has shown of late. Times are Unix seconds.

    `heard` is the last sign of all (0: none yet), `moved` when progress last stood at another figure than before (0:
    not since something started), `at` that figure: steps, and within a step its task and documents. `opening`: the
    task has answered no document yet. `gaps` are the seconds between moves, newest last.
    """

    label: str = "the run"
    unit: str = ""
    heard: float = 0.0
    moved: float = 0.0
    at: tuple[int, str, int] = (-1, "", 0)
    opening: bool = False
    gaps: tuple[float, ...] = ()

    @property
    def usual(self) -> float | None:
        """The usual seconds from one step to the next; None where too few were seen."""
        return median(self.gaps) if len(self.gaps) >= KNOWN else None

    @property
    def patience(self) -> float:
        """Seconds of silence from which it is suspicious."""
        is_starting = self.usual is None or not self.moved or self.opening
        least = STARTING if is_starting else SHORTEST
        return max(least, TIMES * (self.usual or 0.0), TWICE * max(self.gaps, default=0.0))

    def words(self, now: float) -> str:
        """`sft silent for 25:10, usually 0:07` where that is suspicious at `now`; else empty."""
        silent = now - self.heard
        if not self.heard or silent < self.patience:
            return ""
        usual = "" if self.usual is None else f", usually {text.duration(self.usual)}"
        starting = " while it starts" if self.opening or not self.moved else ""
        return f"{self.label} silent for {text.duration(silent)}{starting}{usual}"


def after(pulse: Pulse, record: Record) -> Pulse:
    """The pulse after `record`."""
    if isinstance(record, Scalar) and GPU_METRIC.match(record.metric):
        return pulse
    if isinstance(record, Event):
        if record.kind == "command" or record.payload.get("process") == "supervisor":
            return pulse
        if record.kind == "progress":
            return _moved(pulse, record)
        if record.kind == "stage":
            return Pulse(record.arm or record.stage, heard=record.ts)
        if record.kind in _ANNOUNCING:
            pulse = replace(pulse, moved=0.0)
    return replace(pulse, heard=_later(pulse.heard, record.ts))


def _later(known: float, ts: float) -> float:
    """The later time; `ts` where the clock was set back so far that what was known would hide a silence."""
    return max(known, ts) if ts > known - SHORTEST else ts


def _moved(pulse: Pulse, event: Event) -> Pulse:
    label, unit = event.arm or event.stage, str(event.payload.get("unit", ""))
    if (label, unit) != (pulse.label, pulse.unit):
        pulse = Pulse(label, unit, pulse.heard)  # its steps are of another length
    part = Part.of(event.payload) or Part("", "", -1, 0)
    at = (int(event.payload.get("done", 0)), f"{part.arm} {part.name}", part.done)
    gap = event.ts - pulse.moved
    if at == pulse.at or _later(pulse.moved, event.ts) > event.ts:
        return pulse
    gaps = (*pulse.gaps, gap)[-RECENT:] if pulse.moved and gap >= 0 else pulse.gaps
    heard = _later(pulse.heard, event.ts)
    return replace(pulse, heard=heard, moved=event.ts, at=at, opening=part.done == 0, gaps=gaps)
