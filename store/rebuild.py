"""A damaged store.duckdb is made again from the journals, and set aside.

The new file is filled in a folder of its own while the damaged one stays in its place, and is renamed into that place
when it is whole: no reader ever sees half of it. The damaged file is kept as store.duckdb.damaged-….
"""

from __future__ import annotations

from collections.abc import Callable

import duckdb

from store.applied import marks_in
from store.database import Database
from store.errors import StoreDamaged, StoreError
from store.home import RunFolder, removing, run_ids
from store.journal import segments
from store.scratch import scratch_folder


def rebuild(
    database: Database, error: StoreDamaged, patience: float, fill: Callable[[Database], None]
) -> str:
    """Replace the file that `error` is about by one that `fill` makes; return what was done in one line.

    Call it with `store.lock` held. The line is empty if another process has replaced the file already.

    Raises: what `fill` raises, with the damaged file still in its place.
    """
    if database.inode() != error.inode:
        return ""
    with scratch_folder(database.home) as folder:
        fresh = Database(database.home, folder)
        fill(fresh)
        lost = _lost(database)
        aside = database.replace(fresh.path, error.inode, patience)
    if aside is None:
        return ""
    told = (
        f"{database.path} was damaged ({error}): set aside as {aside.name} and made again from the journals"
    )
    return f"{told}; the journals lack rows of {', '.join(lost)}" if lost else told


def _lost(database: Database) -> list[str]:
    """Runs of which the journals lack rows that the damaged file had, as far as that can be read.

    If it cannot, these are the runs that got as far as a checkpoint and have no journal.
    """
    journals = database.home / "journal"
    try:
        with database.reading() as connection:
            marks, _ = marks_in(connection)
    except (StoreError, duckdb.Error):
        marks = {}
    shorter = [run for run, each in marks.items() if not each.fit(journals / run)]
    started = [run for run in run_ids(database.home) if _was_started(RunFolder(database.home, run))]
    lost = {*shorter, *(run for run in started if not segments(journals / run))}
    return sorted(lost.difference(removing(database.home)))


def _was_started(folder: RunFolder) -> bool:
    return any((folder.path / name).is_dir() for name in ("finished", "checkpoints"))
