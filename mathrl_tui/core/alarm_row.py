"""The alarms of all live runs as one line, and as rows of a list."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from mathrl_tui.core import palette, text
from mathrl_tui.core.spans import Row

# The watch reads the store, which the first paint does not load.
if TYPE_CHECKING:
    from mathrl_tui.core.alarm_watch import RunAlarm


# Cells of an alarm's words in the list; it fits a terminal of 80 columns.
LIST_WIDTH = 66


def since(moment: float) -> str:
    """Return a time of day; with the date if it is not today."""
    then, now = time.localtime(moment), time.localtime()
    return time.strftime("%H:%M:%S" if then[:3] == now[:3] else "%Y-%m-%d %H:%M", then)


def row(alarms: Sequence[RunAlarm], width: int) -> Row:
    """Return one line of `width` cells with the newest alarm.

    Returns: empty without alarms.
    """
    if not alarms:
        return []
    newest = alarms[-1]
    others = f" · {len(alarms) - 1} more" if len(alarms) > 1 else ""
    keys = f"{others} · A lists"
    head = f" {palette.state('failed').mark} {text.run_name(newest.run_id, 24)} since {since(newest.since)}: "
    room = max(width - len(head) - len(keys), 10)
    words = text.clip(text.one_line(newest.words), room)
    return [(head, f"bold {palette.BAD}"), (words, palette.BAD), (keys, palette.DIM)]


def list_rows(alarms: Sequence[RunAlarm], acknowledged: Collection[RunAlarm]) -> list[Row]:
    """Return the lines of each alarm, the newest first."""
    rows: list[Row] = []
    for alarm in sorted(alarms, key=lambda one: -one.since):
        is_known = alarm in acknowledged
        colour = palette.DIM if is_known else palette.BAD
        state = "acknowledged" if is_known else "new"
        rows += [
            [
                (f" {'·' if is_known else palette.state('failed').mark} {alarm.alarm:<18}", f"bold {colour}"),
                (f"since {since(alarm.since)}  {state}  ", palette.DIM),
                (text.one_line(alarm.run_id), palette.INK),
            ],
            *([(f"   {line}", colour)] for line in textwrap.wrap(text.one_line(alarm.words), LIST_WIDTH)),
        ]
    return rows or [[(" No alarms since this console was opened.", palette.DIM)]]
