"""The console's screens over a real store on a fabricated home, driven by keys as a person drives them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fabricated import QUESTIONS, RIGHT, FabricatedRun, finished_run, live_run
from textual.pilot import Pilot
from textual.widgets import Button, Input, Static

from mathrl_tui import actions, control
from mathrl_tui.app import Console
from mathrl_tui.control import Told
from mathrl_tui.widgets.chart_wall import Chart
from mathrl_tui.widgets.keyed_table import KeyedTable
from mathrl_tui.widgets.log_view import LogView
from store.comparison import run_comparisons
from store.query import Store

SMALL, LARGE = (80, 24), (200, 50)
PATIENCE = 20.0


@asynccontextmanager
async def console(home: Path, size: tuple[int, int] = SMALL) -> AsyncIterator[tuple[Console, Pilot[None]]]:
    app = Console(home)
    async with app.run_test(size=size, notifications=True) as pilot:
        yield app, pilot


async def until(pilot: Pilot[None], holds: Callable[[], bool], what: str) -> None:
    """Lets the app run until `holds`; fails with `what` after PATIENCE seconds."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while not holds():
        assert asyncio.get_running_loop().time() < deadline, f"never seen: {what}\n{plain(pilot.app)}"
        await pilot.pause(0.02)


def plain(app: object) -> str:
    """All that stands on the screen, as text."""
    assert isinstance(app, Console)
    size = app.size
    strips = app.screen._compositor.render_strips()
    return "\n".join(strip.text for strip in strips[: size.height])


async def sees(pilot: Pilot[None], *words: str) -> str:
    """Waits until all `words` stand on the screen."""
    await until(pilot, lambda: all(word in plain(pilot.app) for word in words), " and ".join(words))
    return plain(pilot.app)


async def opened(pilot: Pilot[None], key: str, run: str) -> None:
    """Chooses the run in the list and goes to the screen behind `key`."""
    await sees(pilot, run)
    table = pilot.app.screen.query_one(KeyedTable)
    table.choose(run)
    app = pilot.app
    assert isinstance(app, Console)
    await until(pilot, lambda: app.run_id == run, f"{run} chosen")
    await pilot.press(key)


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
        chart = app.screen.query(Chart).first()
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
        await sees(pilot, "! interrupted", "press R")


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
        await sees(pilot, "loss  ● base", "smoothing", "charts 1/")
        await pilot.press("x")
        await sees(pilot, "time ")
        await pilot.press("x")
        await sees(pilot, "tokens")
        foot = [line for line in plain(app).splitlines() if line.startswith("tokens")]
        assert foot and foot[0].split()[-1] == "3000"
        await pilot.press("x", "plus", "plus")
        await sees(pilot, "×4")
        assert "30" in plain(app)
        await pilot.press("left")
        await sees(pilot, "not the newest")
        await pilot.press("0", "right_square_bracket")
        await sees(pilot, "whole", "10 steps")
        await pilot.press("l")
        await sees(pilot, "loss · log")
        await pilot.press("pagedown")
        await sees(pilot, "charts 2/")
        await pilot.press("z")
        assert len([chart for chart in app.screen.query(Chart) if chart.display]) == 1


async def test_only_changed_cells_are_painted_again(tmp_path: Path) -> None:
    run = live_run(tmp_path)
    async with console(tmp_path, LARGE) as (app, pilot):
        await opened(pilot, "2", "demo-s1-live")
        await sees(pilot, "12/40 steps")
        painted: list[int] = []
        chart = app.screen.query(Chart).first()
        refresh = chart.refresh

        def counted(*regions: object, **options: object) -> object:
            painted.extend(getattr(region, "area", chart.size.area) for region in regions)
            return refresh(*regions, **options)  # type: ignore[arg-type]

        chart.refresh = counted  # type: ignore[method-assign, assignment]
        run.write(
            run.scalar("sft/train/loss", 13, 1 / 13),
            run.event("progress", "", "sft", "sft", done=13, total=40, unit="steps"),
        )
        await sees(pilot, "13/40 steps")
        assert 0 < sum(painted) < chart.size.area / 10


async def test_evaluation_shows_the_stores_rates_with_their_intervals(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, LARGE) as (_, pilot):
        await opened(pilot, "3", "demo-s0-finished")
        shown = await sees(pilot, "95 % interval", "▲ sft", "■ grpo")
        for row in Store(tmp_path).evaluations("demo-s0-finished"):
            line = next(line for line in shown.splitlines() if f" {row.arm} " in line)
            assert f"{100 * RIGHT[row.arm] / QUESTIONS:.1f} %" in line
            assert f"{100 * row.low:.1f} – {100 * row.high:.1f}" in line
        await pilot.press("enter")
        await sees(pilot, f"all: {QUESTIONS} of {QUESTIONS}")


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
        assert "test-22" not in plain(app)


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


def test_no_key_means_two_things_on_a_screen() -> None:
    for screen in actions.SCREENS:
        keys = [
            key
            for action in (*actions.actions(screen), *actions.actions(actions.APP))
            for key in action.keys.split(",")
        ]
        assert len(set(keys)) == len(keys), screen


async def test_commands_go_to_the_run_under_the_cursor_and_kill_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live_run(tmp_path)
    sent: list[tuple[str, str]] = []

    def command(home: Path, run_id: str, verb: str) -> Told:
        sent.append((run_id, verb))
        return Told(True, f"{run_id}: will do", run_id)

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
        await sees(pilot, "no supervisor", "press R to go")


async def test_a_new_run_is_checked_while_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, tuple[str, ...], int, str]] = []

    def start(home: Path, profile: object, stages: tuple[str, ...], seed: int, name: str) -> Told:
        started.append((getattr(profile, "name", ""), tuple(stages), seed, name))
        FabricatedRun(home, f"demo-s{seed}-new")
        return Told(True, "started", f"demo-s{seed}-new")

    monkeypatch.setattr(control, "start", start)
    async with console(tmp_path) as (app, pilot):
        await sees(pilot, "No runs here yet")
        await pilot.press("n")
        await sees(pilot, "New run", "data → traces → base")
        overrides = app.screen.query_one("#overrides", Input)
        overrides.value = "sft.learning_rte=1"
        await sees(pilot, "did you mean")
        assert app.screen.query_one("#start", Button).disabled
        await pilot.press("ctrl+s")
        assert not started
        overrides.value = "sft.learning_rate=1e-4"
        app.screen.query_one("#seeds", Input).value = "3 4"
        await sees(pilot, "2 runs of data")
        await pilot.press("ctrl+s")
        await until(pilot, lambda: len(started) == 2, "two runs")
        assert [(name, seed) for name, _, seed, _ in started] == [("demo", 3), ("demo", 4)]
        await until(pilot, lambda: getattr(app.screen, "NAME", "") == actions.RUN, "the run screen")
        assert app.run_id == "demo-s4-new"


async def test_a_run_that_cannot_start_is_told_in_the_dialog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "start", lambda *_: Told(False, "no GPU here; the profile demo fits"))
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


async def test_screens_survive_a_resize(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, LARGE) as (_, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        await sees(pilot, "Last values")
        for size in ((60, 15), (80, 24), (30, 8), (120, 30), (200, 50)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
        await sees(pilot, "Last values", "loss  ● base")


async def test_a_store_that_does_not_answer_is_told_and_the_picture_stays(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, LARGE) as (_, pilot):
        await opened(pilot, "3", "demo-s0-finished")
        await sees(pilot, "▲ sft")
        config = tmp_path / "store.duckdb"
        config.write_bytes(b"not a database" * 1000)
        await until(pilot, lambda: "▲ sft" in plain(pilot.app), "the last picture")


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
