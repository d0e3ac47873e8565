"""Ingestion after damage: foreign logs, broken files, values that fit no column."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from store import ingest
from store.ingest_batch import Batch
from store.query import Store
from store.records import Scalar
from tests.support.journaled import RUN, journaled, scalars, steps

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


def test_a_file_that_is_deleted_during_an_ingest_is_made_again_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journaled(tmp_path, scalars(10))
    store = Store(tmp_path)
    store.ingest()
    journaled(tmp_path, scalars(10, start=10))
    collect, moments = ingest.collect, iter([True])

    def collect_and_delete(*arguments: Any) -> Batch | None:
        batch = collect(*arguments)
        if next(moments, False):
            (tmp_path / "store.duckdb").unlink()
        return batch

    monkeypatch.setattr(ingest, "collect", collect_and_delete)
    store.ingest()
    store.ingest()
    assert steps(store) == list(range(20))


def test_a_value_that_fits_no_column_costs_its_batch_and_holds_up_nothing(tmp_path: Path) -> None:
    journaled(tmp_path, scalars(2), [Scalar("m", None, 0.5)], scalars(2, 2))  # type: ignore[arg-type]
    journaled(tmp_path, scalars(5), run_id="other")
    store = Store(tmp_path)
    assert store.ingest() == 9
    assert store.problem == ""
    assert steps(store) == [0, 1, 2, 3]
    (damage,) = store.damages()[RUN]
    assert (damage.before, damage.after) == ("sft/train/loss at step 1", "sft/train/loss at step 2")
