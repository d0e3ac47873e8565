"""The command line's output streams, which never control a terminal.

Names, fields, file names, error texts of libraries and completions of models all pass through them. So
commands need no care of their own. Only `emit` writes control sequences. JSON has its own escapes
(`commands.printing`).
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import TextIO

from store.wording import harmless


class HarmlessStream(TextIOWrapper):
    """A text stream that escapes control characters and what it cannot encode."""

    def __init__(self, stream: TextIOWrapper) -> None:
        """Replace `stream`.

        A reference to it is kept, because its destructor would close the shared file.
        """
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self._replaced = stream

    def write(self, text: str) -> int:
        """Write `text` with control characters escaped; return its length."""
        super().write(harmless(text))
        return len(text)

    def control(self, sequence: str) -> None:
        """Write a control sequence of this program unchanged."""
        super().write(sequence)


def emit(sequence: str) -> None:
    """Write a control sequence of this program to stdout."""
    stream = sys.stdout
    if isinstance(stream, HarmlessStream):
        stream.control(sequence)
    else:
        stream.write(sequence)


def safe_streams() -> None:
    """Make the standard streams usable and harmless.

    A closed stream is replaced by /dev/null. Otherwise the next opened file, such as the store, would get its
    descriptor and receive what libraries print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC), mode))
    sys.stdout, sys.stderr = _harmless(sys.stdout), _harmless(sys.stderr)


def _harmless(stream: TextIO) -> TextIO:
    if not isinstance(stream, TextIOWrapper):
        return stream
    stream.flush()
    return HarmlessStream(stream)
