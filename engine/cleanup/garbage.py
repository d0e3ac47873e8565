"""Files of a home that nothing needs, which `gc` lists and removes.

Each is listed first, with its size and the reason. Three kinds of files are never listed: files of a live run,
answers of a paid teacher, and cached outputs that a run of this home would use. If the outputs of one run cannot
be determined, the whole cache is kept.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import chdir, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from engine.cleanup.disk_usage import ASIDE, UNFINISHED, readable, size_of
from engine.cleanup.removal import RemovalRefused, discard, held
from engine.context import StageFailed
from engine.ipc.pidfile import Process, lock_path
from profiles.errors import ProfileError
from store.database import Database
from store.errors import StoreError
from store.home import REMOVING, RunFolder, removing, trash
from store.locks import LockBusy, is_locked, locked
from store.removal import empty_trash, finish
from store.run_config import read_config
from store.scratch import FRESH_SECONDS, PREFIX

# Stages with cached outputs that can be made again.
STAGES = ("data", "traces", "preprocess")
# Seconds to wait for the store's lock.
PATIENCE = 5.0
NOTABLE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Leftover:
    """A file or directory that can be removed.

    `run` is the run that it belongs to; empty if it belongs to the home.
    """

    kind: str
    path: Path
    bytes: int
    run: str = ""


def garbage(home: Path) -> tuple[list[Leftover], list[str]]:
    """Return what nothing needs, and which parts were not checked.

    The second list has one line with the reason for each unchecked part.
    """
    cached, notes = _unused_cache(home)
    found = [*_of_home(home), *_of_runs(home), *cached]
    return found, notes


def free_blocks(home: Path) -> str:
    """Return one line about the free space inside store.duckdb.

    Returns: "" if it is less than NOTABLE_BYTES.
    """
    database = Database(home)
    if not database.path.exists():
        return ""
    try:
        with database.reading() as connection:
            blocks = connection.execute(
                "SELECT block_size * free_blocks FROM pragma_database_size() WHERE database_name = 'store'"
            ).fetchall()
    except (StoreError, duckdb.Error):
        return ""
    free = sum(count for (count,) in blocks)
    if free < NOTABLE_BYTES:
        return ""
    return (
        f"{database.path} has {readable(size_of(database.path))}, of which {readable(free)} are free inside: removed "
        "rows do not shrink the file, later rows use the space"
    )


def remove(home: Path, items: list[Leftover]) -> list[str]:
    """Remove `items`, and return a line for each that was kept.

    Raises: StoreError or OSError if the disk fails.
    """
    stayed = []
    if removing(home):
        try:
            with locked(home / "store.lock", patience=PATIENCE):
                finish(Database(home), PATIENCE)
        except LockBusy as busy:
            stayed.append(f"{busy}; try again after that")
    for item in items:
        if item.path.name.startswith(REMOVING):
            continue
        try:
            with held(home, [item.run]) if item.run else nullcontext():
                discard(home, item.path)
        except RemovalRefused as refusal:
            stayed.append(str(refusal))
    empty_trash(home)
    return stayed


def _of_home(home: Path) -> Iterator[Leftover]:
    for run_id in removing(home):
        yield _item("removed run", home / f"{REMOVING}{run_id}")
    for folder in trash(home):
        yield _item("removed run", folder)
    for path in sorted(home.glob("store.*")):
        if ASIDE.match(path.name):
            yield _item("damaged store, set aside", path)
        elif path.name.startswith("store.new-") and not _is_alive(path.name.removeprefix("store.new-")):
            yield _item("unfinished store", path)
    for folder in sorted(home.glob(f"{PREFIX}*")):
        if _is_left(folder):
            yield _item("copy of the store", folder)


def _of_runs(home: Path) -> Iterator[Leftover]:
    for folder in sorted((home / "runs").glob("*")):
        run = RunFolder(home, folder.name)
        if folder.is_symlink() or is_locked(lock_path(run)):
            continue
        for path in sorted(folder.glob("checkpoints/*/*")):
            if path.name.startswith("damaged-"):
                yield _item("damaged checkpoint, set aside", path, run.run_id)
            elif path.name.startswith(UNFINISHED):
                yield _item("unfinished checkpoint", path, run.run_id)
        for path in sorted(folder.glob("rollouts/*/.*.npz")):
            yield _item("unfinished rollouts", path, run.run_id)


def _unused_cache(home: Path) -> tuple[list[Leftover], list[str]]:
    entries = [path for stage in STAGES for path in sorted((home / "cache" / stage).glob("*"))]
    if not entries:
        return [], []
    used: set[Path] = set()
    notes = []
    for config in sorted((home / "runs").glob("*/run.json")):
        try:
            used |= _used_by(RunFolder(home, config.parent.name))
        except (OSError, ValueError, LookupError, TypeError, StageFailed, ProfileError) as error:
            notes.append(
                f"{home / 'cache'} is kept: what run {config.parent.name} uses of it cannot be determined ({error})"
            )
    items = []
    for path in entries:
        if path.name.startswith("damaged-"):
            items.append(_item("damaged output, set aside", path))
        elif ".tmp-" in path.name:
            if not _is_alive(path.name.rpartition(".tmp-")[2]):
                items.append(_item("unfinished output", path))
        elif not notes and path not in used:
            items.append(_item(f"output of {path.parent.name} that no run uses", path))
    return items, notes


def _used_by(run: RunFolder) -> set[Path]:
    """Return the cached outputs that a run would use if it were resumed."""
    # The import loads NumPy.
    from engine.data import locations

    config = read_config(run.config)
    profile = config.valid_profile
    kept = locations.stored_keys(run)
    if not config.folder:
        raise ValueError("its run.json has no field 'folder'")
    started = Path(config.folder)
    with chdir(started) if started.is_dir() else nullcontext():
        found = {
            locations.data_folder(run.home, profile, kept),
            locations.traces_folder(run.home, profile, kept),
        }
        # The run has no tokenizer yet, so no output was made with it.
        with suppress(StageFailed):
            found.add(locations.preprocess_folder(run, profile, kept))
        return found


def _item(kind: str, path: Path, run: str = "") -> Leftover:
    return Leftover(kind, path, size_of(path), run)


def _is_alive(words: str) -> bool:
    """Return True if the process with the number that starts `words` lives."""
    number = words.partition(".")[0]
    return number.isdigit() and Process.of(int(number)).is_alive


def _is_left(folder: Path) -> bool:
    """Return True if the process of a copy has exited.

    It held a shared lock on the folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return time.time() - os.fstat(descriptor).st_mtime > FRESH_SECONDS
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
