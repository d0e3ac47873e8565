"""A log of bounded size, in three parts: how it began, what came last but one, and what is being written.

    trainer.first.log      the first PART_BYTES: versions, devices, warnings of the start
    trainer.previous.log   the PART_BYTES before those in trainer.log
    trainer.log            the newest, PART_BYTES and what came since the last look

A process inherits the file and hands it on to others, so it cannot be given another one. Its content is copied away,
then it is cut to nothing: every writer has it open with O_APPEND and goes on at the new end. A line that is written
between the last look and the cut, some microseconds, can be lost.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from engine.processes.faults import written_since
from store.private import opener

PART_BYTES = 8 << 20
COPY_BYTES = 1 << 20
_FIRST, _PREVIOUS = ".first.log", ".previous.log"


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a log: bytes in its newest part, and which part came before that."""

    size: int
    before: tuple[int, int]


def growing_logs(folder: Path) -> list[Path]:
    """Return the logs in `folder` that are written to, by name."""
    return sorted(path for path in folder.glob("*.log") if not path.name.endswith((_FIRST, _PREVIOUS)))


def part_before(log: Path) -> Path | None:
    """Return the part that came before the newest, or None if nothing was cut yet."""
    return next((path for path in (_part(log, _PREVIOUS), _part(log, _FIRST)) if path.is_file()), None)


def rotate(log: Path, most: int = PART_BYTES) -> bool:
    """Cut `log` if it holds more than `most` bytes, and keep them in its parts; return True if it was cut.

    Raises: OSError if the parts cannot be written; the log is as it was then.
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
        else:  # it grew by more than a part since the last look
            with _becoming(first) as target:
                _copy(source, target, 0, most)
            last, start = previous, size - most
        with _becoming(last) as target:
            start = _copy(source, target, start)
        with last.open("ab") as rest:
            _copy(source, rest, start)
            os.ftruncate(source, 0)
    return True


def mark(log: Path) -> Mark:
    """Return the present end of `log`."""
    return Mark(log.stat().st_size if log.is_file() else 0, _identity(log))


def written_after(log: Path, begin: Mark) -> str:
    """Return the end of what was written to `log` behind `begin`, also if the log was cut meanwhile."""
    if _identity(log) == begin.before:
        return written_since(log, begin.size)
    before = part_before(log)
    return (written_since(before, 0) if before is not None else "") + written_since(log, 0)


def _part(log: Path, ending: str) -> Path:
    return log.with_name(log.stem + ending)


def _identity(log: Path) -> tuple[int, int]:
    """What tells one part before the newest from another."""
    before = part_before(log)
    if before is None:
        return 0, 0
    status = before.stat()
    return status.st_ino, status.st_mtime_ns


@contextmanager
def _becoming(part: Path) -> Iterator[BinaryIO]:
    """A file that replaces `part` when the block ends well."""
    draft = part.with_name(f".{part.name}")
    try:
        with open(draft, "wb", opener=opener) as file:
            yield file
        draft.replace(part)
    except OSError:  # a full disk gets its room back
        draft.unlink(missing_ok=True)
        raise


def _copy(source: int, target: BinaryIO, start: int, end: int = sys.maxsize) -> int:
    """Append bytes `start` to `end` of `source`, or to its own end, to `target`; return where they end."""
    while content := os.pread(source, min(COPY_BYTES, end - start), start):
        target.write(content)
        start += len(content)
    target.flush()
    return start
