"""Starting runs: every fault is one line before anything is written; what is started needs nobody."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from textual import work
from textual.app import App

from engine.machine import gpus
from engine.machine.gpus import Gpu
from engine.plan import make_plan
from engine.startup import launch
from engine.startup.launch import LaunchError, start_run
from engine.startup.preflight import check_devices
from profiles.load import load
from profiles.schema import Profile
from store.home import RunFolder
from tests.support.places import ROOT
from tests.support.supervised import until

GSM8K = {"question": "1 + 1?", "answer": "It is 2.\n#### 2"}


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A folder of local rows that the data stage takes."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for name, count in (("train", 40), ("test", 8)):
        lines = [json.dumps({**GSM8K, "question": f"{number} of {name}?"}) for number in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def profile(rows: Path, *settings: str) -> Profile:
    return load("demo", [f"data.source={rows}", "data.validation_rows=8", *settings])


def refused(home: Path, wanted: Profile, *stages: str) -> str:
    """The one line with which the run is refused; nothing is written."""
    with pytest.raises(LaunchError) as caught:
        start_run(home, wanted, stages or ("data",), 0)
    assert not home.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_profile_for_gpus_on_a_machine_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "visible_gpus", list)
    message = refused(tmp_path / "home", load("qwen2.5-math-1.5b"), "sft", "eval")
    assert "needs 2 GPUs (cuda:0, cuda:1), this machine has none; --profile demo fits" in message
    monkeypatch.setattr(gpus, "visible_gpus", lambda: [Gpu(0, "GPU-a", "H100", 80.0)])
    message = refused(tmp_path / "home", load("qwen2.5-math-1.5b"), "sft", "eval")
    remedy = "--set hardware.worker=cuda:0 --set hardware.gpu_memory_fraction=0.3"
    assert message.endswith(f"this machine has 1; {remedy} puts both on one")


def test_a_gpu_for_both_must_leave_the_trainer_room(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Gpu(0, "GPU-a", "H100", 80.0)]
    together = load("qwen2.5-math-1.5b", ["hardware.worker=cuda:0"])
    with pytest.raises(LaunchError, match="vLLM would take 90% of cuda:0.*gpu_memory_fraction=0.3$"):
        check_devices(together, make_plan(together, ["sft", "eval"]), found)
    check_devices(together, make_plan(together, ["eval"], ["base"]), found)  # nothing is trained
    modest = load("qwen2.5-math-1.5b", ["hardware.worker=cuda:0", "hardware.gpu_memory_fraction=0.3"])
    check_devices(modest, make_plan(modest, ["sft", "eval"]), found)
    assert gpus.left_to_trainer(modest.hardware) == pytest.approx(0.7)
    assert gpus.left_to_trainer(load("qwen2.5-math-1.5b").hardware) == 1.0


def test_models_that_are_none(tmp_path: Path, rows: Path) -> None:
    home, model = tmp_path / "home", tmp_path / "model"
    base = profile(rows).model_dump(mode="json")
    base["arms"] = [{"name": "base", "stage": "none"}, {"name": "sft", "stage": "sft", "parent": "base"}]

    def of(source: Path) -> Profile:
        return Profile.model_validate({**base, "model": {"source": str(source), "compute_dtype": "float32"}})

    assert "no such folder" in refused(home, of(model), "sft")
    model.mkdir()
    assert "has no config.json" in refused(home, of(model), "sft")
    (model / "config.json").write_text("{}")
    assert f"model.source {model}: a checkpoint folder with no weights" in refused(home, of(model), "sft")


def test_a_generator_that_is_not_installed(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.startup.preflight.find_spec", lambda name: None)
    message = refused(tmp_path / "home", profile(rows, "hardware.generator=vllm"), "eval")
    assert "--set hardware.generator=transformers" in message


def test_rows_that_are_none(tmp_path: Path, rows: Path) -> None:
    (rows / "test.jsonl").write_text('{"question": "no answer"}\n')
    assert "test.jsonl" in refused(tmp_path / "home", profile(rows))


def test_a_home_that_cannot_be_written(tmp_path: Path, rows: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LaunchError, match="cannot be written: Not a directory; choose another with --home"):
        start_run(tmp_path / "file" / "home", profile(rows), ("data",), 0)


def test_a_name_that_no_folder_may_have(tmp_path: Path, rows: Path) -> None:
    with pytest.raises(LaunchError, match="^name aaa+: too long for a folder name; give a shorter one$"):
        start_run(tmp_path / "home", profile(rows), ("data",), 0, "a" * 300)


def test_a_supervisor_that_does_not_start_leaves_nothing(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home" / "journal").mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(LaunchError, match="did not start"):
        start_run(tmp_path / "home", profile(rows), ("data",), 0)
    assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]


def test_a_run_is_frozen_detached_and_goes_on_when_its_starter_is_gone(tmp_path: Path, rows: Path) -> None:
    home = tmp_path / "home"
    script = (
        "import os, sys; from pathlib import Path; "
        "from engine.startup.launch import start_run; from profiles.load import load; "
        "print(start_run(Path(sys.argv[1]), load('demo', sys.argv[2:]), ('data',), 7, 'mine'), flush=True); "
        "os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    settings = (f"data.source={rows}", "data.validation_rows=8")
    starter = subprocess.run(
        [sys.executable, "-c", script, str(home), *settings], capture_output=True, text=True, env=environment
    )
    run_id = starter.stdout.strip()
    assert starter.returncode == -9
    assert starter.stderr == ""
    folder = RunFolder(home, run_id)
    config = json.loads(folder.config.read_text())
    assert (config["name"], config["seed"], config["stages"]) == ("mine", 7, ["data"])
    assert config["profile"]["data"]["source"] == str(rows)
    assert config["versions"]["torch"]
    until(lambda: not launch.is_alive(home, run_id), "the run has ended")
    assert (folder.path / "finished" / "data").is_file(), (folder.logs / "trainer.log").read_text()


def test_commands_and_resumes_of_runs_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="run nobody: no such run"):
        launch.command(tmp_path, "nobody", "stop")
    with pytest.raises(LaunchError, match="no such command; there are stop, kill"):
        launch.command(tmp_path, "nobody", "halt")
    with pytest.raises(LaunchError, match="run nobody: no such run"):
        launch.resume_run(tmp_path, "nobody")


def test_a_resume_may_bring_more_stages(tmp_path: Path, rows: Path) -> None:
    home = tmp_path / "home"
    run_id = start_run(home, profile(rows), ("data",), 0)
    if launch.is_alive(home, run_id):
        with pytest.raises(LaunchError, match="it is already live"):
            launch.resume_run(home, run_id)
    until(lambda: not launch.is_alive(home, run_id), "the first stage has ended")
    assert launch.resume_run(home, run_id, ("traces",)) == run_id
    config = json.loads(RunFolder(home, run_id).config.read_text())
    assert config["plan"] == [{"stage": "data", "arm": ""}, {"stage": "traces", "arm": ""}]
    assert config["stages"] == ["data", "traces"]
    until(lambda: not launch.is_alive(home, run_id), "the second stage has ended")


def test_a_resume_that_trains_and_evaluates_again_does_so_in_that_order(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_supervise", lambda folder, where: None)
    home = tmp_path / "home"
    run_id = start_run(home, profile(rows), ("data", "preprocess", "sft", "eval"), 0)
    folder = RunFolder(home, run_id)
    marks = [folder.path / "finished" / name for name in ("sft", "eval")]
    marks[0].parent.mkdir()
    for mark in marks:
        mark.touch()
    launch.resume_run(home, run_id, ("grpo",))
    assert all(mark.is_file() for mark in marks)
    launch.resume_run(home, run_id, ("eval",))
    plan = [entry["arm"] or entry["stage"] for entry in json.loads(folder.config.read_text())["plan"]]
    assert plan == ["data", "traces", "base", "preprocess", "sft", "grpo", "sft+grpo", "eval"]
    assert [mark.is_file() for mark in marks] == [True, False]


def test_a_resume_from_elsewhere_finds_the_relative_paths_of_the_profile(
    tmp_path: Path, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "_supervise", lambda folder, where: None)
    monkeypatch.chdir(tmp_path)
    run_id = start_run(tmp_path / "home", profile(Path("./rows"), "data.source=./rows"), ("data",), 0)
    monkeypatch.chdir("/")
    assert launch.resume_run(tmp_path / "home", run_id, ("traces",)) == run_id
    assert Path.cwd() == Path("/")


def test_looking_at_the_launcher_loads_no_library() -> None:
    script = "import sys, engine.startup.launch; print({'torch', 'numpy', 'duckdb', 'datasets'} & sys.modules.keys())"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "set()", done.stderr


async def test_a_run_is_started_from_inside_the_console(tmp_path: Path, rows: Path) -> None:
    home, started = tmp_path / "home", []

    class Console(App[None]):
        def on_mount(self) -> None:
            self.start()

        @work(thread=True)
        def start(self) -> None:
            started.append(start_run(home, profile(rows), ("data",), 0))

    async with Console().run_test() as pilot:
        await pilot.app.workers.wait_for_complete()
    assert len(started) == 1
    until(lambda: not launch.is_alive(home, started[0]), "the run has ended")
    assert (RunFolder(home, started[0]).path / "finished" / "data").is_file()
