"""Live records of a run: the tail of its journal, without the database."""

from __future__ import annotations

from pathlib import Path

from store.journal import START, Position, has_more, read, segments
from store.records import Record


class LiveTail:
    """Tail of a run's journal, from now on or from `start`.

    A `poll` without news costs two stat calls.
    """

    def __init__(self, folder: Path, start: Position | None = None) -> None:
        """Follow the journal directory `folder`, which may not exist yet."""
        self._folder = folder
        self.position = start if start is not None else end_of(folder)

    def poll(self) -> list[Record]:
        """Return the records since the last call; empty, at once, without news."""
        if not has_more(self._folder, self.position):
            return []
        records, self.position = read(self._folder, self.position)
        return records


def end_of(folder: Path) -> Position:
    """Return the position after the last complete batch in `folder`."""
    last = max(segments(folder), default=START.segment)
    return read(folder, Position(last, 0))[1]
