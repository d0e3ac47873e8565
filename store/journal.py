"""A run's journal: what its supervisor acknowledged, in segments `1.j`, `2.j`, … of 8 MB.

One line is one batch: the crc32 of the JSON in eight hexadecimal digits, a space, the JSON, a newline. The JSON is the
version and the groups of `to_groups`; a column of floats is the base64 of little-endian doubles, which takes a fifth of
the time that digits do. A batch counts when its line is whole; `fdatasync` behind it is the acknowledgement. What a
dying writer left behind the last whole line is cut when the next writer opens the journal, and readers never go past
the last whole line. Segments are kept for good: the database can be deleted and made again from them.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path
from struct import pack, unpack
from types import TracebackType
from typing import Any, NamedTuple

from store.private import FILE_MODE, make_folder
from store.records import VERSION, Record, completed, from_groups, to_groups

SEGMENT_BYTES = 8 << 20
CRC_BYTES = 9  # eight digits and a space


class Position(NamedTuple):
    """A place between two batches: segment number and byte offset in it. Positions order as the batches do."""

    segment: int
    offset: int


START = Position(1, 0)


class JournalBusy(RuntimeError):
    """Another process writes this journal."""


class JournalVersion(RuntimeError):
    """The journal was written by a newer version of this program."""


class JournalWriter:
    """Appends batches to one run's journal. A run has one writer at a time: its supervisor."""

    def __init__(self, folder: Path) -> None:
        """Opens the newest segment and cuts its torn tail. Raises JournalBusy while another writer lives."""
        if not folder.exists():
            make_folder(folder)
            _sync_directory(folder.parent)  # the folder's name must outlive a power cut as its batches do
        self._folder = folder
        self._directory = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._directory)
            raise JournalBusy(f"{folder}: another supervisor writes this journal; stop it first") from None
        self._segment = max(segments(folder), default=1)
        self._file = self._open_segment()
        content = segment_path(folder, self._segment).read_bytes()
        self._good = whole_lines(content)
        if self._good < len(content):
            os.ftruncate(self._file, self._good)
            os.fsync(self._file)

    def append(self, records: Sequence[Record]) -> Position:
        """Writes `records` as one batch and returns where it ends, once it is on the disk.

        Raises OSError (a full disk, say) with the journal cut back to its last good batch and nothing acknowledged:
        the caller keeps the records and tries again.
        """
        line = encode(records)
        if self._good and self._good + len(line) > SEGMENT_BYTES:
            self._rotate()
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
        """The end of the last acknowledged batch."""
        return Position(self._segment, self._good)

    def close(self) -> None:
        """Lets go of the journal; another writer may open it."""
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
        os.fsync(self._directory)  # and so must the segment's
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


def encode(records: Sequence[Record]) -> bytes:
    """`records` as one line of a journal. Half surrogate pairs, which no table can hold, become `?`."""
    batch = [VERSION, [[kind, *map(_packed, columns)] for kind, *columns in to_groups(records)]]
    body = json.dumps(batch, ensure_ascii=False, separators=(",", ":"), default=_plain).encode(
        "utf-8", "replace"
    )
    return b"%08x %b\n" % (zlib.crc32(body), body)


def _packed(column: list[Any]) -> list[Any] | str:
    """A column of floats as text, bit for bit; any other as it is."""
    if set(map(type, column)) != {float}:
        return column
    return b64encode(pack(f"<{len(column)}d", *column)).decode()


def _unpacked(column: list[Any] | str) -> list[Any]:
    """The column that `_packed` packed; one of version 1, which packed none, is as it is."""
    if not isinstance(column, str):
        return column
    content = b64decode(column)
    return list(unpack(f"<{len(content) // 8}d", content))


def _plain(value: Any) -> Any:
    """A NumPy or torch scalar as the Python number that it holds."""
    if not hasattr(value, "item"):
        raise TypeError(
            f"a record holds {value!r}, which no journal can: give numbers, text, lists and mappings"
        )
    return value.item()


def read(folder: Path, start: Position = START, limit: int | None = None) -> tuple[list[Record], Position]:
    """The records of the whole batches behind `start`, and the position behind them."""
    groups, end = read_groups(folder, start, limit)
    return from_groups(groups), end


def read_groups(
    folder: Path, start: Position = START, limit: int | None = None
) -> tuple[list[list[Any]], Position]:
    """Like `read`, with the records in the groups that `to_groups` made of them.

    `limit` (bytes) ends the reading behind the segment that passes it. A damaged line that has whole ones behind it
    is a fault of the disk: it is left out.
    """
    groups: list[list[Any]] = []
    segment, offset = start
    done = 0
    # Listed before the reading: a segment is done with only if its successor was there before its end was read.
    last = max(segments(folder), default=segment)
    while True:
        content = _content(segment_path(folder, segment), offset)
        good = whole_lines(content)
        groups += decode(content[:good])
        offset, done = offset + good, done + good
        if segment >= last or (limit is not None and done >= limit):
            return groups, Position(segment, offset)
        segment, offset = segment + 1, 0


def decode(content: bytes) -> list[list[Any]]:
    """The groups of whole lines. Raises JournalVersion for a batch that a newer program wrote."""
    groups: list[list[Any]] = []
    for line in content.split(b"\n"):
        if not _is_whole(line):
            continue
        version, batch = json.loads(line[CRC_BYTES:])
        if version > VERSION:
            raise JournalVersion(f"journal version {version} is newer than {VERSION}; update mathrl-tui")
        groups += (completed([kind, *map(_unpacked, columns)]) for kind, *columns in batch)
    return groups


def whole_lines(content: bytes) -> int:
    """Bytes of `content` up to the end of its last whole line."""
    end = content.rfind(b"\n") + 1
    while end:
        begin = content.rfind(b"\n", 0, end - 1) + 1
        if _is_whole(content[begin : end - 1]):
            return end
        end = begin
    return 0


def segments(folder: Path) -> list[int]:
    """Numbers of the segments in `folder`, in no particular order; none where there is no folder."""
    try:
        return [int(path.stem) for path in folder.iterdir() if path.suffix == ".j" and path.stem.isdigit()]
    except FileNotFoundError:
        return []


def segment_path(folder: Path, segment: int) -> Path:
    """Where segment number `segment` lies."""
    return folder / f"{segment}.j"


def has_more(folder: Path, position: Position) -> bool:
    """Whether anything lies behind `position`: two stat calls, no reading."""
    try:
        size = segment_path(folder, position.segment).stat().st_size
    except FileNotFoundError:
        size = 0
    return size > position.offset or segment_path(folder, position.segment + 1).exists()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_whole(line: bytes) -> bool:
    return line[:CRC_BYTES] == b"%08x " % zlib.crc32(line[CRC_BYTES:])


def _content(path: Path, offset: int) -> bytes:
    """`path` from `offset` to its end."""
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
