"""When a run will end, as far as its stages tell."""

from __future__ import annotations

import time

from mathrl_tui.core import palette, text
from mathrl_tui.core.event_words import event_words
from mathrl_tui.core.run import RunSnapshot
from mathrl_tui.core.spans import Row
from store.records import LIVE_STATES
from store.run_progress import ENDED


def end_row(run: RunSnapshot, width: int, now: float) -> list[Row]:
    """Return one line: the time that the run has taken, and the time left.

    A stage that has not started has no pace, so the time left is then a lower bound.

    Returns: no line for a run that is not live.
    """
    if run.state not in LIVE_STATES:
        return []
    waiting = [step.label for step in run.board if step.status == "pending"]
    working = [step for step in run.board if step.status not in ENDED and step.status != "pending"]
    left = [step.remaining(now) for step in working]
    known = [seconds for seconds in left if seconds is not None]
    words = f"run {text.duration(now - run.created)}"
    if known and len(known) == len(left):
        words += f", left {'> ' if waiting else ''}{text.duration(sum(known))}"
    if waiting:
        words += f", then {', '.join(waiting)}"
    return [[(f" {text.clip(words, width - 2)}", palette.DIM)]]


def event_rows(run: RunSnapshot, width: int, most: int) -> list[Row]:
    """Return the last `most` events that have words, newest first.

    Each has its time.
    """
    with_words = [(event, words) for event in reversed(run.log) if (words := event_words(event))]
    rows: list[Row] = []
    for event, words in with_words[:most]:
        when = time.strftime("%H:%M:%S", time.localtime(event.ts))
        rows.append([(f" {when} ", palette.FAINT), (text.clip(words, width - 11), palette.DIM)])
    return rows
