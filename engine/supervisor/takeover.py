"""A supervisor takes its run over: the journal is held, agreed with the store, and opened behind all that is known.

A journal may be shorter than what the store has applied, or damaged: then rows that only the store has are journaled
again first (store/reconcile.py), so that a resumed stage does not record them twice. Of a damaged place that cannot be
filled, the run's log says so once, and the evaluations are asked again: what they recorded is known and kept once.
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass, field

from engine.supervisor.past import Past, read_past
from store.damage import NAMED, Damage
from store.database import Database
from store.errors import StoreError
from store.home import RunFolder
from store.ingest import Ingester
from store.journal import START, JournalWriter, Position, hold, segments
from store.locks import LockBusy
from store.records import Event

PATIENCE_SECONDS = 5.0


@dataclass(slots=True)
class Takeover:
    """The open journal, what it says of the past, and `events` that tell what was found."""

    journal: JournalWriter
    past: Past
    events: list[Event] = field(default_factory=list)


def take_over(folder: RunFolder) -> Takeover:
    """Open the journal of a run for its supervisor. Raises: store.journal.JournalBusy."""
    lock = hold(folder.journal)
    try:
        past, before = read_past(folder.journal), segments(folder.journal)
        floor, trouble = _agreed(folder, lock, damaged=bool(past.unsettled))
        events = [_log(trouble)] if trouble else []
        if len(segments(folder.journal)) != len(before):
            past = read_past(folder.journal)
        journal = JournalWriter(folder.journal, floor, os.dup(lock))
    finally:
        os.close(lock)
    if journal.cut:
        events.append(_log(f"the journal ended in {journal.cut:,} bytes of an unfinished batch: cut"))
    new = [damage for damage in past.unsettled if damage.place not in past.named]
    if new:
        _ask_again(folder)  # before it is named: a death between repeats both
        events.append(_named(new))
    return Takeover(journal, past, events)


def _agreed(folder: RunFolder, lock: int, *, damaged: bool) -> tuple[Position, str]:
    """How far the store has applied the journal, once both hold the same rows; and why that is not known."""
    if not (folder.home / "store.duckdb").exists():
        return START, ""
    try:
        reached = Ingester(Database(folder.home)).take_over(folder.run_id, lock, damaged, PATIENCE_SECONDS)
    except (StoreError, LockBusy, OSError) as error:
        # A segment of its own is safe whatever the store has applied: the next ingest compares both.
        newest = max(segments(folder.journal), default=0)
        floor = Position(newest, sys.maxsize) if newest else START
        return floor, f"the store could not be compared with the journal: {str(error).splitlines()[0]}"
    return reached, ""


def _ask_again(folder: RunFolder) -> None:
    """Forget which evaluations are done."""
    finished = folder.path / "finished"
    (finished / "eval").unlink(missing_ok=True)
    shutil.rmtree(finished / "tasks", ignore_errors=True)


def _named(damages: list[Damage]) -> Event:
    """The log event that names damaged places of which rows may be missing."""
    listed = "; ".join(damage.words() for damage in damages)
    return _log(
        f"the journal is damaged: {listed}. Rows may be missing: evaluations are asked again, other rows do not come "
        "again",
        {NAMED: [list(damage.place) for damage in damages]},
    )


def _log(message: str, more: dict[str, object] | None = None) -> Event:
    return Event("log", message, payload={"level": "warning", "process": "supervisor", **(more or {})})
