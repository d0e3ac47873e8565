"""Runs of one profile drawn together, the GPUs' history, settings compared, and what must not be overlooked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mathrl_tui.core import alarms, chart, differences, mean_curve, palette, panels
from mathrl_tui.core.curve import EMPTY, Curve
from mathrl_tui.core.home_data import HomeData
from store.locks import locked
from store.records import Event
from store.results import RunSummary
from store.run_config import RunConfig
from tests.support.console_pilot import LARGE, SMALL, console, opened, plain, sees, until
from tests.support.fabricated import LONG_AGO, FabricatedRun, finished_run, live_run


def _curve(steps: Sequence[float], values: Sequence[float]) -> Curve:
    return Curve.of(steps, values, [10.0 + step for step in steps])


def test_the_mean_is_of_the_runs_that_came_far_and_the_range_of_all() -> None:
    runs = [_curve([1, 2, 3, 4], [1, 2, 3, 4]), _curve([1, 3, 4], [3, 5, 6]), _curve([1], [9])]
    joined = mean_curve.joined(runs, 0.0)
    assert joined.step.tolist() == [1, 2, 3, 4]
    assert joined.mean.tolist() == [
        2,
        3,
        4,
        5,
    ]  # the second run is at 4 between its steps; the third died early
    assert joined.low.tolist() == [1, 2, 3, 4]
    assert joined.high.tolist() == [9, 4, 5, 6]
    assert joined.ts.tolist() == [0, 1, 2, 3]
    assert len(mean_curve.long_enough(runs)) == 2


def test_a_mean_ends_where_the_first_of_its_runs_ends() -> None:
    joined = mean_curve.joined([_curve([1, 2, 3, 4], [1, 1, 1, 1]), _curve([1, 2, 3], [3, 3, 3])], 0.0)
    assert joined.mean[:3].tolist() == [2, 2, 2] and math.isnan(joined.mean[3])
    assert (joined.low[3], joined.high[3]) == (1, 1)
    line = chart.Line("sft", palette.Look("▲", "red"), joined, runs=2)
    rows = ["".join(part for part, _ in row) for row in chart.draw("loss", [line], chart.View(), 60, 12)]
    assert "sft 2 (2)" in rows[0] and "mean" in rows[0]


def test_every_run_is_smoothed_before_they_are_joined() -> None:
    rng = np.random.default_rng(0)
    steps = list(range(1, 201))
    runs = [_curve(steps, rng.normal(size=200).tolist()) for _ in range(3)]
    raw, smooth = mean_curve.joined(runs, 0.0), mean_curve.joined(runs, 20.0)
    assert (smooth.high - smooth.low).mean() < (raw.high - raw.low).mean() / 2


def _seeds(home: Path) -> list[FabricatedRun]:
    """Two ended runs and a live one of the same profile, each on its own height, and one of another profile."""
    runs = []
    for seed in range(3):
        run = FabricatedRun(home, f"demo-s{seed}", LONG_AGO + seed, seed)
        run.write(run.event("state", state="running", reason=""))
        run.write(*(run.scalar("sft/train/loss", step, seed + 1.0) for step in range(1, 41)))
        run.write(*(run.scalar("sft/train/tokens", step, 100.0) for step in range(1, 41)))
        if seed < 2:
            run.write(run.event("state", state="done", reason=""))
        runs.append(run)
    other = FabricatedRun(home, "demo-s9-other", changed={"sft": {"learning_rate": 1e-3}})
    other.write(other.scalar("sft/train/loss", 1, 99.0))
    return runs


def test_siblings_have_the_same_profile_whatever_their_seed(tmp_path: Path) -> None:
    _seeds(tmp_path)
    home_data = HomeData(tmp_path)
    found = home_data.other_runs("demo-s2", ["sft/train/loss", "grpo/train/loss"])
    assert set(found.runs) == {"demo-s0", "demo-s1"}
    assert sorted(float(one.mean[0]) for one in found.curves["sft/train/loss"]) == [1.0, 2.0]
    assert found.curves["grpo/train/loss"] == ()
    again = home_data.other_runs("demo-s2", ["sft/train/loss"])
    assert again.curves["sft/train/loss"][0] is found.curves["sft/train/loss"][0]  # read once


def test_a_run_is_shown_whole_while_the_store_can_take_nothing_in(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path, "demo-s0")
    HomeData(tmp_path).ingest()
    run.write(run.event("log", message="while the file was held"))
    home_data = HomeData(tmp_path)
    with locked(tmp_path / "store.gate", patience=1.0, shared=True):  # a reader: who would write must wait
        shown = home_data.run("demo-s0")
    assert home_data.problem
    assert [event.message for event in shown.log if event.kind == "log"] == ["while the file was held"]


async def test_runs_of_a_profile_are_drawn_together_by_a_key(tmp_path: Path) -> None:
    runs = _seeds(tmp_path)
    runs[-1].lock()
    async with console(tmp_path, SMALL) as (_, pilot):
        await opened(pilot, "2", "demo-s2")
        await sees(pilot, "loss  ▲ sft 3", "m this run")
        await pilot.press("m")
        for axis in ("step", "time ", "tokens"):
            await sees(pilot, "loss · mean  ▲ sft 2 (3)", "m 3 runs", axis)
            await pilot.press("x")
        await pilot.press("m")
        await sees(pilot, "loss  ▲ sft 3", "m this run")
    runs[-1].unlock()


def test_gpus_have_charts_of_their_own_by_the_clock() -> None:
    names = [f"gpu/{index}/{name}" for index in (0, 2, 10) for name in ("utilisation", "memory_gib")]
    found = {panel.metric: panel for panel in panels.panels([*names, "sft/train/loss"], ["sft"])}
    assert found["utilisation"].sources == ("gpu/0", "gpu/2", "gpu/10")
    assert found["utilisation"].by_clock and not found["train/loss"].by_clock
    assert panels.split("gpu/10/memory_gib") == ("gpu/10", "memory_gib")
    constant = chart.Line("gpu/0", palette.Look("●", "red"), _curve([0, 5, 10], [98.0, 98.0, 98.0]))
    held = found["utilisation"].held
    rows = chart.draw("GPU", [constant], chart.View("time"), 80, 15, held=held)
    labels = ["".join(part for part, _ in row)[:8].strip() for row in rows]
    assert "0" in labels and "100" in labels


async def test_the_gpus_history_is_on_the_wall(tmp_path: Path) -> None:
    run = live_run(tmp_path)
    for step in range(2, 30):
        run.passes(5.0)
        run.write(
            run.scalar("gpu/0/utilisation", step, 80.0 + step % 3), run.scalar("gpu/0/memory_gib", step, 40.0)
        )
    async with console(tmp_path, LARGE) as (_, pilot):
        await opened(pilot, "2", "demo-s1-live")
        await sees(pilot, "sft loss")
        await pilot.press("slash", *"gpu", "enter")
        shown = await sees(pilot, "GPU utilisation, %", "GPU memory, GiB", "● gpu/0 40")
        assert "time" in shown


def _warning(message: str, level: str = "warning") -> Event:
    return Event("log", message, "sft", "sft", payload={"level": level}, ts=1.0)


def test_alarms_are_diverging_arms_and_warnings() -> None:
    latest = {"sft/train/loss": math.nan, "sft/train/grad_norm": math.inf, "grpo/val/pass_at_1": math.nan}
    assert [alarm.words for alarm in alarms.diverging(latest)] == ["sft diverges: train/loss is nan"]
    said = alarms.warnings([_warning("old"), _warning("hello", "info"), _warning("new"), _warning("old")])
    assert [alarm.words for alarm in said] == ["sft: old", "sft: new"]


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_run_that_hangs_is_told_though_its_gpus_report(tmp_path: Path, size: tuple[int, int]) -> None:
    run = live_run(tmp_path, ago=44 + 1510)
    run.passes(1505)
    run.write(run.scalar("gpu/0/utilisation", 2, 100.0), run.event("log", "beats", process="supervisor"))
    async with console(tmp_path, size) as (app, pilot):
        told = ("✗ sft silent for 25:1", ", usually 0:01; K kills, R resumes; 6 shows the log")
        await sees(pilot, "▸ running !", *told)
        await opened(pilot, "2", "demo-s1-live")
        await sees(pilot, "✓ data", *told)
        assert not list(app._notifications)  # it was so when the console came
        run.write(run.event("progress", "", "sft", "sft", done=13, total=40, unit="steps"))
        await until(pilot, lambda: "silent" not in plain(app), "the alarm gone")
    run.unlock()


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_diverging_run_is_told_at_once_and_stays_told(tmp_path: Path, size: tuple[int, int]) -> None:
    run = live_run(tmp_path)
    async with console(tmp_path, size) as (app, pilot):
        await opened(pilot, "2", "demo-s1-live")
        await sees(pilot, "12/40 steps")
        run.write(run.scalar("sft/train/loss", 13, math.nan))
        await sees(pilot, "✗ sft diverges: train/loss is nan; s stops the run")
        await until(pilot, lambda: any("diverges" in note.message for note in app._notifications), "a notice")
        run.write(run.event("log", "gradient norm is nan", "sft", "sft", level="warning"))
        await sees(pilot, "and 1 more", "6 shows the log")
        await pilot.press("1")
        await sees(pilot, "▸ running !")
    run.unlock()


async def test_what_a_run_warned_of_before_rings_no_bell(tmp_path: Path) -> None:
    finished_run(tmp_path)
    async with console(tmp_path, SMALL) as (app, pilot):
        await opened(pilot, "2", "demo-s0-finished")
        await sees(pilot, "! eval: one row was too long")
        assert not list(app._notifications)


def test_settings_are_compared_by_the_names_that_set_takes() -> None:
    mine = {
        "seed": 0,
        "profile": {
            "name": "p",
            "sft": {"steps": 3, "schedule": "cosine"},
            "arms": [{"name": "base", "stage": "none"}],
        },
        "hardware": {"cpus": 2},
        "plan": [{"stage": "sft", "arm": "sft"}],
        "created": 1.0,
    }
    theirs = mine | {
        "seed": 1,
        "profile": mine["profile"] | {"sft": {"steps": 4, "schedule": "cosine", "epochs": 2.0}},  # type: ignore[operator]
        "created": 2.0,
    }
    found = {one.key: one for one in differences.compared(RunConfig.of(mine), RunConfig.of(theirs))}
    differing = {key: (one.mine, one.theirs) for key, one in found.items() if one.differs}
    assert differing == {"seed": ("0", "1"), "sft.steps": ("3", "4"), "sft.epochs": ("–", "2.0")}
    assert found["arms.base.stage"].mine == "none" and found["machine.cpus"].mine == "2"
    assert found["plan"].mine == "sft sft"


def test_settings_have_the_schemas_sentence() -> None:
    assert "learning rate" in differences.meaning("sft.learning_rate")
    assert differences.meaning("machine.cpus") == differences.meaning("arms.base.stage") == ""


def _summary(run: str, profile: str) -> RunSummary:
    return RunSummary(run, run, "done", "", [], profile, 0, 0.0, 0.0)


def test_the_nearest_run_to_compare_with_is_the_one_before_of_the_same_profile() -> None:
    runs = [
        _summary("e", "p"),
        _summary("d", "p"),
        _summary("c", "q"),
        _summary("b", "p"),
        _summary("a", "q"),
    ]
    assert [differences.nearest(runs, run) for run in "edcba"] == ["d", "b", "a", "a", "b"]
    assert differences.nearest(runs[:1], "e") == ""


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_two_runs_settings_are_compared_by_a_key(tmp_path: Path, size: tuple[int, int]) -> None:
    _seeds(tmp_path)
    async with console(tmp_path, size) as (app, pilot):
        await opened(pilot, "d", "demo-s9-other")
        await sees(pilot, "demo-s9-other against demo-s", "learning_rate", "0.001", "peak learning rate")
        assert "confidence" not in plain(app)
        await pilot.press("f")
        await sees(pilot, "eval.confidence")
        await pilot.press("f", "1")
        await opened(pilot, "space", "demo-s1")
        await sees(pilot, "● demo-s1")
        await opened(pilot, "d", "demo-s0")
        shown = await sees(pilot, "demo-s0 against demo-s1", "1 of")
        assert "seed" in shown
        await pilot.press("o")
        await until(pilot, lambda: app.other_id != "demo-s1", "another run")


def test_curves_of_nothing_are_left_out() -> None:
    rows = chart.draw("loss", [chart.Line("sft", palette.Look("▲", "red"), EMPTY)], chart.View(), 60, 9)
    assert "no values yet" in "".join(part for row in rows for part, _ in row)


def test_a_clock_that_was_set_back_does_not_bring_an_old_state_back(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path, "demo-s0-clock")
    run.write(run.event("state", state="running", reason=""))
    run.train("sft", "sft", 3)
    run.passes(-3600.0)
    run.train("grpo", "grpo", 2)
    run.write(run.event("log", "the last word", "grpo"))
    run.write(run.event("state", state="done", reason=""))
    shown = HomeData(tmp_path).run("demo-s0-clock")
    assert shown.state == "done"
    assert [stage.status for stage in shown.board if stage.arm in ("sft", "grpo")] == ["finished"] * 2
    assert [event.kind for event in shown.log[-2:]] == ["log", "state"]


def test_list_and_run_give_the_same_time_left(tmp_path: Path) -> None:
    run = live_run(tmp_path)  # sft is at step 12 of 40, a second each
    seen = HomeData(tmp_path)
    (line,) = seen.runs()
    assert line.at is not None and line.at == seen.run(line.summary.run).current
    assert line.at.remaining(run.now) == pytest.approx(28.0)
    run.passes(-3600.0)
    run.write(run.event("progress", "", "sft", "sft", done=14, total=40, unit="steps"))
    run.passes(2.0)
    run.write(run.event("progress", "", "sft", "sft", done=15, total=40, unit="steps"))
    (line,) = seen.runs()
    assert line.at is not None and line.at == seen.run(line.summary.run).current
    assert line.at.remaining(run.now) == pytest.approx(50.0)  # a step took 2 s, 25 are left
    run.unlock()
