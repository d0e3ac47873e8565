"""When all training of a run is done: its worker restarts once if it can use the trainer's GPUs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.plan import Step
from engine.supervisor.engine_processes import EngineProcesses, EntryPoints
from profiles.load import load
from store.home import RunFolder
from store.records import Event
from tests.support.supervised import (
    PATIENCE,
    assert_whole,
    events,
    make_run,
    records,
    states,
    supervise,
    until,
)

TWO_GPUS = ("hardware.trainer=cuda:0", "hardware.worker=cuda:1")
NO_DEATHS = "hardware.worker_restarts=0"  # one counted death of the worker, and the run fails


def a_run(home: Path, *hardware: str) -> RunFolder:
    """A run of 60 steps, of which the last 40 do not train."""
    folder = make_run(home, settings=(*hardware, NO_DEATHS))
    (folder.path / "trained-after").write_text("20")
    return folder


def workers(folder: RunFolder) -> list[str]:
    """Beside what each worker was started."""
    return [event.message for event in events(folder, "phase")]


def test_the_worker_is_started_afresh_once_and_not_counted(tmp_path: Path) -> None:
    folder = a_run(tmp_path, *TWO_GPUS)
    assert supervise(folder).wait(PATIENCE) == 0
    assert workers(folder) == ["trainer", "idle trainer"]
    assert_whole(folder, 60)
    ends = [event.message for event in events(folder, "process") if not event.payload["alive"]]
    assert sorted(ends) == ["", "trainer ended", "worker ended", "worker ended"]


def test_nothing_happens_without_gpus(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    assert supervise(folder).wait(PATIENCE) == 0
    assert workers(folder) == ["trainer"]
    assert_whole(folder, 60)


def test_a_resumed_run_has_its_worker_on_the_trainers_gpus_from_the_start(tmp_path: Path) -> None:
    folder = a_run(tmp_path, *TWO_GPUS)
    supervisor = supervise(folder)
    until(
        lambda: any("restarting the worker" in event.message for event in events(folder, "log")),
        "it restarts",
    )
    supervisor.kill()
    supervisor.wait()
    assert supervise(folder).wait(PATIENCE) == 0
    assert_whole(folder, 60)
    assert states(folder).count("interrupted") == 1
    assert workers(folder).count("trainer") == 1
    assert sum("restarting the worker" in event.message for event in events(folder, "log")) == 1
    assert starts_since_the_resume(folder) == 1


def starts_since_the_resume(folder: RunFolder) -> int:
    """How many workers the second supervisor has started."""
    told = [record for record in records(folder) if isinstance(record, Event)]
    resumed = max(place for place, event in enumerate(told) if event.payload.get("state") == "queued")
    return sum(
        event.kind == "process" and event.payload["role"] == "worker" and event.payload["alive"]
        for event in told[resumed:]
    )


class Worker:
    """A worker that hears that it should end, and does not."""

    role = "worker"
    killed = False

    def __init__(self, stop_deadline: float | None = None) -> None:
        self.stop_deadline = stop_deadline

    def stop_within(self, grace: float) -> None:
        self.stop_deadline = time.monotonic() + grace

    def kill(self) -> None:
        self.killed = True


def processes_with(worker: Worker, folder: Path, *settings: str) -> EngineProcesses:
    """Processes of a run whose worker was started while a step still trains."""
    profile = load("demo", settings)
    processes = EngineProcesses(EntryPoints(), RunFolder(folder, "run"), profile, [Step("grpo", "grpo")])
    processes.children["worker"] = worker  # type: ignore[assignment]
    return processes


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (TWO_GPUS, True),
        (("hardware.trainer=cuda:0", "hardware.worker=cuda:0"), False),
        ((*TWO_GPUS, "hardware.worker_tensor_parallel=2"), False),
        (("hardware.trainer=cuda:0", "hardware.worker=cpu"), False),
    ],
)
def test_a_worker_is_renewed_where_its_copies_would_lie_elsewhere(
    tmp_path: Path, settings: tuple[str, ...], expected: bool
) -> None:
    worker = Worker()
    processes = processes_with(worker, tmp_path, *settings)
    assert processes.restart_worker_on_more_gpus() == expected
    assert (worker.stop_deadline is not None) == expected
    assert not processes.restart_worker_on_more_gpus()


def test_who_was_told_to_end_and_does_not_is_killed_when_its_time_is_over(tmp_path: Path) -> None:
    for stop_deadline, killed in (
        (None, False),
        (time.monotonic() + 1000.0, False),
        (time.monotonic(), True),
    ):
        worker = Worker(stop_deadline)
        processes_with(worker, tmp_path).enforce_deadlines()
        assert worker.killed == killed
