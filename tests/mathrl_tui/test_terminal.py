"""Without a terminal, or on one that only prints, nothing is painted: one line and exit status 2."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.command_line import PATIENCE, Terminal, environment, mathrl


def test_the_console_without_a_terminal_is_one_line(tmp_path: Path) -> None:
    done = mathrl(tmp_path / "home")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "the console needs a terminal, and standard input and output and error are not terminals; "
        "`mathrl-tui status` and `mathrl-tui attach RUN` print lines\n"
    )
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("closed", "named"), [("<&-", "input"), (">/dev/null", "output"), ("2>&1 | cat", "error")]
)
def test_one_stream_that_is_no_terminal_is_enough(tmp_path: Path, closed: str, named: str) -> None:
    terminal = Terminal(tmp_path / "home", shell=f"{sys.executable} -P -m mathrl_tui {closed}")
    terminal.read_until("print lines")
    assert named in terminal.seen.partition("; ")[0]
    terminal.wait()
    assert "\x1b" not in terminal.raw


@pytest.mark.parametrize("name", ["dumb", "unknown"])
def test_a_terminal_that_only_prints(tmp_path: Path, name: str) -> None:
    terminal = Terminal(tmp_path / "home", TERM=name)
    assert terminal.wait() == 2
    assert terminal.raw == (
        f"the console cannot be shown on TERM={name}; set TERM as your terminal does, or "
        "`mathrl-tui status` and `mathrl-tui attach RUN` print lines\r\n"
    )


def test_a_run_is_followed_on_a_dumb_terminal_without_escapes(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "home", "run", "data", "--profile", "demo", TERM="dumb")
    assert terminal.wait() == 0
    assert "\x1b" not in terminal.raw and "data" in terminal.raw


def test_closed_streams(tmp_path: Path) -> None:
    command = f"{sys.executable} -P -m mathrl_tui <&- >&-"
    done = subprocess.run(
        ["sh", "-c", command],
        env=environment(tmp_path / "home"),
        stderr=subprocess.PIPE,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("the console needs a terminal")
