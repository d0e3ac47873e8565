"""A store whose gate is held: reports answer from the last copy, say how old it is, and name the holder."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from store import consistent_copy, locks
from store.database import READ_PATIENCE
from store.errors import StoreBusy
from store.ingest import Ingester
from store.lock_holders import described, holders
from store.locks import LockBusy, locked
from store.query import Store
from tests.support.command_line import environment, mathrl
from tests.support.fabricated import finished_run
from tests.support.journaled import RUN, journaled, scalars
from tests.support.supervised import PATIENCE, ask, make_run, process_of, started, states

HOLD = """
import os, signal, sys, time
from pathlib import Path
from store.locks import locked
with locked(Path(sys.argv[1]), patience=5.0):
    print("held", flush=True)
    if sys.argv[2] == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif sys.argv[2] == "busy":
        while True:
            sum(range(1000))
    elif sys.argv[2] == "inherited":
        for name in range(3, 20):
            try:
                os.set_inheritable(name, True)
            except OSError:
                continue
        os.posix_spawn("/usr/bin/env", ["env", "sleep", "600"], os.environ)
        os._exit(0)
    sys.stdin.read()
"""


@contextmanager
def held(lock: Path, how: str = "idle", *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Another process holds `lock`."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    arguments = command or (sys.executable, "-c", HOLD, str(lock), how)
    with subprocess.Popen(
        arguments, env=environment(lock.parent), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            for holder in holders(lock):
                holder.process.kill()
            process.kill()


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of ten rows, whose readers wait a tenth of a second."""
    monkeypatch.setattr("store.query.CATCH_UP_SECONDS", 0.1)
    monkeypatch.setattr("store.database.Database.reading.__wrapped__.__defaults__", (0.1,))
    monkeypatch.setattr("store.database.Database.copied.__wrapped__.__defaults__", (0.1, 0))
    journaled(tmp_path, scalars(10))
    store = Store(tmp_path)
    store.ingest()
    return store


def test_a_held_lock_names_its_holder(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with held(lock) as process, pytest.raises(LockBusy) as caught, locked(lock, patience=0.0):
        pass
    assert str(caught.value).startswith(f"{lock}: held by PID {process.pid}, '{sys.executable} -c")
    assert "\n" not in str(caught.value)
    with locked(lock, patience=0.0):
        assert [one.process.pid for one in holders(lock)] == [os.getpid()]
    assert holders(lock) == []


def test_a_stopped_holder_is_named_as_such(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with held(lock, "stopped") as process:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        words = described(lock, (), 0.0)
    assert f"`kill -CONT {process.pid}` continues it, `kill -KILL {process.pid}` ends it" in words


def test_a_holder_that_does_nothing_is_told_from_one_that_works(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with held(lock) as process:
        before = holders(lock)
        assert f"made no progress for 5 s: `kill {process.pid}` ends it" in described(lock, before, 5.0)
        assert "progress" not in described(lock, before, 0.5)
    with held(lock, "busy") as process:
        before = holders(lock)
        deadline = time.monotonic() + PATIENCE
        while holders(lock) == before:
            assert time.monotonic() < deadline
        assert described(lock, before, 5.0).startswith(f"held by PID {process.pid}, ")
        assert "progress" not in described(lock, before, 5.0)


def test_a_lock_that_a_child_has_inherited_is_the_childs(tmp_path: Path) -> None:
    lock = tmp_path / "a.lock"
    with held(lock, "inherited") as process:
        process.wait()
        assert "sleep 600'" in described(lock, (), 1.0)
    with held(lock) as process:
        assert f"PID {process.pid}" in described(lock, (), 1.0)


def test_a_short_wait_after_a_long_one_names_the_same_holder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To look for a child that inherited the lock takes too long for a short wait."""
    monkeypatch.setattr(locks, "LONG_SECONDS", 0.3)
    gate = tmp_path / "store.gate"
    with held(gate, "inherited"):
        lines = []
        for _ in range(2):
            with pytest.raises(LockBusy) as caught, locked(gate, patience=0.4):
                pass
            lines.append(str(caught.value))
    assert "sleep 600" in lines[0]
    assert lines[1] == lines[0]
    with locked(gate, patience=5.0):
        pass
    assert gate not in locks._in_vain


def test_a_holder_that_cannot_be_seen_is_said_to_be_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "a.lock"
    monkeypatch.setattr("store.lock_holders._listed", lambda status: iter(()))
    monkeypatch.setattr("store.lock_holders._inheritors", lambda status: iter(()))
    with held(lock):
        assert "not visible from here" in described(lock, (), 1.0)


def test_a_supervisor_that_holds_a_lock_is_named_by_its_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path, worker=False, steps=100_000)
    supervisor = started(folder)
    pid = process_of(folder, "supervisor").pid
    assert (
        described(folder.path / "run.lock", (), 1.0)
        == f"held by PID {pid}, the supervisor of run {folder.run_id}"
    )
    assert ask(folder, "kill").ok
    supervisor.wait(PATIENCE)


def test_a_process_waits_long_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "LONG_SECONDS", 0.1)
    monkeypatch.setattr(locks, "SHORT_SECONDS", 0.0)
    gate, other = tmp_path / "store.gate", tmp_path / "store.lock"
    with held(gate):
        with pytest.raises(LockBusy), locked(gate, patience=0.2):
            pass
        with locked(other, patience=0.0):
            pass
        for _ in range(2):
            begun = time.monotonic()
            with pytest.raises(LockBusy), locked(gate, patience=600.0):
                pass
            assert time.monotonic() - begun < 300.0
    with locked(gate, patience=0.0):
        pass
    assert gate not in locks._in_vain


def test_the_last_copy_answers_and_its_age_is_told_once(
    store: Store, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    os.utime(tmp_path / "store.duckdb", (time.time() - 200, time.time() - 200))
    journaled(tmp_path, scalars(10, start=10))
    with held(tmp_path / "store.gate") as process, caplog.at_level(logging.WARNING):
        store.catch_up()
        for _ in range(3):
            assert store.series(RUN, "sft/train/loss").step.size == 10
        assert store.sql("SELECT count(*) FROM scalar")[1] == [(10,)]
        assert Store(tmp_path).series(RUN, "sft/train/loss").step.size == 10
        assert f"PID {process.pid}" in store.problem
    (message,) = [record.message for record in caplog.records]
    assert message.startswith("this answer is from the store as it was 3 min ago; ")
    assert f"store.gate: held by PID {process.pid}" in message
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("mathrl-copy-")]
    store.catch_up()
    assert store.series(RUN, "sft/train/loss").step.size == 20
    assert store.problem == ""


def test_offsets_are_never_read_from_a_copy(store: Store, tmp_path: Path) -> None:
    journaled(tmp_path, scalars(10, start=10))
    with held(tmp_path / "store.gate"):
        ingester = Ingester(store.database)
        assert ingester.apply(0.0) == 0
        assert "held by PID" in ingester.problem
    assert ingester.apply(0.0) == 10


def test_a_file_that_is_being_written_is_not_copied(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = consistent_copy.copy

    def written_meanwhile(paths: tuple[Path, Path], folder: Path) -> None:
        copied(paths, folder)
        os.utime(paths[0])

    monkeypatch.setattr(consistent_copy, "copy", written_meanwhile)
    with held(store.home / "store.gate"), pytest.raises(StoreBusy, match="held by PID"):
        store.runs()


def test_reports_answer_while_the_gate_is_held_for_ever(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run = finished_run(home)
    assert mathrl(home, "export", "--what", "evals", "--out", tmp_path / "before").returncode == 0
    run.write(run.event("log", "one more", "eval", level="info", process="trainer"))
    reports: list[tuple[str, ...]] = [
        ("runs",),
        ("sql", "SELECT count(*) FROM eval_row"),
        ("export", "--what", "evals", "--out", str(tmp_path / "out")),
    ]
    expected = {report: mathrl(home, *report).stdout for report in reports}
    with held(home / "store.gate", "stopped") as process:
        # One process waits for all of them: a command's wait is the same for each.
        for report in reports[:1]:
            _answers(home, report, expected[report], process.pid, READ_PATIENCE)
        for report in reports[1:]:
            _answers(home, report, expected[report], process.pid, 0.3)
    assert (tmp_path / "out" / "evals.csv").read_text() == (tmp_path / "before" / "evals.csv").read_text()


def _answers(home: Path, report: tuple[str, ...], expected: str, pid: int, patience: float) -> None:
    script = (
        f"import store.database, store.query; store.query.CATCH_UP_SECONDS = {patience}; "
        f"store.database.Database.reading.__wrapped__.__defaults__ = ({patience},); "
        f"store.database.Database.copied.__wrapped__.__defaults__ = ({patience}, 0); "
        "from mathrl_tui.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *report],
        env=environment(home),
        capture_output=True,
        text=True,
        cwd=home.parent,
    )
    assert (done.returncode, done.stdout) == (0, expected), done.stderr
    (line,) = done.stderr.splitlines()
    assert "this answer is from the store as it was" in line
    assert f"`kill -CONT {pid}` continues it" in line


def test_a_run_starts_and_stops_while_the_gate_is_held(tmp_path: Path) -> None:
    with held(tmp_path / "store.gate", "stopped"):
        folder = make_run(tmp_path, worker=False, steps=100_000)
        supervisor = started(folder)
        (store_status,) = [ask(folder, "status").status]
        assert store_status["state"] == "running"
        assert ask(folder, "stop").ok
        assert supervisor.wait(PATIENCE) == 1
    assert states(folder)[-1] == "interrupted"
    assert "the database is behind the journal" in (folder.logs / "supervisor.log").read_text()
    assert json.loads(mathrl(tmp_path, "runs", "--json").stdout)["runs"][0]["state"] == "interrupted"
