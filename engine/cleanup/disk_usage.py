"""How much of the disk a home takes: by run, and by kind. Reads folders only, follows no link, imports nothing heavy.

Sizes are those of the files' contents, in bytes. What goes while it is looked at counts as nothing.
"""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.digests import of_model
from store.home import REMOVING, TRASH

# Kinds of a run's files, in the order of reports.
ROLLOUTS, CHECKPOINTS, OPTIMIZER, DAMAGED = "rollouts", "checkpoints", "optimizer", "damaged"
LOGS, JOURNAL, OTHER = "logs", "journal", "other"
RUN_KINDS = (ROLLOUTS, CHECKPOINTS, OPTIMIZER, DAMAGED, LOGS, JOURNAL, OTHER)
# Kinds of the home's other files.
STORE, CACHE, SET_ASIDE, REMOVED, COPIES = "store", "cache", "set aside", "removed runs", "copies"
HOME_KINDS = (STORE, CACHE, SET_ASIDE, REMOVED, COPIES)

ASIDE = re.compile(r"store\.duckdb.*\.damaged-")
COPY = re.compile(r"mathrl-copy-|store\.new-")
UNFINISHED = (".writing-", ".removed-")  # a checkpoint that a dead process was writing or deleting
HOUR = 3600.0


@dataclass(slots=True)
class Space:
    """Bytes of a home: of each run by kind, of the rest by kind, and of what was written in the last hour."""

    runs: dict[str, Counter[str]] = field(default_factory=dict)
    rest: Counter[str] = field(default_factory=Counter)
    last_hour: int = 0

    @property
    def total(self) -> int:
        """Bytes of everything."""
        return sum(self.by_kind().values())

    def by_kind(self) -> dict[str, int]:
        """Bytes by kind over all runs and the rest, the largest first."""
        kinds = Counter(self.rest)
        for run in self.runs.values():
            kinds.update(run)
        return {kind: size for kind, size in kinds.most_common() if size}

    def words(self, most: int = 4) -> str:
        """The sum and its `most` largest kinds in one line."""
        kinds = self.by_kind()
        listed = ", ".join(f"{kind} {readable(size)}" for kind, size in list(kinds.items())[:most])
        hour = f"; {readable(self.last_hour)} written in the last hour" if self.last_hour else ""
        return f"{readable(self.total)}" + (f" ({listed})" if listed else "") + hour


def measure(home: Path) -> Space:
    """Return the sizes of everything in `home`; nothing if it does not exist."""
    found = Space()
    since = time.time() - HOUR
    for path, status in files(home):
        parts = path.relative_to(home).parts
        if len(parts) > 2 and parts[0] in ("runs", "journal"):
            kind = JOURNAL if parts[0] == "journal" else kind_of(parts[2:])
            found.runs.setdefault(parts[1], Counter())[kind] += status.st_size
        else:
            found.rest[_kind_in_home(parts)] += status.st_size
        # The store is written anew in place.
        if status.st_mtime > since and parts[0] != "store.duckdb":
            found.last_hour += status.st_size
    return found


def kind_of(parts: tuple[str, ...]) -> str:
    """Return the kind of a file of a run, given by its path in the run's folder."""
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
    """Yield every file below `folder` with its status. Links and what cannot be read are passed over."""
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
    """Return bytes as people write them, 1 kB being 1,000."""
    for unit, digits in (("B", 0), ("kB", 0), ("MB", 0), ("GB", 1)):
        if size < 1000 or unit == "GB":
            return f"{size:,.{digits}f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")


def summed(kinds: Mapping[str, int]) -> int:
    """Return the bytes of all kinds."""
    return sum(kinds.values())


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
