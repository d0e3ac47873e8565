"""Disk usage of a home, by run and by kind.

It only reads directories, follows no link, and imports nothing slow. Sizes are those of the files' contents,
in bytes. A file that disappears during the measurement counts as 0.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.artifacts.digests import of_model
from store.home import REMOVING, TRASH

# Kinds of a run's files, in the order of reports.
ROLLOUTS, CHECKPOINTS, OPTIMIZER, DAMAGED = "rollouts", "checkpoints", "optimizer", "damaged"
LOGS, JOURNAL, OTHER = "logs", "journal", "other"
RUN_KINDS = (ROLLOUTS, CHECKPOINTS, OPTIMIZER, DAMAGED, LOGS, JOURNAL, OTHER)
# Kinds of the home's other files.
STORE, CACHE, SET_ASIDE, REMOVED, COPIES = "store", "cache", "set aside", "removed runs", "copies"

ASIDE = re.compile(r"store\.duckdb.*\.damaged-")
COPY = re.compile(r"mathrl-copy-|store\.new-")
# A checkpoint that a dead process was writing or deleting.
UNFINISHED = (".writing-", ".removed-")
HOUR = 3600.0


@dataclass(slots=True)
class Space:
    """Bytes of a home, by run and kind of file.

    Attributes:
        runs: run id → kind → bytes.
        rest: kind → bytes of everything outside the runs.
        last_hour: bytes written in the last hour.
    """

    runs: dict[str, Counter[str]] = field(default_factory=dict)
    rest: Counter[str] = field(default_factory=Counter)
    last_hour: int = 0

    @property
    def total(self) -> int:
        """Return the bytes of everything."""
        return sum(self.by_kind().values())

    def by_kind(self) -> dict[str, int]:
        """Return bytes by kind over runs and rest, the largest first."""
        kinds = Counter(self.rest)
        for run in self.runs.values():
            kinds.update(run)
        return {kind: size for kind, size in kinds.most_common() if size}

    def words(self, most: int = 4) -> str:
        """Return the total and its `most` largest kinds, in one line."""
        kinds = self.by_kind()
        listed = ", ".join(f"{kind} {readable(size)}" for kind, size in list(kinds.items())[:most])
        hour = f"; {readable(self.last_hour)} written in the last hour" if self.last_hour else ""
        return f"{readable(self.total)}" + (f" ({listed})" if listed else "") + hour


def measure(home: Path) -> Space:
    """Return the sizes of everything in `home`, empty if it does not exist."""
    found = Space()
    since = time.time() - HOUR
    for path, status in files(home):
        parts = path.relative_to(home).parts
        if len(parts) > 2 and parts[0] in ("runs", "journal"):
            kind = JOURNAL if parts[0] == "journal" else kind_of(parts[2:])
            found.runs.setdefault(parts[1], Counter())[kind] += status.st_size
        else:
            found.rest[_kind_in_home(parts)] += status.st_size
        # The store is rewritten in place.
        if status.st_mtime > since and parts[0] != "store.duckdb":
            found.last_hour += status.st_size
    return found


def kind_of(parts: tuple[str, ...]) -> str:
    """Return the kind of a run's file, given its path in the run's folder."""
    match parts:
        case ("rollouts", *_):
            return ROLLOUTS
        case ("logs", *_):
            return LOGS
        case ("checkpoints", _, folder, *_) if folder.startswith("damaged-"):
            return DAMAGED
        case ("checkpoints", *_):
            return CHECKPOINTS if of_model(parts[-1]) else OPTIMIZER
        case _:
            return OTHER


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if path.is_dir() and not path.is_symlink():
        return sum(status.st_size for _, status in files(path))
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield every file below `folder` with its status.

    Links and unreadable entries are skipped.
    """
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_symlink():
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from files(Path(entry.path))
            continue
        try:
            yield Path(entry.path), entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue


def readable(size: float) -> str:
    """Format bytes in decimal units: 1 kB is 1,000 bytes."""
    for unit, digits in (("B", 0), ("kB", 0), ("MB", 0), ("GB", 1)):
        if size < 1000 or unit == "GB":
            return f"{size:,.{digits}f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def _kind_in_home(parts: tuple[str, ...]) -> str:
    name = parts[0]
    if name == "cache" and any(part.startswith("damaged-") for part in parts):
        return SET_ASIDE
    if name.startswith((REMOVING, TRASH)):
        return REMOVED
    if ASIDE.match(name):
        return SET_ASIDE
    if COPY.match(name):
        return COPIES
    if name.startswith("store."):
        return STORE
    return CACHE if name == "cache" else OTHER
