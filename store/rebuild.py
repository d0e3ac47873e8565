"""Rebuild of a damaged store.duckdb from the journals.

The new file is filled in a directory of its own while the damaged one stays in place. When complete, it is
renamed into place, so readers never see part of it. The damaged file is kept as store.duckdb.damaged-….
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
    """Replace the damaged file of `error` by one that `fill` makes.

    Call it with `store.lock` held.

    Returns: one line about what was done; empty if another process has replaced the file already.
    Raises: what `fill` raises; the damaged file is then still in place.
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
    line = f"{database.path} was damaged ({error}): renamed to {aside.name} and rebuilt from the journals"
    return f"{line}; the journals lack rows of {', '.join(lost)}" if lost else line


def _lost(database: Database) -> list[str]:
    """Return the runs with fewer rows in the journal than in the damaged file.

    If the damaged file cannot be read, these are the runs that have a checkpoint but no journal.
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
