"""Damaged places of a journal, and the rows next to them.

Two things count as damage. a complete line with a wrong checksum or foreign JSON, and bytes after the last
newline of a segment that has a successor. Damaged bytes stay in the file; nothing is deleted. If the store
had applied the rows of a place before it was damaged, store/reconcile.py journals them again. It then records
the place as settled. For all other places, rows may be missing. A user can acknowledge damage
(store/acknowledgement.py); reports then leave it out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from store.batches import Group, decode
from store.events import ACKNOWLEDGED, SETTLED, LogLine, Place, details_of
from store.records import Event, Record

# Commands that load no database read journals too.
if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged place: `bytes` bytes at `offset` of a segment.

    `before` and `after` describe the rows next to it.
    """

    segment: int
    offset: int
    bytes: int
    before: str = field(default="", compare=False)
    after: str = field(default="", compare=False)

    @property
    def end(self) -> tuple[int, int]:
        """Return the position (segment, byte offset) after the damaged bytes."""
        return self.segment, self.offset + self.bytes

    @property
    def place(self) -> Place:
        """Segment, offset and bytes: what identifies it."""
        return self.segment, self.offset, self.bytes

    def words(self) -> str:
        """Describe the position and size, and the rows before and after."""
        around = f"between {self.before or 'the beginning'} and {self.after or 'the end'}"
        return f"{self.bytes:,} bytes at offset {self.offset:,} of {self.segment}.j, {around}"


def joined(damages: Iterable[Damage]) -> list[Damage]:
    """Merge those of `damages` that touch. They must be in order."""
    found: list[Damage] = []
    for damage in damages:
        if found and found[-1].end == (damage.segment, damage.offset):
            last = found.pop()
            damage = Damage(last.segment, last.offset, last.bytes + damage.bytes)
        found.append(damage)
    return found


def located(damage: Damage, content: bytes) -> Damage:
    """Return `damage` with descriptions of the rows around it.

    `content` is the whole segment.
    """
    before = content[: damage.offset].rstrip(b"\n").rpartition(b"\n")[2]
    after = content[damage.offset + damage.bytes :].partition(b"\n")[0]
    return Damage(*damage.place, _named(before, -1), _named(after, 0))


def summary(run_id: str, damages: list[Damage]) -> str:
    """Return one line about a run's damaged places (not empty)."""
    size = sum(damage.bytes for damage in damages)
    places = f"{len(damages)} places ({size:,} bytes), the first " if len(damages) > 1 else ""
    return (
        f"run {run_id}: its journal is damaged: {places}{damages[0].words()}; "
        "rows may be missing; `mathrl-tui doctor` lists what to do"
    )


def damages_in(connection: duckdb.DuckDBPyConnection, run_id: str | None = None) -> dict[str, list[Damage]]:
    """Return the damaged places that reports still show, by run.

    `run_id` limits them to one run.
    """
    rows = connection.execute(
        'SELECT run_id, segment, "offset", bytes, before, after FROM store.damage '
        "WHERE $run IS NULL OR run_id = $run ORDER BY rowid",
        {"run": run_id},
    ).fetchall()
    if not rows:
        return {}
    done = {
        (run, *place)
        for run, payload in connection.execute(
            "SELECT run_id, payload FROM store.run_event WHERE kind = 'log' "
            "AND (contains(payload, $settled) OR contains(payload, $acknowledged))",
            {"settled": f'"{SETTLED}"', "acknowledged": f'"{ACKNOWLEDGED}"'},
        ).fetchall()
        for place in settled_in([Event("log", payload=json.loads(payload))])
    }
    found: dict[str, list[Damage]] = {}
    for run, *values in rows:
        if (run, *values[:3]) not in done:
            found.setdefault(run, []).append(Damage(*values))
    return found


def settled_in(records: Iterable[Record]) -> set[Place]:
    """Return the damaged places that `records` settle or acknowledge.

    Reports leave them out.
    """
    logs = (details_of(record) for record in records if isinstance(record, Event) and record.kind == "log")
    found = [log for log in logs if isinstance(log, LogLine)]
    return {place for log in found for place in (*(log.settled or ()), *(log.acknowledged or ()))}


def _named(line: bytes, row: int) -> str:
    """Describe record `row` of a line; empty if the line has no records."""
    groups = decode(line)
    return _named_group(groups[row], row) if groups else ""


def _named_group(group: Group, row: int) -> str:
    kind, *columns = group
    values = [column[row] for column in columns]
    match kind:
        case "scalar":
            return f"{values[0]} at step {values[1]}"
        case "example":
            arm, step, task, ex_id, *_ = values
            return f"an answer of {arm} to {task} {ex_id} at step {step}"
        case "event":
            event, _, stage, arm, *_ = values
            return " ".join(filter(None, (f"a {event} event", stage and f"of {stage}", arm)))
        case _:
            return "a registration"
