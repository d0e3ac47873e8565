"""Acknowledge the damage of journals: reports leave it out from then on.

The damaged bytes stay. The acknowledgement is a log event in the run's journal, so it moves with the home and outlives
a store that is made again. Damage that comes later is shown again.
"""

from __future__ import annotations

import os
from pathlib import Path

from store.database import Database
from store.events import LogLine
from store.home import RunFolder
from store.ingest import Ingester
from store.inspection import journal_damage
from store.journal import START, JournalWriter, hold
from store.query import Store

PATIENCE_SECONDS = 5.0


def acknowledge(home: Path, run_id: str) -> int:
    """Record that the user knows the damage of the run's journal.

    Returns: the number of damaged places.

    Raises: store.journal.JournalBusy while the run is live; StoreError, LockBusy or OSError.
    """
    folder = RunFolder(home, run_id).journal
    store = Store(home)
    seen = journal_damage(folder)
    damages = [*store.damages(run_id).get(run_id, []), *seen.damages]
    places = sorted({damage.place for damage in damages if not seen.words(damage.place)})
    if not places:
        return 0
    lock = hold(folder)
    try:
        floor = START
        if store.database.path.exists():
            floor = Ingester(Database(home)).take_over(run_id, lock, False, PATIENCE_SECONDS)
        with JournalWriter(folder, floor, os.dup(lock)) as writer:
            size = sum(size for *_, size in places)
            message = f"damage of the journal acknowledged: {len(places)} places, {size:,} bytes"
            writer.append([LogLine("info", "doctor", acknowledged=tuple(places)).event(message)])
    finally:
        os.close(lock)
    store.catch_up()
    return len(places)
