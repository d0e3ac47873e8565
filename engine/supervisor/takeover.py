"""Take a run over: lock its journal, reconcile it, open it.

It is reconciled with the store, and opened for writing.
The journal may be damaged, or shorter than what the store has ingested. Rows that only the store has are then
written to the journal again first (store/reconcile.py). So a resumed stage does not record them twice.

If a damaged place cannot be filled, the run's log reports it once. Then the run's folder is compared with the journal
(engine/supervisor/proofs.py): evaluation tasks without all their records are repeated. Rows that are already known are
kept once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.plan import Step
from engine.supervisor.journal_summary import JournalSummary, read_summary
from engine.supervisor.proofs import settle
from store.damage import Damage
from store.database import Database
from store.errors import StoreError
from store.events import LogLine, Place
from store.home import RunFolder
from store.ingest import Ingester
from store.journal import START, JournalWriter, Position, hold, segments
from store.locks import LockBusy
from store.records import Event

PATIENCE_SECONDS = 5.0


@dataclass(slots=True)
class Takeover:
    """The open journal, its summary, and `events` that report findings."""

    journal: JournalWriter
    summary: JournalSummary
    events: list[Event] = field(default_factory=list)


def take_over(folder: RunFolder, plan: Sequence[Step]) -> Takeover:
    """Open the journal of a run with `plan` for its supervisor.

    Raises: store.journal.JournalBusy if another process holds it.
    """
    lock = hold(folder.journal)
    try:
        summary, before = read_summary(folder.journal), segments(folder.journal)
        floor, trouble = _reconciled(folder, lock, damaged=bool(summary.unsettled))
        events = [_log(trouble)] if trouble else []
        if len(segments(folder.journal)) != len(before):
            summary = read_summary(folder.journal)
        journal = JournalWriter(folder.journal, floor, os.dup(lock))
    finally:
        os.close(lock)
    if journal.cut:
        events.append(
            _log(f"removed {journal.cut:,} bytes of an unfinished batch from the end of the journal")
        )
    new = [damage for damage in summary.unsettled if damage.place not in summary.named]
    # The marks of evaluations are removed before the damage is reported: a crash in between then repeats both.
    proven = settle(folder, plan, summary, damaged=bool(new))
    if new:
        events.append(_damage_event(new))
    if proven.tasks:
        names = ", ".join(proven.tasks)
        events.append(_log(f"evaluated again, because the journal lacks records of them: {names}"))
    return Takeover(journal, summary, [*events, *proven.events])


def _reconciled(folder: RunFolder, lock: int, *, damaged: bool) -> tuple[Position, str]:
    """Reconcile store and journal.

    Return how far the store has ingested, and a reason if that is unknown.
    """
    if not (folder.home / "store.duckdb").exists():
        return START, ""
    try:
        reached = Ingester(Database(folder.home)).take_over(folder.run_id, lock, damaged, PATIENCE_SECONDS)
    except (StoreError, LockBusy, OSError) as error:
        # A new segment is safe, however far the store has ingested: the next ingest compares both.
        newest = max(segments(folder.journal), default=0)
        floor = Position(newest, sys.maxsize) if newest else START
        return floor, f"the store could not be compared with the journal: {str(error).splitlines()[0]}"
    return reached, ""


def _damage_event(damages: list[Damage]) -> Event:
    """Return the log event that names places that may have lost rows."""
    listed = "; ".join(damage.words() for damage in damages)
    return _log(
        f"the journal is damaged: {listed}. Rows may be missing: those of evaluations are made again, others are not",
        tuple(damage.place for damage in damages),
    )


def _log(message: str, damaged: tuple[Place, ...] | None = None) -> Event:
    return LogLine("warning", "supervisor", damaged=damaged).event(message)
