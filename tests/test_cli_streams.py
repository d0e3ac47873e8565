"""The program's streams: closed ones, and terminals without UTF-8."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from command_line import environment
from fabricated import TASK, finished_run

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
    assert f"{TASK}  40  60.0 %  57.5 %" in done.stdout
    assert done.stdout.isascii()
