"""How far a run is: what its journal holds, read line by line as it grows.

An own reader of the documented line (crc32, a space, JSON, a newline), so that a fault in the product's reader cannot
hide itself from the campaign.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode
from collections import Counter
from collections.abc import Hashable
from pathlib import Path
from struct import unpack
from typing import Any, NamedTuple

Identity = tuple[Hashable, ...]


class Span(NamedTuple):
    """A stage in the journal: rows before it, rows behind it, when it began and ended (Unix seconds)."""

    first: int
    last: int
    began: float
    ended: float


class JournalView:
    """Follows the journal of one run. `rows` counts the scalars and examples seen, by identity."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: Counter[Identity] = Counter()
        self.stages: dict[tuple[str, str], str] = {}  # (stage, arm): last status
        self.spans: dict[tuple[str, str], Span] = {}
        self.state = ""
        self.reason = ""
        self.events: list[dict[str, Any]] = []  # log events: {level, message}
        self._read: dict[Path, int] = {}

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(path.stat().st_size for path in self._segments())

    def poll(self) -> bool:
        """Read what is new. Return whether anything was."""
        grown = False
        for path in self._segments():
            try:
                with path.open("rb") as file:
                    file.seek(self._read.get(path, 0))
                    content = file.read()
            except FileNotFoundError:
                continue
            end = content.rfind(b"\n") + 1
            for line in content[:end].splitlines():
                self._take(line)
            self._read[path] = self._read.get(path, 0) + end
            grown = grown or end > 0
        return grown

    def follow_from_end(self, folder: Path) -> None:
        """Go on with another journal (a copy, or the same one changed at rest), from its present end."""
        self.folder = folder
        self._read = {path: path.stat().st_size for path in self._segments()}

    def _segments(self) -> list[Path]:
        found = [path for path in self.folder.glob("*.j") if path.stem.isdigit()]
        return sorted(found, key=lambda path: int(path.stem))

    def _take(self, line: bytes) -> None:
        if line[:9] != b"%08x " % zlib.crc32(line[9:]):
            return
        _, groups, *_ = json.loads(line[9:])
        for kind, *columns in groups:
            if kind == "scalar":
                self.rows.update(zip(["scalar"] * len(columns[0]), columns[0], columns[1], strict=True))
            elif kind == "example":
                self.rows.update(zip(["example"] * len(columns[0]), *columns[:5], strict=True))
            elif kind == "event":
                for name, message, stage, arm, _, payload, ts in zip(
                    *columns[:6], _floats(columns[6]), strict=True
                ):
                    self._event(name, message, (stage, arm), payload, ts)

    def _event(
        self, name: str, message: str, stage: tuple[str, str], payload: dict[str, Any], ts: float
    ) -> None:
        if name == "state":
            self.state, self.reason = payload["state"], payload["reason"]
        elif name == "stage":
            self.stages[stage] = payload["status"]
            if payload["status"] == "started":
                self.spans[stage] = Span(len(self.rows), len(self.rows), ts, ts)
            elif stage in self.spans:
                first, began = self.spans[stage].first, self.spans[stage].began
                self.spans[stage] = Span(first, len(self.rows), began, ts)
        elif name == "log":
            self.events.append({"level": payload.get("level", ""), "message": message})


def _floats(column: list[float] | str) -> list[float]:
    """A column of floats: a list, or the base64 of little-endian doubles."""
    if isinstance(column, list):
        return column
    content = b64decode(column)
    return list(unpack(f"<{len(content) // 8}d", content))
