"""Removal of a run, its rollouts or its optimizer state (`rm`, `gc`).

The removal is checked first. It holds the run's lock, so that no supervisor starts. Files are first renamed
into the home's trash and so disappear at once. Deleting them takes longer and can be interrupted.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Literal

from engine.artifacts import digests
from engine.artifacts.arms import WEIGHTS_ONLY, checkpoint_folders
from engine.cleanup.disk_usage import OPTIMIZER, ROLLOUTS, files, kind_of
from engine.cleanup.run_users import dependents, has_ended, is_ending, user_of
from engine.ipc.pidfile import holder, lock_path
from engine.weight_sync.slots import remove_slots
from store.atomic import replace_text
from store.database import Database
from store.home import TRASH, RunFolder
from store.locks import LockBusy, is_locked, locked
from store.private import make_folder, write_text
from store.removal import RemovalRefused, remove

RemovedPart = Literal["all", "rollouts", "optimizer"]
PATIENCE = 5.0  # seconds for the store's locks
# A supervisor that has recorded the end of its run still brings the store up to date.
ENDING_SECONDS = 10.0
POLL_SECONDS = 0.05
LOCK_PATIENCE = 1.0  # others test a run's lock by taking it for some microseconds

__all__ = ["RemovalRefused", "RemovedPart", "chosen", "discard", "held", "needed_by", "remove_runs", "sizes"]


def sizes(home: Path, run_id: str) -> Counter[str]:
    """Return kind of file → bytes of a run, its journal included."""
    run = RunFolder(home, run_id)
    found: Counter[str] = Counter()
    for path, status in files(run.path):
        found[kind_of(path.relative_to(run.path).parts)] += status.st_size
    found["journal"] += sum(status.st_size for _, status in files(run.journal))
    return found


def chosen(kinds: Counter[str], what: RemovedPart) -> int:
    """Return the bytes that the removal of `what` frees, from bytes by kind."""
    return sum(kinds.values()) if what == "all" else kinds[ROLLOUTS if what == "rollouts" else OPTIMIZER]


def needed_by(home: Path, run_ids: Sequence[str]) -> list[str]:
    """Return one line for each other run that was made from one of `run_ids`."""
    return [
        f"run {other} was made from {run_id} ({', '.join(fields)})"
        for run_id in run_ids
        for other, fields in dependents(home, run_id).items()
        if other not in run_ids
    ]


def remove_runs(home: Path, run_ids: Sequence[str], what: RemovedPart) -> None:
    """Remove `what` of runs.

    Raises: RemovalRefused, with nothing changed, if one is in use; StoreError or OSError if the rest must
        wait.
    """
    with held(home, run_ids):
        if what == "all":
            remove(Database(home), list(run_ids), PATIENCE)
            for run_id in run_ids:
                remove_slots(run_id)
            return
        for run_id in run_ids:
            run = RunFolder(home, run_id)
            if what == "rollouts":
                discard(home, run.rollouts)
            else:
                for folder in checkpoint_folders(run):
                    _strip(folder)


def discard(home: Path, path: Path) -> None:
    """Delete a file or folder of the home; it disappears at once.

    The target of a link is kept.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if path.parent == home and path.name.startswith(TRASH):
        shutil.rmtree(path)
        return
    place = home / f"{TRASH}{os.getpid()}-{path.name}"
    make_folder(place)
    try:
        path.rename(place / path.name)
    except OSError as error:
        # This part of the home is on another disk.
        if error.errno != errno.EXDEV:
            raise
        shutil.rmtree(path)
    shutil.rmtree(place)


@contextmanager
def held(home: Path, run_ids: Sequence[str]) -> Iterator[None]:
    """Hold the locks of runs that nothing uses.

    Waits at most ENDING_SECONDS for a run that is ending.

    Raises: RemovalRefused if a run is in use.
    """
    with ExitStack() as stack:
        for run_id in run_ids:
            run = RunFolder(home, run_id)
            deadline = time.monotonic() + ENDING_SECONDS
            if run.path.is_dir():
                stack.enter_context(_locked(run, deadline))
            while is_ending(run) and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
            if user := user_of(run):
                raise RemovalRefused(f"run {run_id}: {user}; end it first")
            live = [o for o in dependents(home, run_id) if is_locked(lock_path(RunFolder(home, o)))]
            if live:
                raise RemovalRefused(
                    f"run {run_id}: the live run {live[0]} was made from it; wait for its end"
                )
        yield


@contextmanager
def _locked(run: RunFolder, deadline: float) -> Iterator[None]:
    """Hold a run's lock.

    Waits until `deadline` for the supervisor of a run that has ended.

    Raises: RemovalRefused if the run is in use.
    """
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(lock_path(run), patience=LOCK_PATIENCE))
                break
            except LockBusy:
                ended = has_ended(run)
                if not ended or time.monotonic() >= deadline:
                    raise RemovalRefused(f"run {run.run_id}: {_held_by(run, ended)}") from None
        yield


def _held_by(run: RunFolder, ended: bool) -> str:
    """Return which process keeps a run, and what to do."""
    process = holder(lock_path(run))
    pid = f" (PID {process.pid})" if process is not None else ""
    if not ended:
        return f"it is live{pid}; stop it first: mathrl-tui stop {run.run_id}"
    return (
        f"it has ended, but {ENDING_SECONDS:.0f} s later its supervisor{pid} has not exited; try again, or end it: "
        f"mathrl-tui kill {run.run_id}"
    )


def _strip(folder: Path) -> None:
    """Delete a checkpoint's optimizer state.

    The order keeps its weights usable if this is interrupted.
    """
    names = {path.name for path in folder.iterdir() if path.is_file() and not digests.of_model(path.name)}
    if not names:
        return
    write_text(folder / WEIGHTS_ONLY, "")
    listed = None
    # A damaged list stays as it is; the next use detects it.
    with suppress(digests.DamagedFile):
        listed = digests.without(folder, names)
    if listed is not None:
        replace_text(folder / digests.LIST, listed)
    for name in names:
        (folder / name).unlink()
