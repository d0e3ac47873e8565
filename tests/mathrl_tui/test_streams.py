"""The program's streams: closed ones, terminals without UTF-8, and JSON that every parser takes."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.command_line import environment, mathrl
from tests.support.fabricated import TASK, FabricatedRun, finished_run

RUN = "demo-s0-finished"
PROGRAM = f"{sys.executable} -m mathrl_tui"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one finished run."""
    home = tmp_path_factory.mktemp("streams") / "artifacts"
    finished_run(home)
    return home


def shell(home: Path, command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", command],
        env=environment(home) | more,
        cwd=home.parent,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "status"), [("runs >&-", 0), ("runs >&- 2>&-", 0), ("runs --jsn 2>&-", 2), ("runs <&-", 0)]
)
def test_a_closed_stream_is_no_fault(home: Path, arguments: str, status: int) -> None:
    done = shell(home, f"{PROGRAM} {arguments}")
    assert (done.returncode, done.stderr) == (status, "")
    assert bool(done.stdout) == (arguments == "runs <&-")


def test_a_terminal_without_unicode_shows_what_it_can(home: Path) -> None:
    done = shell(home, f"{PROGRAM} compare {RUN}/sft {RUN}/grpo", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{TASK} 40 60.0 % 57.5 %" in " ".join(done.stdout.split())
    assert done.stdout.isascii()


def test_json_has_null_where_it_has_no_number(home: Path) -> None:
    query = "SELECT 'nan'::DOUBLE, 'inf'::DOUBLE, ['-inf'::DOUBLE, 1.5], {'a': 'nan'::FLOAT}"
    answer = json.loads(mathrl(home, "sql", query, "--json").stdout, parse_constant=pytest.fail)
    assert answer["rows"] == [[None, None, [None, 1.5], {"a": None}]]


def test_status_of_a_run_that_has_diverged_is_json(tmp_path: Path) -> None:
    run = FabricatedRun(tmp_path / "artifacts", "demo-s0-diverged")
    run.write(run.scalar("sft/train/loss", 1, math.nan), run.scalar("sft/train/grad_norm", 1, math.inf))
    metrics = json.loads(
        mathrl(tmp_path / "artifacts", "status", "demo", "--json").stdout, parse_constant=pytest.fail
    )["metrics"]
    assert metrics == {"sft/train/loss": None, "sft/train/grad_norm": None}


def test_reports_hold_no_control_characters_whatever_a_model_wrote(tmp_path: Path) -> None:
    home = tmp_path / "artifacts"
    run = FabricatedRun(home, "demo-s0-odd")
    output = "[red]2\x1b[31m + 2\x1b]52;c;cm0=\x07\r= 4\x9b2J\n\tso\x00 4"
    run.write(replace(run.example("sft", 0, True), output=output))
    text = shell(home, f"{PROGRAM} samples demo/sft").stdout
    written = [r"  [red]2\x1b[31m + 2\x1b]52;c;cm0=\x07", r"  = 4\x9b2J", "  \tso\\x00 4"]
    assert text.split("\n")[-6:] == [*written, "", "1 of 1", ""]
    (row,) = json.loads(mathrl(home, "samples", "demo/sft", "--json").stdout)["samples"]
    assert row["output"] == output
    told = mathrl(home, "sql", "SELECT output FROM eval_row").stdout
    assert told.partition("\n")[2] == "[red]2\\x1b[31m + 2\\x1b]52;c;cm0=\\x07\\r= 4\\x9b2J\n\tso\\x00 4\n"
