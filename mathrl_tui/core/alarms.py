"""What should not be overlooked: a loss that is no number, a stage that hangs, what a run's processes warned of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mathrl_tui.core import palette, text
from mathrl_tui.core.run import RunSnapshot
from mathrl_tui.core.silence import Pulse
from store.records import Event

Span = tuple[str, str]
Row = list[Span]

_TELLING = (
    "train/loss",
    "train/grad_norm",
    "val/loss",
    "kl/mean",
)  # where these are no numbers, an arm diverges
_LOUD = frozenset({"warning", "error", "critical"})


@dataclass(frozen=True, slots=True)
class Alarm:
    """One of them. `grave`: the run is spoilt if nobody does anything. `remedy`: what to do while the run lives.

    `about` tells alarms apart whose words change while they last.
    """

    words: str
    grave: bool = False
    remedy: str = ""
    about: str = ""

    @property
    def topic(self) -> str:
        """The same as long as the alarm is the same."""
        return self.about or self.words


def alarms(run: RunSnapshot, now: float) -> list[Alarm]:
    """The run's alarms: what diverges, what hangs, then warnings, newest first."""
    latest = {name: value.value for name, value in run.latest.items()}
    return [*diverging(latest), *silent(run.state, run.pulse, now), *warnings(run.log)]


def diverging(latest: Mapping[str, float]) -> list[Alarm]:
    """An alarm for each arm of which a newest value is not finite."""
    told: dict[str, Alarm] = {}
    for metric, value in latest.items():
        arm, _, name = metric.partition("/")
        if name in _TELLING and not math.isfinite(value):
            told.setdefault(arm, Alarm(f"{arm} diverges: {name} is {value}", True, "s stops the run"))
    return list(told.values())


def silent(state: str, pulse: Pulse, now: float) -> list[Alarm]:
    """An alarm where a run that should be at work has shown nothing for much longer than it usually does."""
    words = pulse.words(now) if state == "running" else ""
    about = f"{pulse.label} silent since {pulse.heard:.0f}"
    return [Alarm(words, True, "K kills, R resumes", about)] if words else []


def warnings(log: Iterable[Event]) -> list[Alarm]:
    """What the run's processes warned of, newest first, each once."""
    loud = [event for event in log if event.kind == "log" and event.payload.get("level") in _LOUD]
    said = [text.one_line(f"{_about(event)}: {event.message}".removeprefix(": ")) for event in reversed(loud)]
    return [Alarm(words) for words in dict.fromkeys(said)]


def _about(event: Event) -> str:
    return event.arm or event.stage or str(event.payload.get("process", ""))


def row(found: Sequence[Alarm], live: bool) -> Row:
    """The first alarm in a line, what can be done, and how many others there are; `found` is not empty."""
    first = found[0]
    look = palette.state("failed") if first.grave else palette.Look("!", palette.WARN)
    remedy = f"; {first.remedy}" if first.remedy and live else ""
    others = f"  and {len(found) - 1} more" if len(found) > 1 else ""
    style = f"bold {look.colour}" if first.grave else look.colour
    return [(f" {look.mark} {first.words}{remedy}", style), (f"{others}; 6 shows the log", palette.DIM)]
