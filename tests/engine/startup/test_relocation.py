"""A home that comes to another path, alone or with what lay around it: resumes find the run's inputs by content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from engine.startup import launch, relocation
from engine.startup.launch import LaunchError
from profiles.load import load
from store.home import RunFolder, run_ids
from store.run_config import RunConfig
from tests.support.small_experiment import examples, make_inputs, scalars
from tests.support.traps import Trapped

FEW = ("sft.steps=4", "sft.validate_every=0", "sft.checkpoint_every=2", "eval.limit=8")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, rows and a profile; work is done in another one."""
    make_inputs(tmp_path / "old")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "old"


@pytest.fixture
def unsupervised(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """No supervisor is started; the working directories that they would have had."""
    started: list[Path] = []
    monkeypatch.setattr(launch, "_supervise", lambda folder, where: started.append(where))
    return started


def begun(
    place: Path, *settings: str, stages: tuple[str, ...] = ("data", "traces", "preprocess", "sft")
) -> str:
    profile = load(str(place / "seconds.toml"), (*FEW, *settings))
    return launch.start_run(place / "home", profile, stages, 0)


def sources(home: Path, run_id: str) -> tuple[str, str]:
    """Where run.json has the model and the rows."""
    profile = json.loads(RunFolder(home, run_id).config.read_text())["profile"]
    return profile["model"]["source"], profile["data"]["source"]


def moved(place: Path) -> Path:
    """The place under another path, and nothing under its old one."""
    new = place.rename(place.with_name("new"))
    assert not place.exists()
    return new


@pytest.mark.timeout(300)
def test_a_moved_run_goes_on_without_its_rows_and_is_reported(place: Path, tmp_path: Path) -> None:
    """From a folder in which every module is a trap: none of the run's processes imports from there."""
    trapped = Trapped(tmp_path)
    settings = [word for setting in FEW for word in ("--set", setting)]
    words = ("--profile", str(place / "seconds.toml"), *settings)
    trapped.home = place / "home"
    begun = trapped.run("run", "data", "traces", "preprocess", *words, timeout=200)
    assert begun.returncode == 0, begun.stderr
    trapped.home = moved(place) / "home"
    shutil.rmtree(trapped.home.parent / "rows")
    (run_id,) = run_ids(trapped.home)
    done = trapped.run("run", "sft", "eval", "--resume", run_id, timeout=200)
    assert done.returncode == 0, done.stderr
    folder = RunFolder(trapped.home, run_id)
    assert sources(folder.home, run_id)[0] == str(folder.home.parent / "model")
    assert max(row.step for row in scalars(folder) if row.metric == "sft/train/loss") == 4
    assert {row.arm for row in examples(folder) if row.task == "rows"} == {"base", "sft"}
    compared = trapped.run("compare", f"{run_id}/base", f"{run_id}/sft", "--json")
    assert json.loads(compared.stdout)["comparisons"][0]["n"] == 8, compared.stderr
    assert "Question:" in trapped.run("samples", f"{run_id}/sft", "--limit", "1").stdout
    assert trapped.run("export", run_id, "--out", str(tmp_path / "out")).returncode == 0
    assert trapped.imported() == []


def test_what_lay_beside_the_home_is_found_beside_it(place: Path, unsupervised: list[Path]) -> None:
    run_id = begun(place)
    new = moved(place)
    launch.resume_run(new / "home", run_id)
    assert sources(new / "home", run_id) == (str(new / "model"), str(new / "rows"))


def test_relative_paths_are_found_under_the_working_directory(
    place: Path, unsupervised: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    run_id = begun(place, "model.source=./model", "data.source=rows")
    home = place.parent / "home"
    (place / "home").rename(home)
    new = moved(place)
    monkeypatch.chdir(new)
    launch.resume_run(home, run_id)
    assert sources(home, run_id) == (str(new / "model"), str(new / "rows"))
    assert unsupervised == [place, new]


def test_an_input_that_is_nowhere_is_named_and_can_be_given(place: Path, unsupervised: list[Path]) -> None:
    run_id = begun(place)
    new = moved(place)
    (new / "model").rename(new / "hidden")
    with pytest.raises(LaunchError) as refused:
        launch.resume_run(new / "home", run_id)
    assert str(refused.value).startswith(
        f"run {run_id}: model.source: not found at {place}/model or {new}/model"
    )
    assert str(refused.value).endswith("give its new path with --set model.source=PATH")
    launch.resume_run(new / "home", run_id, settings=[f"model.source={new / 'hidden'}"])
    assert sources(new / "home", run_id)[0] == str(new / "hidden")


def test_other_files_are_refused_at_the_old_path_and_when_given(
    place: Path, unsupervised: list[Path]
) -> None:
    run_id = begun(place)
    weights = place / "model" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(LaunchError, match=f"{place}/model differs from its content at the start"):
        launch.resume_run(place / "home", run_id)
    with pytest.raises(LaunchError, match="its files differ from those at the start"):
        launch.resume_run(place / "home", run_id, settings=[f"model.source={place / 'model'}"])
    with pytest.raises(LaunchError, match="no such folder or file"):
        launch.resume_run(place / "home", run_id, settings=["model.source=nowhere"])


def test_rows_that_no_cache_has_yet_must_be_the_same(place: Path, unsupervised: list[Path]) -> None:
    run_id = begun(place)
    with (place / "rows" / "train.jsonl").open("a") as file:
        file.write(json.dumps({"question": "15 + 15", "answer": "#### 15"}) + "\n")
    with pytest.raises(LaunchError, match=r"data\.source: .*rows differs from its content"):
        launch.resume_run(place / "home", run_id)


def test_only_places_may_be_set(place: Path, unsupervised: list[Path]) -> None:
    run_id = begun(place)
    with pytest.raises(LaunchError, match=r"--set sft\.steps: a resumed run keeps its profile"):
        launch.resume_run(place / "home", run_id, settings=["sft.steps=9"])
    launch.resume_run(place / "home", run_id, settings=["hardware.trainer_threads=2"])
    profile = json.loads(RunFolder(place / "home", run_id).config.read_text())["profile"]
    assert profile["hardware"]["trainer_threads"] == 2


def test_a_run_of_an_older_version_is_resumed_as_before(place: Path, unsupervised: list[Path]) -> None:
    run_id = begun(place)
    path = RunFolder(place / "home", run_id).config
    config = json.loads(path.read_text())
    del config["inputs"], config["digest"]
    path.write_text(json.dumps(config))
    launch.resume_run(place / "home", run_id)


def test_a_hub_model_is_resumed_at_the_commit_that_it_was_started_with(
    place: Path, unsupervised: list[Path]
) -> None:
    run_id = begun(place)
    config = json.loads(RunFolder(place / "home", run_id).config.read_text())
    config["profile"]["model"]["source"] = "owner/model"
    config["inputs"]["outside"]["model.source"] |= {"path": "", "commit": "0123456789" * 4}
    frozen = RunConfig.of(config)
    plan = frozen.plan
    here = relocation.relocate(place / "home", frozen, plan)
    assert (here.profile.model.source, here.profile.model.revision) == ("owner/model", "0123456789" * 4)
    copied = relocation.relocate(place / "home", frozen, plan, [f"model.source={place / 'model'}"])
    assert copied.profile.model.source == str(place / "model")
    config["inputs"]["outside"]["model.source"]["files"] = {}
    with pytest.raises(LaunchError, match="cannot be verified"):
        relocation.relocate(place / "home", RunConfig.of(config), plan, [f"model.source={place / 'model'}"])


def test_a_large_file_is_told_by_samples_from_all_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relocation, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(relocation, "SAMPLE_BYTES", 16)
    path, content = tmp_path / "weights", bytes(range(256)) * 16
    seen = []
    for at in (None, 0, len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        if at is not None:
            # Other weights differ everywhere; here a stretch as long as the distance of two samples does.
            changed[max(at - 64, 0) : at + 64] = b"\xff" * len(changed[max(at - 64, 0) : at + 64])
        path.write_bytes(changed)
        seen.append(relocation._digest(path, relocation.MODEL))
    assert len(set(seen)) == 4
