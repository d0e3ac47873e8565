"""SIGTERM with SIGKILL some seconds later, as a reclaimed machine or a stopped container sends it.

The seconds are not measured: whatever would take long is made to take for ever, and must not be waited for.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.ipc.pidfile import Process
from engine.supervisor.final_state import TERMINATED
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
    supervise,
    until,
)

REASON = TERMINATED.format(signal="SIGTERM")
Targets = Callable[[list[Process]], list[Process]]


def processes_of(folder: RunFolder) -> list[Process]:
    return [process_of(folder, role) for role in ("supervisor", "trainer", "worker")]


def is_on_record(folder: RunFolder) -> bool:
    return (states(folder)[-1], last_reason(folder)) == ("interrupted", REASON)


@pytest.mark.parametrize("everybody", [False, True], ids=["supervisor", "all processes"])
def test_the_end_is_on_record_before_a_step_that_never_ends(tmp_path: Path, everybody: bool) -> None:
    folder = make_run(tmp_path, steps=200)
    supervisor = started(folder)
    processes = processes_of(folder)
    (folder.path / "hold-trainer").touch()
    until(lambda: "held" in [event.message for event in events(folder, "log")], "the trainer is held")
    for process in processes if everybody else processes[:1]:
        os.kill(process.pid, signal.SIGTERM)
    until(lambda: is_on_record(folder), "the end is on record")
    for process in processes:
        process.kill()
    supervisor.wait(PATIENCE)
    (folder.path / "hold-trainer").unlink()
    assert supervise(folder).wait(PATIENCE) == 0
    assert_whole(folder, 200)
    assert "the supervisor died" not in [event.message for event in events(folder, "state")]


@pytest.mark.parametrize("everybody", [False, True], ids=["supervisor", "all processes"])
def test_no_checkpoint_is_begun(tmp_path: Path, everybody: bool) -> None:
    """A checkpoint that would never be done is in nobody's way; `stop` would wait for it."""
    folder = make_run(tmp_path, steps=10_000)
    supervisor = started(folder)
    processes = processes_of(folder)
    (folder.path / "hold-save").touch()
    for process in processes if everybody else processes[:1]:
        os.kill(process.pid, signal.SIGTERM)
    assert supervisor.wait(PATIENCE) == 1
    assert is_on_record(folder)
    assert_nothing_left(folder, processes)


def test_a_checkpoint_that_an_earlier_stop_began_is_given_up_in_time(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=10_000)
    supervisor = started(folder)
    processes = processes_of(folder)
    (folder.path / "hold-save").touch()
    ask(folder, "stop")
    until(lambda: states(folder)[-1] == "stopping", "the run stops")
    supervisor.terminate()
    supervisor.wait(PATIENCE)
    assert is_on_record(folder)
    assert_nothing_left(folder, processes)


def test_a_second_sigterm_kills_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run(tmp_path, steps=10_000)
    supervisor = started(folder)
    processes = processes_of(folder)
    (folder.path / "hold-leave").touch()
    supervisor.terminate()
    until(lambda: is_on_record(folder), "the end is on record")
    supervisor.terminate()
    supervisor.wait(PATIENCE)
    assert is_on_record(folder)
    assert_nothing_left(folder, processes)


def test_sigterm_to_the_trainer_alone_ends_the_run_without_a_checkpoint(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=10_000)
    supervisor = started(folder)
    (folder.path / "hold-save").touch()
    os.kill(process_of(folder, "trainer").pid, signal.SIGTERM)
    supervisor.wait(PATIENCE)
    assert states(folder)[-1] == "interrupted"
    assert last_reason(folder) == TERMINATED.format(signal="SIGTERM to the trainer")
