"""Summary of a run's journal, read when a supervisor takes the run over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from engine.supervisor.seen_records import SeenRecords
from store.damage import Damage, joined
from store.events import LogLine, Place, details_of
from store.journal import START, scan
from store.records import Event, Record, RunRow, from_groups
from store.run_config import RunConfig, Step
from store.run_progress import RunProgress, after

PORTION_BYTES = 8 << 20


@dataclass(slots=True)
class JournalSummary:
    """What a supervisor must know of the journal of an earlier one.

    It holds the seen records, the registered plan, the progress and the damage.
    `damages` are the damaged places of the journal. `settled` are those with all rows in the journal
    again, and `named` those that the run's log already reports.
    """

    seen: SeenRecords
    plan: tuple[Step, ...] | None = None
    progress: RunProgress = field(default_factory=RunProgress)
    damages: list[Damage] = field(default_factory=list)
    settled: set[Place] = field(default_factory=set)
    named: set[Place] = field(default_factory=set)

    @property
    def unsettled(self) -> list[Damage]:
        """The damaged places that may have lost rows."""
        return [damage for damage in self.damages if damage.place not in self.settled]


def read_summary(journal: Path) -> JournalSummary:
    """Read the journal to its end, PORTION_BYTES at a time, to bound memory."""
    summary, position = JournalSummary(SeenRecords()), START
    while True:
        portion = scan(journal, position, PORTION_BYTES)
        if portion.end == position:
            summary.damages = joined(summary.damages)
            return summary
        summary.damages += portion.damages
        _remember(summary, from_groups(portion.groups))
        position = portion.end


def _remember(summary: JournalSummary, records: Iterable[Record]) -> None:
    for record in records:
        summary.seen.remember(record)
        if isinstance(record, RunRow):
            summary.plan = RunConfig.of(record.config).plan
        elif isinstance(record, Event):
            summary.progress = after(summary.progress, record)
            if isinstance(log := details_of(record), LogLine):
                summary.settled.update(log.settled or ())
                summary.named.update(log.damaged or ())
