"""The list of runs ends with what the home takes, measured off the threads that paint and read."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from engine.cleanup.disk_usage import Space, measure, readable
from mathrl_tui.core import space_watch
from mathrl_tui.core.space_watch import SpaceWatch
from store.query import Store
from tests.support.console_pilot import LARGE, console, sees
from tests.support.fabricated import finished_run


async def test_the_runs_screen_shows_the_sum_by_kind(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    Store(tmp_path).catch_up()
    (run.folder.rollouts / "grpo").mkdir(parents=True)
    (run.folder.rollouts / "grpo" / "update_000001.npz").write_bytes(bytes(7_000_000))
    total = measure(tmp_path).total
    async with console(tmp_path, LARGE) as (_, pilot):
        shown = await sees(pilot, "disk: ")
    assert f"disk: {readable(total)} (rollouts 7 MB, " in shown
    assert "7 MB written in the last hour" in shown


def test_a_slow_disk_is_waited_for_by_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The row is there at once, empty at first, and no second measurement starts while one is under way."""
    goes_on, calls = threading.Event(), []

    def slow(home: Path) -> Space:
        calls.append(threading.current_thread())
        goes_on.wait()
        return Space(rest=space_watch_rest)

    space_watch_rest = Space().rest
    space_watch_rest["store"] = 1_500_000_000
    monkeypatch.setattr(space_watch, "measure", slow)
    monkeypatch.setattr(space_watch, "AGAIN_SECONDS", 0.0)
    watch = SpaceWatch(tmp_path)
    assert watch.row == watch.row == []
    goes_on.set()
    calls[0].join()
    assert watch.row[0][0] == " disk: 1.5 GB (store 1.5 GB)"
    assert calls[0].daemon and threading.main_thread() not in calls
