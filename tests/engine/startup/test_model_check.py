"""Before a run starts: what is compared, what is remembered, and how a model that fails is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import LaunchError
from engine.plan import STAGES, make_plan
from engine.startup import launch, model_check
from engine.startup.model_check import check_model, request
from profiles.load import load
from profiles.schema import Profile
from tests.support import families
from tests.support.command_line import mathrl
from tests.support.small_experiment import make_inputs


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    return load(str(make_inputs(tmp_path)))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What the checking process would be asked, in a home of the test's own."""
    found: list[dict[str, Any]] = []
    monkeypatch.setattr(model_check, "_ask", lambda wanted, tell: found.append(wanted) or "")
    monkeypatch.setattr(model_check, "records", lambda home: home / "cache" / "model_check")
    return found


def paths(wanted: dict[str, Any]) -> list[str]:
    return [path for path in model_check.PATHS if wanted[path]]


@pytest.mark.parametrize(
    ("stages", "settings", "expected"),
    [
        (STAGES, (), ["trains", "generates"]),
        (("data", "traces", "preprocess"), (), []),
        (("sft",), ("sft.validate_every=0",), ["trains"]),
        (("sft",), (), ["trains", "generates"]),
        (("eval",), (), ["generates"]),
        (("eval",), ("hardware.generator=vllm",), []),
        (("eval",), ("eval.server=http://127.0.0.1:1/v1",), []),
        (("grpo",), ("grpo.replay=some-run",), ["trains"]),
    ],
)
def test_only_what_the_plan_computes_is_compared(
    stages: tuple[str, ...], settings: tuple[str, ...], expected: list[str], tmp_path: Path
) -> None:
    chosen = load(str(make_inputs(tmp_path)), settings)
    assert paths(request(chosen, make_plan(chosen, stages, trained=["sft"]))) == expected


def test_a_model_that_the_run_makes_is_not_there_to_be_compared() -> None:
    demo = load("demo")
    assert paths(request(demo, make_plan(demo, STAGES))) == []


def test_a_model_that_has_passed_is_not_asked_about_again(
    profile: Profile, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    home = tmp_path / "home"

    def start(changed: Profile, *stages: str) -> list[str]:
        check_model(home, changed, make_plan(changed, stages or STAGES))
        return [path for wanted in asked[-1:] for path in paths(wanted)] if asked else []

    assert start(profile, "eval") == ["generates"]
    assert start(profile) == ["trains"]  # the generator has passed
    asked.clear()
    assert start(profile) == []
    sharper = profile.model_copy(
        update={"sft": profile.sft.model_copy(update={"gradient_checkpointing": True})}
    )
    assert start(sharper) == ["trains"]
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert start(profile) == ["trains", "generates"]


def test_weights_that_change_in_place_are_compared_again_whatever_their_size(
    profile: Profile, asked: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_check, "HASHED_BYTES", 0)
    weights = tmp_path / "model" / "model.safetensors"
    plan = make_plan(profile, STAGES)
    for changes in (0, 1):
        if changes:
            status, content = weights.stat(), weights.read_bytes()
            weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
        for _ in range(2):
            check_model(tmp_path / "home", profile, plan)
        assert len(asked) == 1 + changes


def test_a_model_that_fails_is_not_remembered(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setattr(model_check, "records", lambda home: home / "cache" / "model_check")
    monkeypatch.setattr(model_check, "_ask", lambda wanted, tell: "model.source X: does not compute")
    for _ in range(2):
        with pytest.raises(LaunchError, match="^model.source X: does not compute$"):
            launch.start_run(home, profile, STAGES, 0)
    assert not home.exists()


def test_a_start_that_is_cancelled_during_the_check_makes_no_run(
    profile: Profile, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(LaunchError, match="^the start was cancelled"):
        launch.start_run(tmp_path / "home", profile, STAGES, 0, is_wanted=lambda: not asked)
    assert not (tmp_path / "home" / "runs").exists()


def test_a_check_that_dies_is_a_refusal(
    profile: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_check, "records", lambda home: home / "cache" / "model_check")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LaunchError, match="the self-check ended with exit status 1$"):
        launch.start_run(tmp_path / "home", profile, STAGES, 0)
    assert not (tmp_path / "home").exists()


def test_a_family_that_cannot_be_computed_is_refused_by_the_real_process(tmp_path: Path) -> None:
    profile, model = make_inputs(tmp_path), tmp_path / "falcon"
    families.make("Falcon", model)
    home = tmp_path / "home"
    done = mathrl(
        home, "run", "all", "--profile", str(profile), "--set", f"model.source={model}", timeout=120.0
    )
    assert done.returncode == 2 and done.stdout == ""
    progress, line = done.stderr.splitlines()
    assert progress.startswith(f"model.source {model}: comparing what the run will compute")
    assert line.endswith(
        "model type 'falcon': transformers cannot replace this family's attention; choose another model"
    )
    assert line.startswith(f"model.source {model}: ")
    assert not home.exists()
