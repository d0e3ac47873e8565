"""Starting and commanding runs from the console's keys; the supervisor's side is played by the tests."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

from engine.startup import launch
from mathrl_tui import actions, control
from mathrl_tui.control import RequestResult
from mathrl_tui.core.home_data import HomeData
from mathrl_tui.widgets.keyed_table import KeyedTable
from profiles.schema import Profile
from store.subject import Changes
from tests.support.console_pilot import LARGE, console, sees, until
from tests.support.fabricated import LONG_AGO, FabricatedRun, finished_run, live_run
from tests.support.supervised import make_run


def starts(monkeypatch: pytest.MonkeyPatch, go_on: threading.Event | None = None) -> list[tuple[str, int]]:
    """The profiles and seeds of the runs that the console starts from now on; none is there before `go_on`."""
    started: list[tuple[str, int]] = []

    def start(
        home: Path,
        profile: Profile,
        stages: tuple[str, ...],
        seed: int,
        name: str,
        changed: Changes,
        is_wanted: Callable[[], bool],
    ) -> RequestResult:
        started.append((profile.name, seed))
        assert go_on is None or go_on.wait(30)
        if not is_wanted():
            started.clear()
            return RequestResult(False, "cancelled")
        FabricatedRun(home, f"demo-s{seed}-new")
        return RequestResult(True, "started", f"demo-s{seed}-new")

    monkeypatch.setattr(control, "start", start)
    return started


async def test_commands_go_to_the_run_under_the_cursor_and_kill_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_run(tmp_path)
    sent: list[tuple[str, str]] = []

    def command(home: Path, run_id: str, verb: str) -> RequestResult:
        sent.append((run_id, verb))
        return RequestResult(True, f"{run_id}: will do", run_id)

    monkeypatch.setattr(control, "command", command)
    async with console(tmp_path) as (app, pilot):
        await sees(pilot, "demo-s1-live")
        await pilot.press("s")
        await until(pilot, lambda: sent == [("demo-s1-live", "stop")], "stop")
        await sees(pilot, "will do")
        await pilot.press("K")
        await sees(pilot, "Kill demo-s1-live?")
        await pilot.press("n")
        await until(pilot, lambda: getattr(app.screen, "NAME", "") == actions.RUNS, "the list")
        assert len(sent) == 1
        await pilot.press("K")
        await sees(pilot, "Kill demo-s1-live?")
        await pilot.press("y")
        await until(pilot, lambda: sent[1:] == [("demo-s1-live", "kill")], "kill")


async def test_a_command_to_a_run_without_a_supervisor_says_so(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path) as (_, pilot):
        await sees(pilot, "demo-s0-finished")
        await pilot.press("p")
        await sees(pilot, "no supervisor", "press R to resume it")


async def test_a_new_run_is_checked_while_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = starts(monkeypatch)
    async with console(tmp_path) as (app, pilot):
        await new_run_opened(pilot)
        overrides = app.screen.query_one("#overrides", Input)
        overrides.value = "sft.learning_rte=1"
        await sees(pilot, "did you mean")
        assert app.screen.query_one("#start", Button).disabled
        await pilot.press("ctrl+s")
        assert not started
        overrides.value = "sft.learning_rate=1e-4"
        app.screen.query_one("#name", Input).value = "../elsewhere"
        await sees(pilot, "name: ../elsewhere")
        await pilot.press("ctrl+s")
        assert not started
        app.screen.query_one("#name", Input).value = ""
        app.screen.query_one("#seeds", Input).value = "3 4"
        await sees(pilot, "2 runs of data")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: len(started) == 2, "two runs")
        assert started == [("demo", 3), ("demo", 4)]
        await until(pilot, lambda: getattr(app.screen, "NAME", "") == actions.RUN, "the run screen")
        assert app.run_id == "demo-s4-new"


async def test_a_run_that_cannot_start_is_told_in_the_dialog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        control, "start", lambda *_: RequestResult(False, "no GPU here; the profile demo fits")
    )
    async with console(tmp_path) as (app, pilot):
        await sees(pilot, "No runs here yet")
        await pilot.press("n")
        await sees(pilot, "New run")
        await pilot.press("ctrl+s")
        await until(
            pilot,
            lambda: "no GPU here" in str(app.screen.query_one("#verdict", Static).render()),
            "the reason",
        )
        await pilot.press("escape")
        await sees(pilot, "No runs here yet")


async def test_a_run_is_started_once_however_often_the_key_is_pressed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    started = starts(monkeypatch, go_on)
    async with console(tmp_path) as (app, pilot):
        await new_run_opened(pilot)
        app.screen.query_one("#seeds", Input).value = "3 4"
        await sees(pilot, "2 runs of data")
        await pilot.press("ctrl+s", "ctrl+s", "enter")
        go_on.set()
        await until(pilot, lambda: getattr(app.screen, "NAME", "") == actions.RUN, "the run screen")
        assert started == [("demo", 3), ("demo", 4)]


async def test_a_run_that_is_cancelled_while_it_is_checked_is_not_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = threading.Event()
    started = starts(monkeypatch, go_on)
    async with console(tmp_path) as (_, pilot):
        await new_run_opened(pilot)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: len(started) == 1, "the start")
        await pilot.press("escape")
        await sees(pilot, "No runs here yet")
        go_on.set()
        await until(pilot, lambda: not started, "the cancellation")
    assert not list(tmp_path.glob("runs/*"))


async def test_a_list_that_is_read_late_does_not_change_the_run_in_sight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(tmp_path, "demo-s0-old")
    asked, go_on = threading.Event(), threading.Event()
    read_runs = HomeData.runs

    def held(home_data: HomeData) -> Any:
        asked.set()
        assert go_on.wait(30)
        return read_runs(home_data)

    async with console(tmp_path) as (app, pilot):
        await sees(pilot, "demo-s0-old")
        monkeypatch.setattr(HomeData, "runs", held)
        await until(pilot, asked.is_set, "the list under way")
        listed = app.screen.query_one(KeyedTable)
        FabricatedRun(tmp_path, "demo-s1-new", created=LONG_AGO + 1)
        app.open_run("demo-s1-new")  # as a run that was just started is
        go_on.set()
        await until(pilot, lambda: listed.row_count == 2, "both runs listed")
        await sees(pilot, " demo-s1-new  ! interrupted")
        assert app.run_id == "demo-s1-new"


@pytest.mark.parametrize(
    ("frozen", "said"), [("{", "run.json"), ('{"profile": {"nme": "x"}, "plan": []}', "nme")]
)
async def test_a_run_that_this_version_cannot_go_on_with_says_so(
    tmp_path: Path, frozen: str, said: str
) -> None:
    run = finished_run(tmp_path)
    run.folder.config.write_text(frozen)
    async with console(tmp_path, LARGE) as (app, pilot):
        await sees(pilot, "demo-s0-finished")
        await pilot.press("R")
        await until(pilot, lambda: any(said in note.message for note in app._notifications), "the reason")


async def new_run_opened(pilot: Pilot[None]) -> None:
    """Open the form of a new run in an empty home."""
    await sees(pilot, "No runs here yet")
    await pilot.press("n")
    await sees(pilot, "New run", "data → traces → base")


def test_a_run_whose_starting_folder_is_gone_goes_on_from_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, worker=False)
    gone = tmp_path / "gone"
    run.config.write_text(json.dumps(json.loads(run.config.read_text()) | {"folder": str(gone)}))
    begun: list[Path] = []
    monkeypatch.setattr(launch, "_supervise", lambda folder, where: begun.append(where))
    assert control.go_on(tmp_path, run.run_id, ()).done
    assert begun == [Path.cwd()]
