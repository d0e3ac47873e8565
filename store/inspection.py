"""Full check of a home's records: journals, marks, set-aside files.

It reads every line of every journal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from store.applied import AppliedMarks, marks_in
from store.batches import Group, decode, is_whole
from store.damage import Damage, damages_in
from store.database import Database
from store.errors import StoreDamaged, StoreError
from store.events import ACKNOWLEDGED, SETTLED, LogLine, Place, details_of
from store.journal import START, scan, segments
from store.naming import journaled
from store.records import Event, from_groups

PORTION_BYTES = 8 << 20
_SIGNS = (f'"{SETTLED}"'.encode(), f'"{ACKNOWLEDGED}"'.encode())


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault in a home's records, and its remedy.

    `remedy` is empty if nothing has to be done.
    """

    detail: str
    remedy: str


@dataclass(slots=True)
class JournalDamage:
    """The damaged places of a journal, by its checksums.

    Some were settled, and some were acknowledged.
    """

    damages: list[Damage] = field(default_factory=list)
    settled: set[Place] = field(default_factory=set)
    acknowledged: set[Place] = field(default_factory=set)

    def words(self, place: Place) -> str:
        """Return why reports leave out damage at `place`, or "" if they do not."""
        if place in self.settled:
            return "its rows are journaled again"
        return "acknowledged" if place in self.acknowledged else ""


def inspect(home: Path, *, every: bool = False) -> Iterator[Finding]:
    """Yield every fault of the journals and the store in `home`.

    Like every report, it ingests new records, and changes nothing else.

    With `every`, also the damage that reports leave out.
    """
    marks: dict[str, AppliedMarks] = {}
    known: dict[str, list[Damage]] = {}
    if (home / "store.duckdb").exists():
        try:
            with Database(home).reading() as connection:
                marks, _ = marks_in(connection)
                known = damages_in(connection)
        except StoreDamaged as error:
            yield Finding(
                f"store.duckdb is damaged ({error})", "the next report rebuilds it: mathrl-tui runs"
            )
        except (StoreError, duckdb.Error) as error:
            yield Finding(str(error).splitlines()[0], "run `mathrl-tui doctor` again later")
    for run_id in journaled(home):
        folder = home / "journal" / run_id
        yield from _of_run(folder, run_id, marks.get(run_id), known.get(run_id, []), every)
    for run_id in sorted(marks):
        if not segments(home / "journal" / run_id):
            yield Finding(
                f"run {run_id}: the store has its rows, but its journal is missing",
                f"mathrl-tui run --resume {run_id} journals them again",
            )
    for path in sorted(home.glob("store.duckdb*.damaged-*")):
        yield Finding(
            f"{path.name} is a damaged file that was renamed", f"rm -r {path} when it is no longer needed"
        )


def journal_damage(folder: Path) -> JournalDamage:
    """Check every line of a journal."""
    found, position = JournalDamage(), START
    while True:
        portion = scan(folder, position, PORTION_BYTES, _checked)
        if portion.end == position:
            return found
        found.damages += portion.damages
        for record in from_groups(portion.groups):
            if isinstance(record, Event) and isinstance(log := details_of(record), LogLine):
                found.settled.update(log.settled or ())
                found.acknowledged.update(log.acknowledged or ())
        position = portion.end


def _of_run(
    folder: Path, run_id: str, marks: AppliedMarks | None, known: list[Damage], every: bool
) -> Iterator[Finding]:
    seen = journal_damage(folder)
    places = {damage.place: damage for damage in [*known, *seen.damages]}
    for place in sorted(places):
        damage = places[place]
        if words := seen.words(place):
            if every:
                yield Finding(f"run {run_id}: its journal is damaged: {damage.words()}; {words}", "")
            continue
        kept = damage not in known and marks is not None and marks.cover(damage, folder)
        yield Finding(
            f"run {run_id}: its journal is damaged: {damage.words()}"
            + ("; the store has its rows" if kept else "; rows may be missing"),
            f"mathrl-tui run --resume {run_id} "
            + (
                "journals them again"
                if kept
                else "makes evaluation rows again; `mathrl-tui doctor --acknowledge` then hides this line"
            ),
        )
    if marks is not None and not marks.fit(folder):
        yield Finding(
            f"run {run_id}: its journal is not the one that the store has applied",
            "mathrl-tui status reconciles both",
        )


def _checked(line: bytes) -> list[Group] | None:
    if any(sign in line for sign in _SIGNS):
        return decode(line)
    return [] if is_whole(line) else None
