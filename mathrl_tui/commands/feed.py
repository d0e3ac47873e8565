"""A run's records as text: a line for each event, and one status line."""

from __future__ import annotations

import time
from collections.abc import Iterable

from mathrl_tui.core.event_words import event_words
from mathrl_tui.core.stages import part_words
from mathrl_tui.core.text import duration, number
from store.events import (
    ProgressReport,
    StateChange,
    details_of,
)
from store.records import Event, Record, Scalar
from store.run_progress import RunProgress, after

# Seconds between two progress lines of the plain feed.
PROGRESS_SECONDS = 5.0
_SHOWN = (
    ("val/pass_at_1", "validation"),
    ("reward/mean", "reward"),
    ("train/loss", "loss"),
    ("train/tokens_per_second", "tokens/s"),
)


class Feed:
    """Turns a run's records into lines of text for a terminal."""

    def __init__(self, run_id: str, progress_lines: bool) -> None:
        """Create the feed.

        `progress_lines` prints progress as lines, for output that cannot be redrawn.
        """
        self._run_id = run_id
        self._progress_lines = progress_lines
        self._metrics: dict[str, float] = {}
        self._progress = RunProgress()
        self._printed = 0.0

    @property
    def state(self) -> str:
        """Return the run's newest state; "" before the first."""
        return self._progress.state

    @property
    def reason(self) -> str:
        """Return the reason of the newest state; "" if it has none."""
        return self._progress.reason

    def take(self, records: Iterable[Record]) -> list[str]:
        """Add `records` to the run's state; return the lines to print, in order."""
        lines = []
        for record in records:
            if isinstance(record, Scalar):
                self._metrics[record.metric] = record.value
            elif isinstance(record, Event):
                self._progress = after(self._progress, record)
                if text := self._line(record):
                    lines.append(f"{time.strftime('%H:%M:%S', time.localtime(record.ts))} {text}")
        return lines

    def status(self) -> str:
        """Return the current progress of the run, on one line."""
        step = self._progress.current
        if step is None or step.report is None or step.ended:
            return f"{self._run_id}: {self.state or 'starting'}"
        parts = [f"{step.label} {step.done}/{step.total or '?'} {step.unit}".strip()]
        if step.part:
            parts.append(part_words(step.part))
        for metric, word in _SHOWN:
            value = self._metrics.get(f"{step.arm}/{metric}")
            if value is not None:
                parts.append(f"{word} {number(value)}")
        if step.report.eta_seconds is not None:
            parts.append(f"{duration(step.report.eta_seconds)} left")
        if self.state not in ("", "running"):
            parts.append(self.state)
        return " · ".join(parts)

    def _line(self, event: Event) -> str:
        match details_of(event):
            case ProgressReport(done, total):
                return self._progress_line(event, done == total)
            case StateChange():
                return f"{self._run_id}: {self.state}" + (f" ({self.reason})" if self.reason else "")
            case _:
                return event_words(event)

    def _progress_line(self, event: Event, finished: bool) -> str:
        # The clock can be set back.
        recent = 0 <= event.ts - self._printed < PROGRESS_SECONDS
        if not self._progress_lines or (recent and not finished):
            return ""
        self._printed = event.ts
        return self.status()
