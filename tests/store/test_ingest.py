"""From journals to DuckDB exactly once: through deaths, damage, other threads and full disks."""

from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from store import ingest
from store.database import ROW_GROUP, Database
from store.filesystem import file_system, network_warning
from store.ingest import Ingester
from store.query import Store
from store.records import Event, Example, RunRow, Scalar
from tests.bench.store.kills import kill_figures
from tests.support.journaled import RUN, journaled, scalars, steps
from tests.support.places import ROOT


def test_rows_of_every_kind_are_applied_once(tmp_path: Path) -> None:
    example = Example(
        "sft", 5, "gsm8k", "7", 0, True, 0.5, "correct", "p\n|", "o\x00", 12, "7", "8", 4.0, "length", 3, 512
    )
    journaled(
        tmp_path,
        [
            RunRow("n", "demo", 3, {"plan": []}, ts=1.0),
            *scalars(2),
            Scalar("sft/train/loss", 2, math.nan, ts=3.0),
        ],
        [Event("state", "m", "sft", "arm", 4, {"state": "running"}, ts=2.0), example],
    )
    store = Store(tmp_path)
    assert store.ingest() == 6
    assert store.ingest() == 0
    assert store.sql("SELECT * FROM run")[1] == [(RUN, "n", "demo", 3, '{"plan": []}', 1.0)]
    assert store.sql("SELECT *, payload->>'state' FROM run_event")[1] == [
        (RUN, "state", "m", "sft", "arm", 4, '{"state": "running"}', 2.0, "running")
    ]
    assert store.sql("SELECT * FROM eval_row")[1] == [
        (
            RUN,
            "sft",
            5,
            "gsm8k",
            "7",
            0,
            True,
            0.5,
            "correct",
            "p\n|",
            "o\x00",
            12,
            4.0,
            "7",
            "8",
            "length",
            3,
            512,
        )
    ]
    values = [value for (value,) in store.sql("SELECT value FROM scalar ORDER BY step")[1]]
    np.testing.assert_equal(values, [0.0, 1 / 7, math.nan])
    assert store.examples(RUN, "sft") == [example]


def test_no_store_is_made_before_there_is_something_to_put_in(tmp_path: Path) -> None:
    home = tmp_path / "nowhere"
    store = Store(home)
    assert store.ingest() == 0
    assert store.runs() == []
    assert store.series("r", "m").step.size == 0
    assert store.evaluations() == []
    assert not home.exists()


@pytest.mark.parametrize("moment", ["INSERT INTO store.applied", "COMMIT", "DETACH"])
def test_who_dies_around_the_commit_leaves_each_row_once(tmp_path: Path, moment: str) -> None:
    """The process ends as by `kill -9` right before the statement `moment`."""
    journaled(tmp_path, scalars(10))
    Store(tmp_path).ingest()
    journaled(tmp_path, scalars(10, start=10))
    dying = f"""
import os, sys
from pathlib import Path
from store import database
from store.query import Store
class Dying:
    def __init__(self, connection): self.connection = connection
    def __getattr__(self, name): return getattr(self.connection, name)
    def execute(self, statement, *rest):
        if statement.startswith({moment!r}) and self.wrote: os._exit(9)
        self.wrote = getattr(self, "wrote", False) or statement.startswith("INSERT INTO store.scalar")
        return self.connection.execute(statement, *rest)
Dying.wrote = False
database._instance._connection = Dying(database._instance.connection)
Store(Path(sys.argv[1])).ingest()
"""
    assert subprocess.run([sys.executable, "-c", dying, tmp_path], check=False).returncode == 9
    assert not (tmp_path / "store.duckdb.wal").exists()
    store = Store(tmp_path)
    assert store.ingest() == (0 if moment == "DETACH" else 10)
    assert steps(store) == list(range(20))


# A client that opened the store to write, and died: what it wrote stays in a write-ahead log.
LEAVE_A_LOG = """
import duckdb, os, sys
client = duckdb.connect(sys.argv[1])
for step in (0, 1):
    client.execute("INSERT INTO scalar VALUES ('guest', 'm', ?, 0.5, 1.0)", [step])
os._exit(9)
"""


def leave_a_log(home: Path) -> None:
    command = [sys.executable, "-c", LEAVE_A_LOG, home / "store.duckdb"]
    assert subprocess.run(command, check=False).returncode == 9


def test_a_log_that_somebody_left_is_taken_in_once(tmp_path: Path) -> None:
    journaled(tmp_path, scalars(10))
    store = Store(tmp_path)
    store.ingest()
    leave_a_log(tmp_path)
    assert steps(store, "guest") == [0, 1]
    for start in (10, 15):
        journaled(tmp_path, scalars(5, start))
        assert store.ingest() == 5
        assert not (tmp_path / "store.duckdb.wal").exists()
    assert steps(store, "guest") == [0, 1]
    assert steps(store) == list(range(20))


@pytest.mark.parametrize("damage", ["zeroed", "flipped", "cut", "cut to its header", "nonsense"])
def test_a_damaged_log_is_set_aside_and_ingestion_goes_on(tmp_path: Path, damage: str) -> None:
    journaled(tmp_path, scalars(10))
    Store(tmp_path).ingest()
    journaled(tmp_path, scalars(10, start=10))
    leave_a_log(tmp_path)
    log = tmp_path / "store.duckdb.wal"
    content = bytearray(log.read_bytes())
    if damage == "zeroed":
        content[-40:] = bytes(40)
    elif damage == "flipped":
        content[-30] ^= 255
    elif damage == "cut":
        del content[-30:]
    elif damage == "cut to its header":
        del content[90:]
    else:
        content[:] = b"nonsense" * 9
    log.write_bytes(content)

    store = Store(tmp_path)
    assert store.ingest() == 10
    assert not log.exists()
    assert bool(list(tmp_path.glob("store.duckdb.wal.damaged-*"))) == (damage != "cut")
    assert steps(store) == list(range(20))
    assert steps(store, "guest") == ([0] if damage == "cut" else [])


@pytest.mark.parametrize("damage", ["nonsense", "empty", "header", "gone"])
def test_a_damaged_file_is_made_again_from_the_journals(tmp_path: Path, damage: str) -> None:
    journaled(tmp_path, scalars(10))
    journaled(tmp_path, scalars(5), run_id="other")
    store = Store(tmp_path)
    store.ingest()
    path = tmp_path / "store.duckdb"
    content = path.read_bytes()
    path.unlink()
    if damage != "gone":
        spoilt = {
            "nonsense": b"x" * 9000,
            "empty": b"",
            "header": content[:4200] + b"\xff" * 10 + content[4210:],
        }
        path.write_bytes(spoilt[damage])
    assert store.ingest() == 15
    assert steps(store) == list(range(10))
    assert steps(store, "other") == list(range(5))


def test_sql_sees_everything_and_changes_nothing(tmp_path: Path) -> None:
    journaled(tmp_path, scalars(10))
    store = Store(tmp_path)
    assert store.sql("SELECT count(*) AS rows, max(step) AS last FROM scalar") == (
        ["rows", "last"],
        [(10, 9)],
    )
    for attempt in (
        "DELETE FROM scalar",
        "DROP TABLE run",
        f"ATTACH '{tmp_path}/x.duckdb'",
        "COPY run TO 'x.csv'",
    ):
        with pytest.raises(duckdb.Error):
            store.sql(attempt)
    assert store.sql("SELECT count(*) FROM scalar")[1] == [(10,)]
    assert not list(tmp_path.glob("mathrl-copy-*"))


def test_threads_of_one_process_share_the_store(tmp_path: Path) -> None:
    store = Store(tmp_path)
    failures: list[BaseException] = []

    def read() -> None:
        try:
            for _ in range(20):
                store.series(RUN, "sft/train/loss")
        except (duckdb.Error, RuntimeError) as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for start in range(0, 100, 10):
        journaled(tmp_path, scalars(10, start))
        store.catch_up()
    for reader in readers:
        reader.join()
    assert failures == []
    assert steps(store) == list(range(100))


def test_row_groups_stay_small_until_a_run_ends(tmp_path: Path) -> None:
    ingester = Ingester(Database(tmp_path))

    def sizes() -> list[int]:
        with Database(tmp_path).reading() as connection:
            found = connection.execute(
                "SELECT sum(count)::BIGINT FROM pragma_storage_info('store.scalar') "
                "WHERE column_name = 'step' AND segment_type <> 'VALIDITY' GROUP BY row_group_id"
            ).fetchall()
        return sorted(size for (size,) in found)

    for start in range(0, 9000, 1500):
        journaled(tmp_path, scalars(1500, start))
        assert ingester.apply(1.0, row_group=2048) == 1500
    assert max(sizes()) == 2048
    journaled(tmp_path, scalars(1, 9000))
    assert ingester.apply(1.0, ROW_GROUP) == 1
    assert sizes() == [9001]
    assert steps(Store(tmp_path)) == list(range(9001))


def test_a_long_journal_is_applied_in_several_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "TRANSACTION_BYTES", 100)
    for run_id in "abcd":
        journaled(tmp_path, scalars(10), run_id=run_id)
    store = Store(tmp_path)
    assert store.ingest() == 40
    assert store.sql("SELECT count(DISTINCT seq), count(*) FROM applied")[1] == [(4, 4)]


def test_a_file_that_is_deleted_during_an_ingest_is_made_again_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journaled(tmp_path, scalars(10))
    store = Store(tmp_path)
    store.ingest()
    journaled(tmp_path, scalars(10, start=10))
    collect, moments = ingest.collect, iter([True])

    def collect_and_delete(*arguments: Any) -> ingest.Batch | None:
        batch = collect(*arguments)
        if next(moments, False):
            (tmp_path / "store.duckdb").unlink()
        return batch

    monkeypatch.setattr(ingest, "collect", collect_and_delete)
    store.ingest()
    store.ingest()
    assert steps(store) == list(range(20))


def test_kill_minus_nine_of_writers_and_ingesters_loses_nothing(tmp_path: Path) -> None:
    lost, twice = kill_figures(tmp_path, rounds=2, seed=1)
    assert (lost.value, twice.value) == (0, 0)


FULL_DISK = """
import sys
from pathlib import Path
from store.home import RunFolder
from store.journal import JournalWriter
from store.query import Store
from store.records import Scalar
home = Path(sys.argv[1])
store, acknowledged = Store(home), 0
(home / "ballast").write_bytes(bytes(6 << 20))
with JournalWriter(RunFolder(home, "r").journal) as journal:
    def append():
        first = acknowledged
        journal.append([Scalar("m", step, 1 / (step + 1), ts=1.0) for step in range(first, first + 2000)])
        return first + 2000
    acknowledged = append()
    assert store.catch_up() == 2000
    try:
        while True:
            acknowledged = append()
    except OSError:
        print("full")
    assert store.catch_up() == 0
    assert "no space" in store.problem, store.problem
    (home / "ballast").unlink()
    acknowledged = append()
store.catch_up()
assert store.problem == "", store.problem
with store.database.reading() as connection:
    counted = connection.execute("SELECT count(*), count(DISTINCT step), max(step) + 1 FROM store.scalar").fetchall()
assert counted == [(acknowledged,) * 3], (counted, acknowledged)
print("recovered")
"""


def test_a_full_disk_refuses_but_loses_nothing(tmp_path: Path) -> None:
    """On a real file system of 12 MB, in a mount namespace of its own."""
    namespace = ["unshare", "-rm"]
    if not shutil.which("unshare") or subprocess.run([*namespace, "true"], check=False).returncode:
        pytest.skip("needs a user namespace to mount a small file system in")
    home, script = tmp_path / "home", tmp_path / "full.py"
    home.mkdir()
    script.write_text(FULL_DISK)
    mount = f"mount -t tmpfs -o size=12m none {home} && exec {sys.executable} {script} {home}"
    done = subprocess.run(
        [*namespace, "sh", "-c", mount],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["full", "recovered"]


def test_a_store_that_could_not_be_made_leaves_nothing_on_the_full_disk(tmp_path: Path) -> None:
    journaled(tmp_path, scalars(10))
    limited = f"""
import resource
from pathlib import Path
from store.query import Store
store = Store(Path({str(tmp_path)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
assert store.ingest() == 0
assert "no space is left on its disk" in store.problem, store.problem
"""
    subprocess.run([sys.executable, "-c", limited], check=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["journal", "store.gate", "store.lock"]


def test_a_value_that_fits_no_column_costs_its_batch_and_holds_up_nothing(tmp_path: Path) -> None:
    journaled(tmp_path, scalars(2), [Scalar("m", None, 0.5)], scalars(2, 2))  # type: ignore[arg-type]
    journaled(tmp_path, scalars(5), run_id="other")
    store = Store(tmp_path)
    assert store.ingest() == 9
    assert store.problem == ""
    assert steps(store) == [0, 1, 2, 3]
    (damage,) = store.damages()[RUN]
    assert (damage.before, damage.after) == ("sft/train/loss at step 1", "sft/train/loss at step 2")


def test_a_forked_child_has_an_instance_of_its_own(tmp_path: Path) -> None:
    journaled(tmp_path, scalars(10))
    store = Store(tmp_path)
    store.ingest()
    child = multiprocessing.get_context("fork").Process(target=_expect_ten_rows, args=(tmp_path,))
    child.start()
    child.join(30)
    assert child.exitcode == 0


def _expect_ten_rows(home: Path) -> None:
    sys.exit(Store(home).series(RUN, "sft/train/loss").step.size - 10)


def test_the_benchmark_measures_every_target(tmp_path: Path) -> None:
    command = [
        "-m",
        "tests.bench.store",
        "--rows",
        "20000",
        "--seconds",
        "0.5",
        "--kills",
        "0",
        "--folder",
        str(tmp_path),
    ]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False)
    measured = [line for line in done.stdout.splitlines() if line.endswith(("met", "MISSED"))]
    assert len(measured) == 14, done.stdout + done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_home_on_a_network_is_warned_of() -> None:
    mounts = (
        "/dev/vda / ext4 rw 0 0\nserver:/x /mnt/shared nfs4 rw 0 0\n/dev/vdb /mnt/shared/fast xfs rw 0 0\n"
    )
    assert file_system(Path("/home/a"), mounts) == "ext4"
    assert network_warning(Path("/home/a"), mounts) == ""
    assert "nfs4" in network_warning(Path("/mnt/shared/artifacts"), mounts)
    assert network_warning(Path("/mnt/shared/fast/artifacts"), mounts) == ""
