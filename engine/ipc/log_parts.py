"""A log of bounded size, in three parts.

They are the start, the previous part and the newest part.

    trainer.first.log      the first PART_BYTES: versions, devices, warnings of the start
    trainer.previous.log   the PART_BYTES before those in trainer.log
    trainer.log            the newest PART_BYTES, plus what was written since the last check

Processes inherit the open file and pass it on, so it cannot be replaced. Its content is copied to the parts
and then truncated. Every writer opened it with O_APPEND, so it continues at the new end. A line that is
written in the microseconds between the last read and the truncation can be lost.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine.ipc.faults import written_since
from store.atomic import replacing
from store.private import opener

PART_BYTES = 8 << 20
COPY_BYTES = 1 << 20
_FIRST, _PREVIOUS = ".first.log", ".previous.log"


@dataclass(frozen=True, slots=True)
class LogPosition:
    """A position in a log that is cut into parts.

    Attributes:
        size: bytes in the newest part.
        before: inode and mtime of the part before it; it changes when the log is cut.
    """

    size: int
    before: tuple[int, int]


def growing_logs(folder: Path) -> list[Path]:
    """Return the logs in `folder` that are being written, sorted by name."""
    return sorted(path for path in folder.glob("*.log") if not path.name.endswith((_FIRST, _PREVIOUS)))


def part_before(log: Path) -> Path | None:
    """Return the part before the newest, or None if the log was never cut."""
    return next((path for path in (_part(log, _PREVIOUS), _part(log, _FIRST)) if path.is_file()), None)


def remove_parts(log: Path) -> None:
    """Delete `log` and the parts before it."""
    for part in (log, _part(log, _FIRST), _part(log, _PREVIOUS)):
        part.unlink(missing_ok=True)


def rotate(log: Path, most: int = PART_BYTES) -> bool:
    """Move the content of `log` to its parts if it exceeds `most` bytes.

    Return True if it did.
    Raises: OSError if the parts cannot be written; the log is then unchanged.
    """
    if not log.is_file() or log.stat().st_size <= most:
        return False
    first, previous = _part(log, _FIRST), _part(log, _PREVIOUS)
    with log.open("rb+") as file:
        source = file.fileno()
        size = os.fstat(source).st_size
        if first.exists():
            last, start = previous, size - most
        elif size <= 2 * most:
            last, start = first, 0
        # The log grew by more than a part since the last check, so it fills both other parts.
        else:
            with _becoming(first) as target:
                _copy(source, target, 0, most)
            last, start = previous, size - most
        with _becoming(last) as target:
            start = _copy(source, target, start)
        with last.open("ab") as rest:
            _copy(source, rest, start)
            os.ftruncate(source, 0)
    return True


def mark(log: Path) -> LogPosition:
    """Return the present end of `log`."""
    return LogPosition(log.stat().st_size if log.is_file() else 0, _identity(log))


def written_after(log: Path, begin: LogPosition) -> str:
    """Return the end of the text written to `log` after `begin`.

    It is found even if the log was cut since.
    """
    if _identity(log) == begin.before:
        return written_since(log, begin.size)
    before = part_before(log)
    return (written_since(before, 0) if before is not None else "") + written_since(log, 0)


def _part(log: Path, ending: str) -> Path:
    return log.with_name(log.stem + ending)


def _identity(log: Path) -> tuple[int, int]:
    """Return inode and mtime (ns) of the part before the newest.

    The result is zeros if it does not exist.
    """
    before = part_before(log)
    if before is None:
        return 0, 0
    status = before.stat()
    return status.st_ino, status.st_mtime_ns


@contextmanager
def _becoming(part: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that replaces `part` if the block succeeds."""
    with replacing(part, durable=False) as draft, open(draft, "wb", opener=opener) as file:
        yield file


def _copy(source: int, target: BinaryIO, start: int, end: int = sys.maxsize) -> int:
    """Append bytes `start` to `end` (or end of file) of `source` to `target`.

    Return the end offset.
    """
    while content := os.pread(source, min(COPY_BYTES, end - start), start):
        target.write(content)
        start += len(content)
    target.flush()
    return start
