"""Content of one ingest transaction, from the journals of all runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from store.damage import Damage
from store.events import SETTLED
from store.incoming import gather
from store.journal import START, LastLine, Portion, Position, has_more, scan
from store.naming import journaled
from store.schema import KINDS, TableColumns, columns_of

# A transaction that has read this many journal bytes takes no further run.
TRANSACTION_BYTES = 4 << 20

_PAYLOAD = KINDS["event"][1].index("payload")


@dataclass(slots=True)
class Batch:
    """Content of one transaction: records by kind and field, and positions.

    Each record has its run. The positions are those that each run's journal reaches.
    """

    values: dict[str, list[list[Any]]] = field(default_factory=dict)
    run_ids: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    reached: dict[str, tuple[Position, LastLine]] = field(default_factory=dict)
    damages: list[tuple[str, Damage]] = field(default_factory=list)
    # Runs with rows that were journaled again.
    again: set[str] = field(default_factory=set)

    def add(self, run_id: str, portion: Portion) -> None:
        """Add a portion of one run's journal."""
        for kind, *columns in portion.groups:
            if kind == "event" and any(SETTLED in payload for payload in columns[_PAYLOAD]):
                self.again.add(run_id)
            self.run_ids[kind] += [run_id] * len(columns[0])
        gather(portion.groups, self.values)
        self.reached[run_id] = portion.end, portion.last_line
        self.damages += ((run_id, damage) for damage in portion.damages)

    def tables(self) -> dict[str, TableColumns]:
        """Return the columns to insert, by table."""
        return {
            KINDS[kind][0]: columns_of(kind, self.run_ids[kind], values)
            for kind, values in self.values.items()
        }

    def marks(self, seq: int, now: float) -> list[tuple[Any, ...]]:
        """Return the rows of `applied`: how far each run is applied."""
        return [(run, *position, seq, now, *last_line) for run, (position, last_line) in self.reached.items()]

    def places(self, now: float) -> list[tuple[Any, ...]]:
        """Return the rows of `damage`."""
        return [(run, *each.place, each.before, each.after, now) for run, each in self.damages]

    @property
    def count(self) -> int:
        """Return the number of rows in the batch."""
        return sum(map(len, self.run_ids.values()))


def collect(journals: Path, position: dict[str, Position], without: Container[str] = ()) -> Batch | None:
    """Return the new content of the runs' journals after `position`.

    Args:
        position: run id → how far the store has applied its journal.
        without: ids of runs to leave out.
    Returns: at most some megabytes; None if nothing is new.
    """
    batch, size = Batch(), 0
    for run_id in journaled(journals.parent):
        folder, start = journals / run_id, position.get(run_id, START)
        if run_id in without or size >= TRANSACTION_BYTES or not has_more(folder, start):
            continue
        portion = scan(folder, start, TRANSACTION_BYTES - size)
        end = portion.end
        if end == start:
            # Only the torn tail of a batch that was never acknowledged.
            continue
        size += end.offset - (start.offset if end.segment == start.segment else 0)
        batch.add(run_id, portion)
    return batch if batch.reached else None
