"""Events that charts mark on their x-axis: checkpoints and resumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mathrl_tui.core import palette
from mathrl_tui.core.chart import Marker
from mathrl_tui.core.palette import Look
from store.events import StageChange, details_of
from store.records import Event

CHECKPOINT, RESUME = "c", "R"


def markers(events: Iterable[Event], looks: Mapping[str, Look]) -> tuple[Marker, ...]:
    """Return the markers of all arms in `looks`.

    A stage that starts again continues at the last checkpoint of its arm.
    """
    found: list[Marker] = []
    saved: dict[str, int] = {}
    started: set[str] = set()
    for event in events:
        look = looks.get(event.arm)
        if look is None:
            continue
        if event.kind == "checkpoint" and event.step >= 0:
            saved[event.arm] = event.step
            found.append(Marker(CHECKPOINT, look.colour, event.arm, event.step))
        elif event.kind == StageChange.KIND:
            details = details_of(event)
            if isinstance(details, StageChange) and details.status == "started":
                if event.arm in started and event.arm in saved:
                    found.append(Marker(RESUME, palette.WARN, event.arm, saved[event.arm]))
                started.add(event.arm)
    return tuple(found)
