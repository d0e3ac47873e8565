"""The end of a run's journal, read backwards: what a run is doing, in bounded time however long it has run.

    … │ sifted: only lines with events that tell the run's state │ read whole: every record │ end

Every line of both parts is checked for damage. Nothing here needs the database.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from store.batches import Group, decode, is_whole
from store.damage import Damage, joined, located, settled_in
from store.journal import START, Position, complete, segment_path, segments
from store.records import Record, from_groups

WHOLE_BYTES = 4 << 20  # some 0.15 s of parsing
SIFTED_BYTES = 64 << 20  # some 0.1 s of searching, from the page cache
_TELLING = (b'"state"', b'"stage"', b'"process"')  # kinds of event, as a line of the journal holds them


@dataclass(frozen=True, slots=True)
class Tail:
    """Records in their order, and the position behind them. `is_whole`: the journal holds no others.

    `damages` are the damaged places of the part that was read and whose rows are not journaled again behind them.
    """

    records: list[Record]
    end: Position
    is_whole: bool
    damages: list[Damage]


@dataclass(slots=True)
class _Part:
    """What was read of one segment, or of several: batches in order, damage, bytes parsed, and if all was parsed."""

    groups: list[list[Group]] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    parsed: int = 0
    is_whole: bool = True


def read_tail(folder: Path, whole_bytes: int = WHOLE_BYTES, sifted_bytes: int = SIFTED_BYTES) -> Tail:
    """Return the last `whole_bytes` of the journal `folder`, and the telling events of `sifted_bytes` before.

    Both are rounded up to whole lines and segments. Raises: JournalVersion.
    """
    numbers = sorted(segments(folder), reverse=True)
    parts: list[_Part] = []
    end, read, parsed, is_whole = START, 0, 0, True
    for segment in numbers:
        if read >= whole_bytes + sifted_bytes:
            is_whole = False
            break
        content = _content(segment_path(folder, segment))
        read += len(content)
        if segment == numbers[0]:  # what a dying writer left behind the last line is not damage
            content = content[: complete(content)]
            end = Position(segment, len(content))
        parts.append(_backwards(segment, content, whole_bytes - parsed))
        parsed += parts[-1].parsed
    parts.reverse()
    records = from_groups(group for part in parts for batch in part.groups for group in batch)
    whole = is_whole and all(part.is_whole for part in parts)
    return Tail(records, end, whole, _unsettled(parts, records))


def _backwards(segment: int, content: bytes, whole_bytes: int) -> _Part:
    """Parse the last `whole_bytes` of a segment's lines, and the telling ones before these."""
    part = _Part()
    offset = complete(content)
    if offset < len(content):
        part.damages.append(Damage(segment, offset, len(content) - offset))
    for line in reversed(content[:offset].split(b"\n")[:-1]):
        size = len(line) + 1
        offset -= size
        if part.parsed >= whole_bytes and not any(sign in line for sign in _TELLING):
            part.is_whole = False
            groups: list[Group] | None = [] if is_whole(line) else None
        else:
            part.parsed += size
            groups = decode(line)
        if groups is None:
            part.damages.append(Damage(segment, offset, size))
        elif groups:
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
    except FileNotFoundError:  # removed since it was listed
        return b""
