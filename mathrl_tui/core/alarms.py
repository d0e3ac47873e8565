"""What should not be overlooked in a run: a loss that is no number any more, and what its processes warned of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mathrl_tui.core import palette
from mathrl_tui.core.run import RunSnapshot
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
    """One of them. `grave`: the run is spoilt if nobody does anything."""

    words: str
    grave: bool = False


def alarms(run: RunSnapshot) -> list[Alarm]:
    """The run's alarms: what diverges, then warnings, newest first."""
    latest = {name: value.value for name, value in run.latest.items()}
    return [*diverging(latest), *warnings(run.log)]


def diverging(latest: Mapping[str, float]) -> list[Alarm]:
    """An alarm for each arm of which a newest value is not finite."""
    told: dict[str, Alarm] = {}
    for metric, value in latest.items():
        arm, _, name = metric.partition("/")
        if name in _TELLING and not math.isfinite(value):
            told.setdefault(arm, Alarm(f"{arm} diverges: {name} is {value}", True))
    return list(told.values())


def warnings(log: Iterable[Event]) -> list[Alarm]:
    """What the run's processes warned of, newest first, each once."""
    loud = [event for event in log if event.kind == "log" and event.payload.get("level") in _LOUD]
    said = [f"{_about(event)}: {event.message}".removeprefix(": ") for event in reversed(loud)]
    return [Alarm(words) for words in dict.fromkeys(said)]


def _about(event: Event) -> str:
    return event.arm or event.stage or str(event.payload.get("process", ""))


def row(found: Sequence[Alarm], live: bool) -> Row:
    """The first alarm in a line, what can be done, and how many others there are; `found` is not empty."""
    first = found[0]
    look = palette.state("failed") if first.grave else palette.Look("!", palette.WARN)
    remedy = "; s stops the run" if first.grave and live else ""
    others = f"  and {len(found) - 1} more" if len(found) > 1 else ""
    style = f"bold {look.colour}" if first.grave else look.colour
    return [(f" {look.mark} {first.words}{remedy}", style), (f"{others}; 6 shows the log", palette.DIM)]
