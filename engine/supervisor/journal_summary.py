"""Summary of a run's journal, read when a supervisor takes the run over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from engine.supervisor.seen_records import SeenRecords
from store.damage import Damage, joined
from store.events import CheckpointSaved, LogLine, Place, details_of
from store.journal import START, scan
from store.records import Event, Record, RunRow, from_groups
from store.run_config import RunConfig, Step
from store.run_progress import RunProgress, after

PORTION_BYTES = 8 << 20


@dataclass(slots=True)
class JournalSummary:
    """What a supervisor must know of a run's journal before it continues it.

    Attributes:
        seen: the records that the journal has.
        plan: the registered plan; None if the journal has no registration.
        damages: damaged places of the journal.
        settled: damaged places that need no report: the journal has all their rows again, or the user
            acknowledged them.
        named: damaged places that the run's log already reports.
        checkpoints: (arm, step) of the recorded checkpoints.
        lost: (arm, step) of checkpoints that were reported to be ahead of the journal.
    """

    seen: SeenRecords
    plan: tuple[Step, ...] | None = None
    progress: RunProgress = field(default_factory=RunProgress)
    damages: list[Damage] = field(default_factory=list)
    settled: set[Place] = field(default_factory=set)
    named: set[Place] = field(default_factory=set)
    checkpoints: set[tuple[str, int]] = field(default_factory=set)
    lost: set[tuple[str, int]] = field(default_factory=set)

    @property
    def unsettled(self) -> list[Damage]:
        """The damaged places that may have lost rows."""
        return [damage for damage in self.damages if damage.place not in self.settled]

    def remember(self, records: Iterable[Record]) -> None:
        """Add records that are in the journal."""
        for record in records:
            self.seen.remember(record)
            if isinstance(record, RunRow):
                self.plan = RunConfig.of(record.config).plan
            elif isinstance(record, Event):
                self._remember_event(record)

    def _remember_event(self, event: Event) -> None:
        self.progress = after(self.progress, event)
        match details_of(event):
            case CheckpointSaved():
                self.checkpoints.add((event.arm, event.step))
            case LogLine() as log:
                self.settled.update(log.settled or (), log.acknowledged or ())
                self.named.update(log.damaged or ())
                if log.lost:
                    self.lost.add((event.arm, log.lost))


def read_summary(journal: Path) -> JournalSummary:
    """Read the journal to its end, PORTION_BYTES at a time, to bound memory."""
    summary, position = JournalSummary(SeenRecords()), START
    while True:
        portion = scan(journal, position, PORTION_BYTES)
        if portion.end == position:
            summary.damages = joined(summary.damages)
            return summary
        summary.damages += portion.damages
        summary.remember(from_groups(portion.groups))
        position = portion.end
