"""Reports name the model and what was changed, not only the profile; numbers for people have one minus sign."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from profiles.changes import changed_settings
from profiles.errors import ProfileError
from profiles.load import load
from store.subject import model_in_full, model_name
from store.wording import human, signed, unsigned
from tests.support.command_line import mathrl
from tests.support.console_pilot import LARGE, SMALL, console, opened, sees
from tests.support.fabricated import QUESTIONS, FabricatedRun

MODEL = "/models/SmolLM2-135M"
CHANGED = {"model.source": {"profile": "made", "run": MODEL}, "grpo.steps": {"profile": 40, "run": 3}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of another model than its profile's, on which SFT loses."""
    home = tmp_path_factory.mktemp("home") / "artifacts"
    run = FabricatedRun(
        home, "demo-s0-other", changed={"model": {"source": MODEL}}, frozen={"changed": CHANGED}
    )
    run.write(run.event("state", state="running", reason=""), run.scalar("sft/train/loss", 1, -0.25))
    for arm, right in (("base", 30), ("sft", 10)):
        run.write(*(run.example(arm, index, index < right) for index in range(QUESTIONS)))
    run.write(run.event("state", state="done", reason=""))
    return home


def test_lists_and_status_name_the_model_and_the_changes(home: Path) -> None:
    (run,) = json.loads(mathrl(home, "runs", "--json").stdout)["runs"]
    assert (run["model"], run["profile"], run["changed"]) == (MODEL, "demo", CHANGED)
    head, row, note = mathrl(home, "runs").stdout.splitlines()
    assert row.split()[3:5] == ["SmolLM2-135M", "demo*"] and head.split()[3:5] == ["model", "profile"]
    assert note == "* with changed settings; `mathrl-tui status RUN` lists them"
    text = mathrl(home, "status", "demo-s0-other").stdout
    assert (
        f"model {MODEL}\nprofile demo, 2 changed\n  model.source: made → {MODEL}\n  grpo.steps: 40 → 3\n"
        in text
    )
    assert "sft/train/loss  −0.25" in text


def test_comparisons_name_the_model(home: Path) -> None:
    text = mathrl(home, "compare", "demo-s0-other/base", "demo-s0-other/sft").stdout
    assert "a: demo-s0-other/base, model SmolLM2-135M, profile demo* (2 settings changed), seed 0\n" in text
    assert "−50.0" in text and "-50.0" not in text


@pytest.mark.parametrize("kind", ["evals", "comparisons", "watch"])
def test_exports_name_the_model(home: Path, tmp_path: Path, kind: str) -> None:
    for form in ("csv", "markdown"):
        done = mathrl(home, "export", "--format", form, "--what", f"{kind},config", "--out", tmp_path)
        assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / f"{kind}.csv").read_text().splitlines()))
    assert {row["model"] for row in rows} <= {MODEL} and (rows or kind == "watch")
    config = {row["key"]: row["value"] for row in csv.DictReader((tmp_path / "config.csv").open())}
    assert (config["changed.grpo.steps.profile"], config["changed.grpo.steps.run"]) == ("40", "3")
    if kind == "comparisons":
        assert float(rows[0]["difference"]) == -0.5
        assert "| −0.5 |" in (tmp_path / "comparisons.md").read_text()


@pytest.mark.parametrize("size", [SMALL, (120, 40), LARGE])
async def test_the_console_names_the_model(home: Path, size: tuple[int, int]) -> None:
    async with console(home, size) as (_, pilot):
        # A wide terminal lists the changes themselves.
        await sees(
            pilot, "model", MODEL, "profile demo", "grpo.steps: 40 → 3" if size == LARGE else "2 changed"
        )
        await opened(pilot, "2", "demo-s0-other")
        await sees(pilot, "demo-s0-other  SmolLM2-135M  ✓ done")


def test_changes_are_those_that_differ_from_the_profile(tmp_path: Path) -> None:
    profile = load("demo")
    assert changed_settings("demo", []) == {}
    assert changed_settings("demo", [f"grpo.steps={profile.grpo.steps}", "sft.steps=3", "sft.steps=4"]) == {
        "sft.steps": {"profile": profile.sft.steps, "run": 4}
    }
    own = tmp_path / "own.toml"
    own.write_text("[hardware]\nmax_model_len = 100\n")  # too short for its completions
    short = ["grpo.max_new_tokens=10", "eval.max_new_tokens=10"]
    assert changed_settings(str(own), short)["eval.max_new_tokens"] == {"profile": None, "run": 10}
    with pytest.raises(ProfileError):
        changed_settings("demo", ["sft.stesp=3"])


def test_names_and_figures() -> None:
    assert [model_in_full(source) for source in ("/a/b/Model/", "made", "")] == [
        "/a/b/Model/",
        "made here",
        "–",
    ]
    assert [model_name(source) for source in ("org/Model-1B", "/a/b/Model/", "made", "")] == [
        *("Model-1B", "Model", "made here", "–")
    ]
    assert [signed(value) for value in (0.034, -0.242, -0.0001, 0.0)] == ["+3.4", "−24.2", "0.0", "0.0"]
    assert [unsigned(value) for value in (-0.034, 0.034, -0.0001)] == ["3.4", "3.4", "0.0"]
    assert [human(figure) for figure in ("-2", "1e-06", "-1e-06")] == ["−2", "1e-06", "−1e-06"]
