"""Following a run as it happens: the tail of its journal, without the database."""

from __future__ import annotations

from pathlib import Path

from store.journal import START, Position, has_more, read, segments
from store.records import Record


class LiveTail:
    """The records that a run journals from now on, or from `start`. An idle `poll` costs two stat calls."""

    def __init__(self, folder: Path, start: Position | None = None) -> None:
        """Follows the journal `folder` (`RunFolder.journal`), which need not be there yet."""
        self._folder = folder
        self.position = start if start is not None else end_of(folder)

    def poll(self) -> list[Record]:
        """What came since the last call; nothing, at once, when nothing did."""
        if not has_more(self._folder, self.position):
            return []
        records, self.position = read(self._folder, self.position)
        return records


def end_of(folder: Path) -> Position:
    """The position behind the last whole batch in `folder`."""
    last = max(segments(folder), default=START.segment)
    return read(folder, Position(last, 0))[1]
