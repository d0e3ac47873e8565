"""Alarms of a run: diverging losses, hanging stages, process warnings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mathrl_tui.core import palette, text
from mathrl_tui.core.spans import Row
from mathrl_tui.core.stall import Pulse
from store.events import LogLine, details_of
from store.records import Event

# Curves need NumPy, which a command without curves does not load.
if TYPE_CHECKING:
    from mathrl_tui.core.run import RunSnapshot


# A value that is not finite means that the arm diverges.
_TELLING = ("train/loss", "train/grad_norm", "val/loss", "kl/mean")
_LOUD = frozenset({"warning", "error", "critical"})


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm of a run.

    `grave` means that the run fails unless a user acts. `remedy` is what to do while the run is live.
    `about` identifies an alarm if its words change over time.
    """

    words: str
    grave: bool = False
    remedy: str = ""
    about: str = ""

    @property
    def topic(self) -> str:
        """Return the identity of the alarm, which is constant while it lasts."""
        return self.about or self.words


def alarms(run: RunSnapshot, now: float) -> list[Alarm]:
    """Return the run's alarms; `now` is in Unix seconds.

    The order is diverging arms, a hanging stage, then warnings, newest first.
    """
    latest = {name: value.value for name, value in run.latest.items()}
    return [*diverging(latest), *silent(run.state, run.pulse, now), *warnings(run.log)]


def diverging(latest: Mapping[str, float]) -> list[Alarm]:
    """Return an alarm for each arm with a newest value that is not finite."""
    told: dict[str, Alarm] = {}
    for metric, value in latest.items():
        arm, _, name = metric.partition("/")
        if name in _TELLING and not math.isfinite(value):
            told.setdefault(arm, Alarm(f"{arm} diverges: {name} is {value}", True, "s stops the run"))
    return list(told.values())


def silent(state: str, pulse: Pulse, now: float) -> list[Alarm]:
    """Return an alarm if a running stage has been silent for too long.

    Otherwise the list is empty. The limit follows from the stage's usual pace; see `Pulse.patience`. `now` is
    in Unix seconds.
    """
    words = pulse.words(now) if state == "running" else ""
    about = f"{pulse.label} silent since {pulse.heard:.0f}"
    return [Alarm(words, True, "K kills, R resumes", about)] if words else []


def warnings(log: Iterable[Event]) -> list[Alarm]:
    """Return the warnings of the run's processes, newest first.

    Repeated warnings are left out.
    """
    lines = [(event, details) for event in log if isinstance(details := details_of(event), LogLine)]
    loud = [
        (event.arm or event.stage or line.process, event.message)
        for event, line in lines
        if line.level in _LOUD
    ]
    found = [text.one_line(f"{about}: {message}".removeprefix(": ")) for about, message in reversed(loud)]
    return [Alarm(words) for words in dict.fromkeys(found)]


def row(found: Sequence[Alarm], live: bool) -> Row:
    """Return one line: the first alarm, its remedy, and how many more.

    The remedy is included if the run is `live`. `found` must not be empty.
    """
    first = found[0]
    look = palette.state("failed") if first.grave else palette.Look("!", palette.WARN)
    remedy = f"; {first.remedy}" if first.remedy and live else ""
    others = f"  and {len(found) - 1} more" if len(found) > 1 else ""
    style = f"bold {look.colour}" if first.grave else look.colour
    return [(f" {look.mark} {first.words}{remedy}", style), (f"{others}; 6 shows the log", palette.DIM)]
