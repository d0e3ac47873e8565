"""The wall of charts on the screen Run: how many fit, which are chosen, and that the cursor keeps its chart."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathrl_tui.screens.run import RunScreen
from mathrl_tui.widgets.chart_wall import ChartWall
from mathrl_tui.widgets.chart_widget import Chart
from tests.support.console_pilot import SMALL, console, opened, plain, sees, until
from tests.support.fabricated import finished_run, live_run

MIDDLE = (120, 40)


@pytest.mark.parametrize(("size", "charts"), [(SMALL, 2), (MIDDLE, 4), ((200, 50), 6), ((300, 60), 9)])
async def test_as_many_charts_as_a_terminal_can_show(
    tmp_path: Path, size: tuple[int, int], charts: int
) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, size) as (app, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        await sees(pilot, "loss  ● base", " g ", " / ")
        shown = [one for one in app.screen.query(Chart) if one.display and one.size.area]
        assert len(shown) == charts
        assert all(one.plain for one in shown[:5])


async def test_a_search_shows_the_charts_with_its_words(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, MIDDLE) as (app, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        await sees(pilot, "loss  ● base")
        await pilot.press("slash", *"reward", "enter")
        await sees(pilot, "reward  ", "/ “reward”", "PgDn 1/1")
        await until(pilot, lambda: "pretrain loss" not in plain(app), "only the reward")
        await pilot.press("slash", *"zzz")
        await sees(pilot, "no chart with “zzz” in all")
        await pilot.press("escape")
        await sees(pilot, "pretrain loss", "sft loss")
        # Letters are keys again.
        await pilot.press("z")
        await until(pilot, lambda: sum(one.display for one in app.screen.query(Chart)) == 1, "one chart")


async def test_favourites_come_first_and_the_cursor_stays_on_its_chart(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, MIDDLE) as (app, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        await sees(pilot, "loss  ● base")
        wall = app.screen.query_one(ChartWall)
        await pilot.press("tab", "tab")
        assert wall.chosen.title == "grpo loss"
        await pilot.press("asterisk")
        await sees(pilot, "★ grpo loss")
        assert wall.chosen.title == "grpo loss"
        assert next(iter(app.screen.query(Chart))).plain.startswith("▌★ grpo loss")
        await pilot.press("g")
        await sees(pilot, "g favourites")
        await until(pilot, lambda: "pretrain loss" not in plain(app), "only favourites")


async def test_a_live_run_opens_at_the_charts_of_its_arm(tmp_path: Path) -> None:
    run = live_run(tmp_path)
    async with console(tmp_path, SMALL) as (app, pilot):
        await opened(pilot, "2", "demo-s1-live")
        await sees(pilot, "sft loss")
        screen = app.screen
        assert isinstance(screen, RunScreen) and "sft" in screen.wall.chosen.sources
    run.unlock()


async def test_the_crosshair_is_moved_by_keys_over_all_charts(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, MIDDLE) as (app, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        await sees(pilot, "pretrain loss  ● base")
        await pilot.press("comma")
        await sees(pilot, "● base 0.0333 @30")
        for _ in range(9):
            await pilot.press("less_than_sign")
        await until(pilot, lambda: "@0" in plain(app) or "@1 " in plain(app), "the first step")
        assert plain(app).count("@") >= 3
        await pilot.press("escape")
        await until(pilot, lambda: "@" not in plain(app), "no crosshair")


async def test_the_mouse_points_selects_and_zooms(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, MIDDLE) as (app, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        await sees(pilot, "pretrain loss  ● base")
        wall, first = app.screen.query_one(ChartWall), "#chart-0"
        await pilot.hover(first, (20, 5))
        await sees(pilot, "@")
        assert wall.view.cross is not None
        await pilot.mouse_down(first, (15, 5))
        await pilot.hover(first, (25, 5))
        await until(pilot, lambda: wall.view.anchor is not None, "a selection")
        await pilot.mouse_up(first, (25, 5))
        await until(pilot, lambda: wall.view.zoom > 1.0, "a window")
        zoom = wall.view.zoom
        await pilot.click("#chart-2", (20, 5))
        await until(pilot, lambda: wall.chosen.title == "grpo loss", "the cursor")
        assert wall.view.zoom == zoom
        await pilot.press("0")
        await sees(pilot, "+ - whole")


async def test_marked_runs_are_drawn_in_every_chart_in_their_colours(tmp_path: Path) -> None:
    finished_run(tmp_path)
    finished_run(tmp_path, "demo-s3-other")
    async with console(tmp_path, (200, 50)) as (app, pilot):
        await opened(pilot, "space", "demo-s3-other")
        await until(pilot, lambda: app.workspace.marked == ("demo-s3-other",), "a mark")
        look = app.workspace.look("demo-s3-other")
        assert look is not None
        await opened(pilot, "2", "demo-s0-finished")
        await sees(pilot, f"● base 0.0333 ~0.0408  {look.mark} s3-other 0.0333")
        for chart in list(app.screen.query(Chart))[:4]:
            assert f"{look.mark} s3-other" in chart.plain
