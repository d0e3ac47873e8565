"""Odd input to commands: one line that names it and status 2, never a fault of the program."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine.data import locations
from profiles.load import load
from tests.support.command_line import mathrl
from tests.support.fabricated import finished_run

RUN = "demo-s0-finished"
SMALL = ("data.train_rows=300", "data.test_rows=5")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one finished run."""
    home = tmp_path_factory.mktemp("odd") / "artifacts"
    finished_run(home)
    return home


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sql", " "), "no statement"),
        (("sql", ";"), "no statement"),
        (("stop", ""), "the name of a run is empty"),
        (("attach", RUN, "--json"), f"`mathrl-tui status {RUN} --json` gives the state as JSON"),
        (("compare", "/sft", "/grpo"), "/sft: not an arm"),
        (("export", ""), "the name of a run is empty"),
        (("run", "--resume", ""), "the name of a run is empty"),
        (("run", "data", "--resume", ""), "the name of a run is empty"),
        (("run", "data", "--profile", ""), "no such profile or file"),
        (("run", "eval", "--profile", "demo", "--server", ""), "--server: needs a URL"),
        (("samples", f"{RUN}/sft@²"), f"{RUN}/sft@²: not an arm"),
    ],
)
def test_arguments(home: Path, arguments: tuple[str, ...], words: str) -> None:
    done = mathrl(home, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert words in done.stderr


def test_several_seeds_that_cannot_start_are_refused_together(tmp_path: Path) -> None:
    home = tmp_path / "artifacts"
    profile = load("demo", SMALL)
    locations.data_folder(home, profile).mkdir(parents=True)
    settings = [word for setting in (*SMALL, "data.seed=1") for word in ("--set", setting)]
    done = mathrl(home, "run", "traces", "--profile", "demo", *settings, "--seed", "0", "--seed", "1")
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert "has no output of stage data" in done.stderr
    assert not (home / "runs").exists()


@pytest.mark.parametrize("value", ["1" * 5000, "[" * 100_000])
def test_json_that_python_refuses_to_read(home: Path, tmp_path: Path, value: str) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"id": 1, "correct": true}\n{"id": ' + value + "}\n")
    done = mathrl(home, "compare", file, file)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert done.stderr.startswith(f"{file}:2: not JSON: ")


def test_grade_needs_a_folder_to_write_to(home: Path, tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"completion": "#### 1", "answer": "1"}\n')
    done = mathrl(home, "grade", file, "--out", tmp_path / "nowhere" / "out.jsonl")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == f"--out {tmp_path}/nowhere/out.jsonl: the folder {tmp_path}/nowhere does not exist; create it first\n"
    )


def test_grade_keeps_half_a_surrogate_pair(home: Path, tmp_path: Path) -> None:
    """As other languages write it where a completion was cut in the middle of an emoji."""
    file, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_text('{"completion": "é #### 1 \\ud83d", "answer": "1"}\n')
    done = mathrl(home, "grade", file, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(out.read_text())["completion"] == "é #### 1 \ud83d"


@pytest.mark.parametrize("columns", ["1", "5"])
def test_a_plot_on_hardly_any_columns(home: Path, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setitem(os.environ, "COLUMNS", columns)
    done = mathrl(home, "status", RUN, "--plot", "train/loss")
    assert (done.returncode, done.stderr) == (0, "")
    assert "┤" in done.stdout


def test_a_home_whose_name_the_locale_cannot_spell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "é漢"
    finished_run(home)
    for name, value in {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}.items():
        monkeypatch.setenv(name, value)
    found = mathrl(home, "sql", "select count(*) from scalar", "--json")
    assert found.returncode == 0 and json.loads(found.stdout)["rows"][0][0] > 0, found.stderr
    out = home / "ö"
    assert mathrl(home, "export", RUN, "--out", out, "--format", "parquet").returncode == 0
    assert (out / "metrics.parquet").stat().st_size > 0
    nameless = home.rename(os.fsdecode(bytes(tmp_path) + b"/\xff"))
    refused = mathrl(nameless, "runs")
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "its name is not UTF-8" in refused.stderr
