"""Homes that are copied while live, moved, restored from an older copy, or lose a part."""

from __future__ import annotations

import random
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.faults.faultkind import Fault
from tests.faults.not_possible import NotPossible
from tests.faults.subject import Subject


def _copy_slowly(source: Path, target: Path, rng: random.Random) -> None:
    """Copy as rsync does: the list of names first, then file after file in order; what has gone is left out."""
    names = sorted(path.relative_to(source) for path in source.rglob("*"))
    pause = rng.choice((0.0, 0.002, 0.01))
    target.mkdir(parents=True)
    for name in names:
        time.sleep(pause)
        try:
            mode = (source / name).lstat().st_mode
            if stat.S_ISDIR(mode):
                (target / name).mkdir(parents=True, exist_ok=True)
            elif stat.S_ISLNK(mode):
                (target / name).symlink_to((source / name).readlink())
            elif stat.S_ISREG(mode):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, target / name)
        except FileNotFoundError:
            continue


@contextmanager
def _live_copy(subject: Subject, rng: random.Random, *, way: str) -> Iterator[str]:
    """The home is copied while the run writes, the machine of the original goes away, the copy goes on."""
    target = subject.disk / f"copy-{len(subject.notes)}-{rng.randrange(10**6)}"
    if way == "cp":
        subprocess.run(["cp", "-a", str(subject.home), str(target)], capture_output=True, check=False)
    else:
        _copy_slowly(subject.home, target, rng)
    for each in subject.processes():
        each.signal(9)
    subject.quiet()
    old = subject.home
    subject.move_to(target)
    shutil.rmtree(old)
    yield f"live copy by {way}, resumed from the copy"


@contextmanager
def _moved(subject: Subject, rng: random.Random) -> Iterator[str]:
    target = subject.disk / f"moved {rng.randrange(10**6)}" / "home"
    target.parent.mkdir()
    subject.home.rename(target)
    subject.move_to(target)
    yield f"home moved to {target.relative_to(subject.disk)}"


@contextmanager
def _store_deleted(subject: Subject, rng: random.Random) -> Iterator[str]:
    gone = rng.choice(
        ((".duckdb",), (".duckdb", ".duckdb.wal"), (".duckdb", ".duckdb.wal", ".lock", ".gate"))
    )
    for end in gone:
        (subject.home / f"store{end}").unlink(missing_ok=True)
    yield f"deleted: store {', '.join(gone)}"


@contextmanager
def _restored(subject: Subject, rng: random.Random, *, part: str) -> Iterator[str]:
    """A part of the home is set back to an older copy, after the run has gone on for a while."""
    places = {"journal": subject.journal_path, "run folder": subject.run_path, "store": subject.store}
    source = places.get(part, subject.home)
    if not source.exists():
        raise NotPossible(f"{source} is not there yet")
    backup = subject.folder / f"backup-{rng.randrange(10**6)}"
    _copy(source, backup)
    rows, again = sum(subject.journal.rows.values()), rng.randint(1, 600)
    if not subject.is_live():
        subject.resume()
    subject.watch(lambda: sum(subject.journal.rows.values()) > rows + again)
    way = subject.rest(rng)
    if source.is_dir():
        shutil.rmtree(source)
    _copy(backup, source)
    subject.journal.follow_from_end(subject.journal_path)
    if part in ("journal", "home"):
        subject.damaged.append("journal")
    yield f"{part} restored from a copy of before, {sum(subject.journal.rows.values()) - rows} rows later ({way})"


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        ignore = shutil.ignore_patterns("*.sock")
        shutil.copytree(source, target, symlinks=True, ignore=ignore, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)


FAULTS = (
    Fault("copies", "copied live by cp", partial(_live_copy, way="cp"), weight=2.0),
    Fault("copies", "copied live file by file", partial(_live_copy, way="rsync"), weight=2.0),
    Fault("copies", "moved", _moved, at_rest=True),
    Fault("copies", "store deleted", _store_deleted, at_rest=True),
    *(
        Fault("copies", f"{part} restored", partial(_restored, part=part), at_rest=True)
        for part in ("journal", "run folder", "store", "home")
    ),
)
