"""Several seeds: run one after the other, pooled at the end, whatever becomes of one of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import typer

from mathrl_tui.commands import follow as following
from mathrl_tui.commands.errors import CommandFailed, WrongInput
from mathrl_tui.commands.seeds import Experiment, run_seeds
from profiles.changes import changed_settings
from profiles.load import load
from store.pooling import pooled_comparisons
from store.query import Store
from store.score_files import InputError
from store.statistics.seeds import pool_seeds
from tests.support.command_line import mathrl
from tests.support.fabricated import QUESTIONS, TASK, FabricatedRun
from tests.support.places import ROOT

ARMS = ("base", "sft", "grpo")


def verdicts(seed: int, arm: str) -> list[bool]:
    rate = {"base": 0.2, "sft": 0.5, "grpo": 0.6}[arm]
    own = seed if arm != "base" else 99  # a base that no seed changes
    return (np.random.default_rng([own, ARMS.index(arm)]).random(QUESTIONS) < rate).tolist()


def seed_run(home: Path, seed: int, state: str = "done", **changed: object) -> FabricatedRun:
    """A finished run of one seed, whose arms answered the same questions as every other seed's."""
    run = FabricatedRun(home, f"demo-s{seed}-run", seed=seed, changed=changed)
    run.write(run.event("state", state="running", reason=""))
    if state == "done":
        for arm in ARMS:
            right = verdicts(seed, arm)
            run.write(*(run.example(arm, index, right[index]) for index in range(QUESTIONS)))
    run.write(run.event("state", state=state, reason=""))
    return run


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """One whose run of seed 1 fails and whose others end at once."""

    def start(home: Path, profile: object, stages: Sequence[str], seed: int, *_: object) -> str:
        return seed_run(home, seed, "failed" if seed == 1 else "done").folder.run_id

    def follow(home: Path, run_id: str, *_: object) -> None:
        if "-s1-" in run_id:
            raise CommandFailed(f"run {run_id}: failed: the disk is full")
        if "-s7-" in run_id:
            raise typer.Exit(130)

    monkeypatch.setattr("engine.startup.launch.start_run", start)
    monkeypatch.setattr(following, "follow", follow)
    return Experiment(load("demo"), ("eval",), "", {})


def test_seeds_end_with_one_pooled_table(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = run_seeds(tmp_path, experiment, [0, 2, 3])
    text = capsys.readouterr().out
    assert runs == [f"demo-s{seed}-run" for seed in (0, 2, 3)]
    assert text.count("seeds 0, 2, 3") == 1 and text.count("b − a") == 1
    assert "the intervals cover the variance between seeds" in text
    found = pooled_comparisons(Store(tmp_path), runs)
    assert [(row.a, row.b) for row in found] == [("base", "sft"), ("base", "grpo"), ("sft", "grpo")]
    rows = np.array([verdicts(seed, "grpo") for seed in (0, 2, 3)], float)
    expected = pool_seeds(rows - np.array([verdicts(seed, "sft") for seed in (0, 2, 3)], float))
    assert (found[2].difference, found[2].ci_low) == pytest.approx(
        (expected.interval.estimate, expected.interval.low)
    )
    smallest = min(row.p_value for row in found)
    assert min(row.p_value_holm for row in found) == pytest.approx(3 * smallest)


def test_a_seed_that_fails_is_named_and_the_others_are_pooled(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandFailed) as error:
        run_seeds(tmp_path, experiment, [0, 1, 2])
    assert str(error.value) == (
        "seed 1: failed, see above; the report holds seed 0, 2; to pool them all: "
        "`mathrl-tui run --resume demo-s1-run`, then "
        "`mathrl-tui compare --pool demo-s0-run --pool demo-s1-run --pool demo-s2-run`"
    )
    out, err = capsys.readouterr()
    assert "the disk is full" in err and "seeds 0, 2" in out


def test_one_that_is_left_over_has_its_own_report(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CommandFailed):
        run_seeds(tmp_path, experiment, [1, 4])
    assert "One training seed" in capsys.readouterr().out


def test_an_interrupted_series_names_the_seeds_that_were_not_started(
    experiment: Experiment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        run_seeds(tmp_path, experiment, [0, 7, 8, 9])
    assert "not started: seed 8, 9" in capsys.readouterr().out
    with pytest.raises(WrongInput, match="--seed 3: given twice"):
        run_seeds(tmp_path, experiment, [3, 4, 3])


def test_runs_that_do_not_belong_together_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in (0, 1):
        seed_run(tmp_path, seed, model={"source": "org/one"})
    seed_run(tmp_path, 2, model={"source": "org/two"})
    seed_run(tmp_path, 3, model={"source": "org/one"}, grpo={"steps": 7}, hardware={"worker": "cpu"})
    store = Store(tmp_path)
    store.catch_up()
    assert len(pooled_comparisons(store, ["demo-s0", "demo-s1"])) == 3
    assert not caplog.messages
    with pytest.raises(InputError, match=r"their models differ \(org/one, org/two\)"):
        pooled_comparisons(store, ["demo-s0", "demo-s2"])
    with pytest.raises(InputError, match="pooling needs at least two runs"):
        pooled_comparisons(store, ["demo-s0", "demo-s0-run"])
    pooled_comparisons(store, ["demo-s0", "demo-s3"])
    assert caplog.messages == ["runs demo-s0-run and demo-s3-run are pooled, but differ in grpo"]


def test_seeds_that_are_all_alike_are_not_certain(tmp_path: Path) -> None:
    """No question of 40 was answered differently: the interval is that of 40 questions, not 0 to 0."""
    for seed in (0, 1):
        run = FabricatedRun(tmp_path, f"demo-s{seed}-run", seed=seed)
        run.write(*(run.example(arm, index, False) for arm in ("base", "sft") for index in range(QUESTIONS)))
    store = Store(tmp_path)
    store.catch_up()
    (row,) = pooled_comparisons(store, ["demo-s0", "demo-s1"])
    z = 1.959964
    assert row.difference == 0.0
    assert (row.ci_low, row.ci_high) == pytest.approx(
        (-(z**2) / (QUESTIONS + z**2), z**2 / (QUESTIONS + z**2)), abs=1e-5
    )
    assert row.minimum_detectable_effect > 0.05


def test_pooling_by_command(tmp_path: Path) -> None:
    home = tmp_path / "artifacts"
    for seed in (0, 1):
        seed_run(home, seed, model={"source": "/models/Some-Model"})
    done = mathrl(home, "compare", "--pool", "demo-s0-run", "--pool", "demo-s1-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("model Some-Model, profile demo, seeds 0, 1\n")
    assert f"sft   {TASK}" in done.stdout and "seed 0  seed 1" in done.stdout
    rows = json.loads(mathrl(home, "compare", "--pool", "demo-s0", "--pool", "demo-s1", "--json").stdout)
    assert len(rows["comparisons"]) == 3
    sided = mathrl(home, "compare", "demo-s0-run/sft", "demo-s0-run/grpo", "--pool", "demo-s1").stdout
    assert "a: demo-s0-run/sft, model Some-Model, profile demo, seeds 0, 1" in sided


def test_word_problems_of_two_seeds_are_the_same_questions(tmp_path: Path) -> None:
    """The real demo's data and model, in seconds: held-out problems do not follow the run's seed."""
    profile, home = tmp_path / "tiny.toml", tmp_path / "artifacts"
    demo = (ROOT / "profiles" / "demo.toml").read_text(encoding="utf-8")
    arms = '[[arms]]\nname = "base"\nstage = "pretrain"\n[[arms]]\nname = "sft"\nstage = "sft"\nparent = "base"\n'
    profile.write_text(demo.partition("[[arms]]")[0].replace('name = "demo"', 'name = "tiny"') + arms)
    settings = (
        *("pretrain.steps=1", "pretrain.layers=1", "sft.steps=1", "sft.validate_every=0"),
        *("data.train_rows=120", "data.validation_rows=20", "data.test_rows=12", "eval.max_new_tokens=4"),
    )
    overrides = [word for setting in settings for word in ("--set", setting)]
    seeds = ("--seed", "0", "--seed", "1")
    stages = ("data", "traces", "preprocess", "sft", "eval")
    done = mathrl(home, "run", *stages, "--profile", profile, *overrides, *seeds, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"profile tiny* ({len(settings)} settings changed), seeds 0, 1" in done.stdout
    runs = json.loads(mathrl(home, "runs", "--json").stdout)["runs"]
    assert [run["model"] for run in runs] == ["made", "made"]
    assert runs[0]["changed"] == changed_settings(str(profile), settings)
    assert runs[0]["changed"]["pretrain.layers"] == {"profile": 2, "run": 1}
