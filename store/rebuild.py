"""A damaged store.duckdb is made again from the journals, and set aside.

The new file is filled in a folder of its own while the damaged one stays in its place, and is renamed into that place
when it is whole: no reader ever sees half of it. The damaged file is kept as store.duckdb.damaged-….
"""

from __future__ import annotations

from collections.abc import Callable

import duckdb

from store.database import Database
from store.errors import StoreDamaged, StoreError
from store.home import RunFolder, removing, run_ids
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
    return f"{told}; no journal has the rows of {', '.join(lost)}" if lost else told


def _lost(database: Database) -> list[str]:
    """Runs that had rows in the damaged file, as far as it can be read, or a supervisor, and have no journal."""
    try:
        with database.reading() as connection:
            named = [
                run for (run,) in connection.execute("SELECT DISTINCT run_id FROM store.applied").fetchall()
            ]
    except (StoreError, duckdb.Error):
        named = []
    started = [run for run in run_ids(database.home) if _was_started(RunFolder(database.home, run))]
    lost = {*named, *started}.difference(removing(database.home))
    return sorted(run for run in lost if not any((database.home / "journal" / run).glob("*.j")))


def _was_started(folder: RunFolder) -> bool:
    return any((folder.path / name).is_dir() for name in ("finished", "checkpoints"))
