"""Marked runs of different profiles, and their curves."""

from __future__ import annotations

from pathlib import Path

import pytest

from mathrl_tui.core.home_data import HomeData
from mathrl_tui.core.marked_runs import short_names
from tests.support.fabricated import FabricatedRun


def test_runs_of_different_profiles_are_read_together(tmp_path: Path) -> None:
    for place, name in enumerate(("a", "b", "c")):
        run = FabricatedRun(tmp_path, name, seed=place, changed={"sft": {"learning_rate": place}})
        run.write(run.event("state", state="running", reason=""))
        run.write(*(run.scalar("sft/train/loss", step, place + 1.0) for step in range(1, 41)))
        if name == "b":
            run.write(run.scalar("grpo/reward/mean", 1, 0.5))
        run.write(run.event("state", state="done", reason=""))
    home_data = HomeData(tmp_path)
    wanted = ["sft/train/loss", "grpo/reward/mean"]
    found = home_data.marked_runs(["c", "gone", "b"], wanted)
    assert [one.run_id for one in found] == ["c", "b"]
    assert [sorted(one.curves) for one in found] == [["sft/train/loss"], sorted(wanted)]
    assert [float(one.curves["sft/train/loss"].mean[0]) for one in found] == [3.0, 2.0]
    assert [one.state for one in found] == ["done", "done"]
    assert found[0].arms == ("base", "sft", "grpo")
    again = home_data.marked_runs(["b"], wanted)
    assert again[0].curves["sft/train/loss"] is found[1].curves["sft/train/loss"]  # read once
    timed = home_data.marked_runs(["b"], wanted, {"sft/train/loss"})
    assert timed[0].curves["sft/train/loss"].is_timed


@pytest.mark.parametrize(
    ("runs", "names"),
    [
        (["demo-s0-1"], ["demo-s0-1"]),
        (["demo-s0-x", "demo-s1-x"], ["s0", "s1"]),
        (["demo-s0-1127", "demo-s0-1128", "qwen-s0-1127"], ["demo-s0-1127", "demo-s0-1128", "qwen-s0-1127"]),
        (["a", "a-b"], ["a", "a-b"]),
        (["a-b", "a-c-b"], ["b", "c-b"]),
        (["x-x", "x-x-x"], ["x", "x-x"]),
        ([], []),
    ],
)
def test_short_names_tell_runs_apart(runs: list[str], names: list[str]) -> None:
    found = short_names(runs)
    assert [found[run] for run in runs] == names
    assert len(set(found.values())) == len(runs)
