"""Detection of a hanging run: alive supervisor, no activity.

Activity is progress that moves, a scalar, an example, a phase, a checkpoint or a log line of its processes.
Some records show only that the supervisor is alive: GPU telemetry, its own log lines, commands.
Repeated progress shows only that a process waits. None of these ends a silence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import median

from mathrl_tui.core import text
from mathrl_tui.core.panels import GPU_METRIC
from store.events import CommandReceived, LogLine, Part, ProgressReport, StageChange, details_of
from store.records import Event, Record, Scalar

# Normal silences, in seconds.
# A checkpoint on a slow disk, a validation, a retry of a server.
SHORTEST = 600.0
# A model or a task's rows are fetched, loaded or compiled. Also used while the usual interval is unknown.
STARTING = 1800.0
# Multiple of the usual interval.
TIMES = 5
# Multiple of the longest interval that the stage recovered from.
TWICE = 2
# Number of newest intervals that define the usual one.
RECENT = 50
# Minimum number of intervals that define the usual one.
KNOWN = 3

# Something starts after these events, also after a pause.
_ANNOUNCING = frozenset({"state", "process", "phase"})


@dataclass(frozen=True, slots=True)
class Pulse:
    """Recent activity of a run's stage. Times are Unix seconds.

    `heard` is the time of the last sign of any kind (0: none yet).
    `moved` is when progress last changed (0: not since something started).
    `at` is that progress: the step, and within it the task and its documents.
    `opening` means that the task has not finished a document yet.
    `gaps` are the seconds between changes, newest last.
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
        """Return the usual seconds between steps; None if too few were seen."""
        return median(self.gaps) if len(self.gaps) >= KNOWN else None

    @property
    def patience(self) -> float:
        """Return the seconds of silence that are suspicious."""
        is_starting = self.usual is None or not self.moved or self.opening
        least = STARTING if is_starting else SHORTEST
        return max(least, TIMES * (self.usual or 0.0), TWICE * max(self.gaps, default=0.0))

    def words(self, now: float) -> str:
        """Return a suspicious silence at `now` in words.

        Example: `sft silent for 25:10, usually 0:07`.
        Returns: "" if the silence is normal.
        """
        silent = now - self.heard
        if not self.heard or silent < self.patience:
            return ""
        usual = "" if self.usual is None else f", usually {text.duration(self.usual)}"
        starting = " while it starts" if self.opening or not self.moved else ""
        return f"{self.label} silent for {text.duration(silent)}{starting}{usual}"


def after(pulse: Pulse, record: Record) -> Pulse:
    """Return the pulse after `record`."""
    if isinstance(record, Scalar) and GPU_METRIC.match(record.metric):
        return pulse
    if isinstance(record, Event):
        match details_of(record):
            case CommandReceived() | LogLine(process="supervisor"):
                return pulse
            case ProgressReport() as report:
                return _moved(pulse, record, report)
            case StageChange():
                return Pulse(record.arm or record.stage, heard=record.ts)
        if record.kind in _ANNOUNCING:
            pulse = replace(pulse, moved=0.0)
    return replace(pulse, heard=_later(pulse.heard, record.ts))


def _later(known: float, ts: float) -> float:
    """Return the later time.

    Returns: `ts` if the clock was set back far enough for `known` to hide a silence.
    """
    return max(known, ts) if ts > known - SHORTEST else ts


def _moved(pulse: Pulse, event: Event, report: ProgressReport) -> Pulse:
    label, unit = event.arm or event.stage, report.unit
    if (label, unit) != (pulse.label, pulse.unit):
        # Its steps have another length.
        pulse = Pulse(label, unit, pulse.heard)
    part = report.part or Part("", "", -1, 0)
    at = (report.done, f"{part.arm} {part.name}", part.done)
    gap = event.ts - pulse.moved
    if at == pulse.at or _later(pulse.moved, event.ts) > event.ts:
        return pulse
    gaps = (*pulse.gaps, gap)[-RECENT:] if pulse.moved and gap >= 0 else pulse.gaps
    heard = _later(pulse.heard, event.ts)
    return replace(pulse, heard=heard, moved=event.ts, at=at, opening=part.done == 0, gaps=gaps)
