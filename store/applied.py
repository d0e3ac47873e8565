"""Marks: how far the store has applied each journal.

Each transaction writes a mark. It holds the position that the transaction reached, and the checksum and
length of the journal's last line before that position. A journal that ends before its mark, or has another
line there, is a different journal: someone copied the home during a run, restored a backup, or cut the file.
store/reconcile.py repairs this.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import duckdb

from store.damage import Damage
from store.journal import LastLine, Position, last_line_at, segment_path, size_of

# Inode, change time and size of a file.
FileState = tuple[int, int, int]


class AppliedMark(NamedTuple):
    """Position that transaction `seq` reached in a run's journal."""

    seq: int
    position: Position
    last_line: LastLine

    def fits(self, folder: Path) -> bool:
        """Return True if the journal in `folder` has this mark's line."""
        if size_of(folder, self.position.segment) < self.position.offset:
            return False
        # Earlier versions stored no checksum but zeros. A fresh segment has no line before its start.
        return (
            self.last_line.bytes == 0
            or last_line_at(folder, self.position, self.last_line.bytes) == self.last_line
        )


class AppliedMarks:
    """Marks of a run: the last one of each segment."""

    def __init__(self) -> None:
        self._by_segment: dict[int, AppliedMark] = {}

    def add(self, mark: AppliedMark) -> None:
        """Add the last mark of a segment."""
        self._by_segment[mark.position.segment] = mark

    @property
    def last(self) -> AppliedMark:
        """Return the mark of the newest transaction; at least one was added."""
        return max(self._by_segment.values())

    @property
    def highest_segment(self) -> int:
        """Return the highest segment number that was ever applied; see `last`."""
        return max(self._by_segment)

    def fit(self, folder: Path) -> bool:
        """Return True if the journal in `folder` is the one that was applied.

        Its last applied line must match, and no older segment may be cut.
        """
        return self.last.fits(folder) and not self.cut(folder)

    def cut(self, folder: Path) -> dict[int, int]:
        """Return the segments that end before their mark: number → size in bytes."""
        sizes = {segment: size_of(folder, segment) for segment in self._by_segment}
        return {
            segment: size
            for segment, size in sizes.items()
            if size < self._by_segment[segment].position.offset
        }

    def cover(self, damage: Damage, folder: Path) -> bool:
        """Return True if a damaged place was intact when the store applied it.

        That is so if the next mark after the place fits, or if that mark's line is within the place.
        """
        behind = [mark for mark in self._by_segment.values() if mark.position >= damage.end]
        if not behind:
            return False
        mark = min(behind, key=lambda mark: mark.position)
        segment, offset = mark.position
        overlaps = segment == damage.segment and offset - mark.last_line.bytes < damage.offset + damage.bytes
        return overlaps or mark.fits(folder)


def marks_in(
    connection: duckdb.DuckDBPyConnection, run_id: str | None = None
) -> tuple[dict[str, AppliedMarks], int]:
    """Return the marks by run, and the number of the last transaction.

    `run_id` selects one run's marks; the transaction number is always that of all runs.
    """
    found = connection.execute(
        'SELECT run_id, segment, arg_max("offset", seq), arg_max(crc, seq), arg_max(line_bytes, seq), max(seq) '
        "FROM store.applied WHERE $run IS NULL OR run_id = $run GROUP BY run_id, segment",
        {"run": run_id},
    ).fetchall()
    marks: dict[str, AppliedMarks] = {}
    for run, segment, offset, crc, size, seq in found:
        marks.setdefault(run, AppliedMarks()).add(
            AppliedMark(seq, Position(segment, offset), LastLine(crc, size))
        )
    return marks, max((seq for *_, seq in found), default=0)


class MarkCache:
    """Cache of which journals match their marks.

    An idle journal is checked once. A live one is checked by its last line.
    """

    def __init__(self, journals: Path) -> None:
        self._journals = journals
        self._known: dict[str, tuple[AppliedMark, FileState]] = {}

    def holds(self, run_id: str, marks: AppliedMarks) -> bool:
        """Return True if the journal of `run_id` is the one that left `marks`."""
        folder, last = self._journals / run_id, marks.last
        now = last, _file_state(segment_path(folder, last.position.segment))
        if self._known.get(run_id) == now:
            return True
        fits = last.fits(folder) if run_id in self._known else marks.fit(folder)
        if fits:
            self._known[run_id] = now
        else:
            self._known.pop(run_id, None)
        return fits


def _file_state(path: Path) -> FileState:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size


def offsets_in(
    connection: duckdb.DuckDBPyConnection, run_id: str | None = None
) -> tuple[dict[str, Position], int]:
    """Return how far each journal is applied, and the last transaction.

    `run_id` selects one run's position.
    """
    found = connection.execute(
        'SELECT run_id, arg_max(segment, seq), arg_max("offset", seq), max(seq) FROM store.applied '
        "WHERE $run IS NULL OR run_id = $run GROUP BY run_id",
        {"run": run_id},
    ).fetchall()
    position = {run: Position(segment, offset) for run, segment, offset, _ in found}
    return position, max((seq for *_, seq in found), default=0)
