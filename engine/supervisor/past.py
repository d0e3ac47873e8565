"""What a run's journal says when a supervisor takes the run over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.supervisor.known import Known
from store.journal import START, read
from store.records import Event, Record, RunRow

PORTION_BYTES = 8 << 20


@dataclass(slots=True)
class Past:
    """`known` identities, the plan that the run is registered with, and its last state ('' for a new run)."""

    known: Known
    plan: list[dict[str, str]] | None = None
    state: str = ""


def read_past(journal: Path) -> Past:
    """The journal read to its end, a portion at a time."""
    past = Past(Known())
    for record in _records(journal):
        past.known.remember(record)
        if isinstance(record, RunRow):
            past.plan = record.config["plan"]
        elif isinstance(record, Event) and record.kind == "state":
            past.state = str(record.payload["state"])
    return past


def _records(journal: Path) -> Iterator[Record]:
    position = START
    while True:
        records, end = read(journal, position, PORTION_BYTES)
        if end == position:
            return
        yield from records
        position = end
