"""`sql` ends at its limits of time and memory with one clear line, and leaves nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from mathrl_tui.commands.errors import WrongInput
from mathrl_tui.commands.sql import _bytes
from store import sql
from store.query import Store
from store.sql import Limits, SqlLimit, available_memory
from tests.support.command_line import environment, mathrl
from tests.support.journaled import journaled, scalars
from tests.support.supervised import PATIENCE, until

ENDLESS = "SELECT count(*) FROM range(100000000) a, range(100000000) b WHERE hash(a.range + b.range) % 7 = 3"
ENDLESS_ROWS = "SELECT * FROM range(1000000000000)"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    journaled(tmp_path, scalars(10))
    return Store(tmp_path)


def leftovers(store: Store) -> list[Path]:
    return [path for path in store.home.rglob("*") if "copy-" in path.name or "tmp" in path.name]


@pytest.mark.parametrize("query", [ENDLESS, ENDLESS_ROWS])
def test_a_query_without_end_is_ended_in_time(store: Store, query: str) -> None:
    with pytest.raises(SqlLimit, match=r"^sql: no answer after 0.1 s; raise --timeout SECONDS"):
        store.sql(query, Limits(seconds=0.1))
    assert not leftovers(store)
    assert store.sql("SELECT count(*) FROM scalar", Limits(seconds=0.0))[1] == [(10,)]
    assert store.sql("SELECT count(*) FROM scalar", Limits(seconds=float("inf")))[1] == [(10,)]


def test_a_query_that_needs_more_memory_than_it_may_have(store: Store) -> None:
    with pytest.raises(SqlLimit, match=r"^sql: the query needs more memory than 95.4 MiB; .* --memory$"):
        store.sql("SELECT list(range) FROM range(100000000)", Limits(memory=100_000_000))
    assert not leftovers(store)


def test_rows_that_fill_the_memory_of_python_are_counted_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = iter(range(0, 1 << 40, 200_000_000))
    monkeypatch.setattr(sql, "_resident", lambda: next(sizes))
    with pytest.raises(SqlLimit, match=r"^sql: the query needs more memory than 1.0 GiB"):
        store.sql(ENDLESS_ROWS, Limits(memory=1 << 30))


def test_a_query_that_fails_fails_in_the_words_of_duckdb(store: Store) -> None:
    with pytest.raises(duckdb.CatalogException, match="nothing"):
        store.sql("SELECT * FROM nothing")
    with pytest.raises(duckdb.Error, match="locked"):
        store.sql("SET memory_limit = '100GB'")


def test_the_command(store: Store) -> None:
    done = mathrl(store.home, "sql", ENDLESS, "--timeout", "0.1", "--memory", "1GB")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert done.stderr.startswith("sql: no answer after 0.1 s")


def test_ctrl_c_ends_a_query_at_once(store: Store) -> None:
    command = [sys.executable, "-m", "mathrl_tui", "sql", ENDLESS, "--timeout", "0"]
    with subprocess.Popen(command, env=environment(store.home), stderr=subprocess.PIPE) as asked:
        until(lambda: leftovers(store), "it has its copy")
        asked.send_signal(signal.SIGINT)
        assert asked.wait(PATIENCE) == 130
        assert asked.stderr is not None
        assert asked.stderr.read() == b""
    assert not leftovers(store)


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4_000_000_000), ("800MiB", 800 << 20), ("1.5 kib", 1536), ("50%", available_memory() // 2)],
)
def test_sizes(text: str, size: int) -> None:
    assert _bytes(text) == size


@pytest.mark.parametrize("text", ["", "3", "0%", "-1GB", "GB", "1e9", "9" * 5000 + "GB", "nan%"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(WrongInput, match="write a size such as 4GB"):
        _bytes(text)
