"""The supervisor over a fake engine, in real processes: states, commands, deaths, what is left behind."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.ipc.pidfile import hold, lock_path
from engine.supervisor import __main__ as entry
from store.home import RunFolder
from store.query import Store
from store.records import Event, Example, RunRow, Scalar
from tests.support.command_line import mathrl
from tests.support.supervised import (
    PATIENCE,
    ask,
    assert_nothing_left,
    assert_whole,
    events,
    last_reason,
    make_run,
    process_of,
    records,
    started,
    states,
    steps_done,
    supervise,
    until,
)

KILLS = int(os.environ.get("MATHRL_TEST_KILLS", "2"))  # of each kind of process


def goals(folder: RunFolder, role: str) -> Iterator[int]:
    """Numbers of steps at which to kill: each some steps behind where the run was at the last."""
    chance = random.Random(role)
    for _ in range(KILLS):
        yield steps_done(folder) + chance.randrange(1, 25)


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    assert supervise(folder).wait(PATIENCE) == 0
    assert states(folder) == ["queued", "running", "done"]
    assert_whole(folder, 60)
    assert_nothing_left(folder, [])
    assert (folder.logs / "worker.log").read_text() == ""


def test_a_run_without_a_worker(tmp_path: Path) -> None:
    folder = make_run(tmp_path, worker=False, steps=10)
    supervise(folder).wait(PATIENCE)
    assert_whole(folder, 10)
    roles = {r.payload["role"] for r in records(folder) if isinstance(r, Event) and r.kind == "process"}
    assert roles == {"supervisor", "trainer"}


@pytest.mark.parametrize("role", ["trainer", "worker"])
def test_killed_processes_are_started_again_and_leave_no_mark_on_the_record(
    tmp_path: Path, role: str
) -> None:
    steps = 50 + 25 * KILLS
    folder = make_run(tmp_path, steps=steps, settings=(f"hardware.{role}_restarts=1",))
    supervisor = started(folder)
    for goal in goals(folder, role):
        victim = process_of(folder, role)
        until(lambda: steps_done(folder) >= goal, "there is progress")  # noqa: B023
        os.kill(victim.pid, signal.SIGKILL)
        until(lambda: not victim.is_alive, "it is dead")  # noqa: B023
    assert supervisor.wait(PATIENCE) == 0
    assert_whole(folder, steps)
    assert sum("SIGKILL" in event.message for event in events(folder, "process")) == KILLS


def test_stages_that_a_resume_brings_are_pending_from_its_start(tmp_path: Path) -> None:
    folder = make_run(tmp_path, worker=False, steps=5)
    supervise(folder).wait(PATIENCE)
    config = json.loads(folder.config.read_text())
    config["plan"].append({"stage": "eval", "arm": ""})
    folder.config.write_text(json.dumps(config))
    for _ in range(2):  # a second resume, with nothing new
        supervise(folder).wait(PATIENCE)
        assert sum(isinstance(record, RunRow) for record in records(folder)) == 2
    store = Store(tmp_path)
    for _ in range(2):  # from the journal alone, and from the database
        assert ("eval", "pending") in [(each.stage, each.status) for each in store.runs()[0].stages]
        assert ("eval", "pending") in [(s.stage, s.status) for s in store.status(folder.run_id).stages]
        store.ingest()
    assert store.config(folder.run_id).table()["plan"] == config["plan"]


def test_killed_supervisors_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    steps = 50 + 25 * KILLS
    folder = make_run(tmp_path, steps=steps)
    for goal in goals(folder, "supervisor"):
        supervisor = supervise(folder)
        until(lambda: steps_done(folder) >= goal, "there is progress")  # noqa: B023
        before = [r for r in records(folder) if isinstance(r, (Scalar, Example))]
        supervisor.kill()
        supervisor.wait()
        after = [r for r in records(folder) if isinstance(r, (Scalar, Example))]
        assert after[: len(before)] == before
    assert supervise(folder).wait(PATIENCE) == 0
    assert_whole(folder, steps)
    assert states(folder).count("interrupted") == KILLS
    assert not list((folder.path / "unacknowledged").glob("*"))


def test_everything_killed_at_once(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=100)
    supervisor = started(folder)
    victims = [process_of(folder, role) for role in ("trainer", "supervisor", "worker")]
    for victim in victims:
        os.kill(victim.pid, signal.SIGKILL)
    supervisor.wait()
    assert supervise(folder).wait(PATIENCE) == 0
    assert_whole(folder, 100)


def test_a_disk_that_is_full_for_a_while_costs_nothing(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=150)
    supervisor = started(folder)
    written = sum(path.stat().st_size for path in folder.journal.iterdir())
    unlimited = resource.prlimit(
        supervisor.pid, resource.RLIMIT_FSIZE, (written + 300, resource.RLIM_INFINITY)
    )
    until(  # the store's own words may come first
        lambda: "journal cannot be written" in ask(folder, "status").status["trouble"],
        "the supervisor cannot write",
    )
    resource.prlimit(supervisor.pid, resource.RLIMIT_FSIZE, unlimited)
    assert supervisor.wait(PATIENCE) == 0
    assert_whole(folder, 150)
    assert any("nothing was lost" in event.message for event in events(folder, "log"))


def test_a_failed_stage_is_not_tried_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder.path / "fail").touch()
    assert supervise(folder).wait(PATIENCE) == 1
    assert states(folder) == ["queued", "running", "failed"]
    assert last_reason(folder) == "sft: no such thing"


def test_a_run_with_parts_that_failed_ends_as_done_with_failures_and_status_1(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder.path / "incomplete").touch()
    assert supervise(folder).wait(PATIENCE) == 1
    assert states(folder) == ["queued", "running", "done_with_failures"]
    assert last_reason(folder) == "eval: 1 of 2 parts failed"


@pytest.mark.parametrize("times", [2, 3])
def test_an_arm_is_trained_again_by_another_trainer_and_not_for_ever(tmp_path: Path, times: int) -> None:
    folder = make_run(tmp_path, steps=4)
    (folder.path / "reopen").write_text(str(times))
    assert supervise(folder).wait(60) == int(times > 2)
    trainers = [event for event in events(folder, "process") if event.payload["role"] == "trainer"]
    assert len([event for event in trainers if event.payload["alive"]]) == 3
    assert_whole(folder, 4)
    if times > 2:
        assert states(folder)[-1] == "failed"
        assert last_reason(folder).startswith("the last checkpoint of arm sft was damaged again each time")
    else:
        assert states(folder)[-1] == "done"


def test_a_crash_is_tried_again_and_its_traceback_is_in_the_log(tmp_path: Path) -> None:
    folder = make_run(tmp_path)
    (folder.path / "crash").touch()
    assert supervise(folder).wait(PATIENCE) == 0
    assert "the test asked for a crash" in (folder.logs / "trainer.log").read_text()
    assert_whole(folder, 60)


@pytest.mark.parametrize("role", ["trainer", "worker"])
def test_an_error_that_comes_again_ends_the_run_with_its_words(tmp_path: Path, role: str) -> None:
    folder = make_run(tmp_path, settings=(f"hardware.{role}_restarts=20",))
    (folder.path / f"crash-{role}").touch()
    assert supervise(folder).wait(PATIENCE) == 1
    error = f"FileNotFoundError: [Errno 2] No such file or directory: '{role}.toml'"
    ended = f"{role} ended: {error}; exit status 1, see logs/{role}.log"
    assert last_reason(folder) == f"{ended} (2 times without progress)"
    assert f"{ended}; restarting in 0 s" in [event.message for event in events(folder, "log")]
    assert [event.message for event in events(folder, "process")].count(ended) == 2
    for command in ("runs", "status"):
        assert error in mathrl(tmp_path, command).stdout
    assert mathrl(tmp_path, "attach", folder.run_id).stderr.count(error) == 1


@pytest.mark.parametrize("role", ["trainer", "worker"])
def test_deaths_without_progress_end_the_run(tmp_path: Path, role: str) -> None:
    folder = make_run(tmp_path, settings=(f"hardware.{role}_restarts=1",))
    (folder.path / "hold-trainer").touch()
    supervisor = supervise(folder)
    for _ in range(2):
        victim = process_of(folder, role)
        os.kill(victim.pid, signal.SIGKILL)
        until(lambda: not victim.is_alive, "it is dead")  # noqa: B023
    if role == "worker":
        (folder.path / "hold-trainer").unlink()
    supervisor.wait(PATIENCE)
    assert states(folder)[-1] == "failed"
    assert f"{role} was killed by SIGKILL" in last_reason(folder)
    assert f"see logs/{role}.log (2 times without progress)" in last_reason(folder)


def test_only_one_supervisor_holds_a_run(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=10_000)
    supervisor = started(folder)
    with pytest.raises(AssertionError, match="held by another process"):
        supervise(folder)
    assert ask(folder, "status").status["state"] == "running"
    ask(folder, "kill")
    supervisor.wait(PATIENCE)


def test_a_resumed_run_waits_for_the_orphans_of_the_last_start(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=100)
    supervisor = started(folder)
    (folder.path / "hold-trainer").touch()
    until(lambda: "held" in [event.message for event in events(folder, "log")], "the trainer is held")
    orphan = process_of(folder, "trainer")
    supervisor.kill()
    supervisor.wait()
    supervisor = supervise(folder)
    until(lambda: "trainer of its last start" in last_reason(folder), "it waits for the orphan")
    assert orphan.is_alive
    (folder.path / "hold-trainer").unlink()
    assert supervisor.wait(PATIENCE) == 0
    assert not orphan.is_alive
    assert_whole(folder, 100)


def test_two_runs_that_want_one_gpu_take_turns(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path / name, steps=10_000) for name in ("a", "b"))
    locks = tmp_path / "locks"
    one = supervise(first, "GPU-1", str(locks))
    until(lambda: states(first)[-1] == "running", "the first run runs")
    two = supervise(second, "GPU-1", str(locks))
    until(lambda: "another run has it" in last_reason(second), "the second waits")
    assert ask(second, "status").status["state"] == "queued"
    ask(first, "stop")
    one.wait(PATIENCE)
    until(lambda: states(second)[-1] == "running", "the second run runs")
    third = make_run(tmp_path / "c")
    three = supervise(third, "GPU-1", str(locks))
    until(lambda: "another run has it" in last_reason(third), "the third waits")
    assert ask(third, "stop").ok
    three.wait(PATIENCE)
    assert states(third)[-1] == "interrupted"
    ask(second, "kill")
    two.wait(PATIENCE)


def test_a_run_deep_in_a_tree_is_reached_by_its_owner_alone(tmp_path: Path) -> None:
    folder = make_run(tmp_path / ("d" * 120) / ("e" * 120), steps=10_000)
    supervisor = started(folder)
    assert len(str(folder.socket)) > 240
    assert stat.S_IMODE(folder.socket.stat().st_mode) == 0o600
    assert ask(folder, "status").status["state"] == "running"
    ask(folder, "kill")
    supervisor.wait(PATIENCE)


def test_a_second_supervisor_names_the_first_and_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path)
    held = hold(lock_path(folder))
    try:
        assert entry.main([str(folder.path)]) == 1
    finally:
        os.close(held)
    assert capsys.readouterr().err == (
        f"run {folder.run_id}: is live already, its supervisor is process {os.getpid()}; "
        f"`mathrl-tui attach {folder.run_id}` shows it\n"
    )
