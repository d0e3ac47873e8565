"""A journal that is not the one that the store applied: both end with the same rows, none lost, none twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from store import journal
from store.database import Database
from store.home import RunFolder
from store.ingest import Ingester
from store.journal import JournalWriter, read, segment_path
from store.query import Store
from store.records import Event, Example, Record, RunRow, Scalar
from tests.support.journaled import RUN, journaled, scalars, steps


def answers(count: int, start: int = 0) -> list[Record]:
    return [
        Example(
            "sft", 5, "gsm8k", str(number), 0, True, 1.0, "correct", "p", f"o{number}", 12, ts=4.0 + number
        )
        for number in range(start, start + count)
    ]


def state(word: str, ts: float) -> Event:
    return Event("state", payload={"state": word}, ts=ts)


def folder(home: Path) -> Path:
    return RunFolder(home, RUN).journal


def identities(home: Path) -> dict[str, list[object]]:
    """What the run has, without the log: identities of scalars and examples, states in order."""
    store = Store(home)
    return {
        "scalars": sorted(steps(store)),
        "examples": sorted(int(each.ex_id) for each in store.examples(RUN, "sft", limit=None)),
        "states": [event.payload["state"] for event in store.events(RUN, ["state"])],
    }


def in_the_journal(home: Path) -> dict[str, list[object]]:
    records = read(folder(home))[0]
    return {
        "scalars": sorted(each.step for each in records if isinstance(each, Scalar)),
        "examples": sorted(int(each.ex_id) for each in records if isinstance(each, Example)),
        "states": [
            each.payload["state"] for each in records if isinstance(each, Event) and each.kind == "state"
        ],
    }


def rebuilt(home: Path) -> dict[str, list[object]]:
    """The same from a store that is made from the journals alone."""
    (home / "store.duckdb").unlink()
    Store(home).catch_up()
    return identities(home)


def first_part(home: Path) -> None:
    journaled(home, [RunRow("n", "demo", 3, {"plan": []}, ts=1.0), state("running", 2.0)], scalars(10))
    Store(home).catch_up()


def second_part(home: Path) -> None:
    journaled(home, scalars(10, 10), answers(7), [state("done", 3.0)])
    Store(home).catch_up()


WHOLE = {"scalars": list(range(20)), "examples": list(range(7)), "states": ["running", "done"]}


def back_to_the_first_part(home: Path) -> None:
    """As when rsync copied the journal before the store."""
    os.truncate(segment_path(folder(home), 1), (home / "first").stat().st_size)


def in_the_middle_of_a_line(home: Path) -> None:
    os.truncate(segment_path(folder(home), 1), (home / "first").stat().st_size + 33)


def to_nothing(home: Path) -> None:
    os.truncate(segment_path(folder(home), 1), 0)


def gone(home: Path) -> None:
    segment_path(folder(home), 1).unlink()


def last_newline_flipped(home: Path) -> None:
    path = segment_path(folder(home), 1)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def last_line_flipped(home: Path) -> None:
    path = segment_path(folder(home), 1)
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)


def zeros_at_the_end(home: Path) -> None:
    path = segment_path(folder(home), 1)
    content = path.read_bytes()
    path.write_bytes(content[:-500] + bytes(500))


@pytest.mark.parametrize(
    "damage",
    [
        back_to_the_first_part,
        in_the_middle_of_a_line,
        to_nothing,
        gone,
        last_newline_flipped,
        last_line_flipped,
        zeros_at_the_end,
    ],
    ids=lambda each: each.__name__,
)
def test_rows_that_only_the_store_has_are_journaled_again_once(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    first_part(tmp_path)
    shutil.copy(segment_path(folder(tmp_path), 1), tmp_path / "first")
    second_part(tmp_path)
    damage(tmp_path)
    Store(tmp_path).catch_up()
    (told,) = [line for line in caplog.messages if "differed" in line]
    # What was never applied is in neither; nobody can count it.
    assert re.search(r"rows written after \d{4}-.* may be lost with the journal's end$", told)
    assert identities(tmp_path) == in_the_journal(tmp_path) == WHOLE
    caplog.clear()
    again = Store(tmp_path)
    again.catch_up()
    journaled(tmp_path, scalars(5, 20), answers(1, 7))
    assert again.ingest() == 6
    assert caplog.messages == []
    more = {"scalars": list(range(25)), "examples": list(range(8)), "states": ["running", "done"]}
    assert identities(tmp_path) == more
    assert rebuilt(tmp_path) == more
    assert not Store(tmp_path).damages()  # of a line that the store had applied nothing is missing


def test_a_new_line_below_what_the_store_has_applied_is_not_overlooked(tmp_path: Path) -> None:
    """A writer that does not know the store appends to the cut journal, before anything reconciles both."""
    first_part(tmp_path)
    size = segment_path(folder(tmp_path), 1).stat().st_size
    second_part(tmp_path)
    os.truncate(segment_path(folder(tmp_path), 1), size)
    journaled(tmp_path, scalars(30, 15))  # of which the store has five
    Store(tmp_path).catch_up()
    expected = {"scalars": list(range(45)), "examples": list(range(7)), "states": ["running", "done"]}
    assert identities(tmp_path) == in_the_journal(tmp_path) == expected
    assert rebuilt(tmp_path) == expected


@pytest.mark.parametrize("longer", [False, True])
def test_two_histories_of_one_run_become_one(tmp_path: Path, longer: bool) -> None:
    """Two copies of a home went on; the journal of one meets the store of the other."""
    here, there = tmp_path / "here", tmp_path / "there"
    first_part(here)
    shutil.copytree(here, there)
    journaled(here, scalars(4, 10), answers(2))
    Store(here).catch_up()
    journaled(there, scalars(8, 12) if longer else scalars(4, 12), answers(2, 2))
    shutil.rmtree(here / "journal")
    shutil.copytree(there / "journal", here / "journal")
    Store(here).catch_up()
    expected = {
        "scalars": list(range(20 if longer else 16)),
        "examples": [0, 1, 2, 3],
        "states": ["running"],
    }
    assert identities(here) == in_the_journal(here) == expected
    assert rebuilt(here) == expected


def test_an_older_store_beside_its_journal_is_brought_up_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first_part(tmp_path)
    shutil.copy(tmp_path / "store.duckdb", tmp_path / "backup")
    second_part(tmp_path)
    shutil.move(tmp_path / "backup", tmp_path / "store.duckdb")
    Store(tmp_path).catch_up()
    assert identities(tmp_path) == WHOLE
    assert caplog.messages == []


@pytest.mark.parametrize("live", [False, True])
def test_an_older_store_put_back_after_rows_were_journaled_again_has_each_once(
    tmp_path: Path, live: bool
) -> None:
    """A line was damaged once the store had applied it; the store of that time comes back later."""
    first_part(tmp_path)
    second_part(tmp_path)
    path = segment_path(folder(tmp_path), 1)
    lines = path.read_bytes().splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if b'"scalar"' in line)
    lines[place] = lines[place][:-3] + b"###"[:2] + b"\n"
    path.write_bytes(b"".join(lines))
    shutil.copy(tmp_path / "store.duckdb", tmp_path / "older")
    lock = journal.hold(folder(tmp_path))
    Ingester(Database(tmp_path)).take_over(RUN, lock, True, 5.0)
    os.close(lock)
    assert in_the_journal(tmp_path)["scalars"] == WHOLE["scalars"]
    shutil.move(tmp_path / "older", tmp_path / "store.duckdb")
    journaled(tmp_path, scalars(3, 20))
    if live:
        with JournalWriter(folder(tmp_path)):
            Store(tmp_path).catch_up()
    Store(tmp_path).catch_up()
    assert identities(tmp_path) == WHOLE | {"scalars": list(range(23))}
    assert rebuilt(tmp_path)["scalars"] == list(range(23))


def test_a_middle_segment_that_was_cut_is_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SEGMENT_BYTES", 500)
    store = Store(tmp_path)
    for start in range(0, 40, 10):
        journaled(tmp_path, scalars(10, start))
        store.catch_up()
    assert len(journal.segments(folder(tmp_path))) > 2
    os.truncate(segment_path(folder(tmp_path), 2), 0)
    for _ in range(2):
        Store(tmp_path).catch_up()
    assert steps(Store(tmp_path)) == list(range(40))
    assert sorted(each.step for each in read(folder(tmp_path))[0] if isinstance(each, Scalar)) == list(
        range(40)
    )


def test_the_journal_of_a_live_run_is_left_alone_until_it_ends(tmp_path: Path) -> None:
    first_part(tmp_path)
    size = segment_path(folder(tmp_path), 1).stat().st_size
    second_part(tmp_path)
    os.truncate(segment_path(folder(tmp_path), 1), size)
    other = Store(tmp_path)
    with JournalWriter(folder(tmp_path)) as writer:
        writer.append(scalars(3, 20))
        journaled(tmp_path, scalars(4), run_id="other")
        assert other.ingest() == 4
        assert RUN in other.problem
        assert "wait for the end of the run" in other.problem
        assert journal.segments(folder(tmp_path)) == [1]
    other.ingest()
    assert other.problem == ""
    assert identities(tmp_path)["scalars"] == list(range(23))
    assert rebuilt(tmp_path)["examples"] == list(range(7))


def test_a_live_run_whose_rows_are_all_journaled_goes_on(tmp_path: Path) -> None:
    """A batch was seen and applied, but could not be synced: its writer wrote it again, longer."""
    with JournalWriter(folder(tmp_path)) as writer:
        writer.append(scalars(3))
        end = writer.position
        writer.append(scalars(3, 3))
        store = Store(tmp_path)
        store.ingest()
        os.truncate(segment_path(folder(tmp_path), 1), end.offset)
        writer._good = end.offset
        writer.append(scalars(9, 3))
        store.ingest()
        assert store.problem == ""
        assert steps(store) == list(range(12))
        writer.append(scalars(2, 12))
        assert store.ingest() == 2
    assert rebuilt(tmp_path)["scalars"] == list(range(14))


DYING = """
import os, sys
from pathlib import Path
from store import attachment, journal, reconcile
from store.query import Store
moment = sys.argv[2]
class Dying:
    def __init__(self, connection): self.connection = connection
    def __getattr__(self, name): return getattr(self.connection, name)
    def execute(self, statement, *rest):
        if statement.startswith(moment): os._exit(9)
        return self.connection.execute(statement, *rest)
if moment.startswith("append"):
    left, append = [int(moment.split()[1])], journal.JournalWriter.append
    def dying(self, records):
        if not left[0]: os._exit(9)
        left[0] -= 1
        return append(self, records)
    journal.JournalWriter.append = dying
else:
    attachment.INSTANCE._connection = Dying(attachment.INSTANCE.connection)
Store(Path(sys.argv[1])).ingest()
"""


@pytest.mark.parametrize(
    "moment",
    [
        "append 0",
        "append 1",
        "append 3",
        "INSERT INTO store.run_event",
        "INSERT INTO store.applied",
        "COMMIT",
        "DETACH",
    ],
)
def test_a_death_at_any_moment_leaves_each_row_once(tmp_path: Path, moment: str) -> None:
    first_part(tmp_path)
    size = segment_path(folder(tmp_path), 1).stat().st_size
    second_part(tmp_path)
    os.truncate(segment_path(folder(tmp_path), 1), size)
    journaled(tmp_path, scalars(5, 20))
    died = subprocess.run([sys.executable, "-c", DYING, tmp_path, moment], check=False)
    assert died.returncode == 9
    for _ in range(2):
        Store(tmp_path).catch_up()
    expected = {**WHOLE, "scalars": list(range(25))}
    assert identities(tmp_path) == in_the_journal(tmp_path) == expected
    assert rebuilt(tmp_path) == expected


def test_a_store_of_an_earlier_version_is_reconciled_too(tmp_path: Path) -> None:
    """Its marks hold no checksum: a journal that is too short is still noticed."""
    first_part(tmp_path)
    size = segment_path(folder(tmp_path), 1).stat().st_size
    second_part(tmp_path)
    code = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute(sys.argv[2])"
    older = (
        "ALTER TABLE applied DROP COLUMN crc; ALTER TABLE applied DROP COLUMN line_bytes; DROP TABLE damage"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "store.duckdb", older], check=True)
    os.truncate(segment_path(folder(tmp_path), 1), size)
    Store(tmp_path).catch_up()
    assert identities(tmp_path) == in_the_journal(tmp_path) == WHOLE
    assert rebuilt(tmp_path) == WHOLE
