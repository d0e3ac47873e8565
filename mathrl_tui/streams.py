"""The command line's output edge: nothing that it prints can control a terminal, but for what it emits itself.

Names, fields, file names, error texts of libraries and completions of models all pass here, so no command has to think
of it. JSON has its own escapes (`commands.printing`).
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from typing import TextIO

from store.wording import harmless


class HarmlessStream(TextIOWrapper):
    """A text stream that writes control characters as escapes, and what its encoding lacks too."""

    def __init__(self, stream: TextIOWrapper) -> None:
        """Take the place of `stream`, which is kept: it would close the file that both write to."""
        super().__init__(
            stream.buffer,
            encoding=stream.encoding,
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        self._replaced = stream

    def write(self, text: str) -> int:
        """Write `text`, harmless; return its length."""
        super().write(harmless(text))
        return len(text)

    def control(self, sequence: str) -> None:
        """Write a control sequence of this program's own as it is."""
        super().write(sequence)


def emit(sequence: str) -> None:
    """Write a control sequence of this program's own to stdout."""
    stream = sys.stdout
    if isinstance(stream, HarmlessStream):
        stream.control(sequence)
    else:
        stream.write(sequence)


def steady_streams() -> None:
    """Make the standard streams usable, whatever they are: closed ones lead nowhere, and no text harms a terminal.

    The descriptor of a closed one would be the next file's, the store's even, and take what libraries print.
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
