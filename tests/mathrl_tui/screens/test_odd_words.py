"""What people type, and what runs and models write, stands in the console as it is: nothing of it is obeyed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathrl_tui.widgets.lines import changed_cells
from mathrl_tui.widgets.log_view import LogView
from tests.support.console_pilot import LARGE, SMALL, console, opened, sees
from tests.support.fabricated import finished_run, live_run

ODD, SHOWN = "\n  \x1b[31m", r" \x1b[31m"  # what a message holds, and how it stands in a line


async def test_a_search_for_brackets(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, SMALL) as (_, pilot):
        await opened(pilot, "6", "demo-s0-finished")
        await sees(pilot, "✓ state")
        await pilot.press("slash", *"[/b]x [red]")
        await sees(pilot, "no line contains “[/b]x [red]”")


async def test_two_runs_whose_names_are_cut_alike_are_compared(tmp_path: Path) -> None:
    names = [f"an-experiment-with-a-long-name-s{seed}-20260101-000000" for seed in (0, 1)]
    for name in names:
        finished_run(tmp_path, name)
    async with console(tmp_path, SMALL) as (_, pilot):
        await sees(pilot, "s0-20260101-000000", "s1-20260101-000000")
        await pilot.press("8")
        await sees(pilot, "No setting differs")
        await pilot.press("f")
        await sees(pilot, "eval.confidence", "0.95")
        await pilot.resize_terminal(40, 12)
        await sees(pilot, "setting              …  …")


async def test_notices_of_runs_that_warn_and_fail(tmp_path: Path) -> None:
    run = live_run(tmp_path)
    async with console(tmp_path, LARGE) as (_, pilot):
        await opened(pilot, "2", "demo-s1-live")
        await sees(pilot, "12/40 steps")
        run.write(run.event("log", "no [/INST] in row[3]", "sft", level="warning", process="trainer"))
        await sees(pilot, "demo-s1-live: sft: no [/INST] in row[3]")
        run.write(run.event("state", state="failed", reason=f"KeyError: '[/s]'{ODD}"))
        run.unlock()
        await sees(pilot, f"demo-s1-live: failed KeyError: '[/s]'{SHOWN}")


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_reasons_and_warnings_of_several_lines(tmp_path: Path, size: tuple[int, int]) -> None:
    run = finished_run(tmp_path)
    run.write(run.event("log", f"first{ODD}second", "eval", level="warning", process="trainer"))
    run.write(run.event("state", state="failed", reason=f"ValueError: bad{ODD}value"))
    async with console(tmp_path, size) as (_, pilot):
        await sees(pilot, "✗ failed")
        await pilot.press("2")
        await sees(pilot, f"ValueError: bad{SHOWN}value", f"! eval: first{SHOWN}second")


def test_wide_characters_are_counted_as_the_cells_that_they_take() -> None:
    assert changed_cells([("数据 bad 1", "")], [("数据 bad 2", "")]) == (9, 10)
    assert changed_cells([("é́x", "")], [("é́y", "")]) == (1, 2)
    assert changed_cells([("数", ""), ("a", "")], [("据", ""), ("a", "")]) == (0, 2)


async def test_a_line_of_wide_characters_is_scrolled_to_its_end(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    (run.folder.logs / "trainer.log").write_text("数" * 60 + "|end\n")
    async with console(tmp_path, SMALL) as (app, pilot):
        await opened(pilot, "6", "demo-s0-finished")
        await pilot.press("f")
        await sees(pilot, "▸trainer.log", "数数")
        log = app.screen.query_one(LogView)
        log.scroll_end(animate=False, x_axis=True)
        log.scroll_to(x=log.max_scroll_x, animate=False)
        await sees(pilot, "|end")
