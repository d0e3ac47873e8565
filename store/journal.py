"""A run's journal: all records that its supervisor acknowledged.

It consists of segments `1.j`, `2.j`, … of 8 MB. One line is one batch (store/batches.py). A batch counts when
its line is complete; the `fdatasync` after it is the acknowledgement. Bytes after the last newline, left by a
writer that died, were never acknowledged. The next writer cuts them, and readers stop at the last newline. A
complete line that is damaged stays and is reported (store/damage.py). Segments are never deleted, so the
database can be rebuilt from them. Their numbers may have gaps.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from profiles.errors import OperationFailed
from store.batches import Group, decode, encode, place_of
from store.damage import Damage, joined, located
from store.private import FILE_MODE, make_folder, sync
from store.records import Record, from_groups

SEGMENT_BYTES = 8 << 20


class Position(NamedTuple):
    """A place between two batches: segment number and byte offset.

    Positions sort in the order of the batches.
    """

    segment: int
    offset: int


START = Position(1, 0)


class LastLine(NamedTuple):
    """The last line before a position: crc32 (with newline) and length.

    Zeros mean unknown.
    """

    crc: int = 0
    bytes: int = 0


class Portion(NamedTuple):
    """A part of a journal.

    It holds the groups of its batches, its damaged places, its end position, and the last line before that
    position.
    """

    groups: list[Group]
    damages: list[Damage]
    end: Position
    last_line: LastLine


class JournalBusy(OperationFailed, RuntimeError):
    """Another process writes this journal."""


class JournalWriter:
    """Appends batches to a run's journal.

    A run has one writer at a time: its supervisor.
    """

    def __init__(self, folder: Path, floor: Position = START, lock: int | None = None) -> None:
        """Open the newest segment and cut its torn tail.

        If the journal ends before `floor`, open a new segment after all others.

        Args:
            floor: how far the store has applied the journal; records appended below it would never be
                applied.
            lock: what `hold` returned, if the caller already holds the journal; the writer closes it.
        Raises: JournalBusy while another writer is alive.
        """
        self._folder = folder
        self._directory = hold(folder) if lock is None else lock
        self._segment = max(segments(folder), default=START.segment)
        content = _content(segment_path(folder, self._segment), 0)
        self._good = complete(content)
        # Bytes of an unacknowledged batch that were cut.
        self.cut = 0
        if self.position < floor:
            # The torn tail may belong to a batch that the store has applied. It stays, and counts as damage.
            self._segment, self._good = max(self._segment, floor.segment) + 1, 0
            self._file = self._open_segment()
            return
        self._file = self._open_segment()
        if self._good < len(content):
            self.cut = len(content) - self._good
            os.ftruncate(self._file, self._good)
            os.fsync(self._file)

    def append(self, records: Sequence[Record]) -> Position:
        """Write `records` as one batch, and return its end once it is on disk.

        Raises: OSError (such as a full disk), after cutting the journal back to its last good batch. Nothing
            is then acknowledged; the caller keeps the records and retries.
        """
        line = encode(records, *self.position)
        if self._good and self._good + len(line) > SEGMENT_BYTES:
            self._rotate()
            line = encode(records, *self.position)
        try:
            _write_whole(self._file, line, self._good)
            os.fdatasync(self._file)
        except OSError:
            os.ftruncate(self._file, self._good)
            raise
        self._good += len(line)
        return self.position

    @property
    def position(self) -> Position:
        """Return the end of the last acknowledged batch."""
        return Position(self._segment, self._good)

    def close(self) -> None:
        """Release the journal, so that another writer may open it."""
        os.close(self._file)
        os.close(self._directory)

    def __enter__(self) -> JournalWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open_segment(self) -> int:
        path = segment_path(self._folder, self._segment)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        # The segment's directory entry must be durable too.
        os.fsync(self._directory)
        return file

    def _rotate(self) -> None:
        finished = self._file
        self._segment += 1
        try:
            self._file = self._open_segment()
        except OSError:
            self._segment -= 1
            raise
        self._good = 0
        os.close(finished)


def hold(folder: Path) -> int:
    """Create the folder if needed, and lock out every writer.

    Close the returned descriptor to release the lock.

    Raises: JournalBusy while a writer is alive.
    """
    if not folder.exists():
        make_folder(folder)
        # The folder's name must survive a power failure, as its batches do.
        sync(folder.parent)
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JournalBusy(f"{folder}: another supervisor writes this journal; stop it first") from None
    return descriptor


def read(folder: Path, start: Position = START, limit: int | None = None) -> tuple[list[Record], Position]:
    """Return the records of complete batches after `start`, and the end."""
    portion = scan(folder, start, limit)
    return from_groups(portion.groups), portion.end


def scan(
    folder: Path,
    start: Position = START,
    limit: int | None = None,
    decoding: Callable[[bytes], list[Group] | None] = decode,
) -> Portion:
    """Return the batches and damaged places after `start`.

    No part of a damaged place is left out silently.

    Args:
        limit: bytes; reading ends after the segment that exceeds it.
        decoding: returns a line's groups, or None if the line counts as damaged.
    Raises: JournalVersion if a newer version wrote a batch.
    """
    groups: list[Group] = []
    damages: list[Damage] = []
    segment, offset = start
    last_line, done = LastLine(), 0
    # List the segments before reading. A segment is complete only if its successor existed before its end was
    # read.
    following = sorted(number for number in segments(folder) if number > segment)
    for successor in [*following, None]:
        content = _content(segment_path(folder, segment), offset)
        good = complete(content)
        batches, found = _decoded(folder, content[:good], Position(segment, offset), decoding)
        groups += batches
        if successor is not None and good < len(content):
            found.append(Damage(segment, offset + good, len(content) - good))
        if found:
            whole = _content(segment_path(folder, segment), 0)
            damages += (located(damage, whole) for damage in joined(found))
        if good:
            last = content[content.rfind(b"\n", 0, good - 1) + 1 : good]
            last_line = LastLine(zlib.crc32(last), len(last))
        offset, done = offset + good, done + good
        if successor is None or (limit is not None and done >= limit):
            break
        segment, offset, last_line = successor, 0, LastLine()
    return Portion(groups, damages, Position(segment, offset), last_line)


def _decoded(
    folder: Path, content: bytes, start: Position, decoding: Callable[[bytes], list[Group] | None]
) -> tuple[list[Group], list[Damage]]:
    """Return the groups and the damaged places of complete lines.

    The lines begin at `start`. Copies of other lines are left out.
    """
    groups: list[Group] = []
    found: list[Damage] = []
    segment, offset = start
    for line in content.split(b"\n")[:-1]:
        batch = decoding(line)
        if batch is None:
            found.append(Damage(segment, offset, len(line) + 1))
        elif not is_copy(folder, line, Position(segment, offset)):
            groups += batch
        offset += len(line) + 1
    return groups, found


def is_copy(folder: Path, line: bytes, here: Position) -> bool:
    """Return True if `line` also stands where it was written.

    `line` comes without its newline.

    A file system may repeat blocks of a file. Each copy has a valid checksum, and its rows would be duplicated.
    A line that only moved, because bytes before it were lost or inserted, is the only one of its kind.
    """
    place = place_of(line)
    if place is None or place == here:
        return False
    try:
        with segment_path(folder, place[0]).open("rb") as file:
            file.seek(place[1])
            return file.read(len(line) + 1) == line + b"\n"
    except OSError:
        return False


def complete(content: bytes) -> int:
    """Return how many bytes of `content` lie before the end of its last line.

    A last line without a line break does not count.
    """
    return content.rfind(b"\n") + 1


def last_line_at(folder: Path, position: Position, size: int) -> LastLine:
    """Return the last line, the `size` bytes before `position`.

    If they do not end a line, the result matches no line.
    """
    try:
        with segment_path(folder, position.segment).open("rb") as file:
            file.seek(position.offset - size)
            line = file.read(size)
    except (FileNotFoundError, ValueError, OSError):
        return LastLine(0, -1)
    return LastLine(zlib.crc32(line), size) if len(line) == size and line.endswith(b"\n") else LastLine(0, -1)


def segments(folder: Path) -> list[int]:
    """Return the segment numbers in `folder`, in any order.

    The list is empty if the folder does not exist.
    """
    try:
        return [int(path.stem) for path in folder.iterdir() if path.suffix == ".j" and path.stem.isdigit()]
    except FileNotFoundError:
        return []


def segment_path(folder: Path, segment: int) -> Path:
    """Return the path of segment number `segment`."""
    return folder / f"{segment}.j"


def has_more(folder: Path, position: Position) -> bool:
    """Return True if the journal has bytes after `position`.

    It reads file sizes only.
    """
    return size_of(folder, position.segment) > position.offset or any(
        number > position.segment for number in segments(folder)
    )


def size_of(folder: Path, segment: int) -> int:
    """Return the bytes of a segment; 0 if it does not exist."""
    try:
        return segment_path(folder, segment).stat().st_size
    except FileNotFoundError:
        return 0


def _content(path: Path, offset: int) -> bytes:
    """Return the content of `path` from `offset` to its end."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read()
    except FileNotFoundError:
        return b""


def _write_whole(file: int, line: bytes, offset: int) -> None:
    view = memoryview(line)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
