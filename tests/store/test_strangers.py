"""Other programs on the store's file: read beside, waited for, named where they are in the way."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from store import locks
from store.errors import StoreBusy
from store.query import Store
from tests.support.journaled import RUN, journaled, scalars


@contextmanager
def stranger(home: Path, mode: str) -> Iterator[subprocess.Popen[str]]:
    """Another program that opens the store's file with a stock client and parks on it."""
    code = (
        "import duckdb, sys\n"
        f"client = duckdb.connect(sys.argv[1], read_only={mode == 'read-only'})\n"
        "print(client.execute('SELECT count(*) FROM scalar').fetchone()[0], flush=True)\n"
        "sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, home / "store.duckdb"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        yield process
    finally:
        process.communicate()


def test_a_parked_reader_delays_rows_and_is_named(tmp_path: Path) -> None:
    journaled(tmp_path, scalars(10))
    store = Store(tmp_path)
    store.ingest()
    journaled(tmp_path, scalars(10, start=10))
    with stranger(tmp_path, "read-only") as process:
        assert store.ingest() == 0
        assert f"PID {process.pid}" in store.problem
        assert "only delays" in store.problem
        assert store.series(RUN, "sft/train/loss").step.size == 10
    assert store.ingest() == 10
    assert store.problem == ""


def test_a_client_that_opened_the_store_to_write_is_named_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journaled(tmp_path, scalars(10))
    store = Store(tmp_path)
    store.ingest()
    with stranger(tmp_path, "read-write") as process:
        refused = pytest.raises(StoreBusy, match=rf"PID {process.pid}.*duckdb -readonly")
        with refused, store.database.reading(patience=0.02, exact=True):
            pass
        with store.database.reading(patience=0.02) as connection:
            assert connection.execute("SELECT count(*) FROM store.scalar").fetchall() == [(10,)]
        monkeypatch.setattr(locks, "LONG_SECONDS", 0.01)
        for patience in (0.02, 600.0, 600.0):  # a process waits once
            with store.database.reading(patience):
                assert "this answer is from the store as it was" in store.problem
        assert f"PID {process.pid}" in store.problem
    assert store.series(RUN, "sft/train/loss").step.size == 10


def test_a_stock_client_reads_beside_a_live_run(tmp_path: Path) -> None:
    journaled(tmp_path, scalars(10))
    Store(tmp_path).ingest()
    with stranger(tmp_path, "read-only"):
        pass
    query = "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).execute('FROM applied').fetchall())"
    command = [sys.executable, "-c", query, str(tmp_path / "store.duckdb")]
    assert RUN in subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_copying_does_not_drop_the_lock_that_a_reader_holds(tmp_path: Path) -> None:
    """An open and close of the file in this process would: a stranger could then write below the reader."""
    journaled(tmp_path, scalars(10))
    store = Store(tmp_path)
    store.ingest()
    connect = "import duckdb, sys; duckdb.connect(sys.argv[1])"
    with store.database.reading():
        copier = threading.Thread(target=lambda: store.database.copied().__enter__().close())
        copier.start()
        copier.join()
        opened = subprocess.run(
            [sys.executable, "-c", connect, tmp_path / "store.duckdb"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "Conflicting lock" in opened.stderr
