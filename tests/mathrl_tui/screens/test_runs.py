"""The Runs screen by keys: filter, sort, marks, tags and notes, the workspace."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot

from mathrl_tui import workspace_file
from mathrl_tui.screens.runs import RunsScreen
from mathrl_tui.widgets.keyed_table import KeyedTable
from mathrl_tui.widgets.text_entry import TextEntry
from tests.support.console_pilot import LARGE, SMALL, console, plain, sees, until
from tests.support.fabricated import LONG_AGO, FabricatedRun, finished_run

FIRST, SECOND, FAILED = "demo-s0-finished", "demo-s1-slow", "demo-s2-failed"


def three_runs(home: Path) -> None:
    """A finished run with results, one with a curve only, and a failed one with another setting."""
    finished_run(home, FIRST)
    run = FabricatedRun(home, SECOND, LONG_AGO + 60.0, seed=1)
    run.write(run.event("state", state="running", reason=""))
    run.train("sft", "sft", 30)
    run.write(run.event("state", state="done", reason=""))
    run = FabricatedRun(home, FAILED, LONG_AGO + 120.0, seed=2, changed={"grpo": {"learning_rate": 5e-6}})
    run.write(run.event("state", state="running", reason=""))
    run.train("sft", "sft", 20)
    run.write(run.event("state", state="failed", reason="grpo: CUDA out of memory in step 8"))


def listed(pilot: Pilot[None]) -> list[str]:
    """The runs of the table, from the top."""
    table = pilot.app.screen.query_one(KeyedTable)
    return [str(row.key.value) for row in table.ordered_rows]


async def test_a_filter_is_typed_in_one_go_and_no_key_is_lost(tmp_path: Path) -> None:
    three_runs(tmp_path)
    async with console(tmp_path) as (app, pilot):
        await sees(pilot, FIRST, FAILED)
        await pilot.press("slash", *"state:failed")  # s, t, a, d and e are keys of the list
        await until(pilot, lambda: listed(pilot) == [FAILED], "only the failed run")
        assert app.screen.query_one(TextEntry).value == "state:failed"
        await pilot.press("enter")
        await sees(pilot, "1 of 3 runs", "filter state:failed")
        await until(pilot, lambda: workspace_file.read(tmp_path).filter == "state:failed", "the kept filter")
        await pilot.press("slash", *" grpo.learning_rate>1e-5")
        await sees(pilot, "No run matches the filter")
        await pilot.press("escape")
        await until(pilot, lambda: listed(pilot) == [FAILED], "the filter before")
    async with console(tmp_path) as (_, pilot):
        await sees(pilot, "filter state:failed")
        assert listed(pilot) == [FAILED]


async def test_a_fault_names_its_column_and_the_last_list_stays(tmp_path: Path) -> None:
    three_runs(tmp_path)
    async with console(tmp_path, LARGE) as (_, pilot):
        await sees(pilot, FIRST, FAILED)
        await pilot.press("slash", *"seed<2 (")
        await sees(pilot, "column 9: a term is missing here")
        assert listed(pilot) == [SECOND, FIRST]
        await pilot.press(*"word-problem>0.5)")
        await sees(pilot, "column 9: 'word-problem' is not a field", "did you mean word-problems?")
        await pilot.press("enter")
        await pilot.press("slash", "ctrl+u", *"word-problems>0.5", "enter")
        await until(pilot, lambda: listed(pilot) == [FIRST], "the run with the rate")


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_columns_sort_by_key_and_pinned_runs_stay_on_top(tmp_path: Path, size: tuple[int, int]) -> None:
    three_runs(tmp_path)
    async with console(tmp_path, size) as (_, pilot):
        await sees(pilot, FIRST, FAILED)
        assert listed(pilot) == [FAILED, SECOND, FIRST]
        await pilot.press("greater_than_sign")
        await sees(pilot, "run ▲")
        assert listed(pilot) == [FIRST, SECOND, FAILED]
        await pilot.press("r")
        await sees(pilot, "run ▼")
        assert listed(pilot) == [FAILED, SECOND, FIRST]
        pilot.app.screen.query_one(KeyedTable).choose(SECOND)
        await pilot.press("P")
        await until(pilot, lambda: listed(pilot) == [SECOND, FAILED, FIRST], "the pinned run on top")
        assert pilot.app.screen.query_one(KeyedTable).chosen == SECOND
        await pilot.press("P", "h")
        await until(pilot, lambda: listed(pilot) == [FAILED, FIRST], "without the hidden run")
        await sees(pilot, "1 hidden")
        await pilot.press("H")
        await until(pilot, lambda: len(listed(pilot)) == 3, "with the hidden run")


async def test_a_click_on_a_title_sorts_by_its_column(tmp_path: Path) -> None:
    three_runs(tmp_path)
    async with console(tmp_path) as (_, pilot):
        await sees(pilot, FIRST, FAILED)
        await pilot.click(KeyedTable, offset=(2, 0))
        await until(pilot, lambda: listed(pilot) == [FIRST, SECOND, FAILED], "sorted by run")
        await pilot.click(KeyedTable, offset=(2, 0))
        await until(pilot, lambda: listed(pilot) == [FAILED, SECOND, FIRST], "in the other direction")


async def test_tags_and_notes_are_kept_for_the_run_under_the_cursor(tmp_path: Path) -> None:
    three_runs(tmp_path)
    async with console(tmp_path) as (_, pilot):
        await sees(pilot, FAILED)
        await pilot.press("t", *"oom paper", "enter")
        await pilot.press("N", *"needs a smaller batch", "enter")
        await sees(pilot, "#oom #paper", "needs a smaller batch")
        await pilot.press("slash", *"tag:oom", "enter")
        await until(pilot, lambda: listed(pilot) == [FAILED], "the tagged run")
    found = workspace_file.read(tmp_path)
    assert (found.tags, found.notes) == ({FAILED: ("oom", "paper")}, {FAILED: "needs a smaller batch"})


async def test_marked_runs_are_overlaid_and_keep_their_colours(tmp_path: Path) -> None:
    three_runs(tmp_path)
    async with console(tmp_path, LARGE) as (_, pilot):
        await sees(pilot, "loss · sft  ● demo-s2-failed", "CUDA out of memory in step 8", "Settings")
        await pilot.press("space", "down", "space")
        await sees(pilot, "2 marked", "loss · sft  ● s2-failed", "▲ s1-slow")
    async with console(tmp_path, LARGE) as (app, pilot):
        await sees(pilot, "2 marked", "loss · sft  ● s2-failed", "▲ s1-slow")
        await pilot.press("space")
        await sees(pilot, "1 marked", "loss · sft  ▲ demo-s1-slow")
        assert isinstance(app.screen, RunsScreen)
        await pilot.press("z")
        await until(pilot, lambda: "loss · sft" not in plain(app), "the list alone")
        await pilot.press("z", "u")
        await until(pilot, lambda: "1 marked" not in plain(app), "no marks")


async def test_no_screen_of_runs_is_mostly_black(tmp_path: Path) -> None:
    three_runs(tmp_path)
    async with console(tmp_path, LARGE) as (app, pilot):
        await sees(pilot, "loss · sft")
        rows = plain(app).splitlines()
        assert sum(len(row.replace("▏", " ").split()) > 0 for row in rows) >= 48
        # Each third of the width has something.
        for start in (0, 98, 156):
            used = sum(row[start : start + 40].replace("▏", " ").strip() != "" for row in rows)
            assert used >= len(rows) // 4, start
