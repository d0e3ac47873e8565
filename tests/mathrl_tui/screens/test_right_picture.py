"""What the screens show is of the right run, step and moment, and a user's stop is not a fault."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mathrl_tui.core import palette
from mathrl_tui.core.completions import CompletionChoice, pairs
from mathrl_tui.core.home_data import HomeData
from tests.support.console_pilot import LARGE, console, opened, sees, until
from tests.support.fabricated import finished_run, live_run


@pytest.mark.parametrize("key", "2345678")
async def test_a_key_before_the_list_is_read_shows_the_newest_run(tmp_path: Path, key: str) -> None:
    finished_run(tmp_path, "demo-s0-older")
    live_run(tmp_path, "demo-s0-newest").unlock()
    async with console(tmp_path, LARGE) as (app, pilot):
        app.action_go({"2": "run", "3": "evaluation", "4": "comparison", "5": "samples"}.get(key, "logs"))
        await until(pilot, lambda: app.run_id == "demo-s0-newest", "the newest run chosen")


def test_validation_pairs_completions_of_one_step(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    mine = [replace(run.example("sft", 1, step == 50), task="validation", step=step) for step in (10, 50)]
    theirs = [replace(run.example("grpo", 1, step == 10), task="validation", step=step) for step in (10, 30)]
    found = pairs(mine, theirs, CompletionChoice("sft", "validation", "grpo"))
    assert [(pair.mine.step, pair.theirs and pair.theirs.step) for pair in found] == [(10, 10), (50, None)]
    evaluated = pairs([run.example("sft", 1, True)], theirs, CompletionChoice("sft", "gsm8k", "grpo"))
    assert evaluated[0].theirs is not None


def test_the_clock_of_an_interrupted_stage_stands_still(tmp_path: Path) -> None:
    run = live_run(tmp_path)
    run.passes(5.0)
    run.write(run.scalar("sft/train/loss", 13, 0.1))
    run.unlock()
    data = HomeData(tmp_path)
    step = next(step for step in data.run("demo-s1-live").board if step.arm == "sft")
    assert step.status == "interrupted"
    assert step.seconds(run.now + 1000) == step.seconds(run.now + 5000) == pytest.approx(12, abs=0.1)


@pytest.mark.parametrize("size", [(80, 24), LARGE])
async def test_a_users_stop_is_shown_as_stopped_in_a_neutral_colour(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    run = live_run(tmp_path)
    run.write(run.event("state", state="interrupted", reason="stopped by console"))
    run.unlock()
    async with console(tmp_path, size) as (_, pilot):
        assert "interrupted" not in await sees(pilot, "■ stopped")
        await opened(pilot, "2", "demo-s1-live")
        shown = await sees(pilot, "■ stopped", "stopped by console")
        assert "interrupted" not in shown
    assert palette.state(palette.shown_state("interrupted", "stopped by console")).colour == palette.DIM
    assert palette.shown_state("interrupted", "the supervisor died") == "interrupted"
