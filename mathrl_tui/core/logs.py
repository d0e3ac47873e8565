"""Log lines: a run's events in words, and tails of log files."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from pathlib import Path

from engine.ipc.log_parts import part_before
from mathrl_tui.core import palette
from mathrl_tui.core.spans import Row
from mathrl_tui.core.text import harmless
from store.events import (
    AlarmRaised,
    CheckpointSaved,
    CommandReceived,
    LogLine,
    OtherDetails,
    PhaseChange,
    ProcessChange,
    StageChange,
    StateChange,
    details_of,
)
from store.records import Event

# Bytes at the end of a file that are read when it is opened.
FIRST_BYTES = 256 << 10
MOST_LINES = 5000
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")

_LEVELS = {"warning": ("!", palette.WARN), "error": ("✗", palette.BAD), "critical": ("✗", palette.BAD)}


def event_row(event: Event) -> Row:
    """Return an event as a line: time, mark, subject, words."""
    about = "/".join(part for part in (event.stage, event.arm) if part)
    mark, colour = " ", palette.INK
    match details_of(event):
        case LogLine(level, process):
            mark, colour = _LEVELS.get(level, (mark, colour))
            about = about or process
        case StateChange(word, _) | StageChange(word):
            look = palette.state(word)
            mark, colour = look.mark, look.colour
        case ProcessChange(alive=False):
            mark, colour = "■", palette.DIM
        case AlarmRaised():
            mark, colour = _LEVELS["error"]
    return [
        (time.strftime("%H:%M:%S ", time.localtime(event.ts)), palette.DIM),
        (f"{mark} ", colour),
        (f"{event.kind:<11}", palette.DIM),
        (f"{about:<15} ", palette.DIM),
        (words(event), colour),
    ]


def words(event: Event) -> str:
    """Return the event in words, on one line."""
    match details_of(event):
        case StateChange(state, reason):
            found = f"{state} {reason}"
        case StageChange(status):
            found = f"{status} {event.message}"
        case ProcessChange(role, pid, alive, reason):
            found = f"{role} {'alive' if alive else 'ended'}, pid {pid} {reason}"
        case CommandReceived(command, origin):
            found = f"{command} from {origin} {event.message}"
        case PhaseChange(phase, detail):
            found = f"{event.message or phase} {detail}"
        case CheckpointSaved(path):
            found = f"step {event.step}: {path or event.message}"
        case OtherDetails(values):
            found = event.message or ", ".join(f"{key} {value}" for key, value in values.items())
        case _:
            found = event.message
    return harmless(" ".join(found.split()))


def matching(rows: Iterable[Row], search: str) -> list[Row]:
    """Return the rows that contain `search`, ignoring case."""
    wanted = search.lower()
    return [row for row in rows if not wanted or wanted in "".join(part for part, _ in row).lower()]


class LogFile:
    """The growing end of a log file: its newest MOST_LINES full lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: list[str] = []
        self._offset = -1
        self._rest = b""

    def poll(self) -> bool:
        """Read what was written since the last poll.

        If a file became smaller, it was cut, and earlier lines are in another part. The end of that part is
        shown above the new lines.

        Returns: True if there was new text.
        """
        try:
            size = self.path.stat().st_size
        except FileNotFoundError:
            return False
        if size < self._offset:
            self._offset, self._rest, self.lines = 0, b"", self._lines_before()
        if self._offset < 0:
            self._offset = max(size - FIRST_BYTES, 0)
        if size == self._offset:
            return False
        with self.path.open("rb") as file:
            file.seek(self._offset)
            new = file.read(size - self._offset)
        self._offset = size
        whole, newline, self._rest = (self._rest + new).rpartition(b"\n")
        if newline:
            fresh = whole.decode("utf-8", "replace").split("\n")
            self.lines = (self.lines + [_last_of(line) for line in fresh])[-MOST_LINES:]
        return True

    def _lines_before(self) -> list[str]:
        before = part_before(self.path)
        earlier = LogFile(before) if before is not None else None
        return earlier.lines if earlier is not None and earlier.poll() else []


def _last_of(line: str) -> str:
    """Return the last state of a progress bar's line.

    Colours are removed, and tabs become spaces.
    """
    return harmless(_COLOURS.sub("", line.rstrip("\r").rpartition("\r")[2]).expandtabs(4))


def file_row(line: str) -> Row:
    """Return a line of a log file, coloured by the level that it contains."""
    for name, (_, colour) in _LEVELS.items():
        if name in line[:80].lower():
            return [(line, colour)]
    return [(line, palette.DIM if line.startswith(" ") else palette.INK)]


def log_files(folder: Path) -> list[Path]:
    """Return the log files of a run, sorted by name."""
    return sorted(path for path in folder.glob("*") if path.is_file())
