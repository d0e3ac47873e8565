"""An unhandled error of the console: exit status 1, a private crash file, one line that names it."""

from __future__ import annotations

import os
import pty
import select
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from mathrl_tui.crash import Crash, crashed
from tests.support.fabricated import finished_run
from tests.support.places import ROOT

PATIENCE = 60.0
# A read that fails on the screen Logs, in a worker; a handler that fails at a key; a failing key thread.
FAULTS = {
    "worker": "from mathrl_tui.screens.logs import LogsScreen as S\nasync def fail(self): {body}\nS.read = fail",
    "handler": "from mathrl_tui.app import Console as S\ndef fail(self): {body}\nS.action_export = fail",
    "thread": "from textual.drivers.linux_driver import LinuxDriver as S\ndef fail(self): {body}\n"
    "S.run_input_thread = fail",
}
BODY = "secret = 'sk-1'; raise ValueError('no [/b] here\\n\\x1b[31m')"
RUN = "import sys; sys.argv = ['mathrl-tui', '--home', {home!r}]\nfrom mathrl_tui.cli import main\nmain()"
KEYS = {"worker": b"6", "handler": b"e", "thread": b""}


def _crash(home: Path, fault: str) -> tuple[int, str]:
    """Run the console on a pty of 100 × 30 cells with a fault; return its exit status and all that it wrote."""
    script = FAULTS[fault].format(body=BODY) + "\n" + RUN.format(home=str(home))
    controller, terminal = pty.openpty()
    subprocess.run(["stty", "rows", "30", "cols", "100"], stdin=terminal, check=True)
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=os.environ | {"TERM": "xterm-256color"},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    written, pressed = b"", False
    while select.select([controller], [], [], PATIENCE)[0]:
        try:
            part = os.read(controller, 65536)
        except OSError:
            break
        written += part
        if b"demo-s0-finished" in written and not pressed:
            os.write(controller, KEYS[fault])
            pressed = True
    os.close(controller)
    return process.wait(PATIENCE), written.decode(errors="replace")


@pytest.mark.parametrize("fault", FAULTS)
def test_an_unhandled_error_exits_1_and_names_its_crash_file(tmp_path: Path, fault: str) -> None:
    finished_run(tmp_path)
    status, written = _crash(tmp_path, fault)
    assert status == 1
    (path,) = tmp_path.glob("crash-*.txt")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    last = written.rstrip().splitlines()[-1]
    assert "ValueError: no [/b] here" in last and "\x1b[31m" not in last
    assert last.endswith(f"report it with the file {path}")
    report = path.read_text()
    screen = "logs" if fault == "worker" else "runs"
    assert f"screen: {screen}\n" in report and "size: 100 × 30 cells" in report
    assert "mathrl-tui: " in report and "Traceback (most recent call last)" in report and "in fail" in report
    assert "sk-1" not in written


def test_the_traceback_is_printed_if_the_file_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "a file"
    home.touch()
    error = crashed(Crash(KeyError("x"), "runs", (80, 24)), home)
    assert error.exit_status == 1 and "\n" not in str(error) and "KeyError" in str(error)
    assert "KeyError: 'x'" in capsys.readouterr().err
