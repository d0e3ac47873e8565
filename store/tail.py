"""The end of a run's journal, read backwards in bounded time.

    … │ searched: only lines with state, stage or process events │ parsed: every record │ end

So the present of a run is known quickly, however long it has run. Every line of both parts is checked for
damage. This module does not need the database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from store.batches import Group, decode, is_whole
from store.damage import Damage, joined, located, settled_in
from store.journal import START, Position, complete, is_copy, segment_path, segments
from store.records import Record, from_groups

# About 0.15 s of parsing.
PARSED_BYTES = 4 << 20
# About 0.1 s of searching, if the file is in the page cache.
SEARCHED_BYTES = 64 << 20
# The kinds of events that are searched for, as they stand in a line of the journal.
_WANTED = (b'"state"', b'"stage"', b'"process"')


@dataclass(frozen=True, slots=True)
class Tail:
    """Records in their order, and the position after them.

    `is_whole` means that the journal has no others.
    `damages` are the damaged places of the part that was read, without those with rows that the journal
    holds again.
    """

    records: list[Record]
    end: Position
    is_whole: bool
    damages: list[Damage]


@dataclass(slots=True)
class _Part:
    """The part of a segment that was read."""

    groups: list[list[Group]] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    parsed: int = 0
    is_whole: bool = True


def read_tail(folder: Path, parsed_bytes: int = PARSED_BYTES, searched_bytes: int = SEARCHED_BYTES) -> Tail:
    """Return the records at the end of the journal `folder`.

    Args:
        parsed_bytes: all records of these last bytes are returned.
        searched_bytes: of these bytes before them, only state, stage and process events are returned.
    Both are rounded up to whole lines and segments.
    Raises: JournalVersion if a later version wrote the journal.
    """
    numbers = sorted(segments(folder), reverse=True)
    parts: list[_Part] = []
    end, read, parsed, is_whole = START, 0, 0, True
    for segment in numbers:
        if read >= parsed_bytes + searched_bytes:
            is_whole = False
            break
        content = _content(segment_path(folder, segment))
        read += len(content)
        # An unfinished last line comes from a writer that was killed. It is not damage.
        if segment == numbers[0]:
            content = content[: complete(content)]
            end = Position(segment, len(content))
        parts.append(_backwards(folder, segment, content, parsed_bytes - parsed))
        parsed += parts[-1].parsed
    parts.reverse()
    records = from_groups(group for part in parts for batch in part.groups for group in batch)
    whole = is_whole and all(part.is_whole for part in parts)
    return Tail(records, end, whole, _unsettled(parts, records))


def _backwards(folder: Path, segment: int, content: bytes, parsed_bytes: int) -> _Part:
    """Parse the last lines of a segment, and the wanted ones before them."""
    part = _Part()
    offset = complete(content)
    if offset < len(content):
        part.damages.append(Damage(segment, offset, len(content) - offset))
    for line in reversed(content[:offset].split(b"\n")[:-1]):
        size = len(line) + 1
        offset -= size
        if part.parsed >= parsed_bytes and not any(kind in line for kind in _WANTED):
            part.is_whole = False
            groups: list[Group] | None = [] if is_whole(line) else None
        else:
            part.parsed += size
            groups = decode(line)
        if groups is None:
            part.damages.append(Damage(segment, offset, size))
        elif groups and not is_copy(folder, line, Position(segment, offset)):
            part.groups.append(groups)
    part.groups.reverse()
    part.damages = [located(damage, content) for damage in joined(reversed(part.damages))]
    return part


def _unsettled(parts: Iterable[_Part], records: Iterable[Record]) -> list[Damage]:
    settled = settled_in(records)
    return [damage for part in parts for damage in part.damages if damage.place not in settled]


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    # The segment was removed after it was listed.
    except FileNotFoundError:
        return b""
