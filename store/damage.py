"""Damaged places of a journal: where they are, and what rows stand around them.

A complete line whose checksum does not fit, or whose JSON is foreign, counts as damage, and so does what stands behind
the last newline of a segment that has a successor. Such bytes stay where they are: nothing is deleted. Rows of a place
that the store had applied before it was damaged are journaled again by store/reconcile.py, which calls the place
settled; of every other place rows may be missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from store.batches import Group, decode
from store.events import SETTLED, LogLine, Place, details_of
from store.records import Event, Record

if TYPE_CHECKING:  # journals are read by commands that load no database
    import duckdb


@dataclass(frozen=True, slots=True)
class Damage:
    """`bytes` damaged bytes at `offset` of a segment; `before` and `after` name the rows next to them."""

    segment: int
    offset: int
    bytes: int
    before: str = field(default="", compare=False)
    after: str = field(default="", compare=False)

    @property
    def end(self) -> tuple[int, int]:
        """The position behind it."""
        return self.segment, self.offset + self.bytes

    @property
    def place(self) -> Place:
        """Segment, offset and bytes: what identifies it."""
        return self.segment, self.offset, self.bytes

    def words(self) -> str:
        """Where it is, how large, and between which rows."""
        around = f"between {self.before or 'the beginning'} and {self.after or 'the end'}"
        return f"{self.bytes:,} bytes at offset {self.offset:,} of {self.segment}.j, {around}"


def joined(damages: Iterable[Damage]) -> list[Damage]:
    """Return `damages`, in order, with neighbours put together."""
    found: list[Damage] = []
    for damage in damages:
        if found and found[-1].end == (damage.segment, damage.offset):
            last = found.pop()
            damage = Damage(last.segment, last.offset, last.bytes + damage.bytes)
        found.append(damage)
    return found


def located(damage: Damage, content: bytes) -> Damage:
    """Return `damage` with the rows around it. `content` is that of the whole segment."""
    before = content[: damage.offset].rstrip(b"\n").rpartition(b"\n")[2]
    after = content[damage.offset + damage.bytes :].partition(b"\n")[0]
    return Damage(*damage.place, _named(before, -1), _named(after, 0))


def summary(run_id: str, damages: list[Damage]) -> str:
    """Return one line about a run's damaged places; `damages` is not empty."""
    size = sum(damage.bytes for damage in damages)
    places = f"{len(damages)} places ({size:,} bytes), the first " if len(damages) > 1 else ""
    return (
        f"run {run_id}: its journal is damaged: {places}{damages[0].words()}; "
        "rows may be missing, `mathrl-tui doctor` says what to do"
    )


def damages_in(connection: duckdb.DuckDBPyConnection, run_id: str | None = None) -> dict[str, list[Damage]]:
    """Return the damaged places by run (or of `run_id`) that ingestion met and nothing has settled since."""
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
            "SELECT run_id, payload FROM store.run_event WHERE kind = 'log' AND contains(payload, $key)",
            {"key": f'"{SETTLED}"'},
        ).fetchall()
        for place in settled_in([Event("log", payload=json.loads(payload))])
    }
    found: dict[str, list[Damage]] = {}
    for run, *values in rows:
        if (run, *values[:3]) not in done:
            found.setdefault(run, []).append(Damage(*values))
    return found


def settled_in(records: Iterable[Record]) -> set[Place]:
    """Return the damaged places with rows that `records` hold again."""
    logs = (details_of(record) for record in records if isinstance(record, Event) and record.kind == "log")
    return {place for log in logs if isinstance(log, LogLine) for place in log.settled or ()}


def _named(line: bytes, row: int) -> str:
    """The record `row` of a line in a few words; empty if there is none."""
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
