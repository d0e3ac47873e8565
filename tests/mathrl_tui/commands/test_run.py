"""`run` over the real engine, from a terminal that is closed on the way, to the tables."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.startup import launch
from store.home import RunFolder, run_ids
from tests.support.command_line import Terminal, mathrl
from tests.support.small_experiment import finish, make_inputs


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture
def no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_run_outlives_its_terminal_and_its_results_can_be_had(
    profile: Path, tmp_path: Path, no_umask: None
) -> None:
    home = tmp_path / "artifacts"
    terminal = Terminal(home, "run", "all", "--profile", str(profile), "--name", "closed")
    terminal.read_until("data: started")
    terminal.close()
    (run_id,) = run_ids(home)
    assert launch.is_alive(home, run_id)
    attached = mathrl(home, "attach", "closed", timeout=240)
    assert (attached.returncode, attached.stderr) == (0, "")
    assert f"{run_id}: done" in attached.stdout

    out = tmp_path / "out"
    assert mathrl(home, "export", "closed", "--format", "json", "--out", out).returncode == 0
    exported = json.loads((out / "comparisons.json").read_text())["comparisons"]
    pairs = [(row["a"], row["b"]) for row in exported]
    assert pairs == [("base", "sft"), ("base", "sft+grpo"), ("sft", "sft+grpo")]
    compared = json.loads(mathrl(home, "compare", "closed/base", "closed/sft", "--json").stdout)[
        "comparisons"
    ]
    assert [row["difference"] for row in compared] == [exported[0]["difference"]]
    open_to_others = [
        path for path in home.rglob("*") if path.lstat().st_mode & 0o077 and not path.is_symlink()
    ]
    assert [home.stat().st_mode & 0o077, open_to_others] == [0, []]
    assert compared[0]["n"] == sum(1 for _ in (profile.parent / "rows" / "test.jsonl").open())


def test_a_detached_run_prints_its_id_and_a_finished_one_goes_on_with_further_stages(
    profile: Path, tmp_path: Path
) -> None:
    home = tmp_path / "artifacts"
    started = mathrl(home, "run", "data", "--profile", profile, "--seed", "4", "--detach")
    run_id = started.stdout.strip()
    assert (started.returncode, run_ids(home)) == (0, [run_id])
    finish(RunFolder(home, run_id))
    further = mathrl(home, "run", "traces", "--resume", run_id)
    assert further.returncode == 0, further.stderr
    assert "traces: finished" in further.stdout
    (run,) = json.loads(mathrl(home, "runs", "--json").stdout)["runs"]
    assert (run["state"], run["seed"]) == ("done", 4)
    assert [(step["stage"], step["status"]) for step in run["stages"]] == [
        ("data", "finished"),
        ("traces", "finished"),
    ]
