"""Alarms and limits act in the supervisor, with no console open: in real processes over the fake engine."""

from __future__ import annotations

import math
import os
import shutil
import signal
from collections import namedtuple
from pathlib import Path

import pytest

from engine.supervisor.guard import DISK_SECONDS, Guard, GuardOrder
from engine.supervisor.record_queue import RecordQueue
from engine.supervisor.seen_records import SeenRecords
from profiles.errors import ProfileError
from profiles.load import load
from store.events import AlarmRaised, CheckpointSaved, details_of
from store.home import RunFolder
from store.query import Store
from store.records import Record, Scalar
from tests.support.command_line import mathrl
from tests.support.supervised import (
    PATIENCE,
    ask,
    events,
    last_reason,
    make_run,
    process_of,
    started,
    states,
    supervise,
    until,
)


def raised(folder: RunFolder) -> list[AlarmRaised]:
    found = [details_of(event) for event in events(folder, "alarm")]
    return [one for one in found if isinstance(one, AlarmRaised)]


def test_an_alarm_stops_the_run_and_its_reason_names_the_value(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=2000, settings=("run.on_alarm=stop",))
    (folder.path / "nan-at").write_text("5")
    supervise(folder).wait(PATIENCE)
    assert states(folder) == ["queued", "running", "stopping", "interrupted"]
    (alarm,) = raised(folder)
    assert (alarm.alarm, alarm.metric, alarm.value) == ("not-finite", "sft/train/grad_norm", "nan")
    assert alarm.action == "stop"
    reason = last_reason(folder)
    for words in ("stopped by alarm not-finite", "sft/train/grad_norm is nan at step 5", "no checkpoint yet"):
        assert words in reason
    assert reason == Store(tmp_path).status(folder.run_id).reason
    assert "alarm not-finite" in mathrl(tmp_path, "status", folder.run_id).stdout
    assert "alarm not-finite" in mathrl(tmp_path, "runs").stdout


def test_an_alarm_pauses_the_run_and_a_user_resumes_it(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=60, settings=("run.on_alarm=pause",))
    (folder.path / "nan-at").write_text("5")
    supervisor = supervise(folder)
    until(lambda: states(folder)[-1] == "paused", "the run is paused")
    assert last_reason(folder).startswith("by alarm not-finite: sft/train/grad_norm is nan at step 5")
    ask(folder, "resume")
    assert supervisor.wait(PATIENCE) == 0
    assert states(folder) == ["queued", "running", "paused", "running", "done"]


def test_an_alarm_is_recorded_and_changes_nothing_by_default(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=30)
    (folder.path / "nan-at").write_text("5")
    assert supervise(folder).wait(PATIENCE) == 0
    assert [one.action for one in raised(folder)] == [""]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("run.max_hours=0.0001",), "stopped by limit: run.max_hours is 0.0001"),
        # 0.36 s at 1000 dollars per hour cost 10 cents.
        (
            ("run.max_cost=0.1", "hardware.price_per_hour=1000"),
            "stopped by limit: run.max_cost is 0.1 dollars",
        ),
    ],
)
def test_a_limit_stops_the_run(tmp_path: Path, settings: tuple[str, ...], words: str) -> None:
    folder = make_run(tmp_path, steps=100_000, settings=settings)
    supervise(folder).wait(PATIENCE)
    assert states(folder)[-1] == "interrupted"
    assert last_reason(folder).startswith(words)


def test_the_death_of_a_worker_is_an_alarm(tmp_path: Path) -> None:
    folder = make_run(tmp_path, steps=60)
    supervisor = started(folder)
    os.kill(process_of(folder, "worker").pid, signal.SIGKILL)
    assert supervisor.wait(PATIENCE) == 0
    assert [(one.alarm, one.metric) for one in raised(folder)] == [("process-died", "worker")]


class Written:
    """A journal that keeps what it gets."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append(self, records: list[Record]) -> None:
        self.records += records


def guard_of(home: Path, *settings: str) -> tuple[Guard, Written, RecordQueue]:
    journal = Written()
    recorder = RecordQueue(journal, SeenRecords())
    return Guard(RunFolder(home, "run"), load("demo", settings), recorder), journal, recorder


def test_a_nearly_full_disk_is_an_alarm_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = namedtuple("free", "free")
    guard, journal, recorder = guard_of(tmp_path, "run.on_alarm=stop")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free(2 << 30))
    assert guard.next_order(0.0) is None
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free(1 << 28))
    order = guard.next_order(DISK_SECONDS)
    assert order == GuardOrder(
        "stop", "alarm disk-full: disk is 0.25 GiB free (below 1 GiB); no checkpoint yet"
    )
    assert guard.next_order(2 * DISK_SECONDS) is None
    recorder.flush(now=True)
    assert len(journal.records) == 1


def test_the_reason_names_the_last_checkpoint_before_the_alarm(tmp_path: Path) -> None:
    guard, _, _ = guard_of(tmp_path, "run.on_alarm=stop")
    guard.take([CheckpointSaved("checkpoints/sft/step_10", 1.0).event(arm="sft", step=10)])
    guard.take([Scalar("sft/train/loss", 12, math.nan)])
    guard.take([CheckpointSaved("checkpoints/sft/step_20", 1.0).event(arm="sft", step=20)])
    order = guard.next_order(0.0)
    assert order is not None and order.origin.endswith("last checkpoint checkpoints/sft/step_10")


def test_a_cost_limit_needs_a_price() -> None:
    with pytest.raises(ProfileError, match="hardware.price_per_hour"):
        load("demo", ("run.max_cost=5",))
