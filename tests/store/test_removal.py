"""A removed run is gone for every reader, whatever is killed when; a run that is not removed keeps every row."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from store.database import Database
from store.errors import StoreError
from store.home import RunFolder, removing, run_ids, trash
from store.ingest import Ingester
from store.locks import locked
from store.query import Store, UnknownRun
from store.removal import RemovalRefused, empty_trash, remove
from tests.support.command_line import environment
from tests.support.fabricated import finished_run

DOOMED, KEPT = "demo-s0-doomed", "demo-s1-kept"
TABLES = ("run", "run_event", "scalar", "eval_row", "applied")

# Kills its own process at the call with the given number, of all calls that change a name, a row or a file.
KILLED = """
import os, pathlib, shutil, signal, sys
import duckdb
from store import removal
from store.database import Database
from store.errors import StoreError

calls = 0
def counted(change):
    def call(*args, **kwargs):
        global calls
        calls += 1
        if calls == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return change(*args, **kwargs)
    return call

removal.make_folder = counted(removal.make_folder)
removal.sync = counted(removal.sync)
removal.touch = counted(removal.touch)
for name in ("rename", "unlink", "rmdir"):
    setattr(pathlib.Path, name, counted(getattr(pathlib.Path, name)))
shutil.rmtree = counted(shutil.rmtree)
writing = Database.writing
class Counted:
    def __init__(self, connection): self.connection = connection
    def execute(self, *args): return counted(self.connection.execute)(*args)
from contextlib import contextmanager
@contextmanager
def writing_counted(self, *args):
    with writing(self, *args) as connection:
        yield Counted(connection)
Database.writing = writing_counted
removal.remove(Database(pathlib.Path(sys.argv[1])), [sys.argv[2]], 5.0)
print(calls)
"""


def made(home: Path) -> Store:
    """A home with two runs, of which all is in the store."""
    for run_id in (DOOMED, KEPT):
        finished_run(home, run_id)
    store = Store(home)
    store.catch_up()
    return store


def rows(store: Store, run_id: str) -> dict[str, int]:
    with store.database.reading() as connection:
        return {
            table: connection.execute(
                f"SELECT count(*) FROM store.{table} WHERE run_id = ?", [run_id]
            ).fetchall()[0][0]
            for table in TABLES
        }


def rebuilt(home: Path) -> Store:
    """The store as it is when it is made again from the journals."""
    (home / "store.duckdb").unlink()
    store = Store(home)
    store.catch_up()
    return store


def test_a_removed_run_leaves_nothing_and_a_rebuild_agrees(tmp_path: Path) -> None:
    store = made(tmp_path)
    before = rows(store, KEPT)
    assert min(before.values()) > 0
    remove(store.database, [DOOMED], 5.0)
    assert [run.run for run in store.runs()] == [KEPT]
    assert rows(store, DOOMED) == dict.fromkeys(TABLES, 0)
    assert rows(store, KEPT) == before
    assert [path for path in tmp_path.rglob("*") if DOOMED in path.name] == [tmp_path / "removed" / DOOMED]
    again = rebuilt(tmp_path)
    assert (rows(again, DOOMED)["run"], rows(again, KEPT)) == (0, before)
    with pytest.raises(UnknownRun):
        store.resolve(DOOMED)


def test_whatever_kills_a_removal_the_run_is_whole_or_gone_and_the_next_command_completes_it(
    tmp_path: Path,
) -> None:
    """One removal for each point of it; every one is then looked at as it stands, and completed."""
    number, was_gone = 0, False
    whole = rows(made(tmp_path / "whole"), KEPT)
    while True:
        number += 1
        home = tmp_path / str(number)
        shutil.copytree(tmp_path / "whole", home)
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, home, DOOMED, str(number)],
            env=environment(home),
            capture_output=True,
            text=True,
        )
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        listed = [run.run for run in Store(home).runs()]
        is_gone = DOOMED not in listed
        assert is_gone >= was_gone  # once gone it stays so
        was_gone = is_gone
        assert (DOOMED in run_ids(home)) == (not is_gone)
        if not is_gone:
            assert rows(Store(home), DOOMED) == whole
            assert RunFolder(home, DOOMED).config.is_file()
            continue
        store = Store(home)
        store.catch_up()
        assert rows(store, DOOMED) == dict.fromkeys(TABLES, 0)
        assert removing(home) == []
        empty_trash(home)
        assert trash(home) == []
        assert rows(rebuilt(home), KEPT) == whole
    assert number == int(ended.stdout) + 1 and number > 12


def test_a_run_that_is_being_removed_cannot_be_resumed(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / f"removing-{DOOMED}").mkdir()
    from engine.ipc.pidfile import AlreadyHeld
    from engine.supervisor.supervisor import Supervisor

    with pytest.raises(AlreadyHeld, match="is being removed"):
        Supervisor(RunFolder(tmp_path, DOOMED), [])


def test_links_are_not_followed(tmp_path: Path) -> None:
    """Neither that of a run's folder nor one in it; a home whose folders lead elsewhere is refused untouched."""
    home, elsewhere = tmp_path / "home", tmp_path / "elsewhere"
    store = made(home)
    folder = RunFolder(home, DOOMED).path
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere)
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "file").touch()
    (RunFolder(home, DOOMED).journal / "link").symlink_to(tmp_path / "own")
    remove(store.database, [DOOMED], 5.0)
    assert not os.path.lexists(folder) and not RunFolder(home, DOOMED).journal.exists()
    assert (elsewhere / "run.json").is_file() and (tmp_path / "own" / "file").exists()

    (home / "runs").rename(tmp_path / "runs")
    (home / "runs").symlink_to(tmp_path / "runs")
    with pytest.raises(RemovalRefused, match="leads out of the home"):
        remove(store.database, [KEPT], 5.0)
    assert removing(home) == [] and (tmp_path / "runs" / KEPT).is_dir()


def test_a_busy_store_is_waited_for_by_the_next_command(tmp_path: Path) -> None:
    store = made(tmp_path)
    whole = rows(store, KEPT)
    with (
        locked(tmp_path / "store.gate", patience=1.0),
        pytest.raises(StoreError, match=f"{DOOMED}: already hidden from every list"),
    ):
        remove(Database(tmp_path), [DOOMED], 0.01)
    assert removing(tmp_path) == [DOOMED]
    assert [run.run for run in store.runs()] == [KEPT]
    assert Ingester(store.database).tick() == 0
    assert (removing(tmp_path), rows(store, DOOMED)["scalar"]) == ([], 0)
    assert rows(store, KEPT) == whole


def test_an_older_store_does_not_bring_a_removed_run_back(tmp_path: Path) -> None:
    store = made(tmp_path)
    lost = "demo-s2-lost"
    finished_run(tmp_path, lost)
    store.catch_up()
    older = (tmp_path / "store.duckdb").read_bytes()
    whole, others = rows(store, KEPT), rows(store, lost)
    remove(store.database, [DOOMED], 5.0)
    # The folder of this one was lost; only the store has its rows.
    for folder in (RunFolder(tmp_path, lost).path, RunFolder(tmp_path, lost).journal):
        shutil.rmtree(folder)
    (tmp_path / "store.duckdb").write_bytes(older)
    again = Store(tmp_path)
    # Before an ingest the rows are there, but no list shows them.
    assert rows(again, DOOMED)["scalar"] > 0
    assert {run.run for run in again.runs()} == {KEPT, lost}
    again.catch_up()
    (told,) = again.take_repairs()
    assert f"{DOOMED} was removed, and its rows are dropped again" in told
    assert rows(again, DOOMED) == dict.fromkeys(TABLES, 0)
    assert (rows(again, KEPT), rows(again, lost)) == (whole, others)
    assert {run.run for run in again.runs()} == {KEPT, lost}


def test_a_removed_run_that_is_put_back_from_a_backup_is_a_run_again(tmp_path: Path) -> None:
    store = made(tmp_path)
    whole = rows(store, DOOMED)
    shutil.copytree(tmp_path, tmp_path / "backup", ignore=lambda *_: ["store.gate", "backup"])
    remove(store.database, [DOOMED], 5.0)
    for name in ("runs", "journal"):
        shutil.copytree(tmp_path / "backup" / name / DOOMED, tmp_path / name / DOOMED)
    store.catch_up()
    assert {run.run for run in store.runs()} == {DOOMED, KEPT}
    assert rows(store, DOOMED) == whole
    # Later its folder is lost: its rows stay.
    for name in ("runs", "journal"):
        shutil.rmtree(tmp_path / name / DOOMED)
    store.catch_up()
    assert rows(store, DOOMED) == whole
    assert {run.run for run in store.runs()} == {DOOMED, KEPT}


def test_a_removal_that_was_cut_short_outlasts_a_damaged_store(tmp_path: Path) -> None:
    store = made(tmp_path)
    whole = rows(store, KEPT)
    (tmp_path / f"removing-{DOOMED}").mkdir()
    (tmp_path / "store.duckdb").write_bytes(b"no database")
    again = Store(tmp_path)
    again.catch_up()
    assert [run.run for run in again.runs()] == [KEPT]
    assert (rows(again, DOOMED)["scalar"], rows(again, KEPT)["scalar"]) == (0, whole["scalar"])
    assert removing(tmp_path) == [] and len(trash(tmp_path)) == 1
