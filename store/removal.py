"""Removal of whole runs, safe against a crash at any moment.

    1  HOME/removing-RUN is made           readers hide the run; it is not ingested or resumed any more
    2  runs/RUN and journal/RUN go there
    3  HOME/removed/RUN is made, and its rows leave the store, in one transaction
    4  it is renamed to HOME/trash-RUN     the run now only takes disk space
    5  it is deleted

If the process dies after step 1, the next ingest of any process completes steps 2 to 4, and the next `rm` or
`gc` step 5. The journal moves before the rows leave the store. So a store that is rebuilt from the journals
agrees at every step. If an older store.duckdb is put back later, `drop_again` removes the rows of each run in
HOME/removed. It keeps those of a run that only lost its folder.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from profiles.errors import UserError
from store.database import Database
from store.errors import StoreError, StoreFull
from store.home import REMOVED, REMOVING, TRASH, RunFolder, removed, removing, returned, trash
from store.locks import LockBusy, locked
from store.private import make_folder, sync, touch
from store.schema import TABLES
from store.transaction import transaction

_FULL = (errno.ENOSPC, errno.EDQUOT)


class RemovalRefused(UserError, RuntimeError):
    """A run cannot be removed; nothing was changed.

    The message gives reason and remedy.
    """


def remove(database: Database, run_ids: list[str], patience: float) -> None:
    """Remove runs that are not in use, and delete their files.

    The caller holds each run's lock, so that no supervisor starts one of them at the same time.

    Raises:
        RemovalRefused with nothing changed.
        StoreError, OSError or duckdb.Error if the rest must wait; readers already hide the runs.
    """
    for run_id in run_ids:
        _check_place(RunFolder(database.home, run_id))
    try:
        with locked(database.home / "store.lock", patience=patience):
            for run_id in run_ids:
                make_folder(database.home / f"{REMOVING}{run_id}")
            sync(database.home)
            try:
                finish(database, patience)
            except (StoreFull, OSError) as error:
                if isinstance(error, OSError) and error.errno not in _FULL:
                    raise
                # Its own files are the room that the rest needs.
                for run_id in run_ids:
                    _empty(database.home / f"{REMOVING}{run_id}")
                finish(database, patience)
    except StoreError as error:
        raise StoreError(
            f"{error}. {', '.join(run_ids)}: already hidden from every list; the next command removes the rest"
        ) from error
    except LockBusy as busy:
        raise RemovalRefused(f"{busy}; nothing was removed: try again after that") from None
    empty_trash(database.home)


def finish(database: Database, patience: float) -> bool:
    """Complete removals that were begun, up to step 4.

    Call it with `store.lock` held.

    Returns: True if there were any.
    Raises: StoreError, OSError or duckdb.Error if one must wait.
    """
    begun = removing(database.home)
    for run_id in begun:
        _move(RunFolder(database.home, run_id))
        touch(database.home / REMOVED / run_id)
    if begun:
        sync(database.home / REMOVED)
        _delete_rows(database, begun, patience)
    for run_id in begun:
        (database.home / f"{REMOVING}{run_id}").rename(_free(database.home / f"{TRASH}{run_id}"))
    if begun:
        sync(database.home)
    return bool(begun)


def drop_again(database: Database, known: Collection[str], patience: float) -> list[str]:
    """Remove the rows of removed runs that an older store brought back.

    A run that has a folder or a journal again no longer counts as removed. Call it with `store.lock` held.

    Args:
        known: the ids of the runs that have rows in the store.
    Returns: the ids of the runs that were dropped.
    Raises: StoreError, OSError or duckdb.Error if it must wait.
    """
    for run_id in returned(database.home):
        (database.home / REMOVED / run_id).unlink(missing_ok=True)
    back = sorted(removed(database.home).intersection(known))
    if back:
        _delete_rows(database, back, patience)
    return back


def empty_trash(home: Path) -> None:
    """Delete the files of removed runs.

    A link is deleted, but not its target.
    """
    for folder in trash(home):
        _empty(folder)
        folder.rmdir()


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)


def _move(run: RunFolder) -> None:
    target = run.home / f"{REMOVING}{run.run_id}"
    for source, name in ((run.path, "run"), (run.journal, "journal")):
        if os.path.lexists(source):
            source.rename(target / name)
            sync(source.parent)
    sync(target)


def _delete_rows(database: Database, run_ids: list[str], patience: float) -> None:
    if not database.path.exists():
        return
    with database.writing(patience) as connection, transaction(connection):
        for table in TABLES:
            connection.execute(f"DELETE FROM store.{table} WHERE list_contains(?, run_id)", [run_ids])


def _check_place(run: RunFolder) -> None:
    """Reject a run with folders that cannot be renamed to the home.

    They are on another disk, or behind a link that leads out of the home.

    Raises: RemovalRefused.
    """
    device = run.home.stat().st_dev
    for folder in (run.path.parent, run.journal.parent):
        if folder.is_symlink() or (folder.is_dir() and folder.stat().st_dev != device):
            raise RemovalRefused(
                f"run {run.run_id}: {folder} leads out of the home {run.home}; make it a folder of the home first"
            )


def _free(path: Path) -> Path:
    """Return `path`, or the first free name after it."""
    number, free = 2, path
    while os.path.lexists(free):
        free = path.with_name(f"{path.name}.{number}")
        number += 1
    return free
