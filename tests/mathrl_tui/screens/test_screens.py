"""The console's screens over a real store on a fabricated home, driven by keys as a person drives them."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from inspect import getattr_static
from pathlib import Path
from typing import Any

import pytest

from mathrl_tui import actions
from mathrl_tui.app import Console
from mathrl_tui.core.home_data import HomeData
from mathrl_tui.screens.run import RunScreen
from mathrl_tui.widgets.chart_widget import Chart
from mathrl_tui.widgets.keyed_table import KeyedTable
from mathrl_tui.widgets.log_view import LogView
from store.comparison import run_comparisons
from store.database import StoreBusy
from store.query import Store
from tests.support.console_pilot import LARGE, SMALL, console, opened, plain, sees, until
from tests.support.fabricated import finished_run, live_run


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_an_empty_home_says_what_to_do(tmp_path: Path, size: tuple[int, int]) -> None:
    async with console(tmp_path, size) as (_, pilot):
        await sees(pilot, "No runs here yet", "Press n")
        for key, words in (("2", "No run is chosen"), ("3", "No run is chosen"), ("5", "no completions")):
            await pilot.press(key)
            await sees(pilot, words)
    assert not list(tmp_path.iterdir()), "the console made files in a home without runs"


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_runs_are_listed_newest_first_with_their_state(tmp_path: Path, size: tuple[int, int]) -> None:
    finished_run(tmp_path)
    run = live_run(tmp_path)
    async with console(tmp_path, size) as (_, pilot):
        shown = await sees(pilot, "▸ running", "✓ done", "100 %")
        assert shown.index("demo-s1-live") < shown.index("demo-s0-finished")
        await until(pilot, lambda: "sft" in plain(pilot.app), "the stage at work")
        run.unlock()
        await sees(pilot, "! interrupted")


async def test_a_new_run_joins_the_list_and_the_cursor_stays(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path) as (app, pilot):
        await sees(pilot, "demo-s0-finished")
        live_run(tmp_path).unlock()
        shown = await sees(pilot, "demo-s1-live")
        assert shown.index("demo-s1-live") < shown.index("demo-s0-finished")
        assert app.screen.query_one(KeyedTable).chosen == "demo-s0-finished"


async def test_the_run_screen_follows_a_live_run(tmp_path: Path) -> None:
    run = live_run(tmp_path)
    async with console(tmp_path, LARGE) as (app, pilot):
        await opened(pilot, "enter", "demo-s1-live")
        shown = await sees(pilot, "12/40 steps", "trainer", "87 %", "41.5 GiB", "sft 0.", "pretrain   base")
        assert "✓ data" in shown and "○ eval" in shown
        chart = next(one for one in app.screen.query(Chart) if "sft loss" in one.plain)
        before = chart.plain
        for step in range(13, 30):
            run.passes(1.0)
            run.write(
                run.scalar("sft/train/loss", step, 5.0),
                run.event("progress", "", "sft", "sft", done=step, total=40, unit="steps"),
            )
        await sees(pilot, "29/40 steps")
        assert chart.plain != before
        run.unlock()
        await sees(pilot, "! interrupted", "press R", "demo-s1-live: interrupted")


async def test_the_store_is_not_needed_to_see_the_present(tmp_path: Path) -> None:
    """A value that is journaled is on the screen long before another process would have ingested it."""
    run = live_run(tmp_path)
    async with console(tmp_path, SMALL) as (_, pilot):
        await opened(pilot, "2", "demo-s1-live")
        await sees(pilot, "sft 30 %")
        run.write(run.event("progress", "", "sft", "sft", done=33, total=40, unit="steps"))
        begun = asyncio.get_running_loop().time()
        await sees(pilot, "sft 82 %")
        assert asyncio.get_running_loop().time() - begun < 3.0


async def test_keys_change_the_view_of_all_charts(tmp_path: Path) -> None:
    finished_run(tmp_path).unlock()
    async with console(tmp_path, SMALL) as (app, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        await sees(pilot, "loss  ● base", "smoothing", "PgDn 1/")
        await pilot.press("x")
        await sees(pilot, "\ntime")  # under the axis: times of history are read when they are wanted
        await pilot.press("x")
        await sees(pilot, "\ntokens")  # under the axis, not in a title
        foot = [line for line in plain(app).splitlines() if line.startswith("tokens")]
        assert foot and foot[0].split()[-1] == "3000"
        await pilot.press("x", "plus", "plus")
        await sees(pilot, "×4")
        assert "30" in plain(app)
        await pilot.press("left")
        await sees(pilot, "×4 earlier")
        await pilot.press("0", "right_square_bracket")
        await sees(pilot, "whole", "0.9")
        await pilot.press("l")
        await sees(pilot, "loss · log")
        await pilot.press("pagedown")
        await sees(pilot, "PgDn 2/")
        await pilot.press("z")
        assert len([chart for chart in app.screen.query(Chart) if chart.display]) == 1


async def test_only_changed_cells_are_painted_again(tmp_path: Path) -> None:
    run = live_run(tmp_path)
    async with console(tmp_path, LARGE) as (app, pilot):
        await opened(pilot, "2", "demo-s1-live")
        await sees(pilot, "12/40 steps")
        painted: list[int] = []
        chart = next(one for one in app.screen.query(Chart) if "sft loss" in one.plain)
        refresh = chart.refresh

        def counted(*regions: object, **options: object) -> object:
            painted.extend(getattr(region, "area", chart.size.area) for region in regions)
            return refresh(*regions, **options)  # type: ignore[arg-type]

        chart.refresh = counted  # type: ignore[method-assign, assignment]
        sums = []
        for step in (13, 14, 15):  # a step may fall together with an ingestion, which draws the history anew
            painted.clear()
            run.write(
                run.scalar("sft/train/loss", step, 1 / step),
                run.event("progress", "", "sft", "sft", done=step, total=40, unit="steps"),
            )
            await sees(pilot, f"{step}/40 steps")
            sums.append(sum(painted))
        assert 0 < min(sums) < chart.size.area / 10


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_comparison_shows_differences_and_says_what_they_mean(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, size) as (app, pilot):
        await opened(pilot, "4", "demo-s0-finished")
        shown = await sees(pilot, "sft − base", "grpo − sft", "SFT above base by 40.0 points")
        store = Store(tmp_path)
        for row in run_comparisons(store, "demo-s0-finished"):
            line = next(line for line in shown.splitlines() if f"{row.b} − {row.a}" in line)
            assert f"{100 * row.difference:+.1f}".replace("-", "−") in line
            assert "▲" in line or "○" in line or "▼" in line
        await pilot.press("down", "down")
        await sees(pilot, "No difference shown between GRPO and SFT")
        await pilot.press("enter")
        await sees(pilot, "grpo against sft", "flips: 1 of 40", "test-23")
        # The home's path is on the screen too, and may hold the same letters.
        assert re.search(r"\btest-22\b", plain(app)) is None


async def test_samples_are_filtered_searched_and_read(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, LARGE) as (_, pilot):
        await opened(pilot, "5", "demo-s0-finished")
        await sees(pilot, "base  word-problems  all: 40 of 40", "How many apples are 0 and 1?", "Gold answer")
        await pilot.press("f")
        await sees(pilot, "wrong: 32 of 40")
        await pilot.press("a")
        await sees(pilot, "sft  word-problems  wrong: 16 of 40")
        await pilot.press("f", "f", "slash", *"otter")
        await sees(pilot, "with “otter”", "0 of 40", "No completion passes")
        await pilot.press("escape")
        await sees(pilot, "cut off: 1 of 40", "test-39", "✂ cut off")
        await pilot.press("o")
        await sees(pilot, "sft against base")


async def test_logs_show_events_and_files(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    async with console(tmp_path, LARGE) as (app, pilot):
        await opened(pilot, "6", "demo-s0-finished")
        await sees(pilot, "✓ state", "! log", "one row was too long", "▸events")
        await pilot.press("f")
        await sees(pilot, "▸trainer.log", "step 2: warning: slow disk")
        with (run.folder.logs / "trainer.log").open("a") as file:
            file.write("step 3\n")
        await sees(pilot, "step 3")
        await pilot.press("slash", *"slow", "enter")
        await until(
            pilot, lambda: app.screen.query_one(LogView).plain == "step 2: warning: slow disk", "filtered"
        )


async def test_help_lists_every_action_of_the_screen_and_of_the_console(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, LARGE) as (app, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        await pilot.press("question_mark")
        await sees(pilot, "On the screen run")
        keys = app.screen.query_one("#keys", LogView).plain
        for action in (*actions.actions(actions.RUN), *actions.actions(actions.APP)):
            assert action.help in keys
        await pilot.press("escape")
        await until(pilot, lambda: getattr(app.screen, "NAME", "") == actions.RUN, "the run screen")


async def test_every_action_of_the_table_can_be_carried_out(tmp_path: Path) -> None:
    async with console(tmp_path) as (app, pilot):
        for screen in actions.SCREENS:
            app.action_go(screen)
            await pilot.pause()
            for action in (*actions.actions(screen), *actions.actions(actions.APP)):
                method = f"action_{action.name.partition('(')[0]}"
                holder = app if actions.APP in action.where else app.screen
                assert callable(getattr(holder, method, None)), f"{screen}: {method}"


def test_every_screen_gives_what_the_shared_ones_leave_to_it() -> None:
    for make in Console.MODES.values():
        screen = type(make())  # type: ignore[operator]
        owed = [
            name
            for name in dir(screen)
            if getattr(getattr_static(screen, name), "__isabstractmethod__", False)
        ]
        assert not owed, f"{screen.__name__} lacks {owed}"


def test_no_key_means_two_things_on_a_screen() -> None:
    for screen in actions.SCREENS:
        keys = [
            key
            for action in (*actions.actions(screen), *actions.actions(actions.APP))
            for key in action.keys.split(",")
        ]
        assert len(set(keys)) == len(keys), screen


async def test_screens_survive_a_resize(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, LARGE) as (_, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        await sees(pilot, "Last values")
        for size in ((60, 15), (80, 24), (30, 8), (120, 30), (200, 50)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        await sees(pilot, "Last values", "loss  ● base")


def busy(*_: object) -> None:
    """Stands for a question to a store that another process holds."""
    raise StoreBusy("process 4711 holds the file; open it with -readonly")


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_store_that_does_not_answer_is_told_and_the_picture_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    finished_run(tmp_path)

    async with console(tmp_path, size) as (_, pilot):
        await opened(pilot, "3", "demo-s0-finished")
        await sees(pilot, "▲ sft")
        with monkeypatch.context() as patch:
            patch.setattr(Store, "evaluations", busy)
            assert "▲ sft" in await sees(pilot, "! process 4711 holds the file")
        await until(pilot, lambda: "4711" not in plain(pilot.app), "the trouble gone")


async def test_a_screen_that_goes_while_it_is_read_for_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(tmp_path)
    asked, go_on = threading.Event(), threading.Event()
    read_run = HomeData.run

    def held(*arguments: Any) -> Any:
        asked.set()
        assert go_on.wait(30)
        return read_run(*arguments)

    async with console(tmp_path, SMALL) as (_, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        monkeypatch.setattr(HomeData, "run", held)
        await until(pilot, asked.is_set, "a question under way")
        screen = pilot.app.screen
        assert isinstance(screen, RunScreen)
        await screen.query("*").remove()
        go_on.set()
        reading = [worker for worker in pilot.app.workers if worker.group == "read"]
        await pilot.app.workers.wait_for_complete(reading)  # WorkerFailed where one broke down
        screen.read_soon()  # a tick may come before the screen is gone
        reading = [worker for worker in pilot.app.workers if worker.group == "read"]
        await pilot.app.workers.wait_for_complete(reading)


async def test_copying_goes_over_osc_52(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, LARGE) as (app, pilot):
        await opened(pilot, "3", "demo-s0-finished")
        await sees(pilot, "▲ sft")
        await pilot.press("y")
        await until(pilot, lambda: "| word-problems | sft | 60.0 % |" in app.clipboard, "the table")


async def test_the_palette_offers_the_screens_actions(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, LARGE) as (_, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        await sees(pilot, "loss  ● base")
        await pilot.press("ctrl+p", *"logar")
        await sees(pilot, "Logarithmic y-axis")
        await pilot.press("enter")
        await sees(pilot, "loss · log")


async def test_what_the_console_reads_it_does_not_change(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    before = {path: path.read_bytes() for path in run.folder.journal.glob("*.j")}
    config = json.loads(run.folder.config.read_text())
    async with console(tmp_path) as (_, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        await sees(pilot, "✓ done")
    assert {path: path.read_bytes() for path in run.folder.journal.glob("*.j")} == before
    assert json.loads(run.folder.config.read_text()) == config


async def test_copying_from_a_store_that_does_not_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished_run(tmp_path)

    async with console(tmp_path, LARGE) as (app, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        await sees(pilot, "loss  ● base")
        monkeypatch.setattr(HomeData, "run", busy)
        await pilot.press("y")
        await until(
            pilot, lambda: any("nothing copied" in note.message for note in app._notifications), "told"
        )
