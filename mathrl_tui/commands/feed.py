"""A run's records as text: a line for each event, and one status line."""

from __future__ import annotations

import time
from collections.abc import Iterable

from mathrl_tui.core.stages import part_words
from mathrl_tui.core.text import duration, number
from store.records import Event, Part, Record, Scalar

# Seconds between two progress lines of the plain feed.
PROGRESS_SECONDS = 5.0
_SHOWN = (
    ("val/pass_at_1", "validation"),
    ("reward/mean", "reward"),
    ("train/loss", "loss"),
    ("train/tokens_per_second", "tokens/s"),
)


class Feed:
    """Fold of a run's records. `state` and `reason` are the latest ones; '' before the first."""

    def __init__(self, run_id: str, progress_lines: bool) -> None:
        """Create the feed; `progress_lines` prints progress as lines, for output that cannot be redrawn."""
        self._run_id = run_id
        self._progress_lines = progress_lines
        self._metrics: dict[str, float] = {}
        self._progress: Event | None = None
        self._stage = ""
        self._printed = 0.0
        self.state = ""
        self.reason = ""

    def take(self, records: Iterable[Record]) -> list[str]:
        """Fold `records` and return their lines, in order."""
        lines = []
        for record in records:
            if isinstance(record, Scalar):
                self._metrics[record.metric] = record.value
            elif isinstance(record, Event):
                text = self._told(record)
                if text:
                    lines.append(f"{time.strftime('%H:%M:%S', time.localtime(record.ts))} {text}")
        return lines

    def status(self) -> str:
        """Return the current progress of the run, on one line."""
        event = self._progress
        if event is None:
            return ": ".join(filter(None, (self._run_id, self.state or "starting", self._stage)))
        payload = event.payload
        parts = [
            f"{_label(event)} {payload.get('done', 0)}/{payload.get('total', '?')} {payload.get('unit', '')}".strip()
        ]
        if part := Part.of(payload):
            parts.append(part_words(part))
        for metric, word in _SHOWN:
            value = self._metrics.get(f"{event.arm}/{metric}")
            if value is not None:
                parts.append(f"{word} {number(value)}")
        if payload.get("eta_seconds") is not None:
            parts.append(f"{duration(payload['eta_seconds'])} left")
        if self.state not in ("", "running"):
            parts.append(self.state)
        return " · ".join(parts)

    def _told(self, event: Event) -> str:
        match event.kind:
            case "progress":
                return self._advanced(event)
            case "state":
                self.state, self.reason = (
                    str(event.payload.get("state", "")),
                    str(event.payload.get("reason") or ""),
                )
                return f"{self._run_id}: {self.state}" + (f" ({self.reason})" if self.reason else "")
            case "stage":
                self._progress = None
                return f"{_label(event)}: {event.payload.get('status', '')}" + (
                    f", {event.message}" if event.message else ""
                )
            case "checkpoint":
                return f"{_label(event)}: checkpoint at step {event.step}"
            case "process":
                return self._process(event)
            case "command":
                return f"command {event.payload.get('command', '')} from {event.payload.get('origin', '')}"
            case "phase":
                return f"{_label(event)}: {event.message or event.payload.get('phase', '')}".removeprefix(
                    ": "
                )
            case _:
                return event.message

    def _advanced(self, event: Event) -> str:
        self._progress = event
        finished = event.payload.get("done") == event.payload.get("total")
        # The clock can be set back.
        recent = 0 <= event.ts - self._printed < PROGRESS_SECONDS
        if not self._progress_lines or (recent and not finished):
            return ""
        self._printed = event.ts
        return self.status()

    def _process(self, event: Event) -> str:
        role, pid = event.payload.get("role", "?"), event.payload.get("pid", "?")
        if event.payload.get("alive"):
            return f"{role}: process {pid} started"
        reason = event.payload.get("reason") or event.message
        return f"{role}: process {pid} ended" + (f" ({reason})" if reason else "")


def _label(event: Event) -> str:
    return event.arm or event.stage
