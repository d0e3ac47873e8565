"""Full check of a home's records: journals, marks, set-aside files.

It reads every line of every journal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb

from store.applied import AppliedMarks, marks_in
from store.batches import Group, is_whole
from store.damage import Damage, damages_in
from store.database import Database
from store.errors import StoreDamaged, StoreError
from store.journal import START, scan, segments
from store.naming import journaled

PORTION_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault in a home's records, and its remedy.

    `remedy` is empty if nothing has to be done.
    """

    detail: str
    remedy: str


def inspect(home: Path) -> Iterator[Finding]:
    """Yield every fault of the journals and the store in `home`.

    Like every report, it ingests new records, and changes nothing else.
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
        yield from _of_run(home / "journal" / run_id, run_id, marks.get(run_id), known.get(run_id, []))
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


def damaged_lines(folder: Path) -> list[Damage]:
    """Return the damaged places of a journal, by checksums alone."""
    found: list[Damage] = []
    position = START
    while True:
        portion = scan(folder, position, PORTION_BYTES, _checked)
        if portion.end == position:
            return found
        found += portion.damages
        position = portion.end


def _of_run(folder: Path, run_id: str, marks: AppliedMarks | None, known: list[Damage]) -> Iterator[Finding]:
    places = {damage.place: damage for damage in [*known, *damaged_lines(folder)]}
    for place in sorted(places):
        damage = places[place]
        kept = damage not in known and marks is not None and marks.cover(damage, folder)
        yield Finding(
            f"run {run_id}: its journal is damaged: {damage.words()}"
            + ("; the store has its rows" if kept else "; rows may be missing"),
            f"mathrl-tui run --resume {run_id} "
            + ("journals them again" if kept else "repeats the evaluations"),
        )
    if marks is not None and not marks.fit(folder):
        yield Finding(
            f"run {run_id}: its journal is not the one that the store has applied",
            "mathrl-tui status reconciles both",
        )


def _checked(line: bytes) -> list[Group] | None:
    return [] if is_whole(line) else None
