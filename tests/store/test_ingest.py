"""From journals to DuckDB exactly once: through deaths and other threads."""

from __future__ import annotations

import math
import multiprocessing
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import numpy as np
import pytest

from store import ingest_batch
from store.database import ROW_GROUP, Database
from store.filesystem import file_system, network_warning
from store.ingest import Ingester
from store.query import Store
from store.records import Event, Example, RunRow, Scalar
from tests.bench.store.kills import kill_figures
from tests.support.journaled import RUN, journaled, scalars, steps


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
from store import attachment
from store.query import Store
class Dying:
    def __init__(self, connection): self.connection = connection
    def __getattr__(self, name): return getattr(self.connection, name)
    def execute(self, statement, *rest):
        if statement.startswith({moment!r}) and self.wrote: os._exit(9)
        self.wrote = getattr(self, "wrote", False) or statement.startswith("INSERT INTO store.scalar")
        return self.connection.execute(statement, *rest)
Dying.wrote = False
attachment.INSTANCE._connection = Dying(attachment.INSTANCE.connection)
Store(Path(sys.argv[1])).ingest()
"""
    assert subprocess.run([sys.executable, "-c", dying, tmp_path], check=False).returncode == 9
    assert not (tmp_path / "store.duckdb.wal").exists()
    store = Store(tmp_path)
    assert store.ingest() == (0 if moment == "DETACH" else 10)
    assert steps(store) == list(range(20))


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
    monkeypatch.setattr(ingest_batch, "TRANSACTION_BYTES", 100)
    for run_id in "abcd":
        journaled(tmp_path, scalars(10), run_id=run_id)
    store = Store(tmp_path)
    assert store.ingest() == 40
    assert store.sql("SELECT count(DISTINCT seq), count(*) FROM applied")[1] == [(4, 4)]


def test_kill_minus_nine_of_writers_and_ingesters_loses_nothing(tmp_path: Path) -> None:
    lost, twice = kill_figures(tmp_path, rounds=2, seed=1)
    assert (lost.value, twice.value) == (0, 0)


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
