"""Commands to a run that need its folder only: they work when the store is held, and when its supervisor hangs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from engine.ipc.ending import end_processes, processes_of
from engine.ipc.pidfile import hold, lock_path, pid_path
from engine.protocol.control import short_address
from engine.supervisor import commands as commanding
from mathrl_tui import control
from store import tail
from store.home import RunFolder
from store.journal import JournalWriter, Position, scan, segment_path
from store.locks import locked
from store.process import Process
from store.records import Event, Scalar
from store.tail import read_tail
from tests.support.command_line import environment, mathrl
from tests.support.fabricated import live_run
from tests.support.supervised import (
    PATIENCE,
    assert_nothing_left,
    last_reason,
    make_run,
    process_of,
    started,
    states,
)

HOLD_AND_STOP = """
import os, signal, sys
from pathlib import Path
from store.locks import locked
with locked(Path(sys.argv[1]), patience=5.0):
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""
WITHOUT_LIBRARIES = """
import sys
from mathrl_tui.cli import main
try:
    main()
except SystemExit as end:
    status = end.code
print(sorted({"duckdb", "numpy", "pyarrow"} & sys.modules.keys()), file=sys.stderr)
sys.exit(status)
"""


@contextmanager
def held_gate(home: Path) -> Iterator[None]:
    """The gate is held by a process that was stopped while it held it."""
    home.mkdir(parents=True, exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_AND_STOP, str(home / "store.gate")],
        env=environment(home),
        stdout=subprocess.PIPE,
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        try:
            yield
        finally:
            holder.kill()


def run_of(home: Path) -> tuple[RunFolder, subprocess.Popen[bytes], list[Process]]:
    """A run at work, its supervisor, and all its processes."""
    folder = make_run(home, steps=100_000)
    supervisor = started(folder)
    processes = [process_of(folder, role) for role in ("supervisor", "trainer", "worker")]
    return folder, supervisor, processes


def killed(folder: RunFolder) -> None:
    done = mathrl(folder.home, "kill", folder.run_id)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_commands_load_no_database(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run = live_run(home)
    with held_gate(home):
        for arguments, status in (
            (("status", "demo-s1"), 0),
            (("status", "--json"), 0),
            (("stop", "demo-s1"), 2),
        ):
            done = subprocess.run(
                [sys.executable, "-c", WITHOUT_LIBRARIES, *arguments],
                env=environment(home),
                capture_output=True,
                text=True,
            )
            assert done.returncode == status, done.stderr
            assert done.stderr.splitlines()[-1] == "[]"
    run.unlock()


def test_a_run_is_killed_while_the_store_is_held(tmp_path: Path) -> None:
    folder, supervisor, processes = run_of(tmp_path)
    with held_gate(tmp_path):
        status = json.loads(mathrl(tmp_path, "status", folder.run_id, "--json").stdout)
        assert (status["state"], status["stage"]) == ("running", "sft")
        assert {one["role"] for one in status["processes"] if one["alive"]} == {
            "supervisor",
            "trainer",
            "worker",
        }
        killed(folder)
    supervisor.wait(PATIENCE)
    assert_nothing_left(folder, processes)
    assert (states(folder)[-1], last_reason(folder)) == ("interrupted", "killed by `mathrl-tui kill`")


@pytest.mark.parametrize("stopped", [("supervisor",), ("supervisor", "trainer", "worker")])
def test_a_stopped_supervisor_is_killed_with_all_that_it_started(
    tmp_path: Path, stopped: tuple[str, ...]
) -> None:
    folder, supervisor, processes = run_of(tmp_path)
    trackers = [one for one in _all_of(folder) if one not in processes_of(folder)]
    with held_gate(tmp_path):
        for process in processes[: len(stopped)]:
            process.signal(signal.SIGSTOP)
        for tracker in trackers if len(stopped) > 1 else []:
            tracker.signal(signal.SIGSTOP)
        refused = mathrl(tmp_path, "pause", folder.run_id)
        assert refused.returncode == 2
        assert f"kill -CONT {processes[0].pid}" in refused.stderr
        assert f"kill -CONT {processes[0].pid}" in mathrl(tmp_path, "status", folder.run_id).stdout
        killed(folder)
    supervisor.wait(PATIENCE)
    assert_nothing_left(folder, [*processes, *trackers])
    assert states(folder)[-1] == "interrupted"
    assert last_reason(folder) == "killed by `mathrl-tui kill`; its supervisor was stopped by a signal"


def test_the_console_kills_a_stopped_supervisor(tmp_path: Path) -> None:
    folder, supervisor, processes = run_of(tmp_path)
    with held_gate(tmp_path):
        processes[0].signal(signal.SIGSTOP)
        assert not control.command(tmp_path, folder.run_id, "stop").done
        assert control.command(tmp_path, folder.run_id, "kill").done
    supervisor.wait(PATIENCE)
    assert_nothing_left(folder, processes)
    assert "press R" in control.command(tmp_path, folder.run_id, "stop").words


@pytest.mark.parametrize("fault", ["gone", "full", "dead"])
def test_a_run_whose_socket_is_of_no_use_is_killed(
    tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commanding, "ANSWER_SECONDS", 0.2)
    folder, supervisor, processes = run_of(tmp_path)
    with ExitStack() as open_sockets:
        folder.socket.unlink()
        if fault == "full":
            _fill(folder, open_sockets)
        processes[1].signal(signal.SIGSTOP)
        if fault == "dead":
            supervisor.kill()
            supervisor.wait()
        assert commanding.command(tmp_path, folder.run_id, "kill").ok
    supervisor.wait(PATIENCE)
    assert_nothing_left(folder, processes)
    assert last_reason(folder).startswith("killed by `mathrl-tui kill`; its supervisor")


def test_no_process_that_was_given_a_number_again_is_killed(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    with subprocess.Popen(["sleep", "60"]) as stranger:
        identity = Process.of(stranger.pid)
        lock_path(folder).write_text(f"{identity.pid} {identity.started}\n")  # nobody holds it
        descriptor = hold(pid_path(folder, "trainer"))
        pid_path(folder, "trainer").write_text(f"{identity.pid} {identity.started + 1}\n")
        try:
            assert end_processes(folder) == set()
            assert identity.is_alive
        finally:
            os.close(descriptor)
            stranger.kill()


def test_attach_follows_a_run_while_the_store_is_held(tmp_path: Path) -> None:
    home = tmp_path / "home"
    run = live_run(home)
    with (
        held_gate(home),
        subprocess.Popen(
            [sys.executable, "-u", "-m", "mathrl_tui", "attach", "demo-s1"],
            env=environment(home),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as attached,
    ):
        assert attached.stdout is not None
        assert "sft 8/40 steps" not in attached.stdout.readline()
        run.write(run.event("state", state="done", reason=""))
        run.unlock()
        assert "demo-s1-live: done" in attached.stdout.read()
    assert attached.returncode == 0


def test_the_tail_of_a_long_journal_is_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "journal"
    monkeypatch.setattr("store.journal.SEGMENT_BYTES", 4_000)
    with JournalWriter(folder) as journal:
        journal.append([Event("stage", stage="data", payload={"status": "started"})])
        for step in range(300):
            end = journal.append([Scalar("sft/train/loss", step, 1.0 / (step + 1))])
    assert end > Position(5, 0)
    assert read_tail(folder).is_whole
    assert len(read_tail(folder).records) == 301
    parsed: list[int] = []
    decode = tail.decode  # of a line
    monkeypatch.setattr(tail, "decode", lambda content: parsed.append(len(content)) or decode(content))
    part = read_tail(folder, parsed_bytes=2_000, searched_bytes=1 << 20)
    assert (part.end, part.is_whole) == (end, False)
    assert sum(parsed) < 3_000
    assert [one.kind for one in part.records if isinstance(one, Event)] == ["stage"]
    steps = [one.step for one in part.records if isinstance(one, Scalar)]
    assert steps == list(range(300 - len(steps), 300))
    nearest = read_tail(folder, parsed_bytes=2_000, searched_bytes=0)
    assert not [one for one in nearest.records if isinstance(one, Event)]
    with segment_path(folder, end.segment).open("ab") as file:
        file.write(b"00000000 [3,[torn")
    assert read_tail(folder).end == end


def test_status_of_a_run_whose_journal_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages that ended before the part that is read are known by their marks."""
    run = live_run(tmp_path / "home")
    (run.folder.path / "finished").mkdir()
    for mark in ("data", "base"):
        (run.folder.path / "finished" / mark).touch()
    script = "from store import tail; tail.read_tail.__defaults__ = (1500, 0); from mathrl_tui.cli import main; main()"
    told = subprocess.run(
        [sys.executable, "-c", script, "status", "--json"],
        env=environment(tmp_path / "home"),
        capture_output=True,
        text=True,
    )
    (status,) = json.loads(told.stdout)["runs"]
    stages = {one["arm"] or one["stage"]: one["status"] for one in status["stages"]}
    assert stages == {
        "data": "finished",
        "base": "finished",
        "sft": "started",
        "grpo": "pending",
        "eval": "pending",
    }
    assert (status["arm"], status["step"], status["total_steps"]) == ("sft", 12, 40)
    assert "base/train/loss" not in status["metrics"]
    run.unlock()


def test_a_stranger_that_holds_the_lock_of_a_dead_run_is_left_alone(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    with locked(lock_path(folder), patience=1.0):
        done = mathrl(tmp_path, "kill", folder.run_id)
    assert done.returncode == 2
    assert f"PID {os.getpid()}" in done.stderr


def _all_of(folder: RunFolder) -> list[Process]:
    """The run's processes, with those that its supervisor started for its own use."""
    supervisor = process_of(folder, "supervisor")
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(supervisor.pid)], capture_output=True, text=True, check=True
    )
    return [supervisor, *(Process.of(int(pid)) for pid in listed.stdout.split())]


def _fill(folder: RunFolder, open_sockets: ExitStack) -> None:
    """Put a socket in place of the supervisor's that nobody serves, with as many clients as may wait."""
    listener = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
    with short_address(folder.socket) as address:
        listener.bind(address)
        listener.listen(0)
        for _ in range(8):
            client = open_sockets.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(address)
            except BlockingIOError:
                return
    raise AssertionError("the socket takes clients without end")


def test_damage_in_the_part_that_is_read_is_found_as_by_a_whole_look(tmp_path: Path) -> None:
    run = live_run(tmp_path)
    path = segment_path(run.folder.journal, 1)
    lines = path.read_bytes().splitlines(keepends=True)
    for hurt in (1, 2, 9):
        lines[hurt] = lines[hurt][:20] + bytes([lines[hurt][20] ^ 1]) + lines[hurt][21:]
    path.write_bytes(b"".join(lines))
    segment_path(run.folder.journal, 2).write_bytes(lines[4] + lines[5][:-7])
    segment_path(run.folder.journal, 3).write_bytes(lines[6] + b"torn")
    found = scan(run.folder.journal)
    for limits in ((1 << 20, 0), (0, 1 << 20)):
        seen = read_tail(run.folder.journal, *limits)
        assert [(one.place, one.before, one.after) for one in seen.damages] == [
            (one.place, one.before, one.after) for one in found.damages
        ]
        assert seen.end == found.end
    assert len(found.damages) == 3
    run.unlock()
