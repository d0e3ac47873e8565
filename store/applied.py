"""How far the store has applied each journal, and whether the journal is still the one that was applied.

Each transaction leaves a mark: the position that it reached, with the checksum and the length of the journal's last
line before it. A journal that ends before the mark, or holds another line there, is not the one that was applied: the
home was copied while a run was live, a backup was restored, or the file was cut. store/reconcile.py settles that.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import duckdb

from store.damage import Damage
from store.journal import Position, Tip, segment_path, size_of, tip_at

Signature = tuple[int, int, int]  # inode, time of change and size of a file


class Mark(NamedTuple):
    """Where the transaction `seq` left a run's journal."""

    seq: int
    position: Position
    tip: Tip

    def fits(self, folder: Path) -> bool:
        """Return True if the journal in `folder` holds, before the position, the line that was applied."""
        if size_of(folder, self.position.segment) < self.position.offset:
            return False
        # A version that kept no checksum left zeros; a fresh segment has no line before its beginning.
        return self.tip.bytes == 0 or tip_at(folder, self.position, self.tip.bytes) == self.tip


class Marks:
    """A run's marks: the last one of each segment."""

    def __init__(self) -> None:
        self._by_segment: dict[int, Mark] = {}

    def add(self, mark: Mark) -> None:
        """Add the last mark of a segment."""
        self._by_segment[mark.position.segment] = mark

    @property
    def last(self) -> Mark:
        """The mark of the newest transaction."""
        return max(self._by_segment.values())

    @property
    def highest_segment(self) -> int:
        """The highest number of a segment that was ever applied."""
        return max(self._by_segment)

    def fit(self, folder: Path) -> bool:
        """Return True if the journal is the one that was applied: its last line fits, no older segment is cut."""
        return self.last.fits(folder) and not self.cut(folder)

    def cut(self, folder: Path) -> dict[int, int]:
        """Return the sizes, by number, of the segments that end before their mark."""
        sizes = {segment: size_of(folder, segment) for segment in self._by_segment}
        return {
            segment: size
            for segment, size in sizes.items()
            if size < self._by_segment[segment].position.offset
        }

    def cover(self, damage: Damage, folder: Path) -> bool:
        """Return True if a damaged place was whole when the store applied it.

        The next mark behind the place fits, so the journal is the one that was applied; or its line lies in the place.
        """
        behind = [mark for mark in self._by_segment.values() if mark.position >= damage.end]
        if not behind:
            return False
        mark = min(behind, key=lambda mark: mark.position)
        segment, offset = mark.position
        overlaps = segment == damage.segment and offset - mark.tip.bytes < damage.offset + damage.bytes
        return overlaps or mark.fits(folder)


def marks_in(
    connection: duckdb.DuckDBPyConnection, run_id: str | None = None
) -> tuple[dict[str, Marks], int]:
    """Return the marks by run (or of `run_id`), and the number of the last transaction of all."""
    found = connection.execute(
        'SELECT run_id, segment, arg_max("offset", seq), arg_max(crc, seq), arg_max(line_bytes, seq), max(seq) '
        "FROM store.applied WHERE $run IS NULL OR run_id = $run GROUP BY run_id, segment",
        {"run": run_id},
    ).fetchall()
    marks: dict[str, Marks] = {}
    for run, segment, offset, crc, size, seq in found:
        marks.setdefault(run, Marks()).add(Mark(seq, Position(segment, offset), Tip(crc, size)))
    return marks, max((seq for *_, seq in found), default=0)


class Agreement:
    """Remembers which journals fit, so that an idle one is checked once and a live one by its last line."""

    def __init__(self, journals: Path) -> None:
        self._journals = journals
        self._known: dict[str, tuple[Mark, Signature]] = {}

    def holds(self, run_id: str, marks: Marks) -> bool:
        """Return True if the journal of `run_id` is the one that left `marks`."""
        folder, last = self._journals / run_id, marks.last
        now = last, _signature(segment_path(folder, last.position.segment))
        if self._known.get(run_id) == now:
            return True
        fits = last.fits(folder) if run_id in self._known else marks.fit(folder)
        if fits:
            self._known[run_id] = now
        else:
            self._known.pop(run_id, None)
        return fits


def _signature(path: Path) -> Signature:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0, 0
    return found.st_ino, found.st_mtime_ns, found.st_size
