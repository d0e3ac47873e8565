"""The error that ended a process, as one line for display."""

from __future__ import annotations

import os
import re
from pathlib import Path

# Characters of a line.
LONGEST = 400
TAIL_BYTES = 256 << 10
_TRACEBACK = "Traceback (most recent call last):"


def fault_line(error: BaseException) -> str:
    """Return type, message and notes of `error` in one line."""
    words = [str(error), *getattr(error, "__notes__", [])]
    return _one_line(f"{type(error).__name__}: {' '.join(words).strip() or 'no message'}")


def last_error(text: str) -> str:
    """Return the error of the last traceback in `text`, else its last line.

    The result is empty for an empty text.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    if _TRACEBACK not in lines:
        return _one_line(lines[-1])
    start = len(lines) - lines[::-1].index(_TRACEBACK)
    end = next((number for number in range(start, len(lines)) if not lines[number].startswith(" ")), None)
    return _one_line(lines[-1] if end is None else lines[end])


def written_since(log: Path, start: int) -> str:
    """Return the text of a log from byte `start`, at most the last TAIL_BYTES.

    The result is empty if it is unreadable.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _one_line(text: str) -> str:
    line = re.sub(r"\s+", " ", text).strip()
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
