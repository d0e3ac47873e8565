"""Commands to a run over a fake engine: stop, pause, resume, checkpoint, kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine.ipc.pidfile import Process
from engine.protocol import control
from engine.weight_sync.slots import SHARED_MEMORY
from store.home import RunFolder
from tests.support.supervised import (
    PATIENCE,
    ask,
    assert_nothing_left,
    assert_whole,
    events,
    last_reason,
    make_run,
    process_of,
    started,
    states,
    steps_done,
    supervise,
    until,
)


def test_stop_ends_after_a_checkpoint_and_the_run_goes_on_later(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=300)
    supervisor = started(folder)
    processes = [process_of(folder, role) for role in ("trainer", "worker")]
    reply = ask(folder, "stop")
    assert reply.ok
    assert "checkpoint" in reply.message
    supervisor.wait(PATIENCE)
    assert states(folder) == ["queued", "running", "stopping", "interrupted"]
    assert last_reason(folder) == "stopped by test"
    done = steps_done(folder)
    assert (folder.path / "state.json").read_text().startswith(f"[{done},")
    assert_nothing_left(folder, processes)
    assert supervise(folder).wait(PATIENCE) == 0
    assert_whole(folder, 300)


def paused(tmp_path: Path, steps: int) -> tuple[RunFolder, subprocess.Popen[bytes]]:
    """A run that was paused, and its supervisor."""
    folder = make_run(tmp_path, steps=steps)
    supervisor = started(folder)
    assert ask(folder, "pause").ok
    until(lambda: states(folder)[-1] == "paused", "the run is paused")
    return folder, supervisor


def test_pause_checkpoint_resume(tmp_path: Path) -> None:
    folder, supervisor = paused(tmp_path, steps=200)
    done = steps_done(folder)
    (folder.path / "state.json").unlink(missing_ok=True)
    assert ask(folder, "checkpoint").ok
    until((folder.path / "state.json").exists, "a paused run writes a checkpoint")
    assert steps_done(folder) == done
    assert ask(folder, "status").status["state"] == "paused"
    assert ask(folder, "resume").ok
    assert not ask(folder, "resume").ok
    assert supervisor.wait(PATIENCE) == 0
    assert states(folder) == ["queued", "running", "paused", "running", "done"]
    assert_whole(folder, 200)


def test_a_paused_trainer_that_dies_is_paused_when_it_comes_back(tmp_path: Path) -> None:
    folder, supervisor = paused(tmp_path, steps=100)
    first = process_of(folder, "trainer")
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: not first.is_alive and process_of(folder, "trainer") != first, "a new trainer lives")
    assert ask(folder, "stop").ok
    supervisor.wait(PATIENCE)
    assert states(folder)[-1] == "interrupted"


def test_a_run_that_is_resumed_while_its_new_trainer_loads_runs_and_can_be_paused_again(
    tmp_path: Path,
) -> None:
    folder, supervisor = paused(tmp_path, steps=10_000)
    (folder.path / "hold-trainer").touch()
    first = process_of(folder, "trainer")
    os.kill(first.pid, signal.SIGKILL)
    until(lambda: not first.is_alive and process_of(folder, "trainer") != first, "a new trainer lives")
    assert ask(folder, "resume").ok
    (folder.path / "hold-trainer").unlink()
    done = steps_done(folder)
    until(lambda: steps_done(folder) > done, "it goes on")
    assert ask(folder, "status").status["state"] == "running"
    ask(folder, "pause")
    until(lambda: states(folder).count("paused") == 2, "it is paused again")
    ask(folder, "kill")
    supervisor.wait(PATIENCE)


def test_a_run_that_is_resumed_and_paused_again_before_its_trainer_saw_it_shows_as_paused(
    tmp_path: Path,
) -> None:
    folder, supervisor = paused(tmp_path, steps=10_000)
    (folder.path / "hold-save").touch()
    for command in ("checkpoint", "resume", "pause"):
        assert ask(folder, command).ok
    assert ask(folder, "status").status["state"] == "running"
    (folder.path / "hold-save").unlink()
    until(lambda: states(folder)[-1] == "paused", "it shows as paused")
    ask(folder, "kill")
    supervisor.wait(PATIENCE)


def test_kill_takes_the_whole_tree_at_once(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=10_000)
    supervisor = started(folder)
    (folder.path / "hold-trainer").touch()
    (folder.path / "hold-worker").touch()
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True
    )
    (Path("/dev/shm") / f"mathrl-{folder.run_id}-@{dead.stdout.strip()}.0").touch()
    processes = [process_of(folder, role) for role in ("trainer", "worker")]
    ask(folder, "kill")
    assert_nothing_left(folder, processes)
    supervisor.wait(PATIENCE)
    assert (states(folder)[-1], last_reason(folder)) == ("interrupted", "killed by test")


@pytest.mark.parametrize("end", ["kill", "death"])
def test_what_a_worker_started_ends_with_it_wherever_it_went(tmp_path: Path, end: str) -> None:
    folder = make_run(tmp_path, steps=10_000)
    (folder.path / "helpers").touch()
    supervisor = started(folder)
    helper = Process.of(int((folder.path / "helpers").read_text()))
    assert helper.is_alive
    if end == "death":
        os.kill(process_of(folder, "worker").pid, signal.SIGKILL)
        until(lambda: not helper.is_alive, "the helper is dead")
    ask(folder, "kill")
    supervisor.wait(PATIENCE)
    assert not helper.is_alive


@pytest.mark.parametrize("started_through_a_link", [False, True])
def test_kill_reaches_a_run_whose_supervisor_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started_through_a_link: bool
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "link").symlink_to(home)
    folder = make_run(tmp_path / "link" if started_through_a_link else home, steps=10_000)
    supervisor = started(folder)
    processes = [process_of(folder, role) for role in ("trainer", "worker")]
    (
        SHARED_MEMORY / f"mathrl-{folder.run_id}-@{processes[0].pid}.0.v1"
    ).touch()  # weights that it has published
    monkeypatch.setattr(control, "PATIENCE_SECONDS", 0.3)
    (folder.path / "hold-trainer").touch()  # it would not end by itself
    until(lambda: "held" in [event.message for event in events(folder, "log")], "the trainer is held")
    supervisor.send_signal(signal.SIGSTOP)
    ask(RunFolder(home, folder.run_id), "kill")
    assert_nothing_left(folder, processes)
    supervisor.wait(PATIENCE)
