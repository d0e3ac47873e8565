"""A damaged store.duckdb: every report makes it again from the journals, sets it aside and answers."""

from __future__ import annotations

import multiprocessing
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from store.errors import StoreError, StoreNewer
from store.export import export
from store.home import RunFolder
from store.query import Store
from store.records import Example, RunRow
from tests.support.journaled import RUN, journaled, scalars

OTHER = "demo-s1-1"
BLOCK = 262_144


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two runs, whose store has a dozen blocks."""
    home = tmp_path_factory.mktemp("whole")
    noise = random.Random(0)
    for run_id in (RUN, OTHER):
        answers = [
            Example("sft", 5, "gsm8k", str(n), 0, True, 1.0, "correct", "p", noise.randbytes(1500).hex(), 9)
            for n in range(400)
        ]
        journaled(home, [RunRow("n", "demo", 3, {"plan": []}, ts=1.0)], scalars(2000), answers, run_id=run_id)
    Store(home).catch_up()
    return home


@pytest.fixture
def home(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole, tmp_path / "home")


def a_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def sqlite(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE scalar (run_id TEXT)")
    connection.close()


def another_duckdb(statement: str) -> Callable[[Path], None]:
    """A valid file without our tables. Another process makes it: this one may not open it."""

    def make(path: Path) -> None:
        path.unlink()
        code = "import duckdb, sys; duckdb.connect(sys.argv[1]).execute(sys.argv[2])"
        subprocess.run([sys.executable, "-c", code, path, statement], check=True)

    return make


def content(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


def overwritten(old: bytes, offset: int, new: bytes) -> bytes:
    return old[:offset] + new + old[offset + len(new) :]


def flips(old: bytes, seed: int) -> bytes:
    new, places = bytearray(old), random.Random(seed)
    for _ in range(40):
        new[places.randrange(len(new))] ^= 1 << places.randrange(8)
    return bytes(new)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": content(lambda old: b""),
    "one byte": content(lambda old: old[:1]),
    "one header": content(lambda old: old[:4096]),
    "half": content(lambda old: old[: len(old) // 2]),
    "without its last byte": content(lambda old: old[:-1]),
    "zeros at the start": content(lambda old: bytes(4096) + old[4096:]),
    "zeros in both headers": content(lambda old: overwritten(old, 4096, bytes(8192))),
    "zeros in the middle": content(lambda old: overwritten(old, len(old) // 2, bytes(BLOCK))),
    "zeros at the end": content(lambda old: old[:-BLOCK] + bytes(BLOCK)),
    "all zeros": content(lambda old: bytes(len(old))),
    "noise in the header": content(lambda old: overwritten(old, 0, random.Random(1).randbytes(100))),
    "noise in the blocks": content(lambda old: old[:12288] + random.Random(2).randbytes(len(old) - 12288)),
    "flipped bits": content(lambda old: flips(old, 3)),
    "text": content(lambda old: b"hello, world\n" * 400),
    "a directory": a_directory,
    "SQLite": sqlite,
    "another program's DuckDB": another_duckdb("CREATE TABLE foo AS SELECT 1 AS a"),
    "an empty DuckDB": another_duckdb("SELECT 1"),
    "tables of our names": another_duckdb(
        "CREATE TABLE run (a INT); CREATE TABLE run_event (a INT); CREATE TABLE scalar (a INT);"
        "CREATE TABLE eval_row (a INT); CREATE TABLE applied (run_id INT)"
    ),
}

REPORTS: dict[str, Callable[[Store, Path], object]] = {
    "runs": lambda store, out: [each.run for each in store.runs()],
    "status": lambda store, out: sorted(store.status(RUN).metrics),
    "series": lambda store, out: store.series(RUN, "sft/train/loss").mean.tolist(),
    "examples": lambda store, out: store.examples(OTHER, "sft", limit=None),
    "evaluations": lambda store, out: store.evaluations(),
    "sql": lambda store, out: store.sql(
        "SELECT count(*), sum(value), sum(hash(output)) FROM scalar, eval_row"
    )[1],
    "export": lambda store, out: [
        path.read_bytes() for path in export(store, [], ["metrics", "examples"], "csv", out)
    ],
}


@pytest.fixture(scope="module")
def expected(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    home = shutil.copytree(whole, tmp_path_factory.mktemp("expected") / "home")
    return {name: report(Store(home), home / "out") for name, report in REPORTS.items()}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_every_report_answers_as_from_a_whole_store(
    home: Path,
    damage: Callable[[Path], None],
    expected: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    damage(home / "store.duckdb")
    before = (home / "store.duckdb").read_bytes() if (home / "store.duckdb").is_file() else b""
    assert {name: report(Store(home), home / "out") for name, report in REPORTS.items()} == expected
    (aside,) = home.glob("store.duckdb.damaged-*")
    assert not before or aside.read_bytes() == before
    (said,) = caplog.messages
    assert f"renamed to {aside.name} and rebuilt from the journals" in said
    assert "lack rows" not in said
    assert not list(home.glob("mathrl-copy-*"))
    assert Store(home).ingest() == 0


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_that_meets_the_damage_in_the_middle_of_its_answer_starts_again(
    home: Path, name: str, expected: dict[str, object]
) -> None:
    """Each block's checksum is looked at when it is read: one report after another comes upon a damaged one."""
    path = home / "store.duckdb"
    old = path.read_bytes()
    new = bytearray(old)
    for block in range(2, (len(old) - 12288) // BLOCK):
        new[12288 + block * BLOCK + 1000] ^= 1
    path.write_bytes(new)
    assert REPORTS[name](Store(home), home / "out") == expected[name]


def test_rows_that_come_meanwhile_are_in_the_new_file(home: Path) -> None:
    journaled(home, scalars(7, 2000))
    (home / "store.duckdb").write_bytes(b"")
    store = Store(home)
    assert store.ingest() == 2 * 2401 + 7
    assert store.ingest() == 0


def test_a_run_whose_rows_cannot_be_made_again_is_named(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.rmtree(RunFolder(home, OTHER).journal)
    path = home / "store.duckdb"
    old = path.read_bytes()
    (RunFolder(home, OTHER).path / "finished").mkdir(parents=True)
    RunFolder(home, OTHER).config.write_text('{"name": "n", "seed": 1, "profile": "demo"}')
    path.write_bytes(old[: len(old) // 2])
    assert {each.run for each in Store(home).runs()} == {RUN, OTHER}
    assert f"the journals lack rows of {OTHER}" in caplog.messages[0]


def test_rows_that_only_the_damaged_file_has_are_named(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A block of rows is damaged, the marks can be read: they tell that a journal has been cut."""
    path = home / "store.duckdb"
    content = bytearray(path.read_bytes())
    content[12288 + (len(content) - 12288) // BLOCK // 2 * BLOCK + 1000] ^= 1
    path.write_bytes(content)
    segment = RunFolder(home, OTHER).journal / "1.j"
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:-1]))
    for name in (RUN, OTHER):
        Store(home).examples(name, "sft", limit=None)
    assert caplog.messages[-1].endswith(f"the journals lack rows of {OTHER}")


def checksum(block: bytes) -> int:
    """DuckDB's checksum of a header block whose length is a multiple of eight."""
    found = 5381
    for place in range(0, len(block), 8):
        found ^= int.from_bytes(block[place : place + 8], "little") * 0xBF58476D1CE4E5B9 % 2**64
    return found


def test_a_file_of_a_newer_version_is_refused_and_kept(home: Path) -> None:
    path = home / "store.duckdb"
    new = bytearray(path.read_bytes())
    assert checksum(bytes(new[8:4096])) == int.from_bytes(new[:8], "little")
    new[12:20] = (999).to_bytes(8, "little")
    new[:8] = checksum(bytes(new[8:4096])).to_bytes(8, "little")
    path.write_bytes(new)
    for report in REPORTS.values():
        with pytest.raises(StoreNewer, match="update mathrl-tui"):
            report(Store(home), home / "out")
    assert path.read_bytes() == new
    assert not list(home.glob("*.damaged-*"))


def test_a_full_disk_a_bad_query_and_a_lock_are_no_damage(home: Path) -> None:
    store = Store(home)
    with pytest.raises(duckdb.Error):
        store.sql("SELECT nonsense FROM scalar")
    code = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, home / "store.duckdb"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(StoreError, match="PID"), store.database.reading(patience=0.01, exact=True):
        pass
    holder.communicate()
    limited = (
        "import resource, sys\nfrom pathlib import Path\nfrom store.query import Store\n"
        "home = Path(sys.argv[1])\n(home / 'store.duckdb').write_bytes(b'')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))\n"
        "store = Store(home)\nassert store.ingest() == 0\nassert 'no space' in store.problem, store.problem\n"
    )
    subprocess.run([sys.executable, "-c", limited, home], check=True)
    assert (home / "store.duckdb").read_bytes() == b""  # still there, for when there is room
    assert sorted(path.name for path in home.iterdir()) == [
        "journal",
        "store.duckdb",
        "store.gate",
        "store.lock",
    ]
    assert len(Store(home).runs()) == 2


def _ask(home: Path, start: Callable[[], object], answers: multiprocessing.Queue[object]) -> None:
    start()
    answers.put(Store(home).series(RUN, "sft/train/loss").mean.tolist())


def test_processes_that_find_the_damage_together_make_one_new_file(
    home: Path, expected: dict[str, object]
) -> None:
    path = home / "store.duckdb"
    old = path.read_bytes()
    path.write_bytes(old[: len(old) // 2])
    context = multiprocessing.get_context("fork")
    barrier, answers = context.Barrier(3), context.Queue()
    readers = [context.Process(target=_ask, args=(home, barrier.wait, answers)) for _ in range(3)]
    for reader in readers:
        reader.start()
    found = [answers.get(timeout=60) for _ in readers]
    for reader in readers:
        reader.join()
    assert found == [expected["series"]] * 3
    assert len(list(home.glob("store.duckdb.damaged-*"))) == 1


@pytest.mark.parametrize("words", ["Corrupt", "WAL file", "not a valid DuckDB", "Failed to deserialize"])
def test_a_query_whose_error_only_sounds_like_damage_changes_nothing(home: Path, words: str) -> None:
    before = (home / "store.duckdb").stat().st_ino
    with pytest.raises(duckdb.Error, match=words):
        Store(home).sql(f"SELECT error('{words}') FROM scalar")
    with pytest.raises(duckdb.Error, match="convert"):
        Store(home).sql(f"SELECT CAST('{words}' AS INTEGER)")
    assert (home / "store.duckdb").stat().st_ino == before
    assert not list(home.glob("*damaged*"))


def test_a_fault_of_duckdb_itself_is_no_damage(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An internal error, of which the file is not the cause, comes out as it was."""

    def fault(*_: object) -> None:
        raise duckdb.InternalException("INTERNAL Error: assertion failed")

    monkeypatch.setattr("store.query.last_values", fault)
    with pytest.raises(duckdb.InternalException, match="assertion"):
        Store(home).status(RUN)
    assert not list(home.glob("*damaged*"))
