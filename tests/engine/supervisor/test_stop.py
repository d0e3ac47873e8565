"""A stop, in order: the worker ends as soon as the trainer waits for no more answers, beside the last checkpoint."""

from __future__ import annotations

import os
import signal
from pathlib import Path

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

NO_DEATHS = "hardware.worker_restarts=0"  # one counted death of the worker, and the run fails


def ends(folder: RunFolder, role: str) -> list[str]:
    """How the processes of `role` have ended so far."""
    told = [event for event in events(folder, "process") if event.payload["role"] == role]
    return [event.message for event in told if not event.payload["alive"]]


def test_the_worker_has_ended_before_the_checkpoint_is_there(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=300, settings=(NO_DEATHS,))
    supervisor = started(folder)
    processes = [process_of(folder, role) for role in ("trainer", "worker")]
    (folder.path / "hold-save").touch()
    ask(folder, "stop")
    until(lambda: ends(folder, "worker"), "the worker has ended")
    assert ends(folder, "worker") == ["worker ended"]
    assert not ends(folder, "trainer")
    assert states(folder)[-1] == "stopping"
    (folder.path / "hold-save").unlink()
    supervisor.wait(PATIENCE)
    assert (states(folder)[-1], last_reason(folder)) == ("interrupted", "stopped by test")
    assert_nothing_left(folder, processes)
    assert (folder.path / "state.json").read_text().startswith(f"[{steps_done(folder)},")
    assert supervise(folder).wait(PATIENCE) == 0
    assert_whole(folder, 300)


def test_a_trainer_that_dies_as_it_leaves_comes_back_with_a_worker(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=300, settings=(NO_DEATHS,))
    supervisor = started(folder)
    trainer = process_of(folder, "trainer")
    (folder.path / "hold-leave").touch()
    # It leaves, and the supervisor does not know why.
    os.kill(trainer.pid, signal.SIGTERM)
    until(lambda: ends(folder, "worker"), "the worker has ended")
    os.kill(trainer.pid, signal.SIGKILL)
    (folder.path / "hold-leave").unlink()
    assert supervisor.wait(PATIENCE) == 0
    assert_whole(folder, 300)


def test_at_the_end_of_a_run_the_worker_ends_in_order(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=10, settings=(NO_DEATHS,))
    assert supervise(folder).wait(PATIENCE) == 0
    assert ends(folder, "worker") == ["worker ended"]


def test_what_a_worker_left_for_its_end_is_done(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=10)
    (folder.path / "for-the-end").touch()
    assert supervise(folder).wait(PATIENCE) == 0
    assert not list(folder.path.glob("left-*"))
    assert (folder.logs / "worker.log").read_text() == "said in C\n"


def test_a_stopping_run_refuses_commands_with_a_remedy(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=10_000)
    supervisor = started(folder)
    (folder.path / "hold-save").touch()
    assert ask(folder, "stop").ok
    for word in ("pause", "resume"):
        reply = ask(folder, word)
        assert not reply.ok
        assert reply.message.startswith("the run is stopping; ")
        assert f"`mathrl-tui run --resume {folder.run_id}`" in reply.message
    (folder.path / "hold-save").unlink()
    assert supervisor.wait(PATIENCE) == 1
